#include "names.hpp"

#include <algorithm>
#include <array>
#include <map>

namespace figkd {
namespace {

constexpr std::size_t kLongest = 200;

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

bool is_plain(char letter) {
    return is_digit(letter) || (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z') || letter == '_';
}

std::string folded(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    });
    return out;
}

// A name that another file system takes for a device.
bool is_reserved(std::string_view part) {
    const std::string stem = folded(part.substr(0, part.find('.')));
    constexpr std::array<std::string_view, 4> kWhole = {"con", "prn", "aux", "nul"};
    if (std::find(kWhole.begin(), kWhole.end(), stem) != kWhole.end()) {
        return true;
    }
    return stem.size() == 4 && is_digit(stem[3]) && (stem.compare(0, 3, "com") == 0 || stem.compare(0, 3, "lpt") == 0);
}

}  // namespace

bool is_word(std::string_view text) {
    return !text.empty() && is_plain(text[0]) && std::all_of(text.begin(), text.end(), [](char letter) {
        return is_plain(letter) || letter == '.' || letter == '+' || letter == '-';
    });
}

std::string fault_of_name(std::string_view name) {
    if (name.size() > kLongest) {
        return "is longer than " + std::to_string(kLongest) + " characters";
    }
    for (std::size_t start = 0; start <= name.size();) {
        const std::size_t end = std::min(name.find('/', start), name.size());
        const std::string_view part = name.substr(start, end - start);
        if (!is_word(part) || part.back() == '.' || is_reserved(part)) {
            return "is no name of a file in a bundle";
        }
        start = end + 1;
    }
    return "";
}

std::string fault_of_names(std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    std::map<std::string, std::string> known;
    std::map<std::string, std::string> folders;
    for (const std::string& name : names) {
        if (const auto [twin, added] = known.emplace(folded(name), name); !added) {
            return twin->second + " and " + name + " differ in case only";
        }
        for (std::size_t end = name.find('/'); end != std::string::npos; end = name.find('/', end + 1)) {
            const std::string folder = name.substr(0, end);
            if (const auto found = folders.emplace(folded(folder), folder).first; found->second != folder) {
                return "the folders " + found->second + " and " + folder + " differ in case only";
            }
        }
    }
    for (const auto& [key, name] : known) {
        if (folders.count(key) != 0) {
            return key + " is a file and a folder";
        }
    }
    return "";
}

}  // namespace figkd
