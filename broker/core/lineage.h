// Tasks' lives: done, given back, lost, needed again.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_LINEAGE_H
#define DRAY_BROKER_CORE_LINEAGE_H

#include "broker/core/state.h"

// The partition of an unfinished task is at this worker now.
void task_hold(struct layer *layer, uint32_t i, struct worker *worker, uint64_t bytes);
// Another worker has it already: the one that was given it since need not go on.  task_hold follows.
void task_unburden(struct layer *layer, uint32_t i);
// An assigned task goes back to the queue.  The caller has unassigned it.
void task_requeue(struct layer *layer, uint32_t i);
// A held partition is gone: the task runs again, with all of its lineage that is gone too.
void task_lose(struct layer *layer, uint32_t i);
// It has failed for good, for this cause (failure.h).  The caller has unassigned it.
void task_fail(struct layer *layer, uint32_t i, uint64_t cause);
// All that it reads is held.
bool task_has_inputs(const struct layer *layer, uint32_t i);
// Its job has ended, but others need it: what is not done fails.
void task_stop(struct layer *layer, uint32_t i, int code, const char *text);
// As the client wishes: when it is not done, it fails; a running one is stopped.
void task_cancel(struct layer *layer, uint32_t i);
// The client needs this partition no more.
void task_unwant(struct layer *layer, uint32_t i);
// All that the worker had goes back, is recomputed, or was not needed any more.
void worker_lose(struct sched *sched, struct worker *worker);

// Brings states in line with need, later layers first; at the end of every event.
void lineage_settle(struct sched *sched);

#endif
