/* dray_task.h: a plugin for dray-worker.
 *
 * A plugin is a shared object that exports one symbol, `dray_plugin`: its name, its version and a table of
 * functions.  `dray-worker --plugin ./my.so` makes them callable from tasks.  This header is all that a plugin
 * needs: it includes nothing of Dray, links with nothing, and is C99 and C++11.
 *
 *     #include <dray_task.h>
 *
 *     static int add(struct dray_call *call)
 *     {
 *         uint64_t a, b;
 *
 *         if (dray_input_uint64(call, 0, 0, &a) != 0 || dray_input_uint64(call, 1, 0, &b) != 0) {
 *             return dray_fail(call, EINVAL, "add takes two numbers");
 *         }
 *         return dray_result_uint64(call, a + b);
 *     }
 *     static const struct dray_function functions[] = {{"add", add, 0, "the sum of two numbers"}};
 *     const struct dray_plugin dray_plugin = DRAY_PLUGIN("sums", "1.0", functions);
 *
 * Where it runs: in processes of its own, never in the worker.  Each thread of the worker has one process a plugin,
 * started when it is first needed and used again from call to call; calls come one after another, on the process's
 * main thread.  What a plugin keeps in global variables stays between the calls of one process, so results must
 * not depend on it (caches are fine).  A crash, an endless loop or a leak costs the attempt that caused it and the process;
 * calls that waited behind it run in a new one.  exit() counts as a crash.  Standard output and
 * standard error are kept (the last 4 KB) for the error of a call that fails; standard input is empty.
 *
 * Errors: functions of this header that can fail return 0 or a negative errno value, and change no output then.
 *
 * Lifetime: everything that comes with a call (argument, inputs, memory for the result) is valid until `run`
 * returns, and must not be used after.  All sizes are in bytes. */
#ifndef DRAY_TASK_H
#define DRAY_TASK_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- Arrow C Data Interface (https://arrow.apache.org/docs/format/CDataInterface.html) ------------ */

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

/* ---- the table that a plugin exports ------------------------------------------------------------- */

/* Raised when a change makes older plugins or workers unable to go together; a worker refuses others in words. */
#define DRAY_TASK_ABI 1

struct dray_call;

/* dray_function.flags */
enum {
    /* The function asks dray_cancelled() at least ten times a second and then returns.  When its task is cancelled it gets a
     * quarter of a second to do so, and its process lives on; without this flag the process is killed at once. */
    DRAY_POLLS = 1
};

struct dray_function {
    const char *name; /* as tasks call it: letters, digits, _ . and -, at most 255 */
    /* One task.  0: done, and its result is what dray_result_* has set last (nothing set: no bytes).  Anything else: failed,
     * by convention the value of dray_fail().  May be called for the same task several times, on
     * several workers (after a loss), and must give the same bytes each time. */
    int (*run)(struct dray_call *call);
    uint32_t flags;
    const char *help; /* one line for people; NULL: none */
};

struct dray_plugin {
    uint32_t abi;           /* DRAY_TASK_ABI */
    uint32_t function_size; /* sizeof(struct dray_function) */
    const char *name;       /* by which tasks call it; as dray_function.name */
    const char *version;    /* for people, at most 255 */
    const struct dray_function *function; /* must stay as it is */
    size_t functions;       /* 1 to 1,000 */
    /* Once a process, before the first call; NULL: nothing to do.  `call` has no inputs and no argument, and
     * serves for dray_fail().  Not 0: the process cannot be used, and the tasks that need it fail. */
    int (*init)(struct dray_call *call);
    /* Once a process that ends in peace, within half a second; NULL: nothing to do.  Not after a crash, a timeout or a cancelled
     * call. */
    void (*finish)(void);
};

/* The initialiser of a plugin without hooks, and of one with them. */
#define DRAY_PLUGIN_WITH(name, version, functions, init, finish)                                                       \
    {                                                                                                                  \
        DRAY_TASK_ABI, (uint32_t)sizeof(struct dray_function), name, version, functions,                               \
            sizeof(functions) / sizeof((functions)[0]), init, finish                                                   \
    }
#define DRAY_PLUGIN(name, version, functions) DRAY_PLUGIN_WITH(name, version, functions, NULL, NULL)

/* What a plugin defines.  (Declared here, so that it is visible with -fvisibility=hidden and has C's linkage in C++.) */
#if defined(__GNUC__)
extern __attribute__((visibility("default"))) const struct dray_plugin dray_plugin;
#else
extern const struct dray_plugin dray_plugin;
#endif

/* ---- a call ---------------------------------------------------------------------------------------------
 * Use the functions below; the members are here for them and may get successors behind. */

enum dray_kind {
    DRAY_KIND_BYTES = 1, /* opaque bytes; numbers and arrays are bytes of an agreed form */
    DRAY_KIND_TABLE = 2
};

struct dray_partition {
    enum dray_kind kind;
    const void *data; /* BYTES: aligned to 64; TABLE: not for the plugin */
    size_t size;
};

struct dray_input_list {
    size_t partitions;
    const struct dray_partition *partition;
};

/* What the process offers to a call. */
struct dray_host {
    uint32_t abi;
    int (*input_table)(struct dray_call *call, const struct dray_partition *partition, struct ArrowSchema *schema,
                       struct ArrowArray *array);
    void *(*result)(struct dray_call *call, size_t size);
    int (*result_cut)(struct dray_call *call, size_t size);
    int (*result_table)(struct dray_call *call, struct ArrowSchema *schema, struct ArrowArray *array);
    int (*set_error)(struct dray_call *call, int code, const char *format, va_list values);
};

struct dray_call {
    const struct dray_host *host;
    uint32_t index;
    uint32_t ticket;
    const volatile uint32_t *cancelled;
    const void *argument;
    size_t argument_size;
    const struct dray_input_list *input;
    size_t inputs;
};

/* Number of the task in its layer, from 0. */
static inline uint32_t dray_index(const struct dray_call *call)
{
    return call->index;
}

/* The task's argument, the caller's to interpret; never NULL, aligned to 64 (no alignment is promised beyond size). */
static inline const void *dray_argument(const struct dray_call *call, size_t *size)
{
    *size = call->argument_size;
    return call->argument;
}

/* Not 0: the task was cancelled or its time is up; return soon, with any value (nobody reads it).  Costs a load. */
static inline int dray_cancelled(const struct dray_call *call)
{
    return *call->cancelled == call->ticket;
}

/* Fails the call: `return dray_fail(call, EINVAL, "column %s is missing", name);`.  code: an errno value (EAGAIN, EIO...),
 * which goes to the client with the text (cut off at 900 bytes).  Returns -code. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static inline int dray_fail(struct dray_call *call, int code, const char *format, ...)
{
    va_list values;
    int rc;

    va_start(values, format);
    rc = call->host->set_error(call, code, format, values);
    va_end(values);
    return rc;
}

/* ---- inputs ---------------------------------------------------------------------------------------------
 * A task has the inputs of its layer, each a list of partitions: one of a one-to-one input, several of a tree,
 * an all-to-all or explicit edges.  They are read-only. */

static inline size_t dray_inputs(const struct dray_call *call)
{
    return call->inputs;
}

/* Partitions of an input; 0 when there is no such input. */
static inline size_t dray_partitions(const struct dray_call *call, size_t input)
{
    return input < call->inputs ? call->input[input].partitions : 0;
}

/* NULL: there is none with these numbers. */
static inline const struct dray_partition *dray_partition_at(const struct dray_call *call, size_t input, size_t partition)
{
    return partition < dray_partitions(call, input) ? &call->input[input].partition[partition] : NULL;
}

/* Its bytes, aligned to 64; not NULL when there are none (size 0).  NULL: there is no such partition, or it is a table. */
static inline const void *dray_input(const struct dray_call *call, size_t input, size_t partition, size_t *size)
{
    const struct dray_partition *p = dray_partition_at(call, input, partition);

    if (p == NULL || p->kind != DRAY_KIND_BYTES) {
        return NULL;
    }
    *size = p->size;
    return p->data;
}

/* A table as a struct array ("+s") with a child for each column, without a copy: bool (b), int64 (l), float64 (g),
 * string (u) and dictionaries of strings with int32 codes.  Both structures are the caller's to release before `run`
 * returns.  -ENOENT: there is no such partition; -EINVAL: it is bytes. */
static inline int dray_input_table(struct dray_call *call, size_t input, size_t partition, struct ArrowSchema *schema,
                                   struct ArrowArray *array)
{
    const struct dray_partition *p = dray_partition_at(call, input, partition);

    if (p == NULL) {
        return -ENOENT;
    }
    return p->kind == DRAY_KIND_TABLE ? call->host->input_table(call, p, schema, array) : -EINVAL;
}

/* ---- the result -----------------------------------------------------------------------------------------
 * A call has one: each of these replaces the one before.  To be called on the thread of `run`. */

/* `size` bytes for the result, to be written before `run` returns; aligned to 64, content undefined, never NULL for size 0.
 * This is shared memory: what is written there is not copied again when it is large.  NULL: it does not fit into the worker's
 * memory (the call's error says so already: `return -ENOMEM`). */
static inline void *dray_result(struct dray_call *call, size_t size)
{
    return call->host->result(call, size);
}

/* The result shrinks to its first `size` bytes.  -EINVAL: it is no larger, or there is none. */
static inline int dray_result_cut(struct dray_call *call, size_t size)
{
    return call->host->result_cut(call, size);
}

/* A copy of these bytes. */
static inline int dray_result_bytes(struct dray_call *call, const void *data, size_t size)
{
    void *to = dray_result(call, size);

    if (to == NULL) {
        return -ENOMEM;
    }
    if (size > 0) {
        memcpy(to, data, size);
    }
    return 0;
}

/* A table: a struct array without nulls of its own, with a child for each column.  Both structures are taken over and
 * released, also on failure.  Columns: b; l and narrower or unsigned integers up to 32 bits (they become int64); g and f
 * (float64); u and U (up to 2 GB of text each); dictionaries of strings with integer codes.  -EINVAL:
 * another type or a malformed array, -ENOMEM, -EFBIG: the call's error has the details. */
static inline int dray_result_table(struct dray_call *call, struct ArrowSchema *schema, struct ArrowArray *array)
{
    return call->host->result_table(call, schema, array);
}

/* ---- numbers: 8 bytes, little-endian ---------------------------------------------------------------- */

static inline uint64_t dray_load_uint64(const void *from)
{
    const unsigned char *at = (const unsigned char *)from;
    uint64_t value = 0;
    int i;

    for (i = 7; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline void dray_store_uint64(void *to, uint64_t value)
{
    unsigned char *at = (unsigned char *)to;
    int i;

    for (i = 0; i < 8; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
}

static inline double dray_load_double(const void *from)
{
    uint64_t bits = dray_load_uint64(from);
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline void dray_store_double(void *to, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    dray_store_uint64(to, bits);
}

/* The number that a partition begins with.  -EINVAL: fewer than 8 bytes, a table, or no such partition. */
static inline int dray_input_uint64(const struct dray_call *call, size_t input, size_t partition, uint64_t *out)
{
    size_t size;
    const void *data = dray_input(call, input, partition, &size);

    if (data == NULL || size < 8) {
        return -EINVAL;
    }
    *out = dray_load_uint64(data);
    return 0;
}

static inline int dray_input_int64(const struct dray_call *call, size_t input, size_t partition, int64_t *out)
{
    uint64_t bits;
    int rc = dray_input_uint64(call, input, partition, &bits);

    if (rc == 0) {
        memcpy(out, &bits, sizeof(bits));
    }
    return rc;
}

static inline int dray_input_double(const struct dray_call *call, size_t input, size_t partition, double *out)
{
    uint64_t bits;
    int rc = dray_input_uint64(call, input, partition, &bits);

    if (rc == 0) {
        memcpy(out, &bits, sizeof(bits));
    }
    return rc;
}

static inline int dray_result_uint64(struct dray_call *call, uint64_t value)
{
    void *to = dray_result(call, 8);

    if (to == NULL) {
        return -ENOMEM;
    }
    dray_store_uint64(to, value);
    return 0;
}

static inline int dray_result_int64(struct dray_call *call, int64_t value)
{
    return dray_result_uint64(call, (uint64_t)value);
}

static inline int dray_result_double(struct dray_call *call, double value)
{
    void *to = dray_result(call, 8);

    if (to == NULL) {
        return -ENOMEM;
    }
    dray_store_double(to, value);
    return 0;
}

/* ---- arrays -----------------------------------------------------------------------------------------------
 * Bytes that say what they are, all little-endian:
 *     u8 magic[4] "DAR1", u8 type (enum dray_type), u8 dims (0 to 32), u8 zero[2], u64 shape[dims],
 *     zeros up to a multiple of 64, then the elements in C order (the last index is the fastest).
 * dims 0 is one element.  The elements are aligned to 64. */

#define DRAY_DIMS_MAX 32

enum dray_type {
    DRAY_TYPE_BOOL = 1, /* one byte, 0 or 1 */
    DRAY_TYPE_INT8 = 2,
    DRAY_TYPE_INT16 = 3,
    DRAY_TYPE_INT32 = 4,
    DRAY_TYPE_INT64 = 5,
    DRAY_TYPE_UINT8 = 6,
    DRAY_TYPE_UINT16 = 7,
    DRAY_TYPE_UINT32 = 8,
    DRAY_TYPE_UINT64 = 9,
    DRAY_TYPE_FLOAT32 = 10,
    DRAY_TYPE_FLOAT64 = 11,
    DRAY_TYPE_COMPLEX64 = 12,  /* two float32 */
    DRAY_TYPE_COMPLEX128 = 13 /* two float64 */
};

struct dray_array {
    enum dray_type type;
    uint32_t dims;
    uint64_t shape[DRAY_DIMS_MAX];
    uint64_t elements; /* product of shape */
    const void *data;
};

/* Bytes of one element; 0: unknown type. */
static inline size_t dray_type_size(int type)
{
    static const unsigned char size[] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 8, 16};

    return type > 0 && type < (int)sizeof(size) ? size[type] : 0;
}

/* Bytes in front of the elements. */
static inline size_t dray_array_header(uint32_t dims)
{
    return (8 + 8 * (size_t)dims + 63) / 64 * 64;
}

/* Bytes of the whole; 0: unknown type, too many dimensions, or more than fits into memory. */
static inline size_t dray_array_size(int type, uint32_t dims, const uint64_t *shape, uint64_t *elements)
{
    size_t width = dray_type_size(type);
    uint64_t most, count = 1;
    uint32_t i;

    if (width == 0 || dims > DRAY_DIMS_MAX) {
        return 0;
    }
    most = ((uint64_t)SIZE_MAX / 2 - dray_array_header(dims)) / width;
    for (i = 0; i < dims; i++) {
        /* A dimension of 0 makes all empty, and must not hide one that is too large. */
        if (shape[i] > most || (shape[i] > 0 && count > most / shape[i])) {
            return 0;
        }
        count *= shape[i];
    }
    *elements = count;
    return dray_array_header(dims) + (size_t)count * width;
}

/* Reads the form above; out->data points into `bytes`.  -EINVAL: it is not one. */
static inline int dray_array_read(const void *bytes, size_t size, struct dray_array *out)
{
    const unsigned char *at = (const unsigned char *)bytes;
    struct dray_array array;
    uint32_t i;

    if (size < 64 || memcmp(at, "DAR1", 4) != 0 || at[5] > DRAY_DIMS_MAX || at[6] != 0 || at[7] != 0 ||
        size < dray_array_header(at[5])) {
        return -EINVAL;
    }
    memset(&array, 0, sizeof(array));
    array.type = (enum dray_type)at[4];
    array.dims = at[5];
    for (i = 0; i < array.dims; i++) {
        array.shape[i] = dray_load_uint64(at + 8 + 8 * (size_t)i);
    }
    if (dray_array_size(at[4], array.dims, array.shape, &array.elements) != size) {
        return -EINVAL;
    }
    array.data = at + dray_array_header(array.dims);
    *out = array;
    return 0;
}

/* Writes what is in front of the elements, and gives where they go; `to` has dray_array_size bytes. */
static inline void *dray_array_write(void *to, int type, uint32_t dims, const uint64_t *shape)
{
    unsigned char *at = (unsigned char *)to;
    uint32_t i;

    memset(at, 0, dray_array_header(dims));
    memcpy(at, "DAR1", 4);
    at[4] = (unsigned char)type;
    at[5] = (unsigned char)dims;
    for (i = 0; i < dims; i++) {
        dray_store_uint64(at + 8 + 8 * (size_t)i, shape[i]);
    }
    return at + dray_array_header(dims);
}

/* -EINVAL: there is no such partition, or it is not an array. */
static inline int dray_input_array(const struct dray_call *call, size_t input, size_t partition, struct dray_array *out)
{
    size_t size;
    const void *data = dray_input(call, input, partition, &size);

    return data == NULL ? -EINVAL : dray_array_read(data, size, out);
}

/* Makes an array the result and gives where its elements go.  NULL: unknown type or impossible shape (errno EINVAL), or it does
 * not fit into the worker's memory (errno ENOMEM). */
static inline void *dray_result_array(struct dray_call *call, int type, uint32_t dims, const uint64_t *shape)
{
    uint64_t elements;
    size_t size = dray_array_size(type, dims, shape, &elements);
    void *to;

    if (size == 0) {
        errno = EINVAL;
        return NULL;
    }
    to = dray_result(call, size);
    if (to == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    return dray_array_write(to, type, dims, shape);
}

#ifdef __cplusplus
}
#endif
#endif
