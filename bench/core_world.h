// A cluster on a made-up clock: the scheduler that is measured, and workers that only wait.  Beside it,
// placements that look at nothing, with the same workers and the same tasks.
//
// A worker has one thread, runs what it was given in order as soon as its inputs have arrived, and
// fetches inputs from others while it runs something else.  Nothing of it depends on the real time.
#ifndef DRAY_BENCH_CORE_WORLD_H
#define DRAY_BENCH_CORE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/core_graph.h"

enum core_policy { CORE_DRAY, CORE_RANDOM, CORE_ROUND_ROBIN };

struct core_setting {
    const struct core_shape *shape;
    uint32_t tasks, workers;
    enum core_policy policy;
    uint64_t length_ns; // of a task, on average; they differ by half of it
    bool stragglers;    // one task of a hundred takes ten times as long, one worker of ten twice
    uint64_t seed;
};

struct core_outcome {
    uint64_t tasks;
    uint64_t makespan_ns;
    uint64_t path_ns;  // the longest path through the graph, all of it on fast workers
    uint64_t share_ns; // all work, dealt out evenly
    double cost_ns;    // CPU time of the scheduler a task
    uint64_t moved;    // partitions that went from one worker to another
};

// Every task must have run once, or it aborts.
void core_world_run(const struct core_setting *setting, struct core_outcome *out);

#endif
