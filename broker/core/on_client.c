// What clients say.
#include "broker/core/on.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/outbox.h"

static struct client *client_find(const struct sched *sched, uint32_t peer)
{
    struct hash_node *node = hash_first(&sched->clients, hash_mix(peer));

    return node != NULL ? hash_entry(node, struct client, node) : NULL;
}

int on_client_joined(struct sched *sched, const struct sched_event *event)
{
    struct client *client;

    if (client_find(sched, event->u.client.client) != NULL) {
        return 0;
    }
    client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return -ENOMEM;
    }
    client->peer = event->u.client.client;
    hash_add(&sched->clients, &client->node, hash_mix(client->peer));
    return 0;
}

int on_client_left(struct sched *sched, const struct sched_event *event)
{
    struct client *client = client_find(sched, event->u.client.client);

    if (client == NULL) {
        return 0;
    }
    while (client->jobs != NULL) {
        struct job *job = client->jobs;

        job_detach(job);
        if (!job->detached && !job->forgotten) {
            job_forget(job);
        }
    }
    hash_remove(&sched->clients, &client->node);
    free(client);
    return 0;
}

static void reject(struct sched *sched, const struct sched_event *event, int code, const char *text)
{
    // Room was reserved.
    struct sched_action *action = outbox_push(sched, ACTION_REJECTED, event->u.submit.client, 0);

    action->key_hi = event->u.submit.key_hi;
    action->key_lo = event->u.submit.key_lo;
    action->code = code;
    action->text = text;
}

// The client is told of all results that there are, and of the end if that has come.
static void take_over(struct job *job, struct client *client)
{
    job_attach(job, client);
    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        for (uint32_t i = 0;
             layer->wanted && layer->in[TASK_HELD] + layer->in[TASK_FAILED] > 0 && i < layer->tasks; i++) {
            enum task_state state = task_state(layer, i);

            if ((state == TASK_HELD || state == TASK_FAILED) && (layer->state[i] & TASK_KEEP) != 0) {
                bits_set(&layer->results, i);
                layer_mark_dirty(layer);
            }
        }
    }
    job->told_end = job->state <= JOB_RUNNING;
    job_mark_dirty(job);
}

static uint64_t graph_tasks(const Dray__Graph *graph)
{
    uint64_t tasks = 0;

    for (size_t l = 0; l < graph->n_layer; l++) {
        tasks += graph->layer[l]->tasks;
    }
    return tasks;
}

int on_submit(struct sched *sched, const struct sched_event *event)
{
    struct client *client = client_find(sched, event->u.submit.client);
    struct job *job = job_find_key(sched, event->u.submit.key_hi, event->u.submit.key_lo);
    struct error err = {0};
    struct sched_action *action;
    int rc = 0;

    if (client == NULL) {
        return 0;
    }
    if (!outbox_reserve(sched, 1)) {
        return -ENOMEM;
    }
    if (job == NULL) {
        uint64_t tasks = graph_tasks(event->u.submit.graph);

        if (sched->job_count >= sched->options.jobs_max || tasks > sched->options.tasks_max ||
            sched->tasks > sched->options.tasks_max - tasks) {
            reject(sched, event, ENOSPC,
                   arena_printf(
                       &sched->arena,
                       "the broker keeps %u jobs with %llu tasks; %llu more are beyond its limits of %u "
                       "jobs and %llu tasks",
                       sched->job_count, (unsigned long long)sched->tasks, (unsigned long long)tasks,
                       sched->options.jobs_max, (unsigned long long)sched->options.tasks_max));
            return 0;
        }
        rc = job_create(sched, event->u.submit.graph, &job, &err);
        if (rc < 0) {
            char *text = arena_strdup(&sched->arena, err.text);

            reject(sched, event, err.code, text != NULL ? text : "the broker has no memory for this job");
            return rc == -ENOMEM ? rc : 0;
        }
        if (job->bytes > sched->options.bytes_max - sched->bytes) {
            reject(sched, event, ENOSPC,
                   arena_printf(&sched->arena,
                                "the broker's jobs take %llu MB, this one %llu MB more, which is beyond its "
                                "limit of %llu MB",
                                (unsigned long long)sched->bytes >> 20, (unsigned long long)job->bytes >> 20,
                                (unsigned long long)sched->options.bytes_max >> 20));
            job_destroy(job);
            return 0;
        }
        job->key_hi = event->u.submit.key_hi;
        job->key_lo = event->u.submit.key_lo;
        job->detached = event->u.submit.detached;
        job->priority = event->u.submit.priority;
        job->failures_max = event->u.submit.failures_max;
        job->progress_at = sched->now_us;
        job_commit(job);
        job_attach(job, client);
        sched->check_sources = true;
    } else {
        take_over(job, client);
    }
    action = outbox_push(sched, ACTION_ACCEPTED, client->peer, job->number);
    action->key_hi = job->key_hi;
    action->key_lo = job->key_lo;
    return 0;
}

static void cancel_tasks(struct sched *sched, const struct sched_event *event)
{
    for (size_t k = 0; k < event->u.job.ranges; k++) {
        struct task_range range = event->u.job.range[k];
        struct layer *layer;

        range.job = event->u.job.job;
        layer = range_layer(sched, &range);
        for (uint32_t i = range.first; layer != NULL && i < range.first + range.count; i++) {
            task_cancel(layer, i);
        }
    }
}

int on_cancel(struct sched *sched, const struct sched_event *event)
{
    struct job *job = job_find(sched, event->u.job.job);

    if (event->u.job.ranges > 0) {
        cancel_tasks(sched, event);
    } else if (job != NULL && job->state <= JOB_RUNNING) {
        job_end(job, JOB_CANCELLED, ECANCELED, "cancelled", UINT32_MAX, UINT32_MAX, NULL);
    }
    return 0;
}

int on_free(struct sched *sched, const struct sched_event *event)
{
    struct job *job = job_find(sched, event->u.job.job);

    // Results belong to the client that has the job; anybody may clear up after none.
    if (job == NULL || (job->client != NULL && job->client->peer != event->u.job.client)) {
        return 0;
    }
    if (event->u.job.ranges == 0) {
        if (job->state <= JOB_RUNNING) {
            job_end(job, JOB_CANCELLED, ECANCELED, "its results were given up", UINT32_MAX, UINT32_MAX, NULL);
        }
        job_forget(job);
        return 0;
    }
    for (size_t k = 0; k < event->u.job.ranges; k++) {
        struct task_range range = event->u.job.range[k];

        range.job = job->number;
        struct layer *layer = range_layer(sched, &range);

        for (uint32_t i = range.first; layer != NULL && layer->wanted && i < range.first + range.count; i++) {
            task_unwant(layer, i);
        }
    }
    return 0;
}
