// A played cluster (tests/unit/sched_play.h) with jobs that grow and read one another.  Include after
// cmocka.h.
#ifndef DRAY_TESTS_UNIT_GROWTH_PLAY_H
#define DRAY_TESTS_UNIT_GROWTH_PLAY_H

#include "tests/unit/sched_play.h"

static inline uint32_t submit_open(struct play *play, struct build *build, uint64_t key, bool open)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = key;
    event.u.submit.graph = build != NULL ? build_graph(build) : NULL;
    event.u.submit.open = open;
    assert_int_equal(step(play, &event), 0);

    const struct sched_action *accepted = find(play, ACTION_ACCEPTED, CLIENT);

    return accepted != NULL ? accepted->range.job : 0;
}

static inline void extend(struct play *play, uint32_t job, uint32_t first, struct build *build, bool last)
{
    struct sched_event event = event_of(play, EVENT_EXTEND);

    event.u.extend.client = CLIENT;
    event.u.extend.job = job;
    event.u.extend.first_layer = first;
    event.u.extend.graph = build != NULL ? &build->graph : NULL; // not checked: it goes on from others
    event.u.extend.last = last;
    assert_int_equal(step(play, &event), 0);
}

static inline void of(struct play *play, enum sched_event_type type, uint32_t client, uint32_t job, bool keep)
{
    struct sched_event event = event_of(play, type);

    if (type == EVENT_ATTACH || type == EVENT_KEEP) {
        event.u.attach.client = client;
        event.u.attach.job = job;
        event.u.attach.keep = keep;
    } else {
        event.u.job.client = client;
        event.u.job.job = job;
    }
    assert_int_equal(step(play, &event), 0);
}

static inline void begin(struct play *play, uint32_t workers)
{
    play_begin(play, 999);
    for (uint32_t w = 1; w <= workers; w++) {
        join(play, w, 1, true);
    }
}

// An input of the newest layer: a layer of another job.
static inline Dray__Input *read_job(struct build *build, uint32_t job, uint32_t layer, uint32_t tasks,
                                    Dray__Pattern pattern)
{
    Dray__Input *input = build_input(build, (uint32_t)build->graph.n_layer - 1, layer, pattern, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = job;
    input->job_tasks = tasks;
    return input;
}

#endif
