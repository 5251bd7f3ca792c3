// Jobs whose time runs out: those whose client was lost, and detached ones that ended and that nobody has
// looked at since.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_LAPSE_H
#define DRAY_BROKER_CORE_LAPSE_H

#include "broker/core/state.h"

// Who has it, whether it is kept, or its state has changed: its time begins, goes on, or stops.
void lapse_follow(struct job *job);
// As when nobody had it after a restart: its client may need as long as the workers to come back.
void lapse_restored(struct job *job);
void lapse_stop(struct job *job);
// Gives up those whose time has come.
void lapses_fire(struct sched *sched);

#endif
