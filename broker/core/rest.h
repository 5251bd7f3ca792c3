// A worker that cannot do what it should, by no fault of the tasks (its disk is full), gets no tasks for a
// while: it would fail at once, be idle first, and so get them all.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_REST_H
#define DRAY_BROKER_CORE_REST_H

#include "broker/core/state.h"

// This task, unassigned, has failed there for want of room on its disk: it goes back to the queue, the worker
// rests and gives back what it has not started.  False: the task has met that too often, and is to be blamed.
bool rest_begin(struct worker *worker, struct layer *layer, uint32_t i);
// Workers whose time has come.
void rests_fire(struct sched *sched);
// "": nobody rests.
void rest_why(const struct sched *sched, char *out, size_t size);

#endif
