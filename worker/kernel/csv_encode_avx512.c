#include "worker/kernel/csv_encode_core.h"

#include "worker/kernel/csv_spans_avx512.h"

static inline void find_strings(const struct csv_cells *cells, uint32_t row, uint32_t *start, uint32_t *size)
{
    struct spans spans;

    spans_init(&spans, cells);
    for (uint32_t i = 0; i < BLOCK; i += 16) {
        __m512i s;
        __m512i e;

        spans_load(&spans, row + i, &s, &e);
        _mm512_storeu_si512(start + i, s);
        _mm512_storeu_si512(size + i, _mm512_sub_epi32(e, s));
    }
}

int csv_cells_encode_avx512(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out,
                            struct error *err)
{
    return encode_rows(cells, dict, out, err);
}
