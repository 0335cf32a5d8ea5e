#include "preprocess.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "canonical.hpp"
#include "error.hpp"
#include "resample.hpp"
#include "text.hpp"

namespace figkd {
namespace {

constexpr const char* kFile = "preprocess.json";
constexpr std::int64_t kMostSide = 1 << 14;

[[noreturn]] void refuse_steps() { refuse(std::string(kFile) + " describes steps that this version does not know"); }

double number(const Json& value) {
    double found = 0;
    if (!value.is_string() || !parse_number(value.get_ref<const std::string&>(), found)) {
        refuse_steps();
    }
    return found;
}

std::size_t side_of(const Json& value) {
    if (!value.is_number_unsigned() || value < 1 || value > kMostSide) {
        refuse_steps();
    }
    return value.get<std::size_t>();
}

std::array<float, 3> three(const Json& value) {
    std::array<float, 3> found{};
    if (!value.is_array() || value.size() != found.size()) {
        refuse_steps();
    }
    std::transform(
        value.begin(), value.end(), found.begin(), [](const Json& each) { return static_cast<float>(number(each)); });
    return found;
}

Levels levels_of(const Json& value) {
    Levels integer;
    for (const auto& item : value.items()) {
        if ((item.key() != "integer" && item.key() != "float") || !item.value().is_array() || item.value().size() != 2) {
            refuse_steps();
        }
        const Levels found{number(item.value()[0]), number(item.value()[1])};
        if (!(found.low < found.high)) {
            refuse_steps();
        }
        if (item.key() == "integer") {
            integer = found;
        }
    }
    return integer;
}

Preprocessing read(const Json& found) {
    const Json& source = found.at("input");
    const bool plain = source.at("dtype") == "uint8";
    if (!plain && source.at("dtype") != "float32") {
        refuse_steps();
    }
    Preprocessing made;
    made.side = side_of(found.at("resize").at("side"));
    made.size = side_of(found.at("crop").at("size"));
    made.dtype = plain ? Dtype::uint8 : Dtype::float32;
    made.levels = levels_of(found.at("decode").at("levels"));
    if (!plain) {
        made.mean = three(source.at("mean"));
        made.std = three(source.at("std"));
    }
    // What is not a number of the above has to be exactly what is done here.
    const Json known = {
        {"version", 1},
        {"decode",
         {{"colour", "RGB, 8 bits, sRGB values as stored"},
          {"orientation", "EXIF applied"},
          {"transparency", "on white"},
          {"levels", found["decode"]["levels"]}}},
        {"resize", {{"region", "centre square"}, {"side", made.side}, {"filter", "bicubic, antialiased"}}},
        {"crop", {{"region", "centre"}, {"size", made.size}}},
        {"input",
         {{"layout", plain ? "NHWC" : "NCHW"},
          {"dtype", source["dtype"]},
          {"normalisation", plain ? "inside the graph" : "(x / 255 - mean) / std"},
          {"mean", plain ? Json::array() : source["mean"]},
          {"std", plain ? Json::array() : source["std"]}}},
    };
    const bool positive = std::all_of(made.std.begin(), made.std.end(), [](float value) { return value > 0; });
    if (known != found || made.size > made.side || (!plain && !positive)) {
        refuse_steps();
    }
    return made;
}

}  // namespace

Preprocessing parse_preprocessing(std::string_view data) {
    try {
        return read(decode_canonical(data, kFile));
    } catch (const Json::exception&) {  // a key that is not there, a value of another type
        refuse(std::string(kFile) + " describes no preprocessing");
    }
}

Pixels Preprocessing::view(const Pixels& image) const {
    const auto width = static_cast<double>(image.width);
    const auto height = static_cast<double>(image.height);
    const double shorter = std::min(width, height);
    const double left = (width - shorter) / 2;
    const double top = (height - shorter) / 2;
    const Pixels square = resize(image, side, {left, top, left + shorter, top + shorter});
    const std::size_t start = (side - size) / 2;
    Pixels out{size, size, Bytes(size * size * 3)};
    for (std::size_t y = 0; y < size; ++y) {
        std::memcpy(
            out.data.data() + y * size * 3, square.data.data() + ((start + y) * side + start) * 3, size * 3);
    }
    return out;
}

void Preprocessing::input(const Pixels& view, unsigned char* out) const {
    if (dtype == Dtype::uint8) {
        std::copy(view.data.begin(), view.data.end(), out);
        return;
    }
    const std::size_t plane = size * size;
    for (std::size_t channel = 0; channel < 3; ++channel) {
        for (std::size_t at = 0; at < plane; ++at) {
            const float value = (static_cast<float>(view.data[at * 3 + channel]) / 255.0f - mean[channel]) / std[channel];
            std::memcpy(out + (channel * plane + at) * sizeof value, &value, sizeof value);
        }
    }
}

}  // namespace figkd
