// From states to actions.  What must not get lost (results, ends, releases, tasks to run) is
// kept in the state until it has been written out, so that a failed allocation only
// delays it.  The rest (drops of unneeded work) may be lost: a worker that does too much
// is told so when it reports.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_OUTBOX_H
#define DRAY_BROKER_CORE_OUTBOX_H

#include "broker/core/state.h"

// Room for `count` more actions of this step; false: no memory.
bool outbox_reserve(struct sched *sched, size_t count);
// A zeroed action; NULL: no memory.
struct sched_action *outbox_push(struct sched *sched, enum sched_action_type type, uint32_t peer,
                                 uint32_t job);

// Takes one task back; neighbours are joined to one range.  False: not sent.
bool outbox_drop(struct sched *sched, const struct worker *worker, const struct layer *layer, uint32_t i,
                 bool kill);
// A worker has a partition that it need not have, or a job that does not exist.
void outbox_release(struct sched *sched, const struct worker *worker, const struct layer *layer, uint32_t i);
// Or tasks of a layer that a job does not have (it was lost from what was remembered): `type` is RELEASE or DROP.
void outbox_disown(struct sched *sched, const struct worker *worker, enum sched_action_type type,
                   const struct task_range *range);
void outbox_forget(struct sched *sched, const struct worker *worker, uint32_t job);

// These partitions are to be copied by a worker, from one that leaves.  False: no memory.
bool outbox_copy(struct worker *to, struct layer *layer, const struct task_range *range, uint32_t from);

void outbox_progress(struct sched *sched, struct job *job);

// Writes out what the dirty jobs and workers have.
void outbox_flush(struct sched *sched);

#endif
