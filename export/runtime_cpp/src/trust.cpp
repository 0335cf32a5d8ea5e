#include "trust.hpp"

#include "error.hpp"

namespace figkd {

// Fails closed: this version of the library reads no signatures yet.
void check_signatures(const std::string&, const Manifest& manifest, const std::string&) {
    refuse(
        "the signatures of " + manifest.name + " cannot be checked by this library",
        "check them with run.pyz verify, and open the bundle with FIGKD_UNSIGNED");
}

}  // namespace figkd
