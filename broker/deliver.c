#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "broker/batch.h"
#include "broker/results.h"

enum {
    NOTES_AT_ONCE = 256,
    NOTES_BYTES_AT_ONCE = 1 << 20,
};

static const char NO_MEMORY[] = "the broker has no memory for its messages";

// Somebody with a batch or results: has its turn when all actions are sorted.
static void note_addressee(struct broker *broker, struct peer *peer)
{
    if (!peer->addressed) {
        peer->addressed = true;
        peer->next_addressee = NULL;
        *broker->last_addressee = peer;
        broker->last_addressee = &peer->next_addressee;
    }
}

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
        sessions_end(broker->sessions, peer, ENOMEM, NO_MEMORY);
    } else {
        note_addressee(broker, peer);
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

// Endpoints of the workers that locations name, those that it was not told of.
static Dray__Peer **make_peers(const struct envelope *to, Dray__Location *const *location, size_t locations,
                               size_t *count)
{
    Dray__Peer **peer;
    size_t n = 0;

    for (size_t i = 0; i < locations; i++) {
        n += location[i]->n_worker;
    }
    n = n < to->broker->peers.workers ? n : to->broker->peers.workers;
    peer = arena_array(to->arena, n + 1, sizeof(struct peer *));
    for (size_t i = 0; peer != NULL && i < locations; i++) {
        for (size_t j = 0; j < location[i]->n_worker; j++) {
            const struct peer *worker = peers_by_number(&to->broker->peers, location[i]->worker[j]);

            if (worker == NULL || worker->role != FROM_WORKER || *count == n ||
                peer_was_told(to->peer, worker->number)) {
                continue;
            }
            Dray__Peer *told = make_peer(worker, to->arena);

            if (told != NULL) {
                peer[(*count)++] = told;
            }
        }
    }
    return peer;
}

static void emit(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    const struct envelope *to = arg;

    if (type == FRAME_ASSIGN) {
        Dray__Assign *assign = (Dray__Assign *)message;

        assign->peer = make_peers(to, assign->location, assign->n_location, &assign->n_peer);
    } else if (type == FRAME_COPY) {
        Dray__Copy *copy = (Dray__Copy *)message;

        copy->peer = make_peers(to, copy->location, copy->n_location, &copy->n_peer);
    }
    sessions_send(to->broker->sessions, to->peer, type, message, NULL, 0);
}

static void send_batch(struct broker *broker, struct peer *peer, struct arena *arena)
{
    struct envelope to = {broker, peer, arena};

    if (peer->batch != NULL && batch_emit(peer->batch, arena, emit, &to) != 0) {
        sessions_end(broker->sessions, peer, ENOMEM, NO_MEMORY);
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
        sessions_end(broker->sessions, peer, ENOMEM, NO_MEMORY);
        return;
    }
    sessions_send(broker->sessions, peer, FRAME_ACCEPTED, &message.base, NULL, 0);
}

// A refused SUBMIT is in the journal, so its client hears of it when that has forgotten it: a restart would
// take what was said to be refused.
static bool put_off(struct broker *broker, const struct sched_action *action)
{
    uint64_t number;
    struct turn *turn =
        action->range.job == 0 && broker->journal != NULL ? gate_turn(&broker->gate, &number) : NULL;

    return turn != NULL && turn_refuse(turn, action) == 0;
}

static void send_refusals(struct broker *broker, const struct turn *turn)
{
    for (const struct refusal *refusal = turn->refusals; refusal != NULL; refusal = refusal->next) {
        struct peer *peer = peers_by_number(&broker->peers, refusal->client);
        Dray__Rejected message = DRAY__REJECTED__INIT;
        Dray__Failure why = DRAY__FAILURE__INIT;

        why.code = refusal->code;
        why.text = (char *)(uintptr_t)refusal->text; // only read
        message.key_hi = refusal->key_hi;
        message.key_lo = refusal->key_lo;
        message.why = &why;
        if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_REJECTED, &message.base, NULL, 0);
        }
    }
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
    message.has_job = action->range.job != 0; // of EXTEND
    message.job = action->range.job;
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
    message.has_failed = action->failed > 0;
    message.failed = action->failed;
    message.waiting = (char *)(uintptr_t)action->text; // only read
    message.has_stuck = message.stuck = action->stuck;
    sessions_send(broker->sessions, peer, FRAME_PROGRESS, &message.base, NULL, 0);
}

static void add_result(struct broker *broker, struct peer *peer, const struct sched_action *action)
{
    if (peer->results == NULL) {
        peer->results = results_create();
    }
    if (peer->results == NULL || results_add(peer->results, action) != 0) {
        sessions_end(broker->sessions, peer, ENOMEM, NO_MEMORY);
    } else {
        note_addressee(broker, peer);
    }
}

static void emit_results(void *arg, Dray__Results *message, struct buffer *const *frames, size_t count)
{
    const struct envelope *to = arg;

    sessions_send(to->broker->sessions, to->peer, FRAME_RESULTS, &message->base, frames, count);
}

static const struct peer *find_worker(void *arg, uint32_t number)
{
    const struct envelope *to = arg;
    const struct peer *worker = peers_by_number(&to->broker->peers, number);

    return worker != NULL && worker->role == FROM_WORKER ? worker : NULL;
}

static void end_damaged(void *arg, uint32_t number, const struct error *why)
{
    const struct envelope *to = arg;
    struct peer *worker = peers_by_number(&to->broker->peers, number);

    if (worker != NULL) {
        sessions_end(to->broker->sessions, worker, why->code, why->text);
    }
}

static void send_results(struct broker *broker, struct peer *peer, struct turn *turn)
{
    struct envelope to = {broker, peer, &turn->arena};
    const struct results_handler handler = {&to, emit_results, find_worker, end_damaged};

    if (peer->results != NULL && results_emit(peer->results, &turn->parcels, &turn->arena, &handler) != 0) {
        sessions_end(broker->sessions, peer, ENOMEM, NO_MEMORY);
    }
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

static void to_client(struct broker *broker, const struct sched_action *action)
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
        if (!put_off(broker, action)) {
            send_rejected(broker, peer, action);
        }
        break;
    case ACTION_PROGRESS:
        send_progress(broker, peer, action);
        break;
    case ACTION_RESULT:
    case ACTION_RESULT_FAILED:
        add_result(broker, peer, action);
        break;
    default:
        send_job_ended(broker, peer, action);
        break;
    }
}

// ---- answers that waited for the scheduler ------------------------------------------

// The job is there, or its end is what the client gets to hear.
static bool has_attached(const struct broker *broker, const struct answer *answer)
{
    struct sched_job job;

    if (sched_job_info(broker->sched, answer->job, &job) == 0) {
        return true;
    }
    for (size_t i = 0; i < broker->actions.count; i++) {
        const struct sched_action *action = &broker->actions.action[i];

        if (action->type == ACTION_JOB_ENDED && action->peer == answer->client &&
            action->range.job == answer->job) {
            return true;
        }
    }
    return false;
}

// What tasks said before this client had the job, of layers that it was told of.
static void send_notes(struct broker *broker, struct peer *peer, const struct answer *answer)
{
    uint32_t job = answer->job;
    const struct note *from = notes_of(&broker->notes, job);

    while (from != NULL && !peer->gone) {
        Dray__TaskNote note[NOTES_AT_ONCE], *list[NOTES_AT_ONCE];
        Dray__Notes message = DRAY__NOTES__INIT;
        size_t bytes = 0;

        message.job = job;
        message.layer = from->layer;
        message.note = list;
        if (message.layer >= answer->attached->n_layer) {
            from = from->next;
            continue;
        }
        while (from != NULL && from->layer == message.layer && message.n_note < NOTES_AT_ONCE &&
               bytes <= NOTES_BYTES_AT_ONCE) {
            Dray__TaskNote *at = &note[message.n_note];

            dray__task_note__init(at);
            at->index = from->index;
            at->note.data = (uint8_t *)(uintptr_t)from->bytes; // only read
            at->note.len = from->size;
            bytes += from->size;
            list[message.n_note++] = at;
            from = from->next;
        }
        sessions_send(broker->sessions, peer, FRAME_NOTES, &message.base, NULL, 0);
    }
}

static void send_replies(struct broker *broker, const struct turn *turn)
{
    for (const struct reply *reply = turn->replies; reply != NULL; reply = reply->next) {
        struct peer *peer = peers_by_number(&broker->peers, reply->client);
        Dray__Failure why = DRAY__FAILURE__INIT;
        Dray__Reply message = DRAY__REPLY__INIT;

        message.tag = reply->tag;
        if (reply->name != NULL && reply->serial == 0 &&
            kept_find(&broker->kept, reply->name) != reply->job) { // KEEP said twice, and once refused
            why.code = EAGAIN;
            why.text =
                (char *)(uintptr_t) "it is not kept: what was said before of this name was refused, or "
                                    "it was taken back; try again"; // only read
            message.why = &why;
        }
        if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_REPLY, &message.base, NULL, 0);
        }
    }
}

static void send_answers(struct broker *broker, const struct turn *turn)
{
    for (struct answer *answer = turn->answers; answer != NULL; answer = answer->next) {
        struct peer *peer = peers_by_number(&broker->peers, answer->client);
        Dray__Attached missing = DRAY__ATTACHED__INIT;
        Dray__Failure why = DRAY__FAILURE__INIT;

        if (peer == NULL) {
            continue;
        }
        if (has_attached(broker, answer)) {
            sessions_send(broker->sessions, peer, FRAME_ATTACHED, &answer->attached->base, NULL, 0);
            send_notes(broker, peer, answer);
            continue;
        }
        why.code = ENOENT;
        why.text = (char *)(uintptr_t) "the job has just been cancelled"; // only read
        missing.tag = answer->attached->tag;
        missing.why = &why;
        sessions_send(broker->sessions, peer, FRAME_ATTACHED, &missing.base, NULL, 0);
    }
}

void deliver_extended(struct broker *broker, uint32_t client, uint32_t job)
{
    struct peer *peer = peers_by_number(&broker->peers, client);
    Dray__Extended message = DRAY__EXTENDED__INIT;
    struct sched_brief brief;

    // One that has failed is told of as such.
    if (peer != NULL && sched_job_brief(broker->sched, job, &brief) == 0 && brief.state <= JOB_DONE) {
        message.job = job;
        message.layers = brief.layers;
        message.has_last = message.last = !brief.grows;
        sessions_send(broker->sessions, peer, FRAME_EXTENDED, &message.base, NULL, 0);
    }
}

static void send_addressed(struct broker *broker, struct turn *turn)
{
    struct peer *peer = broker->addressee;

    broker->addressee = NULL;
    broker->last_addressee = &broker->addressee;
    while (peer != NULL) {
        struct peer *next = peer->next_addressee;

        peer->addressed = false;
        if (!peer->gone && peer->role == FROM_WORKER) {
            send_batch(broker, peer, &turn->arena);
        } else if (!peer->gone) {
            send_results(broker, peer, turn);
        }
        peer = next;
    }
}

// A SUBMIT that came in this step was refused: somebody may wait to hear that it is forgotten.
static bool has_refused(const struct broker *broker)
{
    for (size_t i = 0; i < broker->actions.count; i++) {
        const struct sched_action *action = &broker->actions.action[i];

        if (action->type == ACTION_REJECTED && action->range.job == 0) {
            return true;
        }
    }
    return false;
}

// Who cancelled something hears so behind what the journal was told of it, by way of the gate, and all of its
// later events come behind that.  When it was told nothing now: somebody else may have cancelled the same a
// moment ago, which need not be on the disk yet.
static void answer_cancels(struct broker *broker, const struct turn *turn, bool gated)
{
    bool waits = broker->journal != NULL && turn->cancels != NULL && (gated || recorder_flush(broker));

    for (const struct reply *cancel = turn->cancels; cancel != NULL; cancel = cancel->next) {
        struct peer *peer = peers_by_number(&broker->peers, cancel->client);
        Dray__Reply message = DRAY__REPLY__INIT;
        struct turn *later = peer != NULL && waits ? gate_turn(&broker->gate, &peer->gated) : NULL;

        message.tag = cancel->tag;
        if (later != NULL && turn_reply(later, cancel->client, cancel->tag, NULL, 0, 0) == 0) {
            gate_charge(&broker->gate, &peer->gated_bytes, sizeof(*cancel));
        } else if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_REPLY, &message.base, NULL, 0);
        }
    }
}

void deliver_actions(struct broker *broker, struct turn *turn)
{
    bool ended = false, refused = broker->journal != NULL && has_refused(broker);
    bool cancelled = broker->journal != NULL && turn->cancels != NULL;
    uint64_t gated = 0;

    send_answers(broker, turn);
    send_replies(broker, turn);
    send_refusals(broker, turn);
    for (const struct extended *extended = turn->extended; extended != NULL; extended = extended->next) {
        if (admit_safe_layers(broker, extended->job) == UINT32_MAX || admit_later(broker, extended) != 0) {
            deliver_extended(broker, extended->client, extended->job);
        }
    }
    for (size_t i = 0; i < broker->actions.count; i++) {
        const struct sched_action *action = &broker->actions.action[i];

        switch (action->type) {
        case ACTION_LAYER:
        case ACTION_RUN:
        case ACTION_DROP:
        case ACTION_RELEASE:
        case ACTION_FORGET_JOB:
        case ACTION_COPY:
            to_worker(broker, action);
            break;
        case ACTION_JOB_ENDED: // after its results
            ended = true;
            break;
        case ACTION_RECORD:
            recorder_record(broker, action,
                            cancelled || (refused && action->record == RECORD_JOB_FORGOTTEN) ? &gated : NULL);
            break;
        default:
            to_client(broker, action);
            break;
        }
    }
    answer_cancels(broker, turn, gated != 0);
    send_addressed(broker, turn);
    for (size_t i = 0; ended && i < broker->actions.count; i++) {
        if (broker->actions.action[i].type == ACTION_JOB_ENDED) {
            to_client(broker, &broker->actions.action[i]);
        }
    }
    broker->has_freed = broker->has_freed || ended;
    // Only now: a second client of the job may hear of its end in the same turn.
    for (size_t i = 0; ended && i < broker->actions.count; i++) {
        if (broker->actions.action[i].type == ACTION_JOB_ENDED) {
            readers_forget_job(broker, broker->actions.action[i].range.job);
        }
    }
}
