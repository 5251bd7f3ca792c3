// Layers come to a job: with its submit, or while it runs.  What can fail is done first and shows
// nowhere; then they are there.  The cost is that of what is added.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_GROWTH_H
#define DRAY_BROKER_CORE_GROWTH_H

#include "broker/core/state.h"

// Local edges of one addition: what it costs in time is proportional to them.
#define EDGES_MAX (UINT64_C(1) << 28)

struct growth {
    struct job *job;
    uint32_t first, count; // of its layers
    struct layer *layer;
    struct slab *slab; // NULL: small, in the job's arena
    struct arena *arena;
    size_t arena_before; // bytes of the job's
    uint64_t bytes, tasks;
    bool any_wanted;
};

// Large arrays.
struct slab {
    struct slab *next;
    _Alignas(16) unsigned char data[];
};

static inline void growth_charge(struct job *job, uint64_t bytes)
{
    job->bytes += bytes;
    if (job->number != 0) {
        job->sched->bytes += bytes;
    }
}
// The layer is one of those that come.
static inline bool growth_adds(const struct growth *growth, const struct layer *layer)
{
    return layer >= growth->layer && layer < growth->layer + growth->count;
}

// Checks what only the scheduler can (inputs from other jobs, limits), lays out all arrays.  The
// graph has been checked by graph_check or graph_check_more.  It is copied; or it lives in `arena`
// (which may be NULL), whose memory goes over to the job if and when it is committed.
// -ENOMEM, or a sentence that names the layer.
int growth_prepare(struct growth *growth, struct job *job, const Dray__Graph *graph, struct arena *arena,
                   struct error *err);
// Room for the layers of a job that begins without any.
int growth_open(struct job *job, struct error *err);
void growth_undo(struct growth *growth);
// The job must be in the scheduler's indexes.  Cannot fail.
void growth_commit(struct growth *growth);

// No more layers come.
void growth_close(struct job *job);

// Takes back what a job's tasks mean for other jobs, before they go.
void growth_detach(struct job *job);

void slabs_destroy(struct job *job);

#endif
