// Made-up data for the unit tests: numbers, tables and damaged bytes from a seed.
#ifndef DRAY_TESTS_UNIT_GENERATE_H
#define DRAY_TESTS_UNIT_GENERATE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"

// splitmix64
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(random_next(state) % limit);
}

// Damages bytes as a bad disk or a bad peer would: flips, interesting values, cuts,
// copies.  Returns the new size, at most `size`.
static inline size_t random_damage(uint64_t *state, uint8_t *data, size_t size)
{
    static const uint8_t odd[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x08, 0x10};

    if (size == 0) {
        return 0;
    }
    for (uint32_t n = 1 + random_below(state, 4); n > 0; n--) {
        size_t at = random_next(state) % size;
        size_t from = random_next(state) % size;
        size_t run = random_next(state) % 8;

        switch (random_below(state, 5)) {
        case 0:
            data[at] = (uint8_t)(data[at] ^ (1U << random_below(state, 8)));
            break;
        case 1:
            data[at] = odd[random_below(state, sizeof(odd))];
            break;
        case 2:
            data[at] = (uint8_t)random_next(state);
            break;
        case 3:
            run = run < size - at ? run : size - at;
            run = run < size - from ? run : size - from;
            memmove(data + at, data + from, run);
            break;
        default:
            if (random_below(state, 4) == 0) {
                size = at + 1;
            }
            break;
        }
    }
    return size;
}

// A string of `data` of at most 12 bytes out of a small alphabet.
static inline size_t random_text(uint64_t *state, char *data)
{
    size_t size = random_below(state, 4) == 0 ? 0 : random_below(state, 13);

    for (size_t i = 0; i < size; i++) {
        data[i] = (char)('a' + random_below(state, 3));
    }
    return size;
}

// One value of a random column, as text: the oracle that tests compare with.
struct cell {
    int is_null;
    uint64_t bits;
    size_t size;
    char text[16];
};

static inline struct cell column_cell(const struct column *c, int64_t i)
{
    struct cell cell = {0};

    cell.is_null = !column_is_valid(c, i);
    if (cell.is_null) {
        return cell;
    }
    if (c->type == TYPE_BOOL) {
        cell.bits = column_bool(c, i);
    } else if (c->type == TYPE_INT64 || c->type == TYPE_FLOAT64) {
        cell.bits = (uint64_t)column_int64(c, i);
    } else {
        const char *text = column_string(c, i, &cell.size);

        memcpy(cell.text, text, cell.size < sizeof(cell.text) ? cell.size : sizeof(cell.text));
    }
    return cell;
}

static inline int cell_equal(const struct cell *a, const struct cell *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static inline void must(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "generate.h: %s failed\n", what);
        abort();
    }
}

static inline void random_dict(uint64_t *state, int64_t rows, uint32_t null_every, struct column *out)
{
    struct column_builder *entries = column_builder_create(TYPE_STRING);
    uint32_t count = random_below(state, 6);
    uint8_t *codes;
    uint8_t *bits;
    char text[16];

    memset(out, 0, sizeof(*out));
    out->type = TYPE_DICT;
    out->name = strdup("d");
    out->length = rows;
    out->dictionary = calloc(1, sizeof(*out->dictionary));
    for (uint32_t i = 0; i < count; i++) {
        must(column_builder_string(entries, text, random_text(state, text)) == 0, "string");
    }
    must(column_builder_finish(entries, "", out->dictionary) == 0, "finish");
    column_builder_destroy(entries);
    out->values = buffer_create((size_t)rows * 4, &codes);
    out->validity = buffer_create((size_t)(rows + 7) / 8, &bits);
    memset(bits, 0, (size_t)(rows + 7) / 8);
    for (int64_t i = 0; i < rows; i++) {
        int32_t code = 0;

        if (count == 0 || (null_every > 0 && random_below(state, null_every) == 0)) {
            out->nulls++;
        } else {
            code = (int32_t)random_below(state, count);
            bitmap_set(bits, i);
        }
        memcpy(codes + i * 4, &code, 4);
    }
    if (out->nulls == 0) {
        buffer_unref(out->validity);
        out->validity = NULL;
    }
}

static inline void random_column(uint64_t *state, enum type type, int64_t rows, const char *name,
                                 struct column *out)
{
    uint32_t null_every = random_below(state, 5); // 0: no nulls
    char text[16];

    if (type == TYPE_DICT) {
        random_dict(state, rows, null_every, out);
        free(out->name);
        out->name = strdup(name);
        return;
    }
    struct column_builder *b = column_builder_create(type);
    int rc = 0;

    for (int64_t i = 0; i < rows; i++) {
        if (null_every > 0 && random_below(state, null_every) == 0) {
            rc |= column_builder_null(b);
        } else if (type == TYPE_BOOL) {
            rc |= column_builder_bool(b, random_below(state, 2) == 0);
        } else if (type == TYPE_INT64) {
            rc |= column_builder_int64(b, (int64_t)random_next(state));
        } else if (type == TYPE_FLOAT64) {
            rc |= column_builder_float64(b, (double)random_below(state, 1000) / 8);
        } else {
            rc |= column_builder_string(b, text, random_text(state, text));
        }
    }
    must(rc == 0, "append");
    must(column_builder_finish(b, name, out) == 0, "finish");
    column_builder_destroy(b);
}

static inline struct table *random_table(uint64_t *state, const enum type *types, uint32_t columns,
                                         int64_t rows)
{
    struct table *table = table_create(columns, rows);
    char name[24];

    must(table != NULL, "table_create");
    for (uint32_t i = 0; i < columns; i++) {
        snprintf(name, sizeof(name), "column%u", i);
        random_column(state, types[i], rows, name, &table->column[i]);
    }
    return table;
}

#endif
