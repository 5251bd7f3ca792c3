// The graphs of `dray-bench pool`.
#ifndef DRAY_BENCH_SHAPE_H
#define DRAY_BENCH_SHAPE_H

#include "bench/plan.h"

// Each fills a plan that was only initialised, and what is expected of it.

// Independent tasks, all of them results.
int shape_trivial(struct plan *plan, uint32_t tasks, struct error *err);
// Each needs the one before it; a last task takes the end of the chain.
int shape_chain(struct plan *plan, uint32_t tasks, struct error *err);
// Leaves, then pairs of them, down to one.
int shape_tree(struct plan *plan, uint32_t leaves, struct error *err);
// Rows of `width` tasks; each needs its three neighbours of the row before.
int shape_stencil(struct plan *plan, uint32_t width, uint32_t steps, struct error *err);
// Each needs three random earlier ones (different ones) of its layer of about a million; all are results.
int shape_explicit(struct plan *plan, uint32_t tasks, uint64_t seed, struct error *err);

#endif
