#include "text.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <locale>
#include <sstream>
#include <utility>

namespace figkd {
namespace {

constexpr std::size_t kLongest = 120;

// Unicode's categories Cc, Cf, Co, Zl, Zp, Zs (without the space), from the first to the last code point.
constexpr std::array<std::pair<char32_t, char32_t>, 34> kHidden = {{
    {0x0000, 0x001F},   {0x007F, 0x00A0},   {0x00AD, 0x00AD},   {0x0600, 0x0605},     {0x061C, 0x061C},
    {0x06DD, 0x06DD},   {0x070F, 0x070F},   {0x0890, 0x0891},   {0x08E2, 0x08E2},     {0x1680, 0x1680},
    {0x180E, 0x180E},   {0x2000, 0x200F},   {0x2028, 0x202F},   {0x205F, 0x2064},     {0x2066, 0x206F},
    {0x3000, 0x3000},   {0xD800, 0xF8FF},   {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},     {0xFFF9, 0xFFFB},
    {0xFFFE, 0xFFFF},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F},   {0x1BCA0, 0x1BCA3},
    {0x1D173, 0x1D17A}, {0x1FFFE, 0x1FFFF}, {0x2FFFE, 0x2FFFF}, {0x3FFFE, 0x3FFFF},   {0xE0001, 0xE0001},
    {0xE0020, 0xE007F}, {0xEFFFE, 0xEFFFF}, {0xF0000, 0x10FFFF}, {0x110000, 0xFFFFFFFF},
}};

// The code point at `at`, which moves behind it; false where the bytes are not UTF-8.
bool next_point(std::string_view text, std::size_t& at, char32_t& point) {
    const auto lead = static_cast<unsigned char>(text[at++]);
    const int more = lead < 0x80 ? 0 : lead < 0xC2 ? -1 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : -1;
    if (more < 0) {
        return false;
    }
    point = more == 0 ? lead : lead & (0x3Fu >> more);
    for (int count = 0; count < more; ++count) {
        if (at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80) {
            return false;
        }
        point = point << 6 | (static_cast<unsigned char>(text[at++]) & 0x3Fu);
    }
    constexpr std::array<char32_t, 4> kLeast = {0, 0x80, 0x800, 0x10000};
    return point >= kLeast[static_cast<std::size_t>(more)] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
}

bool digits(const std::string& text, std::size_t& at) {
    const std::size_t start = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
        ++at;
    }
    return at > start;
}

bool is_number(const std::string& text) {
    std::size_t at = !text.empty() && text[0] == '-' ? 1 : 0;
    if (!digits(text, at)) {
        return false;
    }
    if (at < text.size() && text[at] == '.' && !digits(text, ++at)) {
        return false;
    }
    if (at < text.size() && text[at] == 'e') {
        ++at;
        at += at < text.size() && (text[at] == '-' || text[at] == '+') ? 1 : 0;
        if (!digits(text, at)) {
            return false;
        }
    }
    return at == text.size();
}

}  // namespace

std::string shown(std::string_view text) {
    std::string out = "'";
    for (const char letter : text) {
        if (out.size() > kLongest - 8) {
            return out + "...'";
        }
        const auto byte = static_cast<unsigned char>(letter);
        if (byte >= 0x20 && byte < 0x7F && letter != '\\' && letter != '\'') {
            out += letter;
        } else {
            char escaped[5];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            out += escaped;
        }
    }
    return out + "'";
}

bool printable(char32_t point) {
    for (const auto& [first, last] : kHidden) {
        if (point <= last) {
            return point < first;
        }
    }
    return false;
}

bool printable(std::string_view text, std::size_t most) {
    std::size_t points = 0;
    for (std::size_t at = 0; at < text.size();) {
        char32_t point = 0;
        if (!next_point(text, at, point) || !printable(point) || ++points > most) {
            return false;
        }
    }
    return true;
}

bool parse_number(const std::string& text, double& value) {
    if (text.size() > 40 || !is_number(text)) {
        return false;
    }
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    stream >> value;
    return !stream.fail() && std::isfinite(value);
}

}  // namespace figkd
