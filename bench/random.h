// splitmix64 (Steele, Lea, Flood 2014).
#ifndef DRAY_BENCH_RANDOM_H
#define DRAY_BENCH_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

// 0 .. n - 1, n at most 2^32 (Lemire's multiplication; its bias is below 2^-32).
static inline uint32_t random_below(uint64_t *state, uint64_t n)
{
    return (uint32_t)(((random_next(state) >> 32) * n) >> 32);
}

#endif
