// How an image has to be turned.
#pragma once

#include <string_view>

#include "pixels.hpp"

namespace figkd {

// EXIF's orientation (1 to 8) in a TIFF header with its first directory, which `Exif\0\0` may precede; 0 where none is
// told. Throws Error(wrong_use) where this is no such header.
int exif_orientation(std::string_view exif);

// The same in XMP.
int xmp_orientation(std::string_view xmp);

// Turned upright; values other than 2 to 8 mean no turn.
Pixels upright(Pixels image, int orientation);

}  // namespace figkd
