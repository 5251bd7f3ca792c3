// broker/core/handover.h: what a worker that leaves holds goes to others, and nothing is done again.
#include "broker/core/handover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/socket.h"
#include "tests/unit/cpu_time.h"
#include "tests/unit/sched_play.h"

enum { LATER_US = 200000, MB = 1 << 20, WORKERS = 600, EACH = 100, MANY_US = 3000000 };

// Memory in bytes, and how much of it is used.
static void join_with(struct play *play, uint32_t worker, uint64_t memory, uint64_t used)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = 1;
    event.u.joined.shared_files = true;
    event.u.joined.name = "w";
    event.u.joined.memory = memory;
    assert_int_equal(step(play, &event), 0);
    event = event_of(play, EVENT_WORKER_STATUS);
    event.u.status.worker = worker;
    event.u.status.memory_used = used;
    assert_int_equal(step(play, &event), 0);
}

static void is_leaving(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEAVING);

    event.u.left.worker = worker;
    assert_int_equal(step(play, &event), 0);
}

static void says_bye(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEFT);

    event.u.left.worker = worker;
    event.u.left.why = "it said goodbye";
    event.u.left.on_purpose = true;
    assert_int_equal(step(play, &event), 0);
}

static void tick(struct play *play, uint64_t us)
{
    play->now += us;

    struct sched_event event = event_of(play, EVENT_TICK);

    assert_int_equal(step(play, &event), 0);
}

static void done_with(struct play *play, uint32_t worker, uint32_t layer, uint32_t first, uint32_t count,
                      uint64_t bytes)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    struct task_range range = {1, layer, first, count};
    uint64_t sizes[64];

    for (uint32_t k = 0; k < count; k++) {
        sizes[k] = bytes;
    }
    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = sizes;
    assert_int_equal(step(play, &event), 0);
}

// Worker 1 alone makes the wanted tasks of a job, whose client does not read them.
static void begin(struct play *play, struct build *build, uint32_t tasks, uint64_t bytes)
{
    play_begin(play, 100);
    join_with(play, 1, 0, 0);
    flat(build, tasks);
    submit(play, build);
    done_with(play, 1, 0, 0, tasks, bytes);
}

static void has(struct play *play, uint32_t worker, uint32_t first, uint32_t count)
{
    struct task_range range = {1, 0, first, count};

    holds(play, worker, false, &range, 1, NULL, 0);
}

static void declines(struct play *play, uint32_t worker, uint32_t first, uint32_t count)
{
    struct task_range range = {1, 0, first, count};

    holds(play, worker, false, NULL, 0, &range, 1);
}

static void test_another_takes_over(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 4, 100);
    join_with(&play, 2, 0, 0);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: learn layer j1:t0"));
    assert_true(said(&play, "w2: hold j1:t0.0-3, from w1"));
    // Once.
    tick(&play, LATER_US);
    assert_null(find(&play, ACTION_COPY, 2));
    has(&play, 2, 0, 3);
    assert_true(said(&play, "w1: release j1:t0.0-2"));
    assert_true(said(&play, "c1000: result j1:t0.0-2 at w2"));
    has(&play, 2, 3, 1);
    assert_true(said(&play, "w1: release j1:t0.3"));
    assert_int_equal(sched_worker_partitions(play.sched, 1), 0);
    says_bye(&play, 1);
    assert_int_equal(counts(&play).partitions, 4);
    assert_int_equal(counts(&play).handed_over, 4);
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

// What it still does comes after; those that come later get it, too.
static void test_nobody_is_there_at_first(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 100);
    join_with(&play, 1, 0, 0);
    flat(&build, 3);
    submit(&play, &build);
    done_with(&play, 1, 0, 0, 1, 100);
    is_leaving(&play, 1);
    assert_true(said(&play, "w1: give back j1:t0.1-2"));
    tick(&play, LATER_US);
    assert_null(find(&play, ACTION_COPY, 1));
    done_with(&play, 1, 0, 1, 1, 100);
    play.now += LATER_US;
    join_with(&play, 2, 0, 0);
    tick(&play, LATER_US);
    // One that leaves as well is not asked.
    play.now += LATER_US;
    declines(&play, 2, 0, 2);
    is_leaving(&play, 2);
    tick(&play, LATER_US);
    join_with(&play, 3, 0, 0);
    tick(&play, LATER_US);
    has(&play, 3, 0, 2);
    assert_true(said(&play, "w1: release j1:t0.0-1"));
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

static void test_who_has_room(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *copy;
    uint32_t to[6] = {0};

    (void)state;
    begin(&play, &build, 8, 4 * MB);
    join_with(&play, 2, 100 * MB, 76 * MB); // a quarter is for its tasks
    join_with(&play, 3, 100 * MB, 60 * MB);
    join_with(&play, 4, 400 * MB, 200 * MB);
    join_with(&play, 5, 3 * MB, 0);
    is_leaving(&play, 1);
    for (size_t k = 0; k < play.actions.count; k++) {
        copy = &play.actions.action[k];
        if (copy->type == ACTION_COPY) {
            assert_int_equal(copy->worker, 1);
            assert_true(copy->range.count <= 2); // 8 MB go together
            to[copy->peer] += copy->range.count;
        }
    }
    assert_int_equal(to[2] + to[5], 0);
    assert_int_equal(to[3] + to[4], 8);
    assert_true(to[3] <= 3 && to[4] >= 5);
    play_end(&play);
    build_fini(&build);
}

// What has no room waits, and goes when there is some.
static void test_waits_for_room(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play, &build, 4, 4 * MB);
    join_with(&play, 2, 16 * MB, 6 * MB);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: hold j1:t0.0, from w1"));
    has(&play, 2, 0, 1);
    tick(&play, LATER_US);
    assert_null(find(&play, ACTION_COPY, 2));
    event = event_of(&play, EVENT_WORKER_STATUS);
    event.u.status.worker = 2;
    event.u.status.memory_used = 1 * MB;
    assert_int_equal(step(&play, &event), 0);
    tick(&play, LATER_US);
    assert_true(said(&play, "w2: hold j1:t0.1, from w1"));
    assert_true(said(&play, "w2: hold j1:t0.2, from w1"));
    assert_false(said(&play, "w2: hold j1:t0.3, from w1"));
    play_end(&play);
    build_fini(&build);
}

// It could not get it: another one is asked, and it itself not before a while.
static void test_declined(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 2, 100);
    join_with(&play, 2, 0, 0);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: hold j1:t0.0-1, from w1"));
    has(&play, 2, 0, 1);
    declines(&play, 2, 1, 1);
    tick(&play, LATER_US / 4);
    assert_null(find(&play, ACTION_COPY, 2));
    join_with(&play, 3, 0, 0);
    tick(&play, LATER_US / 8);
    has(&play, 3, 1, 1);
    assert_true(said(&play, "w1: release j1:t0.1"));
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

// The one that was asked dies, or the one that leaves.
static void test_deaths(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 2, 100);
    join_with(&play, 2, 0, 0);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: hold j1:t0.0-1, from w1"));
    leave(&play, 2);
    play.now += LATER_US;
    join_with(&play, 3, 0, 0);
    tick(&play, LATER_US);
    // Of what worker 3 was asked for it has one when worker 1 dies.
    has(&play, 3, 0, 1);
    assert_true(said(&play, "w1: release j1:t0.0"));
    leave(&play, 1);
    assert_true(said(&play, "w3: run j1:t0.1"));
    // It had the other, too, as it turns out.
    has(&play, 3, 1, 1);
    assert_int_equal(counts(&play).partitions, 2);
    play_end(&play);
    build_fini(&build);
}

// Nobody needs it any more, or the whole job, while it is on its way.
static void test_not_needed_any_more(void **state)
{
    struct task_range first = {1, 0, 0, 1};
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 3, 100);
    join_with(&play, 2, 0, 0);
    is_leaving(&play, 1);
    of_job(&play, EVENT_FREE, CLIENT, &first);
    assert_true(said(&play, "w1: release j1:t0.0"));
    has(&play, 2, 0, 1);
    assert_true(said(&play, "w2: release j1:t0.0"));
    has(&play, 2, 1, 1);
    assert_true(said(&play, "w1: release j1:t0.1"));
    of_job(&play, EVENT_FREE, CLIENT, NULL);
    assert_true(said(&play, "w2: forget j1"));
    tick(&play, LATER_US);
    assert_int_equal(counts(&play).jobs, 0);
    has(&play, 2, 2, 1);
    assert_true(said(&play, "w2: forget j1"));
    play_end(&play);
    build_fini(&build);
}

// Tasks that read all partitions of a layer are told anew where these are.
static void test_whole_inputs_are_found(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *run;

    (void)state;
    play_begin(&play, 0);
    build_init(&build);
    build_layer(&build, 2);
    build_layer(&build, 4);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    join_with(&play, 1, 0, 0);
    submit(&play, &build);
    done_with(&play, 1, 0, 0, 1, 100);
    done_with(&play, 1, 0, 1, 1, 100);
    join_with(&play, 2, 0, 0);
    run = find(&play, ACTION_RUN, 2);
    tick(&play, 1);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: hold j1:t0.0-1, from w1"));
    join_with(&play, 3, 0, 0);
    has(&play, 2, 0, 2);
    done_with(&play, 2, 1, 1, 1, 100);
    run = find(&play, ACTION_RUN, 3);
    for (size_t k = 0; run != NULL && k < run->wholes; k++) {
        assert_int_equal(run->whole[k].worker, 2);
    }
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

// A rolling restart: all that were there go, one after another, while the job goes on.
// Who was asked leaves as well, and says that after that what it has, which was under way: somebody else is
// asked.
static void test_who_takes_leaves(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, &build, 4, 100);
    join_with(&play, 2, 0, 0);
    is_leaving(&play, 1);
    assert_true(said(&play, "w2: hold j1:t0.0-3, from w1"));
    is_leaving(&play, 2);
    has(&play, 2, 0, 4);
    join_with(&play, 3, 0, 0);
    tick(&play, LATER_US);
    assert_non_null(find(&play, ACTION_COPY, 3));
    has(&play, 3, 0, 4);
    assert_int_equal(sched_worker_partitions(play.sched, 1), 0);
    assert_int_equal(counts(&play).handed_over, 4);
    says_bye(&play, 1);
    says_bye(&play, 2);
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

struct asked {
    uint32_t worker;
    struct task_range range;
};

static void quickly(struct play *play, const struct sched_event *event, struct asked *asked, size_t *count)
{
    assert_int_equal(sched_step(play->sched, event, 1, &play->actions), 0);
    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        if (action->type == ACTION_COPY) {
            assert_true(*count < WORKERS * EACH);
            asked[(*count)++] = (struct asked){action->peer, action->range};
        }
    }
}

// Half of a large cluster leaves at once, and what it holds goes in pieces of one partition.
static void test_many_leave(void **state)
{
    struct asked *asked = calloc(WORKERS * EACH, sizeof(*asked));
    const uint64_t bytes[EACH] = {0};
    struct task_range range[EACH];
    struct play play;
    struct build build;
    uint64_t begun_us;
    size_t count = 0;

    (void)state;
    assert_non_null(asked);
    play_begin(&play, 2);
    for (uint32_t w = 1; w <= WORKERS; w++) {
        struct sched_event event = event_of(&play, EVENT_WORKER_JOINED);

        event.u.joined.worker = w;
        event.u.joined.threads = 1;
        event.u.joined.shared_files = true;
        event.u.joined.name = "w";
        quickly(&play, &event, asked, &count);
    }
    flat(&build, WORKERS * EACH);
    submit(&play, &build);
    for (uint32_t w = 1; w <= WORKERS; w++) {
        struct sched_event event = event_of(&play, EVENT_HOLDING);

        for (uint32_t k = 0; k < EACH; k++) {
            range[k] = (struct task_range){1, 0, k * WORKERS + w - 1, 1};
        }
        event.u.holding.worker = w;
        event.u.holding.adds = EACH;
        event.u.holding.add = range;
        event.u.holding.bytes = bytes;
        quickly(&play, &event, asked, &count);
    }
    assert_int_equal(counts(&play).partitions, WORKERS * EACH);
    begun_us = cpu_us();
    for (uint32_t w = 1; w <= WORKERS / 2; w++) {
        struct sched_event event = event_of(&play, EVENT_WORKER_LEAVING);

        event.u.left.worker = w;
        quickly(&play, &event, asked, &count);
    }
    for (size_t at = 0, idle = 0; idle < 20;) {
        struct sched_event event = event_of(&play, at < count ? EVENT_HOLDING : EVENT_TICK);

        if (at < count) {
            event.u.holding.worker = asked[at].worker;
            event.u.holding.adds = asked[at].worker > WORKERS / 2 ? 1 : 0;
            event.u.holding.gones = 1 - event.u.holding.adds;
            event.u.holding.add = event.u.holding.gone = &asked[at++].range;
            event.u.holding.bytes = bytes;
            idle = 0;
        } else {
            event.now_us = play.now += LATER_US;
            idle++;
        }
        quickly(&play, &event, asked, &count);
    }
    assert_true(cpu_us() - begun_us < CPU_SLOW * MANY_US);
    assert_int_equal(counts(&play).handed_over, WORKERS / 2 * EACH);
    sched_check(play.sched);
    play_end(&play);
    build_fini(&build);
    free(asked);
}

static void test_rolling(void **state)
{
    struct play play;
    struct build build;
    uint32_t made = 0;

    (void)state;
    play_begin(&play, 0);
    join_with(&play, 1, 0, 0);
    flat(&build, 40);
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= 10; worker++) {
        for (int k = 0; k < 4; k++) {
            done_with(&play, worker, 0, made++, 1, 100);
        }
        is_leaving(&play, worker);
        join_with(&play, worker + 1, 0, 0);
        tick(&play, LATER_US);
        has(&play, worker + 1, 0, made);
        assert_int_equal(sched_worker_partitions(play.sched, worker), 0);
        says_bye(&play, worker);
    }
    assert_int_equal(made, 40);
    assert_int_equal(counts(&play).partitions, 40);
    assert_int_equal(counts(&play).handed_over, 4 * 10 * 11 / 2);
    assert_int_equal(counts(&play).recomputed, 0);
    play_end(&play);
    build_fini(&build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_takes_over),
        cmocka_unit_test(test_nobody_is_there_at_first),
        cmocka_unit_test(test_who_has_room),
        cmocka_unit_test(test_waits_for_room),
        cmocka_unit_test(test_declined),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_not_needed_any_more),
        cmocka_unit_test(test_whole_inputs_are_found),
        cmocka_unit_test(test_who_takes_leaves),
        cmocka_unit_test(test_many_leave),
        cmocka_unit_test(test_rolling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
