// Passes the first rows on, then stops the source.
#ifndef DRAY_WORKER_KERNEL_HEAD_H
#define DRAY_WORKER_KERNEL_HEAD_H

#include "worker/kernel/step.h"

extern const struct stage_class head_stage;

#endif
