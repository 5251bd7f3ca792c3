#include "proto/host.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

int host_look_up(const char *broker, struct addrinfo **out, struct error *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *host = strncmp(broker, "tcp://", 6) == 0 ? broker + 6 : "";
    const char *port = strrchr(host, ':');
    size_t size = port == NULL ? 0 : (size_t)(port - host);
    char name[NI_MAXHOST];
    int rc;

    if (size == 0 || size >= sizeof(name)) {
        return error_set(err, EINVAL, "\"%s\" is no address of a broker: expected tcp://HOST:PORT", broker);
    }
    memcpy(name, host, size);
    name[size] = '\0';
    if (name[0] == '[' && name[size - 1] == ']') {
        name[size - 1] = '\0';
        memmove(name, name + 1, size - 1);
    }
    rc = getaddrinfo(name, port + 1, &hints, out);
    return rc == 0 ? 0
                   : error_set(err, EHOSTUNREACH, "the broker's host \"%s\" is not known: %s", name,
                               rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
}
