#include "worker/kernel/csv_index.h"

#include <immintrin.h>

struct lanes {
    __m512i sep, lf, cr, quote, iota, high;
    bool has_quote;
};

struct masks {
    uint64_t sep, lf, cr, quote;
};

static inline void lanes_init(struct lanes *l, const struct csv_dialect *d)
{
    static const uint8_t iota[64] __attribute__((aligned(64))) = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

    l->sep = _mm512_set1_epi8((char)d->sep);
    l->lf = _mm512_set1_epi8('\n');
    l->cr = _mm512_set1_epi8('\r');
    // Without quoting LF stands in; its mask is not used.
    l->quote = _mm512_set1_epi8(d->has_quote ? (char)d->quote : '\n');
    l->has_quote = d->has_quote;
    l->iota = _mm512_load_si512(iota);
    l->high = _mm512_setzero_si512();
}

static inline bool lanes_high(const struct lanes *l)
{
    return _mm512_movepi8_mask(l->high) != 0;
}

static inline struct masks masks_of(struct lanes *l, const uint8_t *p)
{
    __m512i x = _mm512_loadu_si512(p);
    struct masks m = {_mm512_cmpeq_epi8_mask(x, l->sep), _mm512_cmpeq_epi8_mask(x, l->lf),
                      _mm512_cmpeq_epi8_mask(x, l->cr), 0};

    if (l->has_quote) {
        m.quote = _mm512_cmpeq_epi8_mask(x, l->quote);
    }
    l->high = _mm512_or_si512(l->high, x);
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

// Up to 16 places a store: the bytes' numbers under the mask, packed and widened.
static inline void spread(uint32_t *out, uint64_t bits, uint32_t at, const struct lanes *l)
{
    int count = __builtin_popcountll(bits);
    __m512i packed = _mm512_maskz_compress_epi8(bits, l->iota);
    __m512i first = _mm512_set1_epi32((int)at);

    _mm512_storeu_si512(out, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(packed))));
    if (__builtin_expect(count > 16, 0)) {
        _mm512_storeu_si512(
            out + 16, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 1))));
        _mm512_storeu_si512(
            out + 32, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 2))));
        _mm512_storeu_si512(
            out + 48, _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 3))));
    }
}

#include "worker/kernel/csv_index_core.h"

void csv_index_avx512(const struct csv_dialect *dialect, const uint8_t *base, uint32_t from, uint32_t to,
                      struct csv_index *index)
{
    index_blocks(dialect, base, from, to, index);
}
