#include "broker/core/rest.h"

#include <inttypes.h>
#include <stdio.h>

#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/steal.h"
#include "broker/core/worker.h"

enum {
    REST_US = 5000000,
    LOSSES_MAX = 10, // of one task: it may be what fills the disks
};

bool rest_begin(struct worker *worker, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    struct blame *blame = job_blame(layer->job, layer->number, i);

    if (blame == NULL || ++blame->losses > LOSSES_MAX) {
        return false;
    }
    task_requeue(layer, i);
    if (worker->rests_until_us == 0) {
        sched->resting++;
    }
    worker->rests_until_us = sched->now_us + REST_US;
    worker_reload(sched, worker);
    steal_back(sched, worker);
    return true;
}

void rests_fire(struct sched *sched)
{
    for (uint32_t s = 0; sched->resting > 0 && s < sched->worker_slots; s++) {
        struct worker *worker = sched->worker[s];

        if (worker != NULL && worker->rests_until_us != 0 && worker->rests_until_us <= sched->now_us) {
            worker->rests_until_us = 0;
            sched->resting--;
            worker_reload(sched, worker);
        }
    }
}

void rest_why(const struct sched *sched, char *out, size_t size)
{
    out[0] = '\0';
    for (uint32_t s = 0; sched->resting > 0 && s < sched->worker_slots; s++) {
        const struct worker *worker = sched->worker[s];

        if (worker != NULL && worker->rests_until_us > sched->now_us) {
            snprintf(out, size, "the disk of worker %.60s%s is full: it is tried again in %" PRIu64 " s",
                     worker->name, sched->resting > 1 ? " (and of others)" : "",
                     (worker->rests_until_us - sched->now_us + 999999) / 1000000);
            return;
        }
    }
}
