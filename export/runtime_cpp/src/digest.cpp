#include "digest.hpp"

#include <openssl/evp.h>

#include "error.hpp"

namespace figkd {

struct Sha256::State {
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

namespace {

void require(int done) {
    if (done != 1) {
        throw Error(Code::cannot_run, "libcrypto cannot compute a SHA-256");
    }
}

}  // namespace

Sha256::Sha256() : state_(new State) {
    require(state_->context ? 1 : 0);
    require(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, std::size_t size) {
    require(EVP_DigestUpdate(state_->context.get(), data, size));
}

std::string Sha256::hex() {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    require(EVP_DigestFinal_ex(state_->context.get(), bytes, &size));
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (unsigned int at = 0; at < size; ++at) {
        text += kDigits[bytes[at] >> 4];
        text += kDigits[bytes[at] & 15];
    }
    return text;
}

std::string sha256_hex(std::string_view data) {
    Sha256 digest;
    digest.update(data.data(), data.size());
    return digest.hex();
}

}  // namespace figkd
