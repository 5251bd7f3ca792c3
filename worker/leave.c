#include "worker/leave.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS_NAMED = 4 };
_Static_assert(sizeof(((struct leave_loss *)NULL)->job) == JOBS_NAMED * sizeof(uint32_t), "as many as named");

void leave_begin(struct leave *leave, uint64_t now_us, uint64_t grace_us)
{
    if (!leave->under_way) {
        leave->under_way = true;
        leave->grace_us = grace_us;
        leave->deadline_us = now_us + grace_us;
        leave->own = UINT64_MAX;
    }
}

void leave_fini(struct leave *leave)
{
    free(leave->drop);
    memset(leave, 0, sizeof(*leave));
}

enum leave_verdict leave_look(struct leave *leave, uint64_t now_us, uint32_t running, uint64_t own,
                              uint64_t served)
{
    bool moves = own < leave->own || (own > 0 && served > leave->served);

    if (moves && leave->own != UINT64_MAX) {
        leave->deadline_us = now_us + leave->grace_us;
    }
    leave->own = own;
    leave->served = served;
    if (running == 0 && own == 0 && leave->count == 0) {
        return LEAVE_GO;
    }
    return now_us > leave->deadline_us ? LEAVE_LATE : LEAVE_STAY;
}

bool leave_later(struct leave *leave, uint64_t now_us, const struct agent_range *range)
{
    if (!leave->under_way) {
        return false;
    }
    if (leave->first + leave->count == leave->capacity && leave->first > 0) {
        memmove(leave->drop, leave->drop + leave->first, leave->count * sizeof(*leave->drop));
        leave->first = 0;
    }
    if (leave->count == leave->capacity) {
        size_t capacity = leave->capacity > 0 ? leave->capacity * 2 : 64;
        struct leave_drop *grown = realloc(leave->drop, capacity * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        leave->drop = grown;
        leave->capacity = capacity;
    }
    leave->drop[leave->first + leave->count++] = (struct leave_drop){now_us + LEAVE_LINGER_US, *range};
    return true;
}

bool leave_due(struct leave *leave, uint64_t now_us, struct agent_range *out)
{
    if (leave->count == 0 || leave->drop[leave->first].due_us > now_us) {
        return false;
    }
    *out = leave->drop[leave->first++].range;
    leave->count--;
    return true;
}

bool leave_take(struct leave *leave, uint32_t job, uint32_t layer, struct agent_range *out)
{
    for (size_t k = leave->first; k < leave->first + leave->count; k++) {
        struct leave_drop *drop = &leave->drop[k];

        if (drop->range.job == job && drop->range.layer == layer) {
            *out = drop->range;
            memmove(drop, drop + 1, (leave->first + leave->count - k - 1) * sizeof(*drop));
            leave->count--;
            return true;
        }
    }
    return false;
}

// ---- words ------------------------------------------------------------------------

void leave_count(struct leave_loss *loss, const struct agent_range *range, uint64_t bytes)
{
    uint32_t at = 0;

    loss->partitions += range->count;
    loss->bytes += bytes;
    while (at < loss->jobs && loss->job[at] < range->job) {
        at++;
    }
    if (at < loss->jobs && loss->job[at] == range->job) {
        return;
    }
    if (loss->jobs == JOBS_NAMED) {
        loss->more = true;
        return;
    }
    memmove(&loss->job[at + 1], &loss->job[at], (loss->jobs - at) * sizeof(loss->job[0]));
    loss->job[at] = range->job;
    loss->jobs++;
}

void leave_describe(const struct leave_loss *loss, char *out, size_t size)
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    double bytes = (double)loss->bytes;
    unsigned unit = 0;
    int n;

    for (; bytes >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++) {
        bytes /= 1000;
    }
    n = snprintf(out, size, "%" PRIu64 " partition%s (%.3g %s) of job%s", loss->partitions,
                 loss->partitions == 1 ? "" : "s", bytes, units[unit], loss->jobs == 1 ? "" : "s");
    for (uint32_t i = 0; i < loss->jobs && n > 0 && (size_t)n < size; i++) {
        n += snprintf(out + n, size - (size_t)n, "%s%" PRIu32, i == 0 ? " " : ", ", loss->job[i]);
    }
    if (loss->more && n > 0 && (size_t)n < size) {
        snprintf(out + n, size - (size_t)n, " and others");
    }
}
