// worker/host/arrow.c: tables to and from the Arrow C data interface, well-formed and not.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/table.h"
#include "worker/host/arrow.h"

static int released; // arrays and schemas of ours

static void release_schema(struct ArrowSchema *schema)
{
    released++;
    schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        if (array->children[i]->release != NULL) {
            array->children[i]->release(array->children[i]);
        }
    }
    released++;
    array->release = NULL;
}

// A table of one column, all of it changeable.
struct given {
    struct ArrowSchema schema, column, *columns[1], dictionary;
    struct ArrowArray array, part, *parts[1], words;
    const void *none[1], *buffer[3], *word_buffer[3];
};

static void given_init(struct given *g, const char *format, int64_t length, const void *values)
{
    memset(g, 0, sizeof(*g));
    g->columns[0] = &g->column;
    g->parts[0] = &g->part;
    g->schema = (struct ArrowSchema){
        .format = "+s", .name = "", .n_children = 1, .children = g->columns, .release = release_schema};
    g->column = (struct ArrowSchema){.format = format, .name = "c", .release = release_schema};
    g->array = (struct ArrowArray){.length = length,
                                   .n_buffers = 1,
                                   .buffers = g->none,
                                   .n_children = 1,
                                   .children = g->parts,
                                   .release = release_array};
    g->buffer[1] = values;
    g->part =
        (struct ArrowArray){.length = length, .n_buffers = 2, .buffers = g->buffer, .release = release_array};
}

static void given_text(struct given *g, const char *format, int64_t length, const void *offsets,
                       const char *text)
{
    given_init(g, format, length, offsets);
    g->part.n_buffers = 3;
    g->buffer[2] = text;
}

static struct table *import(struct given *g)
{
    struct error err = {0};
    struct table *table = NULL;

    if (arrow_import(&g->schema, &g->array, &table, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return table;
}

static void expect_refusal(struct given *g, int code, const char *text)
{
    struct error err = {0};
    struct table *table = NULL;
    int before = released;
    bool live = g->array.release != NULL;
    int rc = arrow_import(&g->schema, &g->array, &table, &err);

    if (rc != -code || strstr(err.text, text) == NULL) {
        fail_msg("%d, \"%s\" instead of %d, \"%s\"", rc, err.text, -code, text);
    }
    assert_null(table);
    assert_true(!live || released > before);
    assert_null(g->schema.release);
}

static void test_whole_numbers(void **state)
{
    static const int8_t narrow[] = {1, -2, 3};
    static const uint32_t wide[] = {1, UINT32_MAX, 3};
    static const int64_t own[] = {9, 8, 7, 6, 5, 4};
    struct given g;
    struct table *table;

    (void)state;
    given_init(&g, "c", 3, narrow);
    table = import(&g);
    assert_int_equal(column_int64(&table->column[0], 1), -2);
    table_unref(table);
    given_init(&g, "I", 3, wide);
    table = import(&g);
    assert_int_equal(column_int64(&table->column[0], 1), UINT32_MAX);
    table_unref(table);
    // A part of a part, without a copy: released with the table.
    given_init(&g, "l", 2, own);
    g.part.length = 4;
    g.part.offset = 2;
    g.array.offset = 1;
    released = 0;
    table = import(&g);
    assert_int_equal(table->rows, 2);
    assert_int_equal(column_int64(&table->column[0], 0), 6);
    assert_int_equal(column_int64(&table->column[0], 1), 5);
    int before = released;
    table_unref(table);
    assert_int_equal(released, before + 2);
}

static void test_nulls(void **state)
{
    static const double values[] = {0.5, 1.5, 2.5, 3.5};
    static const uint8_t valid[] = {0x0B}; // not the third
    struct given g;
    struct table *table;

    (void)state;
    given_init(&g, "g", 4, values);
    g.buffer[0] = valid;
    g.part.null_count = -1; // unknown
    table = import(&g);
    assert_int_equal(table->column[0].nulls, 1);
    assert_true(!column_is_valid(&table->column[0], 2));
    assert_true(column_float64(&table->column[0], 3) == 3.5);
    table_unref(table);
    g.part.null_count = 0; // then the bitmap does not count
    given_init(&g, "g", 4, values);
    g.buffer[0] = valid;
    table = import(&g);
    assert_int_equal(table->column[0].nulls, 0);
    table_unref(table);
}

static void test_texts(void **state)
{
    static const int32_t offsets[] = {0, 1, 1, 4};
    static const int64_t wide[] = {0, 1, 1, 4};
    static const int32_t falling[] = {0, 3, 1, 4};
    static const int32_t negative[] = {-1, 0, 1, 4};
    struct given g;

    (void)state;
    for (int i = 0; i < 2; i++) {
        given_text(&g, i == 0 ? "u" : "U", 3, i == 0 ? (const void *)offsets : wide, "abcd");
        struct table *table = import(&g);
        size_t size;
        const char *text = column_string(&table->column[0], 2, &size);

        assert_int_equal(size, 3);
        assert_memory_equal(text, "bcd", 3);
        table_unref(table);
    }
    given_text(&g, "u", 3, falling, "abcd");
    expect_refusal(&g, EINVAL, "column 'c' (format u) has offsets that do not ascend");
    given_text(&g, "u", 3, negative, "abcd");
    expect_refusal(&g, EINVAL, "has negative offsets");
    given_text(&g, "u", 3, offsets, NULL);
    expect_refusal(&g, EINVAL, "lacks a buffer");
}

static void test_dictionaries(void **state)
{
    static const int32_t offsets[] = {0, 1, 3};
    static const int8_t codes[] = {1, 0, 1}, wrong[] = {1, 2, 0};
    struct given g;

    (void)state;
    for (int i = 0; i < 2; i++) {
        given_init(&g, "c", 3, i == 0 ? codes : wrong);
        g.column.dictionary = &g.dictionary;
        g.part.dictionary = &g.words;
        g.dictionary = (struct ArrowSchema){.format = "u", .release = release_schema};
        g.word_buffer[1] = offsets;
        g.word_buffer[2] = "abb";
        g.words = (struct ArrowArray){
            .length = 2, .n_buffers = 3, .buffers = g.word_buffer, .release = release_array};
        if (i == 1) {
            expect_refusal(&g, EINVAL, "has a code that its dictionary does not have");
            continue;
        }
        struct table *table = import(&g);
        size_t size;

        assert_int_equal(table->column[0].type, TYPE_DICT);
        assert_memory_equal(column_string(&table->column[0], 2, &size), "bb", 2);
        assert_int_equal(size, 2);
        table_unref(table);
    }
}

static void test_malformed(void **state)
{
    static const int64_t values[] = {1, 2, 3};
    struct given g;

    (void)state;
    given_init(&g, "tdD", 3, values);
    expect_refusal(&g, EINVAL, "column 'c' has the format 'tdD'; a table has b, c, C, s,");
    given_init(&g, "l", 3, values);
    g.schema.format = "l";
    expect_refusal(&g, EINVAL, "a table is a struct array (\"+s\"), not \"l\"");
    given_init(&g, "l", 3, values);
    g.part.length = 2;
    expect_refusal(&g, EINVAL, "has fewer rows than its table");
    given_init(&g, "l", 3, values);
    g.part.n_buffers = 3;
    expect_refusal(&g, EINVAL, "is malformed");
    given_init(&g, "l", 3, NULL);
    expect_refusal(&g, EINVAL, "lacks a buffer");
    given_init(&g, "l", 3, values);
    g.part.length = -1;
    expect_refusal(&g, EINVAL, "is malformed");
    given_init(&g, "l", 3, values);
    g.schema.n_children = 2;
    expect_refusal(&g, EINVAL, "the table is malformed: 2 and 1 columns");
    given_init(&g, "l", 3, values);
    g.array.null_count = 1;
    expect_refusal(&g, EINVAL, "nulls belong to columns");
    given_init(&g, "l", 3, values);
    g.array.release = NULL;
    expect_refusal(&g, EINVAL, "has been released already");
    given_init(&g, "l", 3, values);
    g.part.release = NULL;
    expect_refusal(&g, EINVAL, "is malformed: released");
}

// Out and in again; each structure may be moved or released on its own, in any order.
static void test_round_trip(void **state)
{
    struct column_builder *builder = column_builder_create(TYPE_STRING);
    struct table *table = table_create(1, 3), *back = NULL;
    struct ArrowSchema schema, child_schema;
    struct ArrowArray array, child;
    struct error err = {0};

    (void)state;
    column_builder_string(builder, "one", 3);
    column_builder_null(builder);
    column_builder_string(builder, "three", 5);
    column_builder_finish(builder, "s", &table->column[0]);
    column_builder_destroy(builder);
    assert_int_equal(arrow_export(table_ref(table), &schema, &array, &err), 0);
    assert_string_equal(schema.children[0]->format, "u");
    assert_int_equal(array.children[0]->null_count, 1);
    assert_int_equal(arrow_import(&schema, &array, &back, &err), 0);
    size_t size;

    assert_memory_equal(column_string(&back->column[0], 2, &size), "three", 5);
    assert_true(!column_is_valid(&back->column[0], 1));
    table_unref(back);
    assert_int_equal(arrow_export(table, &schema, &array, &err), 0);
    child_schema = *schema.children[0];
    schema.children[0]->release = NULL;
    child = *array.children[0];
    array.children[0]->release = NULL;
    array.release(&array);
    schema.release(&schema);
    assert_memory_equal((const char *)child.buffers[2] + 3, "three", 5);
    assert_string_equal(child_schema.name, "s");
    child.release(&child);
    child_schema.release(&child_schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_numbers), cmocka_unit_test(test_nulls),
        cmocka_unit_test(test_texts),         cmocka_unit_test(test_dictionaries),
        cmocka_unit_test(test_malformed),     cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
