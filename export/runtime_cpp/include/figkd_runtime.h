/* The C interface of the runtime: a bundle is checked, loaded and run.
 *
 * No exception crosses it. Each function that can fail returns a status and, where `error` is not NULL, writes one message
 * into it. Texts are UTF-8 and end with a zero byte. What is returned by pointer belongs to the model and lives as long.
 * A status is also the exit code of the program `figkd`.
 */
#ifndef FIGKD_RUNTIME_H
#define FIGKD_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#if defined(FIGKD_BUILDING)
#define FIGKD_API __attribute__((visibility("default")))
#else
#define FIGKD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define FIGKD_MESSAGE_BYTES 512

typedef enum figkd_status {
    FIGKD_OK = 0,
    FIGKD_FAILED = 1,     /* the engine runs, and does not answer as it did where it was measured */
    FIGKD_WRONG_USE = 2,  /* wrong arguments, or an image that cannot be read */
    FIGKD_CANNOT_RUN = 4, /* the bundle is right, and this machine lacks what it needs */
    FIGKD_REFUSED = 6     /* the bundle is not what it says, or nobody who is trusted signed it */
} figkd_status;

typedef struct figkd_error {
    char message[FIGKD_MESSAGE_BYTES];
} figkd_error;

/* The choice to take a bundle whoever made it; given as `trust`. */
#define FIGKD_UNSIGNED "unsigned"

/* What this library was compiled with, such as "figkd 1; onnxruntime; no tensorrt; jpeg; png". */
FIGKD_API const char* figkd_build_info(void);

/* Check a whole bundle: its manifest, every file, and who signed it.
 *
 * folder   of the bundle; it may be reached through a link, nothing in it may be one
 * trust    path of the file that says whose signatures count, or FIGKD_UNSIGNED
 * release  where the release id is written, or NULL
 */
FIGKD_API figkd_status figkd_verify(const char* folder, const char* trust, char release[65], figkd_error* error);

#ifdef __cplusplus
}
#endif

#endif
