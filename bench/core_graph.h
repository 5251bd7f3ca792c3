// Graphs for measuring the scheduler: a name, a shape, about so many tasks.
#ifndef DRAY_BENCH_CORE_GRAPH_H
#define DRAY_BENCH_CORE_GRAPH_H

#include <stdint.h>

#include "proto/arena.h"
#include "proto/graph.h"

struct core_graph {
    struct arena arena; // all that it is made of, and nothing else
    Dray__Graph *graph; // checked
    uint64_t tasks, edges;
};

// Rows of a table; `width` is how many tasks should be able to run at a time, where the shape has a choice.
struct core_shape {
    const char *name, *what;
    void (*make)(struct core_graph *graph, uint32_t tasks, uint32_t width);
};
extern const struct core_shape core_patterns[]; // up to a row without a name: one for each pattern
extern const struct core_shape core_jobs[];     // what people run

// Aborts when there is no memory or the graph is none.
void core_graph_init(struct core_graph *graph, const struct core_shape *shape, uint32_t tasks,
                     uint32_t width);
void core_graph_fini(struct core_graph *graph);
// NULL: there is none of this name.
const struct core_shape *core_shape_find(const struct core_shape *table, const char *name);

#endif
