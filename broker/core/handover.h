// Workers that leave: what they hold goes to others that have room for it.  Private to broker/core.
//
// A partition of a worker that leaves is copied by another worker, which says that it has it (or declines),
// and then owns it; the one that leaves is told to release it.  What is on its way is in shipments, ranges
// from one worker to another; such partitions are held and marked (TASK_RECALL).
#ifndef DRAY_BROKER_CORE_HANDOVER_H
#define DRAY_BROKER_CORE_HANDOVER_H

#include "broker/core/state.h"

struct shipment {
    uint32_t from, to; // peers
    struct task_range range;
    uint32_t left; // partitions that are not there yet
    uint64_t bytes;
    size_t next, previous; // of those to the same worker: place + 1, 0: none
};

// Sends what may be sent: at the end of a step.
void handover_run(struct sched *sched);
// This worker holds a partition that another one may have been handing over.  True: it owns it now.
bool handover_arrived(struct worker *to, struct layer *layer, uint32_t i);
// ... or will not.
void handover_declined(struct worker *to, struct layer *layer, uint32_t i);
void handover_fini(struct sched *sched);

// A held partition leaves its owner's books.
void partition_leave(struct layer *layer, uint32_t i);

#endif
