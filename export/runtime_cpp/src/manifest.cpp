#include "manifest.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "canonical.hpp"
#include "digest.hpp"
#include "error.hpp"
#include "names.hpp"
#include "text.hpp"

namespace figkd {
namespace {

constexpr std::size_t kMostEngines = 32;
constexpr std::size_t kMostItems = 100;
constexpr int kMostThreads = 4096;
constexpr const char* kAgain = "take a version of this program that reads it, or make the bundle again";

using Fits = std::function<bool(const Json&)>;
using Fields = std::vector<std::pair<std::string, Fits>>;

bool matches(std::string_view text, std::string_view pattern) {  // 0: a digit; anything else: itself
    return text.size() == pattern.size() &&
           std::equal(text.begin(), text.end(), pattern.begin(), [](char letter, char wanted) {
               return wanted == '0' ? letter >= '0' && letter <= '9' : letter == wanted;
           });
}

bool is_text(const Json& value) { return value.is_string() && printable(value.get_ref<const std::string&>(), 200); }

bool is_short_word(const Json& value) {
    return value.is_string() && value.get_ref<const std::string&>().size() <= 100 &&
           is_word(value.get_ref<const std::string&>());
}

bool is_count(const Json& value) { return value.is_number_unsigned(); }

bool is_any(const Json&) { return true; }

bool is_time(const Json& value) {
    return value.is_string() && matches(value.get_ref<const std::string&>(), "0000-00-00T00:00:00Z");
}

bool is_sha256(const Json& value) {
    return value.is_string() && value.get_ref<const std::string&>().size() == 64 &&
           value.get_ref<const std::string&>().find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_capability(const Json& value) {
    if (!value.is_string()) {
        return false;
    }
    const auto& text = value.get_ref<const std::string&>();
    return text.size() >= 3 && text.size() <= 6 && matches(text, std::string("SM0000").substr(0, text.size()));
}

bool is_backend(const Json& value) { return value == "onnxruntime" || value == "tensorrt" || value == "tensorrt_rtx"; }

Fits list_of(const Fits& each) {
    return [each](const Json& value) {
        return value.is_array() && value.size() <= kMostItems && std::all_of(value.begin(), value.end(), each);
    };
}

bool is_mapping(const Json& value) {
    if (!value.is_object() || value.size() > kMostItems) {
        return false;
    }
    const auto& items = value.get_ref<const Json::object_t&>();
    return std::all_of(
        items.begin(), items.end(), [](const auto& item) { return is_short_word(item.first) && is_text(item.second); });
}

bool is_format(const Json& value) { return value == 1 || value == 2; }

bool is_engines(const Json& value) {
    return value.is_array() && !value.empty() && value.size() <= kMostEngines;
}

Fields joined(Fields one, const Fields& other) {
    one.insert(one.end(), other.begin(), other.end());
    return one;
}

const Fields& common_fields() {
    static const Fields fields = {
        {"format", is_format},
        {"name", is_short_word},
        {"target", is_short_word},
        {"channel", is_short_word},
        {"sequence", is_count},
        {"created", is_time},
        {"verdict", is_text},
        {"runtime", is_count},
        {"licences", list_of(is_text)},
        {"files", [](const Json& value) { return value.is_object() && value.size() <= kMostFiles; }},
    };
    return fields;
}

const Fields& engine_fields() {
    static const Fields fields = {
        {"file",
         [](const Json& value) {
             return value.is_string() && fault_of_name(value.get_ref<const std::string&>()).empty();
         }},
        {"backend", is_backend},
        {"precision", is_short_word},
        {"threads", [](const Json& value) { return is_count(value) && value <= kMostThreads; }},
    };
    return fields;
}

const Fields& needs_fields() {
    static const Fields fields = {
        {"architecture", [](const Json& value) { return value == "" || is_short_word(value); }},
        {"compute_capability", list_of(is_capability)},
        {"l4t", is_text},
        {"versions", is_mapping},
    };
    return fields;
}

const Fields& top_fields(bool one) {
    static const Fields first = joined(common_fields(), {{"engine", is_any}, {"needs", is_any}});
    static const Fields second = joined(
        common_fields(),
        {{"engines", is_engines}, {"counts", [](const Json& value) { return value == 0 || value == 1; }}});
    return one ? first : second;
}

// Of an engine in a list.
const Fields& named_fields() {
    static const Fields fields = joined(
        engine_fields(), {
                             {"name", is_short_word},
                             {"answers",
                              [](const Json& value) {
                                  return value == "" ||
                                         (value.is_string() && fault_of_name(value.get_ref<const std::string&>()).empty());
                              }},
                             {"needs", is_any},
                         });
    return fields;
}

const Fields& machine_fields() {
    static const Fields fields = joined(needs_fields(), {{"cpu_features", list_of(is_short_word)}});
    return fields;
}

const Fields& file_fields() {
    static const Fields fields = {{"sha256", is_sha256}, {"bytes", is_count}};
    return fields;
}

// A value that is an object of exactly these fields, each of which fits.
const Json& checked(const Json& value, const Fields& fields, const std::string& where) {
    const std::string prefix = std::string(kManifest) + ": ";
    if (!value.is_object()) {
        refuse(prefix + where.substr(0, where.size() - 1) + " is no object");
    }
    for (const auto& [name, fits] : fields) {
        const auto found = value.find(name);
        if (found == value.end()) {
            refuse(prefix + where + name + " is missing");
        }
        if (!fits(*found)) {
            refuse(prefix + where + name + " is " + (found->is_structured() ? "not what it must be" : shown(found->dump())));
        }
    }
    for (const auto& item : value.items()) {
        if (std::none_of(fields.begin(), fields.end(), [&](const auto& field) { return field.first == item.key(); })) {
            refuse(prefix + where + shown(item.key()) + " is unknown");
        }
    }
    return value;
}

std::map<std::string, FileEntry> files_of(const Json& found) {
    std::map<std::string, FileEntry> files;
    std::vector<std::string> names = {kManifest};
    for (const auto& item : found.items()) {
        if (const std::string fault = fault_of_name(item.key()); !fault.empty()) {
            refuse(std::string(kManifest) + " names " + shown(item.key()) + ", which " + fault);
        }
        const Json& entry = checked(item.value(), file_fields(), "files." + item.key() + ".");
        files[item.key()] = {entry["sha256"].get<std::string>(), entry["bytes"].get<std::uint64_t>()};
        names.push_back(item.key());
    }
    if (const std::string fault = fault_of_names(names); !fault.empty()) {
        refuse(std::string(kManifest) + ": " + fault);
    }
    return files;
}

Needs needs_of(const Json& found, const Fields& fields, const std::string& where) {
    const Json& needs = checked(found, fields, where);
    return {
        needs["architecture"].get<std::string>(), needs["compute_capability"].get<std::vector<std::string>>(),
        needs["l4t"].get<std::string>(), needs["versions"].get<std::map<std::string, std::string>>(),
        needs.value("cpu_features", std::vector<std::string>())};
}

EngineEntry engine_of(const Json& engine, Needs needs) {
    return {
        engine["file"].get<std::string>(), engine["backend"].get<std::string>(),
        engine["precision"].get<std::string>(), engine["threads"].get<int>(),
        std::move(needs), engine.value("name", ""), engine.value("answers", "")};
}

std::vector<EngineEntry> engines_of(const Json& found) {
    if (found["format"] == 1) {
        const Json& engine = checked(found["engine"], engine_fields(), "engine.");
        return {engine_of(engine, needs_of(found["needs"], needs_fields(), "needs."))};
    }
    std::vector<EngineEntry> engines;
    std::set<std::string> names;
    std::set<std::string> files;
    for (const Json& value : found["engines"]) {
        const std::string where = "engines." + std::to_string(engines.size()) + ".";
        const Json& engine = checked(value, named_fields(), where);
        engines.push_back(engine_of(engine, needs_of(engine["needs"], machine_fields(), where + "needs.")));
        if (!names.insert(engines.back().name).second || !files.insert(engines.back().file).second) {
            refuse(std::string(kManifest) + ": two engines have the same name or file");
        }
    }
    return engines;
}

}  // namespace

std::string EngineEntry::place(const std::string& usual) const {
    return answers.empty() ? usual : answers + usual.substr(usual.rfind('/'));
}

Manifest parse_manifest(std::string_view data) {
    if (data.size() > kMostManifestBytes) {
        refuse(std::string(kManifest) + " has more than " + std::to_string(kMostManifestBytes) + " bytes");
    }
    const Json found = decode_canonical(data, kManifest);
    if (!found.is_object() || !is_format(found.value("format", Json()))) {
        refuse(std::string(kManifest) + " is of another version of the format", kAgain);
    }
    checked(found, top_fields(found["format"] == 1), "");
    Manifest manifest;
    manifest.files = files_of(found["files"]);
    manifest.name = found["name"].get<std::string>();
    manifest.target = found["target"].get<std::string>();
    manifest.channel = found["channel"].get<std::string>();
    manifest.sequence = found["sequence"].get<std::uint64_t>();
    manifest.created = found["created"].get<std::string>();
    manifest.verdict = found["verdict"].get<std::string>();
    manifest.runtime = found["runtime"].get<std::uint64_t>();
    manifest.engines = engines_of(found);
    manifest.licences = found["licences"].get<std::vector<std::string>>();
    for (const EngineEntry& engine : manifest.engines) {
        for (const std::string& name : {engine.file, engine.file + ".json"}) {
            if (manifest.files.count(name) == 0) {
                refuse(std::string(kManifest) + " lists no " + name);
            }
        }
    }
    manifest.release = sha256_hex(data);
    return manifest;
}

}  // namespace figkd
