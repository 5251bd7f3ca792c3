#include "bench/core_drive.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/core/sched.h"

enum { CLIENT = 1 << 20, SIZES = 1 << 17 };

struct drive {
    struct sched *sched;
    struct sched_actions actions;
    struct sched_event *event;
    struct task_range *range;
    size_t events, capacity;
    uint64_t *bytes; // of results: 8 each
    uint64_t ran;
};

static void must(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "dray-bench: core: %s\n", what);
        abort();
    }
}

static double cpu_seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void step(struct drive *drive, const struct sched_event *events, size_t count)
{
    must(sched_step(drive->sched, events, count, &drive->actions) == 0, "no memory");
}

// What was handed out is done, a microsecond each; false: nothing was.
static bool answer(struct drive *drive)
{
    drive->events = 0;
    if (drive->actions.count > drive->capacity) {
        drive->capacity = drive->actions.count * 2;
        drive->event = realloc(drive->event, drive->capacity * sizeof(*drive->event));
        drive->range = realloc(drive->range, drive->capacity * sizeof(*drive->range));
        must(drive->event != NULL && drive->range != NULL, "no memory");
    }
    for (size_t k = 0; k < drive->actions.count; k++) {
        const struct sched_action *action = &drive->actions.action[k];
        struct sched_event *event = &drive->event[drive->events];

        if (action->type != ACTION_RUN) {
            continue;
        }
        must(action->range.count <= SIZES, "a range is longer than a worker's queue");
        memset(event, 0, sizeof(*event));
        drive->range[drive->events] = action->range;
        event->type = EVENT_TASKS_DONE;
        event->u.done.worker = action->peer;
        event->u.done.ranges = 1;
        event->u.done.range = &drive->range[drive->events];
        event->u.done.bytes = drive->bytes;
        event->u.done.busy_us = action->range.count;
        event->u.done.job = action->range.job;
        drive->ran += action->range.count;
        drive->events++;
    }
    return drive->events > 0;
}

static void begin(struct drive *drive)
{
    struct sched_options options;
    struct sched_event client = {.type = EVENT_CLIENT_JOINED, .u.client = {.client = CLIENT}};

    memset(drive, 0, sizeof(*drive));
    sched_options_default(&options);
    drive->sched = sched_create(&options);
    drive->bytes = malloc(SIZES * sizeof(*drive->bytes));
    must(drive->sched != NULL && drive->bytes != NULL, "no memory");
    for (size_t k = 0; k < SIZES; k++) {
        drive->bytes[k] = 8;
    }
    sched_actions_init(&drive->actions);
    step(drive, &client, 1);
}

static void join_all(struct drive *drive, uint32_t workers)
{
    struct sched_event *join = calloc(workers, sizeof(*join));

    must(join != NULL, "no memory");
    for (uint32_t w = 0; w < workers; w++) {
        join[w].type = EVENT_WORKER_JOINED;
        join[w].u.joined.worker = w + 1;
        join[w].u.joined.threads = 1;
        join[w].u.joined.shared_files = true;
        join[w].u.joined.name = "w";
    }
    step(drive, join, workers);
    free(join);
}

void core_drive(const struct core_shape *shape, uint32_t tasks, uint32_t workers, struct core_figures *out)
{
    struct core_graph graph;
    struct drive drive;
    struct sched_counts counts;
    struct sched_event submit = {.type = EVENT_SUBMIT};
    size_t before;
    double start, submitted;

    begin(&drive);
    before = allocated();
    core_graph_init(&graph, shape, tasks, workers);
    *out = (struct core_figures){.tasks = graph.tasks, .edges = graph.edges};
    submit.u.submit.client = CLIENT;
    submit.u.submit.graph = graph.graph;
    submit.u.submit.arena = &graph.arena;
    start = cpu_seconds();
    step(&drive, &submit, 1);
    submitted = cpu_seconds();
    core_graph_fini(&graph);
    out->submit_s = submitted - start;
    out->bytes = (double)(allocated() - before) / (double)out->tasks;
    start = cpu_seconds();
    join_all(&drive, workers);
    while (answer(&drive)) {
        step(&drive, drive.event, drive.events);
        out->turns++;
    }
    out->run_s = cpu_seconds() - start;
    sched_counts(drive.sched, &counts);
    must(counts.tasks_done == out->tasks && drive.ran == out->tasks && counts.recomputed == 0,
         "not every task was done once");
    out->transitions = counts.transitions;
    sched_destroy(drive.sched);
    sched_actions_fini(&drive.actions);
    free(drive.event);
    free(drive.range);
    free(drive.bytes);
}
