#include "engines.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "error.hpp"

namespace figkd {
namespace {

constexpr const char* kOther = "take the bundle that was made for this machine";

// Release of NVIDIA's board support package, such as `36.4`; empty where there is none.
std::string l4t_release() {
    std::string line;
    std::getline(std::ifstream("/etc/nv_tegra_release"), line);
    static const std::regex pattern("^# R([0-9]{1,4}) \\(release\\), REVISION: ([0-9.]{1,20})");
    std::smatch found;
    return std::regex_search(line, found, pattern) ? found[1].str() + "." + found[2].str() : "";
}

// What the cores can all do, as the kernel lists it.
std::set<std::string> cpu_features() {
    std::ifstream file("/proc/cpuinfo");
    std::set<std::string> common;
    bool first = true;
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, 5, "flags") != 0 && line.compare(0, 8, "Features") != 0) {
            continue;
        }
        std::istringstream words(line.substr(std::min(line.find(':') + 1, line.size())));
        const std::set<std::string> here{std::istream_iterator<std::string>(words), {}};
        std::set<std::string> both;
        std::set_intersection(common.begin(), common.end(), here.begin(), here.end(), std::inserter(both, both.end()));
        common = first ? here : both;
        first = false;
    }
    return common;
}

void check_machine(const Needs& needs) {
    struct utsname machine = {};
    if (!needs.architecture.empty() && ::uname(&machine) == 0 && needs.architecture != machine.machine) {
        refuse_machine(needs.architecture, "this machine is " + std::string(machine.machine));
    }
    if (!needs.l4t.empty()) {
        const std::string release = l4t_release();
        if (needs.l4t != release) {
            refuse_machine("L4T " + needs.l4t, "here is " + (release.empty() ? "none" : release));
        }
    }
    if (!needs.cpu_features.empty()) {
        const std::set<std::string> here = cpu_features();
        std::string wanted;
        for (const std::string& feature : needs.cpu_features) {
            if (here.count(feature) != 0) {
                return;
            }
            wanted += (wanted.empty() ? "" : " or ") + feature;
        }
        refuse_machine("a CPU with " + wanted, "this one has none of it");
    }
}

[[noreturn]] void missing(const std::string& backend) {
    throw Error(
        Code::cannot_run, "this library was compiled without the back end " + backend,
        "compile it where the headers of " + backend + " are found");
}

void require(const EngineEntry& entry) {
    check_machine(entry.needs);
#ifdef FIGKD_ONNXRUNTIME
    if (entry.backend == "onnxruntime") {
        return require_onnxruntime(entry.needs);
    }
#endif
#ifdef FIGKD_TENSORRT
    if (entry.backend == FIGKD_TENSORRT) {
        return require_tensorrt(entry.needs);
    }
#endif
    missing(entry.backend);
}

}  // namespace

void refuse_machine(const std::string& wanted, const std::string& found) {
    throw Error(
        Code::cannot_run, "the engine is for " + wanted + ", " + found,
        kOther);
}

void check_version(const Needs& needs, const std::string& package, const std::string& version) {
    const auto wanted = needs.versions.find(package);
    if (wanted != needs.versions.end() && wanted->second != version) {
        refuse_machine(package + " " + wanted->second, "here is " + version);
    }
}

int usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        return CPU_COUNT(&set);
    }
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

const EngineEntry& choose(const Manifest& manifest) {
    std::string passed;
    for (const EngineEntry& entry : manifest.engines) {
        try {
            require(entry);
            return entry;
        } catch (const Error& error) {
            if (manifest.engines.size() == 1 || error.code != Code::cannot_run) {
                throw;
            }
            passed += (passed.empty() ? "" : "; ") + entry.name + ": " + error.sentence;
        }
    }
    throw Error(Code::cannot_run, "none of the bundle's engines fits this machine: " + passed, kOther);
}

std::unique_ptr<Engine> load_engine(const EngineEntry& entry, const Bytes& data, int threads) {
    const int chosen = threads > 0 ? threads : entry.threads > 0 ? entry.threads : usable_cores();
#ifdef FIGKD_ONNXRUNTIME
    if (entry.backend == "onnxruntime") {
        return load_onnxruntime(data, chosen);
    }
#endif
#ifdef FIGKD_TENSORRT
    if (entry.backend == FIGKD_TENSORRT) {
        return load_tensorrt(data);
    }
#endif
    static_cast<void>(data);
    static_cast<void>(chosen);
    missing(entry.backend);
}

}  // namespace figkd
