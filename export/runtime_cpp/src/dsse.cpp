#include "dsse.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "digest.hpp"
#include "ecdsa.hpp"
#include "error.hpp"
#include "strict_json.hpp"
#include "text.hpp"

namespace figkd {
namespace {

using Json = nlohmann::json;
using Digests = std::map<std::string, std::string>;

constexpr const char* kMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr const char* kPayloadType = "application/vnd.in-toto+json";
constexpr const char* kStatement = "https://in-toto.io/Statement/v1";
constexpr const char* kPredicate = "https://model_signing/signature/v1.0";

std::set<std::string> keys_of(const Json& value) {
    std::set<std::string> keys;
    for (const auto& item : value.items()) {
        keys.insert(item.key());
    }
    return keys;
}

bool has_exactly(const Json& value, const std::set<std::string>& wanted) {
    return value.is_object() && keys_of(value) == wanted;
}

bool has_only(const Json& value, const std::set<std::string>& allowed) {
    const auto keys = value.is_object() ? keys_of(value) : std::set<std::string>{""};
    return std::includes(allowed.begin(), allowed.end(), keys.begin(), keys.end());
}

std::string decoded(const Json& value, const std::string& name) {
    std::string bytes;
    if (!value.is_string() || !decode_base64(value.get_ref<const std::string&>(), bytes)) {
        refuse(name + ": a text in it is not base64");
    }
    return bytes;
}

// By the parts of the paths, as the reference implementation sorts.
bool before(const std::string& one, const std::string& two) {
    const auto lower = [](char letter) { return letter == '/' ? 0 : static_cast<unsigned char>(letter) + 1; };
    return std::lexicographical_compare(
        one.begin(), one.end(), two.begin(), two.end(),
        [&](char left, char right) { return lower(left) < lower(right); });
}

std::string root_of(const Digests& digests) {
    std::vector<std::string> names;
    for (const auto& item : digests) {
        names.push_back(item.first);
    }
    std::sort(names.begin(), names.end(), before);
    std::string bytes;
    for (const std::string& name : names) {
        const std::string& hex = digests.at(name);
        for (std::size_t at = 0; at < hex.size(); at += 2) {
            bytes += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
        }
    }
    return sha256_hex(bytes);
}

Digests digests_of(const Manifest& manifest) {
    Digests digests = {{kManifest, manifest.release}};
    for (const auto& [name, entry] : manifest.files) {
        digests[name] = entry.sha256;
    }
    return digests;
}

Digests told_by(const Json& resources, const std::string& name) {
    Digests told;
    for (const Json& each : resources) {
        const std::string algorithm = each.at("algorithm").get<std::string>();
        if (!told.emplace(each.at("name").get<std::string>(), each.at("digest").get<std::string>()).second ||
            algorithm != "sha256") {
            refuse(name + " names a file twice, or by another hash than SHA-256");
        }
    }
    return told;
}

void compare(const Digests& told, const Digests& wanted, const std::string& name) {
    for (const auto& item : told) {
        if (wanted.count(item.first) == 0) {
            refuse(name + " is of other files: " + shown(item.first) + ", which is not in the bundle");
        }
    }
    for (const auto& [path, digest] : wanted) {
        const auto found = told.find(path);
        if (found == told.end()) {
            refuse(name + " is of other files: " + shown(path) + ", which it does not sign");
        }
        if (found->second != digest) {
            refuse(name + " signs another " + path + " than the bundle's");
        }
    }
}

}  // namespace

std::string Envelope::message() const {
    return "DSSEv1 " + std::to_string(payload_type.size()) + " " + payload_type + " " +
           std::to_string(payload.size()) + " " + payload;
}

Envelope parse_envelope(std::string_view data, const std::string& name) {
    const Json found = read_strict(data, name, kMostSignatureBytes);
    if (!has_exactly(found, {"mediaType", "verificationMaterial", "dsseEnvelope"})) {
        refuse(name + " is no signed envelope");
    }
    if (found["mediaType"] != kMediaType) {
        refuse(name + ": mediaType is of another kind");
    }
    const Json& material = found["verificationMaterial"];
    if (!has_only(material, {"publicKey", "tlogEntries", "timestampVerificationData"}) ||
        !material.contains("publicKey")) {
        refuse(name + " was not made with a key of its signer", "sign with a key");
    }
    const Json& envelope = found["dsseEnvelope"];
    if (!has_exactly(envelope, {"payload", "payloadType", "signatures"})) {
        refuse(name + " is no signed envelope: dsseEnvelope");
    }
    const Json& signatures = envelope["signatures"];
    if (!signatures.is_array() || signatures.size() != 1) {
        refuse(name + " holds other than one signature", "give each signer a file");
    }
    if (!has_only(signatures[0], {"sig", "keyid"}) || !envelope["payloadType"].is_string()) {
        refuse(name + " is no signed envelope");
    }
    return {
        envelope["payloadType"].get<std::string>(), decoded(envelope["payload"], name),
        decoded(signatures[0].value("sig", Json()), name)};
}

void check_statement(const Envelope& envelope, const Manifest& manifest, const std::string& name) {
    const Json found = read_strict(envelope.payload, "what " + name + " signs", kMostSignatureBytes);
    try {
        const Json& subjects = found.at("subject");
        const Json& predicate = found.at("predicate");
        const Json& how = predicate.at("serialization");
        const bool known = envelope.payload_type == kPayloadType && found.at("_type") == kStatement &&
                           found.at("predicateType") == kPredicate && how.at("method") == "files" &&
                           how.at("hash_type") == "sha256";
        if (!known) {
            refuse(name + " signs in a way that is not read here");
        }
        if (!subjects.is_array() || subjects.size() != 1 || !predicate.at("resources").is_array()) {
            refuse(name + " signs no model");
        }
        const Digests wanted = digests_of(manifest);
        compare(told_by(predicate.at("resources"), name), wanted, name);
        if (subjects[0].at("digest").at("sha256") != root_of(wanted)) {
            refuse(name + " contradicts itself: the root digest is another");
        }
    } catch (const Json::exception&) {  // a key that is not there, a value of another type
        refuse(name + " signs no model");
    }
}

}  // namespace figkd
