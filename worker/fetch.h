// A partition to be had from another worker: the order and its outcome.
#ifndef DRAY_WORKER_FETCH_H
#define DRAY_WORKER_FETCH_H

#include <stdint.h>

#include "proto/error.h"
#include "proto/partition.h"
#include "worker/store/budget.h"

struct fetch {
    struct fetch *next;
    uint64_t epoch; // the owner's
    uint32_t job, layer, index;
    uint32_t worker;
    bool ahead;           // of its task, while others run
    uint64_t incarnation; // of the process that is asked; another one's answer does not count
    char **endpoint;      // of its exchange, best first
    size_t endpoints;
    // outcome
    int rc;
    struct error err;
    bool damaged; // its bytes were not what they were
    struct partition *partition;
    uint64_t charged; // bytes taken from the budget for it
};

struct fetch *fetch_create(size_t endpoints, char *const *endpoint); // copies; NULL: no memory
// Gives back what is charged.
void fetch_destroy(struct fetch *fetch, struct budget *budget);

#endif
