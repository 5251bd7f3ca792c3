#include "broker/state.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/payload.h"

enum {
    RELAYS_MAX = 64, // under way for one reader
    PIECE_SLACK = 4096,
};

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

static int add(struct broker *broker, const struct relay *relay)
{
    if (broker->relays == broker->relays_max) {
        size_t max = broker->relays_max == 0 ? 16 : broker->relays_max * 2;
        struct relay *grown = realloc(broker->relay, max * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        broker->relay = grown;
        broker->relays_max = max;
    }
    broker->relay[broker->relays++] = *relay;
    return 0;
}

int relay_fetch(struct broker *broker, struct peer *reader, const Dray__Fetch *fetch, struct error *err)
{
    struct peer *worker = fetch->has_worker ? peers_by_number(&broker->peers, fetch->worker) : NULL;
    struct relay relay = {
        reader->number, fetch->tag, fetch->worker, {fetch->job, fetch->layer, fetch->index, 1}};
    Dray__Fetch passed = *fetch;
    size_t under_way = 0;

    if (fetch->index >= GRAPH_TASKS_MAX) {
        return error_set(err, EBADMSG, "FETCH of a partition that cannot be");
    }
    if (worker == NULL || worker->role != FROM_WORKER) {
        answer(broker, reader->number, fetch->tag, ENOENT, "the worker that held it is not here any more");
        return 0;
    }
    for (size_t i = 0; i < broker->relays; i++) {
        under_way += broker->relay[i].reader == reader->number;
    }
    if (under_way >= RELAYS_MAX) {
        answer(broker, reader->number, fetch->tag, EAGAIN, "too many pieces are under way for this reader");
        return 0;
    }
    if (add(broker, &relay) != 0) {
        return error_no_memory(err);
    }
    passed.has_client = true;
    passed.client = reader->number;
    sessions_send(broker->sessions, worker, FRAME_FETCH, &passed.base, NULL, 0);
    return 0;
}

static void report_lost(struct broker *broker, const struct relay *relay)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_RESULT_LOST);

    if (event != NULL) {
        event->u.lost.worker = relay->worker;
        event->u.lost.range = relay->partition;
    }
}

int relay_piece(struct broker *broker, struct peer *worker, const Dray__Piece *piece, struct message *message,
                struct error *err)
{
    struct peer *reader;
    struct buffer *payload = NULL;
    Dray__Piece passed = *piece;
    size_t i = 0;

    if (message->frames != (piece->why == NULL ? 3U : 2U) ||
        (piece->why == NULL && message->frame[2].size > FRAME_PAYLOAD_MAX + PIECE_SLACK)) {
        return error_set(err, EBADMSG, "PIECE with a payload that cannot be");
    }
    while (i < broker->relays &&
           (broker->relay[i].worker != worker->number || broker->relay[i].tag != piece->tag ||
            broker->relay[i].reader != piece->client)) {
        i++;
    }
    if (i == broker->relays) {
        return 0; // the reader has gone away meanwhile
    }
    if (piece->why != NULL && piece->why->code == ENOENT) {
        report_lost(broker, &broker->relay[i]);
    }
    broker->relay[i] = broker->relay[--broker->relays];
    reader = peers_by_number(&broker->peers, piece->client);
    if (reader == NULL) {
        return 0;
    }
    if (piece->why == NULL) {
        payload = message_take(message, 2);
        if (payload == NULL) {
            return error_no_memory(err);
        }
    }
    passed.has_client = false;
    sessions_send(broker->sessions, reader, FRAME_PIECE, &passed.base, &payload, payload == NULL ? 0 : 1);
    buffer_unref(payload);
    return 0;
}

void relay_forget_peer(struct broker *broker, uint32_t number)
{
    for (size_t i = 0; i < broker->relays;) {
        struct relay relay = broker->relay[i];

        if (relay.reader != number && relay.worker != number) {
            i++;
            continue;
        }
        broker->relay[i] = broker->relay[--broker->relays];
        if (relay.worker == number) {
            // This may end the reader's session too, and so call us again.
            answer(broker, relay.reader, relay.tag, ENOENT, "the worker that held it was lost");
            i = 0;
        }
    }
}
