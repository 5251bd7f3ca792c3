// Fetches encoded partitions in pieces from the workers that hold them, or by
// way of the broker where a worker cannot be reached.
#ifndef DRAY_CLIENT_LIB_TRANSFER_H
#define DRAY_CLIENT_LIB_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lib/uplink.h"
#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/socket.h"
#include "proto/wire.pb-c.h"

struct transfers;
struct transfer;

// Called from transfers_process, transfers_piece and transfers_tick; may start and
// cancel other transfers.  The transfer is gone when either is called.
struct transfers_listener {
    void *context;
    // All bytes are here; takes the reference.
    void (*done)(void *context, void *owner, struct buffer *bytes);
    // Neither the worker nor the broker has it (any more).
    void (*lost)(void *context, void *owner, const struct error *why);
};

// Sockets to workers are watched for reading in `epoll` (borrowed).
int transfers_create(struct uplink *uplink, int epoll, const struct transfers_listener *listener,
                     struct transfers **out, struct error *err);
void transfers_destroy(struct transfers *transfers);

// `result` is read during the call only.  Its endpoints may be none: then by way of the broker.
int transfers_start(struct transfers *transfers, const Dray__Result *result, void *owner,
                    struct transfer **out, struct error *err);
void transfers_cancel(struct transfers *transfers, struct transfer *transfer);
// Asks for what there is to ask for: results of a layer that are at the same worker with one message.  To be
// called before waiting.
void transfers_flush(struct transfers *transfers);

// The broker's session is over: what was to come by way of it is lost.
void transfers_lost(struct transfers *transfers);
// It comes from a worker, not by way of the broker.
bool transfers_direct(const struct transfer *transfer);

size_t transfers_count(const struct transfers *transfers);
// Something can be received from a worker now, whatever the epoll says (proto/socket.h).
bool transfers_ready(struct transfers *transfers);
// Receives what has come from workers.
void transfers_process(struct transfers *transfers);
// A PIECE that came from the broker.
void transfers_piece(struct transfers *transfers, const Dray__Piece *piece, const struct message *message);
// Moves on from workers that do not answer; call a few times a second while transfers_count is not 0.
void transfers_tick(struct transfers *transfers);

#endif
