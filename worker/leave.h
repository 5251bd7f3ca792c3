// When a worker that is to leave may go: nothing runs, others hold what it held, and who was fetching from it
// had a moment to finish.
#ifndef DRAY_WORKER_LEAVE_H
#define DRAY_WORKER_LEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/core/agent.h"

// Partitions that the broker has released stay for so long: others may be fetching them.
#define LEAVE_LINGER_US 300000U

enum leave_verdict {
    LEAVE_STAY,
    LEAVE_GO,   // nothing is left
    LEAVE_LATE, // something is, and its time is over
};

struct leave_drop {
    uint64_t due_us;
    struct agent_range range;
};

struct leave {
    bool under_way; // all zeros: it is not
    uint64_t grace_us, deadline_us;
    uint64_t own, served; // partitions that were left, and pieces that were fetched, at the last look
    struct leave_drop *drop;
    size_t first, count, capacity;
};

void leave_begin(struct leave *leave, uint64_t now_us, uint64_t grace_us);
void leave_fini(struct leave *leave);
// So many tasks run, so many partitions are here alone, so many pieces of them were fetched in all.  While some are
// fetched and handed over, the grace begins anew.
enum leave_verdict leave_look(struct leave *leave, uint64_t now_us, uint32_t running, uint64_t own,
                              uint64_t served);
// The range is to be dropped in a while.  False: at once (it does not leave, or there is no memory).
bool leave_later(struct leave *leave, uint64_t now_us, const struct agent_range *range);
// The next range whose time has come; false: none.
bool leave_due(struct leave *leave, uint64_t now_us, struct agent_range *out);

// The next of a layer, when nobody can be fetching any more; false: none.
bool leave_take(struct leave *leave, uint32_t job, uint32_t layer, struct agent_range *out);

// What goes with a worker, in words: gathered range by range.
struct leave_loss {
    uint64_t partitions, bytes;
    uint32_t job[4], jobs; // those that are named, ascending
    bool more;             // there are others
};
void leave_count(struct leave_loss *loss, const struct agent_range *range, uint64_t bytes);
// "12 partitions (3.4 MB) of jobs 1, 4".
void leave_describe(const struct leave_loss *loss, char *out, size_t size);

#endif
