// Tasks that run outside of this process: functions of plugins and commands.  A crash, an endless loop or a
// leak there costs that attempt and nothing here.  Each executor thread has its own: warm processes for
// plugins, reused from task to task; a process a command, spawned without copying this one.
#ifndef DRAY_WORKER_CHILD_CHILDREN_H
#define DRAY_WORKER_CHILD_CHILDREN_H

#include <stdatomic.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/op.h"
#include "proto/partition.h"
#include "worker/kernel/kernel.h"

struct children;
struct plugins; // what this worker was started with, read once and shared by all threads

struct children_options {
    const struct plugins *plugins; // NULL: none
    const char *scratch;           // folder below which commands get theirs; NULL: /tmp
    const char *helper;            // path of dray-child; NULL: found beside this executable
    struct budget
        *budget; // results are taken from it while they are made, and given back at the end of children_run
};

// One task, filled in by its executor.
struct child_task {
    uint32_t index;
    struct kernel_inputs inputs;
    const atomic_bool *cancelled;
    // outcome
    int rc;
    struct error err;
    struct partition *partition; // one reference
    bool has_use;                // commands: what it took
    Dray__CommandUse use;
};

int children_create(const struct children_options *options, struct children **out, struct error *err);
// Ends what runs.  Plugins' processes end in peace (their `finish` runs) if this is called by the thread that
// used them: the system kills them when that is gone.  Takes half a second at most.
void children_destroy(struct children *children);
// Runs tasks of one operation whose first step is CALL or COMMAND, one after another, and fills in the
// outcome of each. Functions travel to their process in batches.  timeout_ms is of one attempt; 0: none
// (-ETIMEDOUT).
void children_run(struct children *children, const Dray__Op *op, uint32_t timeout_ms, struct child_task *task,
                  size_t count);
// From any thread: look at `cancelled` now.  What was cancelled is killed at once.
void children_wake(struct children *children);

#endif
