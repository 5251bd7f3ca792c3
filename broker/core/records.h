// What a journal is told, with options.records: ACTION_RECORD.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_RECORDS_H
#define DRAY_BROKER_CORE_RECORDS_H

#include "broker/core/state.h"

// A task of a goal layer is not needed any more, whether it was done or not.  That a job was ended or given up says
// it of all of its tasks: were they said to be over before, it might come back as one that is done without them.
static inline void record_over(struct layer *layer, uint32_t i)
{
    const struct job *job = layer->job;

    if (layer->goal && layer->over.word != NULL && !job->sched->restoring && job->state <= JOB_DONE &&
        !job->hidden) {
        bits_set(&layer->over, i);
        layer_mark_dirty(layer);
    }
}
// It failed for good, not for an input's sake.  `text` lives as long as the job.  Lost without memory: then it
// is tried again after a restart.
void record_failed(const struct layer *layer, uint32_t i, int code, const char *text, const char *worker);
void records_flush_failed(struct sched *sched);
// A submit with this number was refused.  Room was reserved.
void record_refused(struct sched *sched, uint32_t number);
// Both may be lost without memory: then the layers are there after a restart, and the worker is waited for.
void record_not_extended(struct job *job, uint64_t id); // 0: nothing is to be said
void record_worker_gone(struct sched *sched, uint64_t incarnation);

// False: no memory, what is left is said with the next step.
bool records_flush_layer(struct layer *layer);
bool records_flush_job(struct job *job);

#endif
