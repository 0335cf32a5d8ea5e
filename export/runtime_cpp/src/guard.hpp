// The border between C++ and C: what is thrown becomes a status and a message.
#pragma once

#include <cstdio>
#include <new>

#include "error.hpp"
#include "figkd_runtime.h"

namespace figkd {

inline figkd_status report(figkd_error* error, Code code, const char* message) {
    if (error != nullptr) {
        std::snprintf(error->message, sizeof error->message, "%s", message);
    }
    return static_cast<figkd_status>(code);
}

template <typename Action>
figkd_status guarded(figkd_error* error, const Action& action) noexcept {
    if (error != nullptr) {
        error->message[0] = '\0';
    }
    try {
        action();
        return FIGKD_OK;
    } catch (const Error& found) {
        return report(error, found.code, found.what());
    } catch (const std::bad_alloc&) {
        return report(error, Code::cannot_run, "there is not enough memory");
    } catch (const std::exception& found) {
        return report(error, Code::cannot_run, found.what());
    } catch (...) {
        return report(error, Code::cannot_run, "a library failed without saying why");
    }
}

template <typename Pointer>
void require_argument(Pointer pointer, const char* name) {
    if (pointer == nullptr) {
        throw Error(Code::wrong_use, std::string("the argument ") + name + " is NULL");
    }
}

}  // namespace figkd
