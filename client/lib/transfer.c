#define XXH_INLINE_ALL
#include "client/lib/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <xxhash.h>

#include "proto/frame.h"
#include "proto/payload.h"

enum {
    WINDOW = 4,         // pieces under way for one partition
    SOURCE_WINDOW = 32, // messages to one worker that are not answered, or to the broker
    PIECE_BYTES = 1 << 20,
    ANSWER_US = 1000000, // a worker that says nothing for so long is not reachable from here
    STALL_US = 5000000,  // no piece for so long: ask again, by way of the broker
    IDLE_US = 2000000,   // a connection that nobody used for so long is closed
    ENDPOINTS_MAX = 8,
    ENCODED_MIN = 16, // the header of proto/partition.h
};
// An encoding is the partition's bytes, padding and a header; more is a lie.
#define ENCODED_SLACK ((uint64_t)16 << 20)

// A connection to a worker's exchange.
struct peer {
    struct peer *next;
    struct socket *socket;
    char *endpoint;
    uint64_t incarnation;
    bool answered;
    uint64_t heard_us; // last piece, of whatever transfer
    uint64_t used_us;
    size_t transfers;
    unsigned under_way; // messages that it has not answered
};

struct piece {
    uint32_t tag;
    uint32_t length;
    uint64_t offset;
};

struct transfer {
    struct transfer *previous, *next;
    void *owner;
    uint32_t job, layer, index;
    uint32_t worker;
    uint64_t incarnation;
    uint64_t bytes; // about
    uint64_t bytes_max;
    char *endpoint[ENDPOINTS_MAX];
    size_t endpoints;
    size_t endpoint_at; // the one in use; == endpoints: by way of the broker
    struct peer *peer;  // NULL: by way of the broker
    uint64_t heard_us;
    struct piece piece[WINDOW];
    size_t pieces;
    bool fresh;        // not asked for yet, nor any piece of it
    uint32_t position; // among those that were asked for with the same message,
    uint32_t group;    // so many
    uint64_t total;    // of the encoding, 0: not known yet
    bool has_checksum; // of the encoding
    uint64_t checksum;
    uint64_t asked; // offset of what was not asked for yet
    uint64_t arrived;
    struct buffer *buffer;
    uint8_t *data;
};

struct transfers {
    struct uplink *uplink;
    int epoll;
    struct transfers_listener listener;
    struct transfer *first, *last; // the oldest is asked for, and answered, first
    struct peer *peers;
    size_t count;
    size_t fresh;
    bool stirred;            // there may be something to ask for
    struct transfer **order; // for transfers_flush
    size_t order_room;
    uint32_t tag;
    uint64_t broker_heard_us; // last piece by way of the broker
    unsigned broker_under_way;
};

int transfers_create(struct uplink *uplink, int epoll, const struct transfers_listener *listener,
                     struct transfers **out, struct error *err)
{
    struct transfers *transfers = calloc(1, sizeof(*transfers));

    if (transfers == NULL) {
        return error_no_memory(err);
    }
    transfers->uplink = uplink;
    transfers->epoll = epoll;
    transfers->listener = *listener;
    *out = transfers;
    return 0;
}

static void peer_destroy(struct transfers *transfers, struct peer *peer)
{
    if (peer == NULL) {
        return;
    }
    if (peer->socket != NULL) {
        epoll_ctl(transfers->epoll, EPOLL_CTL_DEL, socket_fd(peer->socket), NULL);
        socket_destroy(peer->socket, 0);
    }
    free(peer->endpoint);
    free(peer);
}

static void transfer_free(struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->endpoints; i++) {
        free(transfer->endpoint[i]);
    }
    buffer_unref(transfer->buffer);
    free(transfer);
}

void transfers_destroy(struct transfers *transfers)
{
    if (transfers == NULL) {
        return;
    }
    while (transfers->first != NULL) {
        transfers_cancel(transfers, transfers->first);
    }
    while (transfers->peers != NULL) {
        struct peer *peer = transfers->peers;

        transfers->peers = peer->next;
        peer_destroy(transfers, peer);
    }
    free(transfers->order);
    free(transfers);
}

size_t transfers_count(const struct transfers *transfers)
{
    return transfers->count;
}

bool transfers_ready(struct transfers *transfers)
{
    for (struct peer *peer = transfers->peers; peer != NULL; peer = peer->next) {
        if (socket_ready(peer->socket)) {
            return true;
        }
    }
    return false;
}

static void leave_peer(struct transfer *transfer)
{
    if (transfer->peer != NULL) {
        transfer->peer->transfers--;
        transfer->peer->used_us = monotonic_us();
        transfer->peer = NULL;
    }
}

void transfers_cancel(struct transfers *transfers, struct transfer *transfer)
{
    *(transfer->previous != NULL ? &transfer->previous->next : &transfers->first) = transfer->next;
    *(transfer->next != NULL ? &transfer->next->previous : &transfers->last) = transfer->previous;
    transfers->count--;
    transfers->fresh -= transfer->fresh;
    leave_peer(transfer);
    transfer_free(transfer);
}

static void finish(struct transfers *transfers, struct transfer *transfer)
{
    struct buffer *bytes = transfer->buffer;
    void *owner = transfer->owner;

    transfer->buffer = NULL;
    transfers_cancel(transfers, transfer);
    transfers->listener.done(transfers->listener.context, owner, bytes);
}

static void give_up(struct transfers *transfers, struct transfer *transfer, const struct error *why)
{
    void *owner = transfer->owner;

    transfers_cancel(transfers, transfer);
    transfers->listener.lost(transfers->listener.context, owner, why);
}

void transfers_lost(struct transfers *transfers)
{
    struct error why = {0};
    struct transfer *next;

    error_set(&why, ENOTCONN, "the connection to the broker was lost");
    transfers->broker_under_way = 0;
    for (struct transfer *d = transfers->first; d != NULL; d = next) {
        next = d->next;
        if (d->peer == NULL) {
            give_up(transfers, d, &why);
        }
    }
}

bool transfers_direct(const struct transfer *transfer)
{
    return transfer->peer != NULL;
}

// ---- asking -----------------------------------------------------------------------

static unsigned *in_use(struct transfers *transfers, struct peer *peer)
{
    return peer != NULL ? &peer->under_way : &transfers->broker_under_way;
}

// -EAGAIN: not now.
static int send_fetch(struct transfers *transfers, struct transfer *transfer, const struct piece *piece,
                      uint32_t *also, uint32_t n_also, struct error *err)
{
    unsigned *under_way = in_use(transfers, transfer->peer);
    Dray__Fetch fetch = DRAY__FETCH__INIT;
    struct peer *peer = transfer->peer;
    int rc;

    if (*under_way >= SOURCE_WINDOW) {
        return -EAGAIN;
    }
    fetch.tag = piece->tag;
    fetch.job = transfer->job;
    fetch.layer = transfer->layer;
    fetch.index = transfer->index;
    fetch.offset = piece->offset;
    fetch.length = piece->length;
    fetch.also = also;
    fetch.n_also = n_also;
    if (peer == NULL) {
        fetch.has_worker = true;
        fetch.worker = transfer->worker;
        rc = uplink_send(transfers->uplink, FRAME_FETCH, &fetch.base, err);
        *under_way += rc == 0;
        return rc;
    }

    uint8_t bytes[FRAME_HEADER + 128 + 5 * FRAME_FETCH_MAX];
    size_t size = frame_size(&fetch.base);

    if (size > sizeof(bytes)) {
        return error_set(err, EMSGSIZE, "a request of %zu bytes", size);
    }
    frame_encode(FRAME_FETCH, peer->incarnation, 0, &fetch.base, bytes);
    rc = socket_send(peer->socket, NULL, 0, bytes, size, NULL, 0);
    if (rc != 0) {
        return error_set(err, -rc, "cannot send to the worker at %s: %s", peer->endpoint, strerror(-rc));
    }
    ++*under_way;
    return 0;
}

// Keeps the window full.  What cannot be sent now is sent with the next transfers_flush.
static void ask(struct transfers *transfers, struct transfer *transfer)
{
    while (!transfer->fresh && transfer->pieces < WINDOW &&
           (transfer->total == 0 ? transfer->asked == 0 : transfer->asked < transfer->total)) {
        struct piece *piece = &transfer->piece[transfer->pieces];

        piece->tag = ++transfers->tag;
        piece->offset = transfer->asked;
        piece->length = PIECE_BYTES;
        if (transfer->total != 0 && transfer->total - piece->offset < piece->length) {
            piece->length = (uint32_t)(transfer->total - piece->offset);
        }
        if (send_fetch(transfers, transfer, piece, NULL, 0, NULL) != 0) {
            return;
        }
        transfer->asked += piece->length;
        transfer->pieces++;
    }
}

// It is asked for with the next transfers_flush, maybe together with others.
static void ask_later(struct transfers *transfers, struct transfer *transfer)
{
    transfers->stirred = true;
    transfers->fresh += !transfer->fresh;
    transfer->fresh = true;
}

static int compare(const void *a, const void *b)
{
    const struct transfer *x = *(struct transfer *const *)a, *y = *(struct transfer *const *)b;

    if (x->peer != y->peer) {
        return (uintptr_t)x->peer < (uintptr_t)y->peer ? -1 : 1;
    }
    if (x->worker != y->worker) {
        return x->worker < y->worker ? -1 : 1;
    }
    if (x->job != y->job) {
        return x->job < y->job ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool goes_with(const struct transfer *one, const struct transfer *next)
{
    return next->peer == one->peer && next->worker == one->worker && next->job == one->job &&
           next->layer == one->layer;
}

// With one message; what does not come with its answer is asked for again.
static void ask_group(struct transfers *transfers, struct transfer **group, uint32_t count)
{
    struct piece piece = {.tag = ++transfers->tag, .length = PIECE_BYTES};
    uint32_t also[FRAME_FETCH_MAX];
    int rc;

    for (uint32_t i = 1; i < count; i++) {
        also[i - 1] = group[i]->index;
    }
    rc = send_fetch(transfers, group[0], &piece, also, count - 1, NULL);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        group[i]->piece[0] = piece;
        group[i]->pieces = 1;
        group[i]->asked = piece.length;
        group[i]->position = i;
        group[i]->group = count;
        group[i]->fresh = false;
        transfers->fresh--;
    }
}

void transfers_flush(struct transfers *transfers)
{
    size_t fresh = 0, count;

    if (!transfers->stirred) {
        return;
    }
    transfers->stirred = false;
    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        ask(transfers, d);
    }
    if (transfers->fresh == 0) {
        return;
    }
    if (transfers->fresh > transfers->order_room) {
        struct transfer **grown = realloc(transfers->order, transfers->fresh * sizeof(struct transfer *));

        if (grown == NULL) {
            return; // with the next tick
        }
        transfers->order = grown;
        transfers->order_room = transfers->fresh;
    }
    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        if (d->fresh) {
            transfers->order[fresh++] = d;
        }
    }
    qsort(transfers->order, fresh, sizeof(struct transfer *), compare);
    for (size_t at = 0; at < fresh; at += count) {
        struct transfer **group = &transfers->order[at];
        uint64_t bytes = group[0]->bytes;

        for (count = 1; count < FRAME_FETCH_MAX && at + count < fresh; count++) {
            bytes += group[count]->bytes;
            if (!goes_with(group[count - 1], group[count]) || bytes > PIECE_BYTES) {
                break;
            }
        }
        ask_group(transfers, group, (uint32_t)count); // if it cannot be now, then the next time
    }
}

static struct peer *find_peer(struct transfers *transfers, const char *endpoint, uint64_t incarnation)
{
    const struct socket_options options = {
        .frame_bytes_max = FRAME_PAYLOAD_MAX + ((size_t)1 << 20),
        .send_messages_max = 1000,
        .receive_messages_max = 1000,
        .reconnect_ms = 100,
    };
    struct epoll_event watch = {.events = EPOLLIN};
    struct peer *peer;

    for (peer = transfers->peers; peer != NULL; peer = peer->next) {
        if (peer->incarnation == incarnation && strcmp(peer->endpoint, endpoint) == 0) {
            return peer;
        }
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL || (peer->endpoint = strdup(endpoint)) == NULL ||
        (peer->socket = socket_create(SOCKET_DEALER, &options, NULL)) == NULL ||
        socket_connect(peer->socket, endpoint, NULL) != 0 ||
        epoll_ctl(transfers->epoll, EPOLL_CTL_ADD, socket_fd(peer->socket), &watch) != 0) {
        peer_destroy(transfers, peer);
        return NULL;
    }
    peer->incarnation = incarnation;
    peer->next = transfers->peers;
    transfers->peers = peer;
    return peer;
}

// An ipc endpoint of another machine names a path that is not here.
static bool may_be_reached(const char *endpoint)
{
    if (strncmp(endpoint, "ipc://", 6) == 0) {
        return endpoint[6] == '@' || access(endpoint + 6, W_OK) == 0;
    }
    return strncmp(endpoint, "tcp://", 6) == 0;
}

// Turns to the endpoint at endpoint_at, or to the next one that is of use, or to the broker,
// and asks for what has not arrived.
static void turn_to_source(struct transfers *transfers, struct transfer *transfer)
{
    leave_peer(transfer);
    for (; transfer->endpoint_at < transfer->endpoints; transfer->endpoint_at++) {
        const char *endpoint = transfer->endpoint[transfer->endpoint_at];

        if (may_be_reached(endpoint)) {
            transfer->peer = find_peer(transfers, endpoint, transfer->incarnation);
            if (transfer->peer != NULL) {
                transfer->peer->transfers++;
                break;
            }
        }
    }
    transfer->heard_us = monotonic_us();
    // Pieces may have come out of order; begin anew rather than keep a map of holes.
    transfer->pieces = 0;
    transfer->asked = 0;
    transfer->arrived = 0;
    transfer->total = 0;
    transfer->has_checksum = false;
    buffer_unref(transfer->buffer);
    transfer->buffer = NULL;
    ask_later(transfers, transfer);
}

int transfers_start(struct transfers *transfers, const Dray__Result *result, void *owner,
                    struct transfer **out, struct error *err)
{
    struct transfer *transfer = calloc(1, sizeof(*transfer));

    if (transfer == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < result->n_endpoint && i < ENDPOINTS_MAX; i++) {
        char *endpoint = strdup(result->endpoint[i]);

        if (endpoint == NULL) {
            transfer_free(transfer);
            return error_no_memory(err);
        }
        transfer->endpoint[transfer->endpoints++] = endpoint;
    }
    transfer->owner = owner;
    transfer->job = result->job;
    transfer->layer = result->layer;
    transfer->index = result->index;
    transfer->worker = result->worker;
    transfer->incarnation = result->incarnation;
    transfer->bytes = result->bytes < PIECE_BYTES ? result->bytes : PIECE_BYTES;
    if (result->bytes == UINT64_MAX) {
        transfer->bytes = PIECE_BYTES / FRAME_FETCH_MAX; // a guess: what does not come is asked for again
    }
    transfer->bytes_max = result->bytes > UINT64_MAX / 4 ? UINT64_MAX / 2 : 2 * result->bytes + ENCODED_SLACK;
    transfer->previous = transfers->last;
    *(transfers->last != NULL ? &transfers->last->next : &transfers->first) = transfer;
    transfers->last = transfer;
    transfers->count++;
    turn_to_source(transfers, transfer);
    *out = transfer;
    return 0;
}

// ---- answers ------------------------------------------------------------------------

static struct transfer *find_piece(struct transfers *transfers, const struct peer *peer, uint32_t tag,
                                   size_t *at)
{
    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        for (size_t i = 0; d->peer == peer && i < d->pieces; i++) {
            if (d->piece[i].tag == tag) {
                *at = i;
                return d;
            }
        }
    }
    return NULL;
}

static int begin(struct transfer *transfer, uint64_t total, struct error *err)
{
    if (total < ENCODED_MIN || total > transfer->bytes_max || total > SIZE_MAX / 2) {
        return error_set(err, EBADMSG, "the worker says that the partition has %llu bytes",
                         (unsigned long long)total);
    }
    transfer->buffer = buffer_create((size_t)total, &transfer->data);
    if (transfer->buffer == NULL) {
        return error_set(err, ENOMEM, "no memory for a result of %llu bytes", (unsigned long long)total);
    }
    transfer->total = total;
    if (transfer->asked > total) {
        transfer->asked = total;
    }
    return 0;
}

static int accept_piece(struct transfer *transfer, size_t at, const Dray__Piece *answer,
                        const struct message *message, struct error *err)
{
    struct piece piece = transfer->piece[at];
    struct buffer *raw = NULL;
    uint64_t expected;
    int rc;

    transfer->piece[at] = transfer->piece[--transfer->pieces];
    if (answer->why != NULL) {
        return error_set(err, answer->why->code > 0 ? answer->why->code : EIO, "%s", answer->why->text);
    }
    if (message->frames != 2) {
        return error_set(err, EBADMSG, "a piece came with %zu frames instead of 2", message->frames);
    }
    if (transfer->total == 0) {
        rc = begin(transfer, answer->total, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (answer->total != transfer->total) {
        return error_set(err, EBADMSG, "the partition's size changed from %llu to %llu bytes",
                         (unsigned long long)transfer->total, (unsigned long long)answer->total);
    }
    transfer->has_checksum = transfer->has_checksum || answer->has_checksum;
    transfer->checksum = answer->has_checksum ? answer->checksum : transfer->checksum;
    rc = payload_decode(message->frame[1].data, message->frame[1].size, &raw, err);
    if (rc != 0) {
        return rc;
    }
    expected = transfer->total - piece.offset;
    if (expected > piece.length) {
        expected = piece.length;
    }
    if (raw->size != expected) {
        rc = error_set(err, EBADMSG, "a piece has %zu bytes instead of %llu", raw->size,
                       (unsigned long long)expected);
    } else {
        memcpy(transfer->data + piece.offset, raw->data, raw->size);
        transfer->arrived += raw->size;
    }
    buffer_unref(raw);
    if (rc == 0 && transfer->arrived == transfer->total && transfer->has_checksum &&
        XXH3_64bits(transfer->data, (size_t)transfer->total) != transfer->checksum) {
        rc = error_set(err, EBADMSG,
                       "the partition's checksum is wrong: it was damaged where it is or on the way");
    }
    return rc;
}

// What came of a piece.
static void settle(struct transfers *transfers, struct transfer *transfer, int rc, const struct error *err)
{
    bool by_broker = transfer->peer == NULL;

    if (rc == -ENOMEM || (rc != 0 && by_broker)) {
        give_up(transfers, transfer, err);
    } else if (rc != 0) {
        // The broker shall know, and it knows where else the partition is.
        transfer->endpoint_at = transfer->endpoints;
        turn_to_source(transfers, transfer);
    } else if (transfer->arrived == transfer->total) {
        finish(transfers, transfer);
    } else {
        transfer->heard_us = monotonic_us();
        ask(transfers, transfer);
    }
}

// What was asked for together and is not among what the answer brings is asked for again.
static void ask_rest(struct transfers *transfers, const struct peer *peer, const Dray__Piece *answer)
{
    size_t brings = answer->n_size > 0 ? answer->n_size : 1;

    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        if (d->peer == peer && d->pieces > 0 && d->piece[0].tag == answer->tag && d->position >= brings) {
            d->pieces = 0;
            d->asked = 0;
            d->heard_us = monotonic_us();
            ask_later(transfers, d);
        }
    }
}

static int accept_whole(struct transfer *transfer, const uint8_t *bytes, uint64_t size, struct error *err)
{
    int rc = begin(transfer, size, err);

    if (rc == 0) {
        memcpy(transfer->data, bytes, (size_t)size);
        transfer->arrived = size;
    }
    return rc;
}

// Whole partitions, one after another.
static void handle_whole(struct transfers *transfers, const struct peer *peer, const Dray__Piece *answer,
                         const struct message *message)
{
    uint64_t offset[FRAME_FETCH_MAX + 1] = {0};
    struct transfer *transfer;
    struct buffer *raw = NULL;
    struct error whole = {0};
    size_t piece;
    int rc = message->frames == 2
                 ? payload_decode(message->frame[1].data, message->frame[1].size, &raw, &whole)
                 : error_set(&whole, EBADMSG, "pieces came with %zu frames instead of 2", message->frames);

    for (size_t i = 0; i < answer->n_size; i++) {
        offset[i + 1] = offset[i] + answer->size[i];
    }
    if (rc == 0 && raw->size != offset[answer->n_size]) {
        rc = error_set(&whole, EBADMSG, "%zu bytes came instead of %llu", raw->size,
                       (unsigned long long)offset[answer->n_size]);
    }
    while ((transfer = find_piece(transfers, peer, answer->tag, &piece)) != NULL) {
        uint32_t at = transfer->position;
        struct error err = whole;
        int one = rc;

        transfer->pieces = 0; // it is over, one way or the other
        if (one == 0 && transfer->total != 0) {
            one = error_set(&err, EBADMSG, "a piece came as a whole");
        }
        if (one == 0) {
            one = accept_whole(transfer, raw->data + offset[at], offset[at + 1] - offset[at], &err);
        }
        settle(transfers, transfer, one, &err);
    }
    buffer_unref(raw);
}

static void handle_piece(struct transfers *transfers, struct peer *peer, const Dray__Piece *answer,
                         const struct message *message)
{
    struct transfer *transfer;
    struct error err = {0};
    size_t at;

    // Who is busy with another transfer is not silent.
    if (peer != NULL) {
        peer->answered = true;
        peer->heard_us = monotonic_us();
    } else {
        transfers->broker_heard_us = monotonic_us();
    }
    transfers->stirred = true;
    *in_use(transfers, peer) -= *in_use(transfers, peer) > 0;
    transfer = find_piece(transfers, peer, answer->tag, &at);
    if (transfer != NULL && transfer->group > 1) {
        ask_rest(transfers, peer, answer);
        transfer = find_piece(transfers, peer, answer->tag, &at);
    }
    if (transfer != NULL && answer->n_size > 0) {
        handle_whole(transfers, peer, answer, message);
    } else if (transfer != NULL) { // else late, from a source that we have turned away from
        int rc = accept_piece(transfer, at, answer, message, &err);

        settle(transfers, transfer, rc, &err);
    }
}

void transfers_piece(struct transfers *transfers, const Dray__Piece *piece, const struct message *message)
{
    handle_piece(transfers, NULL, piece, message);
}

// All of a peer's transfers go another way: what it says makes no sense.
static void distrust(struct transfers *transfers, struct peer *peer)
{
    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        if (d->peer == peer) {
            d->endpoint_at = d->endpoints;
            turn_to_source(transfers, d);
        }
    }
}

void transfers_process(struct transfers *transfers)
{
    struct arena arena;
    struct message message;
    struct frame frame;

    arena_init(&arena, 0);
    for (struct peer *peer = transfers->peers; peer != NULL; peer = peer->next) {
        while (socket_receive(peer->socket, &message) == 1) {
            if (message.frames > 0 &&
                frame_decode(message.frame[0].data, message.frame[0].size, FROM_WORKER, &arena, &frame,
                             NULL) == 0 &&
                frame.info->type == FRAME_PIECE && frame.session == peer->incarnation) {
                handle_piece(transfers, peer, (const Dray__Piece *)frame.message, &message);
            } else {
                distrust(transfers, peer);
            }
            message_fini(&message);
            arena_reset(&arena);
        }
    }
    arena_fini(&arena);
}

void transfers_tick(struct transfers *transfers)
{
    uint64_t now = monotonic_us();

    transfers->stirred = true;
    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        bool answered = d->peer == NULL || d->peer->answered;
        uint64_t source_us = d->peer != NULL ? d->peer->heard_us : transfers->broker_heard_us;
        uint64_t heard_us = d->heard_us > source_us ? d->heard_us : source_us;

        if (now - heard_us <= (uint64_t)(answered ? STALL_US : ANSWER_US)) {
            ask(transfers, d);
            continue;
        }
        *in_use(transfers, d->peer) = 0; // no answers to wait for
        if (d->peer != NULL) {
            d->endpoint_at = answered ? d->endpoints : d->endpoint_at + 1;
        }
        turn_to_source(transfers, d);
    }
    for (struct peer **link = &transfers->peers; *link != NULL;) {
        struct peer *peer = *link;

        if (peer->transfers == 0 && now - peer->used_us > IDLE_US) {
            *link = peer->next;
            peer_destroy(transfers, peer);
        } else {
            link = &peer->next;
        }
    }
}
