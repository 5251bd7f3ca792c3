// Tables as batches: the take_inputs source, and what sort pushes.
#ifndef DRAY_WORKER_KERNEL_TAKE_H
#define DRAY_WORKER_KERNEL_TAKE_H

#include "worker/kernel/step.h"

// All input partitions, list by list, in order.
extern const struct source_class take_inputs_source;

// Pushes rows of `table` into `next`: order[0..count), or with order NULL the first `count`.
// Returns what the last push returned: 0, 1 (enough), or a negative errno.
int table_push(const struct table *table, const uint32_t *order, int64_t count, struct kernel_env *env,
               struct stage *next, struct error *err);

#endif
