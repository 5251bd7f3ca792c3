// A played cluster on a made-up clock: workers of one thread that run what they are given in order.  Include
// after cmocka.h.
#ifndef DRAY_TESTS_UNIT_SCHED_CLUSTER_H
#define DRAY_TESTS_UNIT_SCHED_CLUSTER_H

#include "tests/unit/sched_play.h"

enum { WORKERS_AT_MOST = 8, JOBS_AT_MOST = 64, QUEUE = 1 << 17 };

struct queued {
    uint32_t job, layer, index;
};

struct machine {
    struct queued *queue;
    size_t head, count;
    uint64_t free_at; // when the task at the head is over
    uint32_t slow;    // how much longer its tasks take
    uint64_t run_us;  // that they ran
    uint32_t over;    // tasks
};

struct cluster {
    struct play play;
    struct build build[JOBS_AT_MOST];
    uint32_t jobs;
    uint64_t task_us[JOBS_AT_MOST + 1]; // by job number
    uint64_t run_us[JOBS_AT_MOST + 1];  // that its tasks ran
    uint32_t left[JOBS_AT_MOST + 1];
    uint64_t over_at[JOBS_AT_MOST + 1];
    struct machine machine[WORKERS_AT_MOST + 1];
    uint32_t workers;
    uint32_t drops; // tasks that were asked back
    uint64_t now;
};

static inline void obey(struct cluster *c);

static inline void cluster_step(struct cluster *c, struct sched_event *event)
{
    event->now_us = c->now;
    assert_int_equal(sched_step(c->play.sched, event, 1, &c->play.actions), 0);
    obey(c);
}

static inline void push_back(struct cluster *c, const struct sched_action *action)
{
    struct machine *machine = &c->machine[action->peer];

    for (uint32_t n = 0; n < action->range.count; n++) {
        if (machine->count == 0) {
            machine->free_at = c->now + c->task_us[action->range.job] * machine->slow;
        }
        assert_true(machine->count < QUEUE);
        machine->queue[(machine->head + machine->count++) % QUEUE] =
            (struct queued){action->range.job, action->range.layer, action->range.first + n};
    }
}

// What is taken back and has not begun.
static inline uint32_t take_back(struct machine *machine, const struct task_range *range)
{
    size_t kept = machine->count > 0 ? 1 : 0;
    uint32_t taken = 0;

    for (size_t k = 1; k < machine->count; k++) {
        struct queued task = machine->queue[(machine->head + k) % QUEUE];

        if (task.job == range->job && task.layer == range->layer && task.index >= range->first &&
            task.index - range->first < range->count) {
            taken++;
        } else {
            machine->queue[(machine->head + kept++) % QUEUE] = task;
        }
    }
    machine->count = kept;
    return taken;
}

static inline void obey(struct cluster *c)
{
    struct task_range back[32];
    uint32_t from[32];
    uint32_t backs = 0;

    for (size_t k = 0; k < c->play.actions.count; k++) {
        const struct sched_action *action = &c->play.actions.action[k];

        if (action->type == ACTION_RUN) {
            push_back(c, action);
        } else if (action->type == ACTION_DROP && backs < 32) {
            c->drops += action->range.count;
            from[backs] = action->peer;
            back[backs++] = action->range;
        }
    }
    for (uint32_t b = 0; b < backs; b++) {
        struct sched_event event = event_of(&c->play, EVENT_TASKS_DROPPED);
        struct task_range one = back[b];

        // One by one, as what has begun may lie in between.
        for (uint32_t n = 0; n < back[b].count; n++) {
            one.first = back[b].first + n;
            one.count = 1;
            if (take_back(&c->machine[from[b]], &one) > 0) {
                event.u.dropped.worker = from[b];
                event.u.dropped.ranges = 1;
                event.u.dropped.range = &one;
                cluster_step(c, &event);
            }
        }
    }
}

static inline void cluster_begin(struct cluster *c, uint32_t workers, uint32_t clients)
{
    memset(c, 0, sizeof(*c));
    play_begin(&c->play, 2);
    for (uint32_t n = 1; n < clients; n++) {
        client_event(&c->play, EVENT_CLIENT_JOINED, CLIENT + n);
    }
    for (uint32_t w = 1; w <= workers; w++) {
        c->machine[w].queue = calloc(QUEUE, sizeof(struct queued));
        assert_non_null(c->machine[w].queue);
        c->machine[w].slow = 1;
        join(&c->play, w, 1, true);
    }
    c->workers = workers;
}

static inline void cluster_end(struct cluster *c, uint32_t clients)
{
    sched_check(c->play.sched);
    for (uint32_t n = 1; n < clients; n++) {
        client_event(&c->play, EVENT_CLIENT_LEFT, CLIENT + n);
    }
    play_end(&c->play);
    for (uint32_t w = 1; w <= c->workers; w++) {
        free(c->machine[w].queue);
    }
    for (uint32_t j = 0; j < c->jobs; j++) {
        build_fini(&c->build[j]);
    }
}

// Its number.
static inline uint32_t bring(struct cluster *c, uint32_t client, uint32_t tasks, uint64_t task_us,
                             int32_t priority)
{
    struct sched_event event = event_of(&c->play, EVENT_SUBMIT);
    uint32_t job = ++c->jobs;

    assert_true(job <= JOBS_AT_MOST);
    flat(&c->build[job - 1], tasks);
    c->task_us[job] = task_us;
    c->left[job] = tasks;
    event.u.submit.client = client;
    event.u.submit.key_lo = job;
    event.u.submit.graph = build_graph(&c->build[job - 1]);
    event.u.submit.priority = priority;
    cluster_step(c, &event);
    return job;
}

// Until the next task is over.
static inline void one_over(struct cluster *c)
{
    struct sched_event event = event_of(&c->play, EVENT_TASKS_DONE);
    struct machine *next = NULL;
    uint64_t bytes = 8;
    uint32_t number = 0;

    for (uint32_t w = 1; w <= c->workers; w++) {
        if (c->machine[w].count > 0 && (next == NULL || c->machine[w].free_at < next->free_at)) {
            next = &c->machine[w];
            number = w;
        }
    }
    assert_non_null(next);

    struct queued task = next->queue[next->head];
    struct task_range range = {task.job, task.layer, task.index, 1};

    c->now = next->free_at;
    next->head = (next->head + 1) % QUEUE;
    next->count--;
    if (next->count > 0) {
        next->free_at = c->now + c->task_us[next->queue[next->head].job] * next->slow;
    }
    c->run_us[task.job] += c->task_us[task.job] * next->slow;
    next->run_us += c->task_us[task.job] * next->slow;
    next->over++;
    if (--c->left[task.job] == 0) {
        c->over_at[task.job] = c->now;
    }
    event.u.done.worker = number;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = &bytes;
    event.u.done.busy_us = c->task_us[task.job] * next->slow;
    event.u.done.job = task.job;
    cluster_step(c, &event);
}

static inline void until(struct cluster *c, uint64_t now)
{
    while (c->now < now) {
        one_over(c);
    }
}

static inline void until_over(struct cluster *c, uint32_t job)
{
    while (c->left[job] > 0) {
        one_over(c);
    }
}

#endif
