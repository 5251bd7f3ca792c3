// The reading side of the exchange: fetches partitions from other workers, piece by piece,
// a few pieces under way at a time.  Received bytes are taken from the budget before they
// are received.  Belongs to the exchange's thread.
#ifndef DRAY_WORKER_DOWNLOAD_H
#define DRAY_WORKER_DOWNLOAD_H

#include "proto/socket.h"
#include "worker/fetch.h"

struct downloads;

// done(arg, fetch) hands a fetch back with its outcome.
struct downloads *downloads_create(struct loop *loop, struct budget *budget,
                                   void (*done)(void *arg, struct fetch *fetch), void *arg);
void downloads_destroy(struct downloads *downloads);                    // what is under way is dropped
void downloads_start(struct downloads *downloads, struct fetch *fetch); // takes over
// Asks for what was started since: small ones of a layer with one message.
void downloads_ask(struct downloads *downloads);
// Silence, repeats, idle connections.  Call every 100 ms or so.
void downloads_tick(struct downloads *downloads);

#endif
