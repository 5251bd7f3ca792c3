#include "worker/kernel/csv_encode_core.h"

static inline void find_strings(const struct csv_cells *cells, uint32_t row, uint32_t *start, uint32_t *size)
{
    const uint32_t *before = cells->before + (size_t)row * cells->stride;
    const uint32_t *end = cells->end + (size_t)row * cells->stride;
    size_t stride = cells->stride;

    for (uint32_t i = 0; i < BLOCK; i++, before += stride, end += stride) {
        uint32_t s = *before + 1;

        start[i] = s;
        size[i] = *end - s;
    }
}

int csv_cells_encode_avx2(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out,
                          struct error *err)
{
    return encode_rows(cells, dict, out, err);
}
