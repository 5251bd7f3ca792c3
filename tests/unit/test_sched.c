// The scheduler by itself: a played cluster that obeys at once, one rule a test.  Its parts (job,
// lineage, outbox, placement, state, worker) have no life of their own and are tested through it.
// What needs many workers, delay and death is in tests/sim.
#include "broker/core/sched.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core/bits.h"
#include "tests/sim/random.h"
#include "tests/unit/sched_play.h"

static void test_roots_are_withheld(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 100));
    join(&play, 1, 1, true);
    submit(&play, &build);
    assert_true(said(&play, "c1000: accepted as j1"));
    assert_true(said(&play, "w1: learn layer j1:t0"));
    assert_true(said(&play, "w1: run j1:t0.0-2"));
    assert_int_equal(counts(&play).tasks_ready, 97);
    done(&play, 1, 1, 0, 0, 2);
    assert_true(said(&play, "w1: run j1:t0.3-4"));
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_null(find(&play, ACTION_LAYER, 1));
    build_fini(&build);
    play_end(&play);
}

static void test_later_layers_first_and_release(void **state)
{
    struct play play;
    struct build build;
    uint32_t scan;
    uint32_t sum;

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    scan = build_layer(&build, 8);
    sum = build_layer(&build, 2);
    build_input(&build, sum, scan, DRAY__PATTERN__FAN_IN, 4);
    build_wanted(&build, sum);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 2);
    done(&play, 1, 1, 0, 2, 2);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "w1: release j1:t0.0-3"));
    assert_true(said(&play, "c1000: result j1:t1.0 at w1"));
    done(&play, 1, 1, 0, 4, 1);
    done(&play, 1, 1, 0, 5, 3);
    done(&play, 1, 1, 1, 1, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).partitions, 2);
    build_fini(&build);
    play_end(&play);
}

static void test_task_that_fails_fails_the_job(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 10);
    join(&play, 1, 1, true);
    submit(&play, &build);
    task_fails(&play, 2, 0, 1);
    task_fails(&play, 1, 0, 9); // not at work on that one
    assert_int_equal(play.actions.count, 0);
    task_fails(&play, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is failed: no such column (t0.1 at one)"));
    assert_true(said(&play, "w1: forget j1"));
    assert_int_equal(counts(&play).tasks, 0);
    build_fini(&build);
    play_end(&play);
}

static void test_task_that_kills_is_set_aside(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 10);
    build.layer[0]->name = "scan sales.csv";
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= 3; worker++) {
        assert_int_equal(counts(&play).tasks_ready, worker < 3 ? 10 : 9);
        join(&play, worker, 1, true);
        leave(&play, worker);
    }
    // The others go on, and the job fails after them.
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    join(&play, 4, 16, true);
    done(&play, 4, 1, 0, 1, 9);
    assert_true(said(&play,
                     "c1000: j1 is failed: 3 workers died while they ran task scan sales.csv[0], the last "
                     "of them other (killed); it is not tried again\n"
                     "    attempt 1: worker one died (killed), with an unknown amount of memory, alone\n"
                     "    attempt 2: worker two died (killed), with an unknown amount of memory, alone\n"
                     "    attempt 3: worker other died (killed), with an unknown amount of memory, alone"
                     " (t0.0 at other)"));
    build_fini(&build);
    play_end(&play);
}

static void test_leaving_on_purpose_blames_nobody(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 10);
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= 5; worker++) {
        struct sched_event event;

        join(&play, worker, 1, true);
        event = event_of(&play, EVENT_WORKER_LEFT);
        event.u.left.worker = worker;
        event.u.left.on_purpose = true;
        assert_int_equal(step(&play, &event), 0);
    }
    assert_int_equal(counts(&play).tasks_ready, 10);
    build_fini(&build);
    play_end(&play);
}

static void test_same_key_is_one_job(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 2);
    client_event(&play, EVENT_CLIENT_JOINED, 1001);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 1);
    submit_as(&play, &build, 1, 1001);
    assert_true(said(&play, "c1001: accepted as j1"));
    assert_true(said(&play, "c1001: result j1:t0.0 at w1"));
    assert_int_equal(counts(&play).jobs, 1);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(&play).jobs, 1);
    done(&play, 1, 1, 0, 1, 1);
    assert_true(said(&play, "c1001: result j1:t0.1 at w1"));
    assert_true(said(&play, "c1001: j1 is done"));
    submit_as(&play, &build, 1, 1001);
    assert_true(said(&play, "c1001: j1 is done"));
    of_job(&play, EVENT_FREE, 77, NULL);
    assert_int_equal(counts(&play).jobs, 1);
    client_event(&play, EVENT_CLIENT_LEFT, 1001);
    assert_true(said(&play, "w1: forget j1"));
    build_fini(&build);
    play_end(&play);
}

static void test_results_are_kept_until_freed(void **state)
{
    struct play play;
    struct build build;
    struct task_range one = {1, 0, 1, 1};
    struct sched_event event;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 3);
    join(&play, 1, 1, true);
    join(&play, 2, 1, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 3); // some of them were given to w2
    done(&play, 2, 1, 0, 0, 3);
    assert_int_equal(counts(&play).partitions, 3);
    of_job(&play, EVENT_FREE, CLIENT, &one);
    assert_int_equal(counts(&play).partitions, 2);
    // One that could not be read is made again, although the job has ended.
    event = event_of(&play, EVENT_RESULT_LOST);
    event.u.lost.worker = 1;
    event.u.lost.range = (struct task_range){1, 0, 0, 1};
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "w1: release j1:t0.0"));
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done(&play, find(&play, ACTION_RUN, 1) != NULL ? 1 : 2, 1, 0, 0, 1);
    assert_int_equal(counts(&play).recomputed, 1);
    assert_int_equal(counts(&play).partitions, 2);
    build_fini(&build);
    play_end(&play);
}

static void test_what_workers_say_they_hold(void **state)
{
    struct play play;
    struct build build;
    struct task_range third = {1, 0, 2, 1};
    struct task_range first = {1, 0, 0, 1};
    struct task_range strange[] = {{7, 0, 0, 1}, {1, 9, 0, 1}, {1, 0, 9, 5}, {1, 0, 1, UINT32_MAX}};

    (void)state;
    play_begin(&play, 0);
    flat(&build, 4);
    submit(&play, &build);
    join(&play, 1, 1, true);
    done(&play, 1, 1, 0, 0, 1);
    assert_int_equal(counts(&play).partitions, 1);
    holds(&play, 1, false, &third, 1, NULL, 0);
    assert_true(said(&play, "c1000: result j1:t0.2 at w1"));
    assert_int_equal(counts(&play).partitions, 2);
    join(&play, 2, 1, true);
    holds(&play, 2, false, &third, 1, NULL, 0);
    assert_true(said(&play, "w2: release j1:t0.2"));
    holds(&play, 1, false, NULL, 0, &third, 1);
    assert_int_equal(counts(&play).partitions, 1);
    holds(&play, 1, true, &third, 1, NULL, 0);
    assert_int_equal(counts(&play).partitions, 1); // t0.2 but not t0.0 any more
    assert_int_equal(sched_worker_partitions(play.sched, 1), 1);
    holds(&play, 1, false, NULL, 0, &first, 1);
    holds(&play, 1, false, strange, 1, NULL, 0);
    assert_true(said(&play, "w1: forget j7"));
    holds(&play, 1, true, strange + 1, 2, strange, 4);
    build_fini(&build);
    play_end(&play);
}

static void test_missing_input_goes_round_and_ends(void **state)
{
    struct play play;
    struct build build;
    bool failed = false;

    (void)state;
    play_begin(&play, 2);
    build_init(&build);
    build_layer(&build, 1);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    join(&play, 1, 1, true);
    submit(&play, &build);
    for (int k = 0; k < 100 && !failed; k++) {
        struct sched_event event;

        done(&play, 1, 1, 0, 0, 1);
        assert_true(said(&play, "w1: run j1:t1.0"));
        event = event_of(&play, EVENT_TASK_FAILED);
        event.u.failed.worker = 1;
        event.u.failed.job = 1;
        event.u.failed.layer = 1;
        event.u.failed.missing_input = true;
        assert_int_equal(step(&play, &event), 0);
        failed = find(&play, ACTION_JOB_ENDED, CLIENT) != NULL;
        assert_true(failed || said(&play, "w1: run j1:t0.0"));
    }
    assert_true(failed);
    build_fini(&build);
    play_end(&play);
}

static void test_priority_then_order(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    play_begin(&play, 0);
    flat(&build, 2);
    submit(&play, &build);
    submit_as(&play, &build, 2, CLIENT);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 3;
    event.u.submit.priority = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    join(&play, 1, 1, true);
    assert_true(said(&play, "w1: run j3:t0.0"));
    done(&play, 1, 3, 0, 0, 1);
    assert_true(said(&play, "w1: run j3:t0.1"));
    done(&play, 1, 3, 0, 1, 1);
    assert_true(said(&play, "w1: run j1:t0.0"));
    build_fini(&build);
    play_end(&play);
}

static void test_limits_and_progress(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct sched_options options;

    (void)state;
    memset(&play, 0, sizeof(play));
    sched_options_default(&options);
    options.tasks_max = 10;
    play.sched = sched_create(&options);
    sched_actions_init(&play.actions);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    flat(&build, 6);
    submit(&play, &build);
    submit_as(&play, &build, 2, CLIENT);
    assert_non_null(find(&play, ACTION_REJECTED, CLIENT));
    play.now += options.progress_us;
    event = event_of(&play, EVENT_TICK);
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: j1 has done 0 of 6: no workers are connected"));
    build_fini(&build);
    play_end(&play);
}

// A few tasks with a long operation take memory too; it is there again when the job has gone.
static void test_limit_of_bytes(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct sched_options options;

    (void)state;
    memset(&play, 0, sizeof(play));
    sched_options_default(&options);
    options.bytes_max = 30000;
    play.sched = sched_create(&options);
    sched_actions_init(&play.actions);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    flat(&build, 2000);
    submit(&play, &build);
    assert_non_null(find(&play, ACTION_ACCEPTED, CLIENT));
    submit_as(&play, &build, 2, CLIENT);
    assert_non_null(find(&play, ACTION_REJECTED, CLIENT));
    event = event_of(&play, EVENT_FREE);
    event.u.job.client = CLIENT;
    event.u.job.job = 1;
    assert_int_equal(step(&play, &event), 0);
    submit_as(&play, &build, 3, CLIENT);
    assert_non_null(find(&play, ACTION_ACCEPTED, CLIENT));
    build_fini(&build);
    play_end(&play);
}

// Roots that are read together are handed out together.
static void test_roots_go_in_step(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    build_layer(&build, 8);
    build_layer(&build, 8);
    build_layer(&build, 8);
    build_input(&build, 2, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, 2, 1, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 2);
    submit(&play, &build);
    join(&play, 1, 2, true);
    assert_true(said(&play, "w1: run j1:t0.0-3"));
    done(&play, 1, 1, 0, 0, 4);
    assert_true(said(&play, "w1: run j1:t1.0-3"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "w1: run j1:t2.0"));
    build_fini(&build);
    play_end(&play);
}

// To the holder of its inputs, unless that one is much busier.
static void test_tasks_go_to_their_inputs(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 3);
    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    join(&play, 1, 1, true);
    join(&play, 2, 1, true);
    submit(&play, &build);
    assert_true(said(&play, "w1: run j1:t0.0"));
    assert_true(said(&play, "w2: run j1:t0.1"));
    done(&play, 2, 1, 0, 1, 1);
    assert_true(said(&play, "w2: run j1:t1.1"));
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    build_fini(&build);
    play_end(&play);
}

static void random_range(struct random *random, struct task_range *range)
{
    range->job = random_below(random, 4);
    range->layer = random_below(random, 4);
    range->first =
        random_percent(random, 10) ? UINT32_MAX - random_below(random, 4) : random_below(random, 9);
    range->count =
        random_percent(random, 10) ? UINT32_MAX - random_below(random, 4) : random_below(random, 4);
}

// Whatever peers say: nothing breaks, and nothing is left.
static void test_nonsense(void **state)
{
    static const enum sched_event_type types[] = {EVENT_HOLDING,       EVENT_TASKS_DONE, EVENT_TASK_FAILED,
                                                  EVENT_TASKS_DROPPED, EVENT_CANCEL,     EVENT_FREE,
                                                  EVENT_RESULT_LOST,   EVENT_SUBMIT,     EVENT_WORKER_JOINED,
                                                  EVENT_WORKER_LEFT,   EVENT_CLIENT_LEFT};
    static uint64_t bytes[64];

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct random random = {seed};
        struct play play;
        struct build build;

        play_begin(&play, 1);
        build_init(&build);
        build_layer(&build, 6);
        build_input(&build, build_layer(&build, 3), 0, DRAY__PATTERN__FAN_IN, 2);
        build_input(&build, build_layer(&build, 5), 1, DRAY__PATTERN__ALL, 0);
        build_wanted(&build, 2);
        for (int k = 0; k < 200; k++) {
            struct sched_event event = event_of(&play, types[random_below(&random, 11)]);
            struct task_range range[2];
            uint32_t peer = random_below(&random, 4);

            random_range(&random, &range[0]);
            random_range(&random, &range[1]);
            if (event.type == EVENT_HOLDING) {
                event.u.holding.worker = peer;
                event.u.holding.full = random_percent(&random, 30);
                event.u.holding.adds = event.u.holding.gones = random_below(&random, 2);
                range[0].count %= 8;
                event.u.holding.add = &range[0];
                event.u.holding.gone = &range[1];
                event.u.holding.bytes = bytes;
            } else if (event.type == EVENT_TASKS_DONE) {
                event.u.done.worker = peer;
                event.u.done.ranges = 1;
                event.u.done.range = range;
                event.u.done.bytes = bytes;
                range[0].count %= 8;
            } else if (event.type == EVENT_TASK_FAILED) {
                event.u.failed.worker = peer;
                event.u.failed.job = range[0].job;
                event.u.failed.layer = range[0].layer;
                event.u.failed.index = range[0].first;
                event.u.failed.text = "x";
                event.u.failed.missing_input = random_percent(&random, 95);
                event.u.failed.missing_layer = range[1].layer;
                event.u.failed.missing_index = range[1].first;
                event.u.failed.missing_worker = random_below(&random, 4);
            } else if (event.type == EVENT_TASKS_DROPPED) {
                event.u.dropped.worker = peer;
                event.u.dropped.ranges = 2;
                event.u.dropped.range = range;
            } else if (event.type == EVENT_CANCEL || event.type == EVENT_FREE) {
                event.u.job.client = random_percent(&random, 50) ? CLIENT : 1;
                event.u.job.job = range[0].job;
                event.u.job.ranges = random_percent(&random, 95) ? 2 : 0;
                event.u.job.range = range;
            } else if (event.type == EVENT_RESULT_LOST) {
                event.u.lost.worker = peer;
                event.u.lost.range = range[0];
            } else if (event.type == EVENT_SUBMIT) {
                event.u.submit.client = random_percent(&random, 90) ? CLIENT : 1;
                event.u.submit.key_lo = random_below(&random, 3);
                event.u.submit.graph = build_graph(&build);
            } else if (event.type == EVENT_WORKER_JOINED) {
                event.u.joined.worker = peer;
                event.u.joined.threads = random_percent(&random, 10) ? UINT32_MAX : random_below(&random, 3);
                event.u.joined.shared_files = true;
                event.u.joined.name = "w";
            } else if (event.type == EVENT_WORKER_LEFT) {
                event.u.left.worker = random_percent(&random, 20) ? peer : 9;
            } else {
                event.u.client.client = 1;
            }
            assert_int_equal(step(&play, &event), 0);
        }
        build_fini(&build);
        play_end(&play);
    }
}

// The bitmap against an array of bytes.
static void test_bits(void **state)
{
    static const uint32_t sizes[] = {1, 63, 64, 65, 4096, 4097, 300000};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
        struct random random = {s};
        struct bits bits = {.size = sizes[s]};
        bool *plain = calloc(sizes[s], sizeof(*plain));

        bits.word = calloc(bits_words(sizes[s]), sizeof(uint64_t));
        assert_non_null(plain);
        assert_non_null(bits.word);
        for (int k = 0; k < 3000; k++) {
            uint32_t i = random_below(&random, sizes[s]);
            uint32_t count = random_below(&random, sizes[s] - i + 1);
            uint32_t next = i;

            if (k % 50 == 0 && count < 1000) {
                bits_set_range(&bits, i, count);
                memset(plain + i, 1, count);
            } else if (k % 3 == 0) {
                bits_set(&bits, i);
                plain[i] = true;
            } else {
                bits_clear(&bits, i);
                plain[i] = false;
            }
            i = random_below(&random, sizes[s]);
            next = i;
            while (next < sizes[s] && !plain[next]) {
                next++;
            }
            assert_int_equal(bits_next(&bits, i), next < sizes[s] ? next : BITS_NONE);
            assert_int_equal(bits_test(&bits, i), plain[i]);
            if (next < sizes[s]) {
                uint32_t run = 0;
                uint32_t max = random_below(&random, 200);

                while (run < max && next + run < sizes[s] && plain[next + run]) {
                    run++;
                }
                assert_int_equal(bits_run(&bits, next, max), run);
            }
        }
        free(plain);
        free(bits.word);
    }
}

static void return_to(struct play *play, uint32_t client, uint32_t job, bool detach)
{
    struct sched_event event = event_of(play, EVENT_ATTACH);

    event.u.attach.client = client;
    event.u.attach.job = job;
    event.u.attach.again = !detach;
    event.u.attach.detach = detach;
    assert_int_equal(step(play, &event), 0);
}

// Who had the job before its connection was lost does not take it from somebody else.
static void test_a_client_returns(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    play_begin(&play, 16);
    join(&play, 1, 1, true);
    flat(&build, 2);
    submit(&play, &build);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 2);
    client_event(&play, EVENT_CLIENT_JOINED, 1001);
    return_to(&play, 1001, 1, false);
    assert_true(said(&play, "c1001: rejected: another client has taken over this job"));
    assert_null(find(&play, ACTION_RESULT, 1001));
    assert_null(find(&play, ACTION_REJECTED, CLIENT));
    return_to(&play, CLIENT, 1, false);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    // Who takes it over so that it goes on may leave.
    return_to(&play, 1001, 1, true);
    assert_true(said(&play, "c1000: rejected: another client has taken over this job"));
    client_event(&play, EVENT_CLIENT_LEFT, 1001);
    assert_int_equal(counts(&play).jobs, 1);
    return_to(&play, CLIENT, 1, false);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "c1000: j1 is done"));
    event = event_of(&play, EVENT_FREE);
    event.u.job.client = CLIENT;
    event.u.job.job = 1;
    assert_int_equal(step(&play, &event), 0);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_roots_are_withheld),
        cmocka_unit_test(test_later_layers_first_and_release),
        cmocka_unit_test(test_roots_go_in_step),
        cmocka_unit_test(test_tasks_go_to_their_inputs),
        cmocka_unit_test(test_priority_then_order),
        cmocka_unit_test(test_task_that_fails_fails_the_job),
        cmocka_unit_test(test_task_that_kills_is_set_aside),
        cmocka_unit_test(test_leaving_on_purpose_blames_nobody),
        cmocka_unit_test(test_missing_input_goes_round_and_ends),
        cmocka_unit_test(test_same_key_is_one_job),
        cmocka_unit_test(test_results_are_kept_until_freed),
        cmocka_unit_test(test_what_workers_say_they_hold),
        cmocka_unit_test(test_limits_and_progress),
        cmocka_unit_test(test_limit_of_bytes),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_a_client_returns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
