// Why nothing of a job runs, in words.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_WHY_H
#define DRAY_BROKER_CORE_WHY_H

#include "broker/core/state.h"

// Has ended, and nothing of what it made has to be made again.
bool job_is_over(const struct job *job);

// "" when something of it runs, or it is over.  True: no worker that is there can run any of what is left.
bool job_why_waiting(const struct job *job, char *out, size_t size);

#endif
