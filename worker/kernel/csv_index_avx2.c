#include "worker/kernel/csv_index.h"

#include <immintrin.h>

struct lanes {
    __m256i sep, lf, cr, quote, high;
    bool has_quote;
};

struct masks {
    uint64_t sep, lf, cr, quote;
};

static inline void lanes_init(struct lanes *l, const struct csv_dialect *d)
{
    l->sep = _mm256_set1_epi8((char)d->sep);
    l->lf = _mm256_set1_epi8('\n');
    l->cr = _mm256_set1_epi8('\r');
    l->quote = _mm256_set1_epi8(d->has_quote ? (char)d->quote : '\r');
    l->has_quote = d->has_quote;
    l->high = _mm256_setzero_si256();
}

static inline bool lanes_high(const struct lanes *l)
{
    return _mm256_movemask_epi8(l->high) != 0;
}

static inline uint64_t equal(__m256i low, __m256i high, __m256i byte)
{
    uint32_t a = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, byte));
    uint32_t b = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, byte));

    return a | (uint64_t)b << 32;
}

static inline struct masks masks_of(struct lanes *l, const uint8_t *p)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
    struct masks m = {equal(low, high, l->sep), equal(low, high, l->lf), 0, 0};
    __m256i rare = _mm256_or_si256(
        _mm256_or_si256(_mm256_cmpeq_epi8(low, l->cr), _mm256_cmpeq_epi8(high, l->cr)),
        _mm256_or_si256(_mm256_cmpeq_epi8(low, l->quote), _mm256_cmpeq_epi8(high, l->quote)));

    if (__builtin_expect(_mm256_movemask_epi8(rare) != 0, 0)) {
        m.cr = equal(low, high, l->cr);
        m.quote = l->has_quote ? equal(low, high, l->quote) : 0;
    }
    l->high = _mm256_or_si256(l->high, _mm256_or_si256(low, high));
    return m;
}

static inline uint64_t prefix_xor(uint64_t bits)
{
    __m128i all = _mm_set1_epi8(-1);

    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_set_epi64x(0, (long long)bits), all, 0));
}

static inline uint64_t extract(uint64_t bits, uint64_t mask)
{
    return _pext_u64(bits, mask);
}

// Eight at a time, without asking how many there are: what is too much is overwritten.
static inline void spread(uint32_t *out, uint64_t bits, uint32_t at, const struct lanes *l)
{
    int left = __builtin_popcountll(bits);

    (void)l;
    do {
        for (int i = 0; i < 8; i++) {
            out[i] = at + (uint32_t)_tzcnt_u64(bits);
            bits = _blsr_u64(bits);
        }
        out += 8;
        left -= 8;
    } while (__builtin_expect(left > 0, 0));
}

#include "worker/kernel/csv_index_core.h"

void csv_index_avx2(const struct csv_dialect *dialect, const uint8_t *base, uint32_t from, uint32_t to,
                    struct csv_index *index)
{
    index_blocks(dialect, base, from, to, index);
}
