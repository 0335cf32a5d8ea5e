// What an engine would see of images. The argument is a preprocess.json; each line of stdin is the path of an image, a tab
// and the path where the input is written. Prints a line for each: a status and a message.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "error.hpp"
#include "image.hpp"
#include "preprocess.hpp"

namespace {

std::string content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_input(const figkd::Preprocessing& preprocessing, const std::string& encoded, const std::string& path) {
    const figkd::Pixels image = figkd::decode_image(
        reinterpret_cast<const unsigned char*>(encoded.data()), encoded.size(), preprocessing.side,
        preprocessing.levels);
    figkd::Bytes input(preprocessing.bytes());
    preprocessing.input(preprocessing.view(image), input.data());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        return 2;
    }
    try {
        const figkd::Preprocessing preprocessing = figkd::parse_preprocessing(content_of(arguments[1]));
        for (std::string line; std::getline(std::cin, line);) {
            const std::size_t tab = line.find('\t');
            try {
                write_input(preprocessing, content_of(line.substr(0, tab)), line.substr(tab + 1));
                std::printf("0 \n");
            } catch (const figkd::Error& error) {
                std::printf("%d %s\n", static_cast<int>(error.code), error.what());
            }
        }
    } catch (const figkd::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return static_cast<int>(error.code);
    }
    return 0;
}
