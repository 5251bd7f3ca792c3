// Tasks for one thread, in order, and what became of them.
#ifndef DRAY_WORKER_BUNDLE_H
#define DRAY_WORKER_BUNDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/layer.h"

struct bundle_range {
    struct layer *layer; // one reference
    uint32_t first, count;
    uint32_t at; // of its first task in state and cancelled
};

struct outcomes;
enum bundle_task { BUNDLE_WAITING, BUNDLE_STARTED, BUNDLE_WITHDRAWN };

struct bundle {
    struct bundle *next;
    uint64_t epoch; // the owner's
    uint32_t number;
    uint32_t tasks;
    size_t ranges, ranges_max;
    struct bundle_range *range;
    // One a task.  A thread starts what waits, the owner takes back what waits: whoever is first has it.
    _Atomic uint8_t *state;
    atomic_bool *cancelled;
    struct outcomes *outcomes; // made beforehand, so that being over cannot fail
};

struct bundle *bundle_create(uint64_t epoch, uint32_t number, size_t ranges_max);
void bundle_destroy(struct bundle *bundle); // NULL is fine
// At most ranges_max times, before bundle_ready.
void bundle_add(struct bundle *bundle, struct layer *layer, uint32_t first, uint32_t count);
// Makes room for what there is to know of each task.  -ENOMEM.
int bundle_ready(struct bundle *bundle);

// False: it was taken back.
bool bundle_start(struct bundle *bundle, uint32_t task);
// False: it has been started, or taken back before.
bool bundle_withdraw(struct bundle *bundle, uint32_t task);

enum outcome_kind {
    OUTCOME_DONE, // their partitions are in the store
    OUTCOME_FAILED,
    OUTCOME_SKIPPED, // taken back, or an input was not there
};

// Of tasks in a row.
struct outcome {
    enum outcome_kind kind;
    struct layer *layer; // borrowed from the bundle
    uint32_t first, count;
    uint64_t busy_ns;
    uint64_t rows, source_bytes;
    int code; // FAILED
    char *text;
};

// Of a bundle, in the order in which it happened.  The last one of a bundle has `over` and owns it.
struct outcomes {
    struct outcomes *next;
    struct bundle *bundle;
    bool over;
    bool lost; // there was no memory for one of them
    size_t count, capacity;
    struct outcome *outcome;
};

struct outcomes *outcomes_create(struct bundle *bundle); // NULL: no memory
void outcomes_destroy(struct outcomes *outcomes);
// Grows the last one where it can.  -ENOMEM: it is marked as lost.
int outcomes_add(struct outcomes *outcomes, const struct outcome *outcome);

#endif
