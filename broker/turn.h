// What one turn of the loop has gathered for the scheduler, and the memory that lives as long.
#ifndef DRAY_BROKER_TURN_H
#define DRAY_BROKER_TURN_H

#include <stddef.h>

#include "broker/core/sched.h"
#include "broker/parcel.h"
#include "proto/arena.h"
#include "proto/wire.pb-c.h"

// To ATTACH, when the scheduler has heard of it.
struct answer {
    struct answer *next;
    uint32_t client, job;
    Dray__Attached *attached;
};

// A job that this turn's EXTENDs gave layers to.
struct extended {
    struct extended *next;
    uint32_t client, job;
};

// To KEEP, UNKEEP and CANCEL, when it is safe.
struct reply {
    struct reply *next;
    uint32_t client, tag;
    uint32_t job;     // that is kept, or was; 0: CANCEL
    const char *name; // under which the job is kept from now on, or NULL
    uint64_t serial;  // of that; 0: it was kept by another KEEP, which may be refused yet
};

// REJECTED to a SUBMIT, when the journal has forgotten it.
struct refusal {
    struct refusal *next;
    uint32_t client;
    uint64_t key_hi, key_lo;
    int code;
    const char *text;
};

// What the scheduler may take over as a whole.
struct turn_arena {
    struct turn_arena *next;
    struct arena arena;
};

struct turn {
    struct arena arena; // what events point to
    struct turn_arena *arenas;
    struct sched_event *event;
    size_t events, capacity;
    struct parcels parcels; // encoded partitions that came with DONE
    struct answer *answers, **last_answer;
    struct extended *extended; // the latest first, each job once
    struct reply *replies;
    struct reply *cancels; // to CANCEL, when what comes of this turn is safe
    struct refusal *refusals;
    uint64_t now_us; // of its events; 0: not asked for yet
};

void turn_init(struct turn *turn);
void turn_fini(struct turn *turn);
void turn_reset(struct turn *turn);
// An arena that lives until the turn is over, whoever has taken what was in it.  NULL: no memory.
struct arena *turn_arena(struct turn *turn);
// Memory that it holds, for a limit.
size_t turn_bytes(const struct turn *turn);
// What it takes more than it did then: only what the last message brought is looked at.
struct turn_mark {
    size_t arena, parcels, events;
    const struct turn_arena *arenas;
};
struct turn_mark turn_mark(const struct turn *turn);
size_t turn_bytes_since(const struct turn *turn, const struct turn_mark *mark);
// A zeroed event with its type and time (of the turn's first).  NULL: no memory.
struct sched_event *turn_add(struct turn *turn, enum sched_event_type type);
// Both live in the turn's arena.  -ENOMEM.
int turn_answer(struct turn *turn, uint32_t client, uint32_t job, Dray__Attached *attached);
// The name is copied.  -ENOMEM.
int turn_reply(struct turn *turn, uint32_t client, uint32_t tag, const char *name, uint32_t job,
               uint64_t serial);
int turn_cancel(struct turn *turn, uint32_t client, uint32_t tag);
// The text is copied.  -ENOMEM.
int turn_refuse(struct turn *turn, const struct sched_action *action);
// -ENOMEM.
int turn_extended(struct turn *turn, uint32_t client, uint32_t job);

#endif
