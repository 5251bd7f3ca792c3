// A set of small integers as a bitmap with two summaries above it, so that the
// next member is found without walking over empty stretches.  One bit a member
// and 1.6 % on top.  The words are the caller's (zeroed).
#ifndef DRAY_BROKER_CORE_BITS_H
#define DRAY_BROKER_CORE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITS_NONE UINT32_MAX

struct bits {
    uint64_t *word; // level 0, then level 1 (a bit for a word below), then level 2
    uint32_t size;  // members are 0 .. size - 1
};

size_t bits_words(uint32_t size); // words that a set of this size needs

static inline bool bits_test(const struct bits *bits, uint32_t i)
{
    return (bits->word[i / 64] >> (i % 64) & 1) != 0;
}
// The summaries, when a word got its first member, or lost its last one.
void bits_light(struct bits *bits, uint32_t i);
void bits_dim(struct bits *bits, uint32_t i);
static inline void bits_set(struct bits *bits, uint32_t i)
{
    uint64_t old = bits->word[i / 64];

    bits->word[i / 64] = old | UINT64_C(1) << (i % 64);
    if (old == 0) {
        bits_light(bits, i);
    }
}
static inline void bits_clear(struct bits *bits, uint32_t i)
{
    bits->word[i / 64] &= ~(UINT64_C(1) << (i % 64));
    if (bits->word[i / 64] == 0) {
        bits_dim(bits, i);
    }
}
void bits_set_range(struct bits *bits, uint32_t first, uint32_t count);
void bits_clear_range(struct bits *bits, uint32_t first, uint32_t count);
// The least member >= from, or BITS_NONE.
uint32_t bits_next(const struct bits *bits, uint32_t from);
// How many of i, i + 1, ... are members without a gap, at most max.
uint32_t bits_run(const struct bits *bits, uint32_t i, uint32_t max);

#endif
