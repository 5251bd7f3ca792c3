#ifndef DRAY_WORKER_KERNEL_SORT_H
#define DRAY_WORKER_KERNEL_SORT_H

#include "worker/kernel/step.h"

extern const struct stage_class sort_stage;

#endif
