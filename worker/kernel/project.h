// Makes each output column from an expression; plain columns are passed as they are.
#ifndef DRAY_WORKER_KERNEL_PROJECT_H
#define DRAY_WORKER_KERNEL_PROJECT_H

#include "worker/kernel/step.h"

extern const struct stage_class project_stage;

#endif
