#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "client/print/format.h"
#include "client/print/sheet.h"

static struct strip strip_of(struct sheet *sheet, const char *const *lines, size_t count)
{
    struct strip strip = {0};

    for (size_t i = 0; i < count; i++) {
        strip_add(sheet, &strip, text_of(lines[i]));
    }
    return strip;
}

static void expect(const struct strip *strip, const char *const *lines, size_t count)
{
    assert_int_equal(strip->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(strip->line[i].size, strlen(lines[i]));
        assert_memory_equal(strip->line[i].data, lines[i], strlen(lines[i]));
    }
}

// What Python's str.center, ljust and rjust give.
static void test_pad(void **state)
{
    static const struct {
        const char *text;
        size_t width;
        enum align align;
        const char *want;
    } rows[] = {
        {"..", 5, ALIGN_CENTER, "  .. "},    {"...", 6, ALIGN_CENTER, " ...  "},
        {"...", 7, ALIGN_CENTER, "  ...  "}, {"x", 4, ALIGN_CENTER, " x  "},
        {"x", 3, ALIGN_LEFT, "x  "},         {"x", 3, ALIGN_RIGHT, "  x"},
        {"long", 2, ALIGN_LEFT, "long"},     {"\xc3\xa9", 3, ALIGN_RIGHT, "  \xc3\xa9"},
    };
    struct sheet sheet;

    (void)state;
    sheet_init(&sheet);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct text text = text_pad(&sheet, text_of(rows[i].text), rows[i].width, rows[i].align);

        assert_int_equal(text.size, strlen(rows[i].want));
        assert_memory_equal(text.data, rows[i].want, text.size);
    }
    sheet_fini(&sheet);
}

static void test_strips(void **state)
{
    static const char *const left[] = {"a", "bcd"}, *const right[] = {" 1", " 22", " 3"};
    static const char *const side_by_side[] = {"a     1 ", "bcd   22", "      3 "};
    static const char *const padded[] = {"  a", "bcd"};
    char wide[61] = "", cut[51] = "";
    struct sheet sheet;
    struct strip strips[2], lines;

    (void)state;
    sheet_init(&sheet);
    strips[0] = strip_of(&sheet, left, 2);
    strips[1] = strip_of(&sheet, right, 3);
    strip_insert(&sheet, &strips[1], 1, text_of(""));
    strip_trim_front(&strips[1]);
    assert_int_equal(strips[1].line[0].size, 2); // not all have a space in front
    strips[1] = strip_of(&sheet, right, 3);
    strip_trim_front(&strips[1]);
    lines = strips_adjoin(&sheet, 3, strips, 2);
    expect(&lines, side_by_side, 3);
    strip_fix_width(&sheet, &strips[0], 0, ALIGN_RIGHT);
    expect(&strips[0], padded, 2);

    memset(wide, 'w', 60);
    memset(cut, 'w', 47);
    memcpy(cut + 47, "...", 3);
    lines = (struct strip){0};
    strip_add(&sheet, &lines, text_of(wide));
    strip_fix_width(&sheet, &lines, 55, ALIGN_LEFT);
    expect(&lines, (const char *const[]){cut}, 1);
    assert_false(sheet.no_memory);
    sheet_fini(&sheet);
}

// No memory: texts become empty, and it is said.
static void test_no_memory(void **state)
{
    struct sheet sheet;
    struct strip strip = {0};

    (void)state;
    sheet_init(&sheet);
    sheet.arena.limit = 1024;
    for (int i = 0; i < 1000; i++) {
        strip_add(&sheet, &strip, text_print(&sheet, "%d", i));
    }
    assert_true(sheet.no_memory);
    assert_true(strip.count < 1000);
    strip_fix_width(&sheet, &strip, 40, ALIGN_LEFT);
    strips_adjoin(&sheet, 1, &strip, 1);
    sheet_fini(&sheet);
}

static void test_range(void **state)
{
    static const char *const want[] = {"0 ", "1 ", "98", "99"};
    struct sheet sheet;
    struct strip strip;

    (void)state;
    sheet_init(&sheet);
    strip = format_range(&sheet, 100, 2, 2);
    expect(&strip, want, 4);
    sheet_fini(&sheet);
    assert_string_equal(format_dtype(TYPE_INT64, true), "float64");
    assert_string_equal(format_dtype(TYPE_DICT, false), "object");
    assert_true(format_is_numeric(TYPE_BOOL, false) && !format_is_numeric(TYPE_BOOL, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pad),
        cmocka_unit_test(test_strips),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
