// Sessions on the broker's ROUTER socket: handshake, order, liveness, goodbye.
// What comes out above is frames of peers that are known, in order, without a gap.
#ifndef DRAY_BROKER_SESSION_H
#define DRAY_BROKER_SESSION_H

#include <stdbool.h>

#include "broker/peer.h"
#include "proto/arena.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "proto/log.h"
#include "proto/socket.h"

struct sessions;

struct session_options {
    unsigned heartbeat_ms;
    unsigned timeout_ms;        // nothing heard of a client for so long: lost; as long do others wait for us
    unsigned worker_timeout_ms; // ... of a worker
    size_t backlog_mark;        // a client with more than that unsent is full, until half of it is gone
    size_t backlog_max;         // more than that unsent: the peer is too slow
    unsigned stalled_ms;        // ... as is a client that is full and reads nothing for so long
    uint64_t incarnation;       // that WELCOME says; 0: a random one
    const struct log *log;
};

enum session_end {
    SESSION_LOST, // its connection, or it broke the rules
    SESSION_ANEW, // the same process has another one
    SESSION_BYE,
};

// What happens on the sessions.  A peer's pointer is good until peers_sweep.
struct session_handler {
    void *arg;
    // A message of this type (enum frame_type, or a number that is none) has come: where what it says is to
    // live. peer NULL: from a stranger.  NULL: no memory.
    struct arena *(*begun)(void *arg, struct peer *peer, unsigned type);
    // WELCOME is on its way.  Negative: the peer is refused in these words.
    int (*joined)(void *arg, struct peer *peer, const Dray__Hello *hello, struct error *err);
    // Negative: the peer broke the rules, its session ends in these words.
    int (*received)(void *arg, struct peer *peer, const struct frame *frame, struct message *message,
                    struct error *err);
    // Once for each that joined.
    void (*left)(void *arg, struct peer *peer, enum session_end end, const char *why);
    // A client does not read as fast as it is sent to; or it has caught up.
    void (*full)(void *arg, struct peer *peer, bool full);
};

// Borrows socket and peers.
int sessions_create(struct socket *socket, struct peers *peers, const struct session_options *options,
                    const struct session_handler *handler, struct sessions **out, struct error *err);
void sessions_destroy(struct sessions *sessions);

// Handles one message that has arrived.  False: there is none.
bool sessions_receive(struct sessions *sessions);
// Connections that have ended: when the socket's watch fd says so.
void sessions_watch(struct sessions *sessions);
// Heartbeats, silence, what is still unsent.  Call a few times a heartbeat.
void sessions_tick(struct sessions *sessions);
// Sends what could not be sent before.
void sessions_flush(struct sessions *sessions);

// Buffers follow as payload frames.  A peer that is gone or too slow is a session that
// ends, not an error of the caller.
void sessions_send(struct sessions *sessions, struct peer *peer, enum frame_type type,
                   const ProtobufCMessage *message, struct buffer *const *buffers, size_t count);
// Ends a session: BYE with these words to the peer, `left` to the handler.
void sessions_end(struct sessions *sessions, struct peer *peer, int code, const char *why);
// BYE to everybody, without a call of `left`.
void sessions_close(struct sessions *sessions, int code, const char *why);

#endif
