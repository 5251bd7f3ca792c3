// One field of many rows, and what converts it.
#ifndef DRAY_WORKER_KERNEL_CSV_CELLS_H
#define DRAY_WORKER_KERNEL_CSV_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/kernel/batch.h"
#include "worker/kernel/csv_dict.h"
#include "worker/kernel/csv_value.h"

// The text of row r is base[before[r * stride] + 1 .. end[r * stride]), without quotes and CR.  CSV_SLACK bytes
// on either side of base's text are readable.
struct csv_cells {
    const uint8_t *base;
    const uint32_t *before;
    const uint32_t *end;
    uint32_t stride;
    uint32_t rows;
};

static inline uint32_t csv_cell_start(const struct csv_cells *cells, uint32_t row)
{
    return cells->before[(size_t)row * cells->stride] + 1;
}

static inline uint32_t csv_cell_end(const struct csv_cells *cells, uint32_t row)
{
    return cells->end[(size_t)row * cells->stride];
}

// A vector under construction: values below a null are zero; validity has a word for every 64 rows, and values has
// room for the rows rounded up to 64.
struct csv_vector {
    void *values;
    uint64_t *validity;
    bool nulls;  // false: validity is all ones
};

// Convert all rows; give the number of rows that fit, cells->rows when all did.  After a misfit the vector's
// content means nothing.
typedef uint32_t csv_convert_fn(const struct csv_cells *cells, const struct csv_missing *missing,
                                struct csv_vector *out);
csv_convert_fn csv_cells_bool;  // uint8_t
csv_convert_fn csv_cells_int64;
csv_convert_fn csv_cells_float64;
csv_convert_fn csv_cells_string;  // struct string_view; always fits
csv_convert_fn csv_cells_int64_avx2;
csv_convert_fn csv_cells_float64_avx2;
csv_convert_fn csv_cells_int64_avx512;
csv_convert_fn csv_cells_float64_avx512;

// Those of 64 rows from `row` on that a vector kernel left over, a bit each, one by one; bits from `rows` on
// are ignored.  `values` is that of the first row.  The row that does not fit; `rows`: all do.
uint32_t csv_cells_odd_float64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                               uint32_t rows, uint64_t odd, uint64_t *nulls, double *values);
uint32_t csv_cells_odd_int64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                             uint32_t rows, uint64_t odd, int64_t *values);

// uint32_t codes.  0; 1: the dictionary is full, nothing was made; -ENOMEM.
typedef int csv_encode_fn(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out,
                          struct error *err);
csv_encode_fn csv_cells_encode;
csv_encode_fn csv_cells_encode_avx2;
csv_encode_fn csv_cells_encode_avx512;

// Marks rows whose code is CSV_DICT_MISSING as null.
void csv_cells_mark_missing(uint32_t *codes, uint32_t rows, struct csv_vector *out);

#endif
