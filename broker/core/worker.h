// Workers: their queues, load, what they know of jobs, which files they can read.
// Private to broker/core.
#ifndef DRAY_BROKER_CORE_WORKER_H
#define DRAY_BROKER_CORE_WORKER_H

#include "broker/core/demand.h"
#include "broker/core/estimate.h"
#include "broker/core/state.h"

// -ENOMEM: nothing happened.
int worker_create(struct sched *sched, const struct sched_event *joined);
// Its tasks and partitions must have been dealt with.
void worker_destroy(struct sched *sched, struct worker *worker);
struct worker *worker_find(const struct sched *sched, uint32_t peer);

// What it has to do with a job; NULL when there is no memory for the entry.
struct knows *worker_knows(struct worker *worker, struct job *job);
void knows_destroy(struct sched *sched, struct knows *knows);
// Room for so many layers in what all workers know of a job; false: no memory.
bool knows_grow(struct job *job, uint32_t capacity);
static inline bool knows_test(const uint64_t *set, uint32_t layer)
{
    return (set[layer / 64] >> (layer % 64) & 1) != 0;
}
static inline void knows_set(uint64_t *set, uint32_t layer)
{
    set[layer / 64] |= UINT64_C(1) << (layer % 64);
}

static inline void knows_clear(uint64_t *set, uint32_t layer)
{
    set[layer / 64] &= ~(UINT64_C(1) << (layer % 64));
}
// The worker may have forgotten where the whole inputs of the layer are: it is told again with its next task of it.
void worker_unlocate(const struct worker *worker, const struct layer *layer);

// Notes that the worker has to do with the layer from now on; false: no memory for that.
bool worker_prepare(struct worker *worker, struct layer *layer);
// Places in its queue for so many more ranges; false: no memory.
bool worker_reserve(struct worker *worker, uint32_t ranges);
// Gives it a task that is ready, or all of whose missing inputs it was given before; there must be room
// and places, and worker_knows(its job) must exist.
void worker_assign(struct worker *worker, struct layer *layer, uint32_t i);
// As given, one that it has from an earlier session already: it is not told.  There must be a place.
void worker_resume(struct worker *worker, struct layer *layer, uint32_t i);
// The other half of a task's move out of `assigned`; the caller makes the move.
void worker_unassign(struct worker *worker, struct layer *layer, uint32_t i);
// An assigned task is taken to last this long from now on.
void worker_recharge(struct worker *worker, struct layer *layer, uint32_t i, uint32_t charge);
// There are tasks in its queue whose dependents have not been looked at.
static inline bool worker_is_ahead_due(const struct worker *worker)
{
    const struct slot *at = &worker->queue[worker->queue_ahead];

    return worker->queue_ahead + 1 < worker->queue_count ||
           (worker->queue_ahead < worker->queue_count && worker->ahead_from < at->first + at->count);
}
// How many tasks of this layer it has time and slots for.
uint32_t worker_space(const struct worker *worker, struct layer *layer);
// And may be given: it meets what they ask for, and has so much of it free.
static inline uint32_t worker_room(const struct worker *worker, struct layer *layer)
{
    const struct demand *demand = layer->lane->demand;
    uint32_t most = demand != NULL ? demand_room(demand, worker) : UINT32_MAX;
    uint32_t space = most > 0 ? worker_space(worker, layer) : 0;

    return space < most ? space : most;
}
// What is assigned, as long as it takes this worker, in CHARGE_NS.
static inline uint64_t worker_work(const struct worker *worker)
{
    return worker->backlog * worker->pace / PACE;
}
// How long a task that is given to it now waits until it starts, in CHARGE_NS.
static inline uint64_t worker_wait(const struct worker *worker)
{
    return worker_work(worker) / worker->threads;
}
// How long a task of the layer takes this worker.
static inline uint64_t worker_time(const struct worker *worker, struct layer *layer)
{
    uint64_t time = (uint64_t)layer_charge(layer) * worker->pace / PACE;

    return time > 0 ? time : 1;
}
// So many tasks, that were taken to last so long altogether, took it so long; in CHARGE_NS.
void worker_measure(struct worker *worker, uint32_t tasks, uint64_t expected, uint64_t spent);
// LOAD_FULL exactly when there is no room for any task.
uint8_t worker_load(const struct worker *worker);
// The least loaded worker that has room, and the next one by load; NULL: no more.
struct worker *load_first(const struct sched *sched);
struct worker *load_next(const struct sched *sched, const struct worker *worker);
// The highest level below `load` that has workers, or -1.
int load_below(const struct sched *sched, int load);
// Puts it where its load belongs: after a batch of the two above.
void worker_reload(struct sched *sched, struct worker *worker);
// Takes a job's tasks out of its queue before the job's arrays go.
void worker_purge(struct worker *worker, const struct job *job);
void worker_mark_dirty(struct sched *sched, struct worker *worker);
// The task is its own to do.
static inline bool worker_has(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    return layer->owner[i] == worker->number && task_state(layer, i) == TASK_ASSIGNED;
}
// Moves `over` past ranges in which nothing is left, and gives it.
uint32_t worker_over(struct worker *worker);

// Replaces the files that it can read.  -ENOMEM: nothing happened.
int worker_set_sources(struct worker *worker, size_t count, const char *const *name, const char *const *path);
bool worker_reads(const struct worker *worker, const Dray__Source *source);
// Not every worker can read what the layer's tasks read.
static inline bool layer_reads_apart(const struct layer *layer)
{
    return layer->graph->n_source > 0 && layer->job->sched->unshared > 0;
}
// The source of a task, or NULL when its layer has none.
const Dray__Source *source_of(const struct layer *layer, uint32_t i);

#endif
