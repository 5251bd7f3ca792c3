// What ends an executable's loop: SIGINT, SIGTERM, or the closing of its lifeline.
#ifndef DRAY_PROTO_STOPPER_H
#define DRAY_PROTO_STOPPER_H

#include <stdbool.h>

#include "proto/error.h"
#include "proto/log.h"
#include "proto/socket.h"

struct stopper {
    struct loop *loop;
    const struct log *log;
    int signals;
    bool cut; // the lifeline was: everybody else ends as well
    // May be set: asked first.  True: the loop is stopped from there, in a while; another signal stops it at
    // once.
    bool (*leave)(void *arg);
    void *arg;
    bool leaving;
};

// Once in a process, before it has other threads: blocks the two signals in all threads to come, so that they
// arrive at the loop, and ignores SIGPIPE.  lifeline: a file descriptor, -1 for none.  stopper_fini is due
// also after a failure.
int stopper_init(struct stopper *stopper, const struct log *log, int lifeline, struct error *err);
// Destroys the loop as well.
void stopper_fini(struct stopper *stopper);

#endif
