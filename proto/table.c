#include "proto/table.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Values are stored in the machine's order, encodings are little-endian.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Dray runs on little-endian machines");

const char *type_name(enum type type)
{
    switch (type) {
    case TYPE_BOOL:
        return "bool";
    case TYPE_INT64:
        return "int64";
    case TYPE_FLOAT64:
        return "float64";
    case TYPE_STRING:
    case TYPE_DICT:
        return "string";
    }
    return "unknown";
}

struct table *table_create(uint32_t columns, int64_t rows)
{
    struct table *table = malloc(sizeof(*table));

    if (table == NULL) {
        return NULL;
    }
    table->column = calloc(columns > 0 ? columns : 1, sizeof(*table->column));
    if (table->column == NULL) {
        free(table);
        return NULL;
    }
    table->rows = rows;
    table->columns = columns;
    atomic_init(&table->refs, 1);
    return table;
}

struct table *table_ref(struct table *table)
{
    if (table != NULL) {
        atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    }
    return table;
}

void table_unref(struct table *table)
{
    if (table != NULL && atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < table->columns; i++) {
            column_clear(&table->column[i]);
        }
        free(table->column);
        free(table);
    }
}

static size_t buffer_bytes(const struct buffer *buffer)
{
    return buffer != NULL ? buffer->size : 0;
}

static size_t column_bytes(const struct column *c)
{
    size_t bytes = buffer_bytes(c->validity) + buffer_bytes(c->offsets) + buffer_bytes(c->values);

    // A dictionary has none of its own, so this goes one level deep.
    return c->dictionary != NULL ? bytes + column_bytes(c->dictionary) : bytes;
}

size_t table_bytes(const struct table *table)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < table->columns; i++) {
        bytes += column_bytes(&table->column[i]);
    }
    return bytes;
}

void column_clear(struct column *column)
{
    free(column->name);
    buffer_unref(column->validity);
    buffer_unref(column->offsets);
    buffer_unref(column->values);
    if (column->dictionary != NULL) {
        column_clear(column->dictionary);
        free(column->dictionary);
    }
    memset(column, 0, sizeof(*column));
}

int column_copy(const struct column *column, struct column *out)
{
    memset(out, 0, sizeof(*out));
    out->type = column->type;
    out->length = column->length;
    out->nulls = column->nulls;
    out->validity = buffer_ref(column->validity);
    out->offsets = buffer_ref(column->offsets);
    out->values = buffer_ref(column->values);
    if (column->name != NULL) {
        out->name = strdup(column->name);
        if (out->name == NULL) {
            goto fail;
        }
    }
    if (column->dictionary != NULL) {
        out->dictionary = malloc(sizeof(*out->dictionary));
        if (out->dictionary == NULL || column_copy(column->dictionary, out->dictionary) < 0) {
            goto fail;
        }
    }
    return 0;
fail:
    column_clear(out);
    return -ENOMEM;
}

static const int32_t *int32_values(const struct buffer *buffer)
{
    return (const int32_t *)(const void *)buffer->data;
}

const char *column_string(const struct column *c, int64_t i, size_t *size)
{
    if (c->type == TYPE_DICT) {
        if (!column_is_valid(c, i)) {
            *size = 0;
            return "";
        }
        i = int32_values(c->values)[i];
        c = c->dictionary;
    }
    const int32_t *offset = int32_values(c->offsets);

    *size = (size_t)(offset[i + 1] - offset[i]);
    return c->values != NULL ? (const char *)c->values->data + offset[i] : "";
}

// ---- check ---------------------------------------------------------------------

// At least `count` elements of `size` bytes, aligned for them.  None are needed
// for none.
static int check_buffer(const struct buffer *buffer, const char *what, uint64_t count, size_t size,
                        struct error *err)
{
    if (count == 0) {
        return 0;
    }
    if (buffer == NULL) {
        return error_set(err, EBADMSG, "it has no %s", what);
    }
    if (count > buffer->size / size) {
        return error_set(err, EBADMSG, "its %s are cut off: %zu bytes for %llu of %zu bytes each", what,
                         buffer->size, (unsigned long long)count, size);
    }
    if ((uintptr_t)buffer->data % size != 0) {
        return error_set(err, EBADMSG, "its %s are not aligned to %zu bytes", what, size);
    }
    return 0;
}

static int64_t bitmap_count(const uint8_t *bits, int64_t length)
{
    int64_t count = 0;
    int64_t i = 0;

    for (; i + 64 <= length; i += 64) {
        uint64_t word;

        memcpy(&word, bits + i / 8, sizeof(word));
        count += __builtin_popcountll(word);
    }
    for (; i < length; i++) {
        count += bitmap_get(bits, i);
    }
    return count;
}

static int check_validity(const struct column *c, struct error *err)
{
    if (c->nulls < 0 || c->nulls > c->length) {
        return error_set(err, EBADMSG, "it has %lld nulls in %lld rows", (long long)c->nulls,
                         (long long)c->length);
    }
    if ((c->nulls > 0) != (c->validity != NULL)) {
        return error_set(err, EBADMSG, "it has %lld nulls and %s", (long long)c->nulls,
                         c->validity != NULL ? "a validity bitmap" : "no validity bitmap");
    }
    if (c->validity == NULL) {
        return 0;
    }
    int rc =
        check_buffer(c->validity, "validity bits", (uint64_t)c->length / 8 + (c->length % 8 != 0), 1, err);

    if (rc < 0) {
        return rc;
    }
    int64_t nulls = c->length - bitmap_count(c->validity->data, c->length);

    if (nulls != c->nulls) {
        return error_set(err, EBADMSG, "its validity bitmap has %lld nulls, not %lld", (long long)nulls,
                         (long long)c->nulls);
    }
    return 0;
}

static int check_offsets(const struct column *c, struct error *err)
{
    // A column without rows may do without offsets.
    if (c->length == 0 && c->offsets == NULL) {
        return 0;
    }
    int rc = check_buffer(c->offsets, "offsets", (uint64_t)c->length + 1, sizeof(int32_t), err);

    if (rc < 0) {
        return rc;
    }
    const int32_t *offset = int32_values(c->offsets);

    if (offset[0] < 0) {
        return error_set(err, EBADMSG, "its first offset is negative");
    }
    for (int64_t i = 0; i < c->length; i++) {
        if (offset[i + 1] < offset[i]) {
            return error_set(err, EBADMSG, "its offsets descend at row %lld", (long long)i);
        }
    }
    return check_buffer(c->values, "string bytes", (uint64_t)offset[c->length], 1, err);
}

static bool zero_below(const struct column *c, int64_t i)
{
    switch (c->type) {
    case TYPE_BOOL:
        return !column_bool(c, i);
    case TYPE_INT64:
    case TYPE_FLOAT64: // of the bits: -0.0 is not zero here
        return column_int64(c, i) == 0;
    case TYPE_STRING:
        return int32_values(c->offsets)[i] == int32_values(c->offsets)[i + 1];
    case TYPE_DICT:
        return int32_values(c->values)[i] == 0;
    }
    return false;
}

static int check_column(const struct column *c, struct error *err);

static int check_dictionary(const struct column *c, struct error *err)
{
    const struct column *d = c->dictionary;

    if (d == NULL || d->type != TYPE_STRING || d->nulls != 0) {
        return error_set(err, EBADMSG, "its dictionary is not a string column without nulls");
    }
    int rc = check_column(d, err);

    if (rc < 0) {
        error_prefix(err, "in its dictionary: ");
        return rc;
    }
    for (int64_t i = 0; i < c->length; i++) {
        int32_t code = int32_values(c->values)[i];

        if ((code < 0 || code >= d->length) && column_is_valid(c, i)) {
            return error_set(err, EBADMSG, "row %lld has code %d in a dictionary of %lld", (long long)i, code,
                             (long long)d->length);
        }
    }
    return 0;
}

static int check_values(const struct column *c, struct error *err)
{
    uint64_t n = (uint64_t)c->length;

    switch (c->type) {
    case TYPE_BOOL:
        return check_buffer(c->values, "values", n / 8 + (n % 8 != 0), 1, err);
    case TYPE_INT64:
    case TYPE_FLOAT64:
        return check_buffer(c->values, "values", n, sizeof(int64_t), err);
    case TYPE_STRING:
        return check_offsets(c, err);
    case TYPE_DICT: {
        int rc = check_buffer(c->values, "codes", n, sizeof(int32_t), err);

        return rc < 0 ? rc : check_dictionary(c, err);
    }
    }
    return error_set(err, EBADMSG, "it has the unknown type %d", (int)c->type);
}

static int check_column(const struct column *c, struct error *err)
{
    if (c->length < 0) {
        return error_set(err, EBADMSG, "it has %lld rows", (long long)c->length);
    }
    if ((c->dictionary != NULL) != (c->type == TYPE_DICT) || (c->offsets != NULL && c->type != TYPE_STRING)) {
        return error_set(err, EBADMSG, "it has a part that its type does not have");
    }
    int rc = check_validity(c, err);

    if (rc < 0) {
        return rc;
    }
    rc = check_values(c, err);
    if (rc < 0 || c->validity == NULL) {
        return rc;
    }
    for (int64_t i = 0; i < c->length; i++) {
        if (!column_is_valid(c, i) && !zero_below(c, i)) {
            return error_set(err, EBADMSG, "row %lld is null with a value that is not zero", (long long)i);
        }
    }
    return 0;
}

int table_check(const struct table *table, struct error *err)
{
    if (table->rows < 0 || table->columns > TABLE_COLUMNS_MAX) {
        return error_set(err, EBADMSG, "a table has %lld rows and %u columns", (long long)table->rows,
                         table->columns);
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        const struct column *c = &table->column[i];
        int rc = 0;

        if (c->name == NULL) {
            return error_set(err, EBADMSG, "column #%u of a table has no name", i);
        }
        if (c->length != table->rows) {
            rc = error_set(err, EBADMSG, "it has %lld rows, the table %lld", (long long)c->length,
                           (long long)table->rows);
        } else {
            rc = check_column(c, err);
        }
        if (rc < 0) {
            error_prefix(err, "column #%u '%.100s' of a table is broken: ", i, c->name);
            return rc;
        }
    }
    return 0;
}
