// What the broker was asked for and has not answered.  There is a place for each, so one that is never
// answered gives its place up after a while, whatever becomes of the others.
#ifndef DRAY_WORKER_CORE_ERRANDS_H
#define DRAY_WORKER_CORE_ERRANDS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ERRANDS_MAX = 4,
    // The broker answers whatever becomes of the other side, however long its queue is.
    ERRAND_US = 300000000,
};

struct errand {
    uint32_t tag;
    void *whose; // NULL: nobody waits for it any more
    uint64_t since_us;
};

// All zero: none.
struct errands {
    struct errand errand[ERRANDS_MAX];
    unsigned count;
};

bool errands_full(const struct errands *errands);
void errands_add(struct errands *errands, uint32_t tag, void *whose, uint64_t now_us); // not when full
// The answer to one of them has come.  False: it is none of them.
bool errands_take(struct errands *errands, uint32_t tag, struct errand *out);
// One that has waited for too long, which is none of them then.  False: there is none.
bool errands_take_late(struct errands *errands, uint64_t now_us, struct errand *out);
// They keep their places.
void errands_disown(struct errands *errands, const void *whose);
// There are no answers to wait for.
void errands_clear(struct errands *errands);

#endif
