// What one turn of the loop has gathered for the scheduler, and the memory that lives as long.
#ifndef DRAY_BROKER_TURN_H
#define DRAY_BROKER_TURN_H

#include <stddef.h>

#include "broker/core/sched.h"
#include "proto/arena.h"
#include "proto/buffer.h"
#include "proto/map.h"

struct turn {
    struct arena arena; // what events point to
    struct sched_event *event;
    size_t events, capacity;
    struct map payload; // encoded partitions that came with DONE: struct buffer
    size_t payload_bytes;
};

void turn_init(struct turn *turn);
void turn_fini(struct turn *turn);
void turn_reset(struct turn *turn);
// Memory that it holds, for a limit.
size_t turn_bytes(const struct turn *turn);
// A zeroed event with its type and time.  NULL: no memory.
struct sched_event *turn_add(struct turn *turn, enum sched_event_type type);
// Keeps a payload until the turn ends; takes over the reference, also on failure.  -ENOMEM.
int turn_keep(struct turn *turn, uint32_t job, uint32_t layer, uint32_t index, struct buffer *payload);
struct buffer *turn_payload(const struct turn *turn, uint32_t job, uint32_t layer, uint32_t index);

#endif
