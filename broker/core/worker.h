// Workers: their queues, load, what they know of jobs, which files they can read.
// Private to broker/core.
#ifndef DRAY_BROKER_CORE_WORKER_H
#define DRAY_BROKER_CORE_WORKER_H

#include "broker/core/state.h"

// -ENOMEM: nothing happened.
int worker_create(struct sched *sched, uint32_t peer, uint32_t threads, uint64_t memory, bool shared_files,
                  const char *name);
// Its tasks and partitions must have been dealt with.
void worker_destroy(struct sched *sched, struct worker *worker);
struct worker *worker_find(const struct sched *sched, uint32_t peer);

// What it has to do with a job; NULL when there is no memory for the entry.
struct knows *worker_knows(struct worker *worker, struct job *job);
void knows_destroy(struct sched *sched, struct knows *knows);
static inline bool knows_test(const uint64_t *set, uint32_t layer)
{
    return (set[layer / 64] >> (layer % 64) & 1) != 0;
}
static inline void knows_set(uint64_t *set, uint32_t layer)
{
    set[layer / 64] |= UINT64_C(1) << (layer % 64);
}

// Gives it a ready task; it must have room, and worker_knows(its job) must exist.
void worker_assign(struct worker *worker, struct layer *layer, uint32_t i);
// The other half of a task's move out of `assigned`; the caller makes the move.
void worker_unassign(struct worker *worker, struct layer *layer, uint32_t i);
// LOAD_FULL exactly when there is no room.
static inline uint8_t worker_load(const struct worker *worker)
{
    return (uint8_t)((uint64_t)worker->assigned * LOAD_FULL / worker->slots);
}
// Puts it where its load belongs: after a batch of the two above.
void worker_reload(struct sched *sched, struct worker *worker);
// Takes a job's tasks out of its queue before the job's arrays go.
void worker_purge(struct worker *worker, const struct job *job);
void worker_mark_dirty(struct sched *sched, struct worker *worker);
// The task at a place of its queue is still its own to do.
bool worker_has(const struct worker *worker, const struct slot *slot);

// Replaces the files that it can read.  -ENOMEM: nothing happened.
int worker_set_sources(struct worker *worker, size_t count, const char *const *name, const char *const *path);
bool worker_reads(const struct worker *worker, const Dray__Source *source);
// The source of a task, or NULL when its layer has none.
const Dray__Source *source_of(const struct layer *layer, uint32_t i);

#endif
