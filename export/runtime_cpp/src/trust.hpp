// Whose signatures count: `trust.json`, as the Python runtime reads it (export/runtime/bundle/trust.py).
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "folder.hpp"
#include "manifest.hpp"

namespace figkd {

// A signer.
struct Key {
    std::string der;
    std::vector<std::string> channels;  // for which it may sign; empty: for all
    std::string not_after;              // UTC; empty: no end
};

struct Trust {
    std::uint64_t version;
    std::uint64_t threshold;
    std::map<std::string, Key> keys;  // by id
    std::set<std::string> revoked;
};

// Throws Error(refused): the bytes are none, or so few keys are left that the threshold cannot be reached.
Trust parse_trust(std::string_view data);

// Throws Error(refused) unless as many keys as the file `trust` asks for signed exactly the files of this manifest, in
// signature files beside `folder`. Throws Error(wrong_use): `trust` cannot be read.
void check_signatures(const Folder& folder, const Manifest& manifest, const std::string& trust);

}  // namespace figkd
