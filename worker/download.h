// The reading side of the exchange: fetches partitions from other workers, piece by piece,
// a few pieces under way at a time.  Received bytes are taken from the budget before they
// are received.  Where a worker cannot be reached, its pieces come by way of the broker.
// Belongs to the exchange's thread.
#ifndef DRAY_WORKER_DOWNLOAD_H
#define DRAY_WORKER_DOWNLOAD_H

#include "proto/frame.h"
#include "proto/socket.h"
#include "worker/fetch.h"

struct downloads;

struct downloads_handler {
    void *arg;
    // Hands a fetch back with its outcome.
    void (*done)(void *arg, struct fetch *fetch);
    // The broker is to be asked (copies).  Negative: not now.  NULL: there is no such way.
    int (*ask_broker)(void *arg, const Dray__Fetch *message);
    // Something that people should know: which way the bytes of a worker come.
    void (*tell)(void *arg, const char *text);
};

struct downloads *downloads_create(struct loop *loop, struct budget *budget,
                                   const struct downloads_handler *handler);
void downloads_destroy(struct downloads *downloads);                    // what is under way is dropped
void downloads_start(struct downloads *downloads, struct fetch *fetch); // takes over
// Asks for what was started since: small ones of a layer with one message.
void downloads_ask(struct downloads *downloads);
// Silence, repeats, idle connections.  Call every 100 ms or so.
void downloads_tick(struct downloads *downloads);

// The session with the broker has begun, or ended: what it was asked has no answer then, and is asked again.
void downloads_session(struct downloads *downloads, bool up);
// The broker answers.  `payload` NULL: there is none.
void downloads_piece(struct downloads *downloads, const Dray__Piece *message, const struct buffer *payload);

#endif
