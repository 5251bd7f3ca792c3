// Dictionary codes of strings of up to 15 bytes: each is one register (its bytes, zeros, its size), a hash of that finds
// a line of the cache, and whether it was the right one is asked once for eight rows.  Included by
// csv_encode_ISA.c, which defines
//
//   find_strings(cells, row, start, size)  start and size of BLOCK rows, all of which exist
#ifndef DRAY_WORKER_KERNEL_CSV_ENCODE_CORE_H
#define DRAY_WORKER_KERNEL_CSV_ENCODE_CORE_H

#include "worker/kernel/csv_cells.h"

#include <immintrin.h>
#include <string.h>

enum { GROUP = 8, BLOCK = 128 };

static inline void find_strings(const struct csv_cells *cells, uint32_t row, uint32_t *start, uint32_t *size);

// By size: the mask of a string's bytes, and its size in the last byte.
struct shape {
    uint8_t mask[16];
    uint8_t size[16];
};

static void shapes_init(struct shape shape[CSV_CACHE_KEY + 1])
{
    memset(shape, 0, (CSV_CACHE_KEY + 1) * sizeof(*shape));
    for (int size = 0; size <= CSV_CACHE_KEY; size++) {
        memset(shape[size].mask, 0xff, (size_t)size);
        shape[size].size[15] = (uint8_t)size;
    }
}

static inline __m128i load(const void *p)
{
    return _mm_loadu_si128(p);
}

static inline __m128i key_of(const uint8_t *text, const struct shape *shape)
{
    return _mm_or_si128(_mm_and_si128(load(text), load(shape->mask)), load(shape->size));
}

// Two rounds of AES spread each byte over all others.
static inline uint32_t hash_of(__m128i key)
{
    const __m128i turn = _mm_set_epi32(0x243f6a88, (int)0x85a308d3, 0x13198a2e, 0x03707344);

    return (uint32_t)_mm_cvtsi128_si32(_mm_aesenc_si128(_mm_aesenc_si128(key, turn), turn));
}

static int add(struct csv_dict *dict, const struct shape *shapes, const uint8_t *text, uint32_t size, uint32_t *code,
               struct error *err)
{
    int rc;

    if (size - 1 >= CSV_CACHE_KEY) {
        return csv_dict_add(dict, text, size, code, err);
    }
    __m128i key = key_of(text, &shapes[size]);
    struct csv_cache_line *line = &dict->cache[hash_of(key) & dict->cache_mask];
    __m128i differs = _mm_xor_si128(key, load(line->key));

    if (_mm_testz_si128(differs, differs)) {
        *code = line->code;
        return 0;
    }
    rc = csv_dict_add(dict, text, size, code, err);
    if (rc != 0) {
        return rc;
    }
    // Two frequent strings of one line would be slow for ever: more lines part them.
    dict->cache_conflicts += line->key[15] != 0xff;
    if (dict->cache_conflicts > 16) {
        rc = csv_dict_cache_grow(dict, err);
        line = &dict->cache[hash_of(key) & dict->cache_mask];
    }
    _mm_storeu_si128((__m128i *)(void *)line->key, key);
    line->code = *code;
    return rc;
}

static int add_rows(const struct csv_cells *cells, struct csv_dict *dict, const struct shape *shapes, uint32_t row,
                    uint32_t rows, uint32_t *codes, struct error *err)
{
    int rc = 0;

    for (uint32_t i = row; i < row + rows && rc == 0; i++) {
        uint32_t start = csv_cell_start(cells, i);

        rc = add(dict, shapes, cells->base + start, csv_cell_end(cells, i) - start, &codes[i], err);
    }
    return rc;
}

// Behind all stores: in between it would wait for each of them.
static bool has_missing(const uint32_t *codes, uint32_t rows)
{
    bool missing = false;

    for (uint32_t row = 0; row < rows; row++) {
        missing |= codes[row] == CSV_DICT_MISSING;
    }
    return missing;
}

// Eight rows; false: some of them is not in the cache (or too long, or empty), and the codes mean nothing.
static inline bool encode_group(const uint8_t *base, const uint32_t *start, const uint32_t *size,
                                const struct shape *shapes, const struct csv_cache_line *cache, uint32_t mask,
                                uint32_t *codes)
{
    __m128i differs = _mm_setzero_si128();

#pragma GCC unroll 8
    for (uint32_t i = 0; i < GROUP; i++) {
        __m128i key = key_of(base + start[i], &shapes[size[i]]);
        const struct csv_cache_line *line = &cache[hash_of(key) & mask];

        differs = _mm_or_si128(differs, _mm_xor_si128(key, load(line->key)));
        codes[i] = line->code;
    }
    return _mm_testz_si128(differs, differs);
}

static inline int encode_rows(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out,
                              struct error *err)
{
    const struct csv_cells c = *cells;
    struct shape shapes[CSV_CACHE_KEY + 1];
    uint32_t start[BLOCK];
    uint32_t size[BLOCK];
    uint32_t *codes = out->values;
    uint32_t row = 0;
    int rc = dict->cache == NULL ? csv_dict_cache_grow(dict, err) : 0;

    shapes_init(shapes);
    memset(out->validity, 0xff, ((size_t)c.rows + 63) / 64 * 8);
    out->nulls = false;
    for (; row + BLOCK <= c.rows && rc == 0; row += BLOCK) {
        uint32_t sizes = 0;

        find_strings(&c, row, start, size);
        for (uint32_t i = 0; i < BLOCK; i++) {
            sizes |= size[i];
        }
        if (sizes > CSV_CACHE_KEY) {
            rc = add_rows(&c, dict, shapes, row, BLOCK, codes, err);
            continue;
        }
        for (uint32_t i = 0; i < BLOCK && rc == 0; i += GROUP) {
            if (__builtin_expect(!encode_group(c.base, start + i, size + i, shapes, dict->cache, dict->cache_mask,
                                               codes + row + i),
                                 0)) {
                rc = add_rows(&c, dict, shapes, row + i, GROUP, codes, err);
            }
        }
    }
    if (rc == 0) {
        rc = add_rows(&c, dict, shapes, row, c.rows - row, codes, err);
    }
    if (rc == 0 && has_missing(codes, c.rows)) {
        csv_cells_mark_missing(codes, c.rows, out);
    }
    return rc;
}

#endif
