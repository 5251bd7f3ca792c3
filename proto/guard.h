// Watches the connections that a bound socket has accepted over tcp: what libzmq holds of a message that never
// ends counts towards none of its limits.  Part of proto/socket.c; belongs to the socket's thread.
#ifndef DRAY_PROTO_GUARD_H
#define DRAY_PROTO_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guard;

// `handle` is libzmq's socket, not bound yet.  NULL: errno says why.
struct guard *guard_create(void *handle);
// Before the socket is closed.
void guard_destroy(struct guard *guard);
// A whole message of `bytes` on the wire came through connection `fd`.
void guard_delivered(struct guard *guard, int fd, const void *route, size_t route_size, uint64_t bytes);
void guard_trust(struct guard *guard, int fd);

struct guard_limits {
    uint64_t stranger_bytes, trusted_bytes;
};
// Cuts connections that have sent more than their limit beyond their whole messages.  ready(arg): whole
// messages wait to be received.  `address` gets the peer of the last one.  Returns how many were cut.
size_t guard_check(struct guard *guard, const struct guard_limits *limits, bool (*ready)(void *arg),
                   void *arg, char *address, size_t address_size);

#endif
