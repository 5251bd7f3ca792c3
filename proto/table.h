// Tables: columns in Arrow's memory layout (Arrow columnar format 1.x).
//
//   BOOL     values: bitmap, least significant bit first
//   INT64    values: int64_t[length]
//   FLOAT64  values: double[length]
//   STRING   offsets: int32_t[length + 1], values: bytes
//   DICT     values: int32_t[length] codes into `dictionary`, a STRING column
//            without nulls
//
// validity: bitmap, 1 = present; NULL when nulls == 0.  The values below a null
// are zero (a zero-length string, code 0), so that equal tables are equal bytes.
// Tables are immutable once made and may be read by several threads.
#ifndef DRAY_PROTO_TABLE_H
#define DRAY_PROTO_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"

enum type {  // the numbers of op.proto's Type
    TYPE_BOOL = 1,
    TYPE_INT64 = 2,
    TYPE_FLOAT64 = 3,
    TYPE_STRING = 4,
    TYPE_DICT = 5,
};

const char *type_name(enum type type);  // "bool", "int64", "float64", "string", "string"

struct column {
    enum type type;
    char *name;  // UTF-8 where the input was, owned
    int64_t length;
    int64_t nulls;
    struct buffer *validity;
    struct buffer *offsets;
    struct buffer *values;
    struct column *dictionary;  // DICT only, owned
};

struct table {
    int64_t rows;
    uint32_t columns;
    struct column *column;  // [columns]
    _Atomic unsigned refs;
};

#define TABLE_COLUMNS_MAX 65536

// A table of `columns` zeroed columns for its maker to fill in.  NULL: no memory.
struct table *table_create(uint32_t columns, int64_t rows);
struct table *table_ref(struct table *table);
void table_unref(struct table *table);

// Bytes of all its buffers, shared ones counted in each place.
size_t table_bytes(const struct table *table);

// The invariants above, for tables from outside and for tests: offsets
// ascend and stay inside values, codes inside the dictionary, buffers are long
// enough, nulls agrees with validity.
int table_check(const struct table *table, struct error *err);

static inline bool bitmap_get(const uint8_t *bits, int64_t i)
{
    return (bits[i >> 3] >> (i & 7)) & 1;
}
static inline void bitmap_set(uint8_t *bits, int64_t i)
{
    bits[i >> 3] = (uint8_t)(bits[i >> 3] | (1U << (i & 7)));
}

static inline bool column_is_valid(const struct column *c, int64_t i)
{
    return c->validity == NULL || bitmap_get(c->validity->data, i);
}
static inline bool column_bool(const struct column *c, int64_t i)
{
    return bitmap_get(c->values->data, i);
}
static inline int64_t column_int64(const struct column *c, int64_t i)
{
    return ((const int64_t *)(const void *)c->values->data)[i];
}
static inline double column_float64(const struct column *c, int64_t i)
{
    return ((const double *)(const void *)c->values->data)[i];
}
// STRING or DICT; not zero-terminated.
const char *column_string(const struct column *c, int64_t i, size_t *size);

// ---- builders ------------------------------------------------------------------

// Grows a column row by row or in bulk; reallocates by doubling.
struct column_builder;
// type STRING, BOOL, INT64, FLOAT64 (DICT columns are assembled by hand).
struct column_builder *column_builder_create(enum type type);
int column_builder_null(struct column_builder *b);
int column_builder_bool(struct column_builder *b, bool value);
int column_builder_int64(struct column_builder *b, int64_t value);
int column_builder_float64(struct column_builder *b, double value);
// -EFBIG beyond 2 GB of string bytes.
int column_builder_string(struct column_builder *b, const void *data, size_t size);
int64_t column_builder_length(const struct column_builder *b);
size_t column_builder_bytes(const struct column_builder *b);  // allocated now
// Moves what was built into *out with a copy of `name`; the builder is empty after.
int column_builder_finish(struct column_builder *b, const char *name, struct column *out);
void column_builder_destroy(struct column_builder *b);

// Releases what a column owns (not the struct) and zeroes it.
void column_clear(struct column *column);
// Shares buffers, copies names; *out is zeroed before.
int column_copy(const struct column *column, struct column *out);

// Rows of all tables one after another; same types and names by position are
// required (DICT and STRING mix: then STRING).  tables[0] gives the names.
int table_concat(struct table *const *tables, size_t count, struct table **out, struct error *err);
// A copy of rows[0..count).
int table_take(const struct table *table, const int64_t *rows, int64_t count, struct table **out,
               struct error *err);

#endif
