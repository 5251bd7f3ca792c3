// What a journal is told.
#include "broker/core/records.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

static void begin(struct play *play)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = 100;
    options.records = true;
    play_begin_with(play, &options);
}

// A job that reads the four results of job 1.
static void build_reader(struct build *build)
{
    build_init(build);
    build_wanted(build, build_layer(build, 4));
    build_input(build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build->layer[0]->input[0]->has_job = build->layer[0]->input[0]->has_job_tasks = true;
    build->layer[0]->input[0]->job = 1;
    build->layer[0]->input[0]->job_tasks = 4;
}

static void test_results_that_are_over(void **state)
{
    struct task_range some = {1, 0, 2, 3};
    struct task_range range = {1, 0, 0, 1};
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 8);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 4);
    of_job(&play, EVENT_FREE, CLIENT, &some); // one of them is not done yet, and will not be
    assert_true(said(&play, "record: j1:t0.2-4 is over"));
    done(&play, 1, 1, 0, 5, 3);
    assert_true(said(&play, "record: j1 is done"));
    of_job(&play, EVENT_FREE, CLIENT, &range);
    assert_true(said(&play, "record: j1:t0.0 is over"));
    of_job(&play, EVENT_FREE, CLIENT, NULL);
    assert_true(said(&play, "record: j1 is forgotten"));
    build_fini(&build);
    play_end(&play);
}

static void test_what_is_not_wanted_is_not_told(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__FAN_IN, 2);
    build_wanted(&build, 1);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 4);
    assert_null(find(&play, ACTION_RECORD, 0));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "w1: release j1:t0.0-1"));
    assert_null(find(&play, ACTION_RECORD, 0));
    done(&play, 1, 1, 1, 1, 1);
    assert_true(said(&play, "record: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

static void test_job_for_its_effect(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 4);
    assert_null(find(&play, ACTION_RECORD, 0));
    done(&play, 1, 1, 1, 1, 2);
    assert_true(said(&play, "record: j1:t1.1-2 is over"));
    build_fini(&build);
    play_end(&play);
}

static void test_failures(void **state)
{
    struct task_range some = {1, 0, 4, 2};
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 8));
    build_input(&build, build_layer(&build, 8), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    join(&play, 1, 1, true);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.failures_max = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    task_fails(&play, 1, 0, 1);
    assert_true(said(&play, "record: j1:t0.1 has failed: no such column"));
    assert_false(said(&play, "record: j1:t1.1 has failed: no such column")); // follows from that
    assert_string_equal(find(&play, ACTION_RECORD, 0)->worker_name, "one");
    of_job(&play, EVENT_CANCEL, CLIENT, &some);
    assert_true(said(&play, "record: j1:t0.4-5 has failed: cancelled"));
    task_fails(&play, 1, 0, 2);
    assert_true(said(&play,
                     "record: j1 is failed: 2 tasks have failed, of which 1 may; the last of them: no such "
                     "column (t0.2 at one)"));
    build_fini(&build);
    play_end(&play);
}

static void test_numbers_of_refused_submits(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 2);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.number = 7;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: accepted as j7"));
    // The same again, with the number that it was given: it is that job.
    event.u.submit.number = 8;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: accepted as j7"));
    assert_true(said(&play, "record: j8 is forgotten"));
    // Reads a job that is not there.
    struct build other;

    build_init(&other);
    build_layer(&other, 2);
    build_input(&other, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    other.layer[0]->input[0]->has_job = other.layer[0]->input[0]->has_job_tasks = true;
    other.layer[0]->input[0]->job_tasks = 2;
    other.layer[0]->input[0]->job = 3;
    event.u.submit.number = 9;
    event.u.submit.key_lo = 2;
    event.u.submit.graph = build_graph(&other);
    assert_int_equal(step(&play, &event), 0);
    assert_non_null(find(&play, ACTION_REJECTED, CLIENT));
    assert_true(said(&play, "record: j9 is forgotten"));
    // None of them is given again, nor one before.
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 3;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: accepted as j10"));
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// Another one reads it, so its tasks are given up one by one.
static void test_end_of_a_job_that_others_read(void **state)
{
    struct play play;
    struct build build, other;

    (void)state;
    begin(&play);
    flat(&build, 4);
    build_wanted(&build, build_layer(&build, 2));
    submit(&play, &build);
    build_reader(&other);
    submit_as(&play, &other, 2, CLIENT);
    join(&play, 1, 1, true);
    done(&play, 1, 1, 0, 0, 4);
    of_job(&play, EVENT_CANCEL, CLIENT, NULL);
    assert_true(said(&play, "record: j1 is cancelled: a client asked for it"));
    for (size_t k = 0; k < play.actions.count; k++) {
        assert_true(play.actions.action[k].type != ACTION_RECORD ||
                    play.actions.action[k].record != RECORD_TASKS_OVER);
    }
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// It is given up while it grows and another one reads it: so it has come to its end, which is none to
// remember.
static void test_growing_job_that_is_given_up(void **state)
{
    struct play play;
    struct build build, other;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.open = true;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    join(&play, 1, 1, true);
    done(&play, 1, 1, 0, 0, 4);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    build_reader(&other);
    submit_as(&play, &other, 2, CLIENT + 1);
    leave_in_peace(&play, CLIENT);
    assert_true(said(&play, "record: j1 is there for others only"));
    assert_false(said(&play, "record: j1 is done"));
    done(&play, 1, 2, 0, 0, 4);
    assert_true(said(&play, "record: j2 is done"));
    leave_in_peace(&play, CLIENT + 1);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

static void test_nothing_without_the_option(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 1);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 1);
    assert_null(find(&play, ACTION_RECORD, 0));
    of_job(&play, EVENT_FREE, CLIENT, NULL);
    assert_null(find(&play, ACTION_RECORD, 0));
    build_fini(&build);
    play_end(&play);
}

static void restored_submit(struct play *play, struct build *build, uint32_t number, uint64_t key)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.number = number;
    event.u.submit.key_lo = key;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static bool is_there(const struct play *play, uint32_t job)
{
    struct sched_job info;

    return sched_job_info(play->sched, job, &info) == 0;
}

// Two jobs of one key were written down.  It was sent twice, and that the second was refused is lost: there
// is one job.  Or the first had been given up, as others know when all is read: then the second is the one.
static void test_a_key_that_was_used_again(void **state)
{
    (void)state;
    for (int given_up = 0; given_up < 2; given_up++) {
        struct sched_event event;
        struct play play;
        struct build build, other;
        struct sched_options options;

        sched_options_default(&options);
        options.records = true;
        options.orphan_us = options.recover_us = 1000000;
        play_begin_with(&play, &options);
        flat(&build, 4);
        restored_submit(&play, &build, 1, 1);
        build_reader(&other);
        restored_submit(&play, &other, 2, 2);
        restored_submit(&play, &build, 3, 1);
        assert_null(find(&play, ACTION_RECORD, 0));
        if (given_up) {
            event = event_of(&play, EVENT_RESTORE_JOB);
            event.u.restore.range.job = 1;
            event.u.restore.state = JOB_RUNNING;
            event.u.restore.given_up = true;
            event.u.restore.layer_at = event.u.restore.index_at = UINT32_MAX;
            assert_int_equal(step(&play, &event), 0);
        }
        later(&play, 1);
        assert_int_equal(said(&play, "record: j3 is forgotten"), !given_up);
        assert_int_equal(is_there(&play, 1), !given_up); // to clients: the second one reads it
        assert_int_equal(is_there(&play, 3), given_up);
        event = event_of(&play, EVENT_SUBMIT);
        event.u.submit.client = CLIENT;
        event.u.submit.key_lo = 1;
        event.u.submit.graph = build_graph(&build);
        assert_int_equal(step(&play, &event), 0);
        assert_true(said(&play, given_up ? "c1000: accepted as j3" : "c1000: accepted as j1"));
        later(&play, UINT64_C(1) << 40); // nobody comes back to the rest
        build_fini(&other);
        build_fini(&build);
        play_end(&play);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_that_are_over),
        cmocka_unit_test(test_what_is_not_wanted_is_not_told),
        cmocka_unit_test(test_job_for_its_effect),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_end_of_a_job_that_others_read),
        cmocka_unit_test(test_growing_job_that_is_given_up),
        cmocka_unit_test(test_numbers_of_refused_submits),
        cmocka_unit_test(test_nothing_without_the_option),
        cmocka_unit_test(test_a_key_that_was_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
