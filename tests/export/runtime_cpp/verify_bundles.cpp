// Checks the bundle at each line of stdin through the C interface, and prints its status and release id or message.
#include <cstdio>
#include <iostream>
#include <string>

#include "figkd_runtime.h"

int main(int count, char** arguments) {
    const char* trust = count > 1 ? arguments[1] : FIGKD_UNSIGNED;
    for (std::string folder; std::getline(std::cin, folder);) {
        char release[65] = "";
        figkd_error error;
        const figkd_status status = figkd_verify(folder.c_str(), trust, release, &error);
        std::printf("%d %s\n", static_cast<int>(status), status == FIGKD_OK ? release : error.message);
        std::fflush(stdout);
    }
    return 0;
}
