// What one turn has to say to one client of results: the scheduler's actions gathered into as few RESULTS as
// there can be.  A payload frame of a worker goes on as it came when the client gets all of it; otherwise the
// encodings are copied out of it, those of many small frames into one.
#ifndef DRAY_BROKER_RESULTS_H
#define DRAY_BROKER_RESULTS_H

#include "broker/core/sched.h"
#include "broker/parcel.h"
#include "proto/arena.h"
#include "proto/buffer.h"
#include "proto/frame.h"

struct peer;

struct results;

struct results *results_create(void);
void results_destroy(struct results *results); // NULL is fine

// RESULT or RESULT_FAILED; what it points to must live until results_emit.  -ENOMEM.
int results_add(struct results *results, const struct sched_action *action);

struct results_handler {
    void *arg;
    // A message and its payload frames, which are borrowed.
    void (*emit)(void *arg, Dray__Results *message, struct buffer *const *frames, size_t count);
    // The worker that holds a result; NULL: it is not here any more.
    const struct peer *(*worker)(void *arg, uint32_t number);
    // A payload of this worker's was damaged; the client is told to fetch what was in it.
    void (*damaged)(void *arg, uint32_t worker, const struct error *why);
};
// Hands out the messages in the order of the actions (as far as the ranges of one layer go, merged) and
// empties the list.  Messages live in the arena.  -ENOMEM: nothing more will come.
int results_emit(struct results *results, struct parcels *parcels, struct arena *arena,
                 const struct results_handler *handler);

#endif
