// A scheduler that is made anew from what was recorded: its jobs, the workers that come back with what they
// hold, clients that come back too.
#include "broker/core/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/recovery_play.h"

static void test_nothing_is_placed_before_they_are_back(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {3, 0, 0, 4};

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    restore_submit(&play, &build, 3, false);
    attach(&play, 3);
    assert_string_equal(waiting(&play, 3), "worker ant and 1 more are expected back, for at most 1 s more");
    come_back(&play, 1, 99); // a new one: is not waited for
    say_all(&play, 1, NULL, 0, NULL, 0);
    come_back(&play, 2, 11);
    assert_null(find(&play, ACTION_RUN, 1));
    say_all(&play, 2, &held, 1, NULL, 0);
    assert_true(said(&play, "c1000: result j3:t0.0-3 at w2"));
    assert_null(find(&play, ACTION_RUN, 1));
    assert_string_equal(waiting(&play, 3), "worker bee is expected back, for at most 1 s more");
    come_back(&play, 3, 12);
    assert_null(find(&play, ACTION_RUN, 1));
    say_all(&play, 3, NULL, 0, NULL, 0);
    assert_int_equal(counts(&play).tasks_assigned, 2);
    assert_int_equal(counts(&play).recomputed, 0);
    free_job(&play, 3);
    build_fini(&build);
    play_end(&play);
}

static void test_waiting_has_an_end(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12);
    later(&play, RECOVER_US - 10);
    assert_null(find(&play, ACTION_RUN, 1));
    later(&play, 10);
    assert_non_null(find(&play, ACTION_RUN, 1));
    end(&play, &build);
}

static unsigned gone_workers(const struct play *play, uint64_t *last)
{
    unsigned count = 0;

    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        if (action->type == ACTION_RECORD && action->record == RECORD_WORKER_GONE) {
            *last = action->key_lo;
            count++;
        }
    }
    return count;
}

// Its process was started anew: the one before does not come back.
static void test_worker_of_the_same_name(void **state)
{
    struct play play;
    struct build build;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "one");
    expect(&play, 12, "one");
    expect(&play, 13, "two");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12); // one of them itself
    assert_string_equal(waiting(&play, 1), "worker one and 2 more are expected back, for at most 1 s more");
    say_all(&play, 1, NULL, 0, NULL, 0);
    assert_string_equal(waiting(&play, 1), "worker one and 1 more are expected back, for at most 1 s more");
    come_back(&play, 2, 20);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 11);
    assert_string_equal(waiting(&play, 1), "worker two is expected back, for at most 1 s more");
    come_back(&play, 3, 13);
    say_all(&play, 3, NULL, 0, NULL, 0);
    assert_int_equal(counts(&play).tasks_assigned, 6);
    end(&play, &build);
}

// Its process has ended, as the broker sees: no need to wait any longer.
static void test_who_has_ended_is_not_waited_for(void **state)
{
    struct sched_event event;
    struct play play;
    struct build build;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12);
    say_all(&play, 1, NULL, 0, NULL, 0);
    assert_null(find(&play, ACTION_RUN, 1));
    event = event_of(&play, EVENT_EXPECT);
    event.u.expect.gone = true;
    event.u.expect.incarnation = 13; // nobody that is waited for
    assert_int_equal(step(&play, &event), 0);
    event.u.expect.incarnation = 12; // it is here
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(gone_workers(&play, &gone), 0);
    assert_null(find(&play, ACTION_RUN, 1));
    event.u.expect.incarnation = 11;
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 11);
    assert_non_null(find(&play, ACTION_RUN, 1));
    end(&play, &build);
}

// Who does not come is not waited for again with each restart; who has come is, though he has not said all.
static void test_who_does_not_come_is_not_waited_for_again(void **state)
{
    struct play play;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    expect(&play, 13, "cicada");
    come_back(&play, 1, 11);
    say_all(&play, 1, NULL, 0, NULL, 0);
    come_back(&play, 2, 13);
    later(&play, RECOVER_US - 20);
    assert_int_equal(gone_workers(&play, &gone), 0);
    later(&play, 20);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 12);
    play_end(&play);
}

static void test_tasks_that_a_worker_still_has(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 1};
    struct task_range has[] = {{1, 0, 1, 2}, {1, 1, 1, 1}, {1, 0, 0, 1}, {2, 0, 0, 4}};

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    attach(&play, 1);
    come_back(&play, 1, 10);
    say_all(&play, 1, &held, 1, NULL, 0);
    come_back(&play, 2, 11);
    say_all(&play, 2, NULL, 0, has, 4);
    assert_true(said(&play, "w2: stop j1:t0.0")); // the other one has made it
    assert_true(said(&play, "w2: forget j2"));    // which is not there any more
    assert_null(find(&play, ACTION_RUN, 2));      // it has enough to do
    assert_true(said(&play, "w1: run j1:t0.3") || said(&play, "w1: run j1:t1.0"));
    assert_true(counts(&play).tasks_assigned >= 4);
    done(&play, 2, 1, 0, 1, 2);
    done(&play, 2, 1, 1, 1, 1);
    assert_true(said(&play, "c1000: result j1:t1.1 at w2"));
    end(&play, &build);
}

// What it was to get from another one does not come, as that one is gone.
static void test_task_that_comes_to_nothing_is_given_back(void **state)
{
    struct play play;
    struct build build;
    struct task_range has = {1, 1, 0, 1};
    struct sched_event event;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 1);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    attach(&play, 1);
    come_back(&play, 1, 11);
    say_all(&play, 1, NULL, 0, &has, 1);
    assert_true(said(&play, "w1: run j1:t0.0"));
    event = event_of(&play, EVENT_TASKS_DROPPED);
    event.u.dropped.worker = 1;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &has;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_what_was_over_is_not_run_again(void **state)
{
    struct play play;
    struct build build;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    restore_submit(&play, &build, 1, false);
    restore_tasks(&play, RESTORE_OVER, (struct task_range){1, 1, 0, 3});
    assert_null(find(&play, ACTION_RECORD, 0));
    attach(&play, 1);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.done, 6); // with what they had read
    join(&play, 1, 1, true);
    assert_true(said(&play, "w1: run j1:t0.3"));
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done(&play, 1, 1, 0, 3, 1);
    done(&play, 1, 1, 1, 3, 1);
    assert_true(said(&play, "c1000: result j1:t1.3 at w1"));
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// What is held was made of what had been made then: that was done, and counts once when it is needed again.
static void test_what_was_read_had_been_done(void **state)
{
    const struct task_range held[] = {{1, 1, 0, 4}, {1, 2, 0, 1}};
    struct sched_layer layer;
    struct sched_job info;
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    build_wanted(&build, 2);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, true);
    restore_job(&play, 1, JOB_DONE, false);
    attach(&play, 1);
    come_back(&play, 1, 11);
    say_all(&play, 1, held, 2, NULL, 0);
    assert_int_equal(sched_layer_info(play.sched, 1, 0, &layer), 0);
    assert_int_equal(layer.in[TASK_IDLE], 0);
    assert_int_equal(layer.in[TASK_RELEASED], 4);
    assert_int_equal(counts(&play).recomputed, 0);
    leave(&play, 1);
    join(&play, 2, 4, true);
    assert_int_equal(counts(&play).tasks_assigned, 4);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.tasks, 9);
    done(&play, 2, 1, 0, 0, 4);
    assert_int_equal(counts(&play).recomputed, 4);
    end(&play, &build);
}

static void test_what_had_failed_stays_failed(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.failures_max = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    restore_tasks(&play, RESTORE_FAILED, (struct task_range){1, 0, 1, 1});
    assert_null(find(&play, ACTION_RECORD, 0));
    attach(&play, 1);
    assert_true(
        said(&play, "c1000: no result j1:t1.1: not run, because task 1 of layer 0 failed: no such column"));
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.failures, 1);
    assert_string_equal(info.failure[0].worker_name, "ant");
    // One more than may: its end had not been recorded.
    restore_tasks(&play, RESTORE_FAILED, (struct task_range){1, 0, 2, 1});
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_non_null(find(&play, ACTION_RECORD, 0));
    end(&play, &build);
}

static void test_orphans_have_as_long_as_workers(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_restored(&play, &build, 4, false);
    later(&play, RECOVER_US - 1);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 1);
    assert_int_equal(counts(&play).jobs, 0);
    assert_true(said(&play, "record: j1 is forgotten"));
    build_fini(&build);
    play_end(&play);
}

static void extend(struct play *play, uint32_t client, const Dray__Graph *graph, uint32_t first, bool last)
{
    struct sched_event event = event_of(play, EVENT_EXTEND);

    event.u.extend.client = client;
    event.u.extend.job = 1;
    event.u.extend.first_layer = first;
    event.u.extend.graph = graph;
    event.u.extend.last = last;
    assert_int_equal(step(play, &event), 0);
}

static Dray__Graph slice(struct build *build, uint32_t first, uint32_t count)
{
    Dray__Graph graph = DRAY__GRAPH__INIT;

    graph.n_layer = count;
    graph.layer = build->layer + first;
    return graph;
}

// A client does not know which of its layers have come.
static void test_layers_that_are_sent_again(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    Dray__Graph first, more, all;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    for (uint32_t l = 0; l < 4; l++) {
        build_wanted(&build, build_layer(&build, 1));
    }
    first = slice(&build, 0, 1);
    more = slice(&build, 1, 1);
    all = slice(&build, 1, 3);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = &first;
    assert_int_equal(step(&play, &event), 0);
    extend(&play, 0, &more, 1, false);
    attach(&play, 1);
    extend(&play, CLIENT, &more, 1, false); // was there
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.layers, 2);
    extend(&play, CLIENT, &all, 1, true); // one of three was
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.layers, 4);
    extend(&play, CLIENT, &all, 1, true); // has got its last one
    assert_null(find(&play, ACTION_REJECTED, CLIENT));
    assert_null(find(&play, ACTION_REJECTED, CLIENT));
    join(&play, 1, 4, true);
    for (uint32_t l = 0; l < 4; l++) {
        done(&play, 1, 1, l, 0, 1);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_layers_of_another_client(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    Dray__Graph first, more, other;

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 1));
    build_wanted(&build, build_layer(&build, 1));
    build_wanted(&build, build_layer(&build, 2));
    first = slice(&build, 0, 1);
    more = slice(&build, 1, 1);
    other = slice(&build, 2, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = &first;
    assert_int_equal(step(&play, &event), 0);
    attach(&play, 1);
    extend(&play, CLIENT, &more, 1, false);
    extend(&play, CLIENT, &other, 1, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "another client"));
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    end(&play, &build);
}

static void test_owner_that_leaves_hands_over(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 4};
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 4, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 4);
    join(&play, 2, 4, true);
    holds(&play, 2, false, &held, 1, NULL, 0);
    assert_true(said(&play, "w2: release j1:t0.0-3")); // the first one keeps them
    event = event_of(&play, EVENT_WORKER_LEAVING);
    event.u.left.worker = 1;
    assert_int_equal(step(&play, &event), 0);
    holds(&play, 2, false, &held, 1, NULL, 0);
    assert_true(said(&play, "c1000: result j1:t0.0-3 at w2"));
    leave(&play, 1);
    assert_int_equal(counts(&play).partitions, 4);
    assert_int_equal(sched_worker_partitions(play.sched, 2), 4);
    end(&play, &build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_placed_before_they_are_back),
        cmocka_unit_test(test_waiting_has_an_end),
        cmocka_unit_test(test_worker_of_the_same_name),
        cmocka_unit_test(test_who_has_ended_is_not_waited_for),
        cmocka_unit_test(test_who_does_not_come_is_not_waited_for_again),
        cmocka_unit_test(test_tasks_that_a_worker_still_has),
        cmocka_unit_test(test_task_that_comes_to_nothing_is_given_back),
        cmocka_unit_test(test_what_was_over_is_not_run_again),
        cmocka_unit_test(test_what_was_read_had_been_done),
        cmocka_unit_test(test_what_had_failed_stays_failed),
        cmocka_unit_test(test_orphans_have_as_long_as_workers),
        cmocka_unit_test(test_layers_that_are_sent_again),
        cmocka_unit_test(test_layers_of_another_client),
        cmocka_unit_test(test_owner_that_leaves_hands_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
