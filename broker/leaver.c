#include "broker/leaver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void leavers_fini(struct leavers *leavers)
{
    free(leavers->incarnation);
    *leavers = (struct leavers){0};
}

// leavers->count: it is not among them.
static size_t place_of(const struct leavers *leavers, uint64_t incarnation)
{
    size_t at = 0;

    while (at < leavers->count && leavers->incarnation[at] != incarnation) {
        at++;
    }
    return at;
}

static void take_out(struct leavers *leavers, size_t at)
{
    leavers->count--;
    memmove(leavers->incarnation + at, leavers->incarnation + at + 1,
            (leavers->count - at) * sizeof(*leavers->incarnation));
}

int leavers_add(struct leavers *leavers, uint64_t incarnation)
{
    if (leavers_has(leavers, incarnation)) {
        return 0;
    }
    if (leavers->count == LEAVERS_MAX) {
        take_out(leavers, 0);
    }
    if (leavers->count == leavers->room) {
        size_t room = leavers->room == 0 ? 16 : 2 * leavers->room;
        uint64_t *grown = realloc(leavers->incarnation, room * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        leavers->incarnation = grown;
        leavers->room = room;
    }
    leavers->incarnation[leavers->count++] = incarnation;
    return 0;
}

bool leavers_has(const struct leavers *leavers, uint64_t incarnation)
{
    return place_of(leavers, incarnation) < leavers->count;
}

void leavers_remove(struct leavers *leavers, uint64_t incarnation)
{
    size_t at = place_of(leavers, incarnation);

    if (at < leavers->count) {
        take_out(leavers, at);
    }
}
