#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "broker/batch.h"

// ---- to workers -------------------------------------------------------------------

static void to_worker(struct broker *broker, const struct sched_action *action)
{
    struct peer *peer = peers_by_number(&broker->peers, action->peer);

    if (peer == NULL || peer->role != FROM_WORKER) {
        return; // it left, and the scheduler will hear of it
    }
    if (peer->batch == NULL) {
        peer->batch = batch_create();
    }
    if (peer->batch == NULL || batch_add(peer->batch, action) != 0) {
        sessions_end(broker->sessions, peer, ENOMEM, "the broker has no memory for its messages");
    }
}

struct envelope {
    struct broker *broker;
    struct peer *peer;
    struct arena *arena;
};

static Dray__Peer *make_peer(const struct peer *worker, struct arena *arena)
{
    Dray__Peer *peer = arena_alloc(arena, sizeof(*peer));

    if (peer != NULL) {
        dray__peer__init(peer);
        peer->worker = worker->number;
        peer->n_endpoint = worker->endpoints;
        peer->endpoint = worker->endpoint;
        peer->incarnation = worker->incarnation;
    }
    return peer;
}

// Endpoints of the workers that its locations name, those that it was not told of.
static void add_peers(const struct envelope *to, Dray__Assign *assign)
{
    size_t n = 0;

    for (size_t i = 0; i < assign->n_location; i++) {
        n += assign->location[i]->n_worker;
    }
    n = n < to->broker->peers.workers ? n : to->broker->peers.workers;
    assign->peer = arena_array(to->arena, n + 1, sizeof(*assign->peer));
    for (size_t i = 0; assign->peer != NULL && i < assign->n_location; i++) {
        const Dray__Location *location = assign->location[i];

        for (size_t j = 0; j < location->n_worker; j++) {
            const struct peer *worker = peers_by_number(&to->broker->peers, location->worker[j]);

            if (worker == NULL || worker->role != FROM_WORKER || assign->n_peer == n ||
                peer_was_told(to->peer, worker->number)) {
                continue;
            }
            Dray__Peer *told = make_peer(worker, to->arena);

            if (told != NULL) {
                assign->peer[assign->n_peer++] = told;
            }
        }
    }
}

static void emit(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    const struct envelope *to = arg;

    if (type == FRAME_ASSIGN) {
        add_peers(to, (Dray__Assign *)message);
    }
    sessions_send(to->broker->sessions, to->peer, type, message, NULL, 0);
}

static void send_batches(struct broker *broker, struct arena *arena)
{
    for (struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        struct envelope to = {broker, peer, arena};

        if (peer->batch != NULL && !peer->gone && batch_emit(peer->batch, arena, emit, &to) != 0) {
            sessions_end(broker->sessions, peer, ENOMEM, "the broker has no memory for its messages");
        }
    }
}

// ---- to clients -------------------------------------------------------------------

static void send_accepted(struct broker *broker, struct peer *peer, const struct sched_action *action)
{
    Dray__Accepted message = DRAY__ACCEPTED__INIT;

    message.key_hi = action->key_hi;
    message.key_lo = action->key_lo;
    message.job = action->range.job;
    if (readers_add(broker, action->range.job, peer->number) != 0) {
        sessions_end(broker->sessions, peer, ENOMEM, "the broker has no memory for its messages");
        return;
    }
    sessions_send(broker->sessions, peer, FRAME_ACCEPTED, &message.base, NULL, 0);
}

static void send_rejected(struct broker *broker, struct peer *peer, const struct sched_action *action)
{
    Dray__Rejected message = DRAY__REJECTED__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;

    why.code = action->code;
    why.text = (char *)(uintptr_t)action->text; // only read
    message.key_hi = action->key_hi;
    message.key_lo = action->key_lo;
    message.why = &why;
    sessions_send(broker->sessions, peer, FRAME_REJECTED, &message.base, NULL, 0);
}

static void send_progress(struct broker *broker, struct peer *peer, const struct sched_action *action)
{
    Dray__Progress message = DRAY__PROGRESS__INIT;

    message.job = action->range.job;
    message.tasks = action->tasks;
    message.done = action->done;
    message.has_rows = message.has_source_bytes = message.has_workers = true;
    message.rows = action->rows;
    message.source_bytes = action->source_bytes;
    message.workers = action->workers;
    message.waiting = (char *)(uintptr_t)action->text; // only read
    sessions_send(broker->sessions, peer, FRAME_PROGRESS, &message.base, NULL, 0);
}

static void send_result(struct broker *broker, struct peer *peer, const struct turn *turn,
                        const struct sched_action *action, uint32_t n)
{
    Dray__Result message = DRAY__RESULT__INIT;
    const struct task_range *at = &action->range;
    struct buffer *payload = turn_payload(turn, at->job, at->layer, at->first + n);
    const struct peer *worker = peers_by_number(&broker->peers, action->worker);

    message.job = at->job;
    message.layer = at->layer;
    message.index = at->first + n;
    message.bytes = action->sizes[n];
    message.has_worker = true;
    message.worker = action->worker;
    if (payload != NULL) {
        message.has_inlined = message.inlined = true;
    } else if (worker != NULL && worker->role == FROM_WORKER) {
        message.n_endpoint = worker->endpoints;
        message.endpoint = worker->endpoint;
        message.has_incarnation = true;
        message.incarnation = worker->incarnation;
    }
    sessions_send(broker->sessions, peer, FRAME_RESULT, &message.base, &payload, payload == NULL ? 0 : 1);
}

static void send_job_ended(struct broker *broker, struct peer *peer, const struct sched_action *action)
{
    Dray__JobEnded message = DRAY__JOB_ENDED__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;

    message.job = action->range.job;
    message.state = (Dray__JobState)action->state;
    if (action->text != NULL) {
        why.code = action->code;
        why.text = (char *)(uintptr_t)action->text; // only read
        message.why = &why;
    }
    if (action->layer_at != UINT32_MAX) {
        message.has_layer = message.has_index = true;
        message.layer = action->layer_at;
        message.index = action->index_at;
        message.worker = (char *)(uintptr_t)action->worker_name; // only read
    }
    sessions_send(broker->sessions, peer, FRAME_JOB_ENDED, &message.base, NULL, 0);
}

static void to_client(struct broker *broker, const struct turn *turn, const struct sched_action *action)
{
    struct peer *peer = peers_by_number(&broker->peers, action->peer);

    if (peer == NULL || peer->role != FROM_CLIENT) {
        return;
    }
    switch (action->type) {
    case ACTION_ACCEPTED:
        send_accepted(broker, peer, action);
        break;
    case ACTION_REJECTED:
        send_rejected(broker, peer, action);
        break;
    case ACTION_PROGRESS:
        send_progress(broker, peer, action);
        break;
    case ACTION_RESULT:
        for (uint32_t n = 0; n < action->range.count && !peer->gone; n++) {
            send_result(broker, peer, turn, action, n);
        }
        break;
    default:
        send_job_ended(broker, peer, action);
        break;
    }
}

void deliver_actions(struct broker *broker, struct turn *turn)
{
    bool workers = false;

    for (size_t i = 0; i < broker->actions.count; i++) {
        const struct sched_action *action = &broker->actions.action[i];

        switch (action->type) {
        case ACTION_LAYER:
        case ACTION_RUN:
        case ACTION_DROP:
        case ACTION_RELEASE:
        case ACTION_FORGET_JOB:
            to_worker(broker, action);
            workers = true;
            break;
        default:
            to_client(broker, turn, action);
            break;
        }
    }
    // Only now: a second client of the job may hear of its end in the same turn.
    for (size_t i = 0; i < broker->actions.count; i++) {
        if (broker->actions.action[i].type == ACTION_JOB_ENDED) {
            readers_forget_job(broker, broker->actions.action[i].range.job);
        }
    }
    if (workers) {
        send_batches(broker, &turn->arena);
    }
}
