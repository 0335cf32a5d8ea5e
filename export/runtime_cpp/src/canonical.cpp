#include "canonical.hpp"

#include <cstdint>
#include <limits>

#include "error.hpp"

namespace figkd {
namespace {

constexpr int kDepth = 16;

// What is wrong with a value, or with one in it; empty if nothing.
std::string fault_of(const Json& value, int depth) {
    if (depth < 0) {
        return "nested more than " + std::to_string(kDepth) + " levels deep";
    }
    if (value.is_structured()) {
        for (const Json& inner : value) {
            std::string fault = fault_of(inner, depth - 1);
            if (!fault.empty()) {
                return fault;
            }
        }
        return "";
    }
    if (value.is_number_unsigned()) {
        return value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max() ? "a number of more than 63 bits"
                                                                                      : "";
    }
    if (value.is_number_integer()) {
        return value.get<std::int64_t>() < -std::numeric_limits<std::int64_t>::max() ? "a number of more than 63 bits"
                                                                                     : "";
    }
    return value.is_string() ? "" : std::string("a value of the type ") + value.type_name();
}

[[noreturn]] void refuse_json(const std::string& name, const std::string& reason) {
    refuse(name + " is not canonical JSON: " + reason);
}

}  // namespace

Json decode_canonical(std::string_view data, const std::string& name) {
    const Json value = Json::parse(data.begin(), data.end(), nullptr, /* allow_exceptions */ false);
    if (value.is_discarded()) {
        refuse_json(name, "it does not parse");
    }
    if (const std::string fault = fault_of(value, kDepth); !fault.empty()) {
        refuse_json(name, fault);
    }
    if (value.dump() + "\n" != data) {  // twins of a key, other spellings, white space, a byte order mark
        refuse_json(name, "it can be written in another way");
    }
    return value;
}

}  // namespace figkd
