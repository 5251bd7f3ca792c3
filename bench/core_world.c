#include "bench/core_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/core/sched.h"
#include "proto/hash.h"

// Times in ns.
enum {
    CLIENT = 1 << 20,
    LATENCY = 50 * 1000, // between two processes, one way
    TURN = 20 * 1000,    // what a turn of the broker takes, and more for each task
    TURN_TASK = 300,
    PARTITION = 64 * 1024, // bytes, at 10 Gbit/s
    TRANSFER = 52 * 1000,
    SLOW_EVERY = 10,
    SLOW = 2,
    LONG_EVERY = 100,
    LONG = 10,
};

enum happening_type { HAPPENS_RUN, HAPPENS_DROP, HAPPENS_END, HAPPENS_WAKE, HAPPENS_NOTE, HAPPENS_TURN };

struct happening {
    uint64_t at, number; // those of one time in the order in which they were posted
    enum happening_type type;
    uint32_t worker;
    uint32_t layer, first, count;
    bool done; // NOTE: done, or given back
};

struct item {
    uint32_t layer, index;
    uint64_t ready_at; // all that is elsewhere has arrived
};

struct host {
    struct item *queue;
    uint32_t head, count, capacity;
    bool busy;
    struct item running;
    uint64_t wake_at;
};

struct world {
    const struct core_setting *setting;
    struct core_graph graph;
    uint64_t *base;   // number of each layer's first task among all
    uint32_t *holder; // worker + 1 that has the partition
    uint32_t *place;  // worker + 1 in whose queue it is
    struct host *host;
    struct happening *heap;
    size_t heap_count, heap_capacity;
    uint64_t now, posted, ran, moved;
    // the broker
    struct happening *note;
    size_t notes, note_capacity;
    uint64_t turn_free; // when it can begin the next turn
    bool turn_due;
    uint64_t told; // tasks that it knows are done
    double cpu_s;
    struct sched *sched;
    struct sched_actions actions;
    struct sched_event *event;
    struct task_range *range;
    uint64_t *bytes;
    // the broker of the other policies
    uint32_t *pending; // local inputs that are not done, of each task
    uint32_t *left;    // tasks that are not done, of each layer
    uint32_t *blocked; // whole inputs that are not done, of each layer
    struct edge_index **reverse;
    uint64_t dealt;
};

static void must(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "dray-bench: core: %s\n", what);
        abort();
    }
}

static void *room(size_t count, size_t size)
{
    void *out = calloc(count > 0 ? count : 1, size);

    must(out != NULL, "no memory");
    return out;
}

static double cpu_seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static const Dray__Layer *layer_of(const struct world *world, uint32_t layer)
{
    return world->graph.graph->layer[layer];
}

static bool is_whole(const Dray__Input *input)
{
    return input->pattern == DRAY__PATTERN__ALL || input->pattern == DRAY__PATTERN__BROADCAST;
}

static struct span needs(const struct world *world, uint32_t layer, const Dray__Input *input, uint32_t i)
{
    return input_needs(input, layer_of(world, layer)->tasks, layer_of(world, input->layer)->tasks, i);
}

// ---- what tasks take ---------------------------------------------------------------------------------

static uint64_t length_of(const struct world *world, uint64_t task)
{
    const struct core_setting *setting = world->setting;
    uint64_t dice = hash_mix(task ^ hash_mix(setting->seed));
    uint64_t length = setting->length_ns / 2 + dice % (setting->length_ns + 1);

    return setting->stragglers && (dice >> 40) % LONG_EVERY == 0 ? LONG * length : length;
}

static bool is_slow(const struct world *world, uint32_t worker)
{
    return world->setting->stragglers && worker % SLOW_EVERY == SLOW_EVERY - 1;
}

static uint64_t longest(const struct world *world, const uint64_t *finish, uint32_t layer, uint32_t i)
{
    const Dray__Layer *at = layer_of(world, layer);
    uint64_t most = 0;

    for (size_t k = 0; k < at->n_input; k++) {
        struct span span = needs(world, layer, at->input[k], i);

        for (uint32_t n = 0; n < span.count; n++) {
            uint64_t end = finish[world->base[at->input[k]->layer] + span_at(&span, n)];

            most = end > most ? end : most;
        }
    }
    return most;
}

// The two bounds from below.
static void bounds(const struct world *world, struct core_outcome *out)
{
    uint64_t *finish = room(world->graph.tasks, sizeof(*finish));
    uint64_t work = 0;
    uint64_t speed = 0; // in halves

    for (uint32_t l = 0; l < world->graph.graph->n_layer; l++) {
        const Dray__Layer *layer = layer_of(world, l);
        bool all = layer->n_input > 0 && layer->input[0]->pattern == DRAY__PATTERN__ALL;
        uint64_t before = all ? longest(world, finish, l, 0) : 0;

        for (uint32_t i = 0; i < layer->tasks; i++) {
            uint64_t task = world->base[l] + i;

            finish[task] = length_of(world, task) + (all ? before : longest(world, finish, l, i));
            work += length_of(world, task);
            out->path_ns = finish[task] > out->path_ns ? finish[task] : out->path_ns;
        }
    }
    for (uint32_t w = 0; w < world->setting->workers; w++) {
        speed += is_slow(world, w) ? 1 : SLOW;
    }
    out->share_ns = work * SLOW / speed;
    free(finish);
}

// ---- the clock ---------------------------------------------------------------------------------------

static bool is_before(const struct happening *a, const struct happening *b)
{
    return a->at < b->at || (a->at == b->at && a->number < b->number);
}

static void post(struct world *world, uint64_t delay, struct happening what)
{
    size_t at = world->heap_count++;

    if (world->heap_count > world->heap_capacity) {
        world->heap_capacity = world->heap_capacity * 2 + 1024;
        world->heap = realloc(world->heap, world->heap_capacity * sizeof(*world->heap));
        must(world->heap != NULL, "no memory");
    }
    what.at = world->now + delay;
    what.number = world->posted++;
    while (at > 0 && is_before(&what, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = what;
}

static bool next(struct world *world, struct happening *out)
{
    struct happening last;
    size_t at = 0;

    if (world->heap_count == 0) {
        return false;
    }
    *out = world->heap[0];
    last = world->heap[--world->heap_count];
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < world->heap_count && is_before(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (child >= world->heap_count || !is_before(&world->heap[child], &last)) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    world->now = out->at;
    return true;
}

// ---- workers -----------------------------------------------------------------------------------------

static void tell(struct world *world, uint32_t worker, struct item item, bool done)
{
    post(world, LATENCY,
         (struct happening){.type = HAPPENS_NOTE,
                            .worker = worker,
                            .layer = item.layer,
                            .first = item.index,
                            .count = 1,
                            .done = done});
}

enum input_state { INPUT_HERE, INPUT_ELSEWHERE, INPUT_COMING, INPUT_NOT };

static enum input_state input_state(const struct world *world, uint32_t worker, uint64_t task)
{
    if (world->holder[task] != 0) {
        return world->holder[task] == worker + 1 ? INPUT_HERE : INPUT_ELSEWHERE;
    }
    return world->place[task] == worker + 1 ? INPUT_COMING : INPUT_NOT;
}

// Local inputs of a task in each state.
static void count_inputs(const struct world *world, uint32_t worker, struct item item, uint64_t in[4])
{
    const Dray__Layer *layer = layer_of(world, item.layer);

    memset(in, 0, 4 * sizeof(*in));
    for (size_t k = 0; k < layer->n_input; k++) {
        const Dray__Input *input = layer->input[k];

        if (is_whole(input)) {
            continue;
        }
        struct span span = needs(world, item.layer, input, item.index);

        for (uint32_t n = 0; n < span.count; n++) {
            in[input_state(world, worker, world->base[input->layer] + span_at(&span, n))]++;
        }
    }
}

static void start(struct world *world, uint32_t worker)
{
    struct host *host = &world->host[worker];
    uint64_t soonest = UINT64_MAX;
    uint64_t in[4];

    for (uint32_t k = host->head; !host->busy && k < host->count; k++) {
        struct item item = host->queue[k];
        uint64_t task = world->base[item.layer] + item.index;

        if (item.ready_at > world->now) {
            soonest = item.ready_at < soonest ? item.ready_at : soonest;
            continue;
        }
        count_inputs(world, worker, item, in);
        if (in[INPUT_COMING] > 0) {
            continue;
        }
        memmove(host->queue + host->head + 1, host->queue + host->head,
                (k - host->head) * sizeof(*host->queue));
        host->head++;
        host->busy = true;
        host->running = item;
        post(world, length_of(world, task) * (is_slow(world, worker) ? SLOW : 1),
             (struct happening){.type = HAPPENS_END, .worker = worker});
    }
    if (!host->busy && soonest != UINT64_MAX && (host->wake_at <= world->now || soonest < host->wake_at)) {
        host->wake_at = soonest;
        post(world, soonest - world->now, (struct happening){.type = HAPPENS_WAKE, .worker = worker});
    }
}

static void enqueue(struct world *world, uint32_t worker, uint32_t layer, uint32_t index)
{
    struct host *host = &world->host[worker];
    struct item item = {layer, index, world->now};
    uint64_t task = world->base[layer] + index;
    const Dray__Layer *graph = layer_of(world, layer);
    uint64_t in[4];

    must(world->holder[task] == 0 && world->place[task] == 0, "a task was given to two workers");
    count_inputs(world, worker, item, in);
    if (in[INPUT_NOT] > 0) { // what it waits for was given back meanwhile
        tell(world, worker, item, false);
        return;
    }
    // Of whole inputs each task takes its share.
    for (size_t k = 0; k < graph->n_input; k++) {
        in[INPUT_ELSEWHERE] += is_whole(graph->input[k]) && world->setting->workers > 1 ? 1 : 0;
    }
    if (in[INPUT_ELSEWHERE] > 0) {
        item.ready_at += 2 * LATENCY + in[INPUT_ELSEWHERE] * TRANSFER;
        world->moved += in[INPUT_ELSEWHERE];
    }
    if (host->head > 0 && host->count == host->capacity) {
        host->count -= host->head;
        memmove(host->queue, host->queue + host->head, host->count * sizeof(*host->queue));
        host->head = 0;
    }
    if (host->count == host->capacity) {
        host->capacity = host->capacity * 2 + 16;
        host->queue = realloc(host->queue, host->capacity * sizeof(*host->queue));
        must(host->queue != NULL, "no memory");
    }
    world->place[task] = worker + 1;
    host->queue[host->count++] = item;
}

static void host_run(struct world *world, const struct happening *what)
{
    for (uint32_t n = 0; n < what->count; n++) {
        enqueue(world, what->worker, what->layer, what->first + n);
    }
    start(world, what->worker);
}

// What has not begun goes back, and what waits for it.
static void host_drop(struct world *world, const struct happening *what)
{
    struct host *host = &world->host[what->worker];
    uint32_t kept = host->head;
    uint64_t in[4];

    for (uint32_t k = host->head; k < host->count; k++) {
        struct item item = host->queue[k];
        bool named = item.layer == what->layer && item.index - what->first < what->count;

        count_inputs(world, what->worker, item, in);
        if (named || in[INPUT_NOT] > 0) {
            world->place[world->base[item.layer] + item.index] = 0;
            tell(world, what->worker, item, false);
        } else {
            host->queue[kept++] = item;
        }
    }
    host->count = kept;
}

static void host_end(struct world *world, const struct happening *what)
{
    struct host *host = &world->host[what->worker];
    uint64_t task = world->base[host->running.layer] + host->running.index;

    world->holder[task] = what->worker + 1;
    world->place[task] = 0;
    world->ran++;
    host->busy = false;
    tell(world, what->worker, host->running, true);
    start(world, what->worker);
}

// ---- the broker with the scheduler --------------------------------------------------------------------

static void step(struct world *world, const struct sched_event *events, size_t count)
{
    double start = cpu_seconds();

    must(sched_step(world->sched, events, count, &world->actions) == 0, "no memory");
    world->cpu_s += cpu_seconds() - start;
    for (size_t k = 0; k < world->actions.count; k++) {
        const struct sched_action *action = &world->actions.action[k];

        if (action->type == ACTION_RUN || action->type == ACTION_DROP) {
            post(world, world->turn_free - world->now + LATENCY,
                 (struct happening){.type = action->type == ACTION_RUN ? HAPPENS_RUN : HAPPENS_DROP,
                                    .worker = action->peer - 1,
                                    .layer = action->range.layer,
                                    .first = action->range.first,
                                    .count = action->range.count});
        }
    }
}

static void sched_begin(struct world *world)
{
    struct sched_options options;
    struct sched_event *join = room(world->setting->workers + 1, sizeof(*join));
    struct sched_event submit = {.type = EVENT_SUBMIT};
    double joined;

    sched_options_default(&options);
    world->sched = sched_create(&options);
    must(world->sched != NULL, "no memory");
    sched_actions_init(&world->actions);
    join[0] = (struct sched_event){.type = EVENT_CLIENT_JOINED, .u.client = {.client = CLIENT}};
    for (uint32_t w = 0; w < world->setting->workers; w++) {
        join[w + 1].type = EVENT_WORKER_JOINED;
        join[w + 1].u.joined.worker = w + 1;
        join[w + 1].u.joined.threads = 1;
        join[w + 1].u.joined.shared_files = true;
        join[w + 1].u.joined.name = "w";
    }
    step(world, join, world->setting->workers + 1);
    free(join);
    joined = world->cpu_s;
    submit.u.submit.client = CLIENT;
    submit.u.submit.graph = world->graph.graph;
    step(world, &submit, 1);
    world->cpu_s -= joined;
}

// What arrived since the last turn, one event each.
static void sched_turn(struct world *world)
{
    for (size_t k = 0; k < world->notes; k++) {
        const struct happening *note = &world->note[k];
        struct sched_event *event = &world->event[k];

        memset(event, 0, sizeof(*event));
        world->range[k] = (struct task_range){1, note->layer, note->first, note->count};
        event->now_us = world->now / 1000;
        if (note->done) {
            event->type = EVENT_TASKS_DONE;
            event->u.done.worker = note->worker + 1;
            event->u.done.ranges = 1;
            event->u.done.range = &world->range[k];
            event->u.done.bytes = world->bytes;
            event->u.done.job = 1;
            event->u.done.busy_us = length_of(world, world->base[note->layer] + note->first) *
                                    (is_slow(world, note->worker) ? SLOW : 1) / 1000;
        } else {
            event->type = EVENT_TASKS_DROPPED;
            event->u.dropped.worker = note->worker + 1;
            event->u.dropped.ranges = 1;
            event->u.dropped.range = &world->range[k];
        }
    }
    step(world, world->event, world->notes);
}

// ---- the broker of the other policies -------------------------------------------------------------------

static void deal(struct world *world, uint32_t layer, uint32_t i)
{
    uint64_t dice = hash_mix(hash_mix(world->setting->seed) + world->dealt);
    uint32_t workers = world->setting->workers;
    uint32_t worker = (uint32_t)((world->setting->policy == CORE_RANDOM ? dice : world->dealt) % workers);

    world->dealt++;
    post(world, world->turn_free - world->now + LATENCY,
         (struct happening){.type = HAPPENS_RUN, .worker = worker, .layer = layer, .first = i, .count = 1});
}

static void deal_begin(struct world *world)
{
    const Dray__Graph *graph = world->graph.graph;

    world->pending = room(world->graph.tasks, sizeof(*world->pending));
    world->left = room(graph->n_layer, sizeof(*world->left));
    world->blocked = room(graph->n_layer, sizeof(*world->blocked));
    world->reverse = room(graph->n_layer, sizeof(struct edge_index *));
    for (uint32_t l = 0; l < graph->n_layer; l++) {
        const Dray__Layer *layer = graph->layer[l];
        const Dray__Input *input = layer->n_input > 0 ? layer->input[0] : NULL;

        must(layer->n_input < 2, "a graph of the benchmark has more inputs than one");
        world->left[l] = layer->tasks;
        world->blocked[l] = input != NULL && is_whole(input) ? 1 : 0;
        if (input != NULL && input->pattern == DRAY__PATTERN__EXPLICIT) {
            world->reverse[l] = edge_index_create(input, layer->tasks, graph->layer[input->layer]->tasks);
            must(world->reverse[l] != NULL, "no memory");
        }
        for (uint32_t i = 0; i < layer->tasks; i++) {
            uint32_t *pending = &world->pending[world->base[l] + i];

            *pending = input == NULL || is_whole(input) ? 0 : needs(world, l, input, i).count;
            if (*pending == 0 && world->blocked[l] == 0) {
                deal(world, l, i);
            }
        }
    }
}

static void deal_dependents(struct world *world, uint32_t layer, uint32_t i)
{
    const Dray__Graph *graph = world->graph.graph;
    // In these graphs a layer is read by itself or by the next one.
    uint32_t end = layer + 2 < graph->n_layer ? layer + 2 : (uint32_t)graph->n_layer;

    for (uint32_t l = layer; l < end; l++) {
        const Dray__Input *input = graph->layer[l]->n_input > 0 ? graph->layer[l]->input[0] : NULL;

        if (input == NULL || input->layer != layer) {
            continue;
        }
        if (is_whole(input)) {
            world->blocked[l] -= world->left[layer] == 0 ? 1 : 0;
            for (uint32_t t = 0; world->blocked[l] == 0 && t < graph->layer[l]->tasks; t++) {
                deal(world, l, t);
            }
            continue;
        }
        struct span span =
            input_dependents(input, graph->layer[l]->tasks, graph->layer[layer]->tasks, world->reverse[l], i);

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t t = span_at(&span, n);

            if (--world->pending[world->base[l] + t] == 0) {
                deal(world, l, t);
            }
        }
    }
}

static void deal_turn(struct world *world)
{
    for (size_t k = 0; k < world->notes; k++) {
        const struct happening *note = &world->note[k];

        world->left[note->layer]--;
        deal_dependents(world, note->layer, note->first);
    }
}

// ---- the broker's turns -------------------------------------------------------------------------------

static void broker_hear(struct world *world, const struct happening *note)
{
    if (world->notes == world->note_capacity) {
        world->note_capacity = world->note_capacity * 2 + 256;
        world->note = realloc(world->note, world->note_capacity * sizeof(*world->note));
        world->event = realloc(world->event, world->note_capacity * sizeof(*world->event));
        world->range = realloc(world->range, world->note_capacity * sizeof(*world->range));
        must(world->note != NULL && world->event != NULL && world->range != NULL, "no memory");
    }
    world->note[world->notes++] = *note;
    if (!world->turn_due) {
        world->turn_due = true;
        post(world, world->turn_free > world->now ? world->turn_free - world->now : 0,
             (struct happening){.type = HAPPENS_TURN});
    }
}

static void broker_turn(struct world *world)
{
    world->turn_due = false;
    world->turn_free = world->now + TURN + world->notes * TURN_TASK;
    for (size_t k = 0; k < world->notes; k++) {
        world->told += world->note[k].done ? 1 : 0;
    }
    if (world->setting->policy == CORE_DRAY) {
        sched_turn(world);
    } else {
        deal_turn(world);
    }
    world->notes = 0;
}

static void world_init(struct world *world, const struct core_setting *setting)
{
    uint64_t tasks = 0;

    *world = (struct world){.setting = setting};
    core_graph_init(&world->graph, setting->shape, setting->tasks, setting->workers);
    world->base = room(world->graph.graph->n_layer, sizeof(*world->base));
    for (uint32_t l = 0; l < world->graph.graph->n_layer; l++) {
        world->base[l] = tasks;
        tasks += layer_of(world, l)->tasks;
    }
    world->holder = room(tasks, sizeof(*world->holder));
    world->place = room(tasks, sizeof(*world->place));
    world->host = room(setting->workers, sizeof(*world->host));
    world->bytes = room(1, sizeof(*world->bytes));
    world->bytes[0] = PARTITION;
}

static void world_fini(struct world *world)
{
    for (uint32_t w = 0; w < world->setting->workers; w++) {
        free(world->host[w].queue);
    }
    for (uint32_t l = 0; world->reverse != NULL && l < world->graph.graph->n_layer; l++) {
        edge_index_destroy(world->reverse[l]);
    }
    if (world->sched != NULL) {
        sched_destroy(world->sched);
        sched_actions_fini(&world->actions);
    }
    core_graph_fini(&world->graph);
    free(world->base);
    free(world->holder);
    free(world->place);
    free(world->host);
    free(world->heap);
    free(world->note);
    free(world->event);
    free(world->range);
    free(world->bytes);
    free(world->pending);
    free(world->left);
    free(world->blocked);
    free(world->reverse);
}

void core_world_run(const struct core_setting *setting, struct core_outcome *out)
{
    struct world world;
    struct happening what;

    world_init(&world, setting);
    *out = (struct core_outcome){.tasks = world.graph.tasks};
    bounds(&world, out);
    if (setting->policy == CORE_DRAY) {
        sched_begin(&world);
    } else {
        deal_begin(&world);
    }
    while (world.told < out->tasks && next(&world, &what)) {
        switch (what.type) {
        case HAPPENS_RUN:
            host_run(&world, &what);
            break;
        case HAPPENS_DROP:
            host_drop(&world, &what);
            break;
        case HAPPENS_END:
            host_end(&world, &what);
            break;
        case HAPPENS_WAKE:
            start(&world, what.worker);
            break;
        case HAPPENS_NOTE:
            broker_hear(&world, &what);
            break;
        case HAPPENS_TURN:
            broker_turn(&world);
            break;
        }
        out->makespan_ns = world.now;
    }
    must(world.told == out->tasks && world.ran == out->tasks, "not every task ran once");
    out->cost_ns = world.cpu_s * 1e9 / (double)out->tasks;
    out->moved = world.moved;
    world_fini(&world);
}
