// The session with the broker, on a DEALER socket: handshake, order, heartbeats, and
// a new connection with a new identity when the old one is of no use any more.
#ifndef DRAY_WORKER_LINK_H
#define DRAY_WORKER_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "proto/log.h"
#include "proto/socket.h"

struct link;

struct link_options {
    const char *broker;
    const Dray__Hello *hello; // borrowed for the link's life
    unsigned reconnect_ms;    // without a broker for so long: it is over
    const struct log *log;
};

struct link_handler {
    void *arg;
    void (*up)(void *arg, const Dray__Welcome *welcome);
    // Negative: the broker broke the rules; a new session begins.
    int (*received)(void *arg, const struct frame *frame, struct message *message, struct error *err);
    void (*down)(void *arg);
    // Fills in what the worker says of itself.
    void (*heartbeat)(void *arg, Dray__Heartbeat *message);
    // For good.  code 0: the broker said goodbye; otherwise why tells what went wrong.
    void (*over)(void *arg, int code, const char *why);
};

int link_create(struct loop *loop, const struct link_options *options, const struct link_handler *handler,
                struct link **out, struct error *err);
// Says BYE if it shall, and why (NULL: that goes without saying).
void link_destroy(struct link *link, bool goodbye, const char *why);

bool link_is_up(const struct link *link);
// False: the session is (now) down, and the message is lost with it.
bool link_send(struct link *link, enum frame_type type, const ProtobufCMessage *message,
               struct buffer *const *buffers, size_t count);
// The session ends, and another one begins.
void link_restart(struct link *link, const char *why);
// Heartbeats, silence, new attempts.  Call every few milliseconds while it is down, and
// several times a heartbeat while it is up.
void link_tick(struct link *link);

#endif
