// What a turn of the broker's loop gathers, and what it says that this takes.
#include "broker/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/payload.h"

static void test_payloads_count(void **state)
{
    static const uint32_t BYTES[] = {600, 400};
    static const uint8_t DATA[1000];
    struct turn turn;
    struct buffer *frame = NULL;

    (void)state;
    turn_init(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(payload_encode(DATA, sizeof(DATA), PAYLOAD_RAW, &frame, NULL), 0);
        assert_int_equal(parcels_add(&turn.parcels, 1, frame, 2, BYTES, NULL), 0);
    }
    assert_int_equal(turn_bytes(&turn), 100 * (1000 + PAYLOAD_HEADER));
    turn_reset(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    turn_fini(&turn);
}

static void test_events_count(void **state)
{
    struct turn turn;
    uint64_t now_us = 0;

    (void)state;
    turn_init(&turn);
    for (int i = 0; i < 1000; i++) {
        struct sched_event *event = turn_add(&turn, EVENT_TICK);

        assert_non_null(event);
        assert_true(event->now_us > 0);
        // A batch that arrived together has one time.
        assert_true(now_us == 0 || event->now_us == now_us);
        now_us = event->now_us;
    }
    assert_true(turn_bytes(&turn) >= 1000 * sizeof(struct sched_event));
    turn_reset(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    turn_fini(&turn);
}

static void test_arenas_count_and_go_with_the_turn(void **state)
{
    struct arena *one, *two, taken;
    struct turn turn;
    size_t before;

    (void)state;
    turn_init(&turn);
    one = turn_arena(&turn);
    two = turn_arena(&turn);
    assert_true(one != NULL && two != NULL && one != two);
    before = turn_bytes(&turn);
    assert_non_null(arena_alloc(one, 1 << 20));
    assert_non_null(arena_alloc(two, 1 << 20));
    assert_int_equal(turn_bytes(&turn), before + (2 << 20));
    arena_init(&taken, 0);
    arena_adopt(&taken, one);
    assert_int_equal(turn_bytes(&turn), before + (1 << 20));
    turn_reset(&turn);
    assert_int_equal(turn_bytes(&turn), 0);
    arena_fini(&taken);
    turn_fini(&turn);
}

static void test_answers_keep_their_order(void **state)
{
    Dray__Attached attached[3];
    struct turn turn;

    (void)state;
    turn_init(&turn);
    for (int round = 0; round < 2; round++) {
        uint32_t n = 0;

        assert_null(turn.answers);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(turn_answer(&turn, 10 + i, 20 + i, &attached[i]), 0);
        }
        for (const struct answer *at = turn.answers; at != NULL; at = at->next, n++) {
            assert_int_equal(at->client, 10 + n);
            assert_int_equal(at->job, 20 + n);
            assert_ptr_equal(at->attached, &attached[n]);
        }
        assert_int_equal(n, 3);
        turn_reset(&turn);
    }
    turn_fini(&turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_payloads_count),
        cmocka_unit_test(test_events_count),
        cmocka_unit_test(test_arenas_count_and_go_with_the_turn),
        cmocka_unit_test(test_answers_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
