// The class names of a bundle, in the order of the logits.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace figkd {

// The content of `labels.json`. Throws Error(refused).
std::vector<std::string> parse_labels(std::string_view data);

// A class, its index and its probability.
struct Answer {
    std::size_t index;
    double probability;
};

// The `top` most probable classes (all, if there are fewer), by the softmax of the logits; of equal ones the first by
// index. Throws Error(cannot_run) where a logit is not finite.
std::vector<Answer> best_of(const float* logits, std::size_t classes, std::size_t top);

}  // namespace figkd
