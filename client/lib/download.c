#include "client/lib/download.h"

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
    uint64_t used_us;
    size_t downloads;
};

struct piece {
    uint32_t tag;
    uint32_t length;
    uint64_t offset;
};

struct download {
    struct download *next;
    void *owner;
    uint32_t job, layer, index;
    uint32_t worker;
    uint64_t incarnation;
    uint64_t bytes_max;
    char *endpoint[ENDPOINTS_MAX];
    size_t endpoints;
    size_t endpoint_at; // the one in use; == endpoints: by way of the broker
    struct peer *peer;  // NULL: by way of the broker
    bool answered;      // by the present source
    uint64_t heard_us;
    struct piece piece[WINDOW];
    size_t pieces;
    uint64_t total; // of the encoding, 0: not known yet
    uint64_t asked; // offset of what was not asked for yet
    uint64_t arrived;
    struct buffer *buffer;
    uint8_t *data;
};

struct downloads {
    struct uplink *uplink;
    int epoll;
    struct downloads_listener listener;
    struct download *first;
    struct peer *peers;
    size_t count;
    uint32_t tag;
};

int downloads_create(struct uplink *uplink, int epoll, const struct downloads_listener *listener,
                     struct downloads **out, struct error *err)
{
    struct downloads *downloads = calloc(1, sizeof(*downloads));

    if (downloads == NULL) {
        return error_no_memory(err);
    }
    downloads->uplink = uplink;
    downloads->epoll = epoll;
    downloads->listener = *listener;
    *out = downloads;
    return 0;
}

static void peer_destroy(struct downloads *downloads, struct peer *peer)
{
    if (peer == NULL) {
        return;
    }
    if (peer->socket != NULL) {
        epoll_ctl(downloads->epoll, EPOLL_CTL_DEL, socket_fd(peer->socket), NULL);
        socket_destroy(peer->socket, 0);
    }
    free(peer->endpoint);
    free(peer);
}

static void download_free(struct download *download)
{
    for (size_t i = 0; i < download->endpoints; i++) {
        free(download->endpoint[i]);
    }
    buffer_unref(download->buffer);
    free(download);
}

void downloads_destroy(struct downloads *downloads)
{
    if (downloads == NULL) {
        return;
    }
    while (downloads->first != NULL) {
        downloads_cancel(downloads, downloads->first);
    }
    while (downloads->peers != NULL) {
        struct peer *peer = downloads->peers;

        downloads->peers = peer->next;
        peer_destroy(downloads, peer);
    }
    free(downloads);
}

size_t downloads_count(const struct downloads *downloads)
{
    return downloads->count;
}

bool downloads_ready(struct downloads *downloads)
{
    for (struct peer *peer = downloads->peers; peer != NULL; peer = peer->next) {
        if (socket_ready(peer->socket)) {
            return true;
        }
    }
    return false;
}

static void leave_peer(struct download *download)
{
    if (download->peer != NULL) {
        download->peer->downloads--;
        download->peer->used_us = monotonic_us();
        download->peer = NULL;
    }
}

void downloads_cancel(struct downloads *downloads, struct download *download)
{
    struct download **link = &downloads->first;

    while (*link != download) {
        link = &(*link)->next;
    }
    *link = download->next;
    downloads->count--;
    leave_peer(download);
    download_free(download);
}

static void finish(struct downloads *downloads, struct download *download)
{
    struct buffer *bytes = download->buffer;
    void *owner = download->owner;

    download->buffer = NULL;
    downloads_cancel(downloads, download);
    downloads->listener.done(downloads->listener.context, owner, bytes);
}

static void give_up(struct downloads *downloads, struct download *download, const struct error *why)
{
    void *owner = download->owner;

    downloads_cancel(downloads, download);
    downloads->listener.lost(downloads->listener.context, owner, why);
}

// ---- asking -----------------------------------------------------------------------

static int send_fetch(struct downloads *downloads, struct download *download, const struct piece *piece,
                      struct error *err)
{
    Dray__Fetch fetch = DRAY__FETCH__INIT;
    struct peer *peer = download->peer;

    fetch.tag = piece->tag;
    fetch.job = download->job;
    fetch.layer = download->layer;
    fetch.index = download->index;
    fetch.offset = piece->offset;
    fetch.length = piece->length;
    if (peer == NULL) {
        fetch.has_worker = true;
        fetch.worker = download->worker;
        return uplink_send(downloads->uplink, FRAME_FETCH, &fetch.base, err);
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
static void ask(struct downloads *downloads, struct download *download)
{
    while (download->pieces < WINDOW &&
           (download->total == 0 ? download->asked == 0 : download->asked < download->total)) {
        struct piece *piece = &download->piece[download->pieces];

        piece->tag = ++downloads->tag;
        piece->offset = download->asked;
        piece->length = PIECE_BYTES;
        if (download->total != 0 && download->total - piece->offset < piece->length) {
            piece->length = (uint32_t)(download->total - piece->offset);
        }
        if (send_fetch(downloads, download, piece, NULL) != 0) {
            return;
        }
        download->asked += piece->length;
        download->pieces++;
    }
}

static struct peer *find_peer(struct downloads *downloads, const char *endpoint, uint64_t incarnation)
{
    const struct socket_options options = {
        .frame_bytes_max = FRAME_PAYLOAD_MAX + ((size_t)1 << 20),
        .send_messages_max = 1000,
        .receive_messages_max = 1000,
        .reconnect_ms = 100,
    };
    struct epoll_event watch = {.events = EPOLLIN};
    struct peer *peer;

    for (peer = downloads->peers; peer != NULL; peer = peer->next) {
        if (peer->incarnation == incarnation && strcmp(peer->endpoint, endpoint) == 0) {
            return peer;
        }
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL || (peer->endpoint = strdup(endpoint)) == NULL ||
        (peer->socket = socket_create(SOCKET_DEALER, &options, NULL)) == NULL ||
        socket_connect(peer->socket, endpoint, NULL) != 0 ||
        epoll_ctl(downloads->epoll, EPOLL_CTL_ADD, socket_fd(peer->socket), &watch) != 0) {
        peer_destroy(downloads, peer);
        return NULL;
    }
    peer->incarnation = incarnation;
    peer->next = downloads->peers;
    downloads->peers = peer;
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
static void turn_to_source(struct downloads *downloads, struct download *download)
{
    leave_peer(download);
    for (; download->endpoint_at < download->endpoints; download->endpoint_at++) {
        const char *endpoint = download->endpoint[download->endpoint_at];

        if (may_be_reached(endpoint)) {
            download->peer = find_peer(downloads, endpoint, download->incarnation);
            if (download->peer != NULL) {
                download->peer->downloads++;
                break;
            }
        }
    }
    download->answered = false;
    download->heard_us = monotonic_us();
    // Pieces may have come out of order; begin anew rather than keep a map of holes.
    download->pieces = 0;
    download->asked = 0;
    download->arrived = 0;
    download->total = 0;
    buffer_unref(download->buffer);
    download->buffer = NULL;
    ask(downloads, download);
}

int downloads_start(struct downloads *downloads, const Dray__Result *result, void *owner,
                    struct download **out, struct error *err)
{
    struct download *download = calloc(1, sizeof(*download));

    if (download == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < result->n_endpoint && i < ENDPOINTS_MAX; i++) {
        char *endpoint = strdup(result->endpoint[i]);

        if (endpoint == NULL) {
            download_free(download);
            return error_no_memory(err);
        }
        download->endpoint[download->endpoints++] = endpoint;
    }
    download->owner = owner;
    download->job = result->job;
    download->layer = result->layer;
    download->index = result->index;
    download->worker = result->worker;
    download->incarnation = result->incarnation;
    download->bytes_max = result->bytes > UINT64_MAX / 4 ? UINT64_MAX / 2 : 2 * result->bytes + ENCODED_SLACK;
    download->next = downloads->first;
    downloads->first = download;
    downloads->count++;
    turn_to_source(downloads, download);
    *out = download;
    return 0;
}

// ---- answers ------------------------------------------------------------------------

static struct download *find_piece(struct downloads *downloads, const struct peer *peer, uint32_t tag,
                                   size_t *at)
{
    for (struct download *d = downloads->first; d != NULL; d = d->next) {
        for (size_t i = 0; d->peer == peer && i < d->pieces; i++) {
            if (d->piece[i].tag == tag) {
                *at = i;
                return d;
            }
        }
    }
    return NULL;
}

static int begin(struct download *download, uint64_t total, struct error *err)
{
    if (total < ENCODED_MIN || total > download->bytes_max || total > SIZE_MAX / 2) {
        return error_set(err, EBADMSG, "the worker says that the partition has %llu bytes",
                         (unsigned long long)total);
    }
    download->buffer = buffer_create((size_t)total, &download->data);
    if (download->buffer == NULL) {
        return error_set(err, ENOMEM, "no memory for a result of %llu bytes", (unsigned long long)total);
    }
    download->total = total;
    if (download->asked > total) {
        download->asked = total;
    }
    return 0;
}

static int accept_piece(struct download *download, size_t at, const Dray__Piece *answer,
                        const struct message *message, struct error *err)
{
    struct piece piece = download->piece[at];
    struct buffer *raw = NULL;
    uint64_t expected;
    int rc;

    download->piece[at] = download->piece[--download->pieces];
    if (answer->why != NULL) {
        return error_set(err, answer->why->code > 0 ? answer->why->code : EIO, "%s", answer->why->text);
    }
    if (message->frames != 2) {
        return error_set(err, EBADMSG, "a piece came with %zu frames instead of 2", message->frames);
    }
    if (download->total == 0) {
        rc = begin(download, answer->total, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (answer->total != download->total) {
        return error_set(err, EBADMSG, "the partition's size changed from %llu to %llu bytes",
                         (unsigned long long)download->total, (unsigned long long)answer->total);
    }
    rc = payload_decode(message->frame[1].data, message->frame[1].size, &raw, err);
    if (rc != 0) {
        return rc;
    }
    expected = download->total - piece.offset;
    if (expected > piece.length) {
        expected = piece.length;
    }
    if (raw->size != expected) {
        rc = error_set(err, EBADMSG, "a piece has %zu bytes instead of %llu", raw->size,
                       (unsigned long long)expected);
    } else {
        memcpy(download->data + piece.offset, raw->data, raw->size);
        download->arrived += raw->size;
    }
    buffer_unref(raw);
    return rc;
}

static void handle_piece(struct downloads *downloads, const struct peer *peer, const Dray__Piece *answer,
                         const struct message *message)
{
    struct error err = {0};
    size_t at;
    struct download *download = find_piece(downloads, peer, answer->tag, &at);
    int rc;

    if (download == NULL) {
        return; // late, from a source that we have turned away from
    }
    rc = accept_piece(download, at, answer, message, &err);
    if (rc == -ENOMEM || (rc != 0 && peer == NULL)) {
        give_up(downloads, download, &err);
    } else if (rc != 0) {
        // The broker shall know, and it knows where else the partition is.
        download->endpoint_at = download->endpoints;
        turn_to_source(downloads, download);
    } else if (download->arrived == download->total) {
        finish(downloads, download);
    } else {
        download->answered = true;
        download->heard_us = monotonic_us();
        ask(downloads, download);
    }
}

void downloads_piece(struct downloads *downloads, const Dray__Piece *piece, const struct message *message)
{
    handle_piece(downloads, NULL, piece, message);
}

// All of a peer's downloads go another way: what it says makes no sense.
static void distrust(struct downloads *downloads, struct peer *peer)
{
    for (struct download *d = downloads->first; d != NULL; d = d->next) {
        if (d->peer == peer) {
            d->endpoint_at = d->endpoints;
            turn_to_source(downloads, d);
        }
    }
}

void downloads_process(struct downloads *downloads)
{
    struct arena arena;
    struct message message;
    struct frame frame;

    arena_init(&arena, 0);
    for (struct peer *peer = downloads->peers; peer != NULL; peer = peer->next) {
        while (socket_receive(peer->socket, &message) == 1) {
            if (message.frames > 0 &&
                frame_decode(message.frame[0].data, message.frame[0].size, FROM_WORKER, &arena, &frame,
                             NULL) == 0 &&
                frame.info->type == FRAME_PIECE && frame.session == peer->incarnation) {
                handle_piece(downloads, peer, (const Dray__Piece *)frame.message, &message);
            } else {
                distrust(downloads, peer);
            }
            message_fini(&message);
            arena_reset(&arena);
        }
    }
    arena_fini(&arena);
}

void downloads_tick(struct downloads *downloads)
{
    uint64_t now = monotonic_us();

    for (struct download *d = downloads->first; d != NULL; d = d->next) {
        uint64_t silent = now - d->heard_us;

        if (d->peer != NULL && silent > (uint64_t)(d->answered ? STALL_US : ANSWER_US)) {
            d->endpoint_at = d->answered ? d->endpoints : d->endpoint_at + 1;
            turn_to_source(downloads, d);
        } else if (d->peer == NULL && silent > STALL_US) {
            turn_to_source(downloads, d);
        } else {
            ask(downloads, d);
        }
    }
    for (struct peer **link = &downloads->peers; *link != NULL;) {
        struct peer *peer = *link;

        if (peer->downloads == 0 && now - peer->used_us > IDLE_US) {
            *link = peer->next;
            peer_destroy(downloads, peer);
        } else {
            link = &peer->next;
        }
    }
}
