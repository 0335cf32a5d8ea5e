#include <cstring>
#include <string>

#include "bundle.hpp"
#include "guard.hpp"

namespace {

figkd::Bundle open_bundle(const char* folder, const char* trust) {
    figkd::require_argument(folder, "folder");
    figkd::require_argument(trust, "trust");
    if (*trust == '\0') {
        throw figkd::Error(
            figkd::Code::wrong_use, "no trust was given", "give a file, or FIGKD_UNSIGNED to take any bundle");
    }
    return figkd::Bundle(folder, std::strcmp(trust, FIGKD_UNSIGNED) == 0 ? "" : trust);
}

}  // namespace

const char* figkd_build_info(void) { return FIGKD_BUILD_INFO; }

figkd_status figkd_verify(const char* folder, const char* trust, char release[65], figkd_error* error) {
    return figkd::guarded(error, [&] {
        const figkd::Bundle bundle = open_bundle(folder, trust);
        if (release != nullptr) {
            std::memcpy(release, bundle.manifest().release.c_str(), 65);
        }
    });
}
