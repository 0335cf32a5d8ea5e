// JSON of files that others write: bounded, each key once. What is canonical besides is read by `canonical`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace figkd {

// Throws Error(refused): larger than `most` bytes, too deep, no JSON, or a key stands in it twice.
nlohmann::json read_strict(std::string_view data, const std::string& name, std::size_t most);

}  // namespace figkd
