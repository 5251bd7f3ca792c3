// Workers that die within one moment while they run different tasks.  None of these can have killed them all:
// the cause is theirs in common (a host that goes off, somebody who ends all of them, a network), so such a
// death does not count against a task.  But not for ever: several tasks may kill at the same time.  Private
// to broker/core.
#ifndef DRAY_BROKER_CORE_MOMENT_H
#define DRAY_BROKER_CORE_MOMENT_H

#include "broker/core/state.h"

// What a delayed task's blame has for a time: whether other workers die as well is waited for.
#define MOMENT_WAITS (UINT64_MAX - 1)

// A task that was blamed for a death a moment ago.
struct casualty {
    uint64_t at_us;
    uint64_t incarnation; // of the worker that died
    struct task_range task;
    char *name, *why; // with a verdict that waits: the worker's, and of its end; NULL: none does
};

// A worker has died; what it may have run is marked TASK_SEEN.  Those who were blamed a moment ago for the
// death of another one are excused, unless it may have run them too: then their mark goes.  True: another one
// has died a moment ago, so whose mark stays may be excused.
bool moment_begin(struct sched *sched, const struct worker *worker);
// False: it has been excused too often.  The caller notes the attempt.
bool moment_excuse(const struct layer *layer, struct blame *blame);
// It is blamed for this worker's death; that may be taken back within the moment.
void moment_note(const struct worker *worker, const struct layer *layer, uint32_t i);
// As moment_note, of one that is to be set aside: that waits, delayed, until it is known who else dies.
// False: there is nobody, or no memory.
bool moment_wait(const struct worker *worker, struct layer *layer, uint32_t i, const char *why);
// Moments that are over.
void moment_fire(struct sched *sched);
// How many tasks wait for that; of this job (0: of all).
uint64_t moment_waiting(const struct sched *sched, uint32_t job);
void moment_fini(struct sched *sched);

#endif
