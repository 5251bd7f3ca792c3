// ZeroMQ sockets and the loop that serves them, so that nothing else in Dray sees
// libzmq or czmq.  A socket belongs to one thread.
#ifndef DRAY_PROTO_SOCKET_H
#define DRAY_PROTO_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"

enum socket_kind {
    SOCKET_ROUTER, // frame 0 of what it receives is the peer's routing id
    SOCKET_DEALER,
};

#define SOCKET_FRAMES_MAX 1024
#define SOCKET_ROUTING_ID_MAX 255

struct socket;

// 0 in any field: its default.
struct socket_options {
    size_t frame_bytes_max; // larger frames cost their sender the connection; 0: 64 MiB
    int send_messages_max;  // high-water marks, in messages for each peer; 0: 1000
    int receive_messages_max;
    int reconnect_ms; // first retry after this long, then doubling to 1 s; 0: 10 ms
    // ROUTER over tcp, see socket_guard: bytes of one unfinished message that a connection may leave with us;
    // 0: no guard.
    size_t unfinished_bytes_max;
    size_t unfinished_trusted_max; // the same after socket_trust
    bool watch;                    // for socket_ended and socket_signs
};

// Before any socket, as often as you like; no signal handlers, no output.
void sockets_init(void);
// Closes what is left without waiting for unsent messages.
void sockets_fini(void);

// What is sent before a DEALER's connection stands, or while it is interrupted, waits in
// its queue (so a reconnect may deliver it to a new incarnation of the peer).
struct socket *socket_create(enum socket_kind kind, const struct socket_options *options, struct error *err);
// tcp://HOST:PORT, tcp://*:PORT, ipc://PATH; port 0 or * picks one (see socket_endpoint).
// Says in words what is wrong: in use, no permission, path too long (107 bytes), something else at the path.
int socket_bind(struct socket *socket, const char *endpoint, struct error *err);
// Does not wait for the peer; a peer that is not there yet is tried again and again.
int socket_connect(struct socket *socket, const char *endpoint, struct error *err);
const char *socket_endpoint(const struct socket *socket); // last bound
// Waits at most linger_ms for what is unsent.  Removes the files of ipc endpoints that it bound.
void socket_destroy(struct socket *socket, int linger_ms);

// A received multipart message.  Frames stay valid until message_fini.
struct message_frame {
    const uint8_t *data;
    size_t size;
};
struct message {
    struct message_frame frame[SOCKET_FRAMES_MAX];
    size_t frames;
    size_t bytes;
    int connection; // for socket_trust
    void *private_frames;
};
// 1: got one; 0: none there now; negative: errno.  A message of too many frames is dropped (0).
int socket_receive(struct socket *socket, struct message *message);
void message_fini(struct message *message);
// A frame as a buffer that outlives the message: large ones (16 KiB and more) without a
// copy, and then aligned to 8 bytes only.  NULL: no memory.
struct buffer *message_take(struct message *message, size_t frame);

// Sends without blocking.  `route` is the peer's routing id (ROUTER only).
// buffers follow frame 0, large ones (16 KiB and more) without a copy: each is ref'd while
// ZeroMQ needs it, and unref'd on a thread of ZeroMQ.
// -EAGAIN: the peer's queue is full; -EHOSTUNREACH: it is gone (ROUTER).
int socket_send(struct socket *socket, const void *route, size_t route_size, const void *frame,
                size_t frame_size, struct buffer *const *buffers, size_t count);

// frame_bytes_max is for a frame and high-water marks are for whole messages, so a message without an end
// would grow without one.  This cuts the connections that have sent too much of it.  Call it every 50 ms or
// so. Returns how many were cut; `address` gets the last one's.
#define SOCKET_ADDRESS_MAX 64
size_t socket_guard(struct socket *socket, char address[SOCKET_ADDRESS_MAX]);
// The sender of this message, just received, is no stranger.
void socket_trust(struct socket *socket, const struct message *message);

// A connection that has ended never comes back: libzmq makes another one with another routing id, or (a
// DEALER) under our feet.  A process that is killed ends its connections at once, a host that is switched off
// does not. 1: one has ended, and all that came through it was received before; `route` is what it was
// (ROUTER; empty when it had sent nothing).  0: none.  Ask again until 0: when socket_watch_fd
// (edge-triggered) fires, and now and then.
int socket_ended(struct socket *socket, uint8_t route[SOCKET_ROUTING_ID_MAX], size_t *route_size);
int socket_watch_fd(const struct socket *socket); // -1: not watched
// Of a DEALER that is watched: so many attempts to connect were refused since one was not.  0: it is
// connected, or has no answer yet.
unsigned socket_refusals(struct socket *socket);

// What the kernel has seen of a connection, where no whole message has come: a large one takes its time on a
// slow link.
struct socket_signs {
    uint64_t received_us;     // since bytes came
    uint64_t delivered;       // bytes that have arrived at the other host
    uint64_t acknowledged_us; // since the other host acknowledged anything of ours, or repeated that it had
};
// Over tcp.  `route`: ROUTER only.  -ENOENT: nothing is known.
int socket_signs(struct socket *socket, const void *route, size_t route_size, struct socket_signs *out);

// ZMQ_FD, edge-triggered: after it fires, call socket_receive until 0; and after any
// send or receive check socket_ready.
int socket_fd(const struct socket *socket);
bool socket_ready(struct socket *socket); // something can be received now

// ---- loop -----------------------------------------------------------------------

// Waits for sockets, file descriptors and timers on one thread.  Handles ZMQ_FD's edges
// and EINTR.  Callbacks may add and remove anything, and stop the loop; signals come
// through a signalfd.  Remove a socket before its socket_destroy, an fd before its close.
struct loop;
struct loop *loop_create(void);
void loop_destroy(struct loop *loop);
// ready(arg) is called, once a turn, while the socket has something to receive; now and then also when it has
// not.
int loop_add_socket(struct loop *loop, struct socket *socket, void (*ready)(void *arg), void *arg);
int loop_add_fd(struct loop *loop, int fd, short events, void (*ready)(void *arg, short revents), void *arg);
void loop_remove_socket(struct loop *loop, struct socket *socket);
void loop_remove_fd(struct loop *loop, int fd);
// Called every interval_ms (at least).
int loop_add_timer(struct loop *loop, unsigned interval_ms, void (*due)(void *arg), void *arg);
// Called once a turn, after all that was ready: the place to send batches.
void loop_set_turn(struct loop *loop, void (*turn)(void *arg), void *arg);
// Until loop_stop, and then to the end of the turn; -errno when the wait itself fails.
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

uint64_t monotonic_us(void);

#endif
