// A graph to measure with, and what must come of it: the values of the layers that are wanted, reckoned
// here in a way of its own (proto/op.proto: Count and Busy make 1 + index + the sum of the inputs' values).
#ifndef DRAY_BENCH_PLAN_H
#define DRAY_BENCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/graph.pb-c.h"
#include "proto/op.pb-c.h"

struct plan {
    struct arena arena;
    Dray__Graph graph;
    uint64_t tasks, edges;
    uint32_t wanted_from; // this layer and all after it are wanted
    uint32_t *first;      // of each layer that is wanted, its first result's place in expected
    uint64_t *expected;
    uint32_t results;
    size_t value_bytes;     // of each result
    ProtobufCBinaryData op; // of the layers that are added
    bool no_memory;
};

void plan_init(struct plan *plan);
void plan_fini(struct plan *plan);

// What all tasks of the layers added from now on do.
void plan_count(struct plan *plan);
void plan_busy(struct plan *plan, uint64_t iterations, uint64_t output_bytes);
void plan_step(struct plan *plan, const Dray__Step *step);

// A layer without inputs.  NULL: no memory, as plan_finish says too.
Dray__Layer *plan_layer(struct plan *plan, uint32_t tasks, const char *name);
// An input of the layer that was added last; width as the pattern takes it.
Dray__Input *plan_input(struct plan *plan, uint32_t from, Dray__Pattern pattern, uint32_t width);
// Rows to fill in: offset of tasks + 1 entries, target of `edges`.
Dray__Input *plan_explicit(struct plan *plan, uint32_t from, size_t edges);
// The layers from `wanted_from` on are wanted; expected has room for their values.
int plan_finish_from(struct plan *plan, uint32_t wanted_from, struct error *err);
// The last layer alone.
int plan_finish(struct plan *plan, struct error *err);
// Place of a result in expected; UINT32_MAX: it is not wanted, or there is no such task.
uint32_t plan_place(const struct plan *plan, uint32_t layer, uint32_t index);
// The packed graph of layers from `first` on, as many as a message takes (one at least) and at most all;
// *layers says how many.  *out is the caller's to free.
int plan_pack(const struct plan *plan, size_t first, size_t *layers, void **out, size_t *size,
              struct error *err);

#endif
