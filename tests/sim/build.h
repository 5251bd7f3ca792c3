// Graphs made by hand, for tests of the cores.
#ifndef DRAY_TESTS_SIM_BUILD_H
#define DRAY_TESTS_SIM_BUILD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/arena.h"
#include "proto/graph.h"

enum { BUILD_LAYERS = 256, BUILD_INPUTS = 8, BUILD_SOURCES = 64 };

struct build {
    struct arena arena;
    Dray__Graph graph;
    Dray__Layer *layer[BUILD_LAYERS];
};

static inline void build_init(struct build *build)
{
    arena_init(&build->arena, 0);
    dray__graph__init(&build->graph);
    build->graph.layer = build->layer;
}

static inline void build_fini(struct build *build)
{
    arena_fini(&build->arena);
}

static inline void *build_alloc(struct build *build, size_t count, size_t size)
{
    void *out = arena_array(&build->arena, count, size);

    if (out == NULL) {
        abort();
    }
    return out;
}

static inline uint32_t build_layer(struct build *build, uint32_t tasks)
{
    Dray__Layer *layer = build_alloc(build, 1, sizeof(*layer));

    dray__layer__init(layer);
    layer->tasks = tasks;
    layer->op.data = (uint8_t *)arena_strdup(&build->arena, "op");
    layer->op.len = 2;
    layer->input = build_alloc(build, BUILD_INPUTS, sizeof(Dray__Input *));
    layer->source = build_alloc(build, BUILD_SOURCES, sizeof(Dray__Source *));
    build->layer[build->graph.n_layer] = layer;
    return (uint32_t)build->graph.n_layer++;
}

static inline void build_wanted(struct build *build, uint32_t layer)
{
    build->layer[layer]->has_wanted = 1;
    build->layer[layer]->wanted = 1;
}

static inline Dray__Input *build_input(struct build *build, uint32_t layer, uint32_t source,
                                       Dray__Pattern pattern, uint32_t width)
{
    Dray__Input *input = build_alloc(build, 1, sizeof(*input));

    dray__input__init(input);
    input->layer = source;
    input->pattern = pattern;
    input->has_width = width > 0;
    input->width = width;
    build->layer[layer]->input[build->layer[layer]->n_input++] = input;
    return input;
}

static inline void build_source(struct build *build, uint32_t layer, char *name, uint32_t first,
                                uint32_t count)
{
    Dray__Source *source = build_alloc(build, 1, sizeof(*source));

    dray__source__init(source);
    source->name = name;
    source->first = first;
    source->count = count;
    build->layer[layer]->source[build->layer[layer]->n_source++] = source;
}

// Checked: a test that builds nonsense learns so here.
static inline const Dray__Graph *build_graph(struct build *build)
{
    struct error err = {0};

    if (graph_check(&build->graph, &err) < 0) {
        fprintf(stderr, "build_graph: %s\n", err.text);
        abort();
    }
    return &build->graph;
}

#endif
