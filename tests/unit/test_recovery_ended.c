// Jobs that had ended, or were given up, when the scheduler was made anew from what was recorded.
#include "broker/core/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/recovery_play.h"

static void test_jobs_that_had_ended(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 2};
    struct sched_job info;

    (void)state;
    begin_restored(&play, &build, 4, true);
    restore_submit(&play, &build, 2, true);
    restore_job(&play, 1, JOB_DONE, false);
    restore_job(&play, 2, JOB_FAILED, false);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.submitted_us, 5);
    assert_int_equal(info.done, 4); // whatever of it is still there
    come_back(&play, 1, 11);
    say_all(&play, 1, &held, 1, NULL, 0);
    // What is missing of it is made when somebody asks.
    assert_int_equal(counts(&play).partitions, 2);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    attach(&play, 2);
    assert_true(said(&play, "c1000: j2 is failed: no such column (t0.3 at ant)"));
    attach(&play, 1);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "w1: run j1:t0.2-3"));
    assert_false(said(&play, "c1000: j1 is done"));
    done(&play, 1, 1, 0, 2, 2);
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    free_job(&play, 2);
    build_fini(&build);
    play_end(&play);
}

static void reading(struct build *build, uint32_t job)
{
    build_init(build);
    build_layer(build, 2);
    build_input(build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build->layer[0]->input[0]->has_job = build->layer[0]->input[0]->has_job_tasks = true;
    build->layer[0]->input[0]->job_tasks = 2;
    build->layer[0]->input[0]->job = job;
    build_wanted(build, 0);
}

// It had failed, but what it had made by then another job needs.
static void test_ended_job_is_there_for_others(void **state)
{
    struct play play;
    struct build build, other;
    struct task_range held = {1, 0, 0, 2};

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 2));
    build_wanted(&build, build_layer(&build, 5));
    reading(&other, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    restore_submit(&play, &other, 2, false);
    restore_job(&play, 1, JOB_FAILED, true);
    attach(&play, 2);
    come_back(&play, 1, 11);
    say_all(&play, 1, &held, 1, NULL, 0);
    assert_true(said(&play, "w1: run j2:t0.0-1"));
    done(&play, 1, 2, 0, 0, 2);
    assert_true(said(&play, "c1000: j2 is done"));
    free_job(&play, 2);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// Nor can it be made anew, when that is lost.
static void test_ended_job_that_others_need_fails_them(void **state)
{
    struct play play;
    struct build build, other;

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 2));
    reading(&other, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    restore_submit(&play, &other, 2, false);
    restore_job(&play, 1, JOB_FAILED, false);
    attach(&play, 2);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    later(&play, RECOVER_US);
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    free_job(&play, 2);
    later(&play, RECOVER_US);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// A job that had ended and read one that was forgotten after it.
static void test_ended_job_without_what_it_read(void **state)
{
    struct play play;
    struct build other;

    (void)state;
    begin(&play);
    reading(&other, 1);
    restore_submit(&play, &other, 2, true);
    restore_job(&play, 2, JOB_FAILED, false);
    attach(&play, 2);
    assert_true(said(&play, "c1000: j2 is failed: no such column (t0.3 at ant)"));
    free_job(&play, 2);
    build_fini(&other);
    play_end(&play);
}

static void test_job_that_was_detached(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin_restored(&play, &build, 4, false);
    event = event_of(&play, EVENT_ATTACH);
    event.u.attach.job = 1;
    event.u.attach.detach = true;
    assert_int_equal(step(&play, &event), 0);
    later(&play, 2 * RECOVER_US);
    assert_int_equal(counts(&play).jobs, 1);
    end(&play, &build);
}

// What it was done with is not there.
static void test_done_without_its_last_layers(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    event = event_of(&play, EVENT_RESTORE_JOB);
    event.u.restore.range.job = 1;
    event.u.restore.state = JOB_DONE;
    assert_int_equal(step(&play, &event), 0);
    attach(&play, 1);
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->code, EIO);
    end(&play, &build);
}

// Kept and given back before: its client was there then, and may come back.
static void test_names_that_were_given_back(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_restored(&play, &build, 4, false);
    for (int keep = 1; keep >= 0; keep--) {
        struct sched_event event = event_of(&play, EVENT_KEEP);

        event.u.attach.job = 1;
        event.u.attach.keep = keep == 1;
        assert_int_equal(step(&play, &event), 0);
    }
    assert_int_equal(counts(&play).jobs, 1);
    attach(&play, 1);
    later(&play, 2 * RECOVER_US);
    assert_int_equal(counts(&play).jobs, 1);
    free_job(&play, 1);
    attach(&play, 1);
    assert_true(said(&play, "c1000: rejected: there is no job 1 (it may have ended and been forgotten)"));
    build_fini(&build);
    play_end(&play);
}

// A result of it was lost, and could not be made again: it has two ends, of which the last one counts.
static void test_job_that_failed_after_it_was_done(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_restored(&play, &build, 4, true);
    restore_job(&play, 1, JOB_DONE, false);
    restore_job(&play, 1, JOB_FAILED, false);
    attach(&play, 1);
    assert_true(said(&play, "c1000: j1 is failed: no such column (t0.3 at ant)"));
    end(&play, &build);
}

// A link was cut and is healed: what was done meanwhile counts, whoever was given it since.
static void test_done_while_it_was_away(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 2};

    (void)state;
    begin(&play);
    flat(&build, 3);
    join(&play, 1, 1, true);
    submit(&play, &build);
    leave(&play, 1);
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.0-2"));
    come_back(&play, 3, 11);
    say_all(&play, 3, &held, 1, NULL, 0);
    assert_true(said(&play, "w2: stop j1:t0.0-1"));
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w3"));
    done(&play, 2, 1, 0, 0, 1); // too late to stop
    assert_true(said(&play, "w2: release j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 2);
    done(&play, 2, 1, 0, 2, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_that_had_ended),
        cmocka_unit_test(test_ended_job_is_there_for_others),
        cmocka_unit_test(test_ended_job_that_others_need_fails_them),
        cmocka_unit_test(test_ended_job_without_what_it_read),
        cmocka_unit_test(test_job_that_was_detached),
        cmocka_unit_test(test_done_without_its_last_layers),
        cmocka_unit_test(test_names_that_were_given_back),
        cmocka_unit_test(test_job_that_failed_after_it_was_done),
        cmocka_unit_test(test_done_while_it_was_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
