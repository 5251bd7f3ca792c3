// The scheduler alone, as fast as it goes: whatever is handed out is done at once.
#ifndef DRAY_BENCH_CORE_DRIVE_H
#define DRAY_BENCH_CORE_DRIVE_H

#include <stdint.h>

#include "bench/core_graph.h"

struct core_figures {
    uint64_t tasks, edges;
    uint64_t transitions; // moves of tasks between states
    uint64_t turns;
    double submit_s, run_s; // CPU time, of the submission and of all that follows
    double bytes;           // that the scheduler keeps of a task that waits, graph included
};

// Every task must have been handed out and done once, or it aborts.
void core_drive(const struct core_shape *shape, uint32_t tasks, uint32_t workers, struct core_figures *out);

#endif
