// Groupby: PARTIAL over rows, then COMBINE over the states of partitions, then FINAL.
//
// The state table has the key columns, then for each agg these columns (types in brackets):
//   SUM of int64, bool    sum [int64], wraps
//   SUM of float64        sum, compensation [float64]
//   MEAN of int64, bool   low, high [int64]: the sum in 128 bits; count [int64]
//   MEAN of float64       sum, compensation [float64], count [int64]
//   COUNT, SIZE           count [int64]
//   MIN MAX FIRST LAST    value [as the input, null when there was none]
//   STD VAR               mean, squares [float64]: sum of squared distances from the mean; count [int64]
// Groups come in order of no meaning, but always the same for the same input; FINAL sorts.
// FINAL and COMBINE_FINAL are the same: states of one group are combined wherever they are met.
//
// The same bits on every machine: within a batch, values are added in eight lanes, row j (of the rows
// that count) in lane j % 8, and the lanes as ((0+4)+(2+6)) + ((1+5)+(3+7)); a batch's sum is then added
// to the group's with Neumaier's compensation, and so are the states of partitions, in input order.
// Hence the last bits of a float64 sum depend on where batches and partitions begin, and on nothing else.
// STD and VAR take the two-pass formula in a batch and Chan, Golub and LeVeque (1979) between batches.
// MIN and MAX see -0.0 below 0.0.
//
// As pandas: a null or NaN is missing; rows with a missing key are dropped; SUM of nothing is 0, MEAN,
// MIN, MAX, FIRST and LAST of nothing are null; STD and VAR have n - 1 below the line and are null for n < 2.
#ifndef DRAY_WORKER_KERNEL_AGGREGATE_H
#define DRAY_WORKER_KERNEL_AGGREGATE_H

#include "worker/kernel/step.h"

extern const struct stage_class aggregate_stage;

#endif
