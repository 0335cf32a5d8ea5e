// From an image to what an engine takes: decode, centre square resized (bicubic, antialiased), its centre cut out, then
// as `dtype` says: uint8 NHWC as it is, or float32 NCHW with (x / 255 - mean) / std.
#pragma once

#include <array>
#include <string_view>

#include "pixels.hpp"

namespace figkd {

enum class Dtype { uint8, float32 };

// Bytes of one number.
constexpr std::size_t size_of(Dtype dtype) { return dtype == Dtype::uint8 ? 1 : 4; }

// Which values of more than 8 bits become black and white.
struct Levels {
    double low = 0;
    double high = 65535;
};

struct Preprocessing {
    std::size_t side;  // of the square that the centre of the image is resized to
    std::size_t size;  // of the centre crop that the engine sees; at most `side`
    Dtype dtype;
    std::array<float, 3> mean{};
    std::array<float, 3> std{};
    Levels levels;

    // Bytes of one input.
    std::size_t bytes() const { return size * size * 3 * size_of(dtype); }

    // What the engine sees of upright pixels: size x size.
    Pixels view(const Pixels& image) const;

    // A view as one input, into `bytes()` bytes.
    void input(const Pixels& view, unsigned char* out) const;
};

// The content of `preprocess.json`. Throws Error(refused) for steps that this version does not know.
Preprocessing parse_preprocessing(std::string_view data);

}  // namespace figkd
