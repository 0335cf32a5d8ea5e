// The decoders; each is compiled only where its library is found.
#pragma once

#include <cstdint>
#include <string>

#include "error.hpp"
#include "pixels.hpp"
#include "preprocess.hpp"

namespace figkd {

inline constexpr std::uint64_t kMostImageBytes = 1u << 28;
inline constexpr std::uint64_t kMostPixels = 1u << 27;         // as they are decoded
inline constexpr std::uint64_t kMostStoredPixels = 178956970;  // as they are stored: Pillow's own limit
inline constexpr const char* kCommonFormat = "give JPEG, PNG or another common format";

// Bytes of an encoded image.
struct Encoded {
    const unsigned char* data;
    std::size_t size;
};

[[noreturn]] inline void refuse_image(const std::string& what, const char* fix = kCommonFormat) {
    throw Error(Code::wrong_use, what, fix);
}

// Throws Error(wrong_use) for an image of no pixels or too many.
inline void check_pixels(std::uint64_t width, std::uint64_t height, std::uint64_t most) {
    if (width == 0 || height == 0) {
        refuse_image("an image without pixels");
    }
    if (width > most / height) {
        refuse_image(
            "the image has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, more than " +
                std::to_string(most) + " in all",
            "make it smaller");
    }
}

Pixels decode_jpeg(const Encoded& encoded, std::size_t side);
Pixels decode_png(const Encoded& encoded, const Levels& levels);
Pixels decode_ppm(const Encoded& encoded);

}  // namespace figkd
