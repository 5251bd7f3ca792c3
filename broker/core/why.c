#include "broker/core/why.h"

#include <inttypes.h>
#include <stdio.h>

#include "broker/core/demand.h"
#include "broker/core/job.h"
#include "broker/core/moment.h"
#include "broker/core/recovery.h"
#include "broker/core/rest.h"
#include "broker/core/suspect.h"
#include "broker/core/worker.h"

enum { DELAYS_LOOKED_AT = 1000 };

// Of the first lane that has tasks to hand out and a reason that none of them is.
static bool say_demand(const struct sched *sched, const struct job *job, char *out, size_t size)
{
    for (const struct lane *lane = &job->lane; lane != NULL; lane = lane->next) {
        const struct rank_node *node = lane->demand != NULL ? rank_from(&lane->runnable, 0) : NULL;
        const struct layer *layer = node != NULL ? hash_entry(node, struct layer, rank) : NULL;
        const char *name = layer != NULL ? layer->graph->name : NULL;
        int used = 0;

        if (layer == NULL) {
            continue;
        }
        if (job->layers > 1 && name != NULL && name[0] != '\0') {
            used = snprintf(out, size, "%.60s: ", name);
        }
        demand_why(sched, lane->demand, out + used, size - (size_t)used);
        if (out[used] != '\0') {
            return true;
        }
    }
    out[0] = '\0';
    return false;
}

static bool has_in(const struct job *job, enum task_state state)
{
    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        if (job->layer[l]->in[state] > 0) {
            return true;
        }
    }
    return false;
}

static bool reads_files(const struct job *job)
{
    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        if (job->layer[l]->in[TASK_READY] > 0 && job->layer[l]->graph->n_source > 0) {
            return true;
        }
    }
    return false;
}

// Tasks that failed, or that workers died of.
static void say_delayed(const struct sched *sched, const struct job *job, char *out, size_t size)
{
    uint64_t due_us = UINT64_MAX;

    for (size_t k = 0; k < sched->delays && k < DELAYS_LOOKED_AT; k++) {
        if (sched->delay[k].job == job->number && sched->delay[k].due_us < due_us) {
            due_us = sched->delay[k].due_us;
        }
    }
    if (suspects_of(sched, job->number)) {
        snprintf(out, size,
                 "workers died of what may be one of its tasks: the next attempt is on a worker of its own, "
                 "which is "
                 "waited for");
    } else if (moment_waiting(sched, job->number) > 0) {
        snprintf(out, size,
                 "workers died of what may be one of its tasks: whether others die in the same moment is "
                 "waited for");
    } else if (due_us != UINT64_MAX && due_us > sched->now_us) {
        snprintf(out, size, "what has failed waits for its next attempt, in %" PRIu64 " s",
                 (due_us - sched->now_us + 999999) / 1000000);
    } else {
        snprintf(out, size, "what has failed waits for its next attempt");
    }
}

// Partitions of another job that are not there.
static bool say_other_job(const struct job *job, char *out, size_t size)
{
    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        const struct layer *layer = job->layer[l];

        for (size_t k = 0; layer->in[TASK_WAITING] + layer->in[TASK_READY] > 0 && k < layer->inputs; k++) {
            const struct layer *source = layer->input[k].source;

            if (source->job != job && layer_unfinished(source) > 0) {
                snprintf(out, size, "it waits for results of job %u", source->job->number);
                return true;
            }
        }
    }
    return false;
}

static uint32_t staying(const struct sched *sched)
{
    uint32_t count = 0;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        count += sched->worker[s] != NULL && !sched->worker[s]->leaving ? 1 : 0;
    }
    return count;
}

static void say_workers(const struct sched *sched, const struct job *job, char *out, size_t size)
{
    if (load_first(sched) == NULL && staying(sched) == 0) {
        snprintf(out, size, "all workers are leaving, and take no more tasks");
    } else if (load_first(sched) == NULL) {
        snprintf(out, size, "all workers are full: %" PRIu64 " tasks run or wait there, of other jobs",
                 sched->in[TASK_ASSIGNED]);
    } else if (reads_files(job)) {
        snprintf(out, size, "workers have not yet said which files they can read");
    } else if (sched->in[TASK_ASSIGNED] > 0) {
        snprintf(out, size, "the workers are busy with other jobs, which come first");
    }
}

static void say(const struct sched *sched, const struct job *job, char *out, size_t size)
{
    if (recovery_holds(sched)) {
        recovery_why(sched, out, size);
    } else if (job->open == 0 && job->grows) {
        snprintf(out, size, "all that was submitted is done, and more may come");
    } else if (sched->worker_count == 0) {
        snprintf(out, size, "no workers are connected");
    } else if (say_demand(sched, job, out, size)) {
        return;
    } else if (job->runnable > 0) {
        rest_why(sched, out, size);
        if (out[0] == '\0') {
            say_workers(sched, job, out, size);
        }
    } else if (has_in(job, TASK_DELAYED)) {
        say_delayed(sched, job, out, size);
    } else {
        say_other_job(job, out, size);
    }
}

// It was done, and has lost some of what it had.
static void say_again(const struct sched *sched, const struct job *job, char *out, size_t size)
{
    int used = snprintf(out, size, "what was lost with a worker has to be made again: ");

    say(sched, job, out + used, size - (size_t)used);
    if (out[used] == '\0') {
        out[0] = '\0';
    }
}

bool job_is_over(const struct job *job)
{
    return job->state > JOB_RUNNING && (job->state != JOB_DONE || job->open == 0);
}

bool job_why_waiting(const struct job *job, char *out, size_t size)
{
    const struct sched *sched = job->sched;
    bool stuck = sched->worker_count > 0 && job->runnable > 0;

    out[0] = '\0';
    if (job->assigned > 0 || job_is_over(job)) {
        return false;
    }
    if (job->state == JOB_DONE) {
        say_again(sched, job, out, size);
    } else {
        say(sched, job, out, size);
    }
    if (recovery_holds(sched) || job->state == JOB_DONE) {
        return false;
    }
    for (const struct lane *lane = &job->lane; stuck && lane != NULL; lane = lane->next) {
        stuck =
            lane->runnable.root == NULL || (lane->demand != NULL && !demand_has_worker(sched, lane->demand));
    }
    return stuck && !has_in(job, TASK_DELAYED);
}
