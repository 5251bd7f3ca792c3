// Jobs that grow, layers that read themselves, jobs that are taken over and kept, workers that
// leave.
#include "broker/core/growth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/growth_play.h"

static void test_layers_come_while_it_runs(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    assert_int_equal(submit_open(&play, NULL, 7, true), 1);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    flat(&build, 2);
    extend(&play, 1, 0, &build, false);
    assert_true(said(&play, "w1: learn layer j1:t0"));
    assert_true(said(&play, "w1: run j1:t0.0-1"));
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "c1000: result j1:t0.0 at w1"));
    // A layer that reads the first one, of which half is done.
    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 0);
    extend(&play, 1, 1, &build, false);
    build_fini(&build);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 0, 1, 1);
    assert_true(said(&play, "w1: run j1:t1.1"));
    done(&play, 1, 1, 1, 0, 2);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    extend(&play, 1, 2, NULL, true);
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_a_thousand_layers_one_by_one(void **state)
{
    enum { LAYERS = 1000 };
    struct play play;

    (void)state;
    begin(&play, 1);
    submit_open(&play, NULL, 7, true);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct build build;

        flat(&build, 1);
        extend(&play, 1, l, &build, l == LAYERS - 1);
        build_fini(&build);
        done(&play, 1, 1, l, 0, 1);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).tasks_done, LAYERS);
    play_end(&play);
}

static void test_refused_growth_names_the_layer(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    submit_open(&play, NULL, 7, true);
    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, 0, 5, DRAY__PATTERN__ONE_TO_ONE, 0);
    extend(&play, 1, 0, &build, false);
    build_fini(&build);
    const struct sched_action *rejected = find(&play, ACTION_REJECTED, CLIENT);

    assert_non_null(rejected);
    assert_int_equal(rejected->range.job, 1);
    assert_int_equal(rejected->key_lo, 7);
    assert_non_null(strstr(rejected->text, "layer 0"));
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->state, JOB_FAILED);
    // What was on its way meanwhile changes nothing.
    flat(&build, 1);
    extend(&play, 1, 1, &build, true);
    assert_int_equal(play.actions.count, 0);
    build_fini(&build);
    // Layers that do not follow on.
    submit_open(&play, NULL, 8, true);
    flat(&build, 1);
    extend(&play, 2, 3, &build, false);
    assert_non_null(find(&play, ACTION_REJECTED, CLIENT));
    build_fini(&build);
    play_end(&play);
}

// A client whose connection was cut says again what it was not told to be safe.
static void test_layers_that_come_again_are_ignored(void **state)
{
    struct play play;
    struct build build;
    struct sched_brief brief = {0};

    (void)state;
    play_begin(&play, 999);
    submit_open(&play, NULL, 8, true);
    for (int i = 0; i < 2; i++) {
        flat(&build, 1);
        extend(&play, 1, 0, &build, false);
        assert_null(find(&play, ACTION_REJECTED, CLIENT));
        build_fini(&build);
    }
    assert_int_equal(sched_job_brief(play.sched, 1, &brief), 0);
    assert_int_equal(brief.layers, 1);
    assert_true(brief.state <= JOB_RUNNING && brief.grows);
    assert_int_equal(sched_job_of_key(play.sched, 0, 8), 1);
    assert_int_equal(sched_job_of_key(play.sched, 1, 8), 0);
    assert_int_equal(sched_job_brief(play.sched, 2, &brief), -ENOENT);
    play_end(&play);
}

// The first message of a client: refused for what it asks for, before any of that is there.
static void test_too_much_is_refused_at_once(void **state)
{
    struct play play;
    struct build build;
    Dray__Input *input;
    uint32_t target = 0;

    (void)state;
    begin(&play, 1);
    // Reverse edges of two thousand million partitions, for one task.
    build_init(&build);
    build_layer(&build, GRAPH_TASKS_MAX - 1);
    build_layer(&build, 1);
    input = build_input(&build, 1, 0, DRAY__PATTERN__EXPLICIT, 1);
    input->n_target = 1;
    input->target = &target;
    submit_open(&play, &build, 7, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "tasks"));
    build_fini(&build);
    // ... within the limit of tasks, of as many inputs as there can be.
    build_init(&build);
    build_layer(&build, 99 * 1000 * 1000);
    build_layer(&build, 1);
    build.layer[1]->input = build_alloc(&build, GRAPH_INPUTS_MAX, sizeof(Dray__Input *));
    for (int k = 0; k < GRAPH_INPUTS_MAX; k++) {
        input = build_input(&build, 1, 0, DRAY__PATTERN__EXPLICIT, 1);
        input->n_target = 1;
        input->target = &target;
    }
    play.sched->options.bytes_max = 300 << 20;
    submit_open(&play, &build, 8, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "MB"));
    play.sched->options.bytes_max = UINT64_C(4) << 30;
    build_fini(&build);
    // All neighbours of all, in another job: each would be asked whether it is wanted.
    flat(&build, 200000);
    assert_true(submit_open(&play, &build, 9, false) > 0);
    build_fini(&build);
    build_init(&build);
    build_layer(&build, 200000);
    input = build_input(&build, 0, 0, DRAY__PATTERN__WINDOW, 150000);
    input->has_job = input->has_job_tasks = true;
    input->job = 1;
    input->job_tasks = 200000;
    submit_open(&play, &build, 10, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "dependencies"));
    build_fini(&build);
    play_end(&play);
}

// What clients leave with a job that needs no tasks counts as well, and after its tasks have gone.
static void test_notes_count(void **state)
{
    struct play play;
    struct sched_event event;
    uint8_t *note = calloc(1, 1 << 20);
    uint32_t taken = 0;

    (void)state;
    assert_non_null(note);
    begin(&play, 1);
    play.sched->options.bytes_max = 10 << 20;
    for (uint64_t key = 1; key <= 20; key++) {
        event = event_of(&play, EVENT_SUBMIT);
        event.u.submit.client = CLIENT;
        event.u.submit.key_lo = key;
        event.u.submit.open = true;
        event.u.submit.note = note;
        event.u.submit.note_size = 1 << 20;
        assert_int_equal(step(&play, &event), 0);
        taken += find(&play, ACTION_ACCEPTED, CLIENT) != NULL ? 1 : 0;
        of(&play, EVENT_CANCEL, CLIENT, taken, false);
    }
    assert_int_equal(taken, 9);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    assert_true(play.sched->bytes < 9 << 20);
    play_end(&play);
    free(note);
}

static void test_a_chain_in_one_layer(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, 0, 0, DRAY__PATTERN__LAG, 1);
    build_layer(&build, 1);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    submit(&play, &build);
    build_fini(&build);
    assert_true(said(&play, "w1: run j1:t0.0"));
    for (uint32_t i = 0; i < 3; i++) {
        done(&play, 1, 1, 0, i, 1);
        assert_int_equal(find(&play, ACTION_RUN, 1)->range.first, i + 1);
    }
    done(&play, 1, 1, 0, 3, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    // The worker dies: the whole chain is made again, in order.
    join(&play, 2, 1, true);
    leave(&play, 1);
    assert_true(said(&play, "w2: run j1:t0.0"));
    for (uint32_t i = 0; i < 4; i++) {
        done(&play, 2, 1, 0, i, 1);
    }
    done(&play, 2, 1, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).recomputed, 4);
    play_end(&play);
}

static void test_an_open_job_is_given_up(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    struct sched_event event;

    (void)state;
    begin(&play, 1);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    flat(&first, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT + 1;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&first);
    event.u.submit.open = true;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    submit_as(&play, &second, 2, CLIENT);
    // Nothing of it is left to do: it is done, though nobody said that no more layers come.
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    assert_int_equal(counts(&play).jobs, 2);
    done(&play, 1, 2, 0, 0, 1);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

static void test_kept_and_taken_over(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit(&play, &build);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 2);
    of(&play, EVENT_KEEP, CLIENT, 1, true);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(&play).partitions, 2);
    client_event(&play, EVENT_CLIENT_JOINED, 1001);
    of(&play, EVENT_ATTACH, 1001, 1, false);
    assert_true(said(&play, "c1001: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "c1001: j1 is done"));
    // Who had it is told; who asks again is not.
    of(&play, EVENT_ATTACH, 1001, 1, false);
    assert_null(find(&play, ACTION_REJECTED, 1001));
    client_event(&play, EVENT_CLIENT_JOINED, 1002);
    of(&play, EVENT_ATTACH, 1002, 1, false);
    assert_true(said(&play, "c1001: rejected: another client has taken over this job"));
    assert_int_equal(find(&play, ACTION_REJECTED, 1001)->range.job, 1);
    client_event(&play, EVENT_CLIENT_LEFT, 1002);
    client_event(&play, EVENT_CLIENT_LEFT, 1001);
    assert_int_equal(counts(&play).jobs, 1);
    of(&play, EVENT_KEEP, CLIENT, 1, false);
    assert_int_equal(counts(&play).jobs, 0);
    assert_true(said(&play, "w1: forget j1"));
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    play_end(&play);
}

static void test_a_client_without_room_waits(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit(&play, &build);
    build_fini(&build);
    event = event_of(&play, EVENT_CLIENT_FULL);
    event.u.client.client = CLIENT;
    event.u.client.full = true;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 2);
    assert_null(find(&play, ACTION_RESULT, CLIENT));
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    event.u.client.full = false;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_a_leaving_worker_gets_no_more(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct task_range back = {1, 0, 1, 3};

    (void)state;
    begin(&play, 1);
    flat(&build, 4);
    submit(&play, &build);
    build_fini(&build);
    event = event_of(&play, EVENT_WORKER_LEAVING);
    event.u.left.worker = 1;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "w1: give back j1:t0.0-3"));
    event = event_of(&play, EVENT_TASKS_DROPPED);
    event.u.dropped.worker = 1;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &back;
    assert_int_equal(step(&play, &event), 0);
    assert_null(find(&play, ACTION_RUN, 1));
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.1-3"));
    done(&play, 1, 1, 0, 0, 1);
    assert_null(find(&play, ACTION_RUN, 1));
    done(&play, 2, 1, 0, 1, 3);
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_what_there_is_to_say(void **state)
{
    struct play play;
    struct build build;
    struct sched_job job;
    struct sched_layer layer;
    uint32_t number[4];

    (void)state;
    play_begin(&play, 2);
    flat(&build, 5);
    build.layer[0]->name = "load";
    submit(&play, &build);
    build_fini(&build);
    assert_int_equal(sched_jobs(play.sched, 0, number, 4), 1);
    assert_int_equal(number[0], 1);
    assert_int_equal(sched_jobs(play.sched, 1, number, 4), 0);
    assert_int_equal(sched_job_info(play.sched, 1, &job), 0);
    assert_int_equal(job.tasks, 5);
    assert_string_equal(job.waiting, "no workers are connected");
    assert_int_equal(sched_layer_info(play.sched, 1, 0, &layer), 0);
    assert_string_equal(layer.name, "load");
    assert_int_equal(layer.in[2], 5);
    assert_int_equal(sched_layer_info(play.sched, 1, 1, &layer), -ENOENT);
    assert_int_equal(sched_job_info(play.sched, 2, &job), -ENOENT);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_come_while_it_runs),
        cmocka_unit_test(test_a_thousand_layers_one_by_one),
        cmocka_unit_test(test_refused_growth_names_the_layer),
        cmocka_unit_test(test_layers_that_come_again_are_ignored),
        cmocka_unit_test(test_too_much_is_refused_at_once),
        cmocka_unit_test(test_notes_count),
        cmocka_unit_test(test_a_chain_in_one_layer),
        cmocka_unit_test(test_an_open_job_is_given_up),
        cmocka_unit_test(test_kept_and_taken_over),
        cmocka_unit_test(test_a_client_without_room_waits),
        cmocka_unit_test(test_a_leaving_worker_gets_no_more),
        cmocka_unit_test(test_what_there_is_to_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
