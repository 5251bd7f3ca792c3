#include "proto/guard.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <czmq.h>

enum {
    TRUSTED_EVERY = 4,  // checks; who is trusted may hold so much that time hardly matters
    ROUND_SLACK = 1000, // messages
    FDS_FIRST = 64,
};

struct connection {
    bool open, trusted, cut;
    bool suspect;
    uint64_t cookie;    // of the kernel's socket: an fd's number comes back, a cookie never
    uint64_t route;     // hash of the routing id of what it delivered last
    uint64_t delivered; // bytes of whole messages
    uint64_t messages;
    uint64_t suspect_messages; // `messages` when it became suspect
    uint64_t round_end;        // guard's `messages` when everybody has had a turn since
};

struct guard {
    zsock_t *monitor;
    void *watched, *handle;
    struct connection *connection; // by fd
    size_t connections;
    size_t open;
    uint64_t messages;
    uint64_t checks;
};

struct guard *guard_create(void *handle)
{
    struct guard *guard = calloc(1, sizeof(*guard));
    char endpoint[64];

    if (guard == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    snprintf(endpoint, sizeof(endpoint), "inproc://guard-%" PRIxPTR, (uintptr_t)handle);
    guard->watched = handle;
    guard->monitor = zsock_new(ZMQ_PAIR);
    if (guard->monitor == NULL) {
        free(guard);
        return NULL;
    }
    guard->handle = zsock_resolve(guard->monitor);
    // Without a limit: at a full queue libzmq's I/O thread would wait for us.
    zsock_set_rcvhwm(guard->monitor, 0);
    zsock_set_linger(guard->monitor, 0);
    if (zmq_socket_monitor(handle, endpoint,
                           ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED) != 0 ||
        zmq_connect(guard->handle, endpoint) != 0) {
        int code = errno;

        guard_destroy(guard);
        errno = code;
        return NULL;
    }
    return guard;
}

void guard_destroy(struct guard *guard)
{
    if (guard != NULL) {
        // First of all: libzmq leaks an event that it cannot send.
        zmq_socket_monitor(guard->watched, NULL, 0);
        zsock_destroy(&guard->monitor);
        free(guard->connection);
        free(guard);
    }
}

// ---- who is there ----------------------------------------------------------------

static bool read_cookie(int fd, uint64_t *cookie)
{
    socklen_t size = sizeof(*cookie);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &size) == 0;
}

static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof(protocol);

    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

static void close_connection(struct guard *guard, size_t fd)
{
    if (fd < guard->connections && guard->connection[fd].open) {
        guard->connection[fd] = (struct connection){0};
        guard->open--;
    }
}

// Without memory for its entry a connection goes unwatched.
static void open_connection(struct guard *guard, size_t fd)
{
    uint64_t cookie;

    close_connection(guard, fd);
    if (!is_tcp((int)fd) || !read_cookie((int)fd, &cookie)) {
        return;
    }
    if (fd >= guard->connections) {
        size_t count = guard->connections == 0 ? FDS_FIRST : guard->connections;

        while (count <= fd) {
            count *= 2;
        }
        struct connection *longer = realloc(guard->connection, count * sizeof(*longer));

        if (longer == NULL) {
            return;
        }
        memset(longer + guard->connections, 0, (count - guard->connections) * sizeof(*longer));
        guard->connection = longer;
        guard->connections = count;
    }
    guard->connection[fd] = (struct connection){.open = true, .cookie = cookie};
    guard->open++;
}

// An event is a frame of u16 number and u32 value, the fd, and a frame with the address.
static void drain_events(struct guard *guard)
{
    zmq_msg_t frame;
    bool first = true;

    zmq_msg_init(&frame);
    for (;;) {
        if (zmq_msg_recv(&frame, guard->handle, ZMQ_DONTWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            break;
        }
        if (first && zmq_msg_size(&frame) >= 6) {
            const uint8_t *data = zmq_msg_data(&frame);
            uint16_t event;
            int32_t fd;

            memcpy(&event, data, sizeof(event));
            memcpy(&fd, data + 2, sizeof(fd));
            if (fd >= 0 && event == ZMQ_EVENT_ACCEPTED) {
                open_connection(guard, (size_t)fd);
            } else if (fd >= 0) {
                close_connection(guard, (size_t)fd);
            }
        }
        first = !zmq_msg_more(&frame);
    }
    zmq_msg_close(&frame);
}

static struct connection *find(struct guard *guard, int fd)
{
    return fd >= 0 && (size_t)fd < guard->connections && guard->connection[fd].open ? &guard->connection[fd]
                                                                                    : NULL;
}

static uint64_t hash_route(const uint8_t *route, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325U; // FNV-1a

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ route[i]) * 0x100000001b3U;
    }
    return hash;
}

void guard_delivered(struct guard *guard, int fd, const void *route, size_t route_size, uint64_t bytes)
{
    struct connection *connection = find(guard, fd);
    uint64_t hash = hash_route(route, route_size);

    guard->messages++;
    if (connection == NULL || connection->route != hash) {
        // Perhaps another connection under the same number: its event comes before its messages.
        drain_events(guard);
        connection = find(guard, fd);
    }
    if (connection != NULL) {
        connection->route = hash;
        connection->delivered += bytes;
        connection->messages++;
    }
}

void guard_trust(struct guard *guard, int fd)
{
    struct connection *connection = find(guard, fd);

    if (connection != NULL) {
        connection->trusted = true;
    }
}

// ---- checking --------------------------------------------------------------------

// What libzmq has taken in of the connection and has not delivered.
static uint64_t held_bytes(struct connection *connection, int fd, uint64_t limit)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    int unread = 0;
    uint64_t held;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
        return 0;
    }
    // Messages that a closed connection of the same number left in the queue are in `delivered`.
    if (connection->delivered > info.tcpi_bytes_received) {
        connection->delivered = info.tcpi_bytes_received;
    }
    held = info.tcpi_bytes_received - connection->delivered;
    if (held > limit && ioctl(fd, FIONREAD, &unread) == 0 && unread > 0) {
        held -= (uint64_t)unread < held ? (uint64_t)unread : held;
    }
    return held;
}

static void cut(struct connection *connection, int fd, char *address, size_t address_size)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof(peer);

    connection->cut = true;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0 ||
        getnameinfo((const struct sockaddr *)&peer, size, address, (socklen_t)address_size, NULL, 0,
                    NI_NUMERICHOST) != 0) {
        snprintf(address, address_size, "somewhere");
    }
    // libzmq's I/O thread sees the end of the stream, closes it and frees what it holds.
    shutdown(fd, SHUT_RDWR);
}

// Whole messages that wait count as held too, so a connection is guilty only when it has none of these:
// when nothing at all waits, or when the others have had their turns (libzmq serves connections in turn,
// a message each) and it has still delivered nothing.
static bool is_guilty(struct guard *guard, struct connection *connection, bool (*ready)(void *arg), void *arg)
{
    if (!connection->suspect || connection->messages != connection->suspect_messages) {
        connection->suspect = true;
        connection->suspect_messages = connection->messages;
        connection->round_end = guard->messages + 4 * (uint64_t)guard->open + ROUND_SLACK;
    }
    return guard->messages >= connection->round_end || !ready(arg);
}

size_t guard_check(struct guard *guard, const struct guard_limits *limits, bool (*ready)(void *arg),
                   void *arg, char *address, size_t address_size)
{
    bool all = guard->checks++ % TRUSTED_EVERY == 0;
    size_t count = 0;

    drain_events(guard);
    for (size_t i = 0; i < guard->connections; i++) {
        struct connection *connection = &guard->connection[i];
        uint64_t limit = connection->trusted ? limits->trusted_bytes : limits->stranger_bytes;
        uint64_t cookie;

        if (!connection->open || connection->cut || (connection->trusted && !all)) {
            continue;
        }
        if (held_bytes(connection, (int)i, limit) <= limit) {
            connection->suspect = false;
            continue;
        }
        // libzmq may close it at any moment, and the number be another socket's: this keeps it.
        int fd = dup((int)i);

        if (fd < 0) {
            continue;
        }
        if (!read_cookie(fd, &cookie) || cookie != connection->cookie) {
            close_connection(guard, i);
        } else if (held_bytes(connection, fd, limit) > limit && is_guilty(guard, connection, ready, arg)) {
            cut(connection, fd, address, address_size);
            count++;
        }
        close(fd);
    }
    return count;
}
