#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/generate.h"

enum { COLUMNS = 5, CASES = 400 };

static const enum type all_types[COLUMNS] = {TYPE_BOOL, TYPE_INT64, TYPE_FLOAT64, TYPE_STRING, TYPE_DICT};

static void check_ok(const struct table *table)
{
    struct error err = {0};

    if (table_check(table, &err) != 0) {
        fail_msg("table_check: %s", err.text);
    }
}

static void assert_cell(const struct column *a, int64_t i, const struct column *b, int64_t j)
{
    struct cell x = column_cell(a, i);
    struct cell y = column_cell(b, j);

    assert_true(cell_equal(&x, &y));
}

static void test_builder_rows(void **state)
{
    (void)state;
    struct column_builder *b = column_builder_create(TYPE_STRING);
    struct column c;
    size_t size;

    assert_int_equal(column_builder_string(b, "one", 3), 0);
    assert_int_equal(column_builder_null(b), 0);
    assert_int_equal(column_builder_string(b, "", 0), 0);
    assert_int_equal(column_builder_string(b, "three", 5), 0);
    assert_int_equal(column_builder_length(b), 4);
    assert_int_equal(column_builder_finish(b, "name", &c), 0);
    assert_string_equal(c.name, "name");
    assert_int_equal(c.length, 4);
    assert_int_equal(c.nulls, 1);
    assert_memory_equal(column_string(&c, 0, &size), "one", 3);
    assert_int_equal(size, 3);
    assert_false(column_is_valid(&c, 1));
    assert_true(column_is_valid(&c, 2));
    column_string(&c, 2, &size);
    assert_int_equal(size, 0);
    assert_memory_equal(column_string(&c, 3, &size), "three", 5);
    assert_int_equal(size, 5);
    column_clear(&c);

    // Empty again, and fit for another column.
    assert_int_equal(column_builder_length(b), 0);
    assert_int_equal(column_builder_finish(b, "empty", &c), 0);
    assert_int_equal(c.length, 0);
    assert_int_equal(c.nulls, 0);
    assert_null(c.validity);
    assert_int_equal(*(const int32_t *)(const void *)c.offsets->data, 0);
    column_clear(&c);
    assert_int_equal(column_builder_string(b, "again", 5), 0);
    assert_int_equal(column_builder_finish(b, "again", &c), 0);
    assert_memory_equal(column_string(&c, 0, &size), "again", 5);
    assert_int_equal(size, 5);
    column_clear(&c);
    column_builder_destroy(b);
    column_builder_destroy(NULL);
}

// Every type with every pattern of nulls, against plain arrays.
static void test_builder_oracle(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < CASES; seed++) {
        uint64_t r = seed;
        uint32_t rows = random_below(&r, seed % 10 == 0 ? 20000 : 200);
        enum type type = (enum type)(TYPE_BOOL + seed % 4);
        struct column_builder *b = column_builder_create(type);
        uint64_t *bits = calloc(rows + 1, sizeof(*bits));
        char *null = calloc(rows + 1, 1);
        struct table *t = table_create(1, rows);
        char text[24];
        int64_t nulls = 0;

        for (uint32_t i = 0; i < rows; i++) {
            bits[i] = random_next(&r);
            null[i] = random_below(&r, 1 + (uint32_t)seed % 7) == 1;
            nulls += null[i];
            if (null[i]) {
                assert_int_equal(column_builder_null(b), 0);
            } else if (type == TYPE_BOOL) {
                assert_int_equal(column_builder_bool(b, bits[i] & 1), 0);
            } else if (type == TYPE_INT64) {
                assert_int_equal(column_builder_int64(b, (int64_t)bits[i]), 0);
            } else if (type == TYPE_FLOAT64) {
                assert_int_equal(column_builder_float64(b, (double)bits[i]), 0);
            } else {
                int n =
                    snprintf(text, sizeof(text), "%.*s", (int)(bits[i] % 20), "abcdefghijklmnopqrstuvwxyz");

                assert_int_equal(column_builder_string(b, text, (size_t)n), 0);
            }
        }
        assert_int_equal(column_builder_finish(b, "x", &t->column[0]), 0);
        check_ok(t);

        const struct column *c = &t->column[0];

        assert_int_equal(c->nulls, nulls);
        for (uint32_t i = 0; i < rows; i++) {
            size_t size;

            assert_int_equal(column_is_valid(c, i), !null[i]);
            if (null[i]) {
                continue;
            }
            switch (type) {
            case TYPE_BOOL:
                assert_int_equal(column_bool(c, i), bits[i] & 1);
                break;
            case TYPE_INT64:
                assert_int_equal(column_int64(c, i), (int64_t)bits[i]);
                break;
            case TYPE_FLOAT64:
                assert_true(column_float64(c, i) == (double)bits[i]);
                break;
            default:
                assert_memory_equal(column_string(c, i, &size), "abcdefghijklmnopqrstuvwxyz", bits[i] % 20);
                assert_int_equal(size, bits[i] % 20);
            }
        }
        // What is counted is not far from what is held.
        assert_true(table_bytes(t) >= (size_t)rows / 8);
        table_unref(t);
        column_builder_destroy(b);
        free(bits);
        free(null);
    }
}

static void test_builder_limit(void **state)
{
    (void)state;
    struct column_builder *b = column_builder_create(TYPE_STRING);

    assert_int_equal(column_builder_string(b, "x", 1), 0);
    assert_int_equal(column_builder_string(b, "", (size_t)INT32_MAX), -EFBIG);
    assert_int_equal(column_builder_length(b), 1);
    assert_true(column_builder_bytes(b) > 0);
    column_builder_destroy(b);
}

static void test_copy_and_bytes(void **state)
{
    (void)state;
    uint64_t r = 7;
    struct table *t = random_table(&r, all_types, COLUMNS, 100);
    struct table *copy = table_create(COLUMNS, 100);
    size_t bytes = 0;

    for (uint32_t i = 0; i < COLUMNS; i++) {
        const struct column *c = &t->column[i];

        assert_int_equal(column_copy(c, &copy->column[i]), 0);
        assert_ptr_equal(copy->column[i].values, c->values);
        bytes += c->values->size + (c->validity != NULL ? c->validity->size : 0);
        bytes += c->offsets != NULL ? c->offsets->size : 0;
        if (c->dictionary != NULL) {
            bytes += c->dictionary->values->size + c->dictionary->offsets->size;
        }
    }
    assert_int_equal(table_bytes(t), bytes);
    assert_int_equal(table_bytes(copy), bytes);
    table_ref(t);
    table_unref(t);
    table_unref(t);
    check_ok(copy); // keeps what it shares
    table_unref(copy);
    table_unref(NULL);
    assert_null(table_ref(NULL));
}

static void test_concat(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < CASES; seed++) {
        uint64_t r = seed;
        struct table *part[6];
        size_t count = 1 + random_below(&r, 6);
        struct table *all = NULL;
        struct error err = {0};
        enum type types[COLUMNS + 1];
        int64_t at = 0;

        for (size_t i = 0; i < count; i++) {
            memcpy(types, all_types, sizeof(all_types));
            types[COLUMNS] = random_below(&r, 2) == 0 ? TYPE_STRING : TYPE_DICT;
            part[i] = random_table(&r, types, COLUMNS + 1, random_below(&r, 150));
            if (i > 0 && random_below(&r, 3) == 0) { // the same dictionary again
                part[i]->rows = part[0]->rows;
                for (uint32_t k = 0; k < COLUMNS + 1; k++) {
                    column_clear(&part[i]->column[k]);
                    assert_int_equal(column_copy(&part[0]->column[k], &part[i]->column[k]), 0);
                }
            }
        }
        assert_int_equal(table_concat(part, count, &all, &err), 0);
        check_ok(all);
        assert_int_equal(all->column[4].type, TYPE_DICT);
        for (size_t i = 0; i < count; i++) {
            for (uint32_t k = 0; k < COLUMNS + 1; k++) {
                assert_string_equal(all->column[k].name, part[0]->column[k].name);
                for (int64_t row = 0; row < part[i]->rows; row++) {
                    assert_cell(&all->column[k], at + row, &part[i]->column[k], row);
                }
            }
            at += part[i]->rows;
        }
        assert_int_equal(all->rows, at);
        for (size_t i = 0; i < count; i++) {
            table_unref(part[i]);
        }
        table_unref(all);
    }
}

static void test_concat_refuses(void **state)
{
    (void)state;
    uint64_t r = 1;
    struct table *none = NULL;
    struct error err = {0};
    struct table *part[2] = {random_table(&r, all_types, 2, 3), random_table(&r, all_types, 3, 3)};

    assert_int_equal(table_concat(part, 0, &none, &err), -EINVAL);
    assert_int_equal(table_concat(part, 2, &none, &err), -EINVAL);
    table_unref(part[1]);
    part[1] = random_table(&r, all_types + 1, 2, 3);
    assert_int_equal(table_concat(part, 2, &none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "column0"));
    table_unref(part[1]);
    part[1] = random_table(&r, all_types, 2, 3);
    memcpy(part[1]->column[1].name, "other", 6);
    assert_int_equal(table_concat(part, 2, &none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "other"));
    assert_null(none);
    table_unref(part[0]);
    table_unref(part[1]);
}

static void test_take(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < CASES; seed++) {
        uint64_t r = seed;
        struct table *t = random_table(&r, all_types, COLUMNS, 1 + random_below(&r, 100));
        int64_t rows[200];
        int64_t count = random_below(&r, 200);
        struct table *taken = NULL;
        struct error err = {0};

        for (int64_t i = 0; i < count; i++) {
            rows[i] = random_below(&r, (uint32_t)t->rows);
        }
        assert_int_equal(table_take(t, rows, count, &taken, &err), 0);
        check_ok(taken);
        assert_int_equal(taken->rows, count);
        for (uint32_t k = 0; k < COLUMNS; k++) {
            for (int64_t i = 0; i < count; i++) {
                assert_cell(&taken->column[k], i, &t->column[k], rows[i]);
            }
        }
        table_unref(taken);
        taken = NULL;
        rows[0] = t->rows;
        assert_int_equal(table_take(t, rows, 1, &taken, &err), -EINVAL);
        rows[0] = -1;
        assert_int_equal(table_take(t, rows, 1, &taken, &err), -EINVAL);
        assert_null(taken);
        table_unref(t);
    }
}

// Bytes of a buffer that a test breaks on purpose.
static uint8_t *writable(struct buffer *buffer)
{
    return (uint8_t *)(uintptr_t)buffer->data;
}

static void refused(struct table *t, const char *why)
{
    struct error err = {0};

    assert_int_equal(table_check(t, &err), -EBADMSG);
    if (strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
    table_unref(t);
}

// 20 rows; row 3 of each column is null, the dictionary has two entries.
static struct table *sound_table(void)
{
    struct table *t = table_create(COLUMNS, 20);
    struct column_builder *b = column_builder_create(TYPE_STRING);
    struct column *d = &t->column[4];
    uint8_t *codes;
    uint8_t *bits;

    for (uint32_t i = 0; i < 4; i++) {
        struct column_builder *c = column_builder_create(all_types[i]);

        for (int row = 0; row < 20; row++) {
            must((row == 3                       ? column_builder_null(c)
                  : all_types[i] == TYPE_BOOL    ? column_builder_bool(c, true)
                  : all_types[i] == TYPE_INT64   ? column_builder_int64(c, row)
                  : all_types[i] == TYPE_FLOAT64 ? column_builder_float64(c, row)
                                                 : column_builder_string(c, "abc", 3)) == 0,
                 "append");
        }
        must(column_builder_finish(c, "c", &t->column[i]) == 0, "finish");
        column_builder_destroy(c);
    }
    d->type = TYPE_DICT;
    d->name = strdup("d");
    d->length = 20;
    d->nulls = 1;
    d->values = buffer_create(80, &codes);
    d->validity = buffer_create(3, &bits);
    d->dictionary = calloc(1, sizeof(*d));
    memset(codes, 0, 80);
    memcpy(bits, (uint8_t[3]){0xf7, 0xff, 0x0f}, 3);
    must(column_builder_string(b, "x", 1) == 0 && column_builder_string(b, "y", 1) == 0, "string");
    must(column_builder_finish(b, "", d->dictionary) == 0, "finish");
    column_builder_destroy(b);
    check_ok(t);
    return t;
}

static void test_check(void **state)
{
    (void)state;
    struct table *t = sound_table();

    t->column[0].length = 19;
    refused(t, "19 rows");
    t = sound_table();
    free(t->column[2].name);
    t->column[2].name = NULL;
    refused(t, "no name");
    t = sound_table();
    t->column[1].nulls = 2;
    refused(t, "1 nulls, not 2");
    t = sound_table();
    t->column[1].nulls = 21;
    refused(t, "21 nulls in 20 rows");
    t = sound_table();
    t->column[1].nulls = 0;
    refused(t, "0 nulls and a validity");
    t = sound_table();
    t->column[1].validity->size = 2;
    refused(t, "cut off");
    t = sound_table();
    t->column[1].values->size = 159;
    refused(t, "cut off");
    t = sound_table();
    t->column[0].values->size = 2;
    refused(t, "cut off");
    t = sound_table();
    t->column[3].offsets->size = 83;
    refused(t, "cut off");
    t = sound_table();
    t->column[3].values->size = 56;
    refused(t, "cut off");
    t = sound_table();
    buffer_unref(t->column[3].offsets);
    t->column[3].offsets = NULL;
    refused(t, "no offsets");
    t = sound_table();
    t->column[2].values->data += 4;
    t->column[2].values->size = 160;
    refused(t, "aligned");
    t = sound_table();
    ((int32_t *)(void *)writable(t->column[3].offsets))[5] = 100;
    refused(t, "descend at row 5");
    t = sound_table();
    ((int32_t *)(void *)writable(t->column[3].offsets))[0] = -1;
    refused(t, "negative");
    t = sound_table();
    ((int32_t *)(void *)writable(t->column[4].values))[7] = 2;
    refused(t, "row 7 has code 2");
    t = sound_table();
    ((int32_t *)(void *)writable(t->column[4].values))[7] = -1;
    refused(t, "row 7 has code -1");
    t = sound_table();
    ((int32_t *)(void *)writable(t->column[4].values))[3] = 1;
    refused(t, "row 3 is null");
    t = sound_table();
    ((int64_t *)(void *)writable(t->column[1].values))[3] = 1;
    refused(t, "row 3 is null");
    t = sound_table();
    t->column[4].dictionary->type = TYPE_INT64;
    refused(t, "dictionary");
    t = sound_table();
    t->column[4].dictionary->length = 3;
    refused(t, "in its dictionary");
    t = sound_table();
    t->column[4].type = TYPE_STRING;
    refused(t, "a part that its type does not have");
    t = sound_table();
    t->column[0].type = (enum type)9;
    refused(t, "unknown type 9");
}

// Without rows nothing is needed; with only nulls a dictionary may be empty.
static void test_check_tolerates(void **state)
{
    (void)state;
    struct table *t = table_create(1, 0);

    t->column[0].type = TYPE_STRING;
    t->column[0].name = strdup("none");
    check_ok(t);
    table_unref(t);
    t = sound_table();
    t->rows = 0;
    for (uint32_t i = 0; i < COLUMNS; i++) {
        t->column[i].length = t->column[i].nulls = 0;
        buffer_unref(t->column[i].validity);
        t->column[i].validity = NULL;
    }
    check_ok(t);
    table_unref(t);
    t = table_create(0, 1000000000000);
    check_ok(t);
    table_unref(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builder_rows),
        cmocka_unit_test(test_builder_oracle),
        cmocka_unit_test(test_builder_limit),
        cmocka_unit_test(test_copy_and_bytes),
        cmocka_unit_test(test_concat),
        cmocka_unit_test(test_concat_refuses),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_check_tolerates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
