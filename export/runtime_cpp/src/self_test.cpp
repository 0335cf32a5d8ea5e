#include "self_test.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "golden.hpp"
#include "image.hpp"

namespace figkd {
namespace {

constexpr int kRuns = 20;

std::size_t best(const float* logits, std::size_t classes) {
    return static_cast<std::size_t>(std::max_element(logits, logits + classes) - logits);
}

Bytes inputs_of(const Preprocessing& preprocessing, const Golden& golden) {
    const std::size_t pixels = preprocessing.size * preprocessing.size * 3;
    Bytes inputs(golden.count * preprocessing.bytes());
    for (std::size_t at = 0; at < golden.count; ++at) {
        const auto start = golden.views.begin() + static_cast<std::ptrdiff_t>(at * pixels);
        const Pixels view{preprocessing.size, preprocessing.size, Bytes(start, start + static_cast<std::ptrdiff_t>(pixels))};
        preprocessing.input(view, inputs.data() + at * preprocessing.bytes());
    }
    return inputs;
}

void compare_logits(const Golden& golden, const std::vector<float>& logits, std::size_t classes, SelfTest& found) {
    found.inputs = golden.count;
    found.allowed_logit = golden.max_abs_logit;
    for (std::size_t at = 0; at < logits.size(); ++at) {
        const double difference = std::fabs(static_cast<double>(logits[at]) - golden.logits[at]);
        if (!(difference <= found.max_abs_logit) && !std::isnan(found.max_abs_logit)) {  // NaN stays
            found.max_abs_logit = difference;
        }
    }
    for (std::size_t row = 0; row < golden.count; ++row) {
        const float* expected = golden.logits.data() + row * classes;
        const double behind =
            static_cast<double>(expected[best(expected, classes)]) - expected[best(logits.data() + row * classes, classes)];
        found.classes_equal = found.classes_equal && behind <= 2 * golden.max_abs_logit;
    }
}

bool is_png(const std::string& name) { return name.size() > 4 && name.compare(name.size() - 4, 4, ".png") == 0; }

void compare_images(const Model& model, const Golden& golden, SelfTest& found) {
    found.allowed_pixel = golden.max_abs_pixel;
    for (std::size_t number = 0; number < golden.images.size(); ++number) {
        const Bytes encoded = model.bundle().read(golden.images[number]);
        if (!can_decode(encoded.data(), encoded.size())) {
            continue;  // its decoder was not compiled in
        }
        const Pixels view = model.view(encoded.data(), encoded.size());
        int off = 0;
        for (std::size_t at = 0; at < view.data.size(); ++at) {
            off = std::max(off, std::abs(view.data[at] - golden.views[number * view.data.size() + at]));
        }
        ++found.images;
        found.images_exact += off == 0 ? 1 : 0;
        found.lossless_exact = found.lossless_exact && (off == 0 || !is_png(golden.images[number]));
        found.max_abs_pixel = std::max(found.max_abs_pixel, off);
    }
}

double median_ms(Model& model, const Bytes& input) {
    std::vector<float> logits(model.labels().size());
    std::vector<double> times;
    for (int run = 0; run < kRuns; ++run) {
        const auto start = std::chrono::steady_clock::now();
        model.run(input.data(), 1, logits.data());
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(times.begin(), times.end());
    return (times[kRuns / 2 - 1] + times[kRuns / 2]) / 2;
}

std::string spelled(const char* format, double one, double two) {
    char text[120];
    std::snprintf(text, sizeof text, format, one, two);
    return text;
}

}  // namespace

std::string SelfTest::faults() const {
    std::string text;
    const auto add = [&](const std::string& fault) { text += (text.empty() ? "" : "; ") + fault; };
    if (!classes_equal) {
        add("golden inputs get other classes");
    }
    if (!(max_abs_logit <= allowed_logit)) {  // NaN too
        add(spelled("logits differ by %.3g, %.3g is allowed", max_abs_logit, allowed_logit));
    }
    if (!lossless_exact) {
        add("a golden PNG gets other pixels");
    }
    if (max_abs_pixel > allowed_pixel) {
        add(spelled("pixels of golden images differ by %.0f, %.0f is allowed", max_abs_pixel, allowed_pixel));
    }
    return text;
}

SelfTest self_test(Model& model) {
    const Golden golden = read_golden(model.bundle(), model.entry(), model.preprocessing().size, model.labels().size());
    const Bytes inputs = inputs_of(model.preprocessing(), golden);
    std::vector<float> logits(golden.logits.size());
    model.run(inputs.data(), golden.count, logits.data());
    SelfTest found;
    compare_logits(golden, logits, model.labels().size(), found);
    compare_images(model, golden, found);
    found.latency_ms = median_ms(model, inputs);
    return found;
}

}  // namespace figkd
