// A task that takes far longer than its like is run a second time where somebody idles: the first result
// counts, both are the same bits, and the other one is told to stop.  Only tasks that say they may
// (Layer.speculate).  Private to broker/core.
#ifndef DRAY_BROKER_CORE_SPECULATE_H
#define DRAY_BROKER_CORE_SPECULATE_H

#include "broker/core/state.h"

// Before tasks are placed: second runs that are of no use any more end; one whose task was lost where it ran
// first takes its place; and who has work of his own to do does that first.
void twins_follow(struct sched *sched);
// After it: starts some.
void speculate_run(struct sched *sched);
// Tells the workers of those that were started.  False: no memory, some are left.
bool twins_flush(struct sched *sched,
                 bool (*tell)(struct worker *worker, struct layer *layer, uint32_t first, uint32_t count));

// This worker has the second run of the task, and has done it: it is its own now (assigned, of this worker).
bool twin_wins(struct worker *worker, struct layer *layer, uint32_t i);
// This worker does it a second time.
bool twin_runs(const struct worker *worker, const struct layer *layer, uint32_t i);
// It could not: the first one has its time again before another helps it, which may fail as well.
void twin_failed(const struct worker *worker, const struct layer *layer, uint32_t i);
// The worker does not do it, for whatever reason.
void twin_over(const struct worker *worker, const struct layer *layer, uint32_t i);
// Nor any; `gone`: it need not be told.
void twins_end(struct sched *sched, struct worker *worker, bool gone);

#endif
