// Operations that the broker has told, decoded once a layer and shared by the tasks that
// run them.
#ifndef DRAY_WORKER_LAYER_H
#define DRAY_WORKER_LAYER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/map.h"
#include "proto/op.h"
#include "proto/wire.pb-c.h"
#include "worker/kernel/kernel.h"

struct layer {
    uint32_t job, layer;
    char *name;         // for people; never NULL
    const Dray__Op *op; // NULL: it could not be decoded, see `why`
    struct error why;
    enum kernel_size size;
    bool wanted;
    uint32_t tasks;
    uint32_t timeout_ms; // of one attempt; 0: none
    size_t inputs;
    Dray__Input **input;
    uint32_t *input_tasks;
    atomic_bool slow; // its tasks take longer than is worth gathering them
    // Progress that no DONE has carried yet.
    uint64_t rows, source_bytes, busy_ns;
    // private
    _Atomic unsigned refs;
    struct arena arena;
};

struct layers {
    struct map map;
};

void layers_fini(struct layers *layers);
// -ENOMEM.  An operation that is wrong is kept with its error, for the tasks to fail with.
int layers_add(struct layers *layers, const Dray__LayerOp *message);
struct layer *layers_get(const struct layers *layers, uint32_t job, uint32_t layer); // borrowed
void layers_drop(struct layers *layers, uint32_t job, uint32_t layer);

struct layer *layer_ref(struct layer *layer);
void layer_unref(struct layer *layer); // from any thread

#endif
