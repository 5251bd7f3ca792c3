// Keeps the rows where a predicate is true, by a selection: no value is moved.
#ifndef DRAY_WORKER_KERNEL_FILTER_H
#define DRAY_WORKER_KERNEL_FILTER_H

#include "worker/kernel/step.h"

extern const struct stage_class filter_stage;

#endif
