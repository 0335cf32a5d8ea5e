// An image in memory.
#pragma once

#include <cstddef>

#include "folder.hpp"

namespace figkd {

// 8-bit RGB, rows from the top, without gaps.
struct Pixels {
    std::size_t width = 0;
    std::size_t height = 0;
    Bytes data;  // height x width x 3
};

}  // namespace figkd
