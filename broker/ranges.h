// Tasks as messages name them (first[i], count[i]) into tasks as events name them.
#ifndef DRAY_BROKER_RANGES_H
#define DRAY_BROKER_RANGES_H

#include "broker/core/sched.h"
#include "proto/arena.h"
#include "proto/error.h"
#include "proto/wire.pb-c.h"

struct ranges {
    struct task_range *range; // in an arena
    size_t count;
    uint64_t tasks;
};

// Room for so many ranges.
int ranges_init(struct ranges *ranges, size_t room, struct arena *arena, struct error *err);
// Appends n ranges of a layer, which a frame's check has seen (proto/frame_check.h).
void ranges_append(struct ranges *ranges, uint32_t job, uint32_t layer, size_t n, const uint32_t *first,
                   const uint32_t *count);
// All of some runs; -EBADMSG when a task is named twice.
int ranges_from_runs(struct ranges *ranges, Dray__Run *const *run, size_t runs, struct arena *arena,
                     struct error *err);
// A few bytes can name the same million tasks again and again: nobody needs to.  May sort.  -EBADMSG.
int ranges_refuse_repeats(struct ranges *ranges, struct error *err);

#endif
