#include <algorithm>
#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which needs it
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <jpeglib.h>

#include "decoders.hpp"
#include "orientation.hpp"

namespace figkd {
namespace {

struct Failure {
    jpeg_error_mgr base;  // first, so that libjpeg's pointer is one to this
    std::jmp_buf back;
    char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void leave(j_common_ptr state) {
    auto* failure = reinterpret_cast<Failure*>(state->err);
    failure->base.format_message(state, failure->message);
    std::longjmp(failure->back, 1);
}

void stay_silent(j_common_ptr) {}

void nothing(j_decompress_ptr) {}

boolean end_of_data(j_decompress_ptr state) {
    auto* failure = reinterpret_cast<Failure*>(state->err);
    std::snprintf(failure->message, sizeof failure->message, "it is truncated");
    std::longjmp(failure->back, 1);
}

void skip(j_decompress_ptr state, long count) {
    if (count <= 0) {
        return;
    }
    if (static_cast<std::size_t>(count) > state->src->bytes_in_buffer) {
        end_of_data(state);
    }
    state->src->next_input_byte += count;
    state->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}

// One image's decompressor. Nothing between a setjmp and what may jump to it has a destructor.
class Decompressor {
public:
    explicit Decompressor(const Encoded& encoded) {
        state_.err = jpeg_std_error(&failure_.base);
        failure_.base.error_exit = leave;
        failure_.base.output_message = stay_silent;
        source_.init_source = nothing;
        source_.fill_input_buffer = end_of_data;
        source_.skip_input_data = skip;
        source_.resync_to_restart = jpeg_resync_to_restart;
        source_.term_source = nothing;
        source_.next_input_byte = encoded.data;
        source_.bytes_in_buffer = encoded.size;
        const bool read = attempt([](Decompressor& self) {
            jpeg_create_decompress(&self.state_);
            self.state_.src = &self.source_;
            jpeg_save_markers(&self.state_, JPEG_APP0 + 1, 0xFFFF);
            jpeg_read_header(&self.state_, TRUE);
        });
        if (!read) {  // a constructor that throws has no destructor run
            jpeg_destroy_decompress(&state_);
            refuse_damaged();
        }
    }
    ~Decompressor() { jpeg_destroy_decompress(&state_); }
    Decompressor(const Decompressor&) = delete;
    Decompressor& operator=(const Decompressor&) = delete;

    const jpeg_decompress_struct& state() const { return state_; }

    // Rows of `components` bytes a pixel, as libjpeg gives them.
    void start(J_COLOR_SPACE space, unsigned scale) {
        state_.out_color_space = space;
        state_.scale_num = 1;
        state_.scale_denom = scale;
        if (!attempt([](Decompressor& self) { jpeg_start_decompress(&self.state_); })) {
            refuse_damaged();
        }
    }

    // The next row, into `out`.
    void row(unsigned char* out) {
        out_ = out;
        if (!attempt([](Decompressor& self) { jpeg_read_scanlines(&self.state_, &self.out_, 1); })) {
            refuse_damaged();
        }
    }

private:
    bool attempt(void (*action)(Decompressor&)) {
        if (setjmp(failure_.back) != 0) {
            return false;
        }
        action(*this);
        return true;
    }

    [[noreturn]] void refuse_damaged() const {
        refuse_image(std::string("the image is damaged: ") + failure_.message);
    }

    jpeg_decompress_struct state_{};
    jpeg_source_mgr source_{};
    Failure failure_{};
    JSAMPROW out_ = nullptr;
};

int orientation_of(const jpeg_decompress_struct& state) {
    using namespace std::string_view_literals;
    constexpr auto kExif = "Exif\0\0"sv;
    constexpr auto kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
    std::string exif;
    std::string_view xmp;
    for (auto* marker = state.marker_list; marker != nullptr; marker = marker->next) {
        const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
        if (data.substr(0, kExif.size()) == kExif) {
            exif += exif.empty() ? data : data.substr(kExif.size());
        } else if (data.substr(0, kXmp.size()) == kXmp) {
            xmp = data.substr(kXmp.size());
        }
    }
    const int found = exif_orientation(exif);
    return found != 0 ? found : xmp_orientation(xmp);
}

unsigned char over_255(unsigned product) {
    const unsigned value = product + 128;
    return static_cast<unsigned char>(((value >> 8) + value) >> 8);
}

// A row of `components` bytes a pixel to RGB. Of four, all are stored inverted, as Adobe's programs do.
void to_rgb(const unsigned char* row, std::size_t width, int components, unsigned char* out) {
    for (std::size_t x = 0; x < width; ++x, out += 3) {
        if (components == 1) {
            std::memset(out, row[x], 3);
            continue;
        }
        const unsigned char* ink = row + x * 4;
        const unsigned white = ink[3];
        for (int channel = 0; channel < 3; ++channel) {
            out[channel] = static_cast<unsigned char>(white - over_255((255u - ink[channel]) * white));
        }
    }
}

unsigned scale_of(std::size_t shorter, std::size_t side) {
    for (const unsigned scale : {8u, 4u, 2u}) {
        if (shorter / scale >= 2 * side) {
            return scale;
        }
    }
    return 1;
}

}  // namespace

Pixels decode_jpeg(const Encoded& encoded, std::size_t side) {
    Decompressor jpeg(encoded);
    const auto& state = jpeg.state();
    const int components = state.num_components;
    if (components != 1 && components != 3 && components != 4) {
        refuse_image("a JPEG of " + std::to_string(components) + " components, which is not read here");
    }
    check_pixels(state.image_width, state.image_height, kMostStoredPixels);
    const int orientation = orientation_of(state);
    const unsigned scale = scale_of(std::min(state.image_width, state.image_height), side);
    jpeg.start(components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK, scale);
    check_pixels(state.output_width, state.output_height, kMostPixels);
    Pixels image{state.output_width, state.output_height, {}};
    image.data.resize(image.width * image.height * 3);
    Bytes row(components == 3 ? 0 : image.width * static_cast<std::size_t>(components));
    for (std::size_t y = 0; y < image.height; ++y) {
        unsigned char* out = image.data.data() + y * image.width * 3;
        jpeg.row(components == 3 ? out : row.data());
        if (components != 3) {
            to_rgb(row.data(), image.width, components, out);
        }
    }
    return upright(std::move(image), orientation);
}

}  // namespace figkd
