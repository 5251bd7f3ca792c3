// What flows between the steps of a pipeline: a batch of rows as typed vectors
// that fit into the L1/L2 cache.  Vectors belong to the step that made the
// batch and are valid during the push only.
#ifndef DRAY_WORKER_KERNEL_BATCH_H
#define DRAY_WORKER_KERNEL_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/table.h"

#define BATCH_ROWS 4096  // at most; a multiple of 64

struct string_view {
    const char *data;
    uint32_t size;
};

// Distinct strings of one column of one task, numbered by first appearance; it
// only grows, so codes stay valid between batches.
struct dictionary {
    const struct string_view *entry;
    uint32_t count;
};

struct vector {
    enum type type;
    // BOOL: uint8_t 0/1 a row; INT64: int64_t; FLOAT64: double; STRING: struct
    // string_view; DICT: uint32_t codes.  Below a null: zero (code 0 may be out of an empty dictionary).
    const void *values;
    const uint64_t *validity;  // bit a row, 1 = present; NULL: all present.  Bits past rows are unspecified
    const struct dictionary *dictionary;  // DICT.  A column may be DICT in one batch and STRING in the next
};

struct batch {
    uint32_t rows;
    uint32_t columns;
    const struct vector *column;
    // Rows that count, ascending; NULL: all of them.
    const uint16_t *selection;
    uint32_t selected;  // rows when selection is NULL
};

// Row j of those that count.
static inline uint32_t batch_row(const struct batch *batch, uint32_t j)
{
    return batch->selection != NULL ? batch->selection[j] : j;
}

static inline bool vector_present(const struct vector *v, uint32_t row)
{
    return v->validity == NULL || ((v->validity[row >> 6] >> (row & 63)) & 1);
}

// The string of a row that is not null.
static inline struct string_view vector_string(const struct vector *v, uint32_t row)
{
    return v->type == TYPE_DICT ? v->dictionary->entry[((const uint32_t *)v->values)[row]]
                                : ((const struct string_view *)v->values)[row];
}

#endif
