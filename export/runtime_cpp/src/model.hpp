// A bundle that is loaded: from an image to a class.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "engine.hpp"
#include "labels.hpp"
#include "preprocess.hpp"

namespace figkd {

// Calls may come from several threads; the engine runs one at a time.
class Model {
public:
    // Throws Error: as Bundle and load_engine; `threads`: CPU threads, 0 for the manifest's number.
    Model(Bundle bundle, int threads);

    const Manifest& manifest() const { return bundle_.manifest(); }
    const Bundle& bundle() const { return bundle_; }
    const std::vector<std::string>& labels() const { return labels_; }
    const EngineEntry& entry() const { return *entry_; }
    const Preprocessing& preprocessing() const { return preprocessing_; }

    // What the engine sees of an encoded image. Throws Error(wrong_use).
    Pixels view(const unsigned char* encoded, std::size_t size) const;

    // Logits of `count` inputs of preprocessing().bytes() bytes, into count x labels().size() numbers.
    void run(const unsigned char* inputs, std::size_t count, float* logits);

    // Logits of a view.
    std::vector<float> logits(const Pixels& view);

private:
    Bundle bundle_;
    const EngineEntry* entry_;  // of the bundle's manifest
    std::vector<std::string> labels_;
    Preprocessing preprocessing_;
    std::unique_ptr<Engine> engine_;
    std::mutex running_;
};

}  // namespace figkd
