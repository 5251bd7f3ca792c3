#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/print/print.h"
#include "proto/utf8.h"

// What pandas prints is compared with pandas in tests/property/test_print.py; here is what it knows nothing
// of.

struct spec {
    const char *name;
    enum type type;
    const char *const *texts; // STRING; NULL: missing
    const double *numbers;    // INT64, FLOAT64, BOOL; NaN: missing
};

static struct table *make_table(int64_t rows, uint32_t columns, const struct spec *specs)
{
    struct table *table = table_create(columns, rows);

    for (uint32_t i = 0; i < columns; i++) {
        struct column_builder *b = column_builder_create(specs[i].type);

        for (int64_t row = 0; row < rows; row++) {
            double number = specs[i].numbers != NULL ? specs[i].numbers[row] : 0;
            const char *text = specs[i].texts != NULL ? specs[i].texts[row] : NULL;
            int rc;

            if (specs[i].type == TYPE_STRING ? text == NULL : isnan(number)) {
                rc = column_builder_null(b);
            } else if (specs[i].type == TYPE_STRING) {
                rc = column_builder_string(b, text, strlen(text));
            } else if (specs[i].type == TYPE_FLOAT64) {
                rc = column_builder_float64(b, number);
            } else if (specs[i].type == TYPE_INT64) {
                rc = column_builder_int64(b, (int64_t)number);
            } else {
                rc = column_builder_bool(b, number != 0);
            }
            assert_int_equal(rc, 0);
        }
        assert_int_equal(column_builder_finish(b, specs[i].name, &table->column[i]), 0);
        column_builder_destroy(b);
    }
    return table;
}

// Prints the table `times` times over as one result; takes it.
static char *print(enum print_format format, const struct shape *shape, struct table *table, int times)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct printer *printer = printer_create(format, shape, 0, out);
    struct error err;

    assert_non_null(printer);
    for (int i = 0; i < times; i++) {
        assert_int_equal(printer_table(printer, table, &err), 0);
    }
    assert_int_equal(printer_finish(printer, &err), 0);
    printer_destroy(printer);
    table_unref(table);
    fclose(out);
    return text;
}

static void expect(enum print_format format, const struct shape *shape, struct table *table, const char *want)
{
    char *got = print(format, shape, table, 1);

    assert_string_equal(got, want);
    free(got);
}

static const char *const categories[] = {"Books", "Clothing", "Home Goods"};
static const double prices[] = {505.1108891, 505.0080449, 505.1};

static struct table *make_prices(void)
{
    return make_table(
        3, 2,
        (struct spec[]){{"category", TYPE_STRING, categories, NULL}, {"price", TYPE_FLOAT64, NULL, prices}});
}

static void test_series(void **state)
{
    struct shape shape = {.kind = SHAPE_SERIES, .index_columns = 1, .series_name = "price"};

    (void)state;
    expect(PRINT_TABLE, &shape, make_prices(),
           "category\nBooks         505.110889\nClothing      505.008045\nHome Goods    505.100000\n"
           "Name: price, dtype: float64\n");
    expect(PRINT_CSV, &shape, make_prices(),
           "category,price\nBooks,505.1108891\nClothing,505.0080449\nHome Goods,505.1\n");
    expect(PRINT_JSON, &shape, make_prices(),
           "{\"columns\":[\"category\",\"price\"],\"index_columns\":1,\"data\":[\n[\"Books\",505.1108891],\n"
           "[\"Clothing\",505.0080449],\n[\"Home Goods\",505.1]\n]}\n");
}

// df.dtypes: names of columns as an index without a name, a dtype that is given.
static void test_dtypes(void **state)
{
    static const char *const names[] = {"a", "long"}, *const types[] = {"int64", "float64"};
    struct shape shape = {
        .kind = SHAPE_SERIES, .index_columns = 1, .index_is_names = true, .dtype = "object"};
    struct table *table = make_table(
        2, 2, (struct spec[]){{"index", TYPE_STRING, names, NULL}, {"dtype", TYPE_STRING, types, NULL}});

    (void)state;
    table_ref(table);
    expect(PRINT_TABLE, &shape, table, "a         int64\nlong    float64\ndtype: object\n");
    expect(PRINT_CSV, &shape, table, ",0\na,int64\nlong,float64\n");
}

// df.max() of columns of all kinds: texts that say what they are.
static void test_mixed_rows(void **state)
{
    static const char *const names[] = {"s", "i", "f", "g", "b", "none", "inf"};
    static const char *const values[] = {"x", "3", "4.9546623750484144", "2.5", "True", NULL, "-inf"};
    static const enum type types[] = {TYPE_STRING, TYPE_INT64,   TYPE_FLOAT64, TYPE_FLOAT64,
                                      TYPE_BOOL,   TYPE_FLOAT64, TYPE_FLOAT64};
    struct shape shape = {
        .kind = SHAPE_SERIES, .index_columns = 1, .index_is_names = true, .row_type = types};
    struct table *table =
        make_table(7, 2, (struct spec[]){{"", TYPE_STRING, names, NULL}, {"0", TYPE_STRING, values, NULL}});

    (void)state;
    table_ref(table);
    expect(PRINT_TABLE, &shape, table,
           "s              x\ni              3\nf       4.954662\ng            2.5\nb           True\n"
           "none         NaN\ninf         -inf\ndtype: object\n");
    expect(PRINT_JSON, &shape, table,
           "{\"columns\":[null,null],\"index_columns\":1,\"data\":[\n[\"s\",\"x\"],\n[\"i\",3],\n"
           "[\"f\",4.9546623750484144],\n[\"g\",2.5],\n[\"b\",true],\n[\"none\",null],\n"
           "[\"inf\",null]\n]}\n");
}

static void test_scalars(void **state)
{
    static const struct {
        enum type type;
        double number;
        const char *table, *csv, *json;
    } rows[] = {
        {TYPE_FLOAT64, 505.1108891234567, "505.1108891234567\n", "505.1108891234567\n",
         "505.1108891234567\n"},
        {TYPE_FLOAT64, 3, "3.0\n", "3.0\n", "3.0\n"},
        {TYPE_FLOAT64, (double)INFINITY, "inf\n", "inf\n", "null\n"},
        {TYPE_FLOAT64, (double)NAN, "nan\n", "\"\"\n", "null\n"},
        {TYPE_INT64, -42, "-42\n", "-42\n", "-42\n"},
        {TYPE_INT64, (double)NAN, "nan\n", "\"\"\n", "null\n"},
        {TYPE_BOOL, 1, "True\n", "True\n", "true\n"},
    };
    struct shape shape = {.kind = SHAPE_SCALAR};
    static const char *const text[] = {"a \"b\"\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct table *table = make_table(1, 1, &(struct spec){"x", rows[i].type, NULL, &rows[i].number});

        table_ref(table);
        table_ref(table);
        expect(PRINT_TABLE, &shape, table, rows[i].table);
        expect(PRINT_CSV, &shape, table, rows[i].csv);
        expect(PRINT_JSON, &shape, table, rows[i].json);
    }
    struct table *table = make_table(1, 1, &(struct spec){"x", TYPE_STRING, text, NULL});

    table_ref(table);
    expect(PRINT_TABLE, &shape, table, "a \"b\"\n\n");
    expect(PRINT_JSON, &shape, table, "\"a \\\"b\\\"\\n\"\n");
}

static void test_lists(void **state)
{
    static const char *const texts[] = {"a", "it's", "\"'", "\t\x01", NULL, "\xff"};
    static const double whole = 7, half = 2.5, none = (double)NAN;
    struct shape shape = {.kind = SHAPE_LIST};
    struct spec specs[6];
    const struct spec mixed[] = {{"", TYPE_INT64, NULL, &whole},
                                 {"", TYPE_FLOAT64, NULL, &half},
                                 {"", TYPE_FLOAT64, NULL, &none},
                                 {"", TYPE_BOOL, NULL, &whole},
                                 {"", TYPE_STRING, texts, NULL}};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        specs[i] = (struct spec){"", TYPE_STRING, &texts[i], NULL};
    }
    expect(PRINT_TABLE, &shape, make_table(1, 6, specs),
           "['a', \"it's\", '\"\\'', '\\t\\x01', nan, '\\xff']\n");
    expect(PRINT_JSON, &shape, make_table(1, 6, specs),
           "[\"a\",\"it's\",\"\\\"'\",\"\\t\\u0001\",null,\"\\ufffd\"]\n");
    // Each item keeps its own type.
    expect(PRINT_TABLE, &shape, make_table(1, 5, mixed), "[7, 2.5, nan, True, 'a']\n");
    expect(PRINT_JSON, &shape, make_table(1, 5, mixed), "[7,2.5,null,true,\"a\"]\n");
    expect(PRINT_CSV, &shape, make_table(1, 5, mixed), "7\n2.5\n\"\"\nTrue\na\n");
    shape.kind = SHAPE_TUPLE;
    expect(PRINT_TABLE, &shape, make_table(1, 2, mixed), "(7, 2.5)\n");
    expect(PRINT_TABLE, &shape, make_table(1, 1, mixed), "(7,)\n");
    expect(PRINT_JSON, &shape, make_table(1, 2, mixed), "[7,2.5]\n");
}

// Nothing came at all, or nothing is to be printed.
static void test_nothing(void **state)
{
    static const struct {
        enum print_format format;
        enum shape_kind kind;
        const char *want;
    } rows[] = {
        {PRINT_TABLE, SHAPE_NONE, ""},
        {PRINT_JSON, SHAPE_NONE, ""},
        {PRINT_TABLE, SHAPE_LIST, "[]\n"},
        {PRINT_JSON, SHAPE_LIST, "[]\n"},
        {PRINT_TABLE, SHAPE_TUPLE, "()\n"},
        {PRINT_CSV, SHAPE_FRAME, ""},
        {PRINT_JSON, SHAPE_SCALAR, "null\n"},
        {PRINT_JSON, SHAPE_FRAME, "{\"columns\":[],\"index_columns\":0,\"data\":[]}\n"},
        {PRINT_TABLE, SHAPE_FRAME, "Empty DataFrame\nColumns: []\nIndex: []\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct shape shape = {.kind = rows[i].kind};
        char *got = print(rows[i].format, &shape, NULL, 0);

        assert_string_equal(got, rows[i].want);
        free(got);
    }
}

// Bytes that are no UTF-8 come out as they came in, except in JSON.
static void test_invalid_utf8(void **state)
{
    static const char *const texts[] = {"caf\xe9", "\xc3\xa9t\xc3\xa9", "\xed\xa0\x80"};
    struct shape shape = {.kind = SHAPE_FRAME};
    struct table *table = make_table(3, 1, &(struct spec){"n", TYPE_STRING, texts, NULL});

    (void)state;
    table_ref(table);
    table_ref(table);
    expect(PRINT_TABLE, &shape, table, "      n\n0  caf\xe9\n1   \xc3\xa9t\xc3\xa9\n2   \xed\xa0\x80\n");
    expect(PRINT_CSV, &shape, table, "n\ncaf\xe9\n\xc3\xa9t\xc3\xa9\n\xed\xa0\x80\n");
    expect(
        PRINT_JSON, &shape, table,
        "{\"columns\":[\"n\"],\"index_columns\":0,\"data\":[\n[\"caf\\ufffd\"],\n[\"\xc3\xa9t\xc3\xa9\"],\n"
        "[\"\\ufffd\\ufffd\\ufffd\"]\n]}\n");
}

// An integer column with a hole stays exact where it is data, and is a float where pandas shows it.
static void test_integers_with_nulls(void **state)
{
    static const double numbers[] = {1, (double)NAN, 3};
    struct shape shape = {.kind = SHAPE_FRAME};
    struct table *table = make_table(3, 1, &(struct spec){"n", TYPE_INT64, NULL, numbers});

    (void)state;
    table_ref(table);
    table_ref(table);
    expect(PRINT_TABLE, &shape, table, "     n\n0  1.0\n1  NaN\n2  3.0\n");
    expect(PRINT_CSV, &shape, table, "n\n1\n\"\"\n3\n");
    expect(PRINT_JSON, &shape, table,
           "{\"columns\":[\"n\"],\"index_columns\":0,\"data\":[\n[1],\n[null],\n[3]\n]}\n");
}

// Many parts: what is shown is the first and the last rows, with the length of all.
static void test_many_parts(void **state)
{
    struct shape shape = {.kind = SHAPE_SERIES, .index_columns = 1, .series_name = "price"};
    char *got;

    (void)state;
    got = print(PRINT_TABLE, &shape, make_prices(), 1000);
    assert_string_equal(
        got, "category\nBooks         505.110889\nClothing      505.008045\nHome Goods    505.100000\n"
             "Books         505.110889\nClothing      505.008045\n                 ...    \n"
             "Clothing      505.008045\nHome Goods    505.100000\nBooks         505.110889\n"
             "Clothing      505.008045\nHome Goods    505.100000\n"
             "Name: price, Length: 3000, dtype: float64\n");
    free(got);
}

static void test_errors(void **state)
{
    struct shape shape = {.kind = SHAPE_FRAME, .index_columns = 1};
    enum print_format format = PRINT_JSON;
    struct table *table = make_prices();
    struct error err;

    (void)state;
    for (int f = PRINT_TABLE; f <= PRINT_JSON; f++) {
        FILE *full = fopen("/dev/full", "w");
        struct printer *printer = printer_create((enum print_format)f, &shape, 0, full);
        int rc = printer_table(printer, table, &err);

        if (rc == 0) {
            rc = printer_finish(printer, &err);
        }
        assert_int_equal(rc, -ENOSPC);
        assert_non_null(strstr(err.text, "cannot write the result"));
        printer_destroy(printer);
        fclose(full);
    }
    shape.index_columns = 3;
    struct printer *printer = printer_create(PRINT_TABLE, &shape, 0, stdout);

    assert_int_equal(printer_table(printer, table, &err), -EINVAL);
    printer_destroy(printer);
    table_unref(table);
    assert_int_equal(print_format_parse("csv", &format, &err), 0);
    assert_int_equal(format, PRINT_CSV);
    assert_int_equal(print_format_parse("xml", &format, &err), -EINVAL);
    assert_non_null(strstr(err.text, "table, csv or json"));
    assert_int_equal(format, PRINT_CSV);
}

static void test_utf8(void **state)
{
    static const char text[] = "a\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80";
    uint32_t code;

    (void)state;
    assert_int_equal(utf8_length(text, sizeof(text) - 1), 4);
    assert_int_equal(utf8_prefix(text, sizeof(text) - 1, 3), 6);
    assert_int_equal(utf8_prefix(text, sizeof(text) - 1, 9), sizeof(text) - 1);
    assert_int_equal(utf8_next("\xf0\x9f\x98\x80", 4, &code), 4);
    assert_int_equal(code, 0x1f600);
    // All code points there and back.
    for (uint32_t c = 0; c < 0x110000; c++) {
        char bytes[4];
        size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        uint32_t rest = c;

        for (size_t i = size; i-- > 1; rest >>= 6) {
            bytes[i] = (char)(0x80 | (rest & 0x3f));
        }
        bytes[0] = (char)(size == 1 ? rest : (0xf00U >> size) | rest);
        bool valid = c < 0xd800 || c > 0xdfff;

        assert_int_equal(utf8_next(bytes, size, &code), valid ? size : 1);
        assert_int_equal(code, valid ? c : UTF8_INVALID);
        assert_true(size == 1 || (utf8_next(bytes, size - 1, &code) == 1 && code == UTF8_INVALID));
    }
    static const char *const invalid[] = {"\x80",
                                          "\xc0\x80",
                                          "\xc1\xbf",
                                          "\xe0\x80\x80",
                                          "\xf0\x80\x80\x80",
                                          "\xf4\x90\x80\x80",
                                          "\xf5\x80\x80\x80",
                                          "\xff",
                                          "\xc3("};

    for (size_t i = 0; i < sizeof(invalid) / sizeof(*invalid); i++) {
        assert_int_equal(utf8_next(invalid[i], strlen(invalid[i]), &code), 1);
        assert_int_equal(code, UTF8_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_series),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_mixed_rows),
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_many_parts),
        cmocka_unit_test(test_integers_with_nulls),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
