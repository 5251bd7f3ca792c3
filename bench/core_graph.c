#include "bench/core_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/hash.h"

enum { LAYERS_ROOM = 4096, INPUTS_ROOM = 2 };

static void *take(struct core_graph *graph, size_t count, size_t size)
{
    void *out = arena_array(&graph->arena, count, size);

    if (out == NULL) {
        fputs("dray-bench: no memory for a graph\n", stderr);
        exit(1);
    }
    return out;
}

static uint32_t add_layer(struct core_graph *graph, uint32_t tasks)
{
    Dray__Layer *layer = take(graph, 1, sizeof(*layer));

    dray__layer__init(layer);
    layer->tasks = tasks;
    layer->op.data = take(graph, 2, 1);
    layer->op.len = 2;
    memcpy(layer->op.data, "op", 2);
    layer->input = take(graph, INPUTS_ROOM, sizeof(Dray__Input *));
    graph->graph->layer[graph->graph->n_layer] = layer;
    return (uint32_t)graph->graph->n_layer++;
}

static Dray__Input *add_input(struct core_graph *graph, uint32_t at, uint32_t source, Dray__Pattern pattern,
                              uint32_t width)
{
    Dray__Input *input = take(graph, 1, sizeof(*input));
    Dray__Layer *layer = graph->graph->layer[at];

    dray__input__init(input);
    input->layer = source;
    input->pattern = pattern;
    input->has_width = width > 0;
    input->width = width;
    layer->input[layer->n_input++] = input;
    return input;
}

static void want(struct core_graph *graph, uint32_t layer)
{
    graph->graph->layer[layer]->has_wanted = 1;
    graph->graph->layer[layer]->wanted = 1;
}

static uint32_t at_least(uint32_t count, uint32_t least)
{
    return count < least ? least : count;
}

// ---- one for each pattern ------------------------------------------------------------------------

static void make_independent(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    want(graph, add_layer(graph, tasks));
}

static void make_grid(struct core_graph *graph, uint32_t tasks, uint32_t width, Dray__Pattern pattern,
                      uint32_t reach)
{
    uint32_t layers = at_least(tasks / width, 2);

    layers = layers < LAYERS_ROOM ? layers : LAYERS_ROOM;
    for (uint32_t l = 0; l < layers; l++) {
        uint32_t layer = add_layer(graph, tasks / layers);

        if (l > 0) {
            add_input(graph, layer, layer - 1, pattern, reach);
        }
    }
    want(graph, layers - 1);
}

static void make_one_to_one(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    make_grid(graph, tasks, at_least(tasks / 10, 1), DRAY__PATTERN__ONE_TO_ONE, 0);
}

static void reduce(struct core_graph *graph, uint32_t leaves, uint32_t fan)
{
    while (leaves > 1) {
        uint32_t layer = add_layer(graph, (leaves + fan - 1) / fan);

        add_input(graph, layer, layer - 1, DRAY__PATTERN__FAN_IN, fan);
        leaves = graph->graph->layer[layer]->tasks;
    }
    want(graph, (uint32_t)graph->graph->n_layer - 1);
}

static void make_tree(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    add_layer(graph, at_least(tasks / 2, 2));
    reduce(graph, at_least(tasks / 2, 2), 2);
}

static void make_all(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    // A graph may have 2^36 edges.
    make_grid(graph, tasks, tasks / 2 < 4000 ? at_least(tasks / 2, 1) : 4000, DRAY__PATTERN__ALL, 0);
}

static void make_broadcast(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    add_layer(graph, 1);
    add_input(graph, add_layer(graph, at_least(tasks, 2) - 1), 0, DRAY__PATTERN__BROADCAST, 0);
    want(graph, 1);
}

static void make_stencil(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    make_grid(graph, tasks, at_least(tasks / 10, 1), DRAY__PATTERN__WINDOW, 1);
}

static void make_chain(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    uint32_t layer = add_layer(graph, tasks);

    (void)width;
    add_input(graph, layer, layer, DRAY__PATTERN__LAG, 1);
    want(graph, layer);
}

// Tasks of one layer: the first `roots` need nothing, each of the others `row` of those that come
// `least` to `most` before it.
static void add_random(struct core_graph *graph, uint32_t tasks, uint32_t roots, uint32_t row, uint32_t least,
                       uint32_t most)
{
    uint32_t layer = add_layer(graph, tasks);
    Dray__Input *input = add_input(graph, layer, layer, DRAY__PATTERN__EXPLICIT, 0);
    uint64_t edge = 0;

    // Those of the roots are empty, all others as long as one another.
    input->n_offset = (size_t)roots + 1;
    input->offset = take(graph, input->n_offset, sizeof(uint32_t));
    memset(input->offset, 0, input->n_offset * sizeof(uint32_t));
    input->has_width = 1;
    input->width = row;
    input->target = take(graph, (size_t)(tasks - roots) * row, sizeof(uint32_t));
    for (uint32_t i = roots; i < tasks; i++) {
        for (uint32_t n = 0; n < row; n++) {
            uint32_t reach = i < most ? i : most;
            uint32_t from = reach < least ? reach : least;

            input->target[input->n_target++] = i - from - (uint32_t)(hash_mix(++edge) % (reach - from + 1));
        }
    }
}

static void make_explicit(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    uint32_t roots = at_least(tasks / 10, 1);

    (void)width;
    add_random(graph, tasks, roots, 3, 1, tasks);
    want(graph, 0);
}

// As a pool grows: many layers, whose tasks need three random ones of all that were before.  An input for
// each layer that is named.
enum { FAR_ROW = 3, FAR_TASKS = 1000, FAR_LAYERS = 1000 };

static uint64_t far_target(uint32_t layer, uint32_t each, uint32_t i, uint32_t n)
{
    return hash_mix(((uint64_t)layer * each + i) * FAR_ROW + n) % ((uint64_t)layer * each);
}

static void add_far(struct core_graph *graph, uint32_t each)
{
    uint32_t at = add_layer(graph, each);
    Dray__Layer *layer = graph->graph->layer[at];
    Dray__Input **of = take(graph, (size_t)at + 1, sizeof(Dray__Input *)); // by source
    uint32_t *count = take(graph, (size_t)at + 1, sizeof(uint32_t));

    memset(of, 0, (size_t)at * sizeof(Dray__Input *));
    memset(count, 0, (size_t)at * sizeof(uint32_t));
    layer->input = take(graph, (size_t)at + 1, sizeof(Dray__Input *));
    for (uint32_t e = 0; at > 0 && e < each * FAR_ROW; e++) {
        count[far_target(at, each, e / FAR_ROW, e % FAR_ROW) / each]++;
    }
    // Only the tasks that need something of a layer are listed, as libdray does.
    for (uint32_t source = 0; source < at; source++) {
        if (count[source] > 0) {
            of[source] = add_input(graph, at, source, DRAY__PATTERN__EXPLICIT, 0);
            of[source]->task = take(graph, count[source], sizeof(uint32_t));
            of[source]->offset = take(graph, (size_t)count[source] + 1, sizeof(uint32_t));
            of[source]->target = take(graph, count[source], sizeof(uint32_t));
            of[source]->offset[0] = 0;
            of[source]->n_offset = 1;
        }
    }
    for (uint32_t e = 0; at > 0 && e < each * FAR_ROW; e++) {
        uint64_t target = far_target(at, each, e / FAR_ROW, e % FAR_ROW);
        Dray__Input *input = of[target / each];

        if (input->n_task == 0 || input->task[input->n_task - 1] != e / FAR_ROW) {
            input->task[input->n_task++] = e / FAR_ROW;
            input->n_offset++;
        }
        input->target[input->n_target++] = (uint32_t)(target % each);
        input->offset[input->n_task] = (uint32_t)input->n_target;
    }
    want(graph, at);
}

static void make_far(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    uint32_t layers = tasks / FAR_TASKS < FAR_LAYERS ? at_least(tasks / FAR_TASKS, 2) : FAR_LAYERS;

    (void)width;
    for (uint32_t l = 0; l < layers; l++) {
        add_far(graph, at_least(tasks / layers, 1));
    }
}

const struct core_shape core_patterns[] = {
    {"independent", "one layer without inputs", make_independent},
    {"one-to-one", "10 layers, each task after one", make_one_to_one},
    {"tree", "a reduction by twos", make_tree},
    {"all-to-all", "layers of 4,000, each task after all of the layer before", make_all},
    {"broadcast", "all after one", make_broadcast},
    {"stencil", "10 layers, each task after three neighbours", make_stencil},
    {"explicit", "each task after three random earlier ones", make_explicit},
    {"far", "layers of 1,000, each task after three random ones of all before", make_far},
    {"chain", "each task after the one before", make_chain},
    {NULL, NULL, NULL},
};

// ---- what people run -------------------------------------------------------------------------------

static void make_map_reduce(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    uint32_t maps = at_least((uint32_t)((uint64_t)tasks * 15 / 16), 2);

    (void)width;
    add_layer(graph, maps);
    reduce(graph, maps, 16);
}

static void make_chains(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    make_grid(graph, tasks, 4 * width, DRAY__PATTERN__ONE_TO_ONE, 0);
}

static void make_wide_stencil(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    make_grid(graph, tasks, 8 * width, DRAY__PATTERN__WINDOW, 1);
}

static void make_shuffle(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    (void)width;
    make_grid(graph, tasks, at_least(tasks / 2, 1), DRAY__PATTERN__ALL, 0);
}

static void make_random(struct core_graph *graph, uint32_t tasks, uint32_t width)
{
    uint32_t roots = 16 * width < tasks ? 16 * width : tasks;

    add_random(graph, tasks, roots, 3, 8 * width, 24 * width);
    want(graph, 0);
}

const struct core_shape core_jobs[] = {
    {"map-reduce", "many tasks and a tree of 16 over them", make_map_reduce},
    {"tree", "a reduction by twos", make_tree},
    {"chains", "four chains a thread, side by side", make_chains},
    {"stencil", "eight columns a thread, each task after three neighbours", make_wide_stencil},
    {"shuffle", "two layers, each task after all", make_shuffle},
    {"random", "each task after three random earlier ones", make_random},
    {"independent", "one layer without inputs", make_independent},
    {NULL, NULL, NULL},
};

// ---- the graph -------------------------------------------------------------------------------------

static uint64_t edges_of(const Dray__Graph *graph, const Dray__Layer *layer)
{
    uint64_t edges = 0;

    for (size_t k = 0; k < layer->n_input; k++) {
        const Dray__Input *input = layer->input[k];
        uint32_t source = graph->layer[input->layer]->tasks;

        if (input->pattern == DRAY__PATTERN__EXPLICIT) {
            edges += input->n_target;
        } else if (input->pattern == DRAY__PATTERN__ALL) {
            edges += (uint64_t)source * layer->tasks;
        } else {
            for (uint32_t i = 0; i < layer->tasks; i++) {
                edges += input_needs(input, layer->tasks, source, i).count;
            }
        }
    }
    return edges;
}

void core_graph_init(struct core_graph *graph, const struct core_shape *shape, uint32_t tasks, uint32_t width)
{
    struct error err = {0};

    *graph = (struct core_graph){.graph = NULL};
    arena_init(&graph->arena, 0);
    graph->graph = take(graph, 1, sizeof(*graph->graph));
    dray__graph__init(graph->graph);
    graph->graph->layer = take(graph, LAYERS_ROOM + 64, sizeof(Dray__Layer *));
    shape->make(graph, tasks, at_least(width, 1));
    if (graph_check(graph->graph, &err) < 0) {
        fprintf(stderr, "dray-bench: graph '%s' of %u tasks: %s\n", shape->name, tasks, err.text);
        exit(1);
    }
    for (size_t l = 0; l < graph->graph->n_layer; l++) {
        graph->tasks += graph->graph->layer[l]->tasks;
        graph->edges += edges_of(graph->graph, graph->graph->layer[l]);
    }
}

void core_graph_fini(struct core_graph *graph)
{
    arena_fini(&graph->arena);
}

const struct core_shape *core_shape_find(const struct core_shape *table, const char *name)
{
    while (table->name != NULL && strcmp(table->name, name) != 0) {
        table++;
    }
    return table->name != NULL ? table : NULL;
}
