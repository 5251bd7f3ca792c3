// One value from its text, exactly and without hurry: the rules that every faster
// path must agree with, and what the faster paths hand over.
#ifndef DRAY_WORKER_KERNEL_CSV_VALUE_H
#define DRAY_WORKER_KERNEL_CSV_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"
#include "proto/table.h"

// Spellings of a missing value.
struct csv_missing {
    const ProtobufCBinaryData *spelling;
    size_t spellings;
    const double *number;  // those that are numbers: a float column compares values, as pandas does
    size_t numbers;
    bool empty;             // "" is among them
    uint64_t lengths[256];  // by first byte: bit n is set when one has n bytes (63: or more)
};

int csv_missing_init(struct csv_missing *missing, const Dray__CsvDialect *dialect, struct arena *arena,
                     struct error *err);
bool csv_missing_search(const struct csv_missing *missing, const void *text, size_t size);

static inline bool csv_is_missing(const struct csv_missing *m, const uint8_t *text, size_t size)
{
    if (size == 0) {
        return m->empty;
    }
    return ((m->lengths[text[0]] >> (size < 63 ? size : 63)) & 1) != 0 && csv_missing_search(m, text, size);
}

enum csv_fit {
    CSV_FITS,
    CSV_MISSING,
    CSV_MISFIT,
};

enum csv_fit csv_value_bool(const struct csv_missing *missing, const uint8_t *text, size_t size, uint8_t *out);
enum csv_fit csv_value_int64(const struct csv_missing *missing, const uint8_t *text, size_t size, int64_t *out);
// Never gives a NaN.
enum csv_fit csv_value_float64(const struct csv_missing *missing, const uint8_t *text, size_t size, double *out);

// The type to try after `type` did not hold a value: BOOL and FLOAT64 -> STRING, INT64 -> FLOAT64.
enum type csv_type_wider(enum type type);

// What the values seen so far of one column have in common.
struct csv_seen {
    bool missing, boolean, integer, real, text;
};
void csv_seen_add(struct csv_seen *seen, const struct csv_missing *missing, const uint8_t *text, size_t size);
enum type csv_seen_type(const struct csv_seen *seen);

// True for text that is UTF-8 throughout.
bool csv_utf8_valid(const uint8_t *text, size_t size);

#endif
