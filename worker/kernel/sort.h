// Sorts all rows: stable, by several keys, strings by their bytes, nulls and NaN last unless
// asked otherwise, whatever the direction (as pandas).  With a limit it keeps few more rows than
// that at any time.
#ifndef DRAY_WORKER_KERNEL_SORT_H
#define DRAY_WORKER_KERNEL_SORT_H

#include "worker/kernel/step.h"

extern const struct stage_class sort_stage;

#endif
