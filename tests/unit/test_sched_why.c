// broker/core/why.h: a job that neither ends nor runs says why.
#include "broker/core/why.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

#define AGAIN "what was lost with a worker has to be made again: "

static void check_why(const struct play *play, uint32_t number, const char *expected)
{
    struct sched_job info;

    assert_int_equal(sched_job_info(play->sched, number, &info), 0);
    assert_string_equal(info.waiting, expected);
}

static void begin(struct play *play, struct build *build, uint32_t tasks)
{
    play_begin(play, 0);
    build_init(build);
    build_wanted(build, build_layer(build, tasks));
}

static void end(struct play *play, struct build *build)
{
    build_fini(build);
    play_end(play);
}

static void test_workers(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play, &build, 4);
    submit(&play, &build);
    check_why(&play, 1, "no workers are connected");
    join(&play, 1, 4, true);
    check_why(&play, 1, "");
    submit_as(&play, &build, 2, CLIENT);
    check_why(&play, 2, "all workers are full: 4 tasks run or wait there, of other jobs");
    event = event_of(&play, EVENT_WORKER_LEAVING);
    event.u.left.worker = 1;
    assert_int_equal(step(&play, &event), 0);
    check_why(&play, 2, "all workers are leaving, and take no more tasks");
    leave(&play, 1);
    check_why(&play, 2, "no workers are connected");
    end(&play, &build);
}

static void test_attempts(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 1);
    build.layer[0]->has_retries = build.layer[0]->has_retry_delay_ms = 1;
    build.layer[0]->retries = 2;
    build.layer[0]->retry_delay_ms = 5000;
    submit(&play, &build);
    join(&play, 1, 1, true);
    task_fails(&play, 1, 0, 0);
    check_why(&play, 1, "what has failed waits for its next attempt, in 5 s");
    later(&play, 2500000);
    check_why(&play, 1, "what has failed waits for its next attempt, in 3 s");
    later(&play, 2500000);
    check_why(&play, 1, "");
    end(&play, &build);
}

static void test_suspects(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 1);
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= 2; worker++) {
        join(&play, worker, 1, true);
        leave(&play, worker);
    }
    check_why(&play, 1, "no workers are connected");
    // The one that comes has something else to do first.
    submit_as(&play, &build, 2, CLIENT);
    join(&play, 3, 1, true);
    check_why(&play, 1, "");
    end(&play, &build);
}

static void test_other_jobs(void **state)
{
    struct play play;
    struct build first, second;
    Dray__Input *input;
    struct sched_event event;

    (void)state;
    begin(&play, &first, 3);
    submit(&play, &first);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 3));
    input = build_input(&second, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    input->has_job = input->has_job_tasks = true;
    input->job = 1;
    input->job_tasks = 3;
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 2;
    event.u.submit.graph = build_graph(&second);
    assert_int_equal(step(&play, &event), 0);
    join(&play, 1, 3, true);
    check_why(&play, 2, "it waits for results of job 1");
    done(&play, 1, 1, 0, 0, 3);
    check_why(&play, 2, "");
    build_fini(&second);
    end(&play, &first);
}

// Done is done, but what it made may have to be made again for who wants it.
static void test_done_again(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 1);
    submit(&play, &build);
    join(&play, 1, 1, true);
    done(&play, 1, 1, 0, 0, 1);
    check_why(&play, 1, "");
    later(&play, 200000);
    assert_null(find(&play, ACTION_PROGRESS, CLIENT));
    leave(&play, 1);
    check_why(&play, 1, AGAIN "no workers are connected");
    later(&play, 200000);
    assert_non_null(find(&play, ACTION_PROGRESS, CLIENT));
    assert_string_equal(find(&play, ACTION_PROGRESS, CLIENT)->text, AGAIN "no workers are connected");
    assert_false(find(&play, ACTION_PROGRESS, CLIENT)->stuck);
    join(&play, 2, 1, true);
    check_why(&play, 1, "");
    done(&play, 2, 1, 0, 0, 1);
    check_why(&play, 1, "");
    end(&play, &build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workers),    cmocka_unit_test(test_attempts),   cmocka_unit_test(test_suspects),
        cmocka_unit_test(test_other_jobs), cmocka_unit_test(test_done_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
