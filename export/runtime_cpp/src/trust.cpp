#include "trust.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>

#include "digest.hpp"
#include "dsse.hpp"
#include "ecdsa.hpp"
#include "error.hpp"
#include "names.hpp"
#include "strict_json.hpp"
#include "text.hpp"

namespace figkd {
namespace {

using Json = nlohmann::json;

constexpr const char* kFile = "trust.json";
constexpr const char* kFix = "take the file that the maker of the bundles gave you, or make one with figkd-pipeline key trust";
constexpr std::size_t kMostBytes = 1u << 20;
constexpr std::size_t kMostKeys = 100;
constexpr std::size_t kMostSignatures = 64;

[[noreturn]] void refuse_trust(const std::string& what) { refuse(std::string(kFile) + what, kFix); }

// A list of different texts.
bool are_texts(const Json& value) {
    if (!value.is_array() || value.size() > kMostKeys) {
        return false;
    }
    std::set<std::string> known;
    return std::all_of(value.begin(), value.end(), [&](const Json& each) {
        return each.is_string() && each.get_ref<const std::string&>().size() <= 200 &&
               known.insert(each.get<std::string>()).second;
    });
}

bool is_time(const std::string& text) {
    constexpr std::string_view kPattern = "0000-00-00T00:00:00Z";
    return text.size() == kPattern.size() &&
           std::equal(text.begin(), text.end(), kPattern.begin(), [](char letter, char wanted) {
               return wanted == '0' ? letter >= '0' && letter <= '9' : letter == wanted;
           });
}

Key key_of(const std::string& keyid, const Json& value) {
    const bool whole = value.is_object() && value.size() == 3 && value.contains("pem") && value["pem"].is_string() &&
                       value.contains("channels") && are_texts(value["channels"]) && value.contains("not_after") &&
                       value["not_after"].is_string();
    if (!whole) {
        refuse_trust(": the key " + shown(keyid) + " is none");
    }
    Key key{
        key_bytes(value["pem"].get_ref<const std::string&>()), value["channels"].get<std::vector<std::string>>(),
        value["not_after"].get<std::string>()};
    const bool words = std::all_of(key.channels.begin(), key.channels.end(), [](const std::string& channel) {
        return is_word(channel) && channel.size() <= 100;
    });
    if (!words || (!key.not_after.empty() && !is_time(key.not_after))) {
        refuse_trust(": the key " + shown(keyid) + " is none");
    }
    if (sha256_hex(key.der) != keyid) {
        refuse_trust(": a key is listed as " + shown(keyid) + ", and is " + sha256_hex(key.der));
    }
    return key;
}

bool is_whole(const Json& value) { return value.is_number_unsigned() && value >= 1; }

std::string utc() {
    const std::time_t now = std::time(nullptr);
    std::tm parts = {};
    char text[32] = "";
    if (::gmtime_r(&now, &parts) == nullptr || std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        throw Error(Code::cannot_run, "this machine's clock cannot be read");
    }
    return text;
}

// Why a key does not count; empty if it does.
std::string fault_of(const Trust& trust, const std::string& keyid, const std::string& channel, const std::string& when) {
    const auto key = trust.keys.find(keyid);
    if (trust.revoked.count(keyid) != 0) {
        return "is revoked";
    }
    if (key == trust.keys.end()) {
        return "is of nobody who is trusted";
    }
    const auto& channels = key->second.channels;
    if (!channels.empty() && std::find(channels.begin(), channels.end(), channel) == channels.end()) {
        return "may not sign for the channel " + channel;
    }
    if (!key->second.not_after.empty() && key->second.not_after < when) {
        return "expired at " + key->second.not_after;
    }
    return "";
}

std::string owner_of(const Trust& trust, const Envelope& envelope) {
    const std::string message = envelope.message();
    for (const auto& [keyid, key] : trust.keys) {
        if (signed_by(key.der, envelope.signature, message)) {
            return keyid;
        }
    }
    return "";
}

// A signature file, and what is in it.
struct Signed {
    std::string name;
    Envelope envelope;
};

// The signature files of keys that count, one a key; `why` gets the reasons of the others.
std::map<std::string, Signed> counted(
    const std::map<std::string, std::string>& signatures, const Trust& trust, const Manifest& manifest,
    std::string& why) {
    const std::string when = std::max(utc(), manifest.created);
    std::map<std::string, Signed> good;
    for (const auto& [name, data] : signatures) {
        try {
            const Envelope envelope = parse_envelope(data, name);
            const std::string owner = owner_of(trust, envelope);
            const std::string fault = fault_of(trust, owner, manifest.channel, when);
            if (fault.empty()) {
                good.emplace(owner, Signed{name, envelope});
            } else {
                why += "; " + name + " " + fault;
            }
        } catch (const Error& error) {
            if (error.code != Code::refused) {
                throw;
            }
            why += std::string("; ") + error.what();
        }
    }
    return good;
}

bool is_signature_of(const std::string& base, const std::string& name) {
    constexpr std::size_t kId = 8;
    return name.size() == base.size() + kId + 5 && name.compare(0, base.size() + 1, base + ".") == 0 &&
           name.compare(name.size() - 4, 4, ".sig") == 0 &&
           name.find_first_not_of("0123456789abcdef", base.size() + 1) == name.size() - 4;
}

// The bytes of the signature files beside a bundle's folder, by name.
std::map<std::string, std::string> signatures_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string base = path.substr(slash + 1);
    const Folder parent(slash == 0 ? "/" : path.substr(0, slash));
    std::vector<std::string> names = parent.names();
    names.erase(
        std::remove_if(names.begin(), names.end(), [&](const auto& name) { return !is_signature_of(base, name); }),
        names.end());
    if (names.size() > kMostSignatures) {
        refuse("there are more than " + std::to_string(kMostSignatures) + " signatures of " + shown(base));
    }
    std::map<std::string, std::string> found;
    for (const std::string& name : names) {
        const std::uint64_t size = parent.size_of(name);
        if (size > kMostSignatureBytes) {
            refuse(shown(name) + " has more than " + std::to_string(kMostSignatureBytes) + " bytes");
        }
        const Bytes data = parent.read(name, size);
        found.emplace(name, std::string(data.begin(), data.end()));
    }
    return found;
}

std::string content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string data(kMostBytes + 1, '\0');
    if (!file.read(data.data(), static_cast<std::streamsize>(data.size())) && !file.eof()) {
        throw Error(Code::wrong_use, shown(path) + " cannot be read: " + std::strerror(errno), "give a trust.json");
    }
    data.resize(static_cast<std::size_t>(file.gcount()));
    return data;
}

}  // namespace

Trust parse_trust(std::string_view data) {
    const Json found = read_strict(data, kFile, kMostBytes);
    const bool whole = found.is_object() && found.size() == 5 && found.contains("format") &&
                       is_whole(found["format"]) && found["format"] == 1 && found.contains("version") && found.contains("threshold") && found.contains("keys") &&
                       found.contains("revoked");
    if (!whole) {
        refuse_trust(" is none, or of another version of the format");
    }
    const Json& keys = found["keys"];
    if (!keys.is_object() || keys.empty() || keys.size() > kMostKeys || !are_texts(found["revoked"])) {
        refuse_trust(" lists no keys, or too many");
    }
    Trust trust;
    trust.revoked = found["revoked"].get<std::set<std::string>>();
    std::uint64_t usable = 0;
    for (const auto& item : keys.items()) {
        trust.keys[item.key()] = key_of(item.key(), item.value());
        usable += trust.revoked.count(item.key()) == 0 ? 1 : 0;
    }
    if (!is_whole(found["version"]) || !is_whole(found["threshold"]) || found["threshold"] > usable) {
        refuse_trust(" asks for more signatures than it has keys, which are " + std::to_string(usable));
    }
    trust.version = found["version"].get<std::uint64_t>();
    trust.threshold = found["threshold"].get<std::uint64_t>();
    return trust;
}

void check_signatures(const Folder& folder, const Manifest& manifest, const std::string& path) {
    const Trust trust = parse_trust(content_of(path));
    std::string why;
    const auto good = counted(signatures_of(folder.path()), trust, manifest, why);
    if (good.size() < trust.threshold) {
        refuse(
            "the bundle has " + std::to_string(good.size()) + " of the " + std::to_string(trust.threshold) +
                " signatures that " + kFile + " asks for" + why,
            "have it signed: figkd-pipeline bundle sign BUNDLE --key KEY.pem");
    }
    for (const auto& item : good) {
        check_statement(item.second.envelope, manifest, item.second.name);
    }
}

}  // namespace figkd
