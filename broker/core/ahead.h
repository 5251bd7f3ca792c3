// Tasks that are assigned before their inputs are made: to the worker that makes them.  Private to
// broker/core.
#ifndef DRAY_BROKER_CORE_AHEAD_H
#define DRAY_BROKER_CORE_AHEAD_H

#include "broker/core/state.h"

// Looks at the dependents of what the worker was given, in that order and each once, and gives it those
// that lack nothing but what it makes, while it has room.  Tasks whose job has to stand back for
// `rival` (NULL: none) are left for later.  False: there are such.
bool ahead_expand(struct worker *worker, const struct job *rival);
// The same for all workers whose queues have changed.
void ahead_run(struct sched *sched, const struct job *rival);

#endif
