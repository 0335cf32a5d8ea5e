// Golden data: images, what the engine saw of them, and what it answered where the bundle was made.
#pragma once

#include <string>
#include <vector>

#include "bundle.hpp"

namespace figkd {

struct Golden {
    std::vector<std::string> images;  // paths of image files; view i is that of the i-th
    std::size_t count;                // of views
    Bytes views;                      // uint8 [count, size, size, 3]
    std::vector<float> logits;        // [count, classes]
    double max_abs_logit;
    int max_abs_pixel;
};

// Throws Error(refused) where the files do not fit each other, or the model's `size` and `classes`.
Golden read_golden(const Bundle& bundle, const EngineEntry& entry, std::size_t size, std::size_t classes);

}  // namespace figkd
