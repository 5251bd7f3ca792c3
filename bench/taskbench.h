// The dependence patterns of Task Bench (Slaughter et al., "Task Bench: A Parameterized Benchmark for
// Evaluating Parallel Runtime Performance", SC20), as its core library defines them: which points of the step
// before a point needs.
#ifndef DRAY_BENCH_TASKBENCH_H
#define DRAY_BENCH_TASKBENCH_H

#include "bench/plan.h"

enum taskbench_kind {
    TASKBENCH_TRIVIAL,        // nothing
    TASKBENCH_NO_COMM,        // itself
    TASKBENCH_STENCIL_1D,     // itself and its neighbours
    TASKBENCH_FFT,            // itself and those 2^k to its left and right, k going round by the step
    TASKBENCH_TREE,           // 1, 2, 4, ... points: each its parent p / 2
    TASKBENCH_RANDOM_NEAREST, // itself, and each of two to its left and right with probability 1/4
    TASKBENCH_ALL_TO_ALL,     // all
    TASKBENCH_KINDS
};
enum { TASKBENCH_STEPS_MAX = 60000 }; // a layer each
extern const char *const taskbench_name[TASKBENCH_KINDS];

struct taskbench {
    enum taskbench_kind kind;
    uint32_t width, steps;
    uint64_t iterations; // of the kernel (proto/op.proto: Busy)
    uint64_t output_bytes;
};

uint32_t taskbench_width(const struct taskbench *bench, uint32_t step);
// Whether (step, point) needs (step - 1, other): slowly, for checks.
bool taskbench_needs(const struct taskbench *bench, uint32_t step, uint32_t point, uint32_t other);
int taskbench_plan(const struct taskbench *bench, struct plan *plan, struct error *err);

#endif
