// Workers that were asked to leave: which of them the broker asks again.
#include "broker/leaver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/state.h"

static void test_until_it_is_known_to_go(void **state)
{
    struct leavers leavers = {0};

    (void)state;
    assert_false(leavers_has(&leavers, 7));
    leavers_remove(&leavers, 7);
    assert_int_equal(leavers_add(&leavers, 7), 0);
    assert_int_equal(leavers_add(&leavers, 8), 0);
    assert_int_equal(leavers_add(&leavers, 7), 0); // asked twice
    assert_int_equal(leavers.count, 2);
    leavers_remove(&leavers, 7);
    assert_false(leavers_has(&leavers, 7));
    assert_true(leavers_has(&leavers, 8));
    leavers_fini(&leavers);
    assert_false(leavers_has(&leavers, 8));
}

// Those that never came back make room, and nobody else does.
static void test_only_the_oldest_are_forgotten(void **state)
{
    struct leavers leavers = {0};

    (void)state;
    for (uint64_t k = 1; k <= LEAVERS_MAX + 3; k++) {
        assert_int_equal(leavers_add(&leavers, k), 0);
    }
    assert_int_equal(leavers.count, LEAVERS_MAX);
    assert_false(leavers_has(&leavers, 3));
    assert_true(leavers_has(&leavers, 4));
    assert_true(leavers_has(&leavers, LEAVERS_MAX + 3));
    leavers_fini(&leavers);
}

// A connection that is lost leaves the process where it was; a goodbye does not, nor does LEAVING.
static void test_what_ends_it(void **state)
{
    static const struct {
        enum session_end end;
        bool remembered;
    } ends[] = {{SESSION_LOST, true}, {SESSION_ANEW, true}, {SESSION_BYE, false}};

    (void)state;
    for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
        struct broker broker = {0};
        struct peer peer = {.role = FROM_WORKER, .number = 7, .incarnation = 77};

        turn_init(&broker.turn[0]);
        broker.into = &broker.turn[0];
        assert_int_equal(leavers_add(&broker.leavers, 77), 0);
        dispatch_left(&broker, &peer, ends[k].end, "a test");
        assert_int_equal(broker.turn[0].events, 1);
        assert_int_equal(leavers_has(&broker.leavers, 77), ends[k].remembered);
        assert_int_equal(leavers_add(&broker.leavers, 77), 0);
        assert_int_equal(dispatch_leaving(&broker, &peer, NULL, NULL, NULL), 0);
        assert_true(peer.leaving);
        assert_false(leavers_has(&broker.leavers, 77));
        turn_fini(&broker.turn[0]);
        leavers_fini(&broker.leavers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_until_it_is_known_to_go),
        cmocka_unit_test(test_only_the_oldest_are_forgotten),
        cmocka_unit_test(test_what_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
