#include "model.hpp"

#include <utility>

#include "error.hpp"
#include "image.hpp"

namespace figkd {
namespace {

std::string_view text_of(const Bytes& data) { return {reinterpret_cast<const char*>(data.data()), data.size()}; }

constexpr std::uint64_t kRuntime = 1;  // version of the layout that this library reads

}  // namespace

Model::Model(Bundle bundle, int threads) : bundle_(std::move(bundle)) {
    if (manifest().runtime != kRuntime) {
        throw Error(
            Code::cannot_run, "the bundle needs runtime " + std::to_string(manifest().runtime) + ", this one is 1",
            "take a version of this library that reads it");
    }
    labels_ = parse_labels(text_of(bundle_.read("labels.json")));
    preprocessing_ = parse_preprocessing(text_of(bundle_.read("preprocess.json")));
    entry_ = &choose(manifest());
    engine_ = load_engine(*entry_, bundle_.read(entry_->file), threads);
    const std::size_t size = preprocessing_.size;
    const std::vector<std::size_t> shape = preprocessing_.dtype == Dtype::uint8
                                               ? std::vector<std::size_t>{size, size, 3}
                                               : std::vector<std::size_t>{3, size, size};
    if (engine_->dtype() != preprocessing_.dtype || engine_->shape() != shape) {
        refuse("the engine takes other inputs than preprocess.json describes");
    }
    if (engine_->classes() != labels_.size()) {
        refuse(
            "the engine has " + std::to_string(engine_->classes()) + " classes, labels.json names " +
            std::to_string(labels_.size()));
    }
}

Pixels Model::view(const unsigned char* encoded, std::size_t size) const {
    return preprocessing_.view(decode_image(encoded, size, preprocessing_.side, preprocessing_.levels));
}

void Model::run(const unsigned char* inputs, std::size_t count, float* logits) {
    if (count == 0) {
        throw Error(Code::wrong_use, "no images were given", "give at least one");
    }
    const std::lock_guard<std::mutex> lock(running_);
    engine_->run(inputs, count, logits);
}

std::vector<float> Model::logits(const Pixels& view) {
    Bytes input(preprocessing_.bytes());
    preprocessing_.input(view, input.data());
    std::vector<float> found(labels_.size());
    run(input.data(), 1, found.data());
    return found;
}

}  // namespace figkd
