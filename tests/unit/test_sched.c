// The scheduler by itself: a played cluster that obeys at once, one rule a test.
// What needs many workers, delay and death is in tests/sim.
#include "broker/core/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core/bits.h"
#include "tests/sim/build.h"

enum { CLIENT = 1000 };

struct play {
    struct sched *sched;
    struct sched_actions actions;
    uint64_t now;
};

static struct sched_event event_of(struct play *play, enum sched_event_type type)
{
    struct sched_event event;

    memset(&event, 0, sizeof(event));
    event.type = type;
    event.now_us = ++play->now;
    return event;
}

static int step(struct play *play, const struct sched_event *event)
{
    int rc = sched_step(play->sched, event, 1, &play->actions);

    sched_check(play->sched);
    return rc;
}

static void join(struct play *play, uint32_t worker, uint32_t threads, bool shared)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = threads;
    event.u.joined.shared_files = shared;
    event.u.joined.name = worker == 1 ? "one" : worker == 2 ? "two" : "other";
    assert_int_equal(step(play, &event), 0);
}

static void leave(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEFT);

    event.u.left.worker = worker;
    event.u.left.why = "killed";
    assert_int_equal(step(play, &event), 0);
}

static void client_event(struct play *play, enum sched_event_type type, uint32_t client)
{
    struct sched_event event = event_of(play, type);

    event.u.client.client = client;
    assert_int_equal(step(play, &event), 0);
}

static void submit_as(struct play *play, struct build *build, uint64_t key, uint32_t client)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = client;
    event.u.submit.key_lo = key;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static void submit(struct play *play, struct build *build)
{
    submit_as(play, build, 1, CLIENT);
}

static void done(struct play *play, uint32_t worker, uint32_t job, uint32_t layer, uint32_t first,
                 uint32_t count)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    struct task_range range = {job, layer, first, count};
    uint64_t *bytes = calloc(count, sizeof(*bytes));

    assert_non_null(bytes);
    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = bytes;
    assert_int_equal(step(play, &event), 0);
    free(bytes);
}

static void dropped(struct play *play, uint32_t worker, struct task_range range)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DROPPED);

    event.u.dropped.worker = worker;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &range;
    assert_int_equal(step(play, &event), 0);
}

static const struct sched_action *find(const struct play *play, enum sched_action_type type, uint32_t peer)
{
    for (size_t k = 0; k < play->actions.count; k++) {
        if (play->actions.action[k].type == type && play->actions.action[k].peer == peer) {
            return &play->actions.action[k];
        }
    }
    return NULL;
}

static bool said(const struct play *play, const char *what)
{
    bool found = false;

    for (size_t k = 0; k < play->actions.count && !found; k++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        assert_non_null(out);
        sched_action_print(&play->actions.action[k], out);
        fclose(out);
        found = strcmp(text, what) == 0;
        free(text);
    }
    return found;
}

static struct sched_counts counts(const struct play *play)
{
    struct sched_counts now;

    sched_counts(play->sched, &now);
    return now;
}

static void play_begin(struct play *play, uint32_t depth)
{
    struct sched_options options;

    memset(play, 0, sizeof(*play));
    sched_options_default(&options);
    options.queue_depth = depth;
    play->sched = sched_create(&options);
    assert_non_null(play->sched);
    sched_actions_init(&play->actions);
    client_event(play, EVENT_CLIENT_JOINED, CLIENT);
}

// Nothing may be left when the clients are gone.
static void play_end(struct play *play)
{
    client_event(play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(play).jobs, 0);
    assert_int_equal(counts(play).tasks, 0);
    assert_int_equal(counts(play).partitions, 0);
    sched_destroy(play->sched);
    sched_actions_fini(&play->actions);
}

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
    assert_true(said(&play, "c1000: result j1:t0.0 at w1"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roots_are_withheld),
        cmocka_unit_test(test_later_layers_first_and_release),
    };
    (void)leave;
    (void)dropped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
