// Who must have signed a bundle.
#pragma once

#include <string>

#include "manifest.hpp"

namespace figkd {

// Throws Error(refused) unless the bundle at `folder` is signed as the file `trust` asks for.
void check_signatures(const std::string& folder, const Manifest& manifest, const std::string& trust);

}  // namespace figkd
