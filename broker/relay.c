// Bytes from a worker to who cannot reach it.  They share sockets with all else that is said, so few are
// under way: a FETCH waits here until its turn comes, by worker and in all.
#include "broker/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

enum {
    RELAYS_MAX = 64,     // of one reader, waiting and under way
    OF_WORKER_MAX = 8,   // under way from one worker
    UNDER_WAY_MAX = 256, // in all
    PIECE_SLACK = 4096,
};

// A FETCH that has no answer yet.
struct relay {
    struct relay *next;
    uint32_t reader; // peer that asked
    uint32_t tag;
    uint32_t worker;
    bool passed; // to the worker
    struct task_range partition;
    uint64_t offset;
    uint32_t length;
    size_t n_also;
    uint32_t also[];
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

// ---- the list -----------------------------------------------------------------------

static struct relay *add(struct broker *broker, const struct peer *reader, const struct peer *worker,
                         const Dray__Fetch *fetch)
{
    struct relay *relay = calloc(1, sizeof(*relay) + fetch->n_also * sizeof(relay->also[0]));
    struct relay **end = &broker->relay;

    if (relay == NULL) {
        return NULL;
    }
    relay->reader = reader->number;
    relay->tag = fetch->tag;
    relay->worker = worker->number;
    relay->partition = (struct task_range){fetch->job, fetch->layer, fetch->index, 1};
    relay->offset = fetch->offset;
    relay->length = fetch->length;
    relay->n_also = fetch->n_also;
    if (fetch->n_also > 0) {
        memcpy(relay->also, fetch->also, fetch->n_also * sizeof(relay->also[0]));
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = relay;
    broker->relays_waiting++;
    return relay;
}

// Out of the list; the caller's to free.
static struct relay *take(struct broker *broker, struct relay **link)
{
    struct relay *relay = *link;
    struct peer *worker = peers_by_number(&broker->peers, relay->worker);

    *link = relay->next;
    if (!relay->passed) {
        broker->relays_waiting--;
    } else {
        broker->relays_passed--;
        if (worker != NULL) {
            worker->relays--;
        }
    }
    return relay;
}

// ---- passing on ---------------------------------------------------------------------

static struct relay *next_to_pass(const struct broker *broker, struct peer **worker)
{
    if (broker->relays_waiting == 0 || broker->relays_passed >= UNDER_WAY_MAX) {
        return NULL;
    }
    for (struct relay *relay = broker->relay; relay != NULL; relay = relay->next) {
        *worker = relay->passed ? NULL : peers_by_number(&broker->peers, relay->worker);
        if (*worker != NULL && (*worker)->relays < OF_WORKER_MAX) {
            return relay;
        }
    }
    return NULL;
}

// Each may end its worker's session, and so change the list.
static void pass_on(struct broker *broker)
{
    struct peer *worker;
    struct relay *relay;

    while ((relay = next_to_pass(broker, &worker)) != NULL) {
        Dray__Fetch passed = DRAY__FETCH__INIT;
        uint32_t also[FRAME_FETCH_MAX];

        relay->passed = true;
        broker->relays_waiting--;
        broker->relays_passed++;
        worker->relays++;
        passed.tag = relay->tag;
        passed.job = relay->partition.job;
        passed.layer = relay->partition.layer;
        passed.index = relay->partition.first;
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
    size_t under_way = 0;

    if (fetch->index >= GRAPH_TASKS_MAX) {
        return error_set(err, EBADMSG, "FETCH of a partition that cannot be");
    }
    if (worker == NULL) {
        answer(broker, reader->number, fetch->tag, ENOENT, "the worker that held it is not here any more");
        return 0;
    }
    for (const struct relay *relay = broker->relay; relay != NULL; relay = relay->next) {
        under_way += relay->reader == reader->number;
    }
    if (under_way >= RELAYS_MAX) {
        answer(broker, reader->number, fetch->tag, EAGAIN, "too many pieces are under way for this reader");
        return 0;
    }
    if (add(broker, reader, worker, fetch) == NULL) {
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
        event->u.lost.range = relay->partition;
    }
}

static int to_reader(struct broker *broker, const struct relay *relay, const Dray__Piece *piece,
                     struct message *message, struct error *err)
{
    struct peer *reader = peers_by_number(&broker->peers, relay->reader);
    Dray__Piece passed = *piece;
    struct buffer *payload = NULL;

    // A worker says by itself what it misses, and for which task.
    if (piece->why != NULL && piece->why->code == ENOENT && (reader == NULL || reader->role == FROM_CLIENT)) {
        report_lost(broker, relay);
    }
    if (reader == NULL) {
        return 0;
    }
    if (piece->why == NULL) {
        payload = message_take(message, 2);
        if (payload == NULL) {
            answer(broker, relay->reader, relay->tag, ENOMEM, "the broker has no memory for it");
            return error_no_memory(err);
        }
        broker->relayed_bytes += payload->size;
    }
    passed.has_client = false;
    sessions_send(broker->sessions, reader, FRAME_PIECE, &passed.base, &payload, payload == NULL ? 0 : 1);
    buffer_unref(payload);
    return 0;
}

int relay_piece(struct broker *broker, struct peer *worker, const Dray__Piece *piece, struct message *message,
                struct error *err)
{
    struct relay **link = &broker->relay;
    struct relay *relay;
    int rc;

    if (message->frames != (piece->why == NULL ? 3U : 2U) ||
        (piece->why == NULL && message->frame[2].size > FRAME_PAYLOAD_MAX + PIECE_SLACK)) {
        return error_set(err, EBADMSG, "PIECE with a payload that cannot be");
    }
    while (*link != NULL && (!(*link)->passed || (*link)->worker != worker->number ||
                             (*link)->tag != piece->tag || (*link)->reader != piece->client)) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return 0; // the reader has gone away meanwhile
    }
    relay = take(broker, link);
    rc = to_reader(broker, relay, piece, message, err);
    free(relay);
    pass_on(broker);
    return rc;
}

void relay_forget_peer(struct broker *broker, uint32_t number)
{
    for (struct relay **link = &broker->relay; *link != NULL;) {
        struct relay *relay = *link;

        if (relay->reader != number && relay->worker != number) {
            link = &relay->next;
            continue;
        }
        take(broker, link);
        if (relay->worker == number) {
            // This may end the reader's session too, and so call us again.
            answer(broker, relay->reader, relay->tag, ENOENT, "the worker that held it was lost");
            link = &broker->relay;
        }
        free(relay);
    }
    pass_on(broker);
}

void relay_fini(struct broker *broker)
{
    while (broker->relay != NULL) {
        struct relay *relay = broker->relay;

        broker->relay = relay->next;
        free(relay);
    }
}
