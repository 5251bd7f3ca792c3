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
    layer->timeout_ms = message->timeout_ms;
    if (op_decode(message->op.data, message->op.len, &layer->arena, &layer->op, &layer->why) != 0) {
        layer->op = NULL;
    }
    layer->name = make_name(&layer->arena, message, layer->op);
    if (layer->name == NULL || map_put(&layers->map, key, layer) != 0) {
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
