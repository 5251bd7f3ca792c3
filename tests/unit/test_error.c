#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/error.h"

static void test_set(void **state)
{
    (void)state;
    struct error err = {0};

    assert_int_equal(error_set(&err, ENOENT, "no file %s in %d folders", "x.csv", 3), -ENOENT);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "no file x.csv in 3 folders");
    assert_int_equal(error_set(NULL, EIO, "nobody listens"), -EIO);
    assert_int_equal(error_no_memory(&err), -ENOMEM);
    assert_int_equal(err.code, ENOMEM);
    assert_true(strlen(err.text) > 0);
    assert_int_equal(error_no_memory(NULL), -ENOMEM);
}

static void test_prefix(void **state)
{
    (void)state;
    struct error err = {0};

    error_set(&err, EIO, "it broke");
    error_prefix(&err, "task %s[%d]: ", "scan", 3);
    error_prefix(&err, "on w2: ");
    assert_string_equal(err.text, "on w2: task scan[3]: it broke");
    assert_int_equal(err.code, EIO);
    error_prefix(NULL, "nobody");
}

// Texts that are too long are cut, never overrun.
static void test_long(void **state)
{
    (void)state;
    struct {
        struct error err;
        char guard[16];
    } x = {.guard = "guard"};
    char text[3 * ERROR_TEXT_MAX];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&x.err, EIO, "%s", text);
    assert_int_equal(strlen(x.err.text), ERROR_TEXT_MAX - 1);
    error_prefix(&x.err, "first: ");
    assert_int_equal(strlen(x.err.text), ERROR_TEXT_MAX - 1);
    assert_memory_equal(x.err.text, "first: xxx", 10);
    error_prefix(&x.err, "%s", text);
    assert_int_equal(strlen(x.err.text), ERROR_TEXT_MAX - 1);
    for (size_t n = ERROR_TEXT_MAX - 10; n < ERROR_TEXT_MAX + 10; n++) {
        error_set(&x.err, EIO, "short");
        error_prefix(&x.err, "%.*s", (int)n, text);
        assert_true(strlen(x.err.text) < ERROR_TEXT_MAX);
    }
    assert_string_equal(x.guard, "guard");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
