// Cuts the connections of a bound socket whose messages do not end: what libzmq holds of such a message
// counts towards none of its limits.  Over tcp.  Part of proto/socket.c; belongs to the socket's thread.
#ifndef DRAY_PROTO_GUARD_H
#define DRAY_PROTO_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/monitor.h"

void guard_trust(struct monitor *monitor, int fd);

struct guard_limits {
    uint64_t stranger_bytes, trusted_bytes; // 0: no guard
    uint64_t checks;                        // so far
};
// Cuts connections that have sent more than their limit beyond their whole messages.  ready(arg): whole
// messages wait to be received.  `address` gets the peer of the last one.  Returns how many were cut.
size_t guard_check(struct monitor *monitor, struct guard_limits *limits, bool (*ready)(void *arg), void *arg,
                   char *address, size_t address_size);

#endif
