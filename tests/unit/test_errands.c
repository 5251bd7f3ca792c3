// What the broker was asked for (worker/core/errands.h), on a made-up clock.
#include "worker/core/errands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_places(void **state)
{
    struct errands errands = {0};
    struct errand one;
    int a, b;

    (void)state;
    for (uint32_t tag = 1; tag <= ERRANDS_MAX; tag++) {
        assert_false(errands_full(&errands));
        errands_add(&errands, tag, tag % 2 == 0 ? &a : &b, tag);
    }
    assert_true(errands_full(&errands));
    assert_false(errands_take(&errands, 99, &one));
    assert_true(errands_take(&errands, 1, &one));
    assert_ptr_equal(one.whose, &b);
    assert_false(errands_take(&errands, 1, &one));
    assert_false(errands_full(&errands));
    // Who is gone leaves his places to what is still to come.
    errands_disown(&errands, &a);
    assert_true(errands_take(&errands, 2, &one));
    assert_null(one.whose);
    assert_true(errands_take(&errands, 3, &one));
    assert_ptr_equal(one.whose, &b);
    errands_clear(&errands);
    assert_false(errands_take(&errands, 4, &one));
}

// Answers to the others are no answer to it.
static void test_each_has_its_time(void **state)
{
    struct errands errands = {0};
    struct errand one;
    int a;

    (void)state;
    errands_add(&errands, 1, &a, 1000);
    errands_add(&errands, 2, &a, 2000);
    for (uint32_t tag = 10; tag < 100; tag++) {
        errands_add(&errands, tag, &a, 1000 + tag * 1000000ULL);
        assert_false(errands_take_late(&errands, 1000 + (tag + 1) * 1000000ULL, &one));
        assert_true(errands_take(&errands, tag, &one));
    }
    assert_false(errands_take_late(&errands, 0, &one)); // a clock is not asked twice in order
    assert_false(errands_take_late(&errands, 1000 + ERRAND_US, &one));
    assert_true(errands_take_late(&errands, 1001 + ERRAND_US, &one));
    assert_int_equal(one.tag, 1);
    assert_false(errands_take_late(&errands, 1001 + ERRAND_US, &one));
    assert_false(errands_take(&errands, 1, &one));
    assert_true(errands_take(&errands, 2, &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_each_has_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
