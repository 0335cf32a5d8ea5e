// Reads documents from stdin, each behind its size in 4 bytes (little endian), and prints a line for each: `ok` and what
// was understood, or `refused`. Whatever else happens ends the program. The argument says what they are: manifest, trust
// or envelope.
#include <cstdint>
#include <cstdio>
#include <string>

#include "digest.hpp"
#include "dsse.hpp"
#include "error.hpp"
#include "manifest.hpp"
#include "text.hpp"
#include "trust.hpp"

namespace {

bool read_exactly(void* out, std::size_t size) { return std::fread(out, 1, size, stdin) == size; }

int print_hidden_points() {
    for (char32_t point = 0; point <= 0x10FFFF; ++point) {
        std::putchar(figkd::printable(point) ? '1' : '0');
    }
    return 0;
}

std::string understood(const std::string& kind, const std::string& data) {
    if (kind == "trust") {
        const figkd::Trust trust = figkd::parse_trust(data);
        return std::to_string(trust.version) + " " + std::to_string(trust.threshold) + " " +
               std::to_string(trust.keys.size()) + " " + std::to_string(trust.revoked.size());
    }
    if (kind == "envelope") {
        const figkd::Envelope envelope = figkd::parse_envelope(data, "it");
        return figkd::sha256_hex(envelope.message()) + " " + figkd::sha256_hex(envelope.signature);
    }
    return figkd::parse_manifest(data).release;
}

}  // namespace

int main(int count, char** arguments) {
    const std::string kind = count == 2 ? arguments[1] : "";
    if (kind == "printable") {
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
            std::printf("ok %s\n", understood(kind, data).c_str());
        } catch (const figkd::Error& error) {
            if (error.code != figkd::Code::refused || std::string(error.what()).empty()) {
                return 3;
            }
            std::printf("refused\n");
        }
    }
    return 0;
}
