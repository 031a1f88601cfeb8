/* A double of the CUDA driver's C interface, for machines without a GPU: built as libcuda.so.1 by the tests.

   "Device" memory is host memory, copies copy, streams and graphs run at once and in order. It keeps a log of calls and
   the live objects of each kind, checks what the driver would (live handles, a current context, no synchronisation of a
   stream that is being captured), and fails the call that a test asks for. A graph holds what was queued while it was
   captured: copies, and the runs that a double of TensorRT's context queues through test_queue.

   Control: test_fail(function, nth call from now, error, mode), where mode is 0 for that call alone, 1 for every call of
   any function after it (a sticky error), 2 for this function from then on; test_log(), test_reset(), test_live(kind),
   test_forget(), test_integrated(0 or 1), test_devices(count), test_capturing(stream), test_queue(stream, function,
   argument), test_depth() of the context stack. Signatures: CUDA driver API 13.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef struct object *handle;
#define API __attribute__((visibility("default")))

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900 };
enum kind { CONTEXT, DEVICE_MEMORY, HOST_MEMORY, STREAM, GRAPH, GRAPH_EXEC, EVENT, KINDS };

struct work { int copy; void *to; const void *from; size_t size; void (*run)(void *); void *argument; };
struct object { enum kind kind; void *memory; int live, capturing; double at; struct work *work; int count; struct object *next; };

static pthread_mutex_t lock;
static struct object *objects, *primary;
static int initialized, retained, integrated, devices = 1, sticky, log_length;
static char *log_text;
static struct { char name[64]; int nth, error, mode; } failing;
static __thread struct object *stack[64];
static __thread int depth;

__attribute__((constructor)) static void prepare(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &kind);
}

static struct object *made(enum kind kind) {
    struct object *one = calloc(1, sizeof *one);
    one->kind = kind; one->live = 1; one->next = objects;
    return objects = one;
}

static struct object *found(const void *key, enum kind kind) {
    for (struct object *one = objects; one; one = one->next)
        if (one->live && one->kind == kind && ((const void *)one == key || one->memory == key)) return one;
    return NULL;
}

/* Note a call, and give the error that it must return. */
static CUresult begin(const char *name) {
    int size = strlen(name) + 2;
    log_text = realloc(log_text, log_length + size);
    log_length += sprintf(log_text + log_length, "%s\n", name);
    if (sticky) return sticky;
    if (!strcmp(failing.name, name) && --failing.nth == 0) {
        if (failing.mode == 1) sticky = failing.error;
        if (failing.mode == 2) failing.nth = 1; else failing.name[0] = 0;
        return failing.error;
    }
    return OK;
}

#define BEGIN(name) pthread_mutex_lock(&lock); CUresult status = begin(name); do {
#define END } while (0); pthread_mutex_unlock(&lock); return status
#define GIVE(error) { status = (error); break; }
#define NEED_CONTEXT if (status) break; if (!depth || !stack[depth - 1] || !stack[depth - 1]->live) GIVE(INVALID_CONTEXT)

/* -------------------------------------------------------------------------------- control, for tests */
API void test_fail(const char *name, int nth, int error, int mode) {
    snprintf(failing.name, sizeof failing.name, "%s", name);
    failing.nth = nth; failing.error = error; failing.mode = mode;
}
API const char *test_log(void) { return log_text ? log_text : ""; }
API void test_reset(void) { log_length = 0; if (log_text) log_text[0] = 0; failing.name[0] = 0; sticky = 0; }
API void test_integrated(int yes) { integrated = yes; }
API void test_devices(int count) { devices = count; }
API int test_live(int kind) {
    int count = 0;
    if (kind == CONTEXT) return retained;
    for (struct object *one = objects; one; one = one->next) count += one->live && (int)one->kind == kind;
    return count;
}
API void test_forget(void) { /* what a failing free or a lost context left */
    for (struct object *one = objects; one; one = one->next) if (one->kind != CONTEXT) one->live = 0;
    depth = 0;
}
API int test_capturing(void *stream) { struct object *one = found(stream, STREAM); return one && one->capturing; }
API int test_depth(void) { return depth; }

static void run(struct work *one) { if (one->copy) memcpy(one->to, one->from, one->size); else one->run(one->argument); }

/* Queue work on a stream: recorded while it is captured, else run at once. Called without the lock: a run may be Python,
   which waits for its own. */
static CUresult queue(const char *name, void *stream, void *exec, struct work one) {
    struct work *now = &one;
    int count = 1;
    struct object *on = NULL, *graph = NULL;
    BEGIN(name) NEED_CONTEXT
    on = found(stream, STREAM);
    graph = exec ? found(exec, GRAPH_EXEC) : NULL;
    if (!on || (exec && !graph)) GIVE(INVALID_HANDLE)
    if (graph) { now = graph->work; count = graph->count; }
    if (on->capturing) {
        on->work = realloc(on->work, (on->count + count) * sizeof one);
        memcpy(on->work + on->count, now, count * sizeof one);
        on->count += count;
        count = 0;
    }
    } while (0); pthread_mutex_unlock(&lock);
    for (int i = 0; !status && i < count; i++) run(&now[i]);
    return status;
}
API int test_queue(void *stream, void (*function)(void *), void *argument) {
    return queue("kernel", stream, NULL, (struct work){0, NULL, NULL, 0, function, argument});
}

/* -------------------------------------------------------------------------------- initialisation, device, context */
API CUresult cuInit(unsigned flags) { BEGIN("cuInit") if (!status) initialized = 1; END; }
API CUresult cuDriverGetVersion(int *version) { *version = 13000; return OK; }
API CUresult cuDeviceGetCount(int *count) { BEGIN("cuDeviceGetCount") *count = devices; END; }
API CUresult cuDeviceGet(int *device, int ordinal) {
    BEGIN("cuDeviceGet")
    if (status) break;
    if (!initialized) GIVE(NOT_INITIALIZED)
    if (ordinal < 0 || ordinal >= devices) GIVE(INVALID_DEVICE)
    *device = ordinal;
    END;
}
API CUresult cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "double %d", device); return OK; }
API CUresult cuDeviceTotalMem_v2(size_t *size, int device) { *size = (size_t)8 << 30; return OK; }
API CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN("cuDeviceGetAttribute")
    *value = attribute == 16 ? 8 : attribute == 18 ? integrated : attribute == 75 ? 8 : attribute == 76 ? 7 : 1;
    END;
}
API CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    BEGIN("cuDevicePrimaryCtxRetain")
    if (status) break;
    if (!primary) primary = made(CONTEXT);
    primary->live = 1; retained++; *context = primary;
    END;
}
API CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    BEGIN("cuDevicePrimaryCtxRelease")
    if (!retained) GIVE(INVALID_CONTEXT)
    if (!--retained) primary->live = 0;
    END;
}
API CUresult cuCtxPushCurrent_v2(void *context) {
    BEGIN("cuCtxPushCurrent")
    if (sticky) status = OK; /* as below */
    if (status) break;
    if (!found(context, CONTEXT) || depth == 64) GIVE(INVALID_CONTEXT)
    stack[depth++] = context;
    END;
}
API CUresult cuCtxPopCurrent_v2(void **context) {
    BEGIN("cuCtxPopCurrent")
    status = OK; /* the stack is the host's own: assumed to work in a lost context too */
    if (!depth) GIVE(INVALID_CONTEXT)
    depth--;
    if (context) *context = stack[depth];
    END;
}
API CUresult cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }
API CUresult cuCtxDetach(void *context) { return OK; }
API CUresult cuCtxGetDevice(int *device) { *device = 0; return OK; }

/* -------------------------------------------------------------------------------- memory */
API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    BEGIN("cuMemAlloc") NEED_CONTEXT
    if (!size) GIVE(INVALID_VALUE)
    struct object *one = made(DEVICE_MEMORY);
    one->memory = malloc(size);
    memset(one->memory, 0xA5, size); /* as the GPU's: whatever was there */
    *address = (CUdeviceptr)(uintptr_t)one->memory;
    END;
}
API CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    BEGIN("cuMemHostAlloc") NEED_CONTEXT
    if (!size) GIVE(INVALID_VALUE)
    struct object *one = made(HOST_MEMORY);
    one->memory = malloc(size);
    memset(one->memory, 0xA5, size);
    *address = one->memory;
    END;
}
static CUresult gone(const char *name, void *key, enum kind kind) {
    BEGIN(name) NEED_CONTEXT
    struct object *one = found(key, kind);
    if (!one) GIVE(INVALID_VALUE)
    if (one->memory) memset(one->memory, 0xDD, 1); /* kept: addresses must not come twice */
    one->live = 0;
    END;
}
API CUresult cuMemFree_v2(CUdeviceptr address) { return gone("cuMemFree", (void *)(uintptr_t)address, DEVICE_MEMORY); }
API CUresult cuMemFreeHost(void *address) { return gone("cuMemFreeHost", address, HOST_MEMORY); }
API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *host, unsigned flags) {
    BEGIN("cuMemHostGetDevicePointer") NEED_CONTEXT
    if (!found(host, HOST_MEMORY)) GIVE(INVALID_VALUE)
    *address = (CUdeviceptr)(uintptr_t)host;
    END;
}
API CUresult cuMemGetInfo_v2(size_t *left, size_t *all) { *left = *all = (size_t)8 << 30; return OK; }

static CUresult copy(const char *name, void *to, const void *from, size_t size, void *stream) {
    return queue(name, stream, NULL, (struct work){1, to, from, size, NULL, NULL});
}
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *stream) {
    return copy("cuMemcpyHtoDAsync", (void *)(uintptr_t)to, from, size, stream);
}
API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *stream) {
    return copy("cuMemcpyDtoHAsync", to, (void *)(uintptr_t)from, size, stream);
}

/* -------------------------------------------------------------------------------- streams and graphs */
API CUresult cuStreamCreate(void **stream, unsigned flags) {
    BEGIN("cuStreamCreate") NEED_CONTEXT
    *stream = made(STREAM);
    END;
}
API CUresult cuStreamDestroy_v2(void *stream) { return gone("cuStreamDestroy", stream, STREAM); }
API CUresult cuStreamSynchronize(void *stream) {
    BEGIN("cuStreamSynchronize") NEED_CONTEXT
    struct object *one = found(stream, STREAM);
    if (!one) GIVE(INVALID_HANDLE)
    if (one->capturing) GIVE(CAPTURE_UNSUPPORTED)
    END;
}
API CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
    BEGIN("cuStreamBeginCapture") NEED_CONTEXT
    struct object *one = found(stream, STREAM);
    if (!one || one->capturing) GIVE(INVALID_HANDLE)
    one->capturing = 1; one->work = NULL; one->count = 0;
    END;
}
API CUresult cuStreamEndCapture(void *stream, void **graph) {
    BEGIN("cuStreamEndCapture")
    struct object *one = found(stream, STREAM);
    if (!one || !one->capturing) GIVE(INVALID_HANDLE)
    one->capturing = 0; /* also when it fails, as the driver does */
    *graph = NULL;
    if (status) break;
    struct object *made_graph = made(GRAPH);
    made_graph->work = one->work; made_graph->count = one->count;
    *graph = made_graph;
    END;
}
API CUresult cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    BEGIN("cuGraphInstantiate") NEED_CONTEXT
    struct object *one = found(graph, GRAPH);
    if (!one) GIVE(INVALID_HANDLE)
    struct object *ready = made(GRAPH_EXEC);
    ready->work = one->work; ready->count = one->count;
    *exec = ready;
    END;
}
API CUresult cuGraphLaunch(void *exec, void *stream) {
    return queue("cuGraphLaunch", stream, exec, (struct work){0});
}
API CUresult cuGraphExecDestroy(void *exec) { return gone("cuGraphExecDestroy", exec, GRAPH_EXEC); }
API CUresult cuGraphDestroy(void *graph) { return gone("cuGraphDestroy", graph, GRAPH); }

/* -------------------------------------------------------------------------------- events: work runs when it is queued */
API CUresult cuEventCreate(void **event, unsigned flags) {
    BEGIN("cuEventCreate") NEED_CONTEXT
    *event = made(EVENT);
    END;
}
API CUresult cuEventDestroy_v2(void *event) { return gone("cuEventDestroy", event, EVENT); }
API CUresult cuEventRecord(void *event, void *stream) {
    BEGIN("cuEventRecord") NEED_CONTEXT
    struct object *one = found(event, EVENT), *on = found(stream, STREAM);
    struct timespec now;
    if (!one || !on || on->capturing) GIVE(INVALID_HANDLE)
    clock_gettime(CLOCK_MONOTONIC, &now);
    one->at = 1e3 * now.tv_sec + now.tv_nsec / 1e6;
    END;
}
API CUresult cuEventElapsedTime(float *milliseconds, void *begin_event, void *end_event) {
    BEGIN("cuEventElapsedTime") NEED_CONTEXT
    struct object *first = found(begin_event, EVENT), *last = found(end_event, EVENT);
    if (!first || !last || !first->at || !last->at) GIVE(INVALID_HANDLE)
    *milliseconds = last->at - first->at;
    END;
}

/* -------------------------------------------------------------------------------- errors and the table of functions */
API CUresult cuGetErrorName(CUresult error, const char **name) { *name = "CUDA_ERROR"; return OK; }
API CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == 2 ? "out of memory" : error == 3 ? "initialization error" : error == 101 ? "invalid device ordinal"
          : error == 201 ? "invalid device context" : error == 400 ? "invalid resource handle"
          : error == 700 ? "an illegal memory access was encountered" : error == 719 ? "unspecified launch failure"
          : error == 900 ? "operation not permitted when stream is capturing" : "another error";
    return OK;
}
API CUresult cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *state) {
    static const char *const suffixes[] = {"_v2", "WithFlags", ""};
    char full[128];
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s%s", name, suffixes[i]);
        if ((*address = dlsym(RTLD_DEFAULT, full)) || (*address = dlsym(RTLD_NEXT, full))) break;
    }
    if (!*address) { /* opened without RTLD_GLOBAL: look in this library itself */
        Dl_info self;
        void *library = dladdr((void *)cuGetErrorString, &self) ? dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
        for (int i = 0; library && i < 3 && !*address; i++) {
            snprintf(full, sizeof full, "%s%s", name, suffixes[i]);
            *address = dlsym(library, full);
        }
    }
    if (state) *state = *address ? 0 : 1;
    return *address ? OK : NOT_FOUND;
}
API CUresult cuGetProcAddress(const char *name, void **address, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, address, version, flags, NULL);
}
