#include "golden.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "canonical.hpp"
#include "error.hpp"
#include "text.hpp"

namespace figkd {
namespace {

constexpr const char* kFile = "golden/golden.json";
constexpr const char* kInputs = "golden/inputs.npy";
constexpr const char* kLogits = "golden/logits.npy";

[[noreturn]] void refuse_golden() { refuse(std::string(kFile) + " does not fit the files that it is about"); }

std::string_view text_of(const Bytes& data) { return {reinterpret_cast<const char*>(data.data()), data.size()}; }

// Removes `start` from the front of `text`; false where it is not there.
bool take(std::string_view& text, std::string_view start) {
    if (text.substr(0, start.size()) != start) {
        return false;
    }
    text.remove_prefix(start.size());
    return true;
}

bool take_number(std::string_view& text, std::size_t& value) {
    const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
    if (end == 0 || end > 9) {
        return false;
    }
    value = std::stoul(std::string(text.substr(0, end)));
    text.remove_prefix(end);
    return true;
}

struct Array {
    std::vector<std::size_t> shape;
    std::string_view bytes;
};

// The array in an .npy file (version 1) of numbers of the type `kind`, as the bundle's writer lays it out.
bool read_array(std::string_view data, const std::string& kind, std::size_t item, Array& array) {
    using namespace std::string_view_literals;
    if (!take(data, "\x93NUMPY\x01\0"sv) || data.size() < 2) {
        return false;
    }
    const std::size_t length = static_cast<unsigned char>(data[0]) | static_cast<std::size_t>(static_cast<unsigned char>(data[1])) << 8;
    std::string_view header = data.substr(2, length);
    data.remove_prefix(std::min(data.size(), 2 + length));
    if (!take(header, "{'descr': '" + kind + "', 'fortran_order': False, 'shape': (")) {
        return false;
    }
    std::uint64_t count = 1;
    do {
        std::size_t size = 0;
        if (!take_number(header, size) || (size != 0 && count > data.size() / size)) {
            return false;
        }
        array.shape.push_back(size);
        count *= size;
    } while (take(header, ", "));
    array.bytes = data;
    return take(header, "), }") && header.find_first_not_of(" \n") == header.npos && data.size() == count * item;
}

}  // namespace

Golden read_golden(const Bundle& bundle, const EngineEntry& entry, std::size_t size, std::size_t classes) {
    const Bytes text = bundle.read(entry.place(kFile));
    const Json found = decode_canonical(text_of(text), kFile);
    const Bytes inputs = bundle.read(kInputs);
    const Bytes logits = bundle.read(entry.place(kLogits));
    Golden golden;
    try {
        const auto source = found.at("source").get<std::string>();
        golden.images = found.at("images").get<std::vector<std::string>>();
        const Json& pixel = found.at("max_abs_pixel");
        Array views;
        Array answers;
        const bool fits = found.size() == 7 && found.at("version") == 1 && found.at("pillow").is_string() &&
                          found.at("libjpeg").is_string() && (source == "engine" || source == "onnxruntime") &&
                          parse_number(found.at("max_abs_logit").get<std::string>(), golden.max_abs_logit) &&
                          pixel.is_number_unsigned() && pixel <= 255 && read_array(text_of(inputs), "|u1", 1, views) &&
                          read_array(text_of(logits), "<f4", 4, answers) && views.shape.size() == 4 &&
                          answers.shape.size() == 2 && views.shape[0] == answers.shape[0] && views.shape[0] > 0 &&
                          golden.images.size() <= views.shape[0] && views.shape[1] == size && views.shape[2] == size &&
                          views.shape[3] == 3 && answers.shape[1] == classes &&
                          std::all_of(golden.images.begin(), golden.images.end(), [&](const std::string& name) {
                              return bundle.has(name);
                          });
        if (!fits) {
            refuse_golden();
        }
        golden.max_abs_pixel = pixel.get<int>();
        golden.count = views.shape[0];
        golden.views.assign(views.bytes.begin(), views.bytes.end());
        golden.logits.resize(golden.count * classes);
        std::memcpy(golden.logits.data(), answers.bytes.data(), answers.bytes.size());
    } catch (const Json::exception&) {  // a key that is not there, a value of another type
        refuse_golden();
    }
    return golden;
}

}  // namespace figkd
