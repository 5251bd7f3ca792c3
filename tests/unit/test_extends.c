// Layers that the broker has not confirmed yet, by themselves; with a broker: test_rejoin.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "client/lib/extends.h"

static void add(struct extends *extends, uint32_t job, uint32_t first, uint32_t layers, bool last)
{
    uint8_t *graph = layers > 0 ? calloc(1, 4) : NULL;

    assert_int_equal(extends_add(extends, job, first, layers, &graph, layers > 0 ? 4 : 0, last, NULL), 0);
}

// That these were the last is confirmed by itself.
static void test_the_last_word_waits(void **state)
{
    struct extends extends = {0};

    (void)state;
    add(&extends, 1, 0, 2, false);
    add(&extends, 2, 0, 1, false);
    add(&extends, 1, 2, 0, true);
    extends_confirm(&extends, 1, 2, false);
    assert_true(extends_open(&extends, 1));
    assert_int_equal(extends.unsent, 2);
    extends_confirm(&extends, 1, 2, true);
    assert_false(extends_open(&extends, 1));
    add(&extends, 1, 2, 1, true);
    extends_forget(&extends, 1);
    assert_false(extends_open(&extends, 1));
    add(&extends, 2, 1, 3, true);
    assert_int_equal(extends_lowest(&extends, 2, 9), 0);
    extends_confirm(&extends, 2, 1, false);
    assert_int_equal(extends_lowest(&extends, 2, 9), 1);
    extends_confirm(&extends, 2, 4, false);
    assert_int_equal(extends.unsent, 0);
    assert_null(extends.first);
    assert_null(extends.last);
    add(&extends, 3, 0, 1, false);
    add(&extends, 3, 1, 1, false);
    extends_take_back(&extends);
    assert_int_equal(extends.unsent, 1);
    add(&extends, 3, 1, 1, false);
    extends_confirm(&extends, 3, 1, false);
    extends_take_back(&extends);
    assert_int_equal(extends.unsent, 0);
    assert_null(extends.first);
    add(&extends, 3, 1, 1, false);
    extends_fini(&extends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_word_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
