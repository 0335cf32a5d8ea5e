// Runs a model through the C interface: BUNDLE INPUTS IMAGES LOGITS: the file of inputs, how many it holds, and where
// their logits are written.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "figkd_runtime.h"

int main(int count, char** arguments) {
    if (count != 5) {
        return 2;
    }
    figkd_error error;
    figkd_model* model = nullptr;
    figkd_status status = figkd_open(arguments[1], FIGKD_UNSIGNED, 0, &model, &error);
    if (status == FIGKD_OK) {
        std::ifstream file(arguments[2], std::ios::binary);
        const std::string inputs((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        const std::size_t images = std::strtoul(arguments[3], nullptr, 10);
        const figkd_facts facts = figkd_describe(model);
        if (inputs.size() != images * facts.input_bytes) {
            return 3;
        }
        std::vector<float> logits(images * facts.classes);
        status = figkd_run(model, inputs.data(), images, logits.data(), &error);
        std::ofstream(arguments[4], std::ios::binary)
            .write(reinterpret_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.size() * 4));
    }
    figkd_close(model);
    std::printf("%s\n", status == FIGKD_OK ? "" : error.message);
    return status;
}
