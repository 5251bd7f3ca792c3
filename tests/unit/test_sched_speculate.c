// broker/core/speculate.h: stragglers are run a second time, and one of the two counts.
#include "broker/core/speculate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

enum { TASKS = 6, USUAL_US = 10000 };

static void done_in(struct play *play, uint32_t worker, uint32_t index, uint64_t busy_us)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    const struct task_range range = {1, 0, index, 1};
    const uint64_t bytes = 8;

    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = &bytes;
    event.u.done.busy_us = busy_us;
    assert_int_equal(step(play, &event), 0);
}

// All are done but the first, which worker 1 has; worker 2 has nothing to do.
static void begin_as(struct play *play, struct build *build, bool may, uint32_t threads,
                     const struct sched_options *options)
{
    play_begin_with(play, options);
    build_init(build);
    build_wanted(build, build_layer(build, TASKS));
    build->layer[0]->has_speculate = build->layer[0]->speculate = may;
    submit(play, build);
    join(play, 1, 1, true);
    assert_true(said(play, "w1: run j1:t0.0"));
    join(play, 2, threads, true);
    for (uint32_t i = 1; i < TASKS; i++) {
        assert_true(threads > 1 || find(play, ACTION_RUN, 2) != NULL);
        done_in(play, 2, i, USUAL_US);
    }
    assert_null(find(play, ACTION_RUN, 2));
}

static void begin(struct play *play, struct build *build, bool may)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = 0;
    begin_as(play, build, may, 1, &options);
}

static void end(struct play *play, struct build *build)
{
    build_fini(build);
    play_end(play);
}

// Looks are some way apart: it is first seen with one of them.
static bool wait_for_second_run(struct play *play)
{
    for (int n = 0; n < 20; n++) {
        later(play, 100000);
        if (said(play, "w2: run j1:t0.0")) {
            assert_true(n >= 4); // not before its time
            return true;
        }
    }
    return false;
}

static void test_second_run_wins(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    assert_int_equal(counts(&play).second_runs, 1);
    later(&play, 1000000);
    assert_int_equal(counts(&play).second_runs, 1); // once
    done_in(&play, 2, 0, USUAL_US);
    assert_true(said(&play, "w1: stop j1:t0.0"));
    assert_true(said(&play, "c1000: j1 is done"));
    // The other one was done as well before it heard of that.
    done_in(&play, 1, 0, 900000);
    assert_true(said(&play, "w1: release j1:t0.0"));
    end(&play, &build);
}

static void test_first_run_wins(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    done_in(&play, 1, 0, 900000);
    assert_true(said(&play, "w2: stop j1:t0.0"));
    assert_true(said(&play, "c1000: j1 is done"));
    done_in(&play, 2, 0, USUAL_US);
    assert_true(said(&play, "w2: release j1:t0.0"));
    end(&play, &build);
}

static void test_not_unless_it_may(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, false);
    assert_false(wait_for_second_run(&play));
    end(&play, &build);
}

// Who has it as the second takes it over when the first is lost.
static void test_first_is_lost(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    leave(&play, 1);
    assert_null(find(&play, ACTION_RUN, 2));
    assert_null(find(&play, ACTION_DROP, 2));
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done_in(&play, 2, 0, USUAL_US);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_second_is_lost(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    leave(&play, 2); // and what it made has to be made again
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done_in(&play, 1, 0, USUAL_US);
    for (uint32_t i = 1; i < TASKS; i++) {
        assert_null(find(&play, ACTION_DROP, 1));
        done_in(&play, 1, i, USUAL_US);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// A second run fails, or is given back: nothing comes of it.
static void test_second_fails(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    task_fails(&play, 2, 0, 0);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done_in(&play, 1, 0, USUAL_US);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// Work of his own comes first.
// It has what it was given before its connection was cut, as it says when it has the task anew: that goes on,
// and is the one when the first is lost.
static void test_second_has_it_from_before(void **state)
{
    const struct task_range has = {1, 0, 0, 1};
    struct sched_event event;
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    event = event_of(&play, EVENT_HOLDING);
    event.u.holding.worker = 2;
    event.u.holding.hases = 1;
    event.u.holding.has = &has;
    assert_int_equal(step(&play, &event), 0);
    assert_null(find(&play, ACTION_DROP, 2));
    leave(&play, 1);
    assert_null(find(&play, ACTION_RUN, 2));
    done_in(&play, 2, 0, USUAL_US);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// Not again and again: one that fails at once would be started anew with every step.
static void test_second_fails_once_in_its_time(void **state)
{
    uint32_t runs = 0;
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    for (int n = 0; n < 100; n++) {
        task_fails(&play, 2, 0, 0);
        later(&play, 10000);
        runs += find(&play, ACTION_RUN, 2) != NULL;
    }
    assert_in_range(runs, 1, 3);
    end(&play, &build);
}

// A worker that is emptied for what may have killed another one does nothing beside it.
static void test_gives_way_to_a_suspect(void **state)
{
    struct sched_options options;
    struct play play;
    struct build build, other;
    bool stopped, begun;

    (void)state;
    sched_options_default(&options);
    options.queue_depth = 0;
    options.attempts_max = 2;
    begin_as(&play, &build, true, 2, &options);
    assert_true(wait_for_second_run(&play));
    join(&play, 3, 1, true);
    flat(&other, 1);
    submit_as(&play, &other, 2, CLIENT);
    assert_true(said(&play, "w2: run j2:t0.0"));
    submit_as(&play, &other, 3, CLIENT);
    assert_true(said(&play, "w3: run j3:t0.0"));
    done(&play, 2, 2, 0, 0, 1);
    done(&play, 3, 3, 0, 0, 1);
    submit_as(&play, &other, 4, CLIENT); // for who had something to do last
    assert_true(said(&play, "w3: run j4:t0.0"));
    leave(&play, 3);
    stopped = said(&play, "w2: stop j1:t0.0");
    begun = said(&play, "w2: run j4:t0.0");
    for (int n = 0; n < 20 && !begun; n++) {
        later(&play, 100000);
        stopped = stopped || said(&play, "w2: stop j1:t0.0");
        begun = said(&play, "w2: run j4:t0.0");
    }
    assert_true(begun);
    assert_true(stopped);
    build_fini(&other);
    end(&play, &build);
}

static void test_gives_way(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    submit_as(&play, &build, 2, CLIENT);
    later(&play, 1000);
    assert_true(said(&play, "w2: stop j1:t0.0") || counts(&play).second_runs == 1);
    done_in(&play, 1, 0, USUAL_US);
    end(&play, &build);
}

static void test_cancelled(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    const struct task_range range = {1, 0, 0, 1};

    (void)state;
    begin(&play, &build, true);
    assert_true(wait_for_second_run(&play));
    event = event_of(&play, EVENT_CANCEL);
    event.u.job.client = CLIENT;
    event.u.job.job = 1;
    event.u.job.ranges = 1;
    event.u.job.range = &range;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "w1: stop j1:t0.0"));
    later(&play, 1000);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    end(&play, &build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_run_wins),
        cmocka_unit_test(test_first_run_wins),
        cmocka_unit_test(test_not_unless_it_may),
        cmocka_unit_test(test_first_is_lost),
        cmocka_unit_test(test_second_is_lost),
        cmocka_unit_test(test_second_fails),
        cmocka_unit_test(test_second_has_it_from_before),
        cmocka_unit_test(test_second_fails_once_in_its_time),
        cmocka_unit_test(test_gives_way_to_a_suspect),
        cmocka_unit_test(test_gives_way),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
