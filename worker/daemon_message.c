// What the broker says, as events of the agent.
#include <errno.h>

#include "worker/daemon_state.h"
#include "worker/encoding.h"

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
            struct agent_event *event = daemon_event(daemon, type);

            if (event == NULL || !range_is_valid(run[i]->first[j], run[i]->count[j])) {
                return error_set(err, EBADMSG, "a range that cannot be");
            }
            event->u.range.range =
                (struct agent_range){run[i]->job, run[i]->layer, run[i]->first[j], run[i]->count[j]};
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
        if (layers_add(&daemon->layers, op) != 0 || (event = daemon_event(daemon, AGENT_LAYER)) == NULL) {
            return error_no_memory(err);
        }
        event->u.layer.job = op->job;
        event->u.layer.layer = op->layer;
        event->u.layer.tasks = op->tasks;
        event->u.layer.inputs = op->n_input;
        event->u.layer.input = op->input;
        event->u.layer.input_tasks = op->input_tasks;
        event->u.layer.resources = op->n_resource;
        event->u.layer.resource = op->resource;
        event->u.layer.instant = layers_get(&daemon->layers, op->job, op->layer)->size == KERNEL_INSTANT;
    }
    return 0;
}

static int add_neighbours(struct daemon *daemon, size_t n, Dray__Peer *const *peer, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (neighbours_add(&daemon->neighbours, peer[i]) != 0) {
            return error_no_memory(err);
        }
    }
    return 0;
}

static int add_locations(struct daemon *daemon, enum agent_event_type type, size_t n,
                         Dray__Location *const *location, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const Dray__Location *at = location[i];

        if (at->n_first != at->n_count || at->n_first != at->n_worker) {
            return error_set(err, EBADMSG, "locations without a worker");
        }
        for (size_t j = 0; j < at->n_first; j++) {
            struct agent_event *event = daemon_event(daemon, type);

            if (event == NULL || !range_is_valid(at->first[j], at->count[j])) {
                return error_set(err, EBADMSG, "a location that cannot be");
            }
            event->u.range.range = (struct agent_range){at->job, at->layer, at->first[j], at->count[j]};
            event->u.range.worker = at->worker[j];
        }
    }
    return 0;
}

static int on_assign(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Assign *assign = (const Dray__Assign *)message;

    int rc = add_neighbours(daemon, assign->n_peer, assign->peer, err);

    if (rc == 0) {
        rc = add_locations(daemon, AGENT_LOCATION, assign->n_location, assign->location, err);
    }
    return rc == 0 ? add_ranges(daemon, AGENT_ASSIGN, assign->n_run, assign->run, false, err) : rc;
}

static int on_copy(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Copy *copy = (const Dray__Copy *)message;
    int rc = add_neighbours(daemon, copy->n_peer, copy->peer, err);

    return rc == 0 ? add_locations(daemon, AGENT_COPY, copy->n_location, copy->location, err) : rc;
}

static int on_retire(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    (void)message;
    (void)err;
    daemon_retire(daemon, "asked to leave");
    return 0;
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
        struct agent_event *event = daemon_event(daemon, AGENT_FORGET_JOB);

        if (event == NULL) {
            return error_no_memory(err);
        }
        event->u.range.range.job = release->job[i];
    }
    return rc;
}

// For who cannot reach the exchange.
static int on_fetch(struct daemon *daemon, const ProtobufCMessage *message, struct error *err)
{
    const Dray__Fetch *fetch = (const Dray__Fetch *)message;
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;
    struct error why = {0};
    struct buffer *payload = NULL;
    uint32_t size[FRAME_FETCH_MAX];

    (void)err;
    piece.has_client = fetch->has_client;
    piece.client = fetch->client;
    if (encoding_answer(daemon->store, fetch, &piece, size, &payload, &why) != 0) {
        failure.code = why.code;
        failure.text = why.text;
        piece.why = &failure;
    }
    daemon->relayed += payload != NULL;
    link_send(daemon->link, FRAME_PIECE, &piece.base, &payload, payload == NULL ? 0 : 1);
    buffer_unref(payload);
    return 0;
}

// Of a worker that this one cannot reach.
static int on_piece(struct daemon *daemon, const ProtobufCMessage *message, struct message *frames,
                    struct error *err)
{
    const Dray__Piece *piece = (const Dray__Piece *)message;
    struct buffer *payload = NULL;
    int rc;

    if (frames->frames != (piece->why == NULL ? 2U : 1U)) {
        return error_set(err, EBADMSG, "PIECE with %zu payloads", frames->frames - 1);
    }
    if (piece->why == NULL && (payload = message_take(frames, 1)) == NULL) {
        return error_no_memory(err);
    }
    rc = exchange_answer(daemon->exchange, piece, payload);
    buffer_unref(payload);
    return rc == 0 ? 0 : error_no_memory(err);
}

static const struct handler {
    enum frame_type type;
    int (*handle)(struct daemon *daemon, const ProtobufCMessage *message, struct error *err);
} HANDLERS[] = {
    {FRAME_LAYERS, on_layers}, {FRAME_ASSIGN, on_assign},   {FRAME_DROP, on_drop},
    {FRAME_FETCH, on_fetch},   {FRAME_RELEASE, on_release}, {FRAME_COPY, on_copy},
    {FRAME_RETIRE, on_retire},
};

int daemon_message(void *arg, const struct frame *frame, struct message *frames, struct error *err)
{
    struct daemon *daemon = arg;

    if (frame->info->type == FRAME_PIECE) {
        return on_piece(daemon, frame->message, frames, err);
    }
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
            return daemon_step(daemon, err);
        }
    }
    return error_set(err, EBADMSG, "%s is not for a worker", frame->info->name);
}
