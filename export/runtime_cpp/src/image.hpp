// An image file's bytes to upright RGB pixels, as Pillow and the Python runtime give them.
#pragma once

#include <cstddef>
#include <string>

#include "pixels.hpp"
#include "preprocess.hpp"

namespace figkd {

// The kinds of files that were compiled in, such as "jpeg, png, ppm".
std::string image_formats();

// Whether a file begins as one of a kind that was compiled in.
bool can_decode(const unsigned char* data, std::size_t size);

// `side`: what the shorter side will be resized to; a JPEG is decoded at the smallest of its built-in scales that keeps
// twice this. `levels`: of grey of more than 8 bits. Throws Error(wrong_use): no image, a damaged one, or too large.
Pixels decode_image(const unsigned char* data, std::size_t size, std::size_t side, const Levels& levels);

// The bytes of an image file. Throws Error(wrong_use): it is missing, no regular file, or too large.
Bytes read_image(const std::string& path);

}  // namespace figkd
