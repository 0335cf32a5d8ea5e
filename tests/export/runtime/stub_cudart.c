/* A libcudart for tests: "device" memory is host memory, work is done at once, a graph remembers nothing.
   It exists to check what is passed to the real one: types, pointers, order, and that everything is freed. */
#include <stdlib.h>
#include <string.h>

static int live = 0, clock_us = 0;
int stub_live(void) { return live; }
static int take(void **out, size_t size) { *out = malloc(size); live++; return *out ? 0 : 2; }
static int give(void *what) { if (!what) return 1; free(what); live--; return 0; }

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return device == 0 ? 0 : 101;
}
int cudaGetDeviceProperties(void *properties, int device) { strcpy(properties, "Stub GPU"); return device ? 101 : 0; }
int cudaRuntimeGetVersion(int *version) { *version = 12060; return 0; }
int cudaMalloc(void **out, size_t size) { return size > (1ul << 32) ? 2 : take(out, size); }
int cudaFree(void *what) { return give(what); }
int cudaMallocHost(void **out, size_t size) { return take(out, size); }
int cudaFreeHost(void *what) { return give(what); }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if ((kind != 1 && kind != 2) || !stream) return 1;
    memcpy(to, from, size);
    clock_us += 100;
    return 0;
}
int cudaStreamCreateWithFlags(void **out, unsigned flags) { return flags == 1 ? take(out, 8) : 1; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 1; }
int cudaStreamDestroy(void *stream) { return give(stream); }
int cudaEventCreateWithFlags(void **out, unsigned flags) { return flags == 0 ? take(out, sizeof(int)) : 1; }
int cudaEventRecord(void *event, void *stream) { *(int *)event = clock_us; return stream ? 0 : 1; }
int cudaEventSynchronize(void *event) { return event ? 0 : 1; }
int cudaEventElapsedTime(float *ms, void *first, void *second) {
    *ms = (*(int *)second - *(int *)first) / 1000.0f;
    return 0;
}
int cudaEventDestroy(void *event) { return give(event); }
int cudaStreamBeginCapture(void *stream, int mode) { return stream && mode == 1 ? 0 : 1; }
int cudaStreamEndCapture(void *stream, void **graph) { return stream ? take(graph, 8) : 1; }
int cudaGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
    return graph && flags == 0 ? take(out, 8) : 1;
}
int cudaGraphLaunch(void *executable, void *stream) { clock_us += 2000; return executable && stream ? 0 : 1; }
int cudaGraphDestroy(void *graph) { return give(graph); }
int cudaGraphExecDestroy(void *executable) { return give(executable); }
int cudaGetLastError(void) { return 0; }
const char *cudaGetErrorString(int status) { return status == 2 ? "out of memory" : "invalid argument"; }
const char *cudaGetErrorName(int status) { return status == 2 ? "cudaErrorMemoryAllocation" : "cudaErrorInvalidValue"; }
