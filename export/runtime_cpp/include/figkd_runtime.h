/* The C interface of the runtime: a bundle is checked, loaded and run.
 *
 * No exception crosses it. Each function that can fail returns a status and, where `error` is not NULL, writes one message
 * into it. Texts are UTF-8 and end with a zero byte. What is returned by pointer belongs to the model and lives as long.
 * Functions of one model may be called from several threads at once. A status is also the exit code of the program
 * `figkd`.
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

/* What this library was compiled with: version, back ends, image formats. */
FIGKD_API const char* figkd_build_info(void);

/* Check a whole bundle: its manifest, every file, and who signed it.
 *
 * folder   of the bundle; it may be reached through a link, nothing in it may be one
 * trust    path of the file that says whose signatures count, or FIGKD_UNSIGNED
 * release  where the release id is written, or NULL
 */
FIGKD_API figkd_status figkd_verify(const char* folder, const char* trust, char release[65], figkd_error* error);

/* A bundle that is loaded. */
typedef struct figkd_model figkd_model;

/* Check a bundle and load its engine from the very bytes that were checked.
 *
 * threads  CPU threads of ONNX Runtime; 0: as many as the bundle was measured with
 * model    where the model is written; NULL after a failure
 */
FIGKD_API figkd_status figkd_open(
    const char* folder, const char* trust, int threads, figkd_model** model, figkd_error* error);

/* Free a model; NULL is allowed. No other call of it may be running. */
FIGKD_API void figkd_close(figkd_model* model);

typedef struct figkd_facts {
    const char* name;
    const char* target;
    const char* release;   /* id: SHA-256 (hex) of the manifest */
    const char* verdict;   /* `ship`, or why the run's verdict was another */
    const char* backend;
    const char* precision;
    size_t classes;
    size_t size;           /* height and width of what the engine sees, pixels */
    size_t input_bytes;    /* of one input: uint8 [size, size, 3], or float32 [3, size, size] */
} figkd_facts;

FIGKD_API figkd_facts figkd_describe(const figkd_model* model);

/* The name of a class; NULL beyond the last. */
FIGKD_API const char* figkd_label(const figkd_model* model, size_t index);

typedef struct figkd_answer {
    const char* label;
    size_t index;
    double probability;
} figkd_answer;

/* Classify a JPEG, PNG or PPM file's content.
 *
 * answers  room for `top` of them: the most probable classes, the best first
 * count    how many were written: `top`, or the number of classes where that is less
 */
FIGKD_API figkd_status figkd_classify(
    figkd_model* model, const void* encoded, size_t bytes, size_t top, figkd_answer* answers, size_t* count,
    figkd_error* error);

/* The same for a file. */
FIGKD_API figkd_status figkd_classify_file(
    figkd_model* model, const char* path, size_t top, figkd_answer* answers, size_t* count, figkd_error* error);

/* Classify pixels: 8-bit RGB, upright, rows from the top, `stride` bytes from one to the next (0: without gaps). */
FIGKD_API figkd_status figkd_classify_rgb(
    figkd_model* model, const uint8_t* pixels, size_t width, size_t height, size_t stride, size_t top,
    figkd_answer* answers, size_t* count, figkd_error* error);

/* What the engine sees of a file's content: size x size x 3 bytes, RGB. */
FIGKD_API figkd_status figkd_view(
    const figkd_model* model, const void* encoded, size_t bytes, uint8_t* view, figkd_error* error);

/* Logits of `images` inputs that are prepared already, into images x classes numbers. */
FIGKD_API figkd_status figkd_run(
    figkd_model* model, const void* inputs, size_t images, float* logits, figkd_error* error);

typedef struct figkd_self_test_result {
    size_t inputs;         /* golden inputs that were answered */
    double max_abs_logit;  /* largest difference of a logit */
    double allowed_logit;
    size_t images;         /* golden images that were decoded */
    size_t images_exact;   /* of these, with the very pixels; PNG has to be */
    int max_abs_pixel;     /* largest difference of a pixel */
    int allowed_pixel;     /* of a JPEG, which another decoder decoded where the bundle was made */
    double latency_ms;     /* median of one image, preprocessing not included */
} figkd_self_test_result;

/* Compare answers and pixels with the golden ones. FIGKD_FAILED: `error` says what differs, and `result` how much. */
FIGKD_API figkd_status figkd_self_test(figkd_model* model, figkd_self_test_result* result, figkd_error* error);

#ifdef __cplusplus
}
#endif

#endif
