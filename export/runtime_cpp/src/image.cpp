#include "image.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "decoders.hpp"
#include "text.hpp"

namespace figkd {
namespace {

// The next number of a PPM's header, after white space and comments.
std::uint64_t number(const Encoded& encoded, std::size_t& at) {
    bool comment = false;
    for (; at < encoded.size; ++at) {
        const unsigned char letter = encoded.data[at];
        if (comment || letter == '#') {
            comment = letter != '\n' && letter != '\r';
        } else if (letter >= '0' && letter <= '9') {
            break;
        } else if (letter > ' ') {
            refuse_image("the image is damaged: its header holds more than numbers");
        }
    }
    std::uint64_t value = 0;
    for (; at < encoded.size && encoded.data[at] >= '0' && encoded.data[at] <= '9'; ++at) {
        value = value * 10 + (encoded.data[at] - '0');
        if (value > kMostPixels) {
            refuse_image("the image has too many pixels", "make it smaller");
        }
    }
    return value;
}

enum class Kind { unknown, jpeg, png, ppm };

// The kind of a file by its first bytes; unknown where its decoder was not compiled in.
Kind kind_of(const Encoded& encoded) {
    using namespace std::string_view_literals;
    const std::string_view text(reinterpret_cast<const char*>(encoded.data), encoded.size);
    const auto starts = [&](std::string_view magic) { return text.substr(0, magic.size()) == magic; };
#ifdef FIGKD_JPEG
    if (starts("\xff\xd8\xff"sv)) {
        return Kind::jpeg;
    }
#endif
#ifdef FIGKD_PNG
    if (starts("\x89PNG\r\n\x1a\n"sv)) {
        return Kind::png;
    }
#endif
    return starts("P5"sv) || starts("P6"sv) ? Kind::ppm : Kind::unknown;
}

}  // namespace

bool can_decode(const unsigned char* data, std::size_t size) { return kind_of({data, size}) != Kind::unknown; }

// Binary grey (P5) and RGB (P6) of 8 bits.
Pixels decode_ppm(const Encoded& encoded) {
    const std::size_t channels = encoded.data[1] == '6' ? 3 : 1;
    std::size_t at = 2;
    Pixels image;
    image.width = number(encoded, at);
    image.height = number(encoded, at);
    check_pixels(image.width, image.height, kMostPixels);
    if (number(encoded, at) != 255) {
        refuse_image("a PPM file of other than 8 bits, which is not read here");
    }
    ++at;  // one white space
    const std::size_t size = image.width * image.height * channels;
    if (at > encoded.size || encoded.size - at < size) {
        refuse_image("the image is damaged: it is truncated");
    }
    image.data.resize(image.width * image.height * 3);
    for (std::size_t byte = 0; byte < image.data.size(); ++byte) {
        image.data[byte] = encoded.data[at + (channels == 3 ? byte : byte / 3)];
    }
    return image;
}

std::string image_formats() {
    std::string formats;
#ifdef FIGKD_JPEG
    formats += "jpeg, ";
#endif
#ifdef FIGKD_PNG
    formats += "png, ";
#endif
    return formats + "ppm";
}

Pixels decode_image(const unsigned char* data, std::size_t size, std::size_t side, const Levels& levels) {
    if (size == 0) {
        refuse_image("the image is empty: 0 bytes");
    }
    if (size > kMostImageBytes) {
        refuse_image("the image has more than " + std::to_string(kMostImageBytes) + " bytes", "make it smaller");
    }
    const Encoded encoded{data, size};
    static_cast<void>(side);
    static_cast<void>(levels);
    switch (kind_of(encoded)) {
#ifdef FIGKD_JPEG
        case Kind::jpeg: return decode_jpeg(encoded, side);
#endif
#ifdef FIGKD_PNG
        case Kind::png: return decode_png(encoded, levels);
#endif
        case Kind::ppm: return decode_ppm(encoded);
        default: refuse_image("this is no image of a kind that is read here: " + image_formats());
    }
}

Bytes read_image(const std::string& path) {
    const int handle = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat facts = {};
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(handle < 0 ? nullptr : ::fdopen(handle, "rb"), &std::fclose);
    if (!file || ::fstat(handle, &facts) != 0) {
        refuse_image(shown(path) + " cannot be read: " + std::strerror(errno), "give an image file");
    }
    if (!S_ISREG(facts.st_mode)) {
        refuse_image(shown(path) + " is no regular file", "give an image file");
    }
    if (static_cast<std::uint64_t>(facts.st_size) > kMostImageBytes) {
        refuse_image("the image has more than " + std::to_string(kMostImageBytes) + " bytes", "make it smaller");
    }
    Bytes data(static_cast<std::size_t>(facts.st_size));
    data.resize(std::fread(data.data(), 1, data.size(), file.get()));
    if (std::ferror(file.get()) != 0) {
        refuse_image(shown(path) + " cannot be read: " + std::strerror(errno), "give an image file");
    }
    return data;
}

}  // namespace figkd
