// The client's connection to the broker: handshake, sequence numbers, heartbeats, and a new connection
// in place of one that was lost.  Knows nothing of jobs.
#ifndef DRAY_CLIENT_LIB_UPLINK_H
#define DRAY_CLIENT_LIB_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "proto/socket.h"

struct uplink;

// Starts to connect and queues HELLO; does not wait.  name: for people, NULL: host-pid.
int uplink_create(const char *endpoint, const char *name, struct uplink **out, struct error *err);
// Says BYE when there is a session.  Waits at most linger_ms for what is unsent.
void uplink_destroy(struct uplink *uplink, int linger_ms);

const char *uplink_endpoint(const struct uplink *uplink);
bool uplink_welcomed(const struct uplink *uplink);
unsigned uplink_heartbeat_ms(const struct uplink *uplink); // 0 before WELCOME
int uplink_fd(const struct uplink *uplink);                // edge-triggered, see proto/socket.h
int uplink_watch_fd(const struct uplink *uplink);          // for uplink_tick; the same, -1: none
// uplink_receive would find something that the fd may not tell of.
bool uplink_ready(struct uplink *uplink);

// The connection ended before the broker had ever answered, and HELLO perhaps with it: uplink_renew says it
// again.
bool uplink_unheard(const struct uplink *uplink);
// The session is over, and another one may go on from there: uplink_renew.
bool uplink_lost(const struct uplink *uplink);
// A new connection of the same process instead of the old one, whose fd is to be taken out of any epoll
// before; queues HELLO, does not wait.  Fails: still lost.
int uplink_renew(struct uplink *uplink, struct error *err);
// It is of no more use, for this reason: lost.
void uplink_abandon(struct uplink *uplink, const char *why);
// Why the session is over, as uplink_receive says it; 0: it is not.
int uplink_error(const struct uplink *uplink, struct error *err);
// Which broker it was that answered last: a broker that knows what it knew has the same one.
uint64_t uplink_broker(const struct uplink *uplink);
// How many sessions there were, this one included.
unsigned uplink_sessions(const struct uplink *uplink);
// For tests: messages that may wait to be sent, in connections that are made from then on.
void uplink_limit(int messages);

// 1: *frame and *message are the next message that is not the uplink's own (the frame's
// body lives in the arena; message_fini is the caller's); 0: none now; negative: the
// session is over and says why (the same each time until uplink_renew).
int uplink_receive(struct uplink *uplink, struct arena *arena, struct frame *frame, struct message *message,
                   struct error *err);

// -ENOTCONN: before the first WELCOME or after the end.  -EAGAIN: the broker takes nothing at present, or the
// connection is lost.
int uplink_send(struct uplink *uplink, enum frame_type type, const ProtobufCMessage *message,
                struct error *err);

// Call at least every uplink_heartbeat_ms: sends a heartbeat when one is due;
// -ENOTCONN when the broker was silent for too long.
int uplink_tick(struct uplink *uplink, struct error *err);

// The broker's silence is of our own making: what it sent was not received on purpose.
void uplink_excuse(struct uplink *uplink);

#endif
