// Reads manifests from stdin, each behind its size in 4 bytes (little endian), and prints a line for each: `ok` and the
// release id, or `refused`. Whatever else happens ends the program.
#include <cstdint>
#include <cstdio>
#include <string>

#include "error.hpp"
#include "manifest.hpp"
#include "text.hpp"

namespace {

bool read_exactly(void* out, std::size_t size) { return std::fread(out, 1, size, stdin) == size; }

int print_hidden_points() {
    for (char32_t point = 0; point <= 0x10FFFF; ++point) {
        std::putchar(figkd::printable(point) ? '1' : '0');
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 2 && std::string(arguments[1]) == "--printable") {
        return print_hidden_points();
    }
    unsigned char head[4];
    while (read_exactly(head, sizeof head)) {
        const std::uint32_t size = head[0] | head[1] << 8 | head[2] << 16 | static_cast<std::uint32_t>(head[3]) << 24;
        std::string data(size, '\0');
        if (!read_exactly(data.data(), size)) {
            return 2;
        }
        try {
            std::printf("ok %s\n", figkd::parse_manifest(data).release.c_str());
        } catch (const figkd::Error& error) {
            if (error.code != figkd::Code::refused || std::string(error.what()).empty()) {
                return 3;
            }
            std::printf("refused\n");
        }
    }
    return 0;
}
