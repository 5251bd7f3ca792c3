// Partitions that a worker holds, and finds to be damaged.
#include "tests/sim/world.h"

#include <stdlib.h>

// The agent hears of it before anything else that came of it.
static void damage(struct world *world, struct host *host, struct map_key key)
{
    struct agent_event event = {.type = AGENT_LOST};

    event.u.range.range =
        (struct agent_range){(uint32_t)key.hi, (uint32_t)(key.lo >> 32), (uint32_t)key.lo, 1};
    map_remove(&host->store, key);
    // What is told as made after that is freed without being there.
    if (map_put(&host->forgotten, (struct map_key){key.hi, key.lo >> 32}, host) < 0) {
        abort();
    }
    host_events(world, host, &event, 1);
}

void host_rot(struct world *world, struct host *host)
{
    uint32_t which = host->store.count > 0 ? random_below(&world->random, (uint32_t)host->store.count) : 0;
    struct map_key key;
    size_t at = 0;

    while (map_next(&host->store, &at, &key) != NULL) {
        if (which-- == 0) {
            damage(world, host, key);
            return;
        }
    }
}
