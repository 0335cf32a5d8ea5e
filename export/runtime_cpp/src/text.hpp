// Text from outside: what may be shown, and how.
#pragma once

#include <string>
#include <string_view>

namespace figkd {

// In quotes, in ASCII, at most 120 bytes: nothing that a terminal would act on.
std::string shown(std::string_view text);

// True for valid UTF-8 of at most `most` code points, none of which is a control, a format character, a separator other
// than the space, a surrogate, of private use or no character. Code points that no version of Unicode known here assigns
// count as printable.
bool printable(std::string_view text, std::size_t most);

// As `printable`, for one code point.
bool printable(char32_t point);

// `text` as a number, without regard to the locale: digits, with an optional sign, fraction and exponent.
bool parse_number(const std::string& text, double& value);

}  // namespace figkd
