// Tasks in few bytes.
#include "broker/span.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/random.h"

static void test_those_that_touch_become_one(void **state)
{
    struct task_range span[] = {{2, 0, 0, 1}, {1, 1, 5, 5}, {1, 1, 0, 5}, {1, 1, 12, 1},
                                {1, 0, 9, 1}, {1, 1, 3, 4}, {1, 1, 8, 0}};

    (void)state;
    assert_int_equal(spans_join(span, 7), 4);
    assert_memory_equal(&span[0], (&(struct task_range){1, 0, 9, 1}), sizeof(*span));
    assert_memory_equal(&span[1], (&(struct task_range){1, 1, 0, 10}), sizeof(*span));
    assert_memory_equal(&span[2], (&(struct task_range){1, 1, 12, 1}), sizeof(*span));
    assert_memory_equal(&span[3], (&(struct task_range){2, 0, 0, 1}), sizeof(*span));
    span[0] = (struct task_range){1, 0, 0, UINT32_MAX};
    span[1] = (struct task_range){1, 0, 5, UINT32_MAX - 5};
    assert_int_equal(spans_join(span, 2), 1);
    assert_int_equal(span[0].count, UINT32_MAX);
}

static void check_round_trip(struct task_range *span, size_t count)
{
    uint8_t *bytes = malloc(spans_bytes_max(count) + 1);
    struct spans out = {0};
    size_t size;

    assert_non_null(bytes);
    count = spans_join(span, count);
    size = spans_encode(span, count, bytes);
    assert_true(size <= spans_bytes_max(count));
    assert_int_equal(spans_decode(&out, 7, bytes, size), 0);
    assert_int_equal(out.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(&out.span[i], &span[i], sizeof(*span));
    }
    spans_fini(&out);
    free(bytes);
}

static void test_round_trip(void **state)
{
    struct random random = {11};
    struct task_range span[300];

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint32_t count = random_below(&random, 300);

        for (size_t i = 0; i < count; i++) {
            uint32_t most = 1U << random_below(&random, 31);

            span[i].job = 7;
            span[i].layer = random_below(&random, 1U << random_below(&random, 20));
            span[i].first = random_below(&random, most);
            span[i].count = 1 + random_below(&random, most);
        }
        check_round_trip(span, count);
    }
}

// As they are over when their order is random: never more than about an eighth of a byte for each that there
// is.
static void test_random_orders(void **state)
{
    enum { TASKS = 100000 };
    struct random random = {13};
    static struct task_range span[TASKS];
    static uint8_t bytes[TASKS * 20];

    (void)state;
    for (uint32_t percent = 1; percent < 100; percent += 7) {
        const uint32_t froms[] = {0, UINT32_MAX - TASKS};
        uint32_t from = froms[percent % 2];
        size_t count = 0;

        for (uint32_t i = 0; i < TASKS; i++) {
            if (random_percent(&random, percent)) {
                span[count++] = (struct task_range){7, 3, from + i, 1};
            }
        }
        check_round_trip(span, count);
        count = spans_join(span, count);
        assert_true(spans_encode(span, count, bytes) < TASKS / 8 + TASKS / 100);
    }
    // One long one among short ones is no reason for bits.
    for (uint32_t i = 0; i < 300; i++) {
        span[i] = (struct task_range){7, 0, i == 299 ? UINT32_MAX - 10 : 2 * i, 1};
    }
    check_round_trip(span, 300);
}

static void test_what_is_no_list_is_refused(void **state)
{
    static const uint8_t TOO_MANY[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0};
    static const uint8_t CUT[] = {1, 0, 5};
    static const uint8_t NONE[] = {1, 0, 5, 0};
    static const uint8_t TOO_FAR[] = {1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1};
    static const uint8_t BITS_CUT[] = {0, 1, 5, 3, 1, 1};
    static const uint8_t BITS_TOO_FAR[] = {0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1};
    static const uint8_t LONG[] = {1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    struct spans out = {0};
    struct random random = {12};

    (void)state;
    assert_int_equal(spans_decode(&out, 1, TOO_MANY, sizeof(TOO_MANY)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, CUT, sizeof(CUT)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, NONE, sizeof(NONE)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, TOO_FAR, sizeof(TOO_FAR)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, LONG, sizeof(LONG)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, BITS_CUT, sizeof(BITS_CUT)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, BITS_TOO_FAR, sizeof(BITS_TOO_FAR)), -EBADMSG);
    assert_int_equal(spans_decode(&out, 1, NULL, 0), 0);
    for (int round = 0; round < 2000; round++) {
        uint8_t bytes[40];

        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)random_below(&random, random_percent(&random, 50) ? 256 : 4);
        }
        spans_decode(&out, 1, bytes, sizeof(bytes)); // refused or not, it is memory of ours
    }
    spans_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_those_that_touch_become_one),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random_orders),
        cmocka_unit_test(test_what_is_no_list_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
