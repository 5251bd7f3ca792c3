// What a broker that is made anew after its death knows: what it had accepted, what the scheduler said is worth
// remembering, which workers were there.  A death may cut it anywhere behind what was durable.
#ifndef DRAY_TESTS_SIM_LEDGER_H
#define DRAY_TESTS_SIM_LEDGER_H

#include "broker/core/sched.h"
#include "tests/sim/plan.h"

enum entry_type { ENTRY_SUBMIT, ENTRY_EXTEND, ENTRY_KEEP, ENTRY_NOTE, ENTRY_WORKER, ENTRY_RECORD };

struct entry {
    enum entry_type type;
    struct plan *plan; // SUBMIT, EXTEND
    uint32_t plan_number;
    uint32_t job;
    uint32_t first, count; // layers
    bool open, last;
    bool keep;
    bool there; // WORKER: it joined, or has left
    uint64_t incarnation;
    const char *name;
    struct sched_action record; // its texts are the entry's
};

struct ledger {
    struct entry *entry;
    size_t count, capacity;
    size_t durable;
    uint32_t numbers; // of jobs, given so far
};

// Each is not durable yet.  What the entry's record points to is copied.
void ledger_add(struct ledger *ledger, const struct entry *entry);
// A number for a job that no other one has.
uint32_t ledger_number(struct ledger *ledger);
// Only the first ones are left; numbers that were given behind are free again: nobody has heard of them.
void ledger_cut(struct ledger *ledger, size_t count);
// Takes one out; valid until the next one is added.
struct entry *ledger_remove(struct ledger *ledger, size_t at);
// Leaves out what is about jobs that were forgotten, and workers that have left.
void ledger_compact(struct ledger *ledger);
// The events for a new scheduler; the caller frees them, and graphs of SUBMIT and EXTEND.
struct sched_event *ledger_events(const struct ledger *ledger, size_t *count);
void ledger_fini(struct ledger *ledger);

#endif
