// A played cluster that obeys at once: events go in, actions are looked at.  Include after cmocka.h.
#ifndef DRAY_TESTS_UNIT_SCHED_PLAY_H
#define DRAY_TESTS_UNIT_SCHED_PLAY_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/sched.h"
#include "tests/sim/build.h"

enum { CLIENT = 1000 };

struct play {
    struct sched *sched;
    struct sched_actions actions;
    uint64_t now;
};

static inline struct sched_event event_of(struct play *play, enum sched_event_type type)
{
    struct sched_event event;

    memset(&event, 0, sizeof(event));
    event.type = type;
    event.now_us = ++play->now;
    return event;
}

static inline int step(struct play *play, const struct sched_event *event)
{
    int rc = sched_step(play->sched, event, 1, &play->actions);

    sched_check(play->sched);
    return rc;
}

static inline void join(struct play *play, uint32_t worker, uint32_t threads, bool shared)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = threads;
    event.u.joined.shared_files = shared;
    event.u.joined.name = worker == 1 ? "one" : worker == 2 ? "two" : "other";
    assert_int_equal(step(play, &event), 0);
}

static inline void leave(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEFT);

    event.u.left.worker = worker;
    event.u.left.why = "killed";
    assert_int_equal(step(play, &event), 0);
}

static inline void client_event(struct play *play, enum sched_event_type type, uint32_t client)
{
    struct sched_event event = event_of(play, type);

    event.u.client.client = client;
    assert_int_equal(step(play, &event), 0);
}

static inline void submit_as(struct play *play, struct build *build, uint64_t key, uint32_t client)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = client;
    event.u.submit.key_lo = key;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static inline void submit(struct play *play, struct build *build)
{
    submit_as(play, build, 1, CLIENT);
}

static inline void done(struct play *play, uint32_t worker, uint32_t job, uint32_t layer, uint32_t first,
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

static inline const struct sched_action *find(const struct play *play, enum sched_action_type type,
                                              uint32_t peer)
{
    for (size_t k = 0; k < play->actions.count; k++) {
        if (play->actions.action[k].type == type && play->actions.action[k].peer == peer) {
            return &play->actions.action[k];
        }
    }
    return NULL;
}

static inline bool said(const struct play *play, const char *what)
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

static inline struct sched_counts counts(const struct play *play)
{
    struct sched_counts now;

    sched_counts(play->sched, &now);
    return now;
}

static inline void play_begin_with(struct play *play, const struct sched_options *options)
{
    memset(play, 0, sizeof(*play));
    play->sched = sched_create(options);
    assert_non_null(play->sched);
    sched_actions_init(&play->actions);
    client_event(play, EVENT_CLIENT_JOINED, CLIENT);
}

static inline void play_begin(struct play *play, uint32_t depth)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = depth;
    play_begin_with(play, &options);
}

// In `us`, and what comes then.
static inline void later(struct play *play, uint64_t us)
{
    struct sched_event event;

    play->now += us - 1;
    event = event_of(play, EVENT_TICK);
    assert_int_equal(step(play, &event), 0);
}

static inline void leave_in_peace(struct play *play, uint32_t client)
{
    struct sched_event event = event_of(play, EVENT_CLIENT_LEFT);

    event.u.client.client = client;
    event.u.client.on_purpose = true;
    assert_int_equal(step(play, &event), 0);
}

// Nothing may be left when the clients are gone.
static inline void play_end(struct play *play)
{
    leave_in_peace(play, CLIENT);
    assert_int_equal(counts(play).jobs, 0);
    assert_int_equal(counts(play).tasks, 0);
    assert_int_equal(counts(play).partitions, 0);
    sched_destroy(play->sched);
    sched_actions_fini(&play->actions);
}

static inline void task_fails(struct play *play, uint32_t worker, uint32_t layer, uint32_t index)
{
    struct sched_event event = event_of(play, EVENT_TASK_FAILED);

    event.u.failed.worker = worker;
    event.u.failed.job = 1;
    event.u.failed.layer = layer;
    event.u.failed.index = index;
    event.u.failed.code = EINVAL;
    event.u.failed.text = "no such column";
    assert_int_equal(step(play, &event), 0);
}

// At most 64 ranges, of no bytes.
static inline struct sched_event holding_of(struct play *play, uint32_t worker, bool full,
                                            const struct task_range *add, size_t adds)
{
    static const uint64_t bytes[64];
    struct sched_event event = event_of(play, EVENT_HOLDING);

    event.u.holding.worker = worker;
    event.u.holding.full = full;
    event.u.holding.add = add;
    event.u.holding.adds = adds;
    event.u.holding.bytes = bytes;
    return event;
}

static inline void holds(struct play *play, uint32_t worker, bool full, const struct task_range *add,
                         size_t adds, const struct task_range *gone, size_t gones)
{
    struct sched_event event = holding_of(play, worker, full, add, adds);

    event.u.holding.gone = gone;
    event.u.holding.gones = gones;
    assert_int_equal(step(play, &event), 0);
}

static inline void of_job(struct play *play, enum sched_event_type type, uint32_t client,
                          const struct task_range *range)
{
    struct sched_event event = event_of(play, type);

    event.u.job.client = client;
    event.u.job.job = 1;
    event.u.job.ranges = range != NULL ? 1 : 0;
    event.u.job.range = range;
    assert_int_equal(step(play, &event), 0);
}

static inline void flat(struct build *build, uint32_t tasks)
{
    build_init(build);
    build_wanted(build, build_layer(build, tasks));
}

#endif
