// Canonical JSON: one value, one sequence of bytes.
//
// UTF-8, keys sorted by code point, no white space, one newline at the end; values are texts, whole numbers of at most
// 63 bits, lists and objects. Reading refuses whatever writing would not have written, so that two readers cannot
// understand the same bytes differently.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace figkd {

using Json = nlohmann::json;

// The value of canonical bytes of the file `name`. Throws Error(refused).
Json decode_canonical(std::string_view data, const std::string& name);

}  // namespace figkd
