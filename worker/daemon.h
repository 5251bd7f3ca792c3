// The worker: the broker's messages and what executors and the exchange report go into the
// agent as events, and its actions come out as work for them and as messages.
#ifndef DRAY_WORKER_DAEMON_H
#define DRAY_WORKER_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/log.h"
#include "proto/socket.h"
#include "worker/child/plugins.h"
#include "worker/core/agent.h"

struct daemon;

struct daemon_options {
    const char *broker;
    const char *listen; // of the exchange; NULL: chosen to go with the broker's address
    const char *name;
    uint32_t threads;
    uint64_t memory;               // budget in bytes
    const char *const *data_dir;   // NULL-terminated; NULL: the file system that all see
    const struct plugins *plugins; // NULL: none
    const char *scratch;           // folder below which commands get theirs; NULL: /tmp
    unsigned reconnect_ms;
    unsigned grace_ms;    // daemon_leave waits so long for what runs, and for others to take what is here
    uint64_t lifetime_ms; // leaves by itself after that; 0: never
    // What tasks may ask for.
    const char *const *label;
    size_t labels;
    const struct agent_resource *resource;
    size_t resources;
    const struct log *log;
};

int daemon_create(const struct daemon_options *options, struct loop *loop, struct daemon **out,
                  struct error *err);
// Says goodbye (if it shall) and stops its threads.  False: one of them is stuck; nothing can be freed, end
// the process.
bool daemon_destroy(struct daemon *daemon, bool goodbye);
// Gives back what has not started, lets what runs come to its end, hands over what is here alone, then stops the
// loop.  False: there is nothing to wait for.
bool daemon_leave(struct daemon *daemon);
// After the loop has stopped: 0, or why the worker cannot go on.
int daemon_outcome(const struct daemon *daemon, struct error *err);

#endif
