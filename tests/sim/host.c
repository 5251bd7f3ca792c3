// A worker process: an agent, threads, a store, an exchange socket.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FETCH_FAULT_PERCENT = 1,
    NO_MEMORY_PERCENT = 40,
    SLOW_PERCENT = 4,
    SLOW_TIMES = 300,
    REFUSED_PERCENT = 5,
    PARTITION_COSTS = 72
};

static struct map_key store_key(struct task_key key)
{
    return map_key_task(key.job, key.layer, key.index);
}

uint64_t host_value(const struct host *host, struct task_key key)
{
    return (uint64_t)(uintptr_t)map_get(&host->store, store_key(key));
}

static void store_put(struct host *host, struct task_key key, uint64_t value)
{
    if (map_put(&host->store, store_key(key), (void *)(uintptr_t)value) < 0) {
        abort();
    }
}

// What it has for tasks that ask for something.
static void offer(struct world *world, struct host *host, bool able)
{
    if (!world->options.wide || able) {
        host->labels = (1 << PLAN_LABELS) - 1;
    } else {
        host->labels = random_below(&world->random, 1 << PLAN_LABELS);
    }
    for (int k = 0; k < PLAN_RESOURCES; k++) {
        host->amount[k] =
            !world->options.wide || able ? AMOUNT_MAX : random_below(&world->random, AMOUNT_MAX + 1);
    }
}

void host_start(struct world *world, unsigned files, bool shared, bool able)
{
    struct host *host = must(calloc(1, sizeof(*host)));
    struct agent_resource resource[PLAN_RESOURCES];
    struct agent_options options;

    host->number = world->hosts;
    host->alive = true;
    host->threads = random_between(&world->random, 1, world->threads_max);
    host->shared = shared;
    host->files = files;
    offer(world, host, able);
    if (world->options.leaving && !able && random_percent(&world->random, 50)) {
        host->memory = PARTITION_COSTS * random_between(&world->random, 1, 40);
    }
    for (int k = 0; k < PLAN_RESOURCES; k++) {
        resource[k] = (struct agent_resource){plan_resource[k], host->amount[k]};
    }
    options.threads = host->threads;
    options.fetches_max = random_between(&world->random, 1, 8);
    options.resources = PLAN_RESOURCES;
    options.resource = resource;
    host->agent = must(agent_create(&options));
    agent_actions_init(&host->actions);
    world->host[world->hosts++] = host;
    if (world->options.apart) {
        apart_host_starts(world, host);
    }
    host_connect(world, host);
}

static void send_sources(struct world *world, struct host *host)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    const char **name = must(calloc(PLAN_FILES, sizeof(*name)));
    size_t count = 0;

    for (int f = 0; f < PLAN_FILES; f++) {
        if ((host->files >> f & 1) != 0) {
            name[count++] = plan_file[f];
        }
    }
    letter->event.type = EVENT_SOURCES;
    letter->event.u.sources.worker = host->link->peer;
    letter->event.u.sources.count = count;
    letter->event.u.sources.name = name;
    letter->event.u.sources.path = name;
    world_send_broker(world, host->link, letter);
}

static void say_leaving(struct world *world, struct host *host)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    letter->event.type = EVENT_WORKER_LEAVING;
    letter->event.u.left.worker = host->link->peer;
    world_send_broker(world, host->link, letter);
}

void host_leave(struct world *world, struct host *host)
{
    struct agent_event event = {.type = AGENT_LEAVING};

    if (host->leaving) {
        return;
    }
    host->leaving = true;
    // Somebody may be there to take what it has, or come, or not.
    host->leave_by = world->options.leaving ? UINT64_MAX : world->now + random_below(&world->random, 60000);
    if (host->link != NULL) {
        say_leaving(world, host);
    }
    host_events(world, host, &event, 1);
}

// Labels and amounts last as long as the world.
static void set_offer(const struct host *host, struct sched_event *event)
{
    static char *label[1 << PLAN_LABELS][PLAN_LABELS];
    static Dray__Resource resource[PLAN_RESOURCES][AMOUNT_MAX + 1];
    static Dray__Resource *some[AMOUNT_MAX + 1][AMOUNT_MAX + 1][PLAN_RESOURCES];
    Dray__Resource **list = some[host->amount[0]][host->amount[1]];

    for (int k = 0; k < PLAN_LABELS; k++) {
        if ((host->labels >> k & 1) != 0) {
            label[host->labels][event->u.joined.labels++] = plan_label[k];
        }
    }
    for (int k = 0; k < PLAN_RESOURCES; k++) {
        Dray__Resource *one = &resource[k][host->amount[k]];

        if (host->amount[k] > 0) {
            dray__resource__init(one);
            one->name = plan_resource[k];
            one->amount = host->amount[k];
            list[event->u.joined.resources++] = one;
        }
    }
    event->u.joined.label = label[host->labels];
    event->u.joined.resource = list;
}

void host_connect(struct world *world, struct host *host)
{
    static const char *const name[] = {"ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"};
    struct letter *letter;

    if (world->down) {
        letter = letter_new(LETTER_HOST_CONNECT);
        letter->host = host;
        world_post(world, letter, random_below(&world->random, 2000) + 1);
        return;
    }
    letter = letter_new(LETTER_TO_BROKER);
    host->link = world_link(world);
    host->link->host = host;
    host->link->peer = world->next_peer++;
    letter->event.type = EVENT_WORKER_JOINED;
    letter->event.u.joined.worker = host->link->peer;
    letter->event.u.joined.threads = host->threads;
    letter->event.u.joined.shared_files = host->shared;
    letter->event.u.joined.memory = host->memory;
    letter->event.u.joined.name = name[host->number % 8];
    letter->event.u.joined.incarnation = host->number + 1;
    set_offer(host, &letter->event);
    world_send_broker(world, host->link, letter);
    if (host->leaving) {
        say_leaving(world, host);
    }
    if (!host->shared) {
        send_sources(world, host);
    }
}

static void forget_runs(struct host *host)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        free(host->run[r].task);
        free(host->run[r].events);
    }
    memset(host->run, 0, sizeof(host->run));
    free(host->later);
    host->later = NULL;
    host->later_count = 0;
}

void host_die(struct world *world, struct host *host)
{
    if (!host->alive) {
        return;
    }
    host->alive = false;
    if (host->link != NULL) {
        world_cut(world, host->link);
    }
    agent_destroy(host->agent);
    host->agent = NULL;
    map_fini(&host->store);
    map_fini(&host->forgotten);
    memset(&host->store, 0, sizeof(host->store));
    memset(&host->forgotten, 0, sizeof(host->forgotten));
    forget_runs(host);
    apart_host_dies(host);
}

void host_free(struct host *host)
{
    agent_destroy(host->agent);
    agent_actions_fini(&host->actions);
    map_fini(&host->store);
    map_fini(&host->forgotten);
    forget_runs(host);
    apart_host_dies(host);
    free(host);
}

// ---- bundles: a thread runs its tasks one after another ----------------------------------------------

static struct run *run_find(struct host *host, uint32_t bundle)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        if (host->run[r].bundle == bundle) {
            return &host->run[r];
        }
    }
    return NULL;
}

static void post_over(struct world *world, struct host *host, const struct run *run, uint64_t delay)
{
    struct letter *letter = letter_new(LETTER_TASK_OVER);

    letter->host = host;
    letter->key.index = run->bundle;
    letter->number = run->number;
    world_post(world, letter, delay);
}

static struct agent_event *say(struct run *run, enum agent_event_type type)
{
    struct agent_event *event;

    run->events = must(realloc(run->events, (run->event_count + 1) * sizeof(*event)));
    event = &run->events[run->event_count++];
    memset(event, 0, sizeof(*event));
    event->type = type;
    return event;
}

static void say_range(struct run *run, enum agent_event_type type, const struct task_key *key)
{
    struct agent_event *last = run->event_count > 0 ? &run->events[run->event_count - 1] : NULL;

    if (last != NULL && last->type == type && last->u.range.range.job == key->job &&
        last->u.range.range.layer == key->layer &&
        last->u.range.range.first + last->u.range.range.count == key->index) {
        last->u.range.range.count++;
        last->u.range.busy_ns += run->task_ns;
        return;
    }
    last = say(run, type);
    last->u.range.range = (struct agent_range){key->job, key->layer, key->index, 1};
    last->u.range.busy_ns = type == AGENT_TASKS_DONE ? run->task_ns : 0;
}

// What was gathered goes to the agent after what it is busy with.
static void hand_over(struct host *host, struct run *run)
{
    host->later =
        must(realloc(host->later, (host->later_count + run->event_count + 1) * sizeof(*host->later)));
    if (run->event_count > 0) {
        memcpy(host->later + host->later_count, run->events, run->event_count * sizeof(*run->events));
    }
    host->later_count += run->event_count;
    run->event_count = 0;
}

// The value of a task from its inputs; false: one of them is not there.
static bool compute(struct world *world, const struct host *host, struct task_key key, uint64_t *value)
{
    const struct plan *plan = world_plan(world, key.job);
    const Dray__Layer *layer = plan->graph->layer[key.layer];

    *value = plan_begin(key.layer, key.index);
    for (size_t k = 0; k < layer->n_input; k++) {
        const Dray__Input *input = layer->input[k];
        uint32_t job = input->has_job ? input->job : key.job;
        uint32_t tasks;

        plan_source(plan, input, &tasks);

        struct span span = input_needs(input, layer->tasks, tasks, key.index);

        for (uint32_t s = 0; s < span.count; s++) {
            uint64_t one = host_value(host, (struct task_key){job, input->layer, span_at(&span, s)});

            if (one == 0) {
                return false;
            }
            *value = plan_add(*value, one);
        }
    }
    return true;
}

// Until one has begun, or the bundle is over.
static void run_next(struct world *world, struct host *host, struct run *run)
{
    for (; run->at < run->count; run->at++) {
        struct step *task = &run->task[run->at];
        struct plan *plan = world_plan(world, task->key.job);

        if (task->withdrawn) {
            continue; // was said at once
        }
        if (!compute(world, host, task->key, &run->value)) {
            say_range(run, AGENT_TASKS_SKIPPED, &task->key);
            continue;
        }
        // In a mortal world, what is over may be done once more before that is known.
        plan->runs[task->key.layer][task->key.index] += world->options.mortal && plan->over ? 0 : 1;
        task->begun = true;
        uint8_t fails = plan->fails[task->key.layer][task->key.index];

        run->fails = fails == FAILS_ALWAYS || plan->failed[task->key.layer][task->key.index] < fails;
        if (run->fails && fails != FAILS_ALWAYS) {
            plan->failed[task->key.layer][task->key.index]++;
        }
        run->stopped = false;
        run->number = ++host->runs;
        run->task_ns = 1000 * (random_below(&world->random, world->duration_max) + 1);
        if (world->options.slow && random_percent(&world->random, SLOW_PERCENT)) {
            run->task_ns *= 1 + random_below(&world->random, SLOW_TIMES);
        }
        post_over(world, host, run, run->task_ns / 1000);
        return;
    }
    say(run, AGENT_BUNDLE_OVER)->u.bundle = run->bundle;
    hand_over(host, run);
    free(run->task);
    free(run->events);
    memset(run, 0, sizeof(*run));
}

static bool has_label(const struct host *host, const char *name)
{
    bool found = false;

    for (int k = 0; k < PLAN_LABELS; k++) {
        found = found || ((host->labels >> k & 1) != 0 && strcmp(name, plan_label[k]) == 0);
    }
    return found;
}

// The broker gives nobody what he cannot do.
static void check_can(const struct world *world, const struct host *host, const struct agent_range *range)
{
    const Dray__Layer *layer =
        world_plan((struct world *)(uintptr_t)world, range->job)->graph->layer[range->layer];
    bool named = false;
    bool any = false;

    for (size_t k = 0; k < layer->n_worker; k++) {
        bool has = has_label(host, layer->worker[k]);

        if (strncmp(layer->worker[k], "plugin:", 7) == 0) {
            if (!has) {
                world_fail(world, "host %u was given t%u, but lacks the plugin", host->number, range->layer);
            }
        } else {
            any = true;
            named = named || has;
        }
    }
    if (any && !named) {
        world_fail(world, "host %u was given t%u, but is not called so", host->number, range->layer);
    }
    for (size_t k = 0; k < layer->n_resource; k++) {
        int kind = strcmp(layer->resource[k]->name, plan_resource[0]) == 0 ? 0 : 1;

        if (host->amount[kind] < layer->resource[k]->amount) {
            world_fail(world, "host %u was given t%u, but has not enough", host->number, range->layer);
        }
    }
    for (size_t k = 0; !host->shared && k < layer->n_source; k++) {
        const Dray__Source *source = layer->source[k];

        for (int f = 0; f < PLAN_FILES; f++) {
            if (strcmp(source->name, plan_file[f]) == 0 && (host->files >> f & 1) == 0 &&
                source->first < range->first + range->count && range->first < source->first + source->count) {
                world_fail(world, "host %u was given t%u, which reads %s", host->number, range->layer,
                           source->name);
            }
        }
    }
}

// Nor does a host do more at once than it has for: not even while what it was told to stop goes on, or what
// it had from an earlier session.
static void check_amounts(const struct world *world, const struct host *host)
{
    uint32_t taken[PLAN_RESOURCES] = {0};

    for (int r = 0; r < RUNS_MAX; r++) {
        const struct run *run = &host->run[r];
        const struct task_key *key = run->at < run->count ? &run->task[run->at].key : NULL;
        const Dray__Layer *layer =
            run->bundle != 0 && key != NULL
                ? world_plan((struct world *)(uintptr_t)world, key->job)->graph->layer[key->layer]
                : NULL;

        for (size_t k = 0; layer != NULL && k < layer->n_resource; k++) {
            taken[strcmp(layer->resource[k]->name, plan_resource[0]) == 0 ? 0 : 1] +=
                layer->resource[k]->amount;
        }
    }
    for (int k = 0; k < PLAN_RESOURCES; k++) {
        if (taken[k] > host->amount[k]) {
            world_fail(world, "host %u runs what takes %u of %u %s", host->number, taken[k], host->amount[k],
                       plan_resource[k]);
        }
    }
}

static void run_start(struct world *world, struct host *host, const struct agent_action *action)
{
    struct run *run = must(run_find(host, 0));

    run->bundle = action->bundle;
    for (size_t r = 0; r < action->u.ranges; r++) {
        const struct agent_range *range = &action->p.range[r];

        check_can(world, host, range);
        run->task = must(realloc(run->task, (run->count + range->count) * sizeof(*run->task)));
        for (uint32_t i = 0; i < range->count; i++) {
            run->task[run->count++] = (struct step){.key = {range->job, range->layer, range->first + i}};
        }
    }
    check_amounts(world, host);
    run_next(world, host, run);
}

void host_task_over(struct world *world, struct letter *letter)
{
    struct host *host = letter->host;
    struct run *run = host->alive ? run_find(host, letter->key.index) : NULL;
    struct task_key key;

    if (run == NULL || run->number != letter->number) {
        return;
    }
    key = run->task[run->at++].key;

    struct plan *plan = world_plan(world, key.job);

    if (plan->killer_layer == key.layer && plan->killer_index == key.index) {
        host_die(world, host);
        world_post(world, letter_new(LETTER_HOST_START), world_delay(world));
        return;
    }
    if (run->fails || run->stopped) {
        struct agent_event *event = say(run, AGENT_TASK_FAILED);

        event->u.task.key = key;
        event->u.task.code = run->stopped ? ECANCELED : EINVAL;
        event->u.task.text = run->stopped ? "stopped" : "poison";
    } else {
        store_put(host, key, run->value);
        say_range(run, AGENT_TASKS_DONE, &key);
    }
    if (random_percent(&world->random, 30)) {
        hand_over(host, run);
    }
    run_next(world, host, run);
    host_events(world, host, NULL, 0);
}

static bool is_in(const struct agent_range *range, const struct task_key *key)
{
    return key->job == range->job && key->layer == range->layer && key->index >= range->first &&
           key->index - range->first < range->count;
}

// Those that have not begun come back; the one that runs is asked to stop.
static void take_back(struct world *world, struct host *host, struct run *run,
                      const struct agent_range *range, bool stop)
{
    size_t gathered = run->event_count;

    for (size_t t = run->at; t < run->count; t++) {
        struct step *task = &run->task[t];

        if ((range != NULL && !is_in(range, &task->key)) || task->withdrawn) {
            continue;
        }
        if (!task->begun) {
            task->withdrawn = true;
            say_range(run, AGENT_TASKS_SKIPPED, &task->key);
        } else if (stop && random_percent(&world->random, 50)) {
            // Some stop at once, some are too late to stop.
            run->stopped = true;
            run->number = ++host->runs;
            post_over(world, host, run, random_below(&world->random, 20) + 1);
        }
    }
    if (run->event_count > gathered) {
        hand_over(host, run);
    }
}

static void withdraw(struct world *world, struct host *host, const struct agent_action *action)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        struct run *run = &host->run[r];

        if (run->bundle != 0 && (action->type != AGENT_CUT || run->bundle == action->bundle)) {
            take_back(world, host, run, action->type == AGENT_CUT ? NULL : &action->u.range,
                      action->type == AGENT_CANCEL);
        }
    }
}

static void say_status(struct world *world, struct host *host)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    letter->event.type = EVENT_WORKER_STATUS;
    letter->event.u.status.worker = host->link->peer;
    letter->event.u.status.memory_used = host->store.count * PARTITION_COSTS;
    world_send_broker(world, host->link, letter);
}

void host_tick(struct world *world, struct host *host)
{
    struct agent_event tick = {.type = AGENT_TICK};

    host_events(world, host, &tick, 1);
    if (host->leaving && host->link != NULL) {
        struct agent_counts counts;

        agent_counts(host->agent, &counts);
        if (counts.queued + counts.running == 0 &&
            (agent_own(host->agent, NULL, NULL) == 0 || world->now > host->leave_by)) {
            host->link->bye = true;
            host_die(world, host);
        }
    }
    if (host->alive && host->memory > 0 && host->link != NULL && host->link->broker_knows) {
        say_status(world, host);
    }
}

static void fetch_start(struct world *world, struct host *host, const struct agent_action *action)
{
    struct letter *letter = letter_new(LETTER_FETCH_ASKED);

    letter->host = host;
    letter->key = action->u.key;
    letter->number = action->worker;
    if (world->options.apart && apart_are(world, host, action->worker)) {
        apart_detour(world, letter);
        letter_free(letter);
        return;
    }
    world_post(world, letter, world_delay(world));
}

void host_fetch_asked(struct world *world, struct letter *letter)
{
    if (world->options.apart && apart_are(world, letter->host, letter->number)) {
        apart_detour(world, letter);
        return;
    }
    struct host *holder = world_holder(world, letter->number);
    struct letter *answer = letter_new(LETTER_FETCH_OVER);
    bool fault = world->options.faults && random_percent(&world->random, FETCH_FAULT_PERCENT);

    // In the end the network is whole, or a task with many inputs might meet too many faults.
    fault = fault && world->now < world->chaos_until;

    answer->host = letter->host;
    answer->key = letter->key;
    answer->number = letter->number;
    answer->value = holder != NULL && !fault ? host_value(holder, letter->key) : 0;
    world_post(world, answer, world_delay(world));
}

void host_fetch_over(struct world *world, struct letter *letter)
{
    struct agent_event event = {.type = AGENT_FETCH_FAILED};

    if (!letter->host->alive) {
        return;
    }
    // Cut off in the middle.
    if (world->options.apart && !letter->relayed && letter->value != 0 &&
        apart_are(world, letter->host, letter->number)) {
        apart_detour(world, letter);
        return;
    }
    event.u.task.key = letter->key;
    event.u.task.text = "not there";
    // In some worlds: seeds that are kept in CMakeLists.txt stay what they are.
    if (letter->value != 0 && ((world->options.faults && world->options.seed % 16 == 15 &&
                                random_percent(&world->random, NO_MEMORY_PERCENT)) ||
                               (world->options.leaving && random_percent(&world->random, REFUSED_PERCENT)) ||
                               !host_has_room(world, letter->host))) {
        event.u.task.code = ENOMEM;
        event.u.task.text = "no memory";
    } else if (letter->value != 0) {
        store_put(letter->host, letter->key, letter->value);
        event.type = AGENT_FETCHED;
    }
    host_events(world, letter->host, &event, 1);
}

// ---- reports --------------------------------------------------------------------------------------------

static struct task_range *one_range(const struct agent_range *range)
{
    struct task_range *out = must(malloc(sizeof(*out)));

    *out = (struct task_range){range->job, range->layer, range->first, range->count};
    return out;
}

static uint64_t *sizes_of(uint32_t count)
{
    uint64_t *bytes = must(calloc(count, sizeof(*bytes)));

    for (uint32_t k = 0; k < count; k++) {
        bytes[k] = 8;
    }
    return bytes;
}

static void report(struct world *world, struct host *host, const struct agent_action *action)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;

    if (action->type == AGENT_REPORT_DONE) {
        event->type = EVENT_TASKS_DONE;
        event->u.done.worker = host->link->peer;
        event->u.done.ranges = 1;
        event->u.done.range = one_range(&action->u.range);
        event->u.done.bytes = sizes_of(action->u.range.count);
        event->u.done.busy_us = (uint64_t)action->u.range.count * (1 + random_below(&world->random, 50));
    } else if (action->type == AGENT_REPORT_DROPPED) {
        event->type = EVENT_TASKS_DROPPED;
        event->u.dropped.worker = host->link->peer;
        event->u.dropped.ranges = 1;
        event->u.dropped.range = one_range(&action->u.range);
    } else if (action->type == AGENT_REPORT_GONE) {
        event->type = EVENT_HOLDING;
        event->u.holding.worker = host->link->peer;
        event->u.holding.gones = 1;
        event->u.holding.gone = one_range(&action->u.range);
    } else {
        event->type = EVENT_TASK_FAILED;
        event->u.failed.worker = host->link->peer;
        event->u.failed.job = action->u.key.job;
        event->u.failed.layer = action->u.key.layer;
        event->u.failed.index = action->u.key.index;
        event->u.failed.code = action->code;
        event->u.failed.text = must(strdup(action->p.text));
        event->u.failed.missing_input = action->missing_input;
        event->u.failed.missing_layer = action->missing.layer;
        event->u.failed.missing_index = action->missing.index;
        event->u.failed.missing_worker = action->worker;
        event->u.failed.missing_job = action->missing.job == action->u.key.job ? 0 : action->missing.job;
    }
    world_send_broker(world, host->link, letter);
}

// Ranges of the actions of one type in a row.
static struct task_range *gather(const struct agent_actions *actions, size_t at, enum agent_action_type type,
                                 size_t *count, uint32_t *partitions)
{
    struct task_range *range;

    *count = 0;
    *partitions = 0;
    while (at + *count < actions->count && actions->action[at + *count].type == type) {
        *partitions += actions->action[at + (*count)++].u.range.count;
    }
    range = must(calloc(*count + 1, sizeof(*range)));
    for (size_t k = 0; k < *count; k++) {
        const struct agent_range *one = &actions->action[at + k].u.range;

        range[k] = (struct task_range){one->job, one->layer, one->first, one->count};
    }
    return range;
}

// After the handshake all that is here, in one message; otherwise what was taken over, or not.
static size_t advertise(struct world *world, struct host *host, size_t at, bool full)
{
    const struct agent_actions *actions = &host->actions;
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;
    uint32_t partitions;
    uint32_t others;

    event->type = EVENT_HOLDING;
    event->u.holding.worker = host->link->peer;
    event->u.holding.full = full;
    event->u.holding.add = gather(actions, at, AGENT_ADVERTISE, &event->u.holding.adds, &partitions);
    event->u.holding.bytes = sizes_of(partitions);
    at += event->u.holding.adds;
    if (full) {
        event->u.holding.has = gather(actions, at, AGENT_HAS, &event->u.holding.hases, &others);
    } else {
        event->u.holding.gone = gather(actions, at, AGENT_DECLINE, &event->u.holding.gones, &others);
    }
    world_send_broker(world, host->link, letter);
    return event->u.holding.adds + event->u.holding.hases + event->u.holding.gones;
}

static void free_parts(struct world *world, struct host *host, const struct agent_range *range)
{
    for (uint32_t i = 0; i < range->count; i++) {
        struct task_key key = {range->job, range->layer, range->first + i};

        // What ends of a job that was forgotten while a copy was held is freed again.
        if (map_remove(&host->store, store_key(key)) == NULL &&
            map_get(&host->forgotten, (struct map_key){key.job, key.layer}) == NULL) {
            world_fail(world, "host %u frees t%u.%u, which it does not hold", host->number, key.layer,
                       key.index);
        }
    }
}

static void trace(struct world *world, const struct host *host, const struct agent_event *events,
                  size_t count)
{
    for (size_t k = 0; k < count; k++) {
        fprintf(world->options.trace, "[%7llu]     %c ", (unsigned long long)world->now,
                'A' + (int)(host->number % 26));
        agent_event_print(&events[k], world->options.trace);
        fputc('\n', world->options.trace);
    }
    for (size_t k = 0; k < host->actions.count; k++) {
        fprintf(world->options.trace, "              -> ");
        agent_action_print(&host->actions.action[k], world->options.trace);
        fputc('\n', world->options.trace);
    }
}

static size_t act(struct world *world, struct host *host, size_t at)
{
    const struct agent_action *action = &host->actions.action[at];

    switch (action->type) {
    case AGENT_RUN:
        run_start(world, host, action);
        break;
    case AGENT_WITHDRAW:
    case AGENT_CUT:
    case AGENT_CANCEL:
        withdraw(world, host, action);
        break;
    case AGENT_FETCH:
        fetch_start(world, host, action);
        break;
    case AGENT_FREE:
        free_parts(world, host, &action->u.range);
        break;
    case AGENT_FREE_LAYER:
        must(map_put(&host->forgotten, (struct map_key){action->u.range.job, action->u.range.layer}, host) ==
                     0
                 ? host
                 : NULL);
        break;
    case AGENT_REPORT_DONE:
    case AGENT_REPORT_FAILED:
    case AGENT_REPORT_DROPPED:
    case AGENT_REPORT_GONE:
        report(world, host, action);
        break;
    case AGENT_ADVERTISE:
    case AGENT_HAS:
    case AGENT_DECLINE:
        return advertise(world, host, at, action->full);
    }
    return 1;
}

static void step(struct world *world, struct host *host, const struct agent_event *events, size_t count)
{
    struct error err = {0};
    bool full = false;

    if (agent_step(host->agent, events, count, &host->actions, &err) < 0) {
        world_fail(world, "agent: %s", err.text);
    }
    agent_check(host->agent);
    if (world->options.trace != NULL) {
        trace(world, host, events, count);
    }
    for (size_t at = 0; at < host->actions.count;) {
        full = full || host->actions.action[at].full;
        at += act(world, host, at);
    }
    for (size_t k = 0; k < count && !full; k++) {
        if (events[k].type == AGENT_CONNECTED) { // there is nothing here
            host->actions.count = 0;
            advertise(world, host, 0, true);
        }
    }
}

void host_events(struct world *world, struct host *host, const struct agent_event *events, size_t count)
{
    if (count > 0) {
        step(world, host, events, count);
    }
    for (size_t k = 0; k < count && world->options.apart; k++) {
        if (events[k].type == AGENT_CONNECTED || events[k].type == AGENT_DISCONNECTED) {
            apart_session(world, host, events[k].type == AGENT_CONNECTED);
        }
    }
    // What the actions led to.
    while (host->later_count > 0) {
        struct agent_event *later = host->later;

        count = host->later_count;
        host->later = NULL;
        host->later_count = 0;
        step(world, host, later, count);
        free(later);
    }
}
