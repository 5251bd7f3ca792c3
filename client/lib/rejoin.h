// A connection to the broker that was lost, and how it is got back: a new session of the same process, for so
// long; then its jobs are taken up where they were (results.h).
#ifndef DRAY_CLIENT_LIB_REJOIN_H
#define DRAY_CLIENT_LIB_REJOIN_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lib/client.h"

struct rejoin {
    uint64_t patience_us; // 0: what is lost stays lost
    uint64_t broker;      // which one it was
    bool away;
    bool lost;           // told so, and not yet that it is back
    bool anew;           // it came back as another one
    uint64_t lost_us;    // since when
    uint64_t first_us;   // ... when it was lost again before it was back: since the first time
    uint64_t attempt_us; // the last HELLO
    unsigned attempts;
    struct error why;
    client_lost_function *told;
    void *told_arg;
};

// given: dray_options.reconnect_ms.  -EINVAL: DRAY_RECONNECT is no number of seconds.
int rejoin_init(struct rejoin *rejoin, int given, struct error *err);
// The session's file descriptors join the connection's.
int rejoin_watch(dray_t *dray, struct error *err);
// While the first WELCOME is waited for: says HELLO again if the connection ended.  When to call it again at
// the latest (monotonic_us).
uint64_t rejoin_greet(dray_t *dray);
// To be called with what came of receiving (0 or an error of it).  0: the session stands, or another one is
// looked for; negative: it is over for good.
int rejoin_step(dray_t *dray, int rc, struct error *err);
// Nothing can be received before rejoin_step says so.
bool rejoin_deaf(const dray_t *dray);
// The session stands, and the broker knows all jobs again.
bool rejoin_stands(const dray_t *dray);

#endif
