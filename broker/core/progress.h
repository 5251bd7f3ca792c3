// Clients are told now and then how their jobs get on: with each tick those that were not for longest, and of very
// many jobs a bounded number, so that jobs that wait cost next to nothing.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_PROGRESS_H
#define DRAY_BROKER_CORE_PROGRESS_H

#include "broker/core/state.h"

// Somebody has the job, or it has something to do again.
void progress_follow(struct job *job);
void progress_stop(struct job *job);
// A tick.
void progress_tell(struct sched *sched);

#endif
