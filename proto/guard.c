#include "proto/guard.h"

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TRUSTED_EVERY = 4, // checks; who is trusted may hold so much that time hardly matters
};

void guard_trust(struct monitor *monitor, int fd)
{
    struct connection *connection = monitor_find(monitor, fd);

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
static bool is_guilty(struct monitor *monitor, struct connection *connection, bool (*ready)(void *arg),
                      void *arg)
{
    if (!connection->suspect || connection->messages != connection->suspect_messages) {
        connection->suspect = true;
        connection->suspect_messages = connection->messages;
        connection->round_end = monitor_round_end(monitor);
    }
    return monitor->messages >= connection->round_end || !ready(arg);
}

size_t guard_check(struct monitor *monitor, struct guard_limits *limits, bool (*ready)(void *arg), void *arg,
                   char *address, size_t address_size)
{
    bool all = limits->checks++ % TRUSTED_EVERY == 0;
    size_t count = 0;

    for (size_t i = 0; i < monitor->connections; i++) {
        struct connection *connection = &monitor->connection[i];
        uint64_t limit = connection->trusted ? limits->trusted_bytes : limits->stranger_bytes;

        if (!connection->open || !connection->tcp || connection->cut || (connection->trusted && !all)) {
            continue;
        }
        if (held_bytes(connection, (int)i, limit) <= limit) {
            connection->suspect = false;
            continue;
        }
        // libzmq may close it at any moment, and the number be another socket's: this keeps it.
        int fd = monitor_hold(monitor, (int)i);

        if (fd < 0) {
            connection->tcp = false; // its end is on its way to us
            continue;
        }
        if (held_bytes(connection, fd, limit) > limit && is_guilty(monitor, connection, ready, arg)) {
            cut(connection, fd, address, address_size);
            count++;
        }
        close(fd);
    }
    return count;
}
