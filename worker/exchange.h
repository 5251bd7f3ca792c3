// The exchange: bulk bytes between workers (and to clients), on a thread and sockets of its
// own, so that they never hold up the control messages.
#ifndef DRAY_WORKER_EXCHANGE_H
#define DRAY_WORKER_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"
#include "worker/detour.h"
#include "worker/encoding.h"
#include "worker/fetch.h"

struct exchange;

struct exchange_options {
    const char *listen;
    uint64_t incarnation; // of this process: who asks for another is told so
    struct store *store;  // what it serves
    struct budget *budget;
    bool detour; // what cannot be reached is asked for by way of the broker: exchange_take_order
};

// Listens, and starts its thread.
int exchange_create(const struct exchange_options *options, struct exchange **out, struct error *err);
void exchange_destroy(struct exchange *exchange);
const char *exchange_endpoint(const struct exchange *exchange);
// Pieces that others have fetched so far.
uint64_t exchange_served(const struct exchange *exchange);

// Orders go in and outcomes come out on the owner's thread; the file descriptor is readable when
// there is one.
void exchange_fetch(struct exchange *exchange, struct fetch *fetch); // takes over
int exchange_fd(const struct exchange *exchange);
struct fetch *exchange_take(struct exchange *exchange); // NULL: none
// When there is no outcome (any more): what the broker is to be asked, or people told; the caller's to free.
// NULL: none.
struct detour_order *exchange_take_order(struct exchange *exchange);
// What the broker answers, and whether it is there.  -ENOMEM.
int exchange_answer(struct exchange *exchange, const Dray__Piece *message, struct buffer *payload);
int exchange_session(struct exchange *exchange, bool up);

#endif
