#include "bundle.hpp"

#include "digest.hpp"
#include "error.hpp"
#include "text.hpp"
#include "trust.hpp"

namespace figkd {
namespace {

[[noreturn]] void refuse_changed(const std::string& name) {
    refuse(name + " is not what it was when the bundle was made: its SHA-256 differs");
}

Manifest manifest_in(const Folder& folder, const std::map<std::string, std::uint64_t>& listed) {
    const auto found = listed.find(kManifest);
    if (found == listed.end()) {
        refuse(shown(folder.path()) + " holds no " + kManifest, "give the folder of a bundle");
    }
    if (found->second > kMostManifestBytes) {
        refuse(std::string(kManifest) + " has more than " + std::to_string(kMostManifestBytes) + " bytes");
    }
    const Bytes data = folder.read(kManifest, found->second);
    return parse_manifest({reinterpret_cast<const char*>(data.data()), data.size()});
}

void check_files(
    const Folder& folder, const std::map<std::string, std::uint64_t>& listed, const Manifest& manifest) {
    for (const auto& item : listed) {
        if (item.first != kManifest && manifest.files.count(item.first) == 0) {
            refuse(shown(item.first) + " is in the bundle, and not in its manifest");
        }
    }
    for (const auto& [name, entry] : manifest.files) {
        const auto found = listed.find(name);
        if (found == listed.end()) {
            refuse(name + " is missing in the bundle");
        }
        if (found->second != entry.bytes) {
            refuse(
                name + " has " + std::to_string(found->second) + " bytes, " + std::to_string(entry.bytes) +
                " in the manifest");
        }
    }
    for (const auto& [name, entry] : manifest.files) {
        Sha256 digest;
        folder.blocks(name, [&](const unsigned char* data, std::size_t size) { digest.update(data, size); });
        if (digest.hex() != entry.sha256) {
            refuse_changed(name);
        }
    }
}

}  // namespace

Bundle::Bundle(const std::string& folder, const std::string& trust) : folder_(folder) {
    const auto listed = folder_.listing();
    manifest_ = manifest_in(folder_, listed);
    if (!trust.empty()) {
        check_signatures(folder_, manifest_, trust);
    }
    check_files(folder_, listed, manifest_);
}

Bytes Bundle::read(const std::string& name) const {
    const auto entry = manifest_.files.find(name);
    if (entry == manifest_.files.end()) {
        refuse("the bundle has no " + shown(name));
    }
    Bytes data = folder_.read(name, entry->second.bytes);
    if (sha256_hex({reinterpret_cast<const char*>(data.data()), data.size()}) != entry->second.sha256) {
        refuse_changed(name);
    }
    return data;
}

}  // namespace figkd
