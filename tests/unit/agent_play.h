// An agent and what it says, step by step.  Include after cmocka.h.
#ifndef DRAY_TESTS_UNIT_AGENT_PLAY_H
#define DRAY_TESTS_UNIT_AGENT_PLAY_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/core/agent.h"

struct play {
    struct agent *agent;
    struct agent_actions actions;
    struct error err;
    uint64_t task_ns;
    bool instant; // the layers to come
};

static inline int step(struct play *play, struct agent_event event)
{
    int rc = agent_step(play->agent, &event, 1, &play->actions, &play->err);

    agent_check(play->agent);
    return rc;
}

static inline int range(struct play *play, enum agent_event_type type, uint32_t layer, uint32_t first,
                 uint32_t count)
{
    struct agent_event event = {.type = type};

    event.u.range.range = (struct agent_range){1, layer, first, count};
    return step(play, event);
}

static inline void locate(struct play *play, uint32_t layer, uint32_t index, uint32_t worker)
{
    struct agent_event event = {.type = AGENT_LOCATION};

    event.u.range.range = (struct agent_range){1, layer, index, 1};
    event.u.range.worker = worker;
    assert_int_equal(step(play, event), 0);
}

// Told with the task that needs it.
static inline void assign_with(struct play *play, uint32_t layer, uint32_t index, uint32_t source, uint32_t worker)
{
    struct agent_event events[2] = {{.type = AGENT_LOCATION}, {.type = AGENT_ASSIGN}};

    events[0].u.range.range = (struct agent_range){1, source, index, 1};
    events[0].u.range.worker = worker;
    events[1].u.range.range = (struct agent_range){1, layer, index, 1};
    assert_int_equal(agent_step(play->agent, events, 2, &play->actions, &play->err), 0);
    agent_check(play->agent);
}

static inline void fetched(struct play *play, enum agent_event_type type, uint32_t layer, uint32_t index)
{
    struct agent_event event = {.type = type};

    event.u.task.key = (struct task_key){1, layer, index};
    event.u.task.code = EIO;
    event.u.task.text = "broken";
    assert_int_equal(step(play, event), 0);
}

// The outcome of tasks of one bundle, which is over when its number is given.
static inline void outcome(struct play *play, enum agent_event_type type, uint32_t layer, uint32_t first,
                    uint32_t count, uint32_t bundle)
{
    struct agent_event event[2] = {{.type = type}, {.type = AGENT_BUNDLE_OVER, .u.bundle = bundle}};

    if (type == AGENT_TASK_FAILED) {
        event[0].u.task.key = (struct task_key){1, layer, first};
        event[0].u.task.code = EIO;
        event[0].u.task.text = "broken";
    } else {
        event[0].u.range.range = (struct agent_range){1, layer, first, count};
        event[0].u.range.busy_ns = type == AGENT_TASKS_DONE ? play->task_ns * count : 0;
    }
    assert_int_equal(agent_step(play->agent, event, bundle > 0 ? 2 : 1, &play->actions, &play->err), 0);
    agent_check(play->agent);
}

static inline void layer_one(struct play *play, uint32_t number, uint32_t tasks, uint32_t source,
                      Dray__Pattern pattern, uint32_t width, uint32_t source_tasks)
{
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs = &input;

    input.layer = source;
    input.pattern = pattern;
    input.has_width = width > 0;
    input.width = width;
    event.u.layer.job = 1;
    event.u.layer.layer = number;
    event.u.layer.tasks = tasks;
    event.u.layer.inputs = source_tasks > 0 ? 1 : 0;
    event.u.layer.input = &inputs;
    event.u.layer.input_tasks = &source_tasks;
    event.u.layer.instant = play->instant;
    assert_int_equal(step(play, event), 0);
}

static inline bool said(const struct play *play, const char *what)
{
    bool found = false;

    for (size_t k = 0; k < play->actions.count && !found; k++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        assert_non_null(out);
        agent_action_print(&play->actions.action[k], out);
        fclose(out);
        found = strcmp(text, what) == 0;
        free(text);
    }
    return found;
}

static inline struct agent_counts counts(const struct play *play)
{
    struct agent_counts now;

    agent_counts(play->agent, &now);
    return now;
}

static inline void begin(struct play *play, uint32_t threads, uint32_t fetches)
{
    struct agent_options options = {.threads = threads, .fetches_max = fetches};

    memset(play, 0, sizeof(*play));
    play->agent = agent_create(&options);
    assert_non_null(play->agent);
    agent_actions_init(&play->actions);
    assert_int_equal(step(play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
}

// Forgetting the job must leave nothing once what is under way is over.
static inline void end(struct play *play)
{
    range(play, AGENT_FORGET_JOB, 0, 0, 0);
    assert_int_equal(counts(play).queued, 0);
    assert_int_equal(counts(play).partitions, 0);
    agent_destroy(play->agent);
    agent_actions_fini(&play->actions);
}

static inline void no_memory(struct play *play, uint32_t layer, uint32_t index)
{
    struct agent_event event = {.type = AGENT_FETCH_FAILED};

    event.u.task.key = (struct task_key){1, layer, index};
    event.u.task.code = ENOMEM;
    event.u.task.text = "no room";
    assert_int_equal(step(play, event), 0);
}

#endif
