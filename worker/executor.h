// Threads that run kernels, and tasks in child processes.  Tasks go in from one thread, the owner's; outcomes
// come back to it through a file descriptor that becomes readable.
#ifndef DRAY_WORKER_EXECUTOR_H
#define DRAY_WORKER_EXECUTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/partition.h"
#include "worker/child/children.h"
#include "worker/layer.h"
#include "worker/store/budget.h"

struct executor;

struct executor_options {
    uint32_t threads;
    struct budget *budget;
    const char *const *data_dir;   // NULL-terminated; NULL: the shared file system
    const struct plugins *plugins; // NULL: none
    const char *scratch;           // where commands get their folders; NULL: /tmp
};

// One task.  Made by the owner, filled in by a thread, handed back as the outcome.
struct work {
    struct work *next;
    uint64_t epoch; // the owner's
    struct layer *layer;
    uint32_t index;
    struct partition **input; // one reference each
    uint32_t *input_start;    // input_lists + 1
    size_t inputs, input_lists;
    atomic_bool cancelled;
    // outcome
    int rc;
    struct error err;
    struct partition *partition;
    struct buffer *note;
    uint64_t rows, source_bytes;
};

int executor_create(const struct executor_options *options, struct executor **out, struct error *err);
// Asks all that runs to stop and waits for the threads up to two seconds.  False: one is
// stuck (in a read of a dead file system, say); then nothing is freed.
bool executor_destroy(struct executor *executor);

int executor_fd(const struct executor *executor);
// Takes over the work.
void executor_run(struct executor *executor, struct work *work);
// What waits or runs comes back soon, with -ECANCELED or its outcome.
void executor_cancel(struct executor *executor, uint64_t epoch, uint32_t job, uint32_t layer, uint32_t index);
void executor_cancel_all(struct executor *executor);
// An outcome, or NULL; the caller's to destroy.
struct work *executor_take(struct executor *executor);

struct work *work_create(struct layer *layer, uint32_t index, size_t inputs, size_t input_lists);
void work_destroy(struct work *work);

#endif
