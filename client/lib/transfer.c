#include "client/lib/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/payload.h"

enum {
    WINDOW = 4, // pieces under way for one partition
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
};

struct piece {
    uint32_t tag;
    uint32_t length;
    uint64_t offset;
};

struct transfer {
    struct transfer *next;
    void *owner;
    uint32_t job, layer, index;
    uint32_t worker;
    uint64_t incarnation;
    uint64_t bytes_max;
    char *endpoint[ENDPOINTS_MAX];
    size_t endpoints;
    size_t endpoint_at; // the one in use; == endpoints: by way of the broker
    struct peer *peer;  // NULL: by way of the broker
    uint64_t heard_us;
    struct piece piece[WINDOW];
    size_t pieces;
    uint64_t total; // of the encoding, 0: not known yet
    uint64_t asked; // offset of what was not asked for yet
    uint64_t arrived;
    struct buffer *buffer;
    uint8_t *data;
};

struct transfers {
    struct uplink *uplink;
    int epoll;
    struct transfers_listener listener;
    struct transfer *first;
    struct peer *peers;
    size_t count;
    uint32_t tag;
    uint64_t broker_heard_us; // last piece by way of the broker
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
    struct transfer **link = &transfers->first;

    while (*link != transfer) {
        link = &(*link)->next;
    }
    *link = transfer->next;
    transfers->count--;
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

// ---- asking -----------------------------------------------------------------------

static int send_fetch(struct transfers *transfers, struct transfer *transfer, const struct piece *piece,
                      struct error *err)
{
    Dray__Fetch fetch = DRAY__FETCH__INIT;
    struct peer *peer = transfer->peer;

    fetch.tag = piece->tag;
    fetch.job = transfer->job;
    fetch.layer = transfer->layer;
    fetch.index = transfer->index;
    fetch.offset = piece->offset;
    fetch.length = piece->length;
    if (peer == NULL) {
        fetch.has_worker = true;
        fetch.worker = transfer->worker;
        return uplink_send(transfers->uplink, FRAME_FETCH, &fetch.base, err);
    }

    uint8_t bytes[FRAME_HEADER + 128];
    size_t size = frame_size(&fetch.base);
    int rc;

    if (size > sizeof(bytes)) {
        return error_set(err, EMSGSIZE, "a request of %zu bytes", size);
    }
    frame_encode(FRAME_FETCH, peer->incarnation, 0, &fetch.base, bytes);
    rc = socket_send(peer->socket, NULL, 0, bytes, size, NULL, 0);
    if (rc != 0) {
        return error_set(err, -rc, "cannot send to the worker at %s: %s", peer->endpoint, strerror(-rc));
    }
    return 0;
}

// Keeps the window full.  What cannot be sent now is sent with the next piece or tick.
static void ask(struct transfers *transfers, struct transfer *transfer)
{
    while (transfer->pieces < WINDOW &&
           (transfer->total == 0 ? transfer->asked == 0 : transfer->asked < transfer->total)) {
        struct piece *piece = &transfer->piece[transfer->pieces];

        piece->tag = ++transfers->tag;
        piece->offset = transfer->asked;
        piece->length = PIECE_BYTES;
        if (transfer->total != 0 && transfer->total - piece->offset < piece->length) {
            piece->length = (uint32_t)(transfer->total - piece->offset);
        }
        if (send_fetch(transfers, transfer, piece, NULL) != 0) {
            return;
        }
        transfer->asked += piece->length;
        transfer->pieces++;
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
    buffer_unref(transfer->buffer);
    transfer->buffer = NULL;
    ask(transfers, transfer);
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
    transfer->bytes_max = result->bytes > UINT64_MAX / 4 ? UINT64_MAX / 2 : 2 * result->bytes + ENCODED_SLACK;
    transfer->next = transfers->first;
    transfers->first = transfer;
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
    return rc;
}

static void handle_piece(struct transfers *transfers, struct peer *peer, const Dray__Piece *answer,
                         const struct message *message)
{
    struct error err = {0};
    size_t at;
    struct transfer *transfer = find_piece(transfers, peer, answer->tag, &at);
    int rc;

    // Who is busy with another transfer is not silent.
    if (peer != NULL) {
        peer->answered = true;
        peer->heard_us = monotonic_us();
    } else {
        transfers->broker_heard_us = monotonic_us();
    }
    if (transfer == NULL) {
        return; // late, from a source that we have turned away from
    }
    rc = accept_piece(transfer, at, answer, message, &err);
    if (rc == -ENOMEM || (rc != 0 && peer == NULL)) {
        give_up(transfers, transfer, &err);
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

    for (struct transfer *d = transfers->first; d != NULL; d = d->next) {
        bool answered = d->peer == NULL || d->peer->answered;
        uint64_t source_us = d->peer != NULL ? d->peer->heard_us : transfers->broker_heard_us;
        uint64_t heard_us = d->heard_us > source_us ? d->heard_us : source_us;

        if (now - heard_us <= (uint64_t)(answered ? STALL_US : ANSWER_US)) {
            ask(transfers, d);
            continue;
        }
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
