#include "resample.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace figkd {
namespace {

// Weights of the bicubic filter (a = -1/2) in double precision, rounded to 22 bits; first across, then down, each rounded
// to 8 bits. The order of the operations is part of the result.
constexpr int kBits = 22;
constexpr double kSupport = 2.0;
constexpr double kA = -0.5;

// Of each output the first input, and the weights of the inputs from there on, of which 2^22 make one.
struct Weights {
    std::vector<std::size_t> first;
    std::vector<std::int32_t> shares;  // outputs x taps; those beyond an output's own are 0
    std::size_t taps;
};

double bicubic(double x) {
    x = std::fabs(x);
    if (x < 1.0) {
        return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * kA : 0.0;
}

std::int32_t rounded(double share) { return static_cast<std::int32_t>(share < 0 ? share - 0.5 : share + 0.5); }

Weights weights_of(std::size_t size, double start, double end, std::size_t out) {
    const double scale = static_cast<double>(static_cast<float>(end) - static_cast<float>(start)) / static_cast<double>(out);
    const double stretch = std::max(scale, 1.0);
    const double support = kSupport * stretch;
    const auto most = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
    Weights made{std::vector<std::size_t>(out), std::vector<std::int32_t>(out * most), 0};
    std::vector<double> raw(most);
    for (std::size_t x = 0; x < out; ++x) {
        const double centre = static_cast<double>(static_cast<float>(start)) + (static_cast<double>(x) + 0.5) * scale;
        const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
        const auto last = std::min(static_cast<std::int64_t>(centre + support + 0.5), static_cast<std::int64_t>(size));
        const auto count = static_cast<std::size_t>(last - first);
        double total = 0;
        for (std::size_t tap = 0; tap < count; ++tap) {
            raw[tap] = bicubic((static_cast<double>(static_cast<std::int64_t>(tap) + first) - centre + 0.5) * (1.0 / stretch));
            total += raw[tap];
        }
        for (std::size_t tap = 0; tap < count; ++tap) {
            made.shares[x * most + tap] = rounded(raw[tap] / (total == 0 ? 1.0 : total) * (1 << kBits));
        }
        made.first[x] = static_cast<std::size_t>(first);
        made.taps = std::max(made.taps, count);
    }
    for (std::size_t x = 0; x < out; ++x) {  // without the taps that no output has
        std::copy_n(made.shares.begin() + static_cast<std::ptrdiff_t>(x * most), made.taps,
                    made.shares.begin() + static_cast<std::ptrdiff_t>(x * made.taps));
    }
    made.shares.resize(out * made.taps);
    return made;
}

// One output value; inputs lie `stride` bytes apart, `left` of them are there.
unsigned char weighed(
    const unsigned char* inputs, std::size_t stride, const std::int32_t* shares, std::size_t count) {
    std::int64_t sum = std::int64_t{1} << (kBits - 1);
    for (std::size_t tap = 0; tap < count; ++tap) {
        sum += std::int64_t{shares[tap]} * inputs[tap * stride];
    }
    return static_cast<unsigned char>(std::clamp<std::int64_t>(sum >> kBits, 0, 255));
}

// Rows `begin` to `end`, resized across.
Pixels reduce_across(const Pixels& image, const Weights& weights, std::size_t begin, std::size_t end) {
    Pixels out{weights.first.size(), end - begin, Bytes(weights.first.size() * (end - begin) * 3)};
    unsigned char* place = out.data.data();
    for (std::size_t y = begin; y < end; ++y) {
        const unsigned char* row = image.data.data() + y * image.width * 3;
        for (std::size_t x = 0; x < out.width; ++x) {
            const std::size_t count = std::min(weights.taps, image.width - weights.first[x]);
            for (std::size_t channel = 0; channel < 3; ++channel) {
                *place++ = weighed(
                    row + weights.first[x] * 3 + channel, 3, weights.shares.data() + x * weights.taps, count);
            }
        }
    }
    return out;
}

// `skipped`: rows of the image that are missing at the top of `image`.
Pixels reduce_down(const Pixels& image, const Weights& weights, std::size_t skipped) {
    Pixels out{image.width, weights.first.size(), Bytes(image.width * weights.first.size() * 3)};
    const std::size_t line = image.width * 3;
    for (std::size_t y = 0; y < out.height; ++y) {
        const std::size_t first = weights.first[y] - skipped;
        const std::size_t count = std::min(weights.taps, image.height - first);
        for (std::size_t at = 0; at < line; ++at) {
            out.data[y * line + at] =
                weighed(image.data.data() + first * line + at, line, weights.shares.data() + y * weights.taps, count);
        }
    }
    return out;
}

}  // namespace

Pixels resize(const Pixels& image, std::size_t side, const Box& box) {
    const auto whole = static_cast<double>(side);
    const bool across = !(image.width == side && box.left == 0 && box.right == whole);
    const bool down = !(image.height == side && box.top == 0 && box.bottom == whole);
    std::size_t begin = 0;
    std::size_t end = image.height;
    Weights rows;
    if (down) {
        rows = weights_of(image.height, box.top, box.bottom, side);
        begin = across ? rows.first.front() : 0;  // rows that nothing is made of are left out
        end = across ? std::min(rows.first.back() + rows.taps, image.height) : image.height;
    }
    const Pixels turned =
        across ? reduce_across(image, weights_of(image.width, box.left, box.right, side), begin, end) : image;
    return down ? reduce_down(turned, rows, begin) : turned;
}

}  // namespace figkd
