// A worker process: an agent, threads, a store, an exchange socket.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FETCH_FAULT_PERCENT = 1 };

static void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "no memory\n");
        abort();
    }
    return pointer;
}

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

void host_start(struct world *world, unsigned files, bool shared)
{
    struct host *host = must(calloc(1, sizeof(*host)));
    struct agent_options options;

    host->number = world->hosts;
    host->alive = true;
    host->threads = random_between(&world->random, 1, world->threads_max);
    host->shared = shared;
    host->files = files;
    options.threads = host->threads;
    options.fetches_max = random_between(&world->random, 1, 8);
    host->agent = must(agent_create(&options));
    agent_actions_init(&host->actions);
    world->host[world->hosts++] = host;
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

void host_connect(struct world *world, struct host *host)
{
    static const char *const name[] = {"ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"};
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    host->link = world_link(world);
    host->link->host = host;
    host->link->peer = world->next_peer++;
    letter->event.type = EVENT_WORKER_JOINED;
    letter->event.u.joined.worker = host->link->peer;
    letter->event.u.joined.threads = host->threads;
    letter->event.u.joined.shared_files = host->shared;
    letter->event.u.joined.name = name[host->number % 8];
    world_send_broker(world, host->link, letter);
    if (!host->shared) {
        send_sources(world, host);
    }
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
    memset(&host->store, 0, sizeof(host->store));
}

void host_free(struct host *host)
{
    agent_destroy(host->agent);
    agent_actions_fini(&host->actions);
    map_fini(&host->store);
    free(host);
}

static struct run *run_find(struct host *host, struct task_key key)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        struct run *run = &host->run[r];

        if (run->active && run->key.job == key.job && run->key.layer == key.layer &&
            run->key.index == key.index) {
            return run;
        }
    }
    return NULL;
}

static void post_over(struct world *world, struct host *host, const struct run *run, uint64_t delay)
{
    struct letter *letter = letter_new(LETTER_TASK_OVER);

    letter->host = host;
    letter->key = run->key;
    letter->number = run->number;
    world_post(world, letter, delay);
}

static void run_start(struct world *world, struct host *host, const struct agent_action *action)
{
    struct plan *plan = world_plan(world, action->key.job);
    struct run *run = host->run;
    uint64_t value = plan_begin(action->key.layer, action->key.index);

    if (run_find(host, action->key) != NULL) {
        world_fail(world, "a host runs one task twice at once");
    }
    while (run->active) {
        run++;
    }
    for (size_t k = 0; k < action->inputs; k++) {
        uint64_t input = host_value(host, action->input[k]);

        if (input == 0) {
            world_fail(world, "t%u.%u runs without its input t%u.%u", action->key.layer, action->key.index,
                       action->input[k].layer, action->input[k].index);
        }
        value = plan_add(value, input);
    }
    plan->runs[action->key.layer][action->key.index]++;
    *run = (struct run){.key = action->key, .value = value, .number = ++host->runs, .active = true};
    uint8_t fails = plan->fails[action->key.layer][action->key.index];

    run->fails = fails == FAILS_ALWAYS || plan->failed[action->key.layer][action->key.index] < fails;
    if (run->fails && fails != FAILS_ALWAYS) {
        plan->failed[action->key.layer][action->key.index]++;
    }
    post_over(world, host, run, random_below(&world->random, world->duration_max) + 1);
}

void host_task_over(struct world *world, struct letter *letter)
{
    struct host *host = letter->host;
    struct agent_event event = {.type = AGENT_TASK_DONE};
    struct run *run = host->alive ? run_find(host, letter->key) : NULL;

    if (run == NULL || run->number != letter->number) {
        return;
    }
    struct plan *plan = world_plan(world, letter->key.job);

    if (plan->killer_layer == letter->key.layer && plan->killer_index == letter->key.index) {
        host_die(world, host);
        world_post(world, letter_new(LETTER_HOST_START), world_delay(world));
        return;
    }
    run->active = false;
    event.u.task.key = run->key;
    event.u.task.bytes = 8;
    if (run->fails) {
        event.type = AGENT_TASK_FAILED;
        event.u.task.code = EINVAL;
        event.u.task.text = "poison";
    } else {
        store_put(host, run->key, run->value);
    }
    host_events(world, host, &event, 1);
}

static void fetch_start(struct world *world, struct host *host, const struct agent_action *action)
{
    struct letter *letter = letter_new(LETTER_FETCH_ASKED);

    letter->host = host;
    letter->key = action->key;
    letter->number = action->worker;
    world_post(world, letter, world_delay(world));
}

void host_fetch_asked(struct world *world, struct letter *letter)
{
    struct host *holder = world_holder(world, letter->number);
    struct letter *answer = letter_new(LETTER_FETCH_OVER);
    bool fault = world->options.faults && random_percent(&world->random, FETCH_FAULT_PERCENT);

    answer->host = letter->host;
    answer->key = letter->key;
    answer->value = holder != NULL && !fault ? host_value(holder, letter->key) : 0;
    world_post(world, answer, world_delay(world));
}

void host_fetch_over(struct world *world, struct letter *letter)
{
    struct agent_event event = {.type = AGENT_FETCH_FAILED};

    if (!letter->host->alive) {
        return;
    }
    event.u.task.key = letter->key;
    event.u.task.text = "not there";
    if (letter->value != 0) {
        store_put(letter->host, letter->key, letter->value);
        event.type = AGENT_FETCHED;
        event.u.task.bytes = 8;
    }
    host_events(world, letter->host, &event, 1);
}

// ---- reports: neighbours go into one letter --------------------------------------------------------

static size_t joined(const struct agent_actions *actions, size_t at)
{
    const struct agent_action *first = &actions->action[at];
    size_t end = at + 1;

    while (end < actions->count && actions->action[end].type == first->type &&
           actions->action[end].key.job == first->key.job &&
           actions->action[end].key.layer == first->key.layer &&
           actions->action[end].key.index == first->key.index + (end - at)) {
        end++;
    }
    return end - at;
}

static struct task_range *one_range(const struct agent_action *first, size_t count)
{
    struct task_range *range = must(malloc(sizeof(*range)));

    *range = (struct task_range){first->key.job, first->key.layer, first->key.index, (uint32_t)count};
    return range;
}

static size_t report(struct world *world, struct host *host, size_t at)
{
    const struct agent_action *first = &host->actions.action[at];
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;
    size_t count = joined(&host->actions, at);

    if (first->type == AGENT_REPORT_DONE) {
        uint64_t *bytes = must(calloc(count, sizeof(*bytes)));

        for (size_t k = 0; k < count; k++) {
            bytes[k] = first[k].bytes;
        }
        event->type = EVENT_TASKS_DONE;
        event->u.done.worker = host->link->peer;
        event->u.done.ranges = 1;
        event->u.done.range = one_range(first, count);
        event->u.done.bytes = bytes;
    } else if (first->type == AGENT_REPORT_DROPPED) {
        event->type = EVENT_TASKS_DROPPED;
        event->u.dropped.worker = host->link->peer;
        event->u.dropped.ranges = 1;
        event->u.dropped.range = one_range(first, count);
    } else {
        count = 1;
        event->type = EVENT_TASK_FAILED;
        event->u.failed.worker = host->link->peer;
        event->u.failed.job = first->key.job;
        event->u.failed.layer = first->key.layer;
        event->u.failed.index = first->key.index;
        event->u.failed.code = first->code;
        event->u.failed.text = must(strdup(first->text));
        event->u.failed.missing_input = first->missing_input;
        event->u.failed.missing_layer = first->missing.layer;
        event->u.failed.missing_index = first->missing.index;
        event->u.failed.missing_worker = first->worker;
    }
    world_send_broker(world, host->link, letter);
    return count;
}

static size_t advertise(struct world *world, struct host *host, size_t at)
{
    const struct agent_actions *actions = &host->actions;
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;
    size_t count = 0;

    while (at + count < actions->count && actions->action[at + count].type == AGENT_ADVERTISE) {
        count++;
    }
    struct task_range *range = must(calloc(count, sizeof(*range)));
    uint64_t *bytes = must(calloc(count, sizeof(*bytes)));

    for (size_t k = 0; k < count; k++) {
        const struct agent_action *action = &actions->action[at + k];

        range[k] = (struct task_range){action->key.job, action->key.layer, action->key.index, 1};
        bytes[k] = action->bytes;
    }
    event->type = EVENT_HOLDING;
    event->u.holding.worker = host->link->peer;
    event->u.holding.full = true;
    event->u.holding.adds = count;
    event->u.holding.add = range;
    event->u.holding.bytes = bytes;
    world_send_broker(world, host->link, letter);
    return count;
}

static void stop(struct world *world, struct host *host, struct task_key key)
{
    struct run *run = run_find(host, key);

    if (run == NULL) {
        world_fail(world, "asked to stop what does not run");
    }
    // Some stop at once, some are too late to stop.
    if (random_percent(&world->random, 50)) {
        run->fails = true;
        run->number = ++host->runs;
        post_over(world, host, run, random_below(&world->random, 20) + 1);
    }
}

void host_events(struct world *world, struct host *host, const struct agent_event *events, size_t count)
{
    struct error err = {0};
    size_t at = 0;

    if (agent_step(host->agent, events, count, &host->actions, &err) < 0) {
        world_fail(world, "agent: %s", err.text);
    }
    agent_check(host->agent);
    if (world->options.trace != NULL) {
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
    while (at < host->actions.count) {
        const struct agent_action *action = &host->actions.action[at];

        switch (action->type) {
        case AGENT_RUN:
            run_start(world, host, action);
            at++;
            break;
        case AGENT_CANCEL:
            stop(world, host, action->key);
            at++;
            break;
        case AGENT_FETCH:
            fetch_start(world, host, action);
            at++;
            break;
        case AGENT_FREE:
            if (map_remove(&host->store, store_key(action->key)) == NULL) {
                world_fail(world, "host %u frees t%u.%u, which it does not hold", host->number,
                           action->key.layer, action->key.index);
            }
            at++;
            break;
        case AGENT_FREE_LAYER:
            at++;
            break;
        case AGENT_REPORT_DONE:
        case AGENT_REPORT_FAILED:
        case AGENT_REPORT_DROPPED:
            at += report(world, host, at);
            break;
        case AGENT_ADVERTISE:
            at += advertise(world, host, at);
            break;
        }
    }
}
