// Whose turn it is.  Jobs of a higher priority come first.  Those of one priority belong to shares, one a
// client and one for the jobs of nobody: within a share the oldest job comes first, and of the shares that
// which has had least work.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_SHARE_H
#define DRAY_BROKER_CORE_SHARE_H

#include "broker/core/state.h"

// Puts a new job into the share of nobody at its priority, and takes one out.  False: no memory.
bool job_enlist(struct job *job);
void job_delist(struct job *job);
// Its client has changed.  Without memory for a share of the client's own it goes to that of nobody.
void job_reshare(struct job *job);

// It has something to hand out, or not any more.
void job_run_insert(struct job *job);
void job_run_remove(struct job *job);

// Work of the job was given to a worker, or taken back: in CHARGE_NS.
static inline void job_charge(struct job *job, uint64_t charge)
{
    job->backlog += charge;
    job->share->backlog += charge;
}
static inline void job_discharge(struct job *job, uint64_t charge)
{
    job->backlog -= charge;
    job->share->backlog -= charge;
}
// It was done, and took so long.
static inline void job_spend(struct job *job, uint64_t time)
{
    job->share->served += time;
}
static inline uint64_t share_used(const struct share *share)
{
    return share->served + share->backlog;
}

// The first has its tasks assigned before the second.
bool job_outranks(const struct job *a, const struct job *b);

// The share of a level whose turn it is, and how much it may have had when that is over (UINT64_MAX: as
// much as there is).  NULL: none is left that was not passed over in this placement.
struct share *level_turn(struct level *level, uint64_t run, uint64_t quantum, uint64_t *limit);

#endif
