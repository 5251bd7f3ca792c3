#include "worker/layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/error.h"

struct layer *layer_ref(struct layer *layer)
{
    atomic_fetch_add(&layer->refs, 1);
    return layer;
}

void layer_unref(struct layer *layer)
{
    if (layer != NULL && atomic_fetch_sub(&layer->refs, 1) == 1) {
        arena_fini(&layer->arena);
        free(layer);
    }
}

void layers_fini(struct layers *layers)
{
    struct layer *layer;

    for (size_t at = 0; (layer = map_next(&layers->map, &at, NULL)) != NULL;) {
        layer_unref(layer);
    }
    map_fini(&layers->map);
}

static char *make_name(struct arena *arena, const Dray__LayerOp *message, const Dray__Op *op)
{
    if (message->name != NULL && message->name[0] != '\0') {
        return arena_strdup(arena, message->name);
    }
    return op != NULL ? op_describe(op, arena) : arena_printf(arena, "layer %u", message->layer);
}

static Dray__Input *copy_input(struct arena *arena, const Dray__Input *input)
{
    size_t size = dray__input__get_packed_size(input);
    uint8_t *packed = malloc(size > 0 ? size : 1);
    Dray__Input *copy = NULL;

    if (packed != NULL) {
        dray__input__pack(input, packed);
        copy = dray__input__unpack(&arena->protobuf, size, packed);
        free(packed);
    }
    return copy;
}

static int copy_inputs(struct layer *layer, const Dray__LayerOp *message)
{
    layer->input = arena_array(&layer->arena, message->n_input + 1, sizeof(*layer->input));
    layer->input_tasks = arena_array(&layer->arena, message->n_input + 1, sizeof(*layer->input_tasks));
    if (layer->input == NULL || layer->input_tasks == NULL) {
        return -ENOMEM;
    }
    for (; layer->inputs < message->n_input; layer->inputs++) {
        layer->input[layer->inputs] = copy_input(&layer->arena, message->input[layer->inputs]);
        if (layer->input[layer->inputs] == NULL) {
            return -ENOMEM;
        }
        layer->input_tasks[layer->inputs] = message->input_tasks[layer->inputs];
    }
    return 0;
}

int layers_add(struct layers *layers, const Dray__LayerOp *message)
{
    struct map_key key = map_key_task(message->job, message->layer, 0);
    struct layer *layer;
    struct layer *before = map_get(&layers->map, key);

    layer = calloc(1, sizeof(*layer));
    if (layer == NULL) {
        return -ENOMEM;
    }
    atomic_init(&layer->refs, 1);
    arena_init(&layer->arena, 0);
    layer->job = message->job;
    layer->layer = message->layer;
    layer->wanted = message->wanted;
    layer->tasks = message->tasks;
    layer->timeout_ms = message->timeout_ms;
    if (op_decode(message->op.data, message->op.len, &layer->arena, &layer->op, &layer->why) != 0) {
        layer->op = NULL;
    }
    layer->size = layer->op != NULL ? kernel_size(layer->op) : KERNEL_LARGE;
    layer->name = make_name(&layer->arena, message, layer->op);
    if (layer->name == NULL || copy_inputs(layer, message) != 0 || map_put(&layers->map, key, layer) != 0) {
        layer_unref(layer);
        return -ENOMEM;
    }
    layer_unref(before);
    return 0;
}

struct layer *layers_get(const struct layers *layers, uint32_t job, uint32_t layer)
{
    return map_get(&layers->map, map_key_task(job, layer, 0));
}

void layers_drop(struct layers *layers, uint32_t job, uint32_t layer)
{
    layer_unref(map_remove(&layers->map, map_key_task(job, layer, 0)));
}
