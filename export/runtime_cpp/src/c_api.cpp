#include <cstring>
#include <memory>
#include <string>

#include "decoders.hpp"
#include "guard.hpp"
#include "image.hpp"
#include "model.hpp"
#include "self_test.hpp"

struct figkd_model {
    figkd::Model model;
};

namespace {

using figkd::require_argument;

figkd::Bundle open_bundle(const char* folder, const char* trust) {
    require_argument(folder, "folder");
    require_argument(trust, "trust");
    if (*trust == '\0') {
        throw figkd::Error(
            figkd::Code::wrong_use, "no trust was given", "give a file, or FIGKD_UNSIGNED to take any bundle");
    }
    return figkd::Bundle(folder, std::strcmp(trust, FIGKD_UNSIGNED) == 0 ? "" : trust);
}

void classify_view(
    figkd::Model& model, const figkd::Pixels& view, std::size_t top, figkd_answer* answers, std::size_t* count) {
    const auto logits = model.logits(view);
    *count = 0;
    for (const auto& answer : figkd::best_of(logits.data(), logits.size(), top)) {
        answers[(*count)++] = {model.labels()[answer.index].c_str(), answer.index, answer.probability};
    }
}

figkd::Pixels pixels_of(const std::uint8_t* data, std::size_t width, std::size_t height, std::size_t stride) {
    figkd::check_pixels(width, height, figkd::kMostPixels);
    const std::size_t line = width * 3;
    if (stride != 0 && stride < line) {
        throw figkd::Error(figkd::Code::wrong_use, "stride is less than a row of pixels has bytes");
    }
    figkd::Pixels image{width, height, figkd::Bytes(line * height)};
    for (std::size_t y = 0; y < height; ++y) {
        std::memcpy(image.data.data() + y * line, data + y * (stride != 0 ? stride : line), line);
    }
    return image;
}

}  // namespace

const char* figkd_build_info(void) {
    static const std::string info = std::string("figkd " FIGKD_VERSION "; ") + FIGKD_BACKENDS + "; " + figkd::image_formats();
    return info.c_str();
}

figkd_status figkd_verify(const char* folder, const char* trust, char release[65], figkd_error* error) {
    return figkd::guarded(error, [&] {
        const figkd::Bundle bundle = open_bundle(folder, trust);
        if (release != nullptr) {
            std::memcpy(release, bundle.manifest().release.c_str(), 65);
        }
    });
}

figkd_status figkd_open(const char* folder, const char* trust, int threads, figkd_model** model, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        *model = nullptr;
        *model = new figkd_model{{open_bundle(folder, trust), threads}};
    });
}

void figkd_close(figkd_model* model) { delete model; }

figkd_facts figkd_describe(const figkd_model* model) {
    const figkd::Manifest& manifest = model->model.manifest();
    const figkd::Preprocessing& preprocessing = model->model.preprocessing();
    return {
        manifest.name.c_str(),
        manifest.target.c_str(),
        manifest.release.c_str(),
        manifest.verdict.c_str(),
        model->model.entry().backend.c_str(),
        model->model.entry().precision.c_str(),
        model->model.labels().size(),
        preprocessing.size,
        preprocessing.bytes(),
    };
}

const char* figkd_label(const figkd_model* model, size_t index) {
    const auto& labels = model->model.labels();
    return index < labels.size() ? labels[index].c_str() : nullptr;
}

figkd_status figkd_classify(
    figkd_model* model, const void* encoded, size_t bytes, size_t top, figkd_answer* answers, size_t* count,
    figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        require_argument(encoded, "encoded");
        require_argument(answers, "answers");
        require_argument(count, "count");
        const auto view = model->model.view(static_cast<const unsigned char*>(encoded), bytes);
        classify_view(model->model, view, top, answers, count);
    });
}

figkd_status figkd_classify_file(
    figkd_model* model, const char* path, size_t top, figkd_answer* answers, size_t* count, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        require_argument(path, "path");
        require_argument(answers, "answers");
        require_argument(count, "count");
        const figkd::Bytes encoded = figkd::read_image(path);
        classify_view(model->model, model->model.view(encoded.data(), encoded.size()), top, answers, count);
    });
}

figkd_status figkd_classify_rgb(
    figkd_model* model, const uint8_t* pixels, size_t width, size_t height, size_t stride, size_t top,
    figkd_answer* answers, size_t* count, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        require_argument(pixels, "pixels");
        require_argument(answers, "answers");
        require_argument(count, "count");
        const auto view = model->model.preprocessing().view(pixels_of(pixels, width, height, stride));
        classify_view(model->model, view, top, answers, count);
    });
}

figkd_status figkd_view(
    const figkd_model* model, const void* encoded, size_t bytes, uint8_t* view, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        require_argument(encoded, "encoded");
        require_argument(view, "view");
        const auto seen = model->model.view(static_cast<const unsigned char*>(encoded), bytes);
        std::memcpy(view, seen.data.data(), seen.data.size());
    });
}

figkd_status figkd_run(figkd_model* model, const void* inputs, size_t images, float* logits, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        require_argument(inputs, "inputs");
        require_argument(logits, "logits");
        model->model.run(static_cast<const unsigned char*>(inputs), images, logits);
    });
}

figkd_status figkd_self_test(figkd_model* model, figkd_self_test_result* result, figkd_error* error) {
    return figkd::guarded(error, [&] {
        require_argument(model, "model");
        const figkd::SelfTest found = figkd::self_test(model->model);
        if (result != nullptr) {
            *result = {found.inputs,       found.max_abs_logit, found.allowed_logit, found.images,
                       found.images_exact, found.max_abs_pixel, found.allowed_pixel, found.latency_ms};
        }
        if (const std::string faults = found.faults(); !faults.empty()) {
            throw figkd::Error(figkd::Code::failed, "self-test failed: " + faults, "do not use it on this machine");
        }
    });
}
