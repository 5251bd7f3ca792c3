// What the tasks of a layer ask of their worker: a name or label, plugins, amounts of resources.
// Layers that ask for the same share a demand, which knows the workers that can meet it at all; what is
// free of their resources changes with each task.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_DEMAND_H
#define DRAY_BROKER_CORE_DEMAND_H

#include "broker/core/state.h"

// The demand of such a layer, held until it is put back: *out NULL when it asks for nothing.  -ENOMEM:
// nothing happened.
int demand_get(struct sched *sched, const Dray__Layer *graph, struct demand **out);
void demand_put(struct sched *sched, struct demand *demand); // NULL: nothing

// What the worker has to give; copied.  -ENOMEM: nothing happened.
int offer_init(struct worker *worker, const struct sched_event *joined);
void offer_fini(struct worker *worker);
// The worker comes, is in its slot; -ENOMEM: no demand knows of it.
int demands_meet(struct sched *sched, const struct worker *worker);
void demands_part(struct sched *sched, const struct worker *worker); // it goes

// It has the name, the plugins and enough of the resources, free or not.
static inline bool demand_is_met(const struct demand *demand, const struct worker *worker)
{
    return (demand->able[worker->number / 64] >> (worker->number % 64) & 1) != 0;
}
// How many tasks more its free resources are enough for; UINT32_MAX: it takes none.
uint32_t demand_room(const struct demand *demand, const struct worker *worker);
// A task more or less takes what it needs; the worker must meet the demand.
void demand_take(const struct demand *demand, struct worker *worker);
void demand_give(const struct demand *demand, struct worker *worker);

// A worker that is there, and is not leaving, meets it.
bool demand_has_worker(const struct sched *sched, const struct demand *demand);
// Why no worker takes a task of it now: a sentence, or "" when there is no reason.
void demand_why(const struct sched *sched, const struct demand *demand, char *out, size_t size);

#endif
