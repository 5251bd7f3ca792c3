// What a turn of the broker's loop gathers, and what it says that this takes.
#include "broker/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct buffer *payload(size_t size)
{
    uint8_t *data;
    struct buffer *buffer = buffer_create(size, &data);

    assert_non_null(buffer);
    return buffer;
}

static void test_payloads_count(void **state)
{
    struct turn turn;
    struct buffer *last = payload(5000);

    (void)state;
    turn_init(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(turn_keep(&turn, 1, 2, i, payload(1000)), 0);
    }
    assert_int_equal(turn_bytes(&turn), 100 * 1000);
    // The last word on a task replaces what was said before.
    assert_int_equal(turn_keep(&turn, 1, 2, 50, buffer_ref(last)), 0);
    assert_int_equal(turn_bytes(&turn), 99 * 1000 + 5000);
    assert_ptr_equal(turn_payload(&turn, 1, 2, 50), last);
    assert_null(turn_payload(&turn, 1, 2, 100));
    turn_reset(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    assert_null(turn_payload(&turn, 1, 2, 50));
    turn_fini(&turn);
    buffer_unref(last);
}

static void test_events_count(void **state)
{
    struct turn turn;

    (void)state;
    turn_init(&turn);
    for (int i = 0; i < 1000; i++) {
        struct sched_event *event = turn_add(&turn, EVENT_TICK);

        assert_non_null(event);
        assert_true(event->now_us > 0);
    }
    assert_true(turn_bytes(&turn) >= 1000 * sizeof(struct sched_event));
    turn_reset(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    turn_fini(&turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_payloads_count),
        cmocka_unit_test(test_events_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
