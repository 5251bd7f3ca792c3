#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/template.h"

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static void expect(const Dray__Command *command, uint32_t index, const uint32_t *place, const char *text,
                   const char *expected)
{
    struct arena arena;
    struct error err = {0};
    char *out = NULL;
    size_t size = 0;

    arena_init(&arena, 0);
    assert_int_equal(template_expand(command, index, place, text, strlen(text), &arena, &out, &size, &err),
                     0);
    assert_string_equal(out, expected);
    assert_int_equal(size, strlen(expected));
    arena_fini(&arena);
}

static void test_braces(void **state)
{
    Dray__Command command = DRAY__COMMAND__INIT;
    uint32_t place = 7;

    (void)state;
    expect(&command, 12, NULL, "", "");
    expect(&command, 12, NULL, "no brace", "no brace");
    expect(&command, 12, NULL, "{index}-{index}", "12-12");
    expect(&command, 12, NULL, "{{index}", "{index}");
    expect(&command, 12, NULL, "{{{index}}", "{12}");
    expect(&command, 12, NULL, "awk '{print $1}' {", "awk '{print $1}' {");
    expect(&command, 12, NULL, "{param} {i} {} {ind", "{param} {i} {} {ind");
    expect(&command, 12, &place, "part/{i}.png", "part/7.png");
    expect(&command, UINT32_MAX, NULL, "${index}", "$4294967295");
}

static void test_param(void **state)
{
    Dray__Command command = DRAY__COMMAND__INIT;
    ProtobufCBinaryData param[] = {bytes("a.png"), bytes(""), bytes("{index}")};

    (void)state;
    command.param = param;
    command.n_param = 3;
    expect(&command, 0, NULL, "<{param}>", "<a.png>");
    expect(&command, 1, NULL, "<{param}>", "<>");
    expect(&command, 2, NULL, "<{param}>", "<{index}>"); // values are not looked into
    command.n_param = 1;
    expect(&command, 2, NULL, "<{param}>", "<a.png>");
}

// As nested loops: for x in a b: for n in 10 20 30: ...
static void test_columns(void **state)
{
    Dray__Command command = DRAY__COMMAND__INIT;
    Dray__Column x = DRAY__COLUMN__INIT, n = DRAY__COLUMN__INIT, index = DRAY__COLUMN__INIT;
    Dray__Column *columns[] = {&x, &n, &index};
    ProtobufCBinaryData values[] = {bytes("a"), bytes("b")};
    static const char *const expected[] = {"a 10 100", "a 20 99", "a 30 98", "b 10 97", "b 20 96", "b 30 95"};

    (void)state;
    x.name = (char[]){"x"};
    x.value = values;
    x.n_value = 2;
    x.each = 3;
    n.name = (char[]){"n"};
    n.has_first = true;
    n.first = n.step = 10;
    n.count = 3;
    index.name = (char[]){"index"};
    index.has_first = true;
    index.first = 100;
    index.step = -1;
    index.count = 6;
    command.column = columns;
    command.n_column = 3;
    assert_int_equal(template_check_columns(&command, NULL), 0);
    for (uint32_t i = 0; i < 6; i++) {
        expect(&command, i, NULL, "{x} {n} {index}", expected[i]);
    }
}

static void test_check(void **state)
{
    Dray__Command command = DRAY__COMMAND__INIT;
    Dray__Column a = DRAY__COLUMN__INIT, b = DRAY__COLUMN__INIT;
    Dray__Column *columns[] = {&a, &b};
    ProtobufCBinaryData value = bytes("v");
    struct error err = {0};

    (void)state;
    a.name = (char[]){"a"};
    b.name = (char[]){"b"};
    a.value = b.value = &value;
    a.n_value = b.n_value = 1;
    command.column = columns;
    command.n_column = 2;
    assert_int_equal(template_check_columns(&command, &err), 0);
    b.name = (char[]){"a"};
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "two columns"));
    for (size_t i = 0; i < 5; i++) {
        b.name =
            (char *[]){(char[]){""}, (char[]){"1a"}, (char[]){"a b"}, (char[]){"{"}, (char[]){"\xc3\xa9"}}[i];
        assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    }
    b.name = (char[]){"b"};
    b.each = 0;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.each = 1;
    b.n_value = 0;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.has_first = true;
    b.count = 2;
    b.first = INT64_MAX - 1;
    assert_int_equal(template_check_columns(&command, &err), 0);
    b.count = 3;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.count = 0;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.count = UINT32_MAX;
    b.first = 0;
    b.step = INT64_MIN;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.step = 0;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    b.has_first = false;
    b.n_value = 1;
    value = (ProtobufCBinaryData){.len = 2, .data = (uint8_t[]){'x', 0}};
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "zero byte"));
    command.n_column = TEMPLATE_COLUMNS_MAX + 1;
    assert_int_equal(template_check_columns(&command, &err), -EBADMSG);
}

// What would grow without bound is refused; what looks like a name and has no end costs no time.
static void test_long(void **state)
{
    Dray__Command command = DRAY__COMMAND__INIT;
    struct arena arena;
    struct error err = {0};
    size_t size = (size_t)4 << 20, long_size = (size_t)1 << 20;
    char *text, *value, *out;
    ProtobufCBinaryData param;

    (void)state;
    arena_init(&arena, 0);
    text = arena_alloc(&arena, size);
    for (size_t i = 0; i < size; i++) {
        text[i] = i % 2 == 0 ? '{' : 'a';
    }
    assert_int_equal(template_expand(&command, 0, NULL, text, size, &arena, &out, &size, &err), 0);
    assert_int_equal(size, (size_t)4 << 20);
    value = arena_alloc(&arena, long_size);
    memset(value, 'x', long_size);
    param = (ProtobufCBinaryData){.len = long_size, .data = (uint8_t *)value};
    command.param = &param;
    command.n_param = 1;
    size = 17 * strlen("{param}");
    for (size_t i = 0; i < 17; i++) {
        memcpy(text + i * strlen("{param}"), "{param}", strlen("{param}"));
    }
    assert_int_equal(template_expand(&command, 3, NULL, text, size, &arena, &out, &size, &err), -E2BIG);
    assert_non_null(strstr(err.text, "task 3"));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_braces), cmocka_unit_test(test_param), cmocka_unit_test(test_columns),
        cmocka_unit_test(test_check),  cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
