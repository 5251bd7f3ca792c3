// For any machine: plain C, with SSE2's compares where the compiler has them (all of x86-64).
#include "worker/kernel/csv_index.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

struct lanes {
    uint8_t sep, quote;
    bool has_quote;
    uint64_t high;
};

struct masks {
    uint64_t sep, lf, cr, quote;
};

static inline void lanes_init(struct lanes *l, const struct csv_dialect *d)
{
    *l = (struct lanes){.sep = d->sep, .quote = d->quote, .has_quote = d->has_quote};
}

static inline bool lanes_high(const struct lanes *l)
{
    return l->high != 0;
}

static inline struct masks masks_of(struct lanes *l, const uint8_t *p)
{
    struct masks m = {0};

#ifdef __SSE2__
    for (int i = 0; i < 64; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));

        m.sep |= (uint64_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8((char)l->sep))) << i;
        m.lf |= (uint64_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8('\n'))) << i;
        m.cr |= (uint64_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8('\r'))) << i;
        m.quote |= (uint64_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8((char)l->quote))) << i;
        l->high |= (uint64_t)_mm_movemask_epi8(x);
    }
#else
    for (int i = 0; i < 64; i++) {
        m.sep |= (uint64_t)(p[i] == l->sep) << i;
        m.lf |= (uint64_t)(p[i] == '\n') << i;
        m.cr |= (uint64_t)(p[i] == '\r') << i;
        m.quote |= (uint64_t)(p[i] == l->quote) << i;
        l->high |= p[i] >> 7;
    }
#endif
    m.quote = l->has_quote ? m.quote : 0;
    return m;
}

static inline uint64_t prefix_xor(uint64_t bits)
{
    for (int shift = 1; shift < 64; shift *= 2) {
        bits ^= bits << shift;
    }
    return bits;
}

static inline uint64_t extract(uint64_t bits, uint64_t mask)
{
    uint64_t out = 0;

    for (int i = 0; mask != 0; i++) {
        out |= (bits >> __builtin_ctzll(mask) & 1) << i;
        mask &= mask - 1;
    }
    return out;
}

static inline void spread(uint32_t *out, uint64_t bits, uint32_t at, const struct lanes *l)
{
    (void)l;
    while (bits != 0) {
        *out++ = at + (uint32_t)__builtin_ctzll(bits);
        bits &= bits - 1;
    }
}

#include "worker/kernel/csv_index_core.h"

void csv_index_baseline(const struct csv_dialect *dialect, const uint8_t *base, uint32_t from, uint32_t to,
                        struct csv_index *index)
{
    index_blocks(dialect, base, from, to, index);
}
