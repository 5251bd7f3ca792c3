// A seeded generator: the same seed gives the same world on every machine.
#ifndef DRAY_TESTS_SIM_RANDOM_H
#define DRAY_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/hash.h"

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    random->state += 0x9e3779b97f4a7c15U;
    return hash_mix(random->state);
}

// Below `limit`, which is at least 1.
static inline uint32_t random_below(struct random *random, uint32_t limit)
{
    return (uint32_t)(random_next(random) % limit);
}

static inline uint32_t random_between(struct random *random, uint32_t low, uint32_t high)
{
    return low + random_below(random, high - low + 1);
}

static inline bool random_percent(struct random *random, uint32_t percent)
{
    return random_below(random, 100) < percent;
}

#endif
