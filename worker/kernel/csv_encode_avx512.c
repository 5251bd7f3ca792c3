// Dictionary codes of short strings, eight rows at a time: the hash, the probe of the string's own slot and the
// comparison in vectors; what is not there, longer, or empty goes one by one.
#include "worker/kernel/csv_cells.h"

#include <immintrin.h>
#include <stddef.h>
#include <string.h>

static inline __m512i gather(__m256i at, const void *base)
{
    return _mm512_i32gather_epi64(at, base, 1);
}

static inline __m256i load(const uint32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

// Codes of eight strings base[end - size .. end); the mask of those that are not found.
static inline __mmask8 find(const struct csv_dict_slot *slots, __m512i mask, const uint8_t *base, __m256i end,
                            __m256i size, uint32_t *codes)
{
    __m512i wide = _mm512_cvtepu32_epi64(size);
    __m512i last = gather(_mm256_sub_epi32(end, _mm256_set1_epi32(8)), base);
    __m512i first = gather(_mm256_sub_epi32(end, size), base);
    // See csv_dict_key and csv_dict_hash.
    __mmask8 is_small = _mm512_cmplt_epu64_mask(wide, _mm512_set1_epi64(8));

    last = _mm512_mask_srlv_epi64(last, is_small, last,
                                  _mm512_sub_epi64(_mm512_set1_epi64(64), _mm512_slli_epi64(wide, 3)));
    first = _mm512_mask_mov_epi64(first, is_small, last);
    __m512i x = _mm512_add_epi64(_mm512_add_epi64(first, _mm512_rol_epi64(last, CSV_DICT_TURN)), wide);

    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 32));
    x = _mm512_mul_epu32(x, _mm512_set1_epi64(CSV_DICT_FACTOR));
    // Slots are 32 bytes, the mask is in slots.
    __m256i at = _mm512_cvtepi64_epi32(
        _mm512_slli_epi64(_mm512_and_si512(_mm512_srli_epi64(x, 29), mask), 5));
    __m512i slot_first = gather(at, (const uint8_t *)slots + offsetof(struct csv_dict_slot, first));
    __m512i slot_last = gather(at, (const uint8_t *)slots + offsetof(struct csv_dict_slot, last));
    __m512i slot_size = gather(at, (const uint8_t *)slots + offsetof(struct csv_dict_slot, size));
    // Zero where all agree: the slot's size is the low half, its code the high one.
    __m512i differs = _mm512_or_si512(_mm512_xor_si512(first, slot_first), _mm512_xor_si512(last, slot_last));

    differs = _mm512_or_si512(differs, _mm512_and_si512(_mm512_xor_si512(wide, slot_size),
                                                        _mm512_set1_epi64(UINT32_MAX)));
    _mm256_storeu_si256((__m256i *)(void *)codes, _mm512_cvtepi64_epi32(_mm512_srli_epi64(slot_size, 32)));
    return _mm512_test_epi64_mask(differs, differs) |
           _mm512_cmpge_epu64_mask(_mm512_sub_epi64(wide, _mm512_set1_epi64(1)), _mm512_set1_epi64(CSV_DICT_KEY));
}

static inline void load_spans(const struct csv_cells *cells, uint32_t row, __m256i *end, __m256i *size)
{
    __m256i before;

    if (cells->stride == 1) {
        before = load(cells->before + row);
        *end = load(cells->end + row);
    } else {
        __m256i step = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                          _mm256_set1_epi32((int)cells->stride));
        size_t at = (size_t)row * cells->stride;

        before = _mm256_i32gather_epi32((const int *)(const void *)(cells->before + at), step, 4);
        *end = _mm256_i32gather_epi32((const int *)(const void *)(cells->end + at), step, 4);
    }
    *size = _mm256_sub_epi32(_mm256_sub_epi32(*end, before), _mm256_set1_epi32(1));
}

static int add(const struct csv_cells *cells, struct csv_dict *dict, uint32_t row, uint32_t *codes, struct error *err)
{
    uint32_t start = csv_cell_start(cells, row);

    return csv_dict_add(dict, cells->base + start, csv_cell_end(cells, row) - start, &codes[row], err);
}

int csv_cells_encode_avx512(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out,
                            struct error *err)
{
    const struct csv_cells c = *cells;
    uint32_t *codes = out->values;
    __m256i missing = _mm256_setzero_si256();
    bool some_missing = false;
    uint32_t row = 0;
    int rc = 0;

    memset(out->validity, 0xff, ((size_t)c.rows + 63) / 64 * 8);
    out->nulls = false;
    for (; row + 8 <= c.rows && rc == 0; row += 8) {
        __m256i end;
        __m256i size;

        load_spans(&c, row, &end, &size);
        uint32_t unknown = find(dict->slot, _mm512_set1_epi64(dict->mask), c.base, end, size, codes + row);

        for (; __builtin_expect(unknown != 0, 0) && rc == 0; unknown &= unknown - 1) {
            rc = add(&c, dict, row + (uint32_t)__builtin_ctz(unknown), codes, err);
        }
        missing = _mm256_or_si256(missing, _mm256_cmpeq_epi32(load(codes + row), _mm256_set1_epi32(-1)));
    }
    some_missing = !_mm256_testz_si256(missing, missing);
    for (; row < c.rows && rc == 0; row++) {
        rc = add(&c, dict, row, codes, err);
        some_missing |= codes[row] == CSV_DICT_MISSING;
    }
    if (rc == 0 && some_missing) {
        csv_cells_mark_missing(codes, c.rows, out);
    }
    return rc;
}
