// Runs one task: an operation, its index, its inputs -> its partition.
// Pure computation and reading of source files; thread-safe (each call has its own state).
// Bit-identical on every instruction set and whatever runs beside it.
#ifndef DRAY_WORKER_KERNEL_KERNEL_H
#define DRAY_WORKER_KERNEL_KERNEL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.h"
#include "proto/partition.h"
#include "worker/store/budget.h"

// What a kernel may use, and where it leaves word.
struct kernel_env {
    struct budget *budget;        // working memory is taken from it and given back
    const char *const *data_dir;  // --data-dir, NULL-terminated; NULL: the shared file system
    const atomic_bool *cancelled; // checked every block or batch: -ECANCELED
    uint64_t deadline_ns;         // of the monotonic clock; beyond it: -ETIMEDOUT.  0: none
    struct arena *arena;          // for the note
    void *scratch;                // kept by an executor between tasks: see kernel_scratch_*
    // out
    uint64_t rows; // read from sources
    uint64_t source_bytes;
    Dray__Note note; // dray__note__init before; has_* or n_* set when there is something to say
};

// Input partitions, grouped by the layer's inputs: list i is
// partition[start[i] .. start[i + 1]).
struct kernel_inputs {
    struct partition *const *partition;
    const uint32_t *start;
    size_t lists;
};

// `op` is checked (op_decode).  *out holds one reference.  Errors say which file,
// block, line, column; the caller adds the task and the worker.
int kernel_run(const Dray__Op *op, uint32_t index, const struct kernel_inputs *inputs, struct kernel_env *env,
               struct partition **out, struct error *err);

// Tiny tasks (count, busy, data) whose result is bytes of at most KERNEL_SMALL, which need neither an arena
// nor partitions: nothing is allocated for them.
#define KERNEL_SMALL ((size_t)32)
enum kernel_size {
    KERNEL_LARGE,   // kernel_run
    KERNEL_SHORT,   // kernel_run_small
    KERNEL_INSTANT, // the same, and it takes no time to speak of
    KERNEL_CHILD,   // a function of a plugin or a command: not here
};
enum kernel_size kernel_size(const Dray__Op *op);
struct kernel_bytes {
    const uint8_t *data; // NULL: a table
    size_t size;
};
// out has room for KERNEL_SMALL; what is behind *size is zeroed or as it was.
int kernel_run_small(const Dray__Op *op, uint32_t index, const struct kernel_bytes *input, size_t inputs,
                     struct kernel_env *env, uint8_t *out, size_t *size, struct error *err);

// Buffers that a thread reuses between tasks (read block, index, vectors).
void *kernel_scratch_create(void);
void kernel_scratch_destroy(void *scratch);

#endif
