// Layers that read other jobs.
#include "broker/core/growth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/growth_play.h"

static void leave_politely(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEAVING);

    event.u.left.worker = worker;
    assert_int_equal(step(play, &event), 0);
    // It gives back what it has not started.
    for (size_t k = 0; k < play->actions.count; k++) {
        if (play->actions.action[k].type == ACTION_DROP) {
            const struct task_range range = play->actions.action[k].range;

            event = event_of(play, EVENT_TASKS_DROPPED);
            event.u.dropped.worker = worker;
            event.u.dropped.ranges = 1;
            event.u.dropped.range = &range;
            assert_int_equal(step(play, &event), 0);
            break;
        }
    }
}

static void test_what_another_job_made(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 3);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 3);
    build_init(&build);
    build_layer(&build, 3);
    Dray__Input *input = build_input(&build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = 1;
    input->job_tasks = 3;
    build_wanted(&build, 0);
    submit_as(&play, &build, 2, CLIENT);
    assert_true(said(&play, "c1000: accepted as j2"));
    assert_true(said(&play, "w1: run j2:t0.0-2"));
    // The client has done with the first job: what the second needs stays until it is through.
    of(&play, EVENT_FREE, CLIENT, 1, false);
    assert_int_equal(counts(&play).jobs, 2);
    assert_null(find(&play, ACTION_FORGET_JOB, 1));
    done(&play, 1, 2, 0, 0, 2);
    assert_int_equal(counts(&play).jobs, 2);
    done(&play, 1, 2, 0, 2, 1);
    assert_true(said(&play, "c1000: j2 is done"));
    // All that was wanted of it is released, and it goes with the job that reads it.
    assert_int_equal(counts(&play).partitions, 3);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 0);
    // Nothing to read there any more.
    submit_as(&play, &build, 3, CLIENT);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "there is no job 1"));
    build_fini(&build);
    play_end(&play);
}

static void test_partitions_of_another_job_are_made_again(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 1);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&build);
    build_layer(&build, 1);
    Dray__Input *input = build_input(&build, 0, 0, DRAY__PATTERN__BROADCAST, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = input->job_tasks = 1;
    build_wanted(&build, 0);
    submit_as(&play, &build, 2, CLIENT);
    build_fini(&build);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    join(&play, 2, 1, true);
    leave(&play, 1);
    assert_true(said(&play, "w2: run j1:t0.0"));
    done(&play, 2, 1, 0, 0, 1);
    assert_true(said(&play, "w2: run j2:t0.0"));
    done(&play, 2, 2, 0, 0, 1);
    assert_true(said(&play, "c1000: j2 is done"));
    play_end(&play);
}

// Places of partitions that border on one another by number, of layers with one number, of two jobs.
static void test_places_of_two_jobs_are_told_apart(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *run;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 2);
    build_init(&build);
    build_layer(&build, 1);
    build_wanted(&build, 0);
    build_layer(&build, 1);
    build_wanted(&build, 1);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);

    Dray__Input *input = read_job(&build, 1, 0, 2, DRAY__PATTERN__EXPLICIT);
    uint32_t offset[] = {0, 1};
    uint32_t target[] = {1};

    input->n_offset = 2;
    input->offset = offset;
    input->n_target = 1;
    input->target = target;
    submit_as(&play, &build, 2, CLIENT);
    assert_true(said(&play, "w1: run j2:t0.0"));
    done(&play, 1, 2, 0, 0, 1);
    // What needs both is to be done elsewhere.
    leave_politely(&play, 1);
    join(&play, 2, 1, true);
    run = find(&play, ACTION_RUN, 2);
    assert_non_null(run);
    assert_int_equal(run->range.layer, 1);
    assert_int_equal(run->wholes, 1);
    assert_int_equal(run->whole[0].range.job, 2);
    assert_int_equal(run->locations, 1);
    assert_int_equal(run->location[0].range.job, 1);
    assert_int_equal(run->location[0].range.first, 1);
    done(&play, 2, 2, 1, 0, 1);
    build_fini(&build);
    play_end(&play);
}

// Job 1 has layers 0 and 1, job 2 has layer 0: 1.0 -> 2.0 -> 1.1.  `reader`: job 3 reads 2.0.
static void make_ring(struct play *play, bool reader)
{
    struct build build;

    begin(play, 1);
    flat(&build, 3);
    assert_int_equal(submit_open(play, &build, 1, true), 1);
    build_fini(&build);
    done(play, 1, 1, 0, 0, 3);
    for (uint32_t job = 2; job <= 3; job++) {
        build_init(&build);
        build_layer(&build, 3);
        build_wanted(&build, 0);
        if (job == 2 || reader) {
            read_job(&build, job - 1, 0, 3, DRAY__PATTERN__ONE_TO_ONE);
        }
        submit_as(play, &build, job, CLIENT);
        done(play, 1, job, 0, 0, 3);
        build_fini(&build);
    }
    build_init(&build);
    build_layer(&build, 3);
    build_wanted(&build, 0);
    read_job(&build, 2, 0, 3, DRAY__PATTERN__ALL);
    extend(play, 1, 1, &build, true);
    build_fini(&build);
    assert_true(said(play, "w1: run j1:t1.0-2"));
}

// Two jobs that read one another keep one another; when nobody has either, both go.
static void test_jobs_that_need_one_another(void **state)
{
    struct play play;

    (void)state;
    make_ring(&play, false);
    of(&play, EVENT_FREE, CLIENT, 1, false); // in the midst of it
    assert_int_equal(counts(&play).jobs, 3);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 1);
    assert_int_equal(counts(&play).partitions, 3);
    assert_true(said(&play, "w1: forget j1"));
    assert_true(said(&play, "w1: forget j2"));
    play_end(&play);
    // A third one that somebody has keeps both.
    make_ring(&play, true);
    done(&play, 1, 1, 1, 0, 3);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 3);
    // ... and can have made again what is lost.
    leave(&play, 1);
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.0-2"));
    done(&play, 2, 1, 0, 0, 3);
    done(&play, 2, 2, 0, 0, 3);
    done(&play, 2, 3, 0, 0, 3);
    of(&play, EVENT_FREE, CLIENT, 3, false);
    assert_int_equal(counts(&play).jobs, 0);
    assert_int_equal(counts(&play).partitions, 0);
    play_end(&play);
    // All of them with their client.
    make_ring(&play, true);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(&play).jobs, 0);
    play_end(&play);
}

// One that was given up and is there for another only, and that fails in the same moment as that one.
static void test_a_hidden_job_that_fails_is_forgotten(void **state)
{
    static const char *const name[] = {"a.csv"};
    struct play play;
    struct build first;
    struct build second;
    struct build more;
    struct sched_event event;

    (void)state;
    play_begin(&play, 999);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    flat(&first, 1);
    build_source(&first, 0, (char[]){"d.csv"}, 0, 1);
    submit_as(&play, &first, 1, CLIENT + 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    assert_int_equal(submit_open(&play, &second, 2, true), 2);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    assert_int_equal(counts(&play).jobs, 2);
    flat(&more, 1);
    build_source(&more, 0, (char[]){"d.csv"}, 0, 1);
    extend(&play, 2, 1, &more, true);
    join(&play, 1, 1, false);
    event = event_of(&play, EVENT_SOURCES);
    event.u.sources.worker = 1;
    event.u.sources.count = 1;
    event.u.sources.name = event.u.sources.path = name;
    assert_int_equal(step(&play, &event), 0);
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_int_equal(counts(&play).jobs, 1);
    build_fini(&first);
    build_fini(&second);
    build_fini(&more);
    play_end(&play);
}

// A job and the one that reads it are given up with one step: so are the copies.
static void test_copies_go_with_both_jobs(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    struct sched_event both[2];

    (void)state;
    begin(&play, 1);
    join(&play, 2, 1, true);
    flat(&first, 1);
    submit_as(&play, &first, 1, CLIENT);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    leave_politely(&play, 1);
    submit_as(&play, &second, 2, CLIENT);
    assert_int_equal(find(&play, ACTION_RUN, 2)->range.job, 2);
    done(&play, 2, 2, 0, 0, 1);
    for (uint32_t k = 0; k < 2; k++) {
        both[k] = event_of(&play, EVENT_FREE);
        both[k].u.job.client = CLIENT;
        both[k].u.job.job = k + 1;
    }
    assert_int_equal(sched_step(play.sched, both, 2, &play.actions), 0);
    assert_true(said(&play, "w2: release j1:t0.0"));
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

// A job for its effect ends where its own layers end, whoever else reads it.
static void test_another_job_reads_its_end(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    uint32_t offset[] = {0, 0};

    (void)state;
    begin(&play, 1);
    build_init(&first);
    build_layer(&first, 3);
    assert_int_equal(submit_open(&play, &first, 1, true), 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));

    Dray__Input *input = read_job(&second, 1, 0, 3, DRAY__PATTERN__EXPLICIT);

    input->n_offset = 2;
    input->offset = offset;
    submit_as(&play, &second, 2, CLIENT);
    extend(&play, 1, 1, NULL, true);
    assert_true(said(&play, "w1: run j1:t0.0-2"));
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_another_job_made),
        cmocka_unit_test(test_partitions_of_another_job_are_made_again),
        cmocka_unit_test(test_places_of_two_jobs_are_told_apart),
        cmocka_unit_test(test_jobs_that_need_one_another),
        cmocka_unit_test(test_a_hidden_job_that_fails_is_forgotten),
        cmocka_unit_test(test_copies_go_with_both_jobs),
        cmocka_unit_test(test_another_job_reads_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
