// ECDSA signatures (P-256, SHA-256), checked by OpenSSL's libcrypto.
#pragma once

#include <string>
#include <string_view>

namespace figkd {

// The bytes of strict base64; false where the text is none.
bool decode_base64(std::string_view text, std::string& bytes);

// The DER bytes of a public key on P-256 in PEM. Throws Error(refused).
std::string key_bytes(std::string_view pem);

// Whether the owner of the key `der` made `signature` (ECDSA's two numbers in DER) of `message`.
bool signed_by(const std::string& der, const std::string& signature, const std::string& message);

}  // namespace figkd
