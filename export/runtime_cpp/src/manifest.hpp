// `manifest.json`: what a bundle is and what lies in it. Read with strict bounds; its digest is the release id.
// Format 1 has one engine, format 2 a list.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace figkd {

inline constexpr const char* kManifest = "manifest.json";
inline constexpr std::uint64_t kMostManifestBytes = 1u << 20;
inline constexpr std::size_t kMostFiles = 4096;

// A file as it was when the bundle was made.
struct FileEntry {
    std::string sha256;
    std::uint64_t bytes;
};

// The machine that an engine runs on; empty where any does.
struct Needs {
    std::string architecture;                     // as `uname -m` says
    std::vector<std::string> compute_capability;  // of the GPU, such as SM87; any of these
    std::string l4t;
    std::map<std::string, std::string> versions;  // package to the very version
    std::vector<std::string> cpu_features;        // as /proc/cpuinfo lists them; any of these
};

// An engine: its file, whose it is, how it is run, and where.
struct EngineEntry {
    std::string file;
    std::string backend;  // onnxruntime, tensorrt, tensorrt_rtx
    std::string precision;
    int threads;  // CPU threads with which it was measured; 0: all that the process may use
    Needs needs;
    std::string name;     // in messages; empty in format 1
    std::string answers;  // folder of its golden answers; empty: where format 1 has them

    // Where a file with its answers lies, by where format 1 has it.
    std::string place(const std::string& usual) const;
};

struct Manifest {
    std::string name;
    std::string target;
    std::string channel;
    std::uint64_t sequence;
    std::string created;
    std::string verdict;
    std::uint64_t runtime;
    std::vector<EngineEntry> engines;  // at least one; a machine takes the first that fits it
    std::vector<std::string> licences;
    std::map<std::string, FileEntry> files;  // every file but the manifest, by its path
    std::string release;                     // SHA-256 (hex) of the manifest's bytes
};

// The manifest in these bytes. Throws Error(refused).
Manifest parse_manifest(std::string_view data);

}  // namespace figkd
