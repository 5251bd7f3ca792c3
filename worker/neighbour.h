// The exchanges of other workers, as the broker told.
#ifndef DRAY_WORKER_NEIGHBOUR_H
#define DRAY_WORKER_NEIGHBOUR_H

#include <stddef.h>
#include <stdint.h>

#include "proto/map.h"
#include "proto/wire.pb-c.h"

struct neighbour {
    uint64_t incarnation;
    size_t endpoints;
    char **endpoint; // best first
};

// All zeros: none.
struct neighbours {
    struct map map; // by number
};
void neighbours_fini(struct neighbours *neighbours); // and there are none

// Copies; replaces what was known of this worker.  -ENOMEM: what was known stays.
int neighbours_add(struct neighbours *neighbours, const Dray__Peer *peer);
const struct neighbour *neighbours_find(const struct neighbours *neighbours,
                                        uint32_t worker); // NULL: not told

#endif
