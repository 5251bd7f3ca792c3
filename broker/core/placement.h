// Which worker gets which task.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_PLACEMENT_H
#define DRAY_BROKER_CORE_PLACEMENT_H

#include "broker/core/state.h"

// Hands out ready tasks while workers have room; then takes queued ones back from the busiest
// for those who have an idle thread.
void placement_run(struct sched *sched);

// Fails jobs with a ready task that no connected worker can read the source of.
void placement_check_sources(struct sched *sched);

#endif
