#include "broker/state.h"

#include <errno.h>

enum {
    // That wait at the gate: of one peer (libdray sends less, see client/lib/extends.c), of all, and of a
    // client when there
    // are as many.
    GATED_BYTES_MAX = 128 << 20,
    GATE_BYTES_MAX = 512 << 20,
    GATED_BYTES_WHEN_FULL = 1 << 20,
};

// Who may send what stands in proto/frame.h and has been checked.  What begins and
// ends a session is session.c's.
static const struct handler {
    enum frame_type type;
    bool has_payload;
    dispatch_function *handle;
} HANDLERS[] = {
    {FRAME_DONE, true, dispatch_done}, // the most frequent ones first
    {FRAME_HEARTBEAT, false, dispatch_heartbeat},
    {FRAME_EXTEND, false, dispatch_extend},
    {FRAME_FREE, false, dispatch_free},
    {FRAME_ADVERTISE, false, dispatch_advertise},
    {FRAME_TASK_FAILED, false, dispatch_task_failed},
    {FRAME_TASKS_FAILED, false, dispatch_tasks_failed},
    {FRAME_DROPPED, false, dispatch_dropped},
    {FRAME_LEAVING, false, dispatch_leaving},
    {FRAME_RETIRE, false, dispatch_retire},
    {FRAME_SUBMIT, false, dispatch_submit},
    {FRAME_CANCEL, false, dispatch_cancel},
    {FRAME_ATTACH, false, dispatch_attach},
    {FRAME_KEEP, false, dispatch_keep},
    {FRAME_UNKEEP, false, dispatch_unkeep},
    {FRAME_JOB_QUERY, false, dispatch_job_query},
    {FRAME_CLUSTER_QUERY, false, dispatch_cluster_query},
    {FRAME_SOURCE_QUERY, false, dispatch_source_query},
    {FRAME_FETCH, false, dispatch_fetch},
    {FRAME_PIECE, true, dispatch_piece},
};

int dispatch_frame(struct broker *broker, struct peer *peer, const struct frame *frame,
                   struct message *message, struct error *err)
{
    for (size_t i = 0; i < sizeof(HANDLERS) / sizeof(HANDLERS[0]); i++) {
        if (HANDLERS[i].type == frame->info->type) {
            if (message->frames > 2 && !HANDLERS[i].has_payload) {
                return error_set(err, EBADMSG, "%s has no payload, but %zu frames follow it",
                                 frame->info->name, message->frames - 2);
            }
            return HANDLERS[i].handle(broker, peer, frame->message, message, err);
        }
    }
    return error_set(err, EBADMSG, "%s is not for a broker", frame->info->name);
}

int dispatch_check_gated(const struct broker *broker, enum frame_sender role, size_t bytes, struct error *err)
{
    bool full = broker->gate.bytes > GATE_BYTES_MAX && role == FROM_CLIENT;

    if (bytes <= (full ? GATED_BYTES_WHEN_FULL : GATED_BYTES_MAX)) {
        return 0;
    }
    return error_set(
        err, EBUSY,
        "it says more than the broker can keep while the disk of its journal is slow: %zu MB of it, "
        "and %zu MB of all, wait to be written",
        bytes >> 20, broker->gate.bytes >> 20);
}

// A process that connects anew comes after all that came over its old connection, the end of that included.
static struct turn *turn_of_joined(struct broker *broker, struct peer *peer)
{
    struct turn *turn = broker_turn(broker);

    if (gate_holds(&broker->gate, peers_gated(&broker->peers, peer->incarnation))) {
        turn = gate_turn_behind(&broker->gate, &peer->gated);
    }
    return turn;
}

int dispatch_joined(struct broker *broker, struct peer *peer, struct error *err)
{
    struct turn *turn;
    struct sched_event *event;
    size_t bytes = peers_gated_bytes(&broker->peers, peer->incarnation);

    // It tries again; who is new has nothing there yet.
    if (dispatch_check_gated(broker, peer->role, bytes, err) != 0) {
        return error_set(err, EBUSY, "the disk of this broker's journal is slow: try again later");
    }
    if (peer->role == FROM_CLIENT && broker->gate.bytes > GATE_BYTES_MAX) {
        return error_set(err, EBUSY, "the disk of this broker's journal is slow: try again later");
    }
    turn = turn_of_joined(broker, peer);
    event = turn == NULL
                ? NULL
                : turn_add(turn, peer->role == FROM_WORKER ? EVENT_WORKER_JOINED : EVENT_CLIENT_JOINED);

    if (event == NULL) {
        return error_no_memory(err);
    }
    recorder_peer_joined(broker, peer);
    if (peer->role == FROM_CLIENT) {
        event->u.client.client = peer->number;
        return 0;
    }
    event->u.joined.worker = peer->number;
    event->u.joined.threads = peer->threads;
    event->u.joined.memory = peer->memory;
    event->u.joined.shared_files = peer->shared_files;
    // The peer lives until the turn is over, also one at the gate.
    event->u.joined.name = peer->name;
    event->u.joined.labels = peer->labels;
    event->u.joined.label = peer->label;
    event->u.joined.resources = peer->resources;
    event->u.joined.resource = peer->resource;
    event->u.joined.incarnation = peer->incarnation;
    return 0;
}

void dispatch_left(struct broker *broker, struct peer *peer, enum session_end end, const char *why)
{
    struct turn *turn = broker_turn_of(broker, peer);
    struct sched_event *event =
        turn == NULL ? NULL
                     : turn_add(turn, peer->role == FROM_WORKER ? EVENT_WORKER_LEFT : EVENT_CLIENT_LEFT);

    broker->has_freed = true;
    relay_forget_peer(broker, peer);
    if (peer->role == FROM_CLIENT) {
        readers_forget_client(broker, peer->number);
    }
    if (event == NULL) {
        // The scheduler would believe in this peer for ever.
        log_write(broker->options.log, LEVEL_ERROR, "out of memory: stopping");
        loop_stop(broker->loop);
        return;
    }
    if (peer->role == FROM_CLIENT) {
        event->u.client.client = peer->number;
        event->u.client.on_purpose = end == SESSION_BYE;
    } else {
        event->u.left.worker = peer->number;
        event->u.left.why = arena_strdup(&turn->arena, why);
        // Its process was there a moment ago, so what it did has not killed it.
        event->u.left.on_purpose = end != SESSION_LOST;
        recorder_worker_left(broker, peer);
        if (end == SESSION_BYE) { // its process ends; else it may come back
            leavers_remove(&broker->leavers, peer->incarnation);
        }
    }
}

void dispatch_full(struct broker *broker, struct peer *peer, bool full)
{
    struct turn *turn = broker_turn_of(broker, peer);
    struct sched_event *event = turn == NULL ? NULL : turn_add(turn, EVENT_CLIENT_FULL);

    if (event == NULL) { // it will be cut when it goes on like this
        log_write(broker->options.log, LEVEL_ERROR, "out of memory: client %s is not held back", peer->name);
        return;
    }
    event->u.client.client = peer->number;
    event->u.client.full = full;
}
