#include "broker/core/lapse.h"

#include "broker/core/job.h"

static void list_remove(struct job *job)
{
    struct sched *sched = job->sched;

    if (job->lapse_prev != NULL) {
        job->lapse_prev->lapse_next = job->lapse_next;
    } else {
        sched->lapse[job->lapse].head = job->lapse_next;
    }
    if (job->lapse_next != NULL) {
        job->lapse_next->lapse_prev = job->lapse_prev;
    } else {
        sched->lapse[job->lapse].tail = job->lapse_prev;
    }
    job->lapse_prev = job->lapse_next = NULL;
    job->lapse = LAPSE_NONE;
}

// All of one kind have the same time to go, so the place is mostly at the end.
static void list_add(struct job *job, enum lapse_kind kind, uint64_t due_us)
{
    struct sched *sched = job->sched;
    struct job *after = sched->lapse[kind].tail;

    while (after != NULL && after->lapse_us > due_us) {
        after = after->lapse_prev;
    }
    job->lapse = kind;
    job->lapse_us = due_us;
    job->lapse_prev = after;
    job->lapse_next = after != NULL ? after->lapse_next : sched->lapse[kind].head;
    if (job->lapse_next != NULL) {
        job->lapse_next->lapse_prev = job;
    } else {
        sched->lapse[kind].tail = job;
    }
    if (after != NULL) {
        after->lapse_next = job;
    } else {
        sched->lapse[kind].head = job;
    }
}

static enum lapse_kind kind_of(const struct job *job)
{
    if (job->forgotten || job->hidden || job->client != NULL || job->kept > 0) {
        return LAPSE_NONE;
    }
    if (!job->detached) {
        return LAPSE_ORPHAN;
    }
    // One that more was to come to, of which nobody knows what, and that has done all it has.
    return (job->state > JOB_RUNNING || (job->grows && job->open == 0)) && job->sched->options.ttl_us > 0
               ? LAPSE_RESULT
               : LAPSE_NONE;
}

void lapse_follow(struct job *job)
{
    const struct sched_options *options = &job->sched->options;
    enum lapse_kind kind = kind_of(job);

    if (kind == job->lapse) {
        return;
    }
    lapse_stop(job);
    if (kind != LAPSE_NONE) {
        list_add(job, kind,
                 job->sched->now_us + (kind == LAPSE_ORPHAN ? options->orphan_us : options->ttl_us));
    }
}

void lapse_restored(struct job *job)
{
    const struct sched_options *options = &job->sched->options;
    enum lapse_kind kind;
    uint64_t due_us = job->sched->now_us + options->recover_us;

    lapse_follow(job);
    kind = job->lapse;
    if (kind != LAPSE_NONE && job->lapse_us < due_us) {
        list_remove(job);
        list_add(job, kind, due_us);
    }
}

void lapse_stop(struct job *job)
{
    if (job->lapse != LAPSE_NONE) {
        list_remove(job);
    }
}

void lapses_fire(struct sched *sched)
{
    for (int kind = LAPSE_NONE + 1; kind < LAPSE_KINDS; kind++) {
        struct job *job;

        while ((job = sched->lapse[kind].head) != NULL && job->lapse_us <= sched->now_us) {
            job_forget(job);
        }
    }
}
