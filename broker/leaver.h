// Workers that were asked to leave and have not said that they do, by incarnation: what they were told may be
// lost with a connection, and is said again in their next session.
#ifndef DRAY_BROKER_LEAVER_H
#define DRAY_BROKER_LEAVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEAVERS_MAX = 10000 }; // as many as there can be peers

struct leavers {
    uint64_t *incarnation; // in the order in which they were asked
    size_t count, room;
};

// All zeros is empty and ready.
void leavers_fini(struct leavers *leavers);
// Of more than LEAVERS_MAX those are forgotten that were asked first: processes that never came back.
// -ENOMEM.
int leavers_add(struct leavers *leavers, uint64_t incarnation);
bool leavers_has(const struct leavers *leavers, uint64_t incarnation);
void leavers_remove(struct leavers *leavers, uint64_t incarnation);

#endif
