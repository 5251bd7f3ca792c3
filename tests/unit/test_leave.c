// worker/leave.h: when a worker may go, and what it says is lost.
#include "worker/leave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECOND = 1000000 };

static void test_goes_when_nothing_is_left(void **state)
{
    struct leave leave = {0};

    (void)state;
    leave_begin(&leave, SECOND, 10 * SECOND);
    assert_int_equal(leave_look(&leave, SECOND, 2, 0, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 2 * SECOND, 0, 3, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 3 * SECOND, 0, 0, 0), LEAVE_GO);
    leave_fini(&leave);
}

static void test_is_late(void **state)
{
    struct leave leave = {0};

    (void)state;
    leave_begin(&leave, SECOND, 10 * SECOND);
    assert_int_equal(leave_look(&leave, SECOND, 0, 3, 0), LEAVE_STAY);
    // A second begin changes nothing.
    leave_begin(&leave, 9 * SECOND, 10 * SECOND);
    assert_int_equal(leave_look(&leave, 11 * SECOND, 0, 3, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 11 * SECOND + 1, 0, 3, 0), LEAVE_LATE);
    leave_fini(&leave);
}

// What goes over begins the time anew; what a task made since does not.
static void test_progress_is_waited_for(void **state)
{
    struct leave leave = {0};

    (void)state;
    leave_begin(&leave, 0, 10 * SECOND);
    assert_int_equal(leave_look(&leave, 0, 1, 3, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 5 * SECOND, 1, 4, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 9 * SECOND, 1, 3, 0), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 19 * SECOND, 1, 3, 0), LEAVE_STAY);
    // A large one is on its way.
    assert_int_equal(leave_look(&leave, 19 * SECOND, 1, 3, 5), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 29 * SECOND, 1, 3, 5), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 29 * SECOND + 1, 1, 3, 5), LEAVE_LATE);
    // Nothing is left that could be: a task runs for too long.
    assert_int_equal(leave_look(&leave, 30 * SECOND, 1, 0, 5), LEAVE_STAY);
    assert_int_equal(leave_look(&leave, 40 * SECOND + 1, 1, 0, 9), LEAVE_LATE);
    leave_fini(&leave);
}

static void test_drops_come_later(void **state)
{
    const struct agent_range range = {1, 2, 3, 4};
    struct agent_range out;
    struct leave leave = {0};

    (void)state;
    assert_false(leave_later(&leave, 0, &range));
    leave_begin(&leave, 0, SECOND);
    for (uint32_t n = 0; n < 1000; n++) {
        const struct agent_range one = {1, 2, n, 1};

        assert_true(leave_later(&leave, n, &one));
        assert_int_equal(leave_look(&leave, n, 0, 0, 0), LEAVE_STAY);
        // In order, each when its time has come.
        assert_int_equal(leave_due(&leave, n + LEAVE_LINGER_US - 100, &out), n >= 100);
        if (n >= 100) {
            assert_int_equal(out.first, n - 100);
        }
    }
    for (uint32_t n = 900; n < 1000; n++) {
        assert_true(leave_due(&leave, SECOND, &out));
        assert_int_equal(out.first, n);
    }
    assert_false(leave_due(&leave, SECOND, &out));
    assert_int_equal(leave_look(&leave, SECOND, 0, 0, 0), LEAVE_GO);
    leave_fini(&leave);
}

static void test_a_forgotten_layer_is_dropped(void **state)
{
    struct agent_range out;
    struct leave leave = {0};

    (void)state;
    leave_begin(&leave, 0, SECOND);
    for (uint32_t n = 0; n < 6; n++) {
        assert_true(leave_later(&leave, n, &(struct agent_range){1, n % 2, n, 1}));
    }
    for (uint32_t n = 1; n < 6; n += 2) {
        assert_true(leave_take(&leave, 1, 1, &out));
        assert_int_equal(out.first, n);
    }
    assert_false(leave_take(&leave, 1, 1, &out));
    assert_false(leave_take(&leave, 2, 0, &out));
    for (uint32_t n = 0; n < 6; n += 2) {
        assert_true(leave_due(&leave, SECOND, &out));
        assert_int_equal(out.first, n);
    }
    assert_false(leave_due(&leave, SECOND, &out));
    leave_fini(&leave);
}

static void test_words(void **state)
{
    struct leave_loss loss = {0};
    char text[200];

    (void)state;
    leave_count(&loss, &(struct agent_range){7, 0, 0, 1}, 12);
    leave_describe(&loss, text, sizeof(text));
    assert_string_equal(text, "1 partition (12 bytes) of job 7");
    leave_count(&loss, &(struct agent_range){4, 1, 0, 10}, 3400000);
    leave_count(&loss, &(struct agent_range){7, 1, 0, 1}, 0);
    leave_describe(&loss, text, sizeof(text));
    assert_string_equal(text, "12 partitions (3.4 MB) of jobs 4, 7");
    for (uint32_t job = 20; job > 0; job--) {
        leave_count(&loss, &(struct agent_range){job, 1, 0, 1}, 0);
    }
    leave_describe(&loss, text, sizeof(text));
    assert_string_equal(text, "32 partitions (3.4 MB) of jobs 4, 7, 19, 20 and others");
    // Cut, not written beyond its end.
    leave_describe(&loss, text, 20);
    assert_string_equal(text, "32 partitions (3.4 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_when_nothing_is_left), cmocka_unit_test(test_is_late),
        cmocka_unit_test(test_progress_is_waited_for),    cmocka_unit_test(test_drops_come_later),
        cmocka_unit_test(test_a_forgotten_layer_is_dropped), cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
