// The broker: sockets on one side, the scheduler on the other.  Each turn of the
// loop drains what has arrived into events, steps the scheduler through them, and
// sends what comes out, at most one message of a kind to each worker.
#ifndef DRAY_BROKER_BROKER_H
#define DRAY_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>

#include "broker/core/sched.h"
#include "proto/error.h"
#include "proto/log.h"
#include "proto/socket.h"

struct broker;

struct broker_options {
    const char *const *listen;
    size_t listens;
    unsigned heartbeat_ms;
    unsigned timeout_ms;        // of clients, and what others give us
    unsigned worker_timeout_ms; // of workers
    size_t backlog_mark;        // unsent bytes of a client from which on its results are held back
    unsigned stalled_ms;        // a client that then reads nothing for so long is disconnected
    const char *state;          // folder of its journal; NULL: it keeps nothing beyond its life
    struct sched_options sched;
    const struct log *log;
};

// Listens; endpoints as bound are written to *endpoints, separated by spaces (the caller
// frees it).
int broker_create(const struct broker_options *options, struct loop *loop, struct broker **out,
                  char **endpoints, struct error *err);
// Takes no more jobs and stops the loop when all that it has taken is written.  False: there is nothing to
// wait for.
bool broker_drain(struct broker *broker);
// Says BYE to everybody, waits a moment for what is unsent.  why NULL: neither.
void broker_destroy(struct broker *broker, const char *why);

#endif
