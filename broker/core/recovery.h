// After a restart: the workers that were there before are waited for, and nothing is placed until they have
// said what they hold.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_RECOVERY_H
#define DRAY_BROKER_CORE_RECOVERY_H

#include "broker/core/state.h"

static inline bool recovery_holds(const struct sched *sched)
{
    return sched->expects > 0;
}
// A new process with the name of one that is waited for: that one has been replaced.
void recovery_joined(struct sched *sched, const struct worker *worker);
// The worker has said all that it holds.
void recovery_heard(struct sched *sched, const struct worker *worker);
// The time may be over.
void recovery_fire(struct sched *sched);
// For whom it waits and how long yet.
void recovery_why(const struct sched *sched, char *out, size_t size);
void recovery_fini(struct sched *sched);

#endif
