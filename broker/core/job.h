// Jobs: made from a graph, ended, forgotten.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_JOB_H
#define DRAY_BROKER_CORE_JOB_H

#include "broker/core/state.h"

// Local edges of one graph: what a submit costs in time is proportional to them.
#define EDGES_MAX (UINT64_C(1) << 28)

// Copies the graph, lays out all arrays, sets the first states.  Touches nothing of the
// scheduler.  -ENOMEM, or -E2BIG with a sentence.
int job_create(struct sched *sched, const Dray__Graph *graph, struct job **out, struct error *err);
void job_destroy(struct job *job);
// Puts a created job into the scheduler's indexes; cannot fail.
void job_commit(struct job *job);

struct job *job_find(const struct sched *sched, uint32_t number);
struct job *job_find_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo);
void job_attach(struct job *job, struct client *client);
void job_detach(struct job *job);

// Ends a job that has not ended: gives up all its tasks, workers forget it.  Texts are copied
// (cut to nothing when there is no memory).
void job_end(struct job *job, enum job_state state, int code, const char *text, uint32_t layer,
             uint32_t index, const char *worker_name);
// It fails with this event, once the event has been dealt with: until then its layers stay.  What
// was said first counts.
void job_doom(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
              const char *worker_name);
void jobs_end_doomed(struct sched *sched);
// Takes it out of all indexes; its last actions go out with this step's.
void job_forget(struct job *job);

// Faults of a task; NULL when there is no memory for a new entry.
struct blame *job_blame(struct job *job, uint32_t layer, uint32_t index);
void job_forgive(struct job *job, uint32_t layer, uint32_t index); // forgets them

// "scan sales.csv[3]" or "task 4[3]".
void task_describe(const struct layer *layer, uint32_t index, char *out, size_t size);

#endif
