// Where fields start and end, 16 rows at a time.  Included by the AVX-512 kernels alone.
#ifndef DRAY_WORKER_KERNEL_CSV_SPANS_AVX512_H
#define DRAY_WORKER_KERNEL_CSV_SPANS_AVX512_H

#include <immintrin.h>

#include "worker/kernel/csv_cells.h"

// Without optimisation gcc's gathers are macros with a conversion in them.
#pragma GCC diagnostic ignored "-Wsign-conversion"

// How to pick every stride-th place: up to SPANS_STRIDE_MAX by permutations of all places in between (gathers are slow),
// beyond by a gather.
enum { SPANS_STRIDE_MAX = 8 };

struct spans {
    const uint32_t *before;
    const uint32_t *end;
    size_t stride;
    __m512i step;  // lane * stride
    __mmask16 part[SPANS_STRIDE_MAX];  // lanes whose place lies in the part-th 16
};

static inline void spans_init(struct spans *s, const struct csv_cells *cells)
{
    __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    s->before = cells->before;
    s->end = cells->end;
    s->stride = cells->stride;
    s->step = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)cells->stride));
    for (int i = 0; i < SPANS_STRIDE_MAX; i++) {
        s->part[i] = _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(s->step, 4), _mm512_set1_epi32(i));
    }
}

static inline __m512i spans_pick(const struct spans *s, const uint32_t *first)
{
    __m512i out;

    if (s->stride > SPANS_STRIDE_MAX) {
        return _mm512_i32gather_epi32(s->step, first, 4);
    }
    out = _mm512_permutexvar_epi32(s->step, _mm512_loadu_si512(first));
    for (size_t i = 1; i < s->stride; i++) {
        out = _mm512_mask_permutexvar_epi32(out, s->part[i], s->step, _mm512_loadu_si512(first + 16 * i));
    }
    return out;
}

// Rows row .. row + 15, all of which exist.
static inline void spans_load(const struct spans *s, size_t row, __m512i *start, __m512i *end)
{
    *start = _mm512_add_epi32(spans_pick(s, s->before + row * s->stride), _mm512_set1_epi32(1));
    *end = spans_pick(s, s->end + row * s->stride);
}

#endif
