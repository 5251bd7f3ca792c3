// The keys of a batch as numbers: strings and bools as small ones, the rest as words.
#ifndef DRAY_WORKER_KERNEL_AGGREGATE_KEY_H
#define DRAY_WORKER_KERNEL_AGGREGATE_KEY_H

#include "worker/kernel/aggregate_group.h"

// Rows between a prefetch and its use.
#define GROUP_AHEAD 8

// Sets out->rows and out->row: the rows without a missing key.
void keys_choose(struct groups *g, const struct batch *batch, struct grouping *out);
// Sets id (STRING, BOOL) or value (INT64, FLOAT64) of each key, one for each of those rows.
int keys_encode(struct groups *g, const struct batch *batch, const struct grouping *rows, struct error *err);

#endif
