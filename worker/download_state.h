// The reading side of the exchange from the inside, shared by its parts: download.c (what is asked for and
// what comes), download_route.c (on which way: connections, and the broker where there is none).
#ifndef DRAY_WORKER_DOWNLOAD_STATE_H
#define DRAY_WORKER_DOWNLOAD_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/core/errands.h"
#include "worker/download.h"

enum {
    PIECE_BYTES = 1 << 20,
    WINDOW = 4,        // pieces of one partition under way
    SOURCE_WINDOW = 8, // messages to one worker that it has not answered
    BEGUN_MAX = 8,     // partitions from one worker of which a part is here
    // By way of the broker: few (ERRANDS_MAX) under way, all of them together, so that its memory is bounded
    // and the session has room for the rest.
    DETOUR_BYTES = 256 << 10,
    QUEUE_MESSAGES = 1000,
};

struct piece {
    bool used;
    bool waits; // it could not be asked for yet, or is to be asked for again
    uint32_t tag;
    uint32_t length;
    uint32_t asked; // ... of which so much was asked for at once
    uint64_t offset;
};

struct download {
    struct download *next;
    struct fetch *fetch;
    bool begun;
    struct piece piece[WINDOW];
    uint64_t total;    // 0: not known yet
    bool has_checksum; // of the whole
    uint64_t checksum;
    uint32_t position; // among those that were asked for with the same message
    uint64_t asked;
    uint64_t got;
    uint64_t heard_us;
    struct buffer *buffer;
    uint8_t *data;
};

// One worker process, and the way to it: a connection, or the broker.
struct source {
    struct source *next;
    struct downloads *owner;
    uint32_t worker;
    uint64_t incarnation;
    struct socket *socket; // with by_broker: only to find out whether there is a way again
    size_t endpoint;       // which of the fetch's it is connected to
    struct download *download;
    unsigned under_way; // messages on the connection that it has not answered
    unsigned begun;     // downloads of which the size is known
    uint64_t used_us;
    bool by_broker;
    bool said;          // ... and it was told
    uint64_t direct_us; // with by_broker: then the other way is tried again; with a socket: until then it may
                        // answer
    char why[256];      // with by_broker
};

struct downloads {
    struct loop *loop;
    struct budget *budget;
    struct downloads_handler handler;
    struct source *source;
    uint32_t next_tag;
    bool broker;            // there is a session with it
    struct errands errands; // whose: a source
};

// ---- download.c

// One more message may be under way.
bool downloads_may_ask(const struct source *source);
void downloads_ask_source(struct source *source);
// What was asked for and has not come is asked for anew, whatever the way.
void downloads_ask_again(struct source *source);
void downloads_fail(struct source *source, struct download *download, int code, const char *why);
void downloads_fail_all(struct source *source, int code, const char *why);
// Those that wait for the answer to this message.
void downloads_fail_asked(struct source *source, uint32_t tag, int code, const char *why);
// What came over the connection.
void downloads_take(struct source *source, const Dray__Piece *message, const struct message_frame *payload);

// ---- download_route.c

// Sends it on the source's way, the header is added.  False: not now.
bool route_send(struct source *source, Dray__Fetch *message);
// Bytes of it came by way of the broker.
void route_detoured(struct source *source);

#endif
