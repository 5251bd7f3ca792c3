// Fetches encoded partitions in pieces from the workers that hold them, or by
// way of the broker where a worker cannot be reached.
#ifndef DRAY_CLIENT_LIB_DOWNLOAD_H
#define DRAY_CLIENT_LIB_DOWNLOAD_H

#include <stdint.h>

#include "client/lib/uplink.h"
#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/socket.h"
#include "proto/wire.pb-c.h"

struct downloads;
struct download;

// Called from downloads_process, downloads_piece and downloads_tick; may start and
// cancel other downloads.  The download is gone when either is called.
struct downloads_listener {
    void *context;
    // All bytes are here; takes the reference.
    void (*done)(void *context, void *owner, struct buffer *bytes);
    // Neither the worker nor the broker has it (any more).
    void (*lost)(void *context, void *owner, const struct error *why);
};

// Sockets to workers are watched for reading in `epoll` (borrowed).
int downloads_create(struct uplink *uplink, int epoll, const struct downloads_listener *listener,
                     struct downloads **out, struct error *err);
void downloads_destroy(struct downloads *downloads);

// `result` is read during the call only.  Its endpoints may be none: then by way of the broker.
int downloads_start(struct downloads *downloads, const Dray__Result *result, void *owner,
                    struct download **out, struct error *err);
void downloads_cancel(struct downloads *downloads, struct download *download);

size_t downloads_count(const struct downloads *downloads);
// Something can be received from a worker now, whatever the epoll says (proto/socket.h).
bool downloads_ready(struct downloads *downloads);
// Receives what has come from workers.
void downloads_process(struct downloads *downloads);
// A PIECE that came from the broker.
void downloads_piece(struct downloads *downloads, const Dray__Piece *piece, const struct message *message);
// Moves on from workers that do not answer; call a few times a second while downloads_count is not 0.
void downloads_tick(struct downloads *downloads);

#endif
