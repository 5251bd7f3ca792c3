#include "worker/host/arrow.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = TABLE_COLUMNS_MAX, BUFFERS_MAX = 3 };

// ---- export -----------------------------------------------------------------------------
// Every structure owns its own memory and a reference to the table, so that each may be released or moved
// by itself.

static const uint8_t nothing[64];

struct exported_schema {
    struct ArrowSchema **child;
    char *name;
};

struct exported_array {
    struct table *table;
    struct ArrowArray **child;
    const void *buffer[BUFFERS_MAX];
};

static void release_schema(struct ArrowSchema *schema)
{
    struct exported_schema *own = schema->private_data;

    for (int64_t i = 0; i < schema->n_children; i++) {
        if (own->child[i] != NULL && own->child[i]->release != NULL) {
            own->child[i]->release(own->child[i]);
        }
        free(own->child[i]);
    }
    if (schema->dictionary != NULL) {
        if (schema->dictionary->release != NULL) {
            schema->dictionary->release(schema->dictionary);
        }
        free(schema->dictionary);
    }
    free(own->child);
    free(own->name);
    free(own);
    schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
    struct exported_array *own = array->private_data;

    for (int64_t i = 0; i < array->n_children; i++) {
        if (own->child[i] != NULL && own->child[i]->release != NULL) {
            own->child[i]->release(own->child[i]);
        }
        free(own->child[i]);
    }
    if (array->dictionary != NULL) {
        if (array->dictionary->release != NULL) {
            array->dictionary->release(array->dictionary);
        }
        free(array->dictionary);
    }
    table_unref(own->table);
    free(own->child);
    free(own);
    array->release = NULL;
}

static int open_schema(struct ArrowSchema *schema, const char *format, const char *name, int64_t children)
{
    struct exported_schema *own = calloc(1, sizeof(*own));

    *schema = (struct ArrowSchema){.format = format, .flags = ARROW_FLAG_NULLABLE};
    if (own == NULL) {
        return -ENOMEM;
    }
    own->name = strdup(name);
    own->child = calloc((size_t)children + 1, sizeof(struct ArrowSchema *));
    schema->name = own->name;
    schema->private_data = own;
    schema->release = release_schema;
    if (own->name == NULL || own->child == NULL) {
        release_schema(schema);
        return -ENOMEM;
    }
    schema->children = own->child;
    schema->n_children = children; // NULL ones until they are made
    return 0;
}

static int open_array(struct ArrowArray *array, struct table *table, int64_t length, int64_t children)
{
    struct exported_array *own = calloc(1, sizeof(*own));

    *array = (struct ArrowArray){.length = length};
    if (own == NULL) {
        return -ENOMEM;
    }
    own->child = calloc((size_t)children + 1, sizeof(struct ArrowArray *));
    if (own->child == NULL) {
        free(own);
        return -ENOMEM;
    }
    own->table = table_ref(table);
    array->private_data = own;
    array->release = release_array;
    array->buffers = own->buffer;
    array->children = own->child;
    array->n_children = children;
    return 0;
}

static const void *data_of(const struct buffer *buffer)
{
    return buffer != NULL && buffer->size > 0 ? buffer->data : nothing;
}

static const char *format_of(enum type type)
{
    switch (type) {
    case TYPE_BOOL:
        return "b";
    case TYPE_INT64:
        return "l";
    case TYPE_FLOAT64:
        return "g";
    case TYPE_STRING:
        return "u";
    case TYPE_DICT:
        return "i"; // of the codes
    }
    return "";
}

static int export_column(const struct column *c, struct table *table, struct ArrowSchema *schema,
                         struct ArrowArray *array)
{
    int rc = open_schema(schema, format_of(c->type), c->name, 0);

    if (rc != 0) {
        return rc;
    }
    rc = open_array(array, table, c->length, 0);
    if (rc != 0) {
        return rc;
    }
    struct exported_array *own = array->private_data;

    array->null_count = c->nulls;
    own->buffer[array->n_buffers++] = c->nulls > 0 ? c->validity->data : NULL;
    if (c->type == TYPE_STRING) {
        own->buffer[array->n_buffers++] = data_of(c->offsets);
    }
    own->buffer[array->n_buffers++] = data_of(c->values);
    if (c->type == TYPE_DICT) {
        schema->dictionary = calloc(1, sizeof(*schema->dictionary));
        array->dictionary = calloc(1, sizeof(*array->dictionary));
        if (schema->dictionary == NULL || array->dictionary == NULL) {
            return -ENOMEM;
        }
        return export_column(c->dictionary, table, schema->dictionary, array->dictionary);
    }
    return 0;
}

int arrow_export(struct table *table, struct ArrowSchema *schema, struct ArrowArray *array, struct error *err)
{
    struct ArrowSchema s = {0};
    struct ArrowArray a = {0};
    int rc = open_schema(&s, "+s", "", table->columns);

    if (rc == 0) {
        rc = open_array(&a, table, table->rows, table->columns);
    }
    if (rc == 0) {
        a.n_buffers = 1; // validity: none
        s.flags = 0;
    }
    for (uint32_t i = 0; i < table->columns && rc == 0; i++) {
        s.children[i] = calloc(1, sizeof(struct ArrowSchema));
        a.children[i] = calloc(1, sizeof(struct ArrowArray));
        rc = s.children[i] == NULL || a.children[i] == NULL
                 ? -ENOMEM
                 : export_column(&table->column[i], table, s.children[i], a.children[i]);
    }
    table_unref(table);
    if (rc != 0) {
        if (s.release != NULL) {
            s.release(&s);
        }
        if (a.release != NULL) {
            a.release(&a);
        }
        return error_no_memory(err);
    }
    *schema = s;
    *array = a;
    return 0;
}

// ---- import -----------------------------------------------------------------------------

// The caller's array, alive while a buffer of ours is a view into it.
struct imported {
    struct ArrowArray array;
    _Atomic unsigned refs;
};

static void imported_unref(void *pointer)
{
    struct imported *imported = pointer;

    if (atomic_fetch_sub(&imported->refs, 1) == 1) {
        if (imported->array.release != NULL) {
            imported->array.release(&imported->array);
        }
        free(imported);
    }
}

// A view of `size` bytes.
static struct buffer *view(struct imported *imported, const void *data, size_t size)
{
    struct buffer *buffer = buffer_wrap(size > 0 ? data : nothing, size, imported_unref, imported);

    if (buffer != NULL) {
        atomic_fetch_add(&imported->refs, 1);
    }
    return buffer;
}

// How a column arrives.
struct source {
    const struct ArrowArray *array;
    const char *name;
    char format;
    const uint8_t *validity; // NULL: no nulls
    int64_t nulls;
};

static bool is_present(const struct source *s, int64_t i)
{
    return s->validity == NULL || bitmap_get(s->validity, s->array->offset + i);
}

static int refuse(const struct source *s, struct error *err, const char *why)
{
    return error_set(err, EINVAL, "column '%.100s' (format %c) %s", s->name, s->format, why);
}

static int count_nulls(struct source *s)
{
    const struct ArrowArray *a = s->array;

    s->validity = a->null_count == 0 ? NULL : a->buffers[0];
    s->nulls = 0;
    for (int64_t i = 0; s->validity != NULL && i < a->length; i++) {
        s->nulls += !is_present(s, i);
    }
    if (s->nulls == 0) {
        s->validity = NULL;
    }
    return 0;
}

static int open_source(const struct ArrowSchema *schema, const struct ArrowArray *array, struct source *s,
                       struct error *err)
{
    const char *format = schema->format;
    int64_t buffers;

    *s = (struct source){.array = array, .name = schema->name != NULL ? schema->name : ""};
    if (format == NULL || strlen(format) != 1 || strchr("bcCsSiIlfguU", format[0]) == NULL) {
        return error_set(
            err, EINVAL,
            "column '%.100s' has the format '%.20s'; a table has b, c, C, s, S, i, I, l, f, g, u, U and "
            "dictionaries of strings",
            s->name, format != NULL ? format : "(none)");
    }
    s->format = format[0];
    buffers = s->format == 'u' || s->format == 'U' ? 3 : 2;
    if (array->release == NULL || array->length < 0 || array->offset < 0 || array->n_buffers != buffers ||
        array->buffers == NULL || array->n_children != 0 || array->offset > INT64_MAX / 64 - array->length) {
        return refuse(s, err, "is malformed: released, or with a wrong length or number of buffers");
    }
    if (array->length > 0 &&
        (array->buffers[1] == NULL || (array->null_count > 0 && array->buffers[0] == NULL))) {
        return refuse(s, err, "lacks a buffer");
    }
    return count_nulls(s);
}

static int copy_validity(const struct source *s, struct column *c)
{
    uint8_t *bits;

    if (s->nulls == 0) {
        return 0;
    }
    c->validity = buffer_create(((size_t)c->length + 7) / 8, &bits);
    if (c->validity == NULL) {
        return -ENOMEM;
    }
    memset(bits, 0, c->validity->size);
    for (int64_t i = 0; i < c->length; i++) {
        if (is_present(s, i)) {
            bitmap_set(bits, i);
        }
    }
    c->nulls = s->nulls;
    return 0;
}

static int import_bool(const struct source *s, struct column *c)
{
    uint8_t *bits;

    c->values = buffer_create(((size_t)c->length + 7) / 8, &bits);
    if (c->values == NULL) {
        return -ENOMEM;
    }
    if (c->values->size > 0) {
        memset(bits, 0, c->values->size);
    }
    for (int64_t i = 0; i < c->length; i++) {
        if (is_present(s, i) && bitmap_get(s->array->buffers[1], s->array->offset + i)) {
            bitmap_set(bits, i);
        }
    }
    return copy_validity(s, c);
}

static int64_t whole_at(const void *data, char format, int64_t i)
{
    switch (format) {
    case 'c':
        return ((const int8_t *)data)[i];
    case 'C':
        return ((const uint8_t *)data)[i];
    case 's':
        return ((const int16_t *)data)[i];
    case 'S':
        return ((const uint16_t *)data)[i];
    case 'i':
        return ((const int32_t *)data)[i];
    case 'I':
        return ((const uint32_t *)data)[i];
    default:
        return ((const int64_t *)data)[i];
    }
}

static int import_number(const struct source *s, struct imported *imported, struct column *c)
{
    const struct ArrowArray *a = s->array;
    uint8_t *data;

    if ((s->format == 'l' || s->format == 'g') && s->nulls == 0) {
        c->values = view(imported, (const uint64_t *)a->buffers[1] + a->offset, (size_t)c->length * 8);
        return c->values != NULL ? 0 : -ENOMEM;
    }
    c->values = buffer_create((size_t)c->length * 8, &data);
    if (c->values == NULL) {
        return -ENOMEM;
    }
    for (int64_t i = 0; i < c->length; i++) {
        int64_t at = a->offset + i;
        double real = 0;
        int64_t whole = 0;

        if (!is_present(s, i)) {
            memset(data + i * 8, 0, 8);
        } else if (s->format == 'f' || s->format == 'g') {
            real = s->format == 'f' ? (double)((const float *)a->buffers[1])[at]
                                    : ((const double *)a->buffers[1])[at];
            memcpy(data + i * 8, &real, 8);
        } else {
            whole = whole_at(a->buffers[1], s->format, at);
            memcpy(data + i * 8, &whole, 8);
        }
    }
    return copy_validity(s, c);
}

static int64_t offset_at(const struct source *s, int64_t i)
{
    int64_t at = s->array->offset + i;

    return s->format == 'U' ? ((const int64_t *)s->array->buffers[1])[at]
                            : ((const int32_t *)s->array->buffers[1])[at];
}

// Offsets ascend; *bytes of text that are not below a null.
static int check_offsets(const struct source *s, uint64_t *bytes, struct error *err)
{
    int64_t before = s->array->length > 0 ? offset_at(s, 0) : 0;

    *bytes = 0;
    if (before < 0) {
        return refuse(s, err, "has negative offsets");
    }
    for (int64_t i = 0; i < s->array->length; i++) {
        int64_t after = offset_at(s, i + 1);

        if (after < before) {
            return refuse(s, err, "has offsets that do not ascend");
        }
        *bytes += is_present(s, i) ? (uint64_t)(after - before) : 0;
        before = after;
    }
    if (before > 0 && s->array->buffers[2] == NULL) {
        return refuse(s, err, "lacks a buffer");
    }
    if (*bytes > INT32_MAX) {
        return error_set(err, EFBIG, "column '%.100s' has %llu bytes of text; a table takes 2 GB a column",
                         s->name, (unsigned long long)*bytes);
    }
    return 0;
}

static int import_string(const struct source *s, struct imported *imported, struct column *c,
                         struct error *err)
{
    const struct ArrowArray *a = s->array;
    uint64_t bytes;
    uint8_t *offset, *data;
    int32_t used = 0;
    int rc = check_offsets(s, &bytes, err);

    if (rc != 0) {
        return rc;
    }
    if (s->format == 'u' && s->nulls == 0 && c->length > 0) {
        const int32_t *from = (const int32_t *)a->buffers[1] + a->offset;

        c->offsets = view(imported, from, ((size_t)c->length + 1) * 4);
        c->values = view(imported, a->buffers[2], (size_t)from[c->length]);
        return c->offsets != NULL && c->values != NULL ? 0 : -ENOMEM;
    }
    c->offsets = buffer_create(((size_t)c->length + 1) * 4, &offset);
    c->values = buffer_create((size_t)bytes, &data);
    if (c->offsets == NULL || c->values == NULL) {
        return -ENOMEM;
    }
    memcpy(offset, &used, 4);
    for (int64_t i = 0; i < c->length; i++) {
        size_t size = is_present(s, i) ? (size_t)(offset_at(s, i + 1) - offset_at(s, i)) : 0;

        if (size > 0) {
            memcpy(data + used, (const char *)a->buffers[2] + offset_at(s, i), size);
        }
        used += (int32_t)size;
        memcpy(offset + (i + 1) * 4, &used, 4);
    }
    return copy_validity(s, c);
}

static int import_codes(const struct source *s, struct column *c, struct error *err)
{
    uint8_t *data;

    c->values = buffer_create((size_t)c->length * 4, &data);
    if (c->values == NULL) {
        return -ENOMEM;
    }
    for (int64_t i = 0; i < c->length; i++) {
        int64_t code = is_present(s, i) ? whole_at(s->array->buffers[1], s->format, s->array->offset + i) : 0;
        int32_t narrow = (int32_t)code;

        if (is_present(s, i) && (code < 0 || code >= c->dictionary->length)) {
            return refuse(s, err, "has a code that its dictionary does not have");
        }
        memcpy(data + i * 4, &narrow, 4);
    }
    return copy_validity(s, c);
}

static int set_name(struct column *c, const char *name)
{
    c->name = strdup(name);
    return c->name != NULL ? 0 : -ENOMEM;
}

static int import_dictionary(const struct ArrowSchema *schema, const struct source *codes,
                             struct imported *imported, struct column *c, struct error *err)
{
    struct source strings;
    int rc;

    if (strchr("cCsSiIl", codes->format) == NULL || codes->array->dictionary == NULL) {
        return refuse(codes, err, "is a dictionary without integer codes or without values");
    }
    rc = open_source(schema->dictionary, codes->array->dictionary, &strings, err);
    if (rc != 0) {
        return rc;
    }
    strings.name = codes->name;
    if ((strings.format != 'u' && strings.format != 'U') || strings.nulls > 0 ||
        schema->dictionary->dictionary != NULL) {
        return refuse(&strings, err, "is a dictionary of something else than strings without nulls");
    }
    c->dictionary = calloc(1, sizeof(*c->dictionary));
    if (c->dictionary == NULL) {
        return -ENOMEM;
    }
    c->dictionary->type = TYPE_STRING;
    c->dictionary->length = strings.array->length;
    rc = set_name(c->dictionary, "");
    if (rc == 0) {
        rc = import_string(&strings, imported, c->dictionary, err);
    }
    return rc == 0 ? import_codes(codes, c, err) : rc;
}

static int import_column(const struct ArrowSchema *schema, const struct ArrowArray *array, int64_t offset,
                         int64_t rows, struct imported *imported, struct column *c, struct error *err)
{
    struct ArrowArray part = *array; // the rows that the struct array takes
    struct source s;
    int rc = open_source(schema, array, &s, err);

    if (rc != 0) {
        return rc;
    }
    if (array->length < offset + rows) {
        return refuse(&s, err, "has fewer rows than its table");
    }
    part.offset += offset;
    part.length = rows;
    s.array = &part;
    rc = count_nulls(&s);
    c->length = rows;
    rc = rc == 0 ? set_name(c, s.name) : rc;
    if (rc != 0) {
        return rc;
    }
    if (schema->dictionary != NULL) {
        c->type = TYPE_DICT;
        rc = import_dictionary(schema, &s, imported, c, err);
    } else if (s.format == 'b') {
        c->type = TYPE_BOOL;
        rc = import_bool(&s, c);
    } else if (s.format == 'u' || s.format == 'U') {
        c->type = TYPE_STRING;
        rc = import_string(&s, imported, c, err);
    } else {
        c->type = s.format == 'f' || s.format == 'g' ? TYPE_FLOAT64 : TYPE_INT64;
        rc = import_number(&s, imported, c);
    }
    return rc == -ENOMEM ? error_no_memory(err) : rc;
}

static int check_struct(const struct ArrowSchema *schema, const struct ArrowArray *array, struct error *err)
{
    if (schema->release == NULL || array->release == NULL) {
        return error_set(err, EINVAL, "the table has been released already");
    }
    if (schema->format == NULL || strcmp(schema->format, "+s") != 0) {
        return error_set(err, EINVAL, "a table is a struct array (\"+s\"), not \"%.20s\"",
                         schema->format != NULL ? schema->format : "(none)");
    }
    if (schema->n_children != array->n_children || schema->n_children < 0 ||
        schema->n_children > COLUMNS_MAX || array->length < 0 || array->offset < 0 ||
        array->offset > INT64_MAX / 64 - array->length ||
        (schema->n_children > 0 && (schema->children == NULL || array->children == NULL))) {
        return error_set(err, EINVAL, "the table is malformed: %lld and %lld columns, %lld rows",
                         (long long)schema->n_children, (long long)array->n_children,
                         (long long)array->length);
    }
    if (array->null_count > 0) {
        return error_set(err, EINVAL, "the table has rows that are null as a whole; nulls belong to columns");
    }
    return 0;
}

int arrow_import(struct ArrowSchema *schema, struct ArrowArray *array, struct table **out, struct error *err)
{
    struct imported *imported = calloc(1, sizeof(*imported));
    struct table *table = NULL;
    bool moved = false;
    int rc = imported == NULL ? error_no_memory(err) : check_struct(schema, array, err);

    if (rc == 0) {
        imported->array = *array; // moved
        atomic_init(&imported->refs, 1);
        array->release = NULL;
        moved = true;
        table = table_create((uint32_t)schema->n_children, imported->array.length);
        rc = table != NULL ? 0 : error_no_memory(err);
    }
    for (int64_t i = 0; rc == 0 && i < schema->n_children; i++) {
        rc = import_column(schema->children[i], imported->array.children[i], imported->array.offset,
                           imported->array.length, imported, &table->column[i], err);
    }
    if (rc == 0) {
        rc = table_check(table, err);
    }
    if (moved) {
        imported_unref(imported);
    } else {
        free(imported);
        if (array->release != NULL) {
            array->release(array);
        }
    }
    if (schema->release != NULL) {
        schema->release(schema);
    }
    if (rc != 0) {
        table_unref(table);
        return rc;
    }
    *out = table;
    return 0;
}
