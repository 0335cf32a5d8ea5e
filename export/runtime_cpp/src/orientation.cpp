#include "orientation.hpp"

#include <cstdint>
#include <cstring>
#include <utility>

#include "decoders.hpp"

namespace figkd {
namespace {

constexpr unsigned kOrientation = 0x0112;
constexpr unsigned kShort = 3;
constexpr unsigned kLong = 4;

// Numbers of a TIFF header; 0 beyond its end.
class Tiff {
public:
    Tiff(std::string_view data, bool little) : data_(data), little_(little) {}

    std::uint32_t number(std::uint64_t at, int bytes) const {
        if (at + static_cast<std::uint64_t>(bytes) > data_.size()) {
            return 0;
        }
        std::uint32_t value = 0;
        for (int byte = 0; byte < bytes; ++byte) {
            const int place = little_ ? bytes - 1 - byte : byte;
            value = value << 8 | static_cast<unsigned char>(data_[static_cast<std::size_t>(at) + static_cast<std::size_t>(place)]);
        }
        return value;
    }

private:
    std::string_view data_;
    bool little_;
};

}  // namespace

int exif_orientation(std::string_view exif) {
    using namespace std::string_view_literals;
    while (exif.substr(0, 6) == "Exif\0\0"sv) {
        exif.remove_prefix(6);
    }
    if (exif.empty()) {
        return 0;
    }
    const bool little = exif.substr(0, 4) == "II*\0"sv;
    if (!little && exif.substr(0, 4) != "MM\0*"sv) {
        refuse_image("the image is damaged: its EXIF data is no TIFF header");
    }
    const Tiff tiff(exif, little);
    const std::uint64_t directory = tiff.number(4, 4);
    const unsigned entries = tiff.number(directory, 2);
    int found = 0;
    for (unsigned entry = 0; entry < entries; ++entry) {
        const std::uint64_t at = directory + 2 + std::uint64_t{entry} * 12;
        if (tiff.number(at, 2) != kOrientation || tiff.number(at + 4, 4) != 1) {
            continue;
        }
        const unsigned type = tiff.number(at + 2, 2);
        if (type == kShort || type == kLong) {
            const std::uint32_t value = tiff.number(at + 8, type == kShort ? 2 : 4);
            found = value <= 0xFFFF ? static_cast<int>(value) : 0;
        }
    }
    return found;
}

int xmp_orientation(std::string_view xmp) {
    constexpr std::string_view kName = "tiff:Orientation";
    for (std::size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
        std::string_view rest = xmp.substr(at + kName.size());
        const std::size_t skipped = rest.substr(0, 2) == "=\"" ? 2 : rest.substr(0, 1) == ">" ? 1 : 0;
        if (skipped > 0 && rest.size() > skipped && rest[skipped] >= '0' && rest[skipped] <= '9') {
            return rest[skipped] - '0';
        }
    }
    return 0;
}

Pixels upright(Pixels image, int orientation) {
    if (orientation < 2 || orientation > 8) {
        return image;
    }
    const bool swapped = orientation >= 5;                            // rows become columns
    const bool right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;  // from the right
    const bool bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;  // from the bottom
    Pixels out{
        swapped ? image.height : image.width, swapped ? image.width : image.height, Bytes(image.data.size())};
    for (std::size_t y = 0; y < out.height; ++y) {
        for (std::size_t x = 0; x < out.width; ++x) {
            std::size_t column = swapped ? y : x;
            std::size_t row = swapped ? x : y;
            column = right ? image.width - 1 - column : column;
            row = bottom ? image.height - 1 - row : row;
            std::memcpy(&out.data[(y * out.width + x) * 3], &image.data[(row * image.width + column) * 3], 3);
        }
    }
    return out;
}

}  // namespace figkd
