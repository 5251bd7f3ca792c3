// Plan -> graph of layers.
#ifndef DRAY_CLIENT_PLAN_LOWER_H
#define DRAY_CLIENT_PLAN_LOWER_H

#include "client/plan/node.h"
#include "proto/graph.pb-c.h"

#define LOWER_FAN_IN 32U // inputs of one combining task; fixed, so that sums are added in a fixed order

struct lower_options {
    const uint32_t *starts_quoted; // blocks that begin inside quotes, ascending
    size_t starts;
    uint32_t head_blocks; // at most so many blocks, when the plan begins with a head; 0: all
};

struct lowered {
    Dray__Graph graph;
    Dray__Layer **layer;
    Dray__Op **op; // of each layer, unpacked, to describe them
    uint32_t layers;
    uint32_t scan_tasks; // tasks of layer 0
    uint32_t result_layer;
    uint32_t count_layer; // UINT32_MAX: none; else its one partition is how many rows the head got
    bool head_counts;     // the rows of the result are as many as the head got
    uint64_t head_rows;   // wanted by a head over the scan; UINT64_MAX: there is none
    const struct csv_source *source;
    // Layer 0's scan, column by column: of the source.
    const uint32_t *scan_column;
    uint32_t scan_columns;
};

// -ENOMEM or 0.  Lives in the arena.
int lower_plan(struct arena *arena, const struct node *root, const struct lower_options *options,
               struct lowered *out, struct error *err);
// One task a block that finds out where quotes open and close; its partitions are wanted.
int lower_quotes(struct arena *arena, const struct node *root, struct lowered *out, struct error *err);

#endif
