// FETCHes that go by way of the broker, from their reader to the worker that holds the bytes, and have no
// answer yet: which may be passed on, and which have to wait.  No I/O.  They share sockets with all else that
// is said, so few are under way.  Those for one worker are passed on in the order in which they came; the
// workers take turns.  All steps take the same time, however many there are.
#ifndef DRAY_BROKER_CORE_RELAYS_H
#define DRAY_BROKER_CORE_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire.pb-c.h"

enum {
    RELAYS_OF_READER_MAX = 64,  // waiting and under way
    RELAYS_TO_WORKER_MAX = 8,   // under way
    RELAYS_UNDER_WAY_MAX = 256, // in all
};

struct relay;
struct relay_list {
    struct relay *first, *last;
};

// What a peer has of them, as a reader and as a worker.  All zero: nothing.
struct relay_end {
    struct relay_list asked; // by it
    size_t asks;
    struct relay_list waiting, passed; // to it
    unsigned under_way;                // passed on, and not answered
    bool ready;                        // in the list of those that may be passed something
    struct relay_end *next, *previous; // in that list
};

struct relay {
    uint32_t reader, worker; // numbers of peers
    uint32_t tag;            // the reader's
    uint32_t job, layer, index;
    uint64_t offset;
    uint32_t length;
    bool passed;            // to the worker
    struct relay_end *from; // the reader's; NULL: it has gone, and the worker has not answered yet
    struct relay_end *to;   // the worker's
    struct {
        struct relay *next, *previous;
    } link[2];
    size_t n_also;
    uint32_t also[];
};

// All zero: none.
struct relays {
    struct relay_end *first, *last; // workers that may be passed something, in turns
    size_t waiting, under_way;
};

// Ends stay where they are until relays_leave was called for them.  NULL: no memory.
struct relay *relays_add(struct relays *relays, uint32_t reader, struct relay_end *from, uint32_t worker,
                         struct relay_end *to, const Dray__Fetch *fetch);
// One to be passed on now, which counts as passed.  NULL: none.
struct relay *relays_next(struct relays *relays);
// What a worker was passed for this reader with this tag; NULL: there is none.
struct relay *relays_find(const struct relay_end *to, uint32_t reader, uint32_t tag);
// The worker has answered, or will not.
void relays_end(struct relays *relays, struct relay *relay);
// A reader has gone.  What was passed on keeps its place until the worker has answered: who comes and goes
// has no more under way than who stays.
void relays_reader_gone(struct relays *relays, struct relay_end *from);
// A worker has gone: call until NULL, and end each of them.
struct relay *relays_of_worker(const struct relay_end *to);

#endif
