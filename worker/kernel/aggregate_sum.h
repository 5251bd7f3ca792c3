// One column of a batch, by group: sums, counts, extremes and positions for each local number of
// a grouping.  See aggregate.h for the order of additions.
#ifndef DRAY_WORKER_KERNEL_AGGREGATE_SUM_H
#define DRAY_WORKER_KERNEL_AGGREGATE_SUM_H

#include "worker/kernel/aggregate_group.h"

// Up to here every group has its lanes side by side; beyond, rows are put in order of group first.
#define FEW_GROUPS 1024

struct sums {
    bool ordered; // of this batch
    uint32_t start[BATCH_ROWS + 1];
    uint16_t order[BATCH_ROWS];
    union {
        double real[FEW_GROUPS * 8];
        int64_t word[FEW_GROUPS * 8];
    } lane;
    int64_t part[2][BATCH_ROWS];
};

// Call before the first use for a batch.
static inline void sums_begin(struct sums *s)
{
    s->ordered = false;
}
// out[local] = sum of value[j] over its rows; a missing value is 0.0.
void sums_float64(struct sums *s, const struct grouping *g, const double *value, double *out);
// The same in 128 bits.
void sums_int64(struct sums *s, const struct grouping *g, const int64_t *value, int64_t *low, int64_t *high);
// out[local] = rows with present[j] 1.
void sums_count(struct sums *s, const struct grouping *g, const uint8_t *present, uint32_t *out);
// out[local] = least (greatest) of value[j]; INT64_MAX (INT64_MIN) without rows.
void sums_least(struct sums *s, const struct grouping *g, const int64_t *value, int64_t *out);
void sums_greatest(struct sums *s, const struct grouping *g, const int64_t *value, int64_t *out);

#endif
