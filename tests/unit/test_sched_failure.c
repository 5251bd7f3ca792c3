// Tasks that fail: how many may, what fails with them, attempts and delays, cancelled ones.
#include "broker/core/sched.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core/state.h"
#include "proto/frame_check.h"
#include "tests/unit/sched_play.h"

static void submit_lenient(struct play *play, struct build *build, uint32_t failures_max)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(build);
    event.u.submit.failures_max = failures_max;
    assert_int_equal(step(play, &event), 0);
}

// One worker whose queue takes all.
static void begin(struct play *play, struct build *build)
{
    play_begin(play, 999);
    build_init(build);
    join(play, 1, 1, true);
}

static void end(struct play *play, struct build *build)
{
    build_fini(build);
    play_end(play);
}

static void wait_us(struct play *play, uint64_t us)
{
    struct sched_event event;

    play->now += us;
    event = event_of(play, EVENT_TICK);
    assert_int_equal(step(play, &event), 0);
}

static void test_dependents_fail_and_others_go_on(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build);
    build_layer(&build, 6);
    build.layer[0]->name = "load";
    build_input(&build, build_layer(&build, 6), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, build_layer(&build, 3), 1, DRAY__PATTERN__FAN_IN, 2);
    build_wanted(&build, 1);
    build_wanted(&build, 2);
    submit_lenient(&play, &build, 2);
    task_fails(&play, 1, 0, 2);
    assert_true(
        said(&play, "c1000: no result j1:t1.2: not run, because task load[2] failed: no such column"));
    assert_true(
        said(&play, "c1000: no result j1:t2.1: not run, because task load[2] failed: no such column"));
    assert_int_equal(find(&play, ACTION_RESULT_FAILED, CLIENT)->code, EINVAL);
    done(&play, 1, 1, 0, 0, 2);
    done(&play, 1, 1, 0, 3, 3);
    done(&play, 1, 1, 1, 0, 2);
    // t1.3 is wanted for its own sake, although t2.1 needs it no more.
    done(&play, 1, 1, 1, 3, 3);
    done(&play, 1, 1, 2, 0, 1);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    done(&play, 1, 1, 2, 2, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->failed, 3);
    end(&play, &build);
}

static void test_inputs_of_failed_tasks_are_released(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__FAN_IN, 2);
    build_wanted(&build, 1);
    submit_lenient(&play, &build, 1);
    done(&play, 1, 1, 0, 0, 1);
    task_fails(&play, 1, 0, 1);
    assert_true(said(&play, "w1: release j1:t0.0"));
    assert_true(
        said(&play, "c1000: no result j1:t1.0: not run, because task 1 of layer 0 failed: no such column"));
    done(&play, 1, 1, 0, 2, 2);
    done(&play, 1, 1, 1, 1, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_more_than_may_fail(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build);
    build_wanted(&build, build_layer(&build, 10));
    submit_lenient(&play, &build, 2);
    task_fails(&play, 1, 0, 3);
    task_fails(&play, 1, 0, 4);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    task_fails(&play, 1, 0, 5);
    assert_true(said(&play,
                     "c1000: j1 is failed: 3 tasks have failed, of which 2 may; the last of them: no such "
                     "column (t0.5 at one)"));
    assert_true(said(&play, "w1: forget j1"));
    end(&play, &build);
}

// Whoever reads a whole layer cannot do without one of its tasks; nor can a chain behind it.
static void test_whole_layers_fail(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build);
    build_layer(&build, 5);
    build_input(&build, build_layer(&build, 3), 0, DRAY__PATTERN__ALL, 0);
    build_layer(&build, 3);
    build_input(&build, 2, 1, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_layer(&build, 2);
    build_wanted(&build, 2);
    build_wanted(&build, 3);
    submit_lenient(&play, &build, 1);
    task_fails(&play, 1, 0, 4);
    assert_true(
        said(&play, "c1000: no result j1:t2.0-2: not run, because task 4 of layer 0 failed: no such column"));
    assert_int_equal(counts(&play).tasks_assigned, 2); // what only they needed is taken back
    assert_true(said(&play, "w1: stop j1:t0.0-3"));
    done(&play, 1, 1, 3, 0, 2);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// A job of one task that is tried again so often.
static void begin_retried(struct play *play, struct build *build, uint32_t retries, uint32_t delay_ms)
{
    begin(play, build);
    build_wanted(build, build_layer(build, 1));
    build->layer[0]->has_retries = build->layer[0]->has_retry_delay_ms = 1;
    build->layer[0]->retries = retries;
    build->layer[0]->retry_delay_ms = delay_ms;
    submit(play, build);
}

static void test_attempts_and_delay(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_retried(&play, &build, 2, 50);
    for (int attempt = 0; attempt < 2; attempt++) {
        task_fails(&play, 1, 0, 0);
        assert_int_equal(play.actions.count, 0);
        assert_int_equal(counts(&play).tasks_assigned, 0);
        wait_us(&play, 40000);
        assert_null(find(&play, ACTION_RUN, 1));
        wait_us(&play, 10000);
        assert_true(said(&play, "w1: run j1:t0.0"));
    }
    task_fails(&play, 1, 0, 0);
    assert_true(said(&play, "c1000: j1 is failed: no such column, in the last of 3 attempts\n"
                            "    attempt 1: no such column\n    attempt 2: no such column (t0.0 at one)"));
    wait_us(&play, 100000);
    // A delay may outlive its job.
    submit_as(&play, &build, 2, CLIENT);
    struct sched_event event = event_of(&play, EVENT_TASK_FAILED);

    event.u.failed.worker = 1;
    event.u.failed.job = 2;
    event.u.failed.text = "again";
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    build_fini(&build);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    wait_us(&play, 100000);
    play_end(&play);
}

// What its program wrote stands last, below the clause that leads over to it; of the attempts before it is
// left out.
static void test_attempts_that_wrote(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin_retried(&play, &build, 1, 0);
    event = event_of(&play, EVENT_TASK_FAILED);
    event.u.failed.worker = event.u.failed.job = 1;
    event.u.failed.text = "exit code 3; standard error ends with:\nbecause: of\nthis";
    for (int attempt = 0; attempt < 2; attempt++) {
        assert_int_equal(step(&play, &event), 0);
    }
    assert_true(
        said(&play, "c1000: j1 is failed: exit code 3, in the last of 2 attempts; standard error ends with:\n"
                    "because: of\nthis\n    attempt 1: exit code 3 (t0.0 at one)"));
    end(&play, &build);
}

// They go when their tasks have no more use for them, however long they are.
static void test_delays_of_what_was_cancelled(void **state)
{
    enum { TASKS = 500 };
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build);
    build_wanted(&build, build_layer(&build, TASKS));
    build.layer[0]->has_retries = build.layer[0]->has_retry_delay_ms = 1;
    build.layer[0]->retries = 2;
    build.layer[0]->retry_delay_ms = UINT32_MAX;
    submit_lenient(&play, &build, TASKS);
    for (uint32_t i = 0; i < TASKS; i++) {
        task_fails(&play, 1, 0, i);
    }
    assert_int_equal(play.sched->delays, TASKS);
    of_job(&play, EVENT_CANCEL, CLIENT, &(struct task_range){1, 0, 0, TASKS - TASKS / 10});
    wait_us(&play, 1);
    assert_int_equal(play.sched->delays, TASKS / 10);
    assert_true(play.sched->delay_capacity < TASKS);
    build_fini(&build);
    play_end(&play);
}

// Words that a message just carries are still carried when others go around them.
static void test_long_words(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    char *text = calloc(1, FRAME_NAME_MAX + 1);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', FRAME_NAME_MAX);
    begin(&play, &build);
    build_layer(&build, 2);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    submit_lenient(&play, &build, 1);
    for (uint32_t i = 0; i < 2; i++) {
        event = event_of(&play, EVENT_TASK_FAILED);
        event.u.failed.worker = 1;
        event.u.failed.job = 1;
        event.u.failed.index = i;
        event.u.failed.code = EINVAL;
        event.u.failed.text = text;
        assert_int_equal(step(&play, &event), 0);
        for (size_t k = 0; k < play.actions.count; k++) {
            const char *told = play.actions.action[k].text;

            assert_true(told == NULL || strlen(told) <= FRAME_NAME_MAX);
        }
    }
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->state, JOB_FAILED);
    free(text);
    build_fini(&build);
    play_end(&play);
}

// Without a delay it is tried at once; an input that is lost meanwhile is made again.
static void test_attempts_with_inputs(void **state)
{
    struct play play;
    struct build build;
    struct task_range gone = {1, 0, 0, 1};

    (void)state;
    begin(&play, &build);
    build_layer(&build, 1);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    build.layer[1]->has_retries = build.layer[1]->has_retry_delay_ms = 1;
    build.layer[1]->retries = 1;
    build.layer[1]->retry_delay_ms = 10;
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 1);
    task_fails(&play, 1, 1, 0);
    holds(&play, 1, false, NULL, 0, &gone, 1);
    assert_true(said(&play, "w1: run j1:t0.0"));
    wait_us(&play, 20000);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_deaths_count_as_a_failure(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 2));
    submit_lenient(&play, &build, 1);
    for (uint32_t worker = 1; worker <= 3; worker++) {
        join(&play, worker, 1, true);
        leave(&play, worker);
    }
    assert_true(said(&play,
                     "c1000: no result j1:t0.0: 3 workers died while they ran task 0 of layer 0, the last of "
                     "them other (killed); it is not tried again\n"
                     "    attempt 1: worker one died (killed), with an unknown amount of memory, alone\n"
                     "    attempt 2: worker two died (killed), with an unknown amount of memory, alone\n"
                     "    attempt 3: worker other died (killed), with an unknown amount of memory, alone"));
    join(&play, 4, 1, true);
    assert_true(said(&play, "w4: run j1:t0.1"));
    done(&play, 4, 1, 0, 1, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

static void test_cancelled_tasks(void **state)
{
    struct play play;
    struct build build;
    struct task_range some = {1, 0, 1, 3};
    struct task_range wrong = {1, 7, 1, 3};

    (void)state;
    begin(&play, &build);
    build_layer(&build, 5);
    build_wanted(&build, 0);
    build_input(&build, build_layer(&build, 5), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    submit_lenient(&play, &build, UINT32_MAX);
    done(&play, 1, 1, 0, 1, 1);
    of_job(&play, EVENT_CANCEL, CLIENT, &wrong);
    assert_int_equal(play.actions.count, 0);
    of_job(&play, EVENT_CANCEL, CLIENT, &some);
    assert_true(said(&play, "w1: stop j1:t0.2-3"));
    assert_true(said(&play, "c1000: no result j1:t0.2-3: cancelled")); // t0.1 was done already
    assert_int_equal(find(&play, ACTION_RESULT_FAILED, CLIENT)->code, ECANCELED);
    assert_true(said(&play,
                     "c1000: no result j1:t1.2-3: not run, because task 2 of layer 0 (or another of its "
                     "layer) failed: cancelled"));
    done(&play, 1, 1, 0, 2, 1); // too late
    assert_true(said(&play, "w1: release j1:t0.2"));
    done(&play, 1, 1, 0, 0, 1);
    done(&play, 1, 1, 0, 4, 1);
    done(&play, 1, 1, 1, 0, 2);
    done(&play, 1, 1, 1, 4, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// What its client does not want any more is no failure that ends the job.
static void test_cancelled_tasks_do_not_count(void **state)
{
    struct play play;
    struct build build;
    struct task_range some = {1, 0, 0, 2};

    (void)state;
    begin(&play, &build);
    build_layer(&build, 4);
    build_wanted(&build, 0);
    submit_lenient(&play, &build, 0);
    of_job(&play, EVENT_CANCEL, CLIENT, &some);
    assert_true(said(&play, "c1000: no result j1:t0.0-1: cancelled"));
    done(&play, 1, 1, 0, 2, 2);
    assert_true(said(&play, "c1000: j1 is done"));
    end(&play, &build);
}

// What there is to say of a job that has ended does not end with its tasks.
static void test_cancelled_job(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct sched_job job;
    char name[] = "sleepers", note[] = "note";

    (void)state;
    begin(&play, &build);
    build_wanted(&build, build_layer(&build, 2));
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&build);
    event.u.submit.name = name;
    event.u.submit.note = note;
    event.u.submit.note_size = sizeof(note);
    assert_int_equal(step(&play, &event), 0);
    memset(name, 'x', sizeof(name) - 1);
    memset(note, 'x', sizeof(note));
    of_job(&play, EVENT_CANCEL, CLIENT, NULL);
    assert_int_equal(sched_job_info(play.sched, 1, &job), 0);
    assert_int_equal(job.state, JOB_CANCELLED);
    assert_string_equal(job.name, "sleepers");
    assert_int_equal(job.note_size, sizeof(note));
    assert_memory_equal(job.note, "note", sizeof(note));
    end(&play, &build);
}

// Who takes the job over is told of failures as well.
static void test_failures_are_told_anew(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play, &build);
    build_wanted(&build, build_layer(&build, 2));
    submit_lenient(&play, &build, 5);
    task_fails(&play, 1, 0, 0);
    done(&play, 1, 1, 0, 1, 1);
    client_event(&play, EVENT_CLIENT_JOINED, 1001);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = 1001;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1001: no result j1:t0.0: no such column"));
    assert_true(said(&play, "c1001: result j1:t0.1 at w1"));
    assert_true(said(&play, "c1001: j1 is done"));
    build_fini(&build);
    client_event(&play, EVENT_CLIENT_LEFT, 1001);
    play_end(&play);
}

// All of very many tasks fail, each in its own words: no more than some of these are kept.
static void test_many_failures_stay_cheap(void **state)
{
    enum { TASKS = 100000 };
    struct sched_event *event = calloc(TASKS, sizeof(*event));
    char(*text)[32] = calloc(TASKS, sizeof(*text));
    struct play play;
    struct build build;
    size_t told = 0;

    (void)state;
    assert_non_null(event);
    assert_non_null(text);
    play_begin(&play, 65535);
    build_init(&build);
    build_wanted(&build, build_layer(&build, TASKS));
    join(&play, 1, 1, true);
    join(&play, 2, 1, true);
    join(&play, 3, 1, true);
    submit_lenient(&play, &build, UINT32_MAX);
    for (uint32_t round = 0; round < 8 && counts(&play).tasks_assigned > 0; round++) {
        size_t events = 0;

        for (size_t k = 0; k < play.actions.count; k++) {
            const struct sched_action *action = &play.actions.action[k];

            for (uint32_t n = 0; action->type == ACTION_RUN && n < action->range.count; n++) {
                snprintf(text[events], sizeof(text[events]), "failure %u", action->range.first + n);
                event[events].type = EVENT_TASK_FAILED;
                event[events].u.failed.worker = action->peer;
                event[events].u.failed.job = 1;
                event[events].u.failed.index = action->range.first + n;
                event[events].u.failed.code = 5;
                event[events].u.failed.text = text[events];
                events++;
            }
        }
        assert_int_equal(sched_step(play.sched, event, events, &play.actions), 0);
        for (size_t k = 0; k < play.actions.count; k++) {
            told += play.actions.action[k].type == ACTION_RESULT_FAILED ? 1 : 0;
        }
    }
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->failed, TASKS);
    assert_true(told > 1000 && told < 1100);
    free(event);
    free(text);
    end(&play, &build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dependents_fail_and_others_go_on),
        cmocka_unit_test(test_inputs_of_failed_tasks_are_released),
        cmocka_unit_test(test_more_than_may_fail),
        cmocka_unit_test(test_whole_layers_fail),
        cmocka_unit_test(test_attempts_and_delay),
        cmocka_unit_test(test_attempts_that_wrote),
        cmocka_unit_test(test_delays_of_what_was_cancelled),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_attempts_with_inputs),
        cmocka_unit_test(test_deaths_count_as_a_failure),
        cmocka_unit_test(test_cancelled_tasks),
        cmocka_unit_test(test_cancelled_tasks_do_not_count),
        cmocka_unit_test(test_cancelled_job),
        cmocka_unit_test(test_failures_are_told_anew),
        cmocka_unit_test(test_many_failures_stay_cheap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
