// Bytes from a worker to who cannot reach it.  A FETCH waits (broker/core/relays.h) until its turn comes.
#include "broker/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

enum { PIECE_SLACK = 4096 };

static void answer(struct broker *broker, uint32_t reader, uint32_t tag, int code, const char *why)
{
    struct peer *peer = peers_by_number(&broker->peers, reader);
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;

    if (peer == NULL) {
        return;
    }
    failure.code = code;
    failure.text = (char *)(uintptr_t)why; // only read
    piece.tag = tag;
    piece.why = &failure;
    sessions_send(broker->sessions, peer, FRAME_PIECE, &piece.base, NULL, 0);
}

// ---- passing on ---------------------------------------------------------------------

// Each may end its worker's session, and so what there is to pass.
static void pass_on(struct broker *broker)
{
    struct relay *relay;

    while ((relay = relays_next(&broker->relays)) != NULL) {
        struct peer *worker = peers_by_number(&broker->peers, relay->worker);
        Dray__Fetch passed = DRAY__FETCH__INIT;
        uint32_t also[FRAME_FETCH_MAX];

        if (worker == NULL) {
            continue; // it goes at this moment, and what was passed to it with it
        }
        passed.tag = relay->tag;
        passed.job = relay->job;
        passed.layer = relay->layer;
        passed.index = relay->index;
        passed.offset = relay->offset;
        passed.length = relay->length;
        passed.has_client = true;
        passed.client = relay->reader;
        memcpy(also, relay->also, relay->n_also * sizeof(also[0]));
        passed.n_also = relay->n_also;
        passed.also = also;
        sessions_send(broker->sessions, worker, FRAME_FETCH, &passed.base, NULL, 0);
    }
}

// Its number is of its session: a worker that was away for a moment has another one, and what it held.
static struct peer *find_worker(const struct broker *broker, const Dray__Fetch *fetch)
{
    struct peer *worker = fetch->has_worker ? peers_by_number(&broker->peers, fetch->worker) : NULL;

    if (fetch->has_incarnation && (worker == NULL || worker->incarnation != fetch->incarnation)) {
        worker = peers_by_incarnation(&broker->peers, fetch->incarnation);
    }
    return worker != NULL && worker->role == FROM_WORKER ? worker : NULL;
}

int relay_fetch(struct broker *broker, struct peer *reader, const Dray__Fetch *fetch, struct error *err)
{
    struct peer *worker = find_worker(broker, fetch);

    if (fetch->index >= GRAPH_TASKS_MAX) {
        return error_set(err, EBADMSG, "FETCH of a partition that cannot be");
    }
    if (worker == NULL) {
        answer(broker, reader->number, fetch->tag, ENOENT, "the worker that held it is not here any more");
        return 0;
    }
    if (reader->relay.asks >= RELAYS_OF_READER_MAX) {
        answer(broker, reader->number, fetch->tag, EAGAIN, "too many pieces are under way for this reader");
        return 0;
    }
    if (relays_add(&broker->relays, reader->number, &reader->relay, worker->number, &worker->relay, fetch) ==
        NULL) {
        return error_no_memory(err);
    }
    pass_on(broker);
    return 0;
}

// ---- answers ------------------------------------------------------------------------

static void report_lost(struct broker *broker, const struct relay *relay)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_RESULT_LOST);

    if (event != NULL) {
        event->u.lost.worker = relay->worker;
        event->u.lost.range = (struct task_range){relay->job, relay->layer, relay->index, 1};
    }
}

static void to_reader(struct broker *broker, struct peer *reader, const Dray__Piece *piece,
                      struct message *message)
{
    Dray__Piece passed = *piece;
    struct buffer *payload = NULL;

    if (piece->why == NULL) {
        payload = message_take(message, 2);
        if (payload == NULL) {
            answer(broker, reader->number, piece->tag, ENOMEM, "the broker has no memory for it");
            return;
        }
        broker->relayed_bytes += payload->size;
    }
    passed.has_client = false;
    sessions_send(broker->sessions, reader, FRAME_PIECE, &passed.base, &payload, payload == NULL ? 0 : 1);
    buffer_unref(payload);
}

int relay_piece(struct broker *broker, struct peer *worker, const Dray__Piece *piece, struct message *message,
                struct error *err)
{
    struct relay *relay = relays_find(&worker->relay, piece->client, piece->tag);
    struct peer *reader;

    if (message->frames != (piece->why == NULL ? 3U : 2U) ||
        (piece->why == NULL && message->frame[2].size > FRAME_PAYLOAD_MAX + PIECE_SLACK)) {
        return error_set(err, EBADMSG, "PIECE with a payload that cannot be");
    }
    if (relay == NULL) {
        return 0; // it was not asked for
    }
    // NULL: it has gone meanwhile.
    reader = relay->from != NULL ? peers_by_number(&broker->peers, relay->reader) : NULL;
    // A worker says by itself what it misses, and for which task.
    if (piece->why != NULL && piece->why->code == ENOENT && reader != NULL && reader->role == FROM_CLIENT) {
        report_lost(broker, relay);
    }
    relays_end(&broker->relays, relay);
    if (reader != NULL) {
        to_reader(broker, reader, piece, message);
    }
    pass_on(broker);
    return 0;
}

void relay_forget_peer(struct broker *broker, struct peer *peer)
{
    struct relay *relay;

    relays_reader_gone(&broker->relays, &peer->relay);
    while ((relay = relays_of_worker(&peer->relay)) != NULL) {
        uint32_t reader = relay->reader, tag = relay->tag;

        relays_end(&broker->relays, relay);
        // This may end the reader's session too, and so call us again.
        answer(broker, reader, tag, ENOENT, "the worker that held it was lost");
    }
    pass_on(broker);
}

void relay_fini(struct broker *broker)
{
    for (struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        struct relay *relay;

        relays_reader_gone(&broker->relays, &peer->relay);
        while ((relay = relays_of_worker(&peer->relay)) != NULL) {
            relays_end(&broker->relays, relay);
        }
    }
}
