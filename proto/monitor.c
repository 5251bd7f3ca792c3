#include "proto/monitor.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <czmq.h>

enum {
    FDS_FIRST = 64,
    ENDINGS_FIRST = 16,
    ROUND_TURNS = 4,
    ROUND_SLACK = 1000, // messages
};

struct monitor *monitor_create(void *handle, bool routed, bool tells)
{
    struct monitor *monitor = calloc(1, sizeof(*monitor));
    size_t size = sizeof(monitor->fd);
    char endpoint[64];
    zsock_t *zsock;

    if (monitor == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%" PRIxPTR, (uintptr_t)handle);
    monitor->watched = handle;
    monitor->routed = routed;
    monitor->tells = tells;
    zsock = zsock_new(ZMQ_PAIR);
    if (zsock == NULL) {
        free(monitor);
        return NULL;
    }
    monitor->zsock = zsock;
    monitor->handle = zsock_resolve(zsock);
    // Without a limit: at a full queue libzmq's I/O thread would wait for us.
    zsock_set_rcvhwm(zsock, 0);
    zsock_set_linger(zsock, 0);
    if (zmq_socket_monitor(handle, endpoint,
                           ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED |
                               ZMQ_EVENT_CLOSED) != 0 ||
        zmq_connect(monitor->handle, endpoint) != 0 ||
        zmq_getsockopt(monitor->handle, ZMQ_FD, &monitor->fd, &size) != 0) {
        int code = errno;

        monitor_destroy(monitor);
        errno = code;
        return NULL;
    }
    return monitor;
}

void monitor_destroy(struct monitor *monitor)
{
    if (monitor != NULL) {
        zsock_t *zsock = monitor->zsock;

        // First of all: libzmq leaks an event that it cannot send.
        zmq_socket_monitor(monitor->watched, NULL, 0);
        zsock_destroy(&zsock);
        free(monitor->connection);
        free(monitor->ending);
        free(monitor);
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

static void note_ending(struct monitor *monitor, const struct connection *connection)
{
    if (!monitor->tells || (monitor->routed && connection->route_size == 0)) {
        return;
    }
    if (monitor->endings == monitor->endings_max) {
        size_t max = monitor->endings_max == 0 ? ENDINGS_FIRST : 2 * monitor->endings_max;
        struct ending *longer = realloc(monitor->ending, max * sizeof(*longer));

        if (longer == NULL) {
            return; // its peer's silence will tell
        }
        monitor->ending = longer;
        monitor->endings_max = max;
    }
    struct ending *ending = &monitor->ending[monitor->endings++];

    *ending = (struct ending){.route_size = connection->route_size, .round_end = monitor_round_end(monitor)};
    memcpy(ending->route, connection->route, connection->route_size);
}

static void close_connection(struct monitor *monitor, size_t fd, bool ended)
{
    if (fd < monitor->connections && monitor->connection[fd].open) {
        if (ended) {
            note_ending(monitor, &monitor->connection[fd]);
        }
        monitor->connection[fd] = (struct connection){0};
        monitor->open--;
    }
}

// Without memory for its entry a connection goes unwatched.
static void open_connection(struct monitor *monitor, size_t fd)
{
    if (fd >= monitor->connections) {
        size_t count = monitor->connections == 0 ? FDS_FIRST : monitor->connections;

        while (count <= fd) {
            count *= 2;
        }
        struct connection *longer = realloc(monitor->connection, count * sizeof(*longer));

        if (longer == NULL) {
            return;
        }
        memset(longer + monitor->connections, 0, (count - monitor->connections) * sizeof(*longer));
        monitor->connection = longer;
        monitor->connections = count;
    }
    struct connection *connection = &monitor->connection[fd];

    *connection = (struct connection){.open = true, .tcp = is_tcp((int)fd)};
    if (!read_cookie((int)fd, &connection->cookie)) {
        connection->tcp = false;
    }
    monitor->open++;
}

void monitor_drain(struct monitor *monitor)
{
    zmq_msg_t frame;
    bool first = true;

    zmq_msg_init(&frame);
    for (;;) {
        if (zmq_msg_recv(&frame, monitor->handle, ZMQ_DONTWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            break;
        }
        // An event is a frame of u16 number and u32 value, the fd, and a frame with the address.
        if (first && zmq_msg_size(&frame) >= 6) {
            const uint8_t *data = zmq_msg_data(&frame);
            uint16_t event;
            int32_t fd;

            memcpy(&event, data, sizeof(event));
            memcpy(&fd, data + 2, sizeof(fd));
            if (fd >= 0) {
                close_connection(monitor, (size_t)fd, event == ZMQ_EVENT_DISCONNECTED);
            }
            monitor->refusals += event == ZMQ_EVENT_CLOSED;
            if (event == ZMQ_EVENT_CONNECTED) {
                monitor->refusals = 0;
            }
            if (fd >= 0 && (event == ZMQ_EVENT_ACCEPTED || event == ZMQ_EVENT_CONNECTED)) {
                open_connection(monitor, (size_t)fd);
            }
        }
        first = !zmq_msg_more(&frame);
    }
    zmq_msg_close(&frame);
}

struct connection *monitor_find(struct monitor *monitor, int fd)
{
    return fd >= 0 && (size_t)fd < monitor->connections && monitor->connection[fd].open
               ? &monitor->connection[fd]
               : NULL;
}

int monitor_hold(struct monitor *monitor, int fd)
{
    const struct connection *connection = monitor_find(monitor, fd);
    uint64_t cookie;
    int own;

    if (connection == NULL || !connection->tcp) {
        return -1;
    }
    own = dup(fd);
    if (own >= 0 && (!read_cookie(own, &cookie) || cookie != connection->cookie)) {
        close(own);
        return -1;
    }
    return own;
}

static bool has_route(const struct connection *connection, const void *route, size_t size)
{
    return connection->route_size == size && (size == 0 || memcmp(connection->route, route, size) == 0);
}

void monitor_delivered(struct monitor *monitor, int fd, const void *route, size_t route_size, uint64_t bytes)
{
    struct connection *connection = monitor_find(monitor, fd);

    monitor->messages++;
    route_size = route_size > MONITOR_ROUTE_MAX ? 0 : route_size;
    if (connection == NULL || !has_route(connection, route, route_size)) {
        // Perhaps another connection under the same number: its event comes before its messages.
        monitor_drain(monitor);
        connection = monitor_find(monitor, fd);
    }
    if (connection != NULL) {
        memcpy(connection->route, route, route_size);
        connection->route_size = (uint8_t)route_size;
        connection->delivered += bytes;
        connection->messages++;
    }
}

uint64_t monitor_round_end(const struct monitor *monitor)
{
    return monitor->messages + ROUND_TURNS * (uint64_t)monitor->open + ROUND_SLACK;
}

// ---- what became of them -----------------------------------------------------------

int monitor_ended(struct monitor *monitor, bool empty, uint8_t *route, size_t *route_size)
{
    for (size_t i = 0; i < monitor->endings; i++) {
        struct ending *ending = &monitor->ending[i];

        ending->received = ending->received || empty || monitor->messages >= ending->round_end;
        if (ending->received) {
            memcpy(route, ending->route, ending->route_size);
            *route_size = ending->route_size;
            monitor->endings--;
            memmove(ending, ending + 1, (monitor->endings - i) * sizeof(*ending));
            return 1;
        }
    }
    return 0;
}

int monitor_signs(struct monitor *monitor, const void *route, size_t route_size, struct socket_signs *out)
{
    for (size_t i = 0; i < monitor->connections; i++) {
        struct tcp_info info = {0};
        socklen_t size = sizeof(info);
        int fd;

        if (!monitor->connection[i].open || !has_route(&monitor->connection[i], route, route_size)) {
            continue;
        }
        fd = monitor_hold(monitor, (int)i);
        if (fd < 0) {
            return -ENOENT;
        }
        int rc = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? 0 : -errno;

        close(fd);
        if (rc == 0) {
            out->received_us = (uint64_t)info.tcpi_last_data_recv * 1000;
            out->delivered = info.tcpi_bytes_acked;
            out->acknowledged_us = (uint64_t)info.tcpi_last_ack_recv * 1000;
        }
        return rc;
    }
    return -ENOENT;
}
