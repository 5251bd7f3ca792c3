// The inside of children.h, for its parts: call.c (functions of plugins) and command.c.
#ifndef DRAY_WORKER_CHILD_CHILDREN_STATE_H
#define DRAY_WORKER_CHILD_CHILDREN_STATE_H

#include "proto/arena.h"
#include "worker/child/children.h"
#include "worker/child/plugins.h"
#include "worker/child/process.h"

enum {
    READ_BYTES = 64 << 10,
    GRACE_MS = 250, // between asking to end and ending
};

struct children {
    struct children_options options;
    int wake;                       // eventfd
    struct process *plugin_process; // one a plugin
    uint64_t taken;                 // of the budget, for results of this children_run
    // commands
    struct process spawner;
    char *scratch;    // NULL until it is needed
    uint64_t folders; // made in there
    bool spare;       // the last of them is there, as good as new
    int null;
    struct arena arena;
    char some[READ_BYTES];
};

static inline bool child_task_is_cancelled(const struct child_task *task)
{
    return task->cancelled != NULL && atomic_load_explicit(task->cancelled, memory_order_relaxed);
}

// From the budget until the end of children_run: whoever gets the results charges them then.
int children_take(struct children *children, uint64_t bytes, const char *what, struct error *err);
void children_give(struct children *children, uint64_t bytes);

void call_run(struct children *children, const Dray__Call *call, uint32_t timeout_ms, struct child_task *task,
              size_t count);
void command_run(struct children *children, const Dray__Command *command, uint32_t timeout_ms,
                 struct child_task *task);

#endif
