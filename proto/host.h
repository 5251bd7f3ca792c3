// The host of an address, looked up.  ZeroMQ does so as well, but in silence, again and again.
#ifndef DRAY_PROTO_HOST_H
#define DRAY_PROTO_HOST_H

#include "proto/error.h"

struct addrinfo;

// Where `broker`, tcp://HOST:PORT, is: to be freed with freeaddrinfo.  May take seconds.
// -EINVAL: it is no such address; -EHOSTUNREACH: the host's name is not known.
int host_look_up(const char *broker, struct addrinfo **out, struct error *err);

#endif
