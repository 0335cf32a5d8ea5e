// Whether a bundle answers here as it did where it was measured: golden logits and golden images.
#pragma once

#include <cstddef>
#include <string>

#include "model.hpp"

namespace figkd {

struct SelfTest {
    std::size_t inputs = 0;        // golden inputs that were answered
    double max_abs_logit = 0;      // largest difference of a logit
    double allowed_logit = 0;
    bool classes_equal = true;     // the class of each is the same, but where two were too close to tell
    std::size_t images = 0;        // image files that were decoded
    std::size_t images_exact = 0;  // of these, with the very pixels
    bool lossless_exact = true;    // those that were not compressed with loss (PNG) have the very pixels
    int max_abs_pixel = 0;         // largest difference of a pixel
    int allowed_pixel = 0;         // for JPEG, as another decoder made the golden pixels
    double latency_ms = 0;         // median of one image, preprocessing not included

    // What is wrong; empty if all is well.
    std::string faults() const;
};

// Throws Error(refused) where the golden data do not fit together, Error(cannot_run) where the engine fails.
SelfTest self_test(Model& model);

}  // namespace figkd
