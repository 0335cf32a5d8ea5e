// A bundle is what its manifest says, and who must have signed it did; else nothing of it is loaded.
#pragma once

#include <string>

#include "folder.hpp"
#include "manifest.hpp"

namespace figkd {

// A bundle that was verified. Files are read again when they are used, and each time their bytes are checked.
class Bundle {
public:
    // Check a whole bundle. `trust`: the file that says whose signatures count; empty: the choice to take a bundle
    // whoever made it. Throws Error(refused).
    Bundle(const std::string& folder, const std::string& trust);

    const Manifest& manifest() const { return manifest_; }
    bool has(const std::string& name) const { return manifest_.files.count(name) != 0; }

    // The bytes of a file, which are those that the manifest names. Throws Error(refused).
    Bytes read(const std::string& name) const;

private:
    Folder folder_;
    Manifest manifest_;
};

}  // namespace figkd
