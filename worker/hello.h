// What a worker says of itself when it connects.
#ifndef DRAY_WORKER_HELLO_H
#define DRAY_WORKER_HELLO_H

#include "proto/arena.h"
#include "proto/wire.pb-c.h"
#include "worker/daemon.h"

// Points into the options, the endpoint and the arena.  -ENOMEM.
int hello_make(const struct daemon_options *options, uint64_t incarnation, const char *endpoint,
               struct arena *arena, Dray__Hello *hello);

#endif
