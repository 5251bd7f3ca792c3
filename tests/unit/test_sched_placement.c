// Which worker gets which task, how many and when: placement, ahead, estimate, steal, worker.
#include "broker/core/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/core/ahead.h"
#include "broker/core/estimate.h"
#include "broker/core/steal.h"
#include "tests/unit/sched_cluster.h"

// With room for `depth` tasks of unknown length beyond one a thread, assigned ahead.
static void begin_ahead(struct play *play, uint32_t depth)
{
    struct sched_options options;

    memset(play, 0, sizeof(*play));
    sched_options_default(&options);
    options.queue_depth = depth;
    options.ahead = true;
    play->sched = sched_create(&options);
    assert_non_null(play->sched);
    sched_actions_init(&play->actions);
    client_event(play, EVENT_CLIENT_JOINED, CLIENT);
}

// As done, but says how long they ran, and how many bytes each partition has.
static void done_in(struct play *play, uint32_t worker, struct task_range range, uint64_t busy_us,
                    uint64_t size)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    uint64_t *bytes = calloc(range.count, sizeof(*bytes));

    assert_non_null(bytes);
    for (uint32_t n = 0; n < range.count; n++) {
        bytes[n] = size;
    }
    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = bytes;
    event.u.done.busy_us = busy_us;
    assert_int_equal(step(play, &event), 0);
    free(bytes);
}

static void give_back(struct play *play, uint32_t worker, struct task_range range)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DROPPED);

    event.u.dropped.worker = worker;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &range;
    assert_int_equal(step(play, &event), 0);
}

// Tasks that a worker was told to run with the last event.
static uint32_t told(const struct play *play, uint32_t worker)
{
    uint32_t count = 0;

    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        count += action->type == ACTION_RUN && action->peer == worker ? action->range.count : 0;
    }
    return count;
}

static void grid(struct build *build, uint32_t width, uint32_t rows, Dray__Pattern pattern)
{
    build_init(build);
    build_layer(build, width);
    for (uint32_t l = 1; l < rows; l++) {
        build_input(build, build_layer(build, width), l - 1, pattern,
                    pattern == DRAY__PATTERN__WINDOW ? 1 : 0);
    }
    build_wanted(build, rows - 1);
}

static void test_window_follows_duration(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 1000000);
    join(&play, 1, 1, true);
    submit(&play, &build);
    assert_int_equal(told(&play, 1), 3); // nothing is known
    done_in(&play, 1, (struct task_range){1, 0, 0, 1}, 100, 8);
    // 0.1 ms each: 4.2 ms of work.
    assert_int_equal(told(&play, 1), 40);
    done_in(&play, 1, (struct task_range){1, 0, 1, 15}, 1500, 8);
    assert_in_range(counts(&play).tasks_assigned, 41, 42);
    // Then a microsecond each.
    for (uint32_t first = 16; first < 4000; first += 41) {
        done_in(&play, 1, (struct task_range){1, 0, first, 41}, 41, 8);
    }
    assert_in_range(counts(&play).tasks_assigned, 3900, 4300);
    build_fini(&build);
    play_end(&play);
}

// Those that fail teach as much: a million of them would otherwise take a round trip for every few.
static void test_window_follows_duration_of_failures(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 1000);
    join(&play, 1, 1, true);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&build);
    event.u.submit.failures_max = 1000;
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(told(&play, 1), 3);
    task_fails(&play, 1, 0, 0); // it is not said how long it took
    assert_int_equal(told(&play, 1), 1);
    event = event_of(&play, EVENT_TASK_FAILED);
    event.u.failed.worker = event.u.failed.job = event.u.failed.index = 1;
    event.u.failed.code = EINVAL;
    event.u.failed.busy_us = 100;
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(told(&play, 1), 40);
    build_fini(&build);
    play_end(&play);
}

static void test_long_tasks_wait_in_the_broker(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 100);
    join(&play, 1, 2, true);
    submit(&play, &build);
    assert_int_equal(told(&play, 1), 6);
    // A second each: two a thread, however long they last.
    for (uint32_t i = 0; i < 6; i++) {
        done_in(&play, 1, (struct task_range){1, 0, i, 1}, 1000000, 8);
    }
    assert_int_equal(counts(&play).tasks_assigned, 4);
    build_fini(&build);
    play_end(&play);
}

static void test_no_window_is_larger_than_65536_tasks(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 1000000);
    join(&play, 1, 64, true);
    submit(&play, &build);
    done_in(&play, 1, (struct task_range){1, 0, 0, 192}, 1, 8);
    assert_int_equal(counts(&play).tasks_assigned, 65536);
    build_fini(&build);
    play_end(&play);
}

static void test_layers_of_one_operation_are_alike(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_ahead(&play, 2);
    grid(&build, 4, 200, DRAY__PATTERN__ONE_TO_ONE);
    join(&play, 1, 1, true);
    submit(&play, &build);
    assert_int_equal(told(&play, 1), 3);
    // What was learnt of the first row holds for all: the rest goes out at once.
    done_in(&play, 1, (struct task_range){1, 0, 0, 2}, 2, 8);
    assert_in_range(counts(&play).tasks_assigned, 796, 798);
    build_fini(&build);
    play_end(&play);
}

static void test_ahead_only_where_the_rest_is_made(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_ahead(&play, 7);
    grid(&build, 8, 2, DRAY__PATTERN__WINDOW);
    join(&play, 1, 1, true);
    join(&play, 2, 1, true);
    submit(&play, &build);
    // The row is halved; its next one too, but for what needs both halves.
    assert_true(said(&play, "w1: run j1:t0.0-3"));
    assert_true(said(&play, "w1: run j1:t1.0-2"));
    assert_true(said(&play, "w2: run j1:t0.4-7"));
    assert_true(said(&play, "w2: run j1:t1.5-7"));
    // All of one in the order of their inputs, in one event.
    done(&play, 1, 1, 0, 0, 4);
    done(&play, 1, 1, 1, 0, 3);
    assert_int_equal(told(&play, 1), 0);
    done(&play, 2, 1, 0, 4, 4);
    assert_int_equal(told(&play, 1) + told(&play, 2), 2);
    assert_int_equal(counts(&play).recomputed, 0);
    build_fini(&build);
    play_end(&play);
}

static void test_what_waited_for_a_dropped_task_comes_back(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin_ahead(&play, 5);
    grid(&build, 1, 4, DRAY__PATTERN__ONE_TO_ONE);
    submit(&play, &build);
    join(&play, 1, 1, true);
    assert_int_equal(told(&play, 1), 4);
    done(&play, 1, 1, 0, 0, 1);
    // It could not have its input, which is made again; the worker gives up those that wait for it.
    event = event_of(&play, EVENT_TASK_FAILED);
    event.u.failed.worker = 1;
    event.u.failed.job = 1;
    event.u.failed.layer = 1;
    event.u.failed.missing_input = true;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "w1: run j1:t0.0"));
    assert_true(said(&play, "w1: run j1:t1.0"));
    give_back(&play, 1, (struct task_range){1, 2, 0, 1});
    give_back(&play, 1, (struct task_range){1, 3, 0, 1});
    assert_int_equal(counts(&play).tasks_assigned, 2);
    // What was not assigned ahead, nor asked back, is not given back.
    give_back(&play, 1, (struct task_range){1, 0, 0, 1});
    assert_int_equal(counts(&play).tasks_assigned, 2);
    done(&play, 1, 1, 0, 0, 1);
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "w1: run j1:t2.0"));
    assert_true(said(&play, "w1: run j1:t3.0"));
    done(&play, 1, 1, 2, 0, 1);
    done(&play, 1, 1, 3, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

static void test_worker_that_goes_takes_nothing_along(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_ahead(&play, 7);
    grid(&build, 2, 4, DRAY__PATTERN__WINDOW);
    submit(&play, &build);
    join(&play, 1, 1, true);
    assert_int_equal(told(&play, 1), 8);
    done(&play, 1, 1, 0, 0, 2);
    join(&play, 2, 1, true);
    leave(&play, 1);
    assert_int_equal(told(&play, 2), 8);
    for (uint32_t l = 0; l < 4; l++) {
        done(&play, 2, 1, l, 0, 2);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).recomputed, 2);
    build_fini(&build);
    play_end(&play);
}

static void test_tiny_tasks_stay_together(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_ahead(&play, 2);
    // A hundred tasks of a microsecond are not worth two messages.
    flat(&build, 100);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done_in(&play, 1, (struct task_range){1, 0, 0, 1}, 1, 8);
    assert_int_equal(told(&play, 1), 97);
    build_fini(&build);
    play_end(&play);
}

static void test_stealing_pays_or_is_not_done(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_ahead(&play, 2);
    flat(&build, 100);
    join(&play, 1, 1, true);
    submit(&play, &build);
    // 10 us each, all at w1, less than half a millisecond: over before it has moved.
    done_in(&play, 1, (struct task_range){1, 0, 0, 3}, 30, 8);
    done_in(&play, 1, (struct task_range){1, 0, 3, 77}, 770, 8);
    assert_int_equal(counts(&play).tasks_assigned, 20);
    join(&play, 2, 1, true);
    assert_null(find(&play, ACTION_DROP, 1));
    build_fini(&build);
    play_end(&play);

    begin_ahead(&play, 2);
    flat(&build, 40);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done_in(&play, 1, (struct task_range){1, 0, 0, 3}, 300, 8);
    assert_int_equal(counts(&play).tasks_assigned, 37);
    join(&play, 2, 1, true);
    // Half of them, from the end.
    assert_true(said(&play, "w1: give back j1:t0.22-39"));
    build_fini(&build);
    play_end(&play);
}

static void test_chains_are_stolen_at_their_heads(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *drop;

    (void)state;
    begin_ahead(&play, 2);
    grid(&build, 4, 20, DRAY__PATTERN__ONE_TO_ONE);
    join(&play, 1, 1, true);
    submit(&play, &build);
    done_in(&play, 1, (struct task_range){1, 0, 0, 3}, 150, 8);
    // Four chains are all with w1.
    done_in(&play, 1, (struct task_range){1, 0, 3, 1}, 50, 8);
    assert_int_equal(counts(&play).tasks_assigned, 76);
    join(&play, 2, 1, true);
    drop = find(&play, ACTION_DROP, 1);
    assert_non_null(drop);
    // Only tasks whose inputs are made can be done elsewhere; what waits for them comes along.
    assert_int_equal(drop->range.layer, 1);
    build_fini(&build);
    play_end(&play);
}

// Single tasks one after another stay with a worker that is awake; two at once do not.
static void test_idle_worker_that_ran_last_is_next(void **state)
{
    struct play play;
    struct build build;
    uint32_t first;

    (void)state;
    play_begin(&play, 2);
    for (uint32_t w = 1; w <= 3; w++) {
        join(&play, w, 1, true);
    }
    flat(&build, 1);
    submit_as(&play, &build, 1, CLIENT);
    first = told(&play, 1) == 1 ? 1 : told(&play, 2) == 1 ? 2 : 3;
    for (uint32_t job = 1; job < 10; job++) {
        assert_int_equal(told(&play, first), 1);
        done(&play, first, job, 0, 0, 1);
        submit_as(&play, &build, job + 1, CLIENT);
    }
    submit_as(&play, &build, 100, CLIENT);
    assert_int_equal(told(&play, first), 0);
    build_fini(&build);
    play_end(&play);
}

static void test_a_slow_worker_gets_less(void **state)
{
    static const uint64_t task_us[] = {50, 2000, 50000};

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct cluster c;

        cluster_begin(&c, 4, 1);
        c.machine[4].slow = 5;
        bring(&c, CLIENT, (uint32_t)(10000000 / task_us[k]), task_us[k], 0);
        until(&c, 50 * (task_us[k] > 1000 ? task_us[k] : 1000));
        // A fifth of what the others do, and no more than it has time for in its queue.
        assert_in_range(c.machine[4].over * 100 / c.machine[1].over, 15, 25);
        assert_true(c.machine[4].count * task_us[k] * 5 <= 6000 + 2 * 5 * task_us[k]);
        cluster_end(&c, 1);
    }
}

// The last tasks wait for a fast worker rather than begin at one where they would be over later.
static void test_the_last_tasks_are_not_for_slow_workers(void **state)
{
    struct cluster c;
    uint64_t end;

    (void)state;
    cluster_begin(&c, 4, 1);
    c.machine[4].slow = 8;
    bring(&c, CLIENT, 100, 20000, 0);
    until_over(&c, 1);
    end = c.over_at[1];
    // Learnt by now: of two tasks more than there are fast workers, none goes to the slow one.
    c.machine[4].over = 0;
    bring(&c, CLIENT, 5, 20000, 0);
    until_over(&c, 2);
    assert_int_equal(c.machine[4].over, 0);
    assert_int_equal(c.over_at[2] - end, 2 * 20000);
    // When it is the only one it does them.
    for (uint32_t job = 1; job <= 2; job++) {
        struct sched_event event = event_of(&c.play, EVENT_FREE);

        event.u.job.client = CLIENT;
        event.u.job.job = job;
        cluster_step(&c, &event);
    }
    for (uint32_t w = 1; w <= 3; w++) {
        leave(&c.play, w);
    }
    bring(&c, CLIENT, 3, 20000, 0);
    until_over(&c, 3);
    cluster_end(&c, 1);
}

// Each worker is told once where the partitions are that all tasks of a layer need, and once that they may go.
static void test_a_shuffle_costs_no_more_with_more_workers(void **state)
{
    enum { WORKERS = 40, MAPS = 400, REDUCES = 400 };
    struct play play;
    struct build build;
    struct task_range todo[WORKERS * 64];
    uint32_t at[WORKERS * 64];
    size_t count = 0, wholes = 0, releases = 0, ran = 0;

    (void)state;
    play_begin(&play, 1);
    for (uint32_t w = 1; w <= WORKERS; w++) {
        join(&play, w, 1, true);
    }
    build_init(&build);
    build_layer(&build, MAPS);
    build_layer(&build, REDUCES);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    submit(&play, &build);
    do {
        for (size_t k = 0; k < play.actions.count; k++) {
            const struct sched_action *action = &play.actions.action[k];

            if (action->type == ACTION_RUN) {
                assert_true(count < WORKERS * 64);
                todo[count] = action->range;
                at[count++] = action->peer;
                wholes += action->wholes > 0 ? 1 : 0;
                assert_true(action->range.layer == 1 || action->wholes == 0);
                ran += action->range.count;
            }
            releases += action->type == ACTION_RELEASE ? 1 : 0;
        }
        if (count > 0) {
            struct task_range range = todo[0];
            uint32_t worker = at[0];

            memmove(todo, todo + 1, --count * sizeof(todo[0]));
            memmove(at, at + 1, count * sizeof(at[0]));
            done(&play, worker, range.job, range.layer, range.first, range.count);
        } else {
            break;
        }
    } while (true);
    assert_int_equal(ran, MAPS + REDUCES);
    assert_int_equal(wholes, WORKERS);
    // One for each who may have copies, and one for each stretch of an owner's own.
    assert_true(releases <= WORKERS + MAPS);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_follows_duration),
        cmocka_unit_test(test_window_follows_duration_of_failures),
        cmocka_unit_test(test_long_tasks_wait_in_the_broker),
        cmocka_unit_test(test_no_window_is_larger_than_65536_tasks),
        cmocka_unit_test(test_layers_of_one_operation_are_alike),
        cmocka_unit_test(test_ahead_only_where_the_rest_is_made),
        cmocka_unit_test(test_what_waited_for_a_dropped_task_comes_back),
        cmocka_unit_test(test_worker_that_goes_takes_nothing_along),
        cmocka_unit_test(test_tiny_tasks_stay_together),
        cmocka_unit_test(test_stealing_pays_or_is_not_done),
        cmocka_unit_test(test_chains_are_stolen_at_their_heads),
        cmocka_unit_test(test_idle_worker_that_ran_last_is_next),
        cmocka_unit_test(test_a_slow_worker_gets_less),
        cmocka_unit_test(test_the_last_tasks_are_not_for_slow_workers),
        cmocka_unit_test(test_a_shuffle_costs_no_more_with_more_workers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
