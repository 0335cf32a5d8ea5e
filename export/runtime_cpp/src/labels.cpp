#include "labels.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "canonical.hpp"
#include "error.hpp"

namespace figkd {
namespace {

constexpr const char* kFile = "labels.json";
constexpr std::size_t kMostClasses = 1000000;

}  // namespace

std::vector<std::string> parse_labels(std::string_view data) {
    const Json found = decode_canonical(data, kFile);
    const bool fits = found.is_array() && !found.empty() && found.size() <= kMostClasses &&
                      std::all_of(found.begin(), found.end(), [](const Json& each) { return each.is_string(); });
    if (fits) {
        auto names = found.get<std::vector<std::string>>();
        if (std::set<std::string>(names.begin(), names.end()).size() == names.size()) {
            return names;
        }
    }
    refuse(std::string(kFile) + " is no list of class names, each once");
}

std::vector<Answer> best_of(const float* logits, std::size_t classes, std::size_t top) {
    if (!std::all_of(logits, logits + classes, [](float value) { return std::isfinite(value); })) {
        throw Error(Code::cannot_run, "the engine's answer is not finite", "see figkd self-test");
    }
    const double most = *std::max_element(logits, logits + classes);
    double total = 0;
    std::vector<Answer> answers;
    for (std::size_t index = 0; index < classes; ++index) {
        answers.push_back({index, std::exp(logits[index] - most)});
        total += answers.back().probability;
    }
    for (Answer& answer : answers) {
        answer.probability /= total;
    }
    std::stable_sort(answers.begin(), answers.end(), [](const Answer& one, const Answer& two) {
        return one.probability > two.probability;
    });
    answers.resize(std::min(top, classes));
    return answers;
}

}  // namespace figkd
