// The back ends; each is compiled only where its headers are found.
#pragma once

#include "engine.hpp"

namespace figkd {

std::unique_ptr<Engine> load_onnxruntime(const Bytes& data, int threads);
std::unique_ptr<Engine> load_tensorrt(const Bytes& data);

// Throw Error(cannot_run) where the library or the GPU here is another than the engine's.
void require_onnxruntime(const Needs& needs);
void require_tensorrt(const Needs& needs);

// Throws Error(cannot_run): the engine is for another machine than this.
[[noreturn]] void refuse_machine(const std::string& wanted, const std::string& found);

// The same where the engine needs another version of a package than the one that is here.
void check_version(const Needs& needs, const std::string& package, const std::string& version);

}  // namespace figkd
