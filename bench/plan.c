#include "bench/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/graph.h"

enum {
    LAYERS_MAX = 65536,
    INPUTS_MAX = 4,
    LAYER_HEAD = 12,      // of a layer in a graph: its tag and length
    PACKED_MAX = 32 << 20 // of a message
};

void plan_init(struct plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    arena_init(&plan->arena, 0);
    dray__graph__init(&plan->graph);
    plan->graph.layer = arena_array(&plan->arena, LAYERS_MAX, sizeof(*plan->graph.layer));
    plan->no_memory = plan->graph.layer == NULL;
    plan_count(plan);
}

void plan_fini(struct plan *plan)
{
    arena_fini(&plan->arena);
}

static void *reserve(struct plan *plan, size_t count, size_t size)
{
    void *memory = plan->no_memory ? NULL : arena_array(&plan->arena, count > 0 ? count : 1, size);

    plan->no_memory = memory == NULL;
    return memory;
}

void plan_step(struct plan *plan, const Dray__Step *step)
{
    Dray__Step *steps[] = {(Dray__Step *)(uintptr_t)step};
    Dray__Op op = DRAY__OP__INIT;

    op.n_step = 1;
    op.step = steps;
    plan->op.len = dray__op__get_packed_size(&op);
    plan->op.data = reserve(plan, plan->op.len, 1);
    if (plan->op.data != NULL) {
        dray__op__pack(&op, plan->op.data);
    }
}

void plan_count(struct plan *plan)
{
    Dray__Count count = DRAY__COUNT__INIT;
    Dray__Step step = DRAY__STEP__INIT;

    step.count = &count;
    plan->value_bytes = sizeof(uint64_t);
    plan_step(plan, &step);
}

void plan_busy(struct plan *plan, uint64_t iterations, uint64_t output_bytes)
{
    Dray__Busy busy = DRAY__BUSY__INIT;
    Dray__Step step = DRAY__STEP__INIT;

    busy.has_iterations = busy.has_output_bytes = true;
    busy.iterations = iterations;
    busy.output_bytes = output_bytes;
    step.busy = &busy;
    plan->value_bytes = output_bytes;
    plan_step(plan, &step);
}

Dray__Layer *plan_layer(struct plan *plan, uint32_t tasks, const char *name)
{
    Dray__Layer *layer = reserve(plan, 1, sizeof(*layer));
    Dray__Input **input = reserve(plan, INPUTS_MAX, sizeof(*input));

    if (plan->no_memory || plan->graph.n_layer == LAYERS_MAX) {
        plan->no_memory = true;
        return NULL;
    }
    dray__layer__init(layer);
    layer->tasks = tasks;
    layer->op = plan->op;
    layer->input = input;
    layer->name = (char *)(uintptr_t)name;
    plan->graph.layer[plan->graph.n_layer++] = layer;
    plan->tasks += tasks;
    return layer;
}

Dray__Input *plan_input(struct plan *plan, uint32_t from, Dray__Pattern pattern, uint32_t width)
{
    Dray__Input *input = reserve(plan, 1, sizeof(*input));
    Dray__Layer *layer;

    if (plan->no_memory) {
        return NULL;
    }
    layer = plan->graph.layer[plan->graph.n_layer - 1];
    dray__input__init(input);
    input->layer = from;
    input->pattern = pattern;
    input->has_width = width > 0;
    input->width = width;
    layer->input[layer->n_input++] = input;
    return input;
}

Dray__Input *plan_explicit(struct plan *plan, uint32_t from, size_t edges)
{
    Dray__Input *input = plan_input(plan, from, DRAY__PATTERN__EXPLICIT, 0);

    if (input == NULL) {
        return NULL;
    }
    input->n_offset = (size_t)plan->graph.layer[plan->graph.n_layer - 1]->tasks + 1;
    input->offset = reserve(plan, input->n_offset, sizeof(*input->offset));
    input->n_target = edges;
    input->target = reserve(plan, edges, sizeof(*input->target));
    plan->edges += edges;
    return plan->no_memory ? NULL : input;
}

int plan_finish_from(struct plan *plan, uint32_t wanted_from, struct error *err)
{
    const Dray__Graph *graph = &plan->graph;
    uint64_t results = 0;

    plan->first = reserve(plan, graph->n_layer, sizeof(*plan->first));
    if (plan->no_memory) {
        return error_no_memory(err);
    }
    plan->wanted_from = wanted_from;
    for (uint32_t l = wanted_from; l < graph->n_layer; l++) {
        graph->layer[l]->has_wanted = graph->layer[l]->wanted = true;
        plan->first[l - wanted_from] = (uint32_t)results;
        results += graph->layer[l]->tasks;
    }
    if (results >= UINT32_MAX) {
        return error_set(err, E2BIG, "more than 2^32 results");
    }
    plan->results = (uint32_t)results;
    plan->expected = reserve(plan, plan->results, sizeof(*plan->expected));
    return plan->no_memory ? error_no_memory(err) : 0;
}

int plan_finish(struct plan *plan, struct error *err)
{
    return plan_finish_from(plan, (uint32_t)plan->graph.n_layer - 1, err);
}

uint32_t plan_place(const struct plan *plan, uint32_t layer, uint32_t index)
{
    if (layer < plan->wanted_from || layer >= plan->graph.n_layer ||
        index >= plan->graph.layer[layer]->tasks) {
        return UINT32_MAX;
    }
    return plan->first[layer - plan->wanted_from] + index;
}

int plan_pack(const struct plan *plan, size_t first, size_t *layers, void **out, size_t *size,
              struct error *err)
{
    Dray__Graph part = DRAY__GRAPH__INIT;
    size_t bytes = 0, count = 0;
    void *memory;

    for (size_t l = first; l < plan->graph.n_layer; l++, count++) {
        bytes += dray__layer__get_packed_size(plan->graph.layer[l]) + LAYER_HEAD;
        if (count > 0 && bytes > PACKED_MAX) {
            break;
        }
    }
    part.n_layer = count;
    part.layer = plan->graph.layer + first;
    memory = malloc(dray__graph__get_packed_size(&part) + 1);
    if (memory == NULL) {
        return error_no_memory(err);
    }
    *size = dray__graph__pack(&part, memory);
    *layers = count;
    *out = memory;
    return 0;
}
