// Jobs: made from a graph, ended, forgotten.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_JOB_H
#define DRAY_BROKER_CORE_JOB_H

#include "broker/core/state.h"

// A job without layers (growth.h brings them), not yet in the scheduler; NULL: no memory.
struct job *job_create(struct sched *sched);
void job_destroy(struct job *job);
// Puts a created job into the scheduler's indexes, with this number (0: the next); cannot fail.
void job_commit(struct job *job, uint32_t number);

struct job *job_find(const struct sched *sched, uint32_t number);
struct job *job_find_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo);
void job_attach(struct job *job, struct client *client);
void job_detach(struct job *job);

// Done before a restart, and nobody has it: nothing is placed for it until somebody asks.
void job_rest(struct job *job);
void job_rouse(struct job *job);
// The hold of recovery.h is over: what an ended job has not got back for others fails.
void job_stop_late(struct job *job);

// Ends a job that has not ended: gives up all its tasks, workers forget it.  Texts are copied
// (cut to nothing when there is no memory).
void job_end(struct job *job, enum job_state state, int code, const char *text, uint32_t layer,
             uint32_t index, const char *worker_name);
// It fails with this event, once the event has been dealt with: until then its layers stay.  What
// was said first counts.
// The same, once all is done that can be done without the task.
void job_doom_late(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
                   const char *worker_name);
// Those jobs that are so far fail.  True: some did.
bool jobs_fail_late(struct sched *sched);
void job_doom(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
              const char *worker_name);
// It may have lost the last job that needed it: looked at before the event is over.
void job_revisit(struct job *job);
void jobs_revisit(struct sched *sched);
// All is restored: what was submitted with the key of a job that is there was said twice.
void jobs_forget_repeats(struct sched *sched);
// Given up: out of all indexes, its last actions go out with this step's.  While other jobs need
// partitions of it, it is hidden instead: there for them and for workers, not for clients.
void job_forget(struct job *job);

// What is apart of a task; NULL when there is no memory for a new entry, or (find) there is none.
struct blame *job_blame(struct job *job, uint32_t layer, uint32_t index);
struct blame *job_blame_find(const struct job *job, uint32_t layer, uint32_t index);
void job_forgive(struct job *job, uint32_t layer, uint32_t index); // forgets them

// "scan sales.csv[3]" or "task 4[3]".
void task_describe(const struct layer *layer, uint32_t index, char *out, size_t size);

#endif
