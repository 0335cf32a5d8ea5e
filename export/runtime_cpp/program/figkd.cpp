// figkd: checks a bundle, and classifies images with it. It uses the C interface only.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "figkd_runtime.h"

namespace {

constexpr const char* kUsage =
    "usage: figkd verify BUNDLE (--trust FILE | --unsigned)\n"
    "       figkd self-test BUNDLE (--trust FILE | --unsigned)\n"
    "       figkd info BUNDLE (--trust FILE | --unsigned)\n"
    "       figkd classify BUNDLE IMAGE... (--trust FILE | --unsigned) [--top N] [--threads N]\n"
    "       figkd --version\n";

struct Options {
    std::string command;
    std::string bundle;
    std::vector<std::string> images;
    std::string trust;
    int top = 1;
    int threads = 0;
};

// A text without what a terminal would act on.
std::string plain(std::string text) {
    for (char& letter : text) {
        letter = (letter >= 0 && letter < ' ') || letter == 0x7F ? '?' : letter;
    }
    return text;
}

int usage(const char* problem, const std::string& which = "") {
    std::fprintf(stderr, "error: %s%s\n%s", problem, plain(which).c_str(), kUsage);
    return FIGKD_WRONG_USE;
}

int fail(figkd_status status, const std::string& where, const figkd_error& error) {
    std::fprintf(stderr, "error: %s%s%s\n", plain(where).c_str(), where.empty() ? "" : ": ", plain(error.message).c_str());
    return status;
}

bool read_count(const char* text, int& value) {
    char* end = nullptr;
    const long found = std::strtol(text, &end, 10);
    value = static_cast<int>(found);
    return *text != '\0' && *end == '\0' && found >= 1 && found <= 1000000;
}

// False where the words are none that are understood; a message was printed.
bool read_options(int count, char** words, Options& options) {
    for (int at = 1; at < count; ++at) {
        const std::string word = words[at];
        const bool takes = word == "--trust" || word == "--top" || word == "--threads";
        if (takes && at + 1 == count) {
            return usage("a value is missing after ", word), false;
        }
        if (word == "--unsigned") {
            options.trust = FIGKD_UNSIGNED;
        } else if (word == "--trust") {
            options.trust = words[++at];
            if (options.trust == FIGKD_UNSIGNED) {  // a file of this name, not the choice
                options.trust = "./" + options.trust;
            }
        } else if (takes) {
            if (!read_count(words[++at], word == "--top" ? options.top : options.threads)) {
                return usage("no number of 1 or more: ", words[at]), false;
            }
        } else if (word.size() > 1 && word[0] == '-') {
            return usage("unknown option ", word), false;
        } else if (options.command.empty()) {
            options.command = word;
        } else if (options.bundle.empty()) {
            options.bundle = word;
        } else {
            options.images.push_back(word);
        }
    }
    const bool classifies = options.command == "classify";
    if (!classifies && options.command != "verify" && options.command != "info" && options.command != "self-test") {
        return usage("unknown command ", options.command), false;
    }
    if (options.bundle.empty() || options.images.empty() == classifies) {
        return usage(classifies ? "give a bundle and images" : "give one bundle"), false;
    }
    if (options.trust.empty()) {
        return usage("say whose signatures count: --trust FILE, or --unsigned to take any bundle"), false;
    }
    return true;
}

struct Close {
    void operator()(figkd_model* model) const { figkd_close(model); }
};
using Model = std::unique_ptr<figkd_model, Close>;

int open_model(const Options& options, Model& model) {
    figkd_model* opened = nullptr;
    figkd_error error;
    const figkd_status status =
        figkd_open(options.bundle.c_str(), options.trust.c_str(), options.threads, &opened, &error);
    model.reset(opened);
    return status == FIGKD_OK ? 0 : fail(status, "", error);
}

int verify(const Options& options) {
    char release[65];
    figkd_error error;
    const figkd_status status = figkd_verify(options.bundle.c_str(), options.trust.c_str(), release, &error);
    if (status != FIGKD_OK) {
        return fail(status, "", error);
    }
    std::printf("%s\n", release);
    return 0;
}

int info(const Options& options) {
    Model model;
    if (const int code = open_model(options, model)) {
        return code;
    }
    const figkd_facts facts = figkd_describe(model.get());
    std::printf("name       %s\ntarget     %s\nrelease    %s\n", facts.name, facts.target, facts.release);
    std::printf("verdict    %s\nengine     %s, %s\n", facts.verdict, facts.backend, facts.precision);
    std::printf("input      %zu x %zu pixels\nclasses    %zu\n", facts.size, facts.size, facts.classes);
    return 0;
}

int self_test(const Options& options) {
    Model model;
    if (const int code = open_model(options, model)) {
        return code;
    }
    figkd_error error;
    figkd_self_test_result found = {};
    const figkd_status status = figkd_self_test(model.get(), &found, &error);
    if (status == FIGKD_OK || status == FIGKD_FAILED) {
        std::printf("%zu golden inputs, largest difference of a logit %.3g (%.3g is allowed)\n", found.inputs,
                    found.max_abs_logit, found.allowed_logit);
        std::printf("%zu golden images, %zu with the very pixels, largest difference %d (%d is allowed for JPEG)\n",
                    found.images, found.images_exact, found.max_abs_pixel, found.allowed_pixel);
        std::printf("%.3g ms an image, preprocessing not included\n", found.latency_ms);
    }
    if (status != FIGKD_OK) {
        return fail(status, "", error);
    }
    std::printf("self-test passed\n");
    return 0;
}

int classify_file(figkd_model* model, const std::string& path, int top) {
    figkd_error error;
    std::vector<figkd_answer> answers(static_cast<std::size_t>(top));
    std::size_t count = 0;
    const figkd_status status =
        figkd_classify_file(model, path.c_str(), answers.size(), answers.data(), &count, &error);
    if (status != FIGKD_OK) {
        return fail(status, path, error);
    }
    std::printf("%s:", plain(path).c_str());
    for (std::size_t at = 0; at < count; ++at) {
        std::printf("%s %s %.1f %%", at > 0 ? "," : "", plain(answers[at].label).c_str(), 100 * answers[at].probability);
    }
    std::printf("\n");
    return 0;
}

int classify(const Options& options) {
    Model model;
    if (const int code = open_model(options, model)) {
        return code;
    }
    int worst = 0;
    for (const std::string& path : options.images) {  // one that cannot be read leaves the others alone
        const int code = classify_file(model.get(), path, options.top);
        worst = worst == 0 ? code : worst;
    }
    return worst;
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && std::strcmp(words[1], "--version") == 0) {
        std::printf("%s\n", figkd_build_info());
        return 0;
    }
    if (count == 2 && std::strcmp(words[1], "--help") == 0) {
        std::printf("%s", kUsage);
        return 0;
    }
    Options options;
    if (!read_options(count, words, options)) {
        return FIGKD_WRONG_USE;
    }
    return options.command == "verify"      ? verify(options)
           : options.command == "self-test" ? self_test(options)
           : options.command == "info"      ? info(options)
                                            : classify(options);
}
