#include "ecdsa.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "error.hpp"

namespace figkd {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";
constexpr std::size_t kMostSignature = 80;
constexpr std::size_t kPointBytes = 64;

// SubjectPublicKeyInfo of an uncompressed point on P-256 (RFC 5480): this, then 64 bytes.
const std::string& prefix() {
    static const std::string bytes(
        "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04", 27);
    return bytes;
}

bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

// `text` behind its white space; false where there is none.
bool skip_space(std::string_view& text) {
    const std::size_t count = std::min(text.find_first_not_of(kSpace), text.size());
    text.remove_prefix(count);
    return count > 0;
}

// The base64 text between the lines of a PEM file, without white space; empty where it is no such file.
std::string body_of(std::string_view pem) {
    constexpr std::string_view kBegin = "-----BEGIN PUBLIC KEY-----";
    constexpr std::string_view kEnd = "-----END PUBLIC KEY-----";
    skip_space(pem);
    if (!starts_with(pem, kBegin)) {
        return "";
    }
    pem.remove_prefix(kBegin.size());
    const bool spaced = skip_space(pem);
    const std::size_t stop = pem.find(kEnd);
    if (!spaced || stop == std::string_view::npos) {
        return "";
    }
    std::string_view rest = pem.substr(stop + kEnd.size());
    skip_space(rest);
    if (!rest.empty() || stop == 0 || kSpace.find(pem[stop - 1]) == std::string_view::npos) {
        return "";
    }
    std::string body(pem.substr(0, stop));
    body.erase(
        std::remove_if(body.begin(), body.end(), [](char letter) { return kSpace.find(letter) != kSpace.npos; }),
        body.end());
    return body;
}

}  // namespace

bool decode_base64(std::string_view text, std::string& bytes) {
    const std::size_t padding = text.size() - std::min(text.find_last_not_of('=') + 1, text.size());
    const std::string_view letters = text.substr(0, text.size() - padding);
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text.size() % 4 != 0 || padding > 2 || letters.find_first_not_of(kAlphabet) != letters.npos) {
        return false;
    }
    bytes.resize(text.size() / 4 * 3);
    const int length = EVP_DecodeBlock(
        reinterpret_cast<unsigned char*>(bytes.data()), reinterpret_cast<const unsigned char*>(text.data()),
        static_cast<int>(text.size()));
    if (length != static_cast<int>(bytes.size())) {
        return text.empty();
    }
    bytes.resize(bytes.size() - padding);
    return true;
}

std::string key_bytes(std::string_view pem) {
    std::string der;
    const std::string body = body_of(pem);
    if (body.empty() || !decode_base64(body, der) || !starts_with(der, prefix()) ||
        der.size() != prefix().size() + kPointBytes) {
        refuse("this is no public key of ECDSA on P-256 in PEM", "figkd-pipeline key new makes one");
    }
    return der;
}

bool signed_by(const std::string& der, const std::string& signature, const std::string& message) {
    if (signature.size() < 8 || signature.size() > kMostSignature) {
        return false;
    }
    const auto* place = reinterpret_cast<const unsigned char*>(der.data());
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        d2i_PUBKEY(nullptr, &place, static_cast<long>(der.size())), &EVP_PKEY_free);
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    // 1 is yes; 0 is no; what is below is an error, such as a signature that is no DER.
    const bool found = key && context &&
                       EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
                       EVP_DigestVerify(
                           context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                           reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
    ERR_clear_error();
    return found;
}

}  // namespace figkd
