// What there is to say of jobs.
#include "broker/core/sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/demand.h"
#include "broker/core/job.h"
#include "broker/core/why.h"

static struct job *find(const struct sched *sched, uint32_t number)
{
    struct job *job = job_find(sched, number);

    return job != NULL && !job->hidden ? job : NULL;
}

static uint64_t held_bytes(const struct job *job)
{
    uint64_t bytes = 0;

    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        const struct layer *layer = job->layer[l];

        for (uint32_t i = 0; layer->in[TASK_HELD] > 0 && i < layer->tasks; i++) {
            bytes += task_state(layer, i) == TASK_HELD ? task_bytes(layer, i) : 0;
        }
    }
    return bytes;
}

// Its tasks have gone, or go when nobody needs them.
static bool is_cut_short(const struct job *job)
{
    return job->state == JOB_FAILED || job->state == JOB_CANCELLED;
}

int sched_job_info(const struct sched *sched, uint32_t number, struct sched_job *out)
{
    const struct job *job = find(sched, number);

    if (job == NULL) {
        return -ENOENT;
    }
    *out = (struct sched_job){
        .job = job->number,
        .state = job->state,
        .detached = job->detached,
        .kept = job->kept,
        .client = job->client != NULL ? job->client->peer : 0,
        .tasks = job->tasks,
        // After a restart what became of tasks that nobody needs any more is not known one by one.
        .done = job->state == JOB_DONE ? job->tasks - job->failed
                : is_cut_short(job)    ? job->ended_done
                                       : job->done,
        .failed = is_cut_short(job) ? job->ended_failed : job->failed,
        .priority = job->priority,
        .name = job->name,
        .note = job->note,
        .note_size = job->note_size,
        .submitted_us = job->submitted_us,
        .code = job->code,
        .text = job->text,
        .layers = job->layers,
        .failures = job->failure_count,
        .failure = job->failure,
    };
    job_why_waiting(job, out->waiting, sizeof(out->waiting));
    return 0;
}

int sched_job_brief(const struct sched *sched, uint32_t number, struct sched_brief *out)
{
    const struct job *job = find(sched, number);

    if (job == NULL) {
        return -ENOENT;
    }
    *out = (struct sched_brief){job->state, job->layers, job->grows};
    return 0;
}

uint32_t sched_job_of_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo)
{
    const struct job *job = job_find_key(sched, key_hi, key_lo);

    return job != NULL ? job->number : 0;
}

uint64_t sched_job_bytes(const struct sched *sched, uint32_t number)
{
    const struct job *job = find(sched, number);

    return job != NULL ? held_bytes(job) : 0;
}

int sched_layer_info(const struct sched *sched, uint32_t number, uint32_t layer_number,
                     struct sched_layer *out)
{
    const struct job *job = find(sched, number);
    const struct layer *layer;

    if (job == NULL || !job->has_tasks || layer_number >= job->layers) {
        return -ENOENT;
    }
    layer = job->layer[layer_number];
    *out = (struct sched_layer){.name = layer->graph->name, .tasks = layer->tasks, .wanted = layer->wanted};
    for (int s = 0; s < SCHED_STATES; s++) {
        out->in[s] = layer->in[s];
    }
    if (layer->lane->demand != NULL && layer_unfinished(layer) > 0 && layer->in[TASK_ASSIGNED] == 0 &&
        sched->worker_count > 0) {
        demand_why(sched, layer->lane->demand, out->waiting, sizeof(out->waiting));
    }
    return 0;
}

static int compare(const void *left, const void *right)
{
    const uint32_t *a = left;
    const uint32_t *b = right;

    return (*a > *b) - (*a < *b);
}

size_t sched_jobs(const struct sched *sched, uint32_t after, uint32_t *number, size_t room)
{
    uint32_t *all = malloc((sched->jobs.count + 1) * sizeof(*all));
    size_t count = 0;

    if (all == NULL) {
        return 0;
    }
    for (size_t b = 0; b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            const struct job *job = hash_entry(node, struct job, by_number);

            if (job->number > after && !job->hidden) {
                all[count++] = job->number;
            }
        }
    }
    qsort(all, count, sizeof(*all), compare);
    count = count < room ? count : room;
    memcpy(number, all, count * sizeof(*all));
    free(all);
    return count;
}
