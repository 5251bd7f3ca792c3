#ifndef DRAY_WORKER_KERNEL_AGGREGATE_H
#define DRAY_WORKER_KERNEL_AGGREGATE_H

#include "worker/kernel/step.h"

extern const struct stage_class aggregate_stage;

#endif
