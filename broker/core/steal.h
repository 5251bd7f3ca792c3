// Queued tasks go from the busiest workers to those that have an idle thread.  Private to
// broker/core.
#ifndef DRAY_BROKER_CORE_STEAL_H
#define DRAY_BROKER_CORE_STEAL_H

#include "broker/core/state.h"

// Asks for queued tasks back, where those who would get them start them sooner by more than it takes to
// move them.
void steal_run(struct sched *sched);

// All that a worker has not begun is asked back: it goes to others.
void steal_back(struct sched *sched, struct worker *worker);

// No worker has room, and long tasks of others are queued that this layer's job comes before: some of those
// that have not started are asked back.
void steal_room(struct sched *sched, const struct layer *layer);

#endif
