// What can go wrong; the codes are those of the C interface and of the programs.
#pragma once

#include <stdexcept>
#include <string>

namespace figkd {

enum class Code : int {
    failed = 1,      // the engine runs, and does not answer as it did where it was measured
    wrong_use = 2,   // wrong arguments, or an image that cannot be read
    cannot_run = 4,  // the bundle is right, and this machine lacks what it needs
    refused = 6,     // the bundle is not what it says, or nobody who is trusted signed it
};

// One message; the remedy, where there is one, in brackets at its end.
class Error : public std::runtime_error {
public:
    Error(Code kind, const std::string& what, const std::string& fix = "")
        : std::runtime_error(fix.empty() ? what : what + " (" + fix + ")"), code(kind), sentence(what) {}

    const Code code;
    const std::string sentence;  // without the remedy
};

[[noreturn]] inline void refuse(
    const std::string& what, const std::string& fix = "take a copy that is complete, or make the bundle again") {
    throw Error(Code::refused, what, fix);
}

}  // namespace figkd
