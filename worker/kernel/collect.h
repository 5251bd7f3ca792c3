// Gathers batches into a table, in memory that the budget counts.
#ifndef DRAY_WORKER_KERNEL_COLLECT_H
#define DRAY_WORKER_KERNEL_COLLECT_H

#include "worker/kernel/memory.h"
#include "worker/kernel/step.h"

struct collector;

// `memory` and `schema` must outlive it.  STRING columns become DICT as long as only DICT
// vectors arrive (their dictionaries are merged, entries in order of first use), else STRING.
struct collector *collector_create(const struct schema *schema, struct memory *memory);
int collector_push(struct collector *c, const struct batch *batch, struct error *err);
int64_t collector_rows(const struct collector *c);
// The table of all rows so far; its memory is the caller's from here on, and no longer counted
//.  The collector is empty after.
int collector_finish(struct collector *c, struct table **out, struct error *err);
void collector_destroy(struct collector *c);

// The last stage of a pipeline.
extern const struct stage_class collect_stage;
// After its finish: the table, which is the caller's.
struct table *collect_take(struct stage *stage);

#endif
