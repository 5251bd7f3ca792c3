#include "worker/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/host.h"

// As "1.2.3.4" or "[::1]".
static int print_address(const struct sockaddr_storage *address, char *out, size_t size, struct error *err)
{
    char text[INET6_ADDRSTRLEN];

    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        snprintf(out, size, "%s", text);
        return 0;
    }
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        snprintf(out, size, "[%s]", text);
        return 0;
    }
    return error_set(err, EAFNOSUPPORT, "the broker has an address of an unknown kind");
}

// The local end of a route: a connected datagram socket has one without a packet being sent.
static int local_address(const struct addrinfo *to, char *out, size_t size, struct error *err)
{
    struct sockaddr_storage local = {0};
    socklen_t local_size = sizeof(local);
    int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0) {
        return error_set(err, errno, "cannot make a socket: %s", strerror(errno));
    }
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0 ||
        getsockname(fd, (struct sockaddr *)&local, &local_size) != 0) {
        rc = error_set(err, errno, "there is no route to the broker: %s", strerror(errno));
    } else {
        rc = print_address(&local, out, size, err);
    }
    close(fd);
    return rc;
}

static int choose_tcp(const char *broker, char out[ADDRESS_MAX], struct error *err)
{
    struct addrinfo *found = NULL;
    char address[ADDRESS_MAX / 2];
    int rc = host_look_up(broker, &found, err);

    if (rc != 0) {
        return rc;
    }
    rc = local_address(found, address, sizeof(address), err);
    freeaddrinfo(found);
    if (rc == 0) {
        snprintf(out, ADDRESS_MAX, "tcp://%s:*", address);
    }
    return rc;
}

static int choose_ipc(const char *broker, uint64_t incarnation, char out[ADDRESS_MAX], struct error *err)
{
    const char *slash = strrchr(broker + strlen("ipc://"), '/');
    int folder = slash == NULL ? (int)strlen("ipc://") : (int)(slash - broker) + 1;

    // Short: the path of a local socket may have about 100 bytes.
    if (snprintf(out, ADDRESS_MAX, "%.*sw-%08" PRIx32, folder, broker, (uint32_t)incarnation) >=
        ADDRESS_MAX) {
        return error_set(err, ENAMETOOLONG, "the broker's address \"%.60s...\" is too long", broker);
    }
    return 0;
}

int address_choose(const char *broker, uint64_t incarnation, char out[ADDRESS_MAX], struct error *err)
{
    if (strncmp(broker, "ipc://", 6) == 0) {
        return choose_ipc(broker, incarnation, out, err);
    }
    if (strncmp(broker, "tcp://", 6) == 0) {
        return choose_tcp(broker, out, err);
    }
    return error_set(err, EINVAL, "\"%s\" is no address of a broker: expected tcp://HOST:PORT or ipc://PATH",
                     broker);
}
