// Those who send what is no message of a session: each is worth one log line, and no memory
// that grows.
#ifndef DRAY_BROKER_STRANGER_H
#define DRAY_BROKER_STRANGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STRANGERS_REMEMBERED = 512, STRANGERS_LINES = 20 };

struct strangers {
    uint64_t hash[STRANGERS_REMEMBERED]; // of routing ids, the oldest is forgotten
    size_t next;
    uint64_t window_us; // lines are counted in windows of 10 s
    unsigned lines;
    uint64_t unsaid; // lines that were not written in this window
};

// True: say it.  *unsaid gets the number of lines kept back since the last one.
bool strangers_tell(struct strangers *strangers, const void *route, size_t size, uint64_t now_us,
                    uint64_t *unsaid);

#endif
