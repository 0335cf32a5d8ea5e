#include "engines.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <thread>

#include "error.hpp"

namespace figkd {
namespace {

// Release of NVIDIA's board support package, such as `36.4`; empty where there is none.
std::string l4t_release() {
    std::string line;
    std::getline(std::ifstream("/etc/nv_tegra_release"), line);
    static const std::regex pattern("^# R([0-9]{1,4}) \\(release\\), REVISION: ([0-9.]{1,20})");
    std::smatch found;
    return std::regex_search(line, found, pattern) ? found[1].str() + "." + found[2].str() : "";
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
}

[[noreturn]] void missing(const std::string& backend) {
    throw Error(
        Code::cannot_run, "this library was compiled without the back end " + backend,
        "compile it where the headers of " + backend + " are found");
}

}  // namespace

void refuse_machine(const std::string& wanted, const std::string& found) {
    throw Error(
        Code::cannot_run, "the engine is for " + wanted + ", " + found,
        "take the bundle that was made for this machine");
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

std::unique_ptr<Engine> load_engine(const Manifest& manifest, const Bytes& data, int threads) {
    check_machine(manifest.needs);
    const int chosen = threads > 0 ? threads : manifest.engine.threads > 0 ? manifest.engine.threads : usable_cores();
#ifdef FIGKD_ONNXRUNTIME
    if (manifest.engine.backend == "onnxruntime") {
        return load_onnxruntime(manifest, data, chosen);
    }
#endif
#ifdef FIGKD_TENSORRT
    if (manifest.engine.backend == FIGKD_TENSORRT) {
        return load_tensorrt(manifest, data);
    }
#endif
    static_cast<void>(data);
    static_cast<void>(chosen);
    missing(manifest.engine.backend);
}

}  // namespace figkd
