#include "worker/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/map.h"
#include "worker/address.h"
#include "worker/core/agent.h"
#include "worker/encoding.h"
#include "worker/exchange.h"
#include "worker/executor.h"
#include "worker/layer.h"
#include "worker/link.h"
#include "worker/report.h"
#include "worker/sources.h"
#include "worker/store/store.h"

enum {
    TICK_MS = 50,
    FETCHES_MAX = 8,
    SOURCES_INTERVAL_MS = 3000,
    STEPS_MAX = 1000, // of the agent for one message; more is a bug of ours
};

// Another worker's exchange, as the broker told.
struct neighbour {
    uint64_t incarnation;
    size_t endpoints;
    char **endpoint;
};

struct daemon {
    struct daemon_options options;
    struct loop *loop;
    uint64_t incarnation;
    uint64_t broker_incarnation; // of the last broker; 0: none yet
    uint64_t epoch;              // counts brokers: work for an earlier one is of no interest
    Dray__Hello hello;
    char *endpoints[1];

    struct budget *budget;
    struct store *store;
    struct exchange *exchange;
    struct executor *executor;
    struct sources *sources;
    struct source_files *files;
    struct link *link;

    struct agent *agent;
    struct agent_actions actions;
    struct layers layers;
    struct map neighbours; // worker number -> struct neighbour
    struct report *report;

    // Events for the agent's next step, and what they point to.
    struct agent_event *event;
    size_t events, events_max;
    struct arena arena;
    bool stepping;

    int outcome;
    struct error why;
};

// ---- events -----------------------------------------------------------------------

static void give_up(struct daemon *daemon, int code, const char *why)
{
    if (daemon->outcome == 0) {
        daemon->outcome = error_set(&daemon->why, code, "%s", why);
    }
    loop_stop(daemon->loop);
}

static struct agent_event *add_event(struct daemon *daemon, enum agent_event_type type)
{
    struct agent_event *event;

    if (daemon->events == daemon->events_max) {
        size_t max = daemon->events_max == 0 ? 64 : daemon->events_max * 2;

        event = realloc(daemon->event, max * sizeof(*event));
        if (event == NULL) {
            give_up(daemon, ENOMEM, "out of memory");
            return NULL;
        }
        daemon->event = event;
        daemon->events_max = max;
    }
    event = &daemon->event[daemon->events++];
    *event = (struct agent_event){.type = type};
    return event;
}

static void add_task_event(struct daemon *daemon, enum agent_event_type type, struct task_key key,
                           uint64_t bytes, int code, const char *text)
{
    struct agent_event *event = add_event(daemon, type);

    if (event != NULL) {
        event->u.task.key = key;
        event->u.task.bytes = bytes;
        event->u.task.code = code;
        event->u.task.text = text == NULL ? NULL : arena_strdup(&daemon->arena, text);
    }
}

// ---- actions ----------------------------------------------------------------------

static void run_task(struct daemon *daemon, const struct agent_action *action)
{
    struct layer *layer = layers_get(&daemon->layers, action->key.job, action->key.layer);
    struct work *work;

    if (layer == NULL) {
        add_task_event(daemon, AGENT_TASK_FAILED, action->key, 0, EPROTO, "its operation was not told");
        return;
    }
    work = work_create(layer, action->key.index, action->inputs, action->input_lists);
    if (work == NULL) {
        add_task_event(daemon, AGENT_TASK_FAILED, action->key, 0, ENOMEM, "out of memory");
        return;
    }
    work->epoch = daemon->epoch;
    for (size_t i = 0; i < action->inputs; i++) {
        const struct task_key *key = &action->input[i];

        work->input[i] = store_get(daemon->store, key->job, key->layer, key->index);
        if (work->input[i] == NULL) {
            work_destroy(work);
            add_task_event(daemon, AGENT_TASK_FAILED, action->key, 0, ENOENT, "an input is not held here");
            return;
        }
    }
    if (action->input_lists > 0) {
        memcpy(work->input_start, action->input_start, (action->input_lists + 1) * sizeof(uint32_t));
    }
    executor_run(daemon->executor, work);
}

static void fetch_partition(struct daemon *daemon, const struct agent_action *action)
{
    const struct neighbour *from = map_get(&daemon->neighbours, (struct map_key){0, action->worker});
    struct fetch *fetch;

    if (from == NULL) {
        add_task_event(daemon, AGENT_FETCH_FAILED, action->key, 0, EHOSTUNREACH,
                       "the worker that holds it is not known");
        return;
    }
    fetch = fetch_create(from->endpoints, from->endpoint);
    if (fetch == NULL) {
        add_task_event(daemon, AGENT_FETCH_FAILED, action->key, 0, ENOMEM, "out of memory");
        return;
    }
    fetch->epoch = daemon->epoch;
    fetch->job = action->key.job;
    fetch->layer = action->key.layer;
    fetch->index = action->key.index;
    fetch->worker = action->worker;
    fetch->incarnation = from->incarnation;
    exchange_fetch(daemon->exchange, fetch);
}

static void report_failure(struct daemon *daemon, const struct agent_action *action)
{
    Dray__TaskFailed message = DRAY__TASK_FAILED__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;
    const struct layer *layer = layers_get(&daemon->layers, action->key.job, action->key.layer);
    struct error text = {0};

    error_set(&text, action->code, "%s, task %" PRIu32 " on worker %s: %s", layer == NULL ? "?" : layer->name,
              action->key.index, daemon->options.name, action->text == NULL ? "it failed" : action->text);
    why.code = action->code;
    why.text = text.text;
    message.job = action->key.job;
    message.layer = action->key.layer;
    message.index = action->key.index;
    message.why = &why;
    if (action->missing_input) {
        message.has_missing_input = message.missing_input = true;
        message.has_missing_layer = message.has_missing_index = message.has_missing_worker = true;
        message.missing_layer = action->missing.layer;
        message.missing_index = action->missing.index;
        message.missing_worker = action->worker;
    }
    link_send(daemon->link, FRAME_TASK_FAILED, &message.base, NULL, 0);
}

static void act(struct daemon *daemon, const struct agent_action *action)
{
    switch (action->type) {
    case AGENT_RUN:
        run_task(daemon, action);
        break;
    case AGENT_CANCEL:
        executor_cancel(daemon->executor, daemon->epoch, action->key.job, action->key.layer,
                        action->key.index);
        break;
    case AGENT_FETCH:
        fetch_partition(daemon, action);
        break;
    case AGENT_FREE:
        store_drop(daemon->store, action->key.job, action->key.layer, action->key.index);
        break;
    case AGENT_FREE_LAYER:
        layers_drop(&daemon->layers, action->key.job, action->key.layer);
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
            give_up(daemon, ENOMEM, "out of memory");
        }
        break;
    }
}

// Steps the agent through the gathered events, and those that its actions make at once.
static int step(struct daemon *daemon, struct error *err)
{
    int rc = 0;

    if (daemon->stepping) {
        return 0; // an action lost the broker: the step that is under way goes on with that
    }
    daemon->stepping = true;
    for (int i = 0; i < STEPS_MAX && rc == 0 && daemon->events > 0; i++) {
        size_t events = daemon->events;
        struct agent_event *event = daemon->event;

        // Actions add events while these are still in use.
        daemon->event = NULL;
        daemon->events = daemon->events_max = 0;
        rc = agent_step(daemon->agent, event, events, &daemon->actions, err);
        for (size_t j = 0; j < daemon->actions.count; j++) {
            act(daemon, &daemon->actions.action[j]);
        }
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
static void step_alone(struct daemon *daemon)
{
    struct error err = {0};
    int rc = step(daemon, &err);

    if (rc == -EPROTO) {
        link_restart(daemon->link, err.text);
    } else if (rc != 0) {
        give_up(daemon, -rc, err.text);
    }
}

// ---- messages ---------------------------------------------------------------------

static bool range_is_valid(uint32_t first, uint32_t count)
{
    return count > 0 && first <= GRAPH_TASKS_MAX && count <= GRAPH_TASKS_MAX - first;
}

static int add_ranges(struct daemon *daemon, enum agent_event_type type, size_t n, Dray__Run *const *run,
                      bool kill, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (run[i]->n_first != run[i]->n_count) {
            return error_set(err, EBADMSG, "ranges without a length");
        }
        for (size_t j = 0; j < run[i]->n_first; j++) {
            struct agent_event *event = add_event(daemon, type);

            if (event == NULL || !range_is_valid(run[i]->first[j], run[i]->count[j])) {
                return error_set(err, EBADMSG, "a range that cannot be");
            }
            event->u.range.job = run[i]->job;
            event->u.range.layer = run[i]->layer;
            event->u.range.first = run[i]->first[j];
            event->u.range.count = run[i]->count[j];
            event->u.range.kill = kill;
        }
    }
    return 0;
}

static int on_layers(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Layers *layers = (const Dray__Layers *)message;

    for (size_t i = 0; i < layers->n_layer; i++) {
        const Dray__LayerOp *op = layers->layer[i];
        struct agent_event *event;

        if (op->n_input_tasks != op->n_input) {
            return error_set(err, EBADMSG, "a layer with %zu inputs and %zu sizes of inputs", op->n_input,
                             op->n_input_tasks);
        }
        if (layers_add(&daemon->layers, op) != 0 || (event = add_event(daemon, AGENT_LAYER)) == NULL) {
            return error_no_memory(err);
        }
        event->u.layer.job = op->job;
        event->u.layer.layer = op->layer;
        event->u.layer.tasks = op->tasks;
        event->u.layer.inputs = op->n_input;
        event->u.layer.input = op->input;
        event->u.layer.input_tasks = op->input_tasks;
        event->u.layer.wanted = op->wanted;
    }
    return 0;
}

static void neighbour_destroy(struct neighbour *neighbour)
{
    for (size_t i = 0; neighbour != NULL && i < neighbour->endpoints; i++) {
        free(neighbour->endpoint[i]);
    }
    if (neighbour != NULL) {
        free(neighbour->endpoint);
        free(neighbour);
    }
}

static int add_neighbour(struct daemon *daemon, const Dray__Peer *peer)
{
    struct map_key key = {0, peer->worker};
    struct neighbour *before = map_get(&daemon->neighbours, key);
    struct neighbour *neighbour = calloc(1, sizeof(*neighbour));

    if (neighbour == NULL) {
        return -ENOMEM;
    }
    neighbour->incarnation = peer->incarnation;
    neighbour->endpoint = calloc(peer->n_endpoint + 1, sizeof(char *));
    for (size_t i = 0; neighbour->endpoint != NULL && i < peer->n_endpoint; i++) {
        neighbour->endpoint[i] = strdup(peer->endpoint[i]);
        if (neighbour->endpoint[i] == NULL) {
            break;
        }
        neighbour->endpoints++;
    }
    if (neighbour->endpoints < peer->n_endpoint || neighbour->endpoint == NULL ||
        map_put(&daemon->neighbours, key, neighbour) != 0) {
        neighbour_destroy(neighbour);
        return -ENOMEM;
    }
    neighbour_destroy(before);
    return 0;
}

static void forget_neighbours(struct daemon *daemon)
{
    struct neighbour *neighbour;

    for (size_t at = 0; (neighbour = map_next(&daemon->neighbours, &at, NULL)) != NULL;) {
        neighbour_destroy(neighbour);
    }
    map_fini(&daemon->neighbours);
}

static int on_assign(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Assign *assign = (const Dray__Assign *)message;

    for (size_t i = 0; i < assign->n_peer; i++) {
        if (add_neighbour(daemon, assign->peer[i]) != 0) {
            return error_no_memory(err);
        }
    }
    for (size_t i = 0; i < assign->n_location; i++) {
        const Dray__Location *location = assign->location[i];

        if (location->n_first != location->n_count || location->n_first != location->n_worker) {
            return error_set(err, EBADMSG, "locations without a worker");
        }
        for (size_t j = 0; j < location->n_first; j++) {
            struct agent_event *event = add_event(daemon, AGENT_LOCATION);

            if (event == NULL || !range_is_valid(location->first[j], location->count[j])) {
                return error_set(err, EBADMSG, "a location that cannot be");
            }
            event->u.range.job = location->job;
            event->u.range.layer = location->layer;
            event->u.range.first = location->first[j];
            event->u.range.count = location->count[j];
            event->u.range.worker = location->worker[j];
        }
    }
    return add_ranges(daemon, AGENT_ASSIGN, assign->n_run, assign->run, false, err);
}

static int on_drop(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Drop *drop = (const Dray__Drop *)message;

    return add_ranges(daemon, AGENT_DROP, drop->n_run, drop->run, drop->kill, err);
}

static int on_release(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Release *release = (const Dray__Release *)message;
    int rc = add_ranges(daemon, AGENT_RELEASE, release->n_run, release->run, false, err);

    for (size_t i = 0; rc == 0 && i < release->n_job; i++) {
        struct agent_event *event = add_event(daemon, AGENT_FORGET_JOB);

        if (event == NULL) {
            return error_no_memory(err);
        }
        event->u.range.job = release->job[i];
    }
    return rc;
}

// For a client that cannot reach the exchange.
static int on_fetch(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Fetch *fetch = (const Dray__Fetch *)message;
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;
    struct error why = {0};
    struct buffer *payload = NULL;

    (void)err;
    piece.tag = fetch->tag;
    piece.has_client = fetch->has_client;
    piece.client = fetch->client;
    if (encoding_piece(daemon->store, fetch->job, fetch->layer, fetch->index, fetch->offset, fetch->length,
                       &payload, &piece.total, &why) != 0) {
        failure.code = why.code;
        failure.text = why.text;
        piece.why = &failure;
    }
    link_send(daemon->link, FRAME_PIECE, &piece.base, &payload, payload == NULL ? 0 : 1);
    buffer_unref(payload);
    return 0;
}

static const struct handler {
    enum frame_type type;
    int (*handle)(struct daemon *daemon, const ProtobufCMessage *message, struct error *err);
} HANDLERS[] = {
    {FRAME_LAYERS, on_layers}, {FRAME_ASSIGN, on_assign},   {FRAME_DROP, on_drop},
    {FRAME_FETCH, on_fetch},   {FRAME_RELEASE, on_release},
};

static int on_message(void *arg, const struct frame *frame, struct message *frames, struct error *err)
{
    struct daemon *daemon = arg;

    if (frames->frames != 1) {
        return error_set(err, EBADMSG, "%s with a payload", frame->info->name);
    }
    for (size_t i = 0; i < sizeof(HANDLERS) / sizeof(HANDLERS[0]); i++) {
        if (HANDLERS[i].type == frame->info->type) {
            int rc = HANDLERS[i].handle(daemon, frame->message, err);

            if (rc != 0) {
                daemon->events = 0;
                return rc;
            }
            return step(daemon, err);
        }
    }
    return error_set(err, EBADMSG, "%s is not for a worker", frame->info->name);
}

// ---- the session ------------------------------------------------------------------

static void send_files(struct daemon *daemon)
{
    Dray__Advertise advertise = DRAY__ADVERTISE__INIT;
    size_t n = daemon->files->count;
    Dray__SourceFile *file = calloc(n + 1, sizeof(*file));
    Dray__SourceFile **list = calloc(n + 1, sizeof(*list));

    if (file == NULL || list == NULL) {
        give_up(daemon, ENOMEM, "out of memory");
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
    const struct agent_options options = {.threads = daemon->options.threads, .fetches_max = FETCHES_MAX};

    daemon->epoch++;
    if (daemon->executor != NULL) {
        executor_cancel_all(daemon->executor);
    }
    agent_destroy(daemon->agent);
    daemon->events = 0;
    layers_fini(&daemon->layers);
    store_clear(daemon->store);
    report_clear(daemon->report);
    daemon->agent = agent_create(&options);
    return daemon->agent == NULL ? error_no_memory(err) : 0;
}

static void on_up(void *arg, const Dray__Welcome *welcome)
{
    struct daemon *daemon = arg;
    struct error err = {0};

    if (daemon->broker_incarnation != 0 && daemon->broker_incarnation != welcome->incarnation) {
        log_write(daemon->options.log, LEVEL_INFO, "it is another broker: starting over");
        if (start_over(daemon, &err) != 0) {
            give_up(daemon, ENOMEM, err.text);
            return;
        }
    }
    daemon->broker_incarnation = welcome->incarnation;
    report_clear(daemon->report);
    report_full(daemon->report);
    if (daemon->files != NULL) {
        send_files(daemon);
    }
    report_notes(daemon->link, daemon->store);
    add_event(daemon, AGENT_CONNECTED);
    step_alone(daemon);
}

static void on_down(void *arg)
{
    struct daemon *daemon = arg;

    forget_neighbours(daemon);
    report_clear(daemon->report);
    add_event(daemon, AGENT_DISCONNECTED);
    step_alone(daemon);
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
    message->has_memory_used = message->has_rss = message->has_running = message->has_queued = true;
    message->memory_used = budget_used(daemon->budget);
    message->rss = resident_bytes();
    message->running = counts.running;
    message->queued = counts.queued;
}

static void on_over(void *arg, int code, const char *why)
{
    struct daemon *daemon = arg;

    if (code == 0) {
        log_write(daemon->options.log, LEVEL_INFO, "the broker at %s says goodbye: %s",
                  daemon->options.broker, why);
        loop_stop(daemon->loop);
    } else {
        give_up(daemon, code, why);
    }
}

// ---- what threads report ----------------------------------------------------------

static void take_outcome(struct daemon *daemon, struct work *work)
{
    struct task_key key = {work->layer->job, work->layer->layer, work->index};
    struct error err = {0};
    uint64_t bytes = 0;
    int rc = work->rc;

    if (atomic_load(&work->cancelled)) {
        add_task_event(daemon, AGENT_TASK_FAILED, key, 0, ECANCELED, "cancelled");
        return;
    }
    if (rc != 0) {
        add_task_event(daemon, AGENT_TASK_FAILED, key, 0, -rc, work->err.text);
        return;
    }
    rc =
        store_put(daemon->store, key.job, key.layer, key.index, work->partition, work->note, 0, &bytes, &err);
    work->partition = NULL;
    work->note = NULL;
    if (rc != 0) {
        add_task_event(daemon, AGENT_TASK_FAILED, key, 0, -rc, err.text);
        return;
    }
    work->layer->rows += work->rows;
    work->layer->source_bytes += work->source_bytes;
    add_task_event(daemon, AGENT_TASK_DONE, key, bytes, 0, NULL);
}

static void on_executor(void *arg, short revents)
{
    struct daemon *daemon = arg;
    struct work *work;

    (void)revents;
    while ((work = executor_take(daemon->executor)) != NULL) {
        if (work->epoch == daemon->epoch) {
            take_outcome(daemon, work);
        }
        work_destroy(work);
    }
    step_alone(daemon);
}

static void take_fetched(struct daemon *daemon, struct fetch *fetch)
{
    struct task_key key = {fetch->job, fetch->layer, fetch->index};
    struct error err = {0};
    uint64_t bytes = 0;
    int rc = fetch->rc;

    if (rc == 0) {
        rc = store_put(daemon->store, key.job, key.layer, key.index, fetch->partition, NULL, fetch->charged,
                       &bytes, &fetch->err);
        fetch->partition = NULL;
        fetch->charged = 0;
    }
    if (rc == 0) {
        add_task_event(daemon, AGENT_FETCHED, key, bytes, 0, NULL);
        return;
    }
    error_set(&err, -rc,
              "partition %" PRIu32 " of layer %" PRIu32 " could not be had from worker %" PRIu32 ": %s",
              key.index, key.layer, fetch->worker, fetch->err.text);
    add_task_event(daemon, AGENT_FETCH_FAILED, key, 0, -rc, err.text);
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
    step_alone(daemon);
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

static void on_tick(void *arg)
{
    struct daemon *daemon = arg;

    link_tick(daemon->link);
}

static void on_turn(void *arg)
{
    struct daemon *daemon = arg;

    if (link_is_up(daemon->link)) {
        report_send(daemon->report, daemon->link, daemon->store, &daemon->layers);
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
    const struct link_handler handler = {daemon, on_up, on_message, on_down, on_heartbeat, on_over};
    Dray__Hello *hello = &daemon->hello;

    dray__hello__init(hello);
    hello->role = DRAY__ROLE__WORKER;
    hello->protocol = FRAME_PROTOCOL;
    hello->version = (char *)DRAY_VERSION;
    hello->incarnation = daemon->incarnation;
    hello->name = (char *)(uintptr_t)daemon->options.name; // these are only read
    hello->has_threads = hello->has_memory = true;
    hello->threads = daemon->options.threads;
    hello->memory = daemon->options.memory;
    daemon->endpoints[0] = (char *)(uintptr_t)exchange_endpoint(daemon->exchange);
    hello->endpoint = daemon->endpoints;
    hello->n_endpoint = 1;
    if (daemon->options.data_dir != NULL) {
        hello->data_dir = (char **)(uintptr_t)daemon->options.data_dir;
        while (daemon->options.data_dir[hello->n_data_dir] != NULL) {
            hello->n_data_dir++;
        }
    }
    return link_create(daemon->loop, &options, &handler, &daemon->link, err);
}

static int open_parts(struct daemon *daemon, struct error *err)
{
    struct executor_options executor_options = {
        .threads = daemon->options.threads,
        .data_dir = daemon->options.data_dir,
        .plugins = daemon->options.plugins,
        .scratch = daemon->options.scratch,
    };
    int rc = open_memory(daemon, err);

    if (rc == 0) {
        rc = open_exchange(daemon, err);
    }
    if (rc == 0) {
        executor_options.budget = daemon->budget;
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
    arena_init(&daemon->arena, 0);
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
    link_destroy(daemon->link, goodbye);
    exchange_destroy(daemon->exchange);
    if (!executor_destroy(daemon->executor)) {
        return false;
    }
    sources_destroy(daemon->sources);
    source_files_destroy(daemon->files);
    forget_neighbours(daemon);
    agent_destroy(daemon->agent);
    agent_actions_fini(&daemon->actions);
    report_destroy(daemon->report);
    layers_fini(&daemon->layers);
    store_destroy(daemon->store);
    budget_destroy(daemon->budget);
    arena_fini(&daemon->arena);
    free(daemon->event);
    free(daemon);
    return true;
}
