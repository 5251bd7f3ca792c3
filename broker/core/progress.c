#include "broker/core/progress.h"

#include "broker/core/outbox.h"
#include "broker/core/why.h"

enum { LOOKED_AT = 512 }; // jobs, with one tick

void progress_follow(struct job *job)
{
    struct sched *sched = job->sched;

    if (job->is_followed || job->client == NULL) {
        return;
    }
    job->is_followed = true;
    job->followed_prev = sched->followed_tail;
    job->followed_next = NULL;
    *(sched->followed_tail != NULL ? &sched->followed_tail->followed_next : &sched->followed) = job;
    sched->followed_tail = job;
}

void progress_stop(struct job *job)
{
    struct sched *sched = job->sched;

    if (!job->is_followed) {
        return;
    }
    job->is_followed = false;
    *(job->followed_prev != NULL ? &job->followed_prev->followed_next : &sched->followed) = job->followed_next;
    *(job->followed_next != NULL ? &job->followed_next->followed_prev : &sched->followed_tail) =
        job->followed_prev;
}

void progress_tell(struct sched *sched)
{
    struct job *job;

    for (int n = 0; n < LOOKED_AT && (job = sched->followed) != NULL; n++) {
        if (job->client == NULL || job_is_over(job)) {
            progress_stop(job);
            continue;
        }
        if (sched->now_us - job->progress_at < sched->options.progress_us) {
            return; // nor those behind it
        }
        outbox_progress(sched, job);
        progress_stop(job);
        progress_follow(job);
    }
}
