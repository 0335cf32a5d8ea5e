// What runs a network; one file a back end.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "folder.hpp"
#include "manifest.hpp"
#include "preprocess.hpp"

namespace figkd {

// An engine that is loaded. Calls must not overlap.
class Engine {
public:
    virtual ~Engine() = default;

    virtual Dtype dtype() const = 0;
    virtual const std::vector<std::size_t>& shape() const = 0;  // of one input, without the batch
    virtual std::size_t classes() const = 0;

    // Logits of `count` inputs, into count x classes() numbers; any count. Throws Error(cannot_run).
    virtual void run(const unsigned char* inputs, std::size_t count, float* logits) = 0;
};

// The first engine of a bundle that fits this machine and this library. Throws Error(cannot_run), which says of each
// why it does not.
const EngineEntry& choose(const Manifest& manifest);

// The engine in these bytes, run as its entry says; `threads`: CPU threads, 0 for the entry's number.
// Throws Error(cannot_run) where its back end was not compiled in, or this machine lacks what it needs.
std::unique_ptr<Engine> load_engine(const EngineEntry& entry, const Bytes& data, int threads);

// CPU cores that this process may use.
int usable_cores();

}  // namespace figkd
