#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "decoders.hpp"
#include "orientation.hpp"

namespace figkd {
namespace {

struct Stream {
    Encoded encoded;
    std::size_t at;
    char message[120];
};

void read_some(png_structp png, png_bytep out, png_size_t size) {
    auto* stream = static_cast<Stream*>(png_get_io_ptr(png));
    if (size > stream->encoded.size - stream->at) {
        png_error(png, "it is truncated");
    }
    std::memcpy(out, stream->encoded.data + stream->at, size);
    stream->at += size;
}

[[noreturn]] void leave(png_structp png, png_const_charp message) {
    auto* stream = static_cast<Stream*>(png_get_error_ptr(png));
    std::snprintf(stream->message, sizeof stream->message, "%s", message);
    png_longjmp(png, 1);
}

void stay_silent(png_structp, png_const_charp) {}

// One image's decoder. Nothing between a setjmp and what may jump to it has a destructor.
class Reader {
public:
    explicit Reader(const Encoded& encoded) : stream_{encoded, 0, {}} {
        png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &stream_, leave, stay_silent);
        info_ = png_ != nullptr ? png_create_info_struct(png_) : nullptr;
        if (info_ == nullptr) {
            png_destroy_read_struct(&png_, nullptr, nullptr);
            throw Error(Code::cannot_run, "libpng cannot be used: another version was compiled with");
        }
        png_set_read_fn(png_, &stream_, read_some);
        png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    }
    ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    png_structp png() const { return png_; }
    png_infop info() const { return info_; }

    void read_header() {
        require([](Reader& self) { png_read_info(self.png_, self.info_); });
    }

    // Samples as they are stored, those of less than 8 bits one a byte.
    void read_rows(png_bytepp rows) {
        rows_ = rows;
        require([](Reader& self) {
            png_set_packing(self.png_);
            png_set_interlace_handling(self.png_);
            png_read_update_info(self.png_, self.info_);
            png_read_image(self.png_, self.rows_);
        });
        attempt([](Reader& self) { png_read_end(self.png_, self.info_); });  // the pixels are whole without it
    }

private:
    bool attempt(void (*action)(Reader&)) {
        if (setjmp(png_jmpbuf(png_)) != 0) {
            return false;
        }
        action(*this);
        return true;
    }

    void require(void (*action)(Reader&)) {
        if (!attempt(action)) {
            refuse_image(std::string("the image is damaged: ") + stream_.message);
        }
    }

    Stream stream_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
    png_bytepp rows_ = nullptr;
};

// How a pixel's samples become RGB; what is transparent becomes white, as on paper.
class Colours {
public:
    // `depth`: bits of a sample as it is stored, which libpng no longer tells once the rows are read.
    Colours(const Reader& reader, int depth, const Levels& levels)
        : type_(png_get_color_type(reader.png(), reader.info())), depth_(depth), levels_(levels) {
        png_bytep alphas = nullptr;
        png_color_16p key = nullptr;
        int count = 0;
        const bool told = png_get_tRNS(reader.png(), reader.info(), &alphas, &count, &key) != 0;
        if (type_ == PNG_COLOR_TYPE_PALETTE) {
            read_palette(reader);
            for (int at = 0; told && at < std::min(count, 256); ++at) {
                palette_[static_cast<std::size_t>(at)][3] = alphas[at];
            }
        } else if (told && type_ == PNG_COLOR_TYPE_GRAY) {
            keyed_ = true;
            key_ = {key->gray, key->gray, key->gray};
        } else if (told) {
            keyed_ = true;
            key_ = {key->red, key->green, key->blue};
            if (depth_ == 16) {  // compared as Pillow does, by the high bytes
                std::transform(key_.begin(), key_.end(), key_.begin(), [](unsigned value) { return value >> 8; });
            }
        }
    }

    void convert(const unsigned char* row, std::size_t width, unsigned char* out) const {
        for (std::size_t x = 0; x < width; ++x, out += 3) {
            switch (type_) {
                case PNG_COLOR_TYPE_PALETTE: {
                    const auto& colour = palette_[row[x]];
                    on_white(colour.data(), colour[3], out);
                    break;
                }
                case PNG_COLOR_TYPE_GRAY: std::memset(out, grey(row, x), 3); break;
                case PNG_COLOR_TYPE_GRAY_ALPHA: {
                    const unsigned char value = sample(row, x * 2);
                    const unsigned char colour[3] = {value, value, value};
                    on_white(colour, sample(row, x * 2 + 1), out);
                    break;
                }
                default: rgb(row, x, out);
            }
        }
    }

private:
    void read_palette(const Reader& reader) {
        for (unsigned at = 0; at < 256; ++at) {
            palette_[at] = {0, 0, 0, 255};
        }
        png_colorp colours = nullptr;
        int count = 0;
        png_get_PLTE(reader.png(), reader.info(), &colours, &count);
        for (int at = 0; at < std::min(count, 256); ++at) {
            palette_[static_cast<std::size_t>(at)] = {colours[at].red, colours[at].green, colours[at].blue, 255};
        }
    }

    // The 8 high bits of the sample at a place of a row.
    unsigned char sample(const unsigned char* row, std::size_t at) const { return row[depth_ == 16 ? at * 2 : at]; }

    unsigned char grey(const unsigned char* row, std::size_t x) const {
        const unsigned value = depth_ == 16 ? row[x * 2] * 256u + row[x * 2 + 1] : row[x];
        if (keyed_ && value == key_[0]) {
            return 255;
        }
        if (depth_ == 16) {
            const double share = (value - levels_.low) / (levels_.high - levels_.low);
            return static_cast<unsigned char>(std::nearbyint(std::clamp(share, 0.0, 1.0) * 255));
        }
        return static_cast<unsigned char>(value * (255u / ((1u << depth_) - 1u)));
    }

    void rgb(const unsigned char* row, std::size_t x, unsigned char* out) const {
        const bool alpha = type_ == PNG_COLOR_TYPE_RGB_ALPHA;
        const std::size_t first = x * (alpha ? 4 : 3);
        const unsigned char colour[3] = {sample(row, first), sample(row, first + 1), sample(row, first + 2)};
        const bool hidden = keyed_ && colour[0] == key_[0] && colour[1] == key_[1] && colour[2] == key_[2];
        on_white(colour, hidden ? 0 : alpha ? sample(row, first + 3) : 255, out);
    }

    // (colour x alpha + 255 x (255 - alpha)) / 255, rounded as Pillow rounds it, with 7 more bits.
    static void on_white(const unsigned char* colour, unsigned alpha, unsigned char* out) {
        for (int channel = 0; channel < 3; ++channel) {
            const unsigned value = (colour[channel] * alpha + 255u * (255u - alpha) + 128u) << 7;
            out[channel] = static_cast<unsigned char>(((value >> 8) + value) >> 15);
        }
    }

    int type_;
    int depth_;
    Levels levels_;
    bool keyed_ = false;
    std::array<unsigned, 3> key_{};
    std::array<std::array<unsigned char, 4>, 256> palette_{};
};

int orientation_of(const Reader& reader) {
#ifdef PNG_eXIf_SUPPORTED
    png_bytep exif = nullptr;
    png_uint_32 size = 0;
    if (png_get_eXIf_1(reader.png(), reader.info(), &size, &exif) != 0) {
        if (const int found = exif_orientation({reinterpret_cast<const char*>(exif), size}); found != 0) {
            return found;
        }
    }
#endif
    png_textp texts = nullptr;
    int count = 0;
    png_get_text(reader.png(), reader.info(), &texts, &count);
    for (int at = 0; at < count; ++at) {
        if (texts[at].text != nullptr && std::strcmp(texts[at].key, "XML:com.adobe.xmp") == 0) {
            return xmp_orientation(texts[at].text);
        }
    }
    return 0;
}

}  // namespace

Pixels decode_png(const Encoded& encoded, const Levels& levels) {
    Reader reader(encoded);
    reader.read_header();
    Pixels image{
        png_get_image_width(reader.png(), reader.info()), png_get_image_height(reader.png(), reader.info()), {}};
    check_pixels(image.width, image.height, kMostPixels);
    const int depth = png_get_bit_depth(reader.png(), reader.info());
    const std::size_t line = image.width * png_get_channels(reader.png(), reader.info()) * (depth == 16 ? 2u : 1u);
    Bytes samples(line * image.height);
    std::vector<png_bytep> rows(image.height);
    for (std::size_t y = 0; y < image.height; ++y) {
        rows[y] = samples.data() + y * line;
    }
    reader.read_rows(rows.data());
    const Colours colours(reader, depth, levels);
    image.data.resize(image.width * image.height * 3);
    for (std::size_t y = 0; y < image.height; ++y) {
        colours.convert(rows[y], image.width, image.data.data() + y * image.width * 3);
    }
    return upright(std::move(image), orientation_of(reader));
}

}  // namespace figkd
