#include <stdint.h>
#include <stdlib.h>

#include "proto/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct span *s, uint32_t limit)
{
    for (uint32_t i = 0; i < s->count; i += 1 + s->count / 64) {
        if (span_at(s, i) >= limit) {
            abort();
        }
    }
}

static void walk_input(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks)
{
    struct edge_index *index = NULL;

    if (input->pattern == DRAY__PATTERN__EXPLICIT) {
        index = edge_index_create(input, tasks, source_tasks);
        if (index == NULL) {
            return;
        }
    }
    for (uint32_t i = 0; i < tasks; i += 1 + tasks / 64) {
        struct span needs = input_needs(input, tasks, source_tasks, i);

        walk(&needs, source_tasks);
    }
    for (uint32_t i = 0; i < source_tasks; i += 1 + source_tasks / 64) {
        struct span dependents = input_dependents(input, tasks, source_tasks, index, i);

        walk(&dependents, tasks);
    }
    edge_index_destroy(index);
}

// Graphs: no edge of what is taken leads outside.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    const Dray__Graph *graph;

    arena_init(&arena, 0);
    if (graph_decode(data, size, &arena, &graph, NULL) == 0) {
        for (size_t i = 0; i < graph->n_layer; i++) {
            for (size_t k = 0; k < graph->layer[i]->n_input; k++) {
                const Dray__Input *input = graph->layer[i]->input[k];

                walk_input(input, graph->layer[i]->tasks, graph->layer[input->layer]->tasks);
            }
        }
    }
    arena_fini(&arena);
    return 0;
}
