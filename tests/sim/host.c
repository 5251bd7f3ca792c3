// A worker process: an agent, threads, a store, an exchange socket.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FETCH_FAULT_PERCENT = 1, NO_MEMORY_PERCENT = 40, REFUSED_PERCENT = 5, PARTITION_COSTS = 72 };

static struct map_key store_key(struct task_key key)
{
    return map_key_task(key.job, key.layer, key.index);
}

uint64_t host_value(const struct host *host, struct task_key key)
{
    return (uint64_t)(uintptr_t)map_get(&host->store, store_key(key));
}

void host_put(struct host *host, struct task_key key, uint64_t value)
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
    host_forget_runs(host);
    apart_host_dies(host);
}

void host_free(struct host *host)
{
    agent_destroy(host->agent);
    agent_actions_fini(&host->actions);
    map_fini(&host->store);
    map_fini(&host->forgotten);
    host_forget_runs(host);
    apart_host_dies(host);
    free(host);
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
        host_put(letter->host, letter->key, letter->value);
        event.type = AGENT_FETCHED;
    }
    host_events(world, letter->host, &event, 1);
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
        host_run_start(world, host, action);
        break;
    case AGENT_WITHDRAW:
    case AGENT_CUT:
    case AGENT_CANCEL:
        host_withdraw(world, host, action);
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
        host_report(world, host, action);
        break;
    case AGENT_ADVERTISE:
    case AGENT_HAS:
    case AGENT_DECLINE:
        return host_advertise(world, host, at, action->full);
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
            host_advertise(world, host, 0, true);
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
