// Signed envelopes: DSSE v1 in a Sigstore bundle, as OpenSSF Model Signing v1.0 lays them out.
#pragma once

#include <string>
#include <string_view>

#include "manifest.hpp"

namespace figkd {

inline constexpr std::size_t kMostSignatureBytes = 1u << 23;

// What was signed, and the signature; nothing is checked yet.
struct Envelope {
    std::string payload_type;
    std::string payload;
    std::string signature;

    // The bytes that the signature is of: DSSE's pre-authentication encoding.
    std::string message() const;
};

// The envelope in the bytes of the signature file `name`. Throws Error(refused): it is none, or has more signatures.
Envelope parse_envelope(std::string_view data, const std::string& name);

// Throws Error(refused) unless the envelope is about exactly the files of this bundle.
void check_statement(const Envelope& envelope, const Manifest& manifest, const std::string& name);

}  // namespace figkd
