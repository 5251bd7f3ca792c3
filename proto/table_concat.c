#define XXH_INLINE_ALL
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proto/table.h"

static const int32_t *int32_values(const struct buffer *buffer)
{
    return (const int32_t *)(const void *)buffer->data;
}

static struct buffer *create_array(int64_t count, size_t size, uint8_t **data)
{
    size_t bytes;

    if (__builtin_mul_overflow((size_t)count, size, &bytes)) {
        return NULL;
    }
    return buffer_create(bytes, data);
}

static struct buffer *create_bits(int64_t count, uint8_t **data)
{
    struct buffer *buffer = buffer_create((size_t)(count / 8) + (count % 8 != 0), data);

    if (buffer != NULL) {
        memset(*data, 0, buffer->size);
    }
    return buffer;
}

// Copies `count` bits to position `at` of bits that are zero there.
static void bits_copy(uint8_t *to, int64_t at, const uint8_t *from, int64_t count)
{
    int64_t i = 0;

    if (at % 8 == 0) {
        memcpy(to + at / 8, from, (size_t)(count / 8));
        i = count - count % 8;
    }
    for (; i < count; i++) {
        if (bitmap_get(from, i)) {
            bitmap_set(to, at + i);
        }
    }
}

static void bits_fill(uint8_t *to, int64_t at, int64_t count)
{
    int64_t i = 0;

    for (; i < count && (at + i) % 8 != 0; i++) {
        bitmap_set(to, at + i);
    }
    memset(to + (at + i) / 8, 0xff, (size_t)((count - i) / 8));
    for (i += (count - i) / 8 * 8; i < count; i++) {
        bitmap_set(to, at + i);
    }
}

static int string_limit(struct error *err)
{
    return error_set(err, EFBIG,
                     "the strings of a column are more than 2 GB in one partition; use a smaller blocksize");
}

// ---- one set of entries out of several dictionaries ------------------------------

struct dictionary_union {
    struct column_builder *entries;
    uint64_t *hash;             // of each entry
    int32_t *slot;              // entry + 1, 0: free
    size_t slots;               // a power of two, at least twice the entries
    const struct column **from; // column of each entry, and its row there
    int32_t *row;
    int32_t count;
};

static void union_fini(struct dictionary_union *u)
{
    column_builder_destroy(u->entries);
    free(u->hash);
    free(u->slot);
    free(u->from);
    free(u->row);
}

static int union_init(struct dictionary_union *u, int64_t entries_max)
{
    memset(u, 0, sizeof(*u));
    if (entries_max > INT32_MAX) {
        return -EFBIG;
    }
    for (u->slots = 16; u->slots < (size_t)entries_max * 2; u->slots *= 2) {
    }
    size_t n = (size_t)entries_max + 1;

    u->entries = column_builder_create(TYPE_STRING);
    u->hash = malloc(n * sizeof(*u->hash));
    u->slot = calloc(u->slots, sizeof(*u->slot));
    u->from = malloc(n * sizeof(*u->from));
    u->row = malloc(n * sizeof(*u->row));
    if (u->entries == NULL || u->hash == NULL || u->slot == NULL || u->from == NULL || u->row == NULL) {
        return -ENOMEM;
    }
    return 0;
}

// The code of a string, numbered by first appearance; or negative errno.
static int32_t union_add(struct dictionary_union *u, const struct column *dictionary, int32_t row)
{
    size_t size;
    const char *text = column_string(dictionary, row, &size);
    uint64_t hash = XXH3_64bits(text, size);
    size_t at = (size_t)hash & (u->slots - 1);

    for (; u->slot[at] != 0; at = (at + 1) & (u->slots - 1)) {
        int32_t code = u->slot[at] - 1;

        if (u->hash[code] == hash) {
            size_t other_size;
            const char *other = column_string(u->from[code], u->row[code], &other_size);

            if (other_size == size && memcmp(other, text, size) == 0) {
                return code;
            }
        }
    }
    int rc = column_builder_string(u->entries, text, size);

    if (rc < 0) {
        return rc;
    }
    u->hash[u->count] = hash;
    u->from[u->count] = dictionary;
    u->row[u->count] = row;
    u->slot[at] = u->count + 1;
    return u->count++;
}

static bool buffer_equal(const struct buffer *a, const struct buffer *b, size_t size)
{
    return a == b || size == 0 || memcmp(a->data, b->data, size) == 0;
}

static bool dictionary_equal(const struct column *a, const struct column *b)
{
    if (a->length != b->length) {
        return false;
    }
    if (a->length == 0 || (a->offsets == b->offsets && a->values == b->values)) {
        return true;
    }
    size_t n = (size_t)a->length;

    return buffer_equal(a->offsets, b->offsets, (n + 1) * sizeof(int32_t)) &&
           buffer_equal(a->values, b->values, (size_t)int32_values(a->offsets)[n]);
}

// ---- concatenation, column by column -----------------------------------------------

struct parts {
    struct table *const *table;
    size_t count;
    uint32_t column;
};

static const struct column *part(const struct parts *p, size_t i)
{
    return &p->table[i]->column[p->column];
}

static int concat_validity(const struct parts *p, struct column *out)
{
    uint8_t *bits;
    int64_t at = 0;

    for (size_t i = 0; i < p->count; i++) {
        out->nulls += part(p, i)->nulls;
    }
    if (out->nulls == 0) {
        return 0;
    }
    out->validity = create_bits(out->length, &bits);
    if (out->validity == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct column *c = part(p, i);

        if (c->validity != NULL) {
            bits_copy(bits, at, c->validity->data, c->length);
        } else {
            bits_fill(bits, at, c->length);
        }
        at += c->length;
    }
    return 0;
}

static int concat_bool(const struct parts *p, struct column *out)
{
    uint8_t *bits;
    int64_t at = 0;

    out->values = create_bits(out->length, &bits);
    if (out->values == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct column *c = part(p, i);

        if (c->length > 0) {
            bits_copy(bits, at, c->values->data, c->length);
        }
        at += c->length;
    }
    return 0;
}

static int concat_fixed(const struct parts *p, size_t width, struct column *out)
{
    uint8_t *to;

    out->values = create_array(out->length, width, &to);
    if (out->values == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct column *c = part(p, i);

        if (c->length > 0) {
            memcpy(to, c->values->data, (size_t)c->length * width);
            to += (size_t)c->length * width;
        }
    }
    return 0;
}

static int64_t string_bytes(const struct column *c)
{
    int64_t bytes = 0;

    if (c->length == 0) {
        return 0;
    }
    if (c->type == TYPE_STRING) {
        return int32_values(c->offsets)[c->length] - int32_values(c->offsets)[0];
    }
    for (int64_t i = 0; i < c->length; i++) {
        size_t size;

        column_string(c, i, &size);
        bytes += (int64_t)size; // at most 2^31 rows of 2^31 bytes
    }
    return bytes;
}

static int concat_strings(const struct parts *p, struct column *out)
{
    uint8_t *offset_data;
    uint8_t *to;
    int64_t total = 0;

    for (size_t i = 0; i < p->count; i++) {
        if (__builtin_add_overflow(total, string_bytes(part(p, i)), &total) || total > INT32_MAX) {
            return -EFBIG;
        }
    }
    out->offsets = create_array(out->length + 1, sizeof(int32_t), &offset_data);
    out->values = buffer_create((size_t)total, &to);
    if (out->offsets == NULL || out->values == NULL) {
        return -ENOMEM;
    }
    int32_t *offset = (int32_t *)(void *)offset_data;
    int32_t end = 0;

    *offset++ = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct column *c = part(p, i);

        for (int64_t row = 0; row < c->length; row++) {
            size_t size;
            const char *text = column_string(c, row, &size);

            if (c->type == TYPE_DICT && size > 0) {
                memcpy(to + end, text, size);
            }
            end += (int32_t)size;
            *offset++ = end;
        }
        if (c->type == TYPE_STRING && c->length > 0) {
            size_t first;
            const char *text = column_string(c, 0, &first);
            size_t size = (size_t)string_bytes(c);

            if (size > 0) {
                memcpy(to + end - size, text, size);
            }
        }
    }
    return 0;
}

static int concat_codes(const struct parts *p, struct column *out)
{
    struct dictionary_union u = {0};
    int32_t *map = NULL;
    uint8_t *data;
    int64_t entries = 0;
    int64_t longest = 0;
    int rc;

    for (size_t i = 0; i < p->count; i++) {
        int64_t n = part(p, i)->dictionary->length;

        entries += n;
        longest = n > longest ? n : longest;
    }
    rc = union_init(&u, entries);
    if (rc < 0) {
        goto out;
    }
    rc = -ENOMEM;
    map = malloc(((size_t)longest + 1) * sizeof(*map));
    out->dictionary = calloc(1, sizeof(*out->dictionary));
    out->values = create_array(out->length, sizeof(int32_t), &data);
    if (map == NULL || out->dictionary == NULL || out->values == NULL) {
        goto out;
    }
    int32_t *to = (int32_t *)(void *)data;

    for (size_t i = 0; i < p->count; i++) {
        const struct column *c = part(p, i);

        for (int32_t code = 0; code < c->dictionary->length; code++) {
            map[code] = union_add(&u, c->dictionary, code);
            if (map[code] < 0) {
                rc = map[code];
                goto out;
            }
        }
        for (int64_t row = 0; row < c->length; row++) {
            *to++ = column_is_valid(c, row) ? map[int32_values(c->values)[row]] : 0;
        }
    }
    rc = column_builder_finish(u.entries, "", out->dictionary);
out:
    free(map);
    union_fini(&u);
    return rc;
}

static int concat_dict(const struct parts *p, struct column *out)
{
    const struct column *first = part(p, 0);

    for (size_t i = 1; i < p->count; i++) {
        if (!dictionary_equal(first->dictionary, part(p, i)->dictionary)) {
            return concat_codes(p, out);
        }
    }
    out->dictionary = calloc(1, sizeof(*out->dictionary));
    if (out->dictionary == NULL || column_copy(first->dictionary, out->dictionary) < 0) {
        return -ENOMEM;
    }
    return concat_fixed(p, sizeof(int32_t), out);
}

static int concat_column(const struct parts *p, struct column *out, struct error *err)
{
    const struct column *first = part(p, 0);
    bool mixed = false;
    int rc;

    for (size_t i = 1; i < p->count; i++) {
        const struct column *c = part(p, i);
        bool strings = (c->type == TYPE_STRING || c->type == TYPE_DICT) &&
                       (first->type == TYPE_STRING || first->type == TYPE_DICT);

        if (strcmp(c->name, first->name) != 0 || (c->type != first->type && !strings)) {
            return error_set(err, EINVAL,
                             "tables do not fit together: column #%u is '%.100s' of type %s in one and "
                             "'%.100s' of type %s in another",
                             p->column, first->name, type_name(first->type), c->name, type_name(c->type));
        }
        mixed = mixed || c->type != first->type;
    }
    out->type = mixed ? TYPE_STRING : first->type;
    out->name = strdup(first->name);
    if (out->name == NULL) {
        return error_no_memory(err);
    }
    rc = concat_validity(p, out);
    if (rc == 0) {
        switch (out->type) {
        case TYPE_BOOL:
            rc = concat_bool(p, out);
            break;
        case TYPE_INT64:
        case TYPE_FLOAT64:
            rc = concat_fixed(p, sizeof(int64_t), out);
            break;
        case TYPE_STRING:
            rc = concat_strings(p, out);
            break;
        case TYPE_DICT:
            rc = concat_dict(p, out);
            break;
        }
    }
    return rc == -EFBIG ? string_limit(err) : rc < 0 ? error_no_memory(err) : 0;
}

int table_concat(struct table *const *tables, size_t count, struct table **out, struct error *err)
{
    struct table *table = NULL;
    int64_t rows = 0;
    int rc = 0;

    if (count == 0) {
        return error_set(err, EINVAL, "no tables to put together");
    }
    if (count == 1) {
        *out = table_ref(tables[0]);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (tables[i]->columns != tables[0]->columns) {
            return error_set(err, EINVAL, "tables do not fit together: one has %u columns, another %u",
                             tables[0]->columns, tables[i]->columns);
        }
        if (__builtin_add_overflow(rows, tables[i]->rows, &rows)) {
            return error_set(err, EFBIG, "too many rows in one partition");
        }
    }
    table = table_create(tables[0]->columns, rows);
    if (table == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < table->columns && rc == 0; i++) {
        const struct parts p = {.table = tables, .count = count, .column = i};

        table->column[i].length = rows;
        rc = concat_column(&p, &table->column[i], err);
    }
    if (rc < 0) {
        table_unref(table);
        return rc;
    }
    *out = table;
    return 0;
}

// ---- take --------------------------------------------------------------------------

static int take_validity(const struct column *c, const int64_t *rows, struct column *out)
{
    uint8_t *bits;

    for (int64_t i = 0; i < out->length; i++) {
        out->nulls += !column_is_valid(c, rows[i]);
    }
    if (out->nulls == 0) {
        return 0;
    }
    out->validity = create_bits(out->length, &bits);
    if (out->validity == NULL) {
        return -ENOMEM;
    }
    for (int64_t i = 0; i < out->length; i++) {
        if (column_is_valid(c, rows[i])) {
            bitmap_set(bits, i);
        }
    }
    return 0;
}

static int take_strings(const struct column *c, const int64_t *rows, struct column *out)
{
    uint8_t *offset_data;
    uint8_t *to;
    int64_t total = 0;
    size_t size;

    for (int64_t i = 0; i < out->length; i++) {
        column_string(c, rows[i], &size);
        total += (int64_t)size;
        if (total > INT32_MAX) {
            return -EFBIG;
        }
    }
    out->offsets = create_array(out->length + 1, sizeof(int32_t), &offset_data);
    out->values = buffer_create((size_t)total, &to);
    if (out->offsets == NULL || out->values == NULL) {
        return -ENOMEM;
    }
    int32_t *offset = (int32_t *)(void *)offset_data;

    offset[0] = 0;
    for (int64_t i = 0; i < out->length; i++) {
        const char *text = column_string(c, rows[i], &size);

        if (size > 0) {
            memcpy(to + offset[i], text, size);
        }
        offset[i + 1] = offset[i] + (int32_t)size;
    }
    return 0;
}

static int take_values(const struct column *c, const int64_t *rows, struct column *out)
{
    uint8_t *to;
    bool wide = c->type == TYPE_INT64 || c->type == TYPE_FLOAT64;

    if (c->type == TYPE_STRING) {
        return take_strings(c, rows, out);
    }
    if (c->type == TYPE_BOOL) {
        out->values = create_bits(out->length, &to);
    } else {
        out->values = create_array(out->length, wide ? sizeof(int64_t) : sizeof(int32_t), &to);
    }
    if (out->values == NULL) {
        return -ENOMEM;
    }
    for (int64_t i = 0; i < out->length; i++) {
        if (wide) {
            memcpy(to + i * 8, c->values->data + rows[i] * 8, 8);
        } else if (c->type == TYPE_DICT) {
            memcpy(to + i * 4, c->values->data + rows[i] * 4, 4);
        } else if (column_bool(c, rows[i])) {
            bitmap_set(to, i);
        }
    }
    if (c->type == TYPE_DICT) {
        out->dictionary = calloc(1, sizeof(*out->dictionary));
        if (out->dictionary == NULL) {
            return -ENOMEM;
        }
        return column_copy(c->dictionary, out->dictionary);
    }
    return 0;
}

static int take_column(const struct column *c, const int64_t *rows, struct column *out, struct error *err)
{
    int rc;

    out->type = c->type;
    out->name = strdup(c->name);
    if (out->name == NULL) {
        return error_no_memory(err);
    }
    rc = take_validity(c, rows, out);
    if (rc == 0) {
        rc = take_values(c, rows, out);
    }
    return rc == -EFBIG ? string_limit(err) : rc < 0 ? error_no_memory(err) : 0;
}

int table_take(const struct table *table, const int64_t *rows, int64_t count, struct table **out,
               struct error *err)
{
    struct table *taken;
    int rc = 0;

    for (int64_t i = 0; i < count; i++) {
        if (rows[i] < 0 || rows[i] >= table->rows) {
            return error_set(err, EINVAL, "there is no row %lld in a table of %lld rows", (long long)rows[i],
                             (long long)table->rows);
        }
    }
    taken = table_create(table->columns, count);
    if (taken == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < taken->columns && rc == 0; i++) {
        taken->column[i].length = count;
        rc = take_column(&table->column[i], rows, &taken->column[i], err);
    }
    if (rc < 0) {
        table_unref(taken);
        return rc;
    }
    *out = taken;
    return 0;
}
