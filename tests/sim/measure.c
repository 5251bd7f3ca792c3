#include "tests/sim/measure.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/core/sched.h"
#include "tests/sim/build.h"
#include "tests/sim/random.h"

enum { DEPTH = 511, CLIENT = 1000000 };

struct bench {
    struct sched *sched;
    struct sched_actions actions;
    struct sched_event *event;
    struct task_range *range;
    size_t events, capacity;
    uint64_t *bytes;
};

static double cpu_seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void must(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "measure: %s\n", what);
        abort();
    }
}

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void one(struct bench *bench, const struct sched_event *event)
{
    must(sched_step(bench->sched, event, 1, &bench->actions) == 0, "no memory");
}

// Every task that was handed out is done; false: none was.
static bool answer(struct bench *bench)
{
    bench->events = 0;
    if (bench->actions.count > bench->capacity) {
        bench->capacity = bench->actions.count * 2;
        bench->event = realloc(bench->event, bench->capacity * sizeof(*bench->event));
        bench->range = realloc(bench->range, bench->capacity * sizeof(*bench->range));
        must(bench->event != NULL && bench->range != NULL, "no memory");
    }
    for (size_t k = 0; k < bench->actions.count; k++) {
        const struct sched_action *action = &bench->actions.action[k];

        if (action->type != ACTION_RUN) {
            continue;
        }
        struct sched_event *event = &bench->event[bench->events];

        memset(event, 0, sizeof(*event));
        bench->range[bench->events] = action->range;
        event->type = EVENT_TASKS_DONE;
        event->u.done.worker = action->peer;
        event->u.done.ranges = 1;
        event->u.done.range = &bench->range[bench->events];
        event->u.done.bytes = bench->bytes;
        bench->events++;
    }
    return bench->events > 0;
}

static void measure(const char *name, struct build *build, uint32_t workers)
{
    struct bench bench;
    struct sched_options options;
    struct sched_event event;
    const Dray__Graph *graph = build_graph(build);
    uint64_t tasks = 0;

    memset(&bench, 0, sizeof(bench));
    for (size_t l = 0; l < graph->n_layer; l++) {
        tasks += graph->layer[l]->tasks;
    }
    sched_options_default(&options);
    options.queue_depth = DEPTH;
    bench.sched = sched_create(&options);
    bench.bytes = calloc(1 << 17, sizeof(*bench.bytes));
    must(bench.sched != NULL && bench.bytes != NULL, "no memory");
    sched_actions_init(&bench.actions);
    event = (struct sched_event){.type = EVENT_CLIENT_JOINED, .u.client = {CLIENT}};
    one(&bench, &event);
    event = (struct sched_event){.type = EVENT_SUBMIT};
    event.u.submit.client = CLIENT;
    event.u.submit.graph = graph;
    size_t before = allocated();
    double start = cpu_seconds();

    one(&bench, &event);
    double submitted = cpu_seconds();
    size_t after = allocated();

    struct sched_event *joins = calloc(workers, sizeof(*joins));

    must(joins != NULL, "no memory");
    for (uint32_t w = 0; w < workers; w++) {
        joins[w].type = EVENT_WORKER_JOINED;
        joins[w].u.joined.worker = w + 1;
        joins[w].u.joined.threads = 1;
        joins[w].u.joined.shared_files = true;
        joins[w].u.joined.name = "w";
    }
    double begin = cpu_seconds();

    must(sched_step(bench.sched, joins, workers, &bench.actions) == 0, "no memory");
    while (answer(&bench)) {
        must(sched_step(bench.sched, bench.event, bench.events, &bench.actions) == 0, "no memory");
    }
    double end = cpu_seconds();
    struct sched_counts counts;

    sched_counts(bench.sched, &counts);
    must(counts.tasks_done == tasks && counts.recomputed == 0, "not all tasks are done");
    printf("%-26s %10llu tasks %6u workers   submit %6.1f ns   run %6.1f ns   %5.1f bytes a task\n", name,
           (unsigned long long)tasks, workers, (submitted - start) * 1e9 / (double)tasks,
           (end - begin) * 1e9 / (double)tasks, (double)(after - before) / (double)tasks);
    sched_destroy(bench.sched);
    sched_actions_fini(&bench.actions);
    free(joins);
    free(bench.event);
    free(bench.range);
    free(bench.bytes);
}

static void grid(struct build *build, uint32_t layers, uint32_t width, Dray__Pattern pattern)
{
    build_init(build);
    for (uint32_t l = 0; l < layers; l++) {
        uint32_t layer = build_layer(build, width);

        if (l > 0) {
            build_input(build, layer, layer - 1, pattern, pattern == DRAY__PATTERN__WINDOW ? 1 : 0);
        }
    }
    build_wanted(build, layers - 1);
}

static void tree(struct build *build, uint32_t tasks)
{
    uint32_t width = tasks / 2;

    build_init(build);
    build_layer(build, width);
    while (width > 1) {
        uint32_t layer = build_layer(build, (width + 1) / 2);

        build_input(build, layer, layer - 1, DRAY__PATTERN__FAN_IN, 2);
        width = (width + 1) / 2;
    }
    build_wanted(build, (uint32_t)build->graph.n_layer - 1);
}

static void three_edges(struct build *build, uint32_t tasks)
{
    struct random random = {1};
    uint32_t half = tasks / 2;
    Dray__Input *input;

    build_init(build);
    build_layer(build, half);
    build_layer(build, half);
    input = build_input(build, 1, 0, DRAY__PATTERN__EXPLICIT, 0);
    input->offset = build_alloc(build, half + 1, sizeof(uint32_t));
    input->target = build_alloc(build, (size_t)half * 3, sizeof(uint32_t));
    input->n_offset = half + 1;
    input->n_target = (size_t)half * 3;
    for (uint32_t i = 0; i <= half; i++) {
        input->offset[i] = 3 * i;
    }
    for (size_t n = 0; n < input->n_target; n++) {
        input->target[n] = n % 3 == 0 ? (uint32_t)(n / 3) : random_below(&random, half);
    }
    build_wanted(build, 1);
}

void measure_all(uint32_t tasks)
{
    struct build build;

    build_init(&build);
    build_wanted(&build, build_layer(&build, tasks));
    measure("independent, wanted", &build, 2);
    measure("independent, wanted", &build, 100);
    build_fini(&build);
    build_init(&build);
    build_layer(&build, tasks);
    measure("independent, for effect", &build, 2);
    build_fini(&build);
    grid(&build, 100, tasks / 100, DRAY__PATTERN__ONE_TO_ONE);
    measure("chains of 100", &build, 2);
    measure("chains of 100", &build, 100);
    build_fini(&build);
    grid(&build, 100, tasks / 100, DRAY__PATTERN__WINDOW);
    measure("stencil of 3, 100 deep", &build, 2);
    build_fini(&build);
    tree(&build, tasks);
    measure("tree of 2", &build, 2);
    build_fini(&build);
    three_edges(&build, tasks);
    measure("half with 3 explicit edges", &build, 2);
    build_fini(&build);
}
