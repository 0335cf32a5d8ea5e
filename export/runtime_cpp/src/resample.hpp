// Resizing to the bit as Pillow and the Python runtime do it: bicubic, antialiased, in whole numbers.
#pragma once

#include "pixels.hpp"

namespace figkd {

// A part of an image, in pixels, inside of it.
struct Box {
    double left, top, right, bottom;
};

// `box` resized to a square of `side` pixels.
Pixels resize(const Pixels& image, std::size_t side, const Box& box);

}  // namespace figkd
