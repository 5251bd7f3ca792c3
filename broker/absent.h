// Workers that a broker knew before it was started anew: what the journal keeps of each, and whether those of
// this host are still alive.
#ifndef DRAY_BROKER_ABSENT_H
#define DRAY_BROKER_ABSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/peer.h"
#include "proto/vital.h"

// Name, host and process: "NAME\nHOST\nPID BIRTH".  Of a worker elsewhere, and in journals of old, only the
// name: nothing is known of its process.
enum { ABSENT_BODY_MAX = PEER_NAME_MAX + VITAL_HOST_MAX + 64 };

struct absent {
    uint64_t incarnation;
    int process; // for vital_ended
};

// All zeros: none.
struct absents {
    struct absent *absent;
    size_t count;
    uint64_t until_us; // nobody waits for them any longer
};

// Of a worker on this host, as the journal keeps it; how many bytes of `out` are used.
size_t absent_describe(const char *name, uint32_t pid, uint64_t birth, char out[ABSENT_BODY_MAX]);
size_t absent_name(const char *body, size_t size); // how many bytes of it are the name
// 1: its process has ended.  0: it is alive, and watched from now on, or nothing is known.
int absents_add(struct absents *absents, uint64_t incarnation, const char *body, size_t size);
// The next one that has ended since; false: none.
bool absents_ended(struct absents *absents, uint64_t now_us, uint64_t *incarnation);
void absents_fini(struct absents *absents);

#endif
