// What waits to be sent to one peer, bounded in bytes.  ZeroMQ's own queues count
// messages only; so large payloads are metered until ZeroMQ has let go of them, and beyond a
// few megabytes under way the rest waits here.
#ifndef DRAY_BROKER_BACKLOG_H
#define DRAY_BROKER_BACKLOG_H

#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/socket.h"

struct backlog;

struct backlog *backlog_create(size_t bytes_max);
void backlog_destroy(struct backlog *backlog); // what is not sent is dropped

// Sends a message to `route` or queues it behind those that wait; references to
// the buffers are its own.  -EHOSTUNREACH: the peer is gone.  -ENOBUFS: more than bytes_max
// would wait: the peer is too slow.  -ENOMEM.
int backlog_post(struct backlog *backlog, struct socket *socket, const void *route, size_t route_size,
                 const void *frame, size_t size, struct buffer *const *buffers, size_t count);
// Sends what waits, as far as it goes.  0 also when something is left; -EHOSTUNREACH.
int backlog_flush(struct backlog *backlog, struct socket *socket, const void *route, size_t route_size);
// Bytes that wait here or are under way as metered payloads.
size_t backlog_bytes(const struct backlog *backlog);
// Bytes that no longer do: stands still while the peer reads nothing.
uint64_t backlog_passed(const struct backlog *backlog);

#endif
