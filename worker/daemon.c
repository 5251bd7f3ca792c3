#include "worker/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "worker/address.h"
#include "worker/daemon_state.h"
#include "worker/hello.h"

enum {
    TICK_MS = 50,
    FETCHES_MAX = 256,
    SOURCES_INTERVAL_MS = 3000,
    HERE_MAX = 4096, // instant tasks that the loop runs itself
};

// ---- events -----------------------------------------------------------------------

void daemon_give_up(struct daemon *daemon, int code, const char *why)
{
    if (daemon->outcome == 0) {
        daemon->outcome = error_set(&daemon->why, code, "%s", why);
    }
    loop_stop(daemon->loop);
}

struct agent_event *daemon_event(struct daemon *daemon, enum agent_event_type type)
{
    struct agent_event *event;

    if (daemon->events == daemon->events_max) {
        size_t max = daemon->events_max == 0 ? 64 : daemon->events_max * 2;

        event = realloc(daemon->event, max * sizeof(*event));
        if (event == NULL) {
            daemon_give_up(daemon, ENOMEM, "out of memory");
            return NULL;
        }
        daemon->event = event;
        daemon->events_max = max;
    }
    event = &daemon->event[daemon->events++];
    *event = (struct agent_event){.type = type};
    return event;
}

static void add_task_event(struct daemon *daemon, enum agent_event_type type, struct task_key key, int code,
                           const char *text, uint64_t busy_ns)
{
    struct agent_event *event = daemon_event(daemon, type);

    if (event != NULL) {
        event->u.task.key = key;
        event->u.task.code = code;
        event->u.task.text = text == NULL ? NULL : arena_strdup(&daemon->arena, text);
        event->u.task.busy_ns = busy_ns;
    }
}

// ---- actions ----------------------------------------------------------------------

static void add_range_event(struct daemon *daemon, enum agent_event_type type,
                            const struct agent_range *range, uint64_t busy_ns)
{
    struct agent_event *event = daemon_event(daemon, type);

    if (event != NULL) {
        event->u.range.range = *range;
        event->u.range.busy_ns = busy_ns;
    }
}

// All of a bundle ends before it has begun.
static void fail_bundle(struct daemon *daemon, const struct agent_action *action, int code, const char *text)
{
    struct agent_event *event;

    for (size_t r = 0; r < action->u.ranges; r++) {
        const struct agent_range *range = &action->p.range[r];

        for (uint32_t i = range->first; i < range->first + range->count; i++) {
            add_task_event(daemon, AGENT_TASK_FAILED, (struct task_key){range->job, range->layer, i}, code,
                           text, 0);
        }
    }
    event = daemon_event(daemon, AGENT_BUNDLE_OVER);
    if (event != NULL) {
        event->u.bundle = action->bundle;
    }
}

static void run_bundle(struct daemon *daemon, const struct agent_action *action)
{
    struct bundle *bundle = bundle_create(daemon->epoch, action->bundle, action->u.ranges);
    bool instant = true;
    uint64_t tasks = 0;

    if (bundle == NULL) {
        fail_bundle(daemon, action, ENOMEM, "out of memory");
        return;
    }
    for (size_t r = 0; r < action->u.ranges; r++) {
        const struct agent_range *range = &action->p.range[r];
        struct layer *layer = layers_get(&daemon->layers, range->job, range->layer);

        if (layer == NULL) {
            bundle_destroy(bundle);
            fail_bundle(daemon, action, EPROTO, "its operation was not told");
            return;
        }
        bundle_add(bundle, layer, range->first, range->count);
        instant = instant && layer->size == KERNEL_INSTANT;
        tasks += range->count;
    }
    if (bundle_ready(bundle) != 0) {
        bundle_destroy(bundle);
        fail_bundle(daemon, action, ENOMEM, "out of memory");
    } else if (instant && tasks <= HERE_MAX) {
        executor_run_here(daemon->executor, bundle);
    } else {
        executor_run(daemon->executor, bundle);
    }
}

static void fetch_partition(struct daemon *daemon, const struct agent_action *action)
{
    const struct neighbour *from = neighbours_find(&daemon->neighbours, action->worker);
    const struct task_key *key = &action->u.key;
    struct fetch *fetch;

    if (from == NULL) {
        add_task_event(daemon, AGENT_FETCH_FAILED, *key, EHOSTUNREACH,
                       "the worker that holds it is not known", 0);
        return;
    }
    fetch = fetch_create(from->endpoints, from->endpoint);
    if (fetch == NULL) {
        add_task_event(daemon, AGENT_FETCH_FAILED, *key, ENOMEM, "out of memory", 0);
        return;
    }
    fetch->epoch = daemon->epoch;
    fetch->job = key->job;
    fetch->layer = key->layer;
    fetch->index = key->index;
    fetch->worker = action->worker;
    fetch->ahead = action->ahead;
    fetch->incarnation = from->incarnation;
    exchange_fetch(daemon->exchange, fetch);
}

static void report_failure(struct daemon *daemon, const struct agent_action *action)
{
    const struct layer *layer = layers_get(&daemon->layers, action->u.key.job, action->u.key.layer);

    if (report_failed(daemon->report, action, layer == NULL ? "?" : layer->name, daemon->options.name) != 0) {
        daemon_give_up(daemon, ENOMEM, "out of memory");
    }
}

void daemon_drop(struct daemon *daemon, const struct agent_range *range)
{
    store_drop(daemon->store, &(struct store_key){range->job, range->layer, range->first}, range->count);
}

// Nobody asks for its partitions any more: what waits for those who do goes as well.
static void drop_layer(struct daemon *daemon, const struct agent_range *layer)
{
    struct agent_range range;

    while (leave_take(&daemon->leave, layer->job, layer->layer, &range)) {
        daemon_drop(daemon, &range);
    }
}

static void act(struct daemon *daemon, const struct agent_action *action)
{
    const struct agent_range *range = &action->u.range;

    switch (action->type) {
    case AGENT_RUN:
        run_bundle(daemon, action);
        break;
    case AGENT_WITHDRAW:
    case AGENT_CANCEL:
        executor_withdraw(daemon->executor, daemon->epoch, range->job, range->layer, range->first,
                          range->count, action->type == AGENT_CANCEL);
        break;
    case AGENT_CUT:
        executor_cut(daemon->executor, daemon->epoch, action->bundle);
        break;
    case AGENT_FETCH:
        fetch_partition(daemon, action);
        break;
    case AGENT_FREE:
        if (!leave_later(&daemon->leave, monotonic_us(), range)) {
            daemon_drop(daemon, range);
        }
        break;
    case AGENT_FREE_LAYER:
        drop_layer(daemon, range);
        layers_drop(&daemon->layers, range->job, range->layer);
        break;
    case AGENT_REPORT_FAILED:
        report_failure(daemon, action);
        break;
    case AGENT_ADVERTISE:
        if (action->full) {
            report_full(daemon->report);
        }
        // fall through
    default:
        if (report_add(daemon->report, action) != 0) {
            daemon_give_up(daemon, ENOMEM, "out of memory");
        }
        break;
    }
}

static void take_outcomes(struct daemon *daemon);

// Steps the agent through the gathered events, and those that its actions make at once.
int daemon_step(struct daemon *daemon, struct error *err)
{
    int rc = 0;

    if (daemon->stepping) {
        return 0; // an action lost the broker: the step that is under way goes on with that
    }
    daemon->stepping = true;
    // Each round ends tasks, of which there are so many.  What came of the actions is heard also when a
    // message was of no use: a bundle that is over would be taken to run for ever.
    while (daemon->events > 0) {
        size_t events = daemon->events;
        struct agent_event *event = daemon->event;
        struct error why;
        int one;

        why.text[0] = '\0';
        // Actions add events while these are still in use.
        daemon->event = NULL;
        daemon->events = daemon->events_max = 0;
        one = agent_step(daemon->agent, event, events, &daemon->actions, &why);
        if (rc == 0 && one != 0) {
            rc = one;
            *err = why;
        }
        for (size_t j = 0; j < daemon->actions.count; j++) {
            act(daemon, &daemon->actions.action[j]);
        }
        take_outcomes(daemon);
        if (daemon->event == NULL) {
            daemon->event = event;
            daemon->events_max = events;
        } else {
            free(event);
        }
    }
    daemon->stepping = false;
    daemon->events = 0;
    arena_reset(&daemon->arena);
    return rc;
}

// Where there is no message to blame.
void daemon_step_alone(struct daemon *daemon)
{
    struct error err = {0};
    int rc = daemon_step(daemon, &err);

    if (rc == -EPROTO) {
        link_restart(daemon->link, err.text);
    } else if (rc != 0) {
        daemon_give_up(daemon, -rc, err.text);
    }
}

// ---- the session ------------------------------------------------------------------

static void send_files(struct daemon *daemon)
{
    Dray__Advertise advertise = DRAY__ADVERTISE__INIT;
    size_t n = daemon->files->count;
    Dray__SourceFile *file = calloc(n + 1, sizeof(*file));
    Dray__SourceFile **list = calloc(n + 1, sizeof(*list));

    if (file == NULL || list == NULL) {
        daemon_give_up(daemon, ENOMEM, "out of memory");
    } else {
        for (size_t i = 0; i < n; i++) {
            dray__source_file__init(&file[i]);
            file[i].name = daemon->files->name[i];
            file[i].path = daemon->files->path[i];
            list[i] = &file[i];
        }
        advertise.has_files_full = advertise.files_full = true;
        advertise.n_file = n;
        advertise.file = list;
        link_send(daemon->link, FRAME_ADVERTISE, &advertise.base, NULL, 0);
    }
    free(file);
    free(list);
}

// Another broker gives other jobs the same numbers: what is held for the last one must go.
static int start_over(struct daemon *daemon, struct error *err)
{
    const struct agent_options options = {.threads = daemon->options.threads,
                                          .fetches_max = FETCHES_MAX,
                                          .resources = daemon->options.resources,
                                          .resource = daemon->options.resource};

    daemon->epoch++;
    if (daemon->executor != NULL) {
        executor_cancel_all(daemon->executor);
    }
    agent_destroy(daemon->agent);
    daemon->events = 0;
    layers_fini(&daemon->layers);
    store_clear(daemon->store, daemon->epoch);
    report_clear(daemon->report);
    daemon->agent = agent_create(&options);
    return daemon->agent == NULL ? error_no_memory(err) : 0;
}

static void say_session(struct daemon *daemon, bool up)
{
    if (exchange_session(daemon->exchange, up) != 0) {
        daemon_give_up(daemon, ENOMEM, "out of memory");
    }
}

static void on_up(void *arg, const Dray__Welcome *welcome)
{
    struct daemon *daemon = arg;
    struct error err = {0};

    if (daemon->broker_incarnation != 0 && daemon->broker_incarnation != welcome->incarnation) {
        log_write(daemon->options.log, LEVEL_INFO, "it is another broker: starting over");
        neighbours_fini(&daemon->neighbours);
        if (start_over(daemon, &err) != 0) {
            daemon_give_up(daemon, ENOMEM, err.text);
            return;
        }
    }
    daemon->broker_incarnation = welcome->incarnation;
    report_clear(daemon->report);
    report_full(daemon->report);
    if (daemon->leave.under_way) {
        report_leaving(daemon->report);
    }
    if (daemon->files != NULL) {
        send_files(daemon);
    }
    report_notes(daemon->link, daemon->store);
    say_session(daemon, true);
    daemon_event(daemon, AGENT_CONNECTED);
    daemon_step_alone(daemon);
}

static void on_down(void *arg)
{
    struct daemon *daemon = arg;

    report_clear(daemon->report);
    say_session(daemon, false);
    daemon_event(daemon, AGENT_DISCONNECTED);
    daemon_step_alone(daemon);
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void on_heartbeat(void *arg, Dray__Heartbeat *message)
{
    struct daemon *daemon = arg;
    struct agent_counts counts;

    agent_counts(daemon->agent, &counts);
    message->has_memory_used = message->has_rss = message->has_running = message->has_queued =
        message->has_ran = true;
    message->memory_used = budget_used(daemon->budget);
    message->rss = resident_bytes();
    message->running = counts.running;
    message->queued = counts.queued;
    message->ran = executor_ran(daemon->executor);
    message->has_damaged = daemon->damaged > 0;
    message->damaged = daemon->damaged;
}

static void on_over(void *arg, int code, const char *why)
{
    struct daemon *daemon = arg;

    if (code == 0) {
        log_write(daemon->options.log, LEVEL_INFO, "the broker at %s says goodbye: %s",
                  daemon->options.broker, why);
        daemon->dismissed = true; // whatever it holds is of no use to anybody
        loop_stop(daemon->loop);
    } else {
        daemon_give_up(daemon, code, why);
    }
}

// ---- what threads report ----------------------------------------------------------

static void take_outcome(struct daemon *daemon, const struct outcome *outcome)
{
    struct layer *layer = outcome->layer;
    const struct agent_range range = {layer->job, layer->layer, outcome->first, outcome->count};

    switch (outcome->kind) {
    case OUTCOME_DONE:
        layer->rows += outcome->rows;
        layer->source_bytes += outcome->source_bytes;
        layer->busy_ns += outcome->busy_ns;
        add_range_event(daemon, AGENT_TASKS_DONE, &range, outcome->busy_ns);
        break;
    case OUTCOME_FAILED:
        add_task_event(daemon, AGENT_TASK_FAILED, (struct task_key){layer->job, layer->layer, outcome->first},
                       outcome->code, outcome->text, outcome->busy_ns);
        break;
    case OUTCOME_SKIPPED:
        add_range_event(daemon, AGENT_TASKS_SKIPPED, &range, 0);
        break;
    }
}

// What was found to have a wrong checksum, and is not in the store any more.
static void take_damage(struct daemon *daemon)
{
    struct store_damage damage;

    while (store_take_damage(daemon->store, &damage)) {
        const struct agent_range range = {damage.key.job, damage.key.layer, damage.key.index, 1};

        daemon->damaged++;
        log_write(daemon->options.log, LEVEL_WARNING,
                  "partition %" PRIu32 " of layer %" PRIu32 " of job %" PRIu32 " (%" PRIu64
                  " bytes) was damaged in memory: its checksum is wrong; it is dropped and made again",
                  damage.key.index, damage.key.layer, damage.key.job, damage.bytes);
        add_range_event(daemon, AGENT_LOST, &range, 0);
    }
}

// What threads, and bundles that were run here, have left.
static void take_outcomes(struct daemon *daemon)
{
    struct outcomes *outcomes;

    while ((outcomes = executor_take(daemon->executor)) != NULL) {
        bool current = outcomes->bundle->epoch == daemon->epoch;

        take_damage(daemon); // before the tasks that were skipped for it
        for (size_t i = 0; current && i < outcomes->count; i++) {
            take_outcome(daemon, &outcomes->outcome[i]);
        }
        if (current && outcomes->lost) {
            daemon_give_up(daemon, ENOMEM, "out of memory");
        }
        if (current && outcomes->over) {
            struct agent_event *event = daemon_event(daemon, AGENT_BUNDLE_OVER);

            if (event != NULL) {
                event->u.bundle = outcomes->bundle->number;
            }
        }
        outcomes_destroy(outcomes);
    }
}

static void on_executor(void *arg, short revents)
{
    struct daemon *daemon = arg;

    (void)revents;
    take_outcomes(daemon);
    daemon_step_alone(daemon);
}

static void take_fetched(struct daemon *daemon, struct fetch *fetch)
{
    const struct task_key key = {fetch->job, fetch->layer, fetch->index};
    const struct store_key place = {fetch->job, fetch->layer, fetch->index};
    struct error err = {0};
    int rc = fetch->rc;

    if (rc == 0) {
        rc = store_put(daemon->store, daemon->epoch, &place, fetch->partition, NULL, fetch->charged,
                       &fetch->err);
        fetch->partition = NULL;
        fetch->charged = 0;
    }
    if (rc == 0) {
        add_task_event(daemon, AGENT_FETCHED, key, 0, NULL, 0);
        return;
    }
    if (fetch->damaged) {
        daemon->damaged++;
        log_write(daemon->options.log, LEVEL_WARNING,
                  "partition %" PRIu32 " of layer %" PRIu32 " of job %" PRIu32
                  " came damaged from worker %" PRIu32 ": %s",
                  key.index, key.layer, key.job, fetch->worker, fetch->err.text);
    }
    error_set(&err, -rc,
              "partition %" PRIu32 " of layer %" PRIu32 " could not be had from worker %" PRIu32 ": %s",
              key.index, key.layer, fetch->worker, fetch->err.text);
    add_task_event(daemon, AGENT_FETCH_FAILED, key, -rc, err.text, 0);
}

// What the exchange wants of the session: other workers that it cannot reach are asked by way of the broker.
static void take_orders(struct daemon *daemon)
{
    struct detour_order *order;

    while ((order = exchange_take_order(daemon->exchange)) != NULL) {
        if (order->text != NULL) {
            log_write(daemon->options.log, LEVEL_WARNING, "%s", order->text);
        } else {
            // Without a session it is said again when there is one.
            link_send(daemon->link, FRAME_FETCH, &order->message.base, NULL, 0);
        }
        detour_order_free(order);
    }
}

static void on_exchange(void *arg, short revents)
{
    struct daemon *daemon = arg;
    struct fetch *fetch;

    (void)revents;
    while ((fetch = exchange_take(daemon->exchange)) != NULL) {
        if (fetch->epoch == daemon->epoch) {
            take_fetched(daemon, fetch);
        }
        fetch_destroy(fetch, daemon->budget);
    }
    take_orders(daemon);
    daemon_step_alone(daemon);
}

static void take_files(struct daemon *daemon)
{
    struct source_files *files = sources_take(daemon->sources);

    if (files != NULL) {
        source_files_destroy(daemon->files);
        daemon->files = files;
    }
}

static void on_sources(void *arg, short revents)
{
    struct daemon *daemon = arg;

    (void)revents;
    take_files(daemon);
    if (link_is_up(daemon->link)) {
        send_files(daemon);
    }
}

// ---- time ------------------------------------------------------------------------

static void on_tick(void *arg)
{
    struct daemon *daemon = arg;

    link_tick(daemon->link);
    take_damage(daemon);
    daemon_event(daemon, AGENT_TICK);
    daemon_step_alone(daemon);
    // Without a broker nobody takes over what it has: it waits for one.
    if (daemon->retire_us != 0 && monotonic_us() > daemon->retire_us && link_is_up(daemon->link)) {
        daemon->retire_us = 0;
        daemon_retire(daemon, "its lifetime is over");
    }
}

static void on_turn(void *arg)
{
    struct daemon *daemon = arg;

    if (link_is_up(daemon->link)) {
        report_send(daemon->report, daemon->link, daemon->store, &daemon->layers);
    }
    if (daemon->leave.under_way) {
        daemon_look_at_leaving(daemon);
    }
}

// ---- start and end ----------------------------------------------------------------

static int open_memory(struct daemon *daemon, struct error *err)
{
    daemon->budget = budget_create(daemon->options.memory);
    daemon->store = daemon->budget == NULL ? NULL : store_create(daemon->budget);
    daemon->report = report_create();
    if (daemon->store == NULL || daemon->report == NULL) {
        return error_no_memory(err);
    }
    return start_over(daemon, err);
}

static int open_exchange(struct daemon *daemon, struct error *err)
{
    char chosen[ADDRESS_MAX];
    struct exchange_options options = {
        .listen = daemon->options.listen,
        .incarnation = daemon->incarnation,
        .store = daemon->store,
        .budget = daemon->budget,
        .detour = true,
    };

    if (options.listen == NULL) {
        int rc = address_choose(daemon->options.broker, daemon->incarnation, chosen, err);

        if (rc != 0) {
            return rc;
        }
        options.listen = chosen;
    }
    return exchange_create(&options, &daemon->exchange, err);
}

static int open_link(struct daemon *daemon, struct error *err)
{
    const struct link_options options = {
        .broker = daemon->options.broker,
        .hello = &daemon->hello,
        .reconnect_ms = daemon->options.reconnect_ms,
        .log = daemon->options.log,
    };
    const struct link_handler handler = {daemon, on_up, daemon_message, on_down, on_heartbeat, on_over};

    if (hello_make(&daemon->options, daemon->incarnation, exchange_endpoint(daemon->exchange),
                   &daemon->hello_arena, &daemon->hello) != 0) {
        return error_no_memory(err);
    }
    return link_create(daemon->loop, &options, &handler, &daemon->link, err);
}

static int open_parts(struct daemon *daemon, struct error *err)
{
    struct executor_options executor_options = {
        .threads = daemon->options.threads,
        .runner = {.data_dir = daemon->options.data_dir,
                   .plugins = daemon->options.plugins,
                   .scratch = daemon->options.scratch},
    };
    int rc = open_memory(daemon, err);

    if (rc == 0) {
        rc = open_exchange(daemon, err);
    }
    if (rc == 0) {
        executor_options.runner.budget = daemon->budget;
        executor_options.runner.store = daemon->store;
        rc = executor_create(&executor_options, &daemon->executor, err);
    }
    if (rc == 0 && daemon->options.data_dir != NULL) {
        rc = sources_create(daemon->options.data_dir, SOURCES_INTERVAL_MS, &daemon->sources, err);
        if (rc == 0) {
            take_files(daemon);
        }
    }
    if (rc == 0) {
        rc = open_link(daemon, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (loop_add_fd(daemon->loop, executor_fd(daemon->executor), POLLIN, on_executor, daemon) != 0 ||
        loop_add_fd(daemon->loop, exchange_fd(daemon->exchange), POLLIN, on_exchange, daemon) != 0 ||
        (daemon->sources != NULL &&
         loop_add_fd(daemon->loop, sources_fd(daemon->sources), POLLIN, on_sources, daemon) != 0) ||
        loop_add_timer(daemon->loop, TICK_MS, on_tick, daemon) != 0) {
        return error_no_memory(err);
    }
    loop_set_turn(daemon->loop, on_turn, daemon);
    return 0;
}

int daemon_create(const struct daemon_options *options, struct loop *loop, struct daemon **out,
                  struct error *err)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    int rc;

    if (daemon == NULL) {
        return error_no_memory(err);
    }
    daemon->options = *options;
    daemon->loop = loop;
    if (options->lifetime_ms > 0) {
        daemon->retire_us = monotonic_us() + options->lifetime_ms * 1000;
    }
    arena_init(&daemon->arena, 0);
    arena_init(&daemon->hello_arena, 0);
    agent_actions_init(&daemon->actions);
    if (getrandom(&daemon->incarnation, sizeof(daemon->incarnation), 0) !=
        (ssize_t)sizeof(daemon->incarnation)) {
        rc = error_set(err, EIO, "cannot get random bytes: %s", strerror(errno));
    } else {
        rc = open_parts(daemon, err);
    }
    if (rc != 0) {
        daemon_destroy(daemon, false);
        return rc;
    }
    *out = daemon;
    return 0;
}

int daemon_outcome(const struct daemon *daemon, struct error *err)
{
    if (daemon->outcome != 0 && err != NULL) {
        *err = daemon->why;
    }
    return daemon->outcome;
}

bool daemon_destroy(struct daemon *daemon, bool goodbye)
{
    if (daemon == NULL) {
        return true;
    }
    if (goodbye && !daemon->dismissed) {
        daemon_say_loss(daemon);
    }
    link_destroy(daemon->link, goodbye, daemon->farewell);
    exchange_destroy(daemon->exchange);
    if (!executor_destroy(daemon->executor)) {
        return false;
    }
    sources_destroy(daemon->sources);
    source_files_destroy(daemon->files);
    neighbours_fini(&daemon->neighbours);
    agent_destroy(daemon->agent);
    agent_actions_fini(&daemon->actions);
    report_destroy(daemon->report);
    layers_fini(&daemon->layers);
    store_destroy(daemon->store);
    budget_destroy(daemon->budget);
    arena_fini(&daemon->arena);
    arena_fini(&daemon->hello_arena);
    leave_fini(&daemon->leave);
    free(daemon->farewell);
    free(daemon->event);
    free(daemon);
    return true;
}
