// The connections of a socket, as libzmq's monitor and the kernel tell of them: which there are, which have
// ended, and when bytes last came.  Part of proto/socket.c; belongs to the socket's thread.
#ifndef DRAY_PROTO_MONITOR_H
#define DRAY_PROTO_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/socket.h"

#define MONITOR_ROUTE_MAX                                                                                    \
    16 // libzmq's own routing ids have 5 bytes; a connection with a longer one ends untold

struct connection {
    bool open;
    bool tcp;
    uint64_t cookie;                  // of the kernel's socket: an fd's number comes back, a cookie never
    uint8_t route[MONITOR_ROUTE_MAX]; // of what it delivered last (ROUTER)
    uint8_t route_size;
    uint64_t delivered; // bytes of whole messages
    uint64_t messages;
    // proto/guard.c
    bool trusted, cut, suspect;
    uint64_t suspect_messages; // `messages` when it became suspect
    uint64_t round_end;        // the monitor's `messages` when everybody has had a turn since
};

// A connection that is over.
struct ending {
    uint8_t route[MONITOR_ROUTE_MAX];
    uint8_t route_size;
    bool received;      // all that came through it
    uint64_t round_end; // or so many messages later
};

struct monitor {
    void *watched, *handle;
    void *zsock;
    int fd;
    struct connection *connection; // by fd
    size_t connections;
    size_t open;
    uint64_t messages;
    struct ending *ending; // oldest first
    size_t endings, endings_max;
    unsigned refusals; // attempts to connect that failed, since one did not
    bool tells;        // somebody asks for endings
    bool routed;       // a ROUTER's: those that sent nothing are nobody's
};

// `handle` is libzmq's socket, neither bound nor connected yet.  NULL: errno says why.
struct monitor *monitor_create(void *handle, bool routed, bool tells);
// Before the socket is closed.
void monitor_destroy(struct monitor *monitor);
// Takes in what has happened.
void monitor_drain(struct monitor *monitor);
// A whole message of `bytes` on the wire came through connection `fd`.
void monitor_delivered(struct monitor *monitor, int fd, const void *route, size_t route_size, uint64_t bytes);
struct connection *monitor_find(struct monitor *monitor, int fd); // NULL: not watched
// A descriptor of its own of the connection at `fd`, which libzmq may close at any moment; -1: it is
// another's by now.
int monitor_hold(struct monitor *monitor, int fd);
// `empty`: nothing waits to be received.  See socket_ended.
int monitor_ended(struct monitor *monitor, bool empty, uint8_t *route, size_t *route_size);
// See socket_signs.
int monitor_signs(struct monitor *monitor, const void *route, size_t route_size, struct socket_signs *out);
// After so many messages in all, every connection has had its turns (libzmq serves them in turn, a message
// each).
uint64_t monitor_round_end(const struct monitor *monitor);

#endif
