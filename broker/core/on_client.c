// What clients say.
#include "broker/core/on.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/growth.h"
#include "broker/core/job.h"
#include "broker/core/lapse.h"
#include "broker/core/lineage.h"
#include "broker/core/outbox.h"
#include "broker/core/records.h"
#include "broker/core/share.h"

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
    bool wait = !event->u.client.on_purpose && sched->options.orphan_us > 0;

    if (client == NULL) {
        return 0;
    }
    while (client->jobs != NULL) {
        struct job *job = client->jobs;

        job_detach(job);
        if (!wait && !job->detached && job->kept == 0 && !job->forgotten) {
            job_forget(job);
        } else {
            lapse_follow(job);
        }
    }
    hash_remove(&sched->clients, &client->node);
    free(client);
    return 0;
}

// A job that clients may name.
static struct job *client_job(const struct sched *sched, uint32_t number)
{
    struct job *job = job_find(sched, number);

    return job != NULL && !job->hidden ? job : NULL;
}

// Room was reserved.  The text is copied.
static void reject(struct sched *sched, uint32_t client, uint32_t job, int code, const char *text)
{
    struct sched_action *action = outbox_push(sched, ACTION_REJECTED, client, job);
    char *copy = arena_strdup(&sched->arena, text);

    action->code = code;
    action->text = copy != NULL ? copy : "the broker has no memory for this job";
}

// The client is told of all results that there are, and of the end if that has come.
static void take_over(struct job *job, struct client *client)
{
    // Who had it would wait for ever.
    if (job->client != NULL && job->client != client && outbox_reserve(job->sched, 1)) {
        reject(job->sched, job->client->peer, job->number, EBUSY, "another client has taken over this job");
    }
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

static int job_begin(struct sched *sched, const struct sched_event *event, const Dray__Graph *graph,
                     struct job **out, struct error *err)
{
    struct growth growth;
    struct job *job;
    int rc = 0;

    if (job_find(sched, event->u.submit.number) != NULL) {
        return error_set(err, EEXIST, "there is a job %u already", event->u.submit.number);
    }
    if (sched->job_count >= sched->options.jobs_max) {
        return error_set(err, ENOSPC, "the broker keeps %u jobs, which is its limit", sched->job_count);
    }
    job = job_create(sched);
    if (job == NULL) {
        return error_no_memory(err);
    }
    job->grows = event->u.submit.open || graph == NULL;
    job->detached = event->u.submit.detached;
    job->priority = event->u.submit.priority;
    rc = job_enlist(job) ? 0 : error_no_memory(err);
    job->failures_max = event->u.submit.failures_max;
    job->key_hi = event->u.submit.key_hi;
    job->key_lo = event->u.submit.key_lo;
    job->repeats = job_find_key(sched, job->key_hi, job->key_lo) != NULL;
    job->progress_at = job->submitted_us = sched->now_us;
    job->lasting += event->u.submit.note_size;
    job->lasting += event->u.submit.name != NULL ? strlen(event->u.submit.name) + 1 : 0;
    job->bytes = job->lasting;
    if (rc == 0 && sched->bytes + job->bytes > sched->options.bytes_max) {
        rc = error_set(err, ENOSPC, "the broker's jobs take %llu MB, which is its limit",
                       (unsigned long long)sched->bytes >> 20);
    }
    if (rc == 0 && event->u.submit.name != NULL) {
        job->name = strdup(event->u.submit.name);
        rc = job->name == NULL ? error_no_memory(err) : 0;
    }
    if (rc == 0 && event->u.submit.note_size > 0) {
        job->note = malloc(event->u.submit.note_size);
        rc = job->note == NULL ? error_no_memory(err) : 0;
        if (rc == 0) {
            memcpy(job->note, event->u.submit.note, event->u.submit.note_size);
            job->note_size = event->u.submit.note_size;
        }
    }
    if (rc == 0) {
        rc = graph != NULL ? growth_prepare(&growth, job, graph, event->u.submit.arena, err)
                           : growth_open(job, err);
    }
    if (rc < 0) {
        job_destroy(job);
        return rc;
    }
    job_commit(job, event->u.submit.number);
    if (graph != NULL) {
        growth_commit(&growth);
    }
    *out = job;
    return 0;
}

// A number that was given out is not given again, whatever became of its job.
static void burn_number(struct sched *sched, uint32_t number)
{
    sched->job_last = number > sched->job_last ? number : sched->job_last;
}

// Accepted before a restart.  What it read of other jobs may be gone since, with its end: then that is kept
// without its tasks.
static int submit_restored(struct sched *sched, const struct sched_event *event)
{
    struct job *job;
    struct error err = {0};
    struct error none = {0};
    int rc = job_begin(sched, event, event->u.submit.graph, &job, &err);

    if (rc < 0 && rc != -EEXIST && rc != -ENOMEM && job_begin(sched, event, NULL, &job, &none) == 0) {
        job_end(job, JOB_FAILED, err.code, err.text, UINT32_MAX, UINT32_MAX, NULL);
        rc = 0;
    }
    if (rc == 0) {
        lapse_restored(job);
    }
    return rc == -ENOMEM ? rc : 0;
}

static void reject_submit(struct sched *sched, const struct sched_event *event, const struct error *err)
{
    struct sched_action *action;

    reject(sched, event->u.submit.client, 0, err->code, err->text);
    action = &sched->out->action[sched->out->count - 1];
    action->key_hi = event->u.submit.key_hi;
    action->key_lo = event->u.submit.key_lo;
    if (event->u.submit.number != 0) {
        record_refused(sched, event->u.submit.number);
    }
}

int on_submit(struct sched *sched, const struct sched_event *event)
{
    struct client *client = client_find(sched, event->u.submit.client);
    struct job *job = job_find_key(sched, event->u.submit.key_hi, event->u.submit.key_lo);
    struct error err = {0};
    struct sched_action *action;

    burn_number(sched, event->u.submit.number);
    // With the key of another one it had come twice, or after that had been given up.
    if (event->u.submit.client == 0) {
        return submit_restored(sched, event);
    }
    if (client == NULL) {
        // Nobody is left to be told, or to have it.
        if (job == NULL && event->u.submit.number != 0 && outbox_reserve(sched, 1)) {
            record_refused(sched, event->u.submit.number);
        }
        return 0;
    }
    if (!outbox_reserve(sched, 2)) {
        return -ENOMEM;
    }
    if (job == NULL) {
        int rc = job_begin(sched, event, event->u.submit.graph, &job, &err);

        if (rc < 0) {
            reject_submit(sched, event, &err);
            return rc == -ENOMEM ? rc : 0;
        }
        job_attach(job, client);
    } else {
        take_over(job, client);
        // Its number was another one.
        if (event->u.submit.number != 0 && event->u.submit.number != job->number) {
            record_refused(sched, event->u.submit.number);
        }
    }
    action = outbox_push(sched, ACTION_ACCEPTED, client->peer, job->number);
    action->key_hi = job->key_hi;
    action->key_lo = job->key_lo;
    return 0;
}

static bool is_same_layer(const Dray__Layer *a, const Dray__Layer *b)
{
    return a->tasks == b->tasks && a->n_input == b->n_input && a->op.len == b->op.len &&
           (a->op.len == 0 || memcmp(a->op.data, b->op.data, a->op.len) == 0);
}

// Layers that come again are those that are there: another client may have had the job meanwhile.
static int check_known(const struct job *job, uint32_t first, const Dray__Graph *graph, struct error *err)
{
    for (uint32_t l = first; l < job->layers && l - first < graph->n_layer; l++) {
        if (!is_same_layer(graph->layer[l - first], job->layer[l]->graph)) {
            return error_set(
                err, EINVAL,
                "layer %u of job %u is there already, and another one; has another client extended it?", l,
                job->number);
        }
    }
    return 0;
}

static int extend(struct job *job, const struct sched_event *event, struct error *err)
{
    const Dray__Graph *graph = event->u.extend.graph;
    Dray__Graph rest = DRAY__GRAPH__INIT;
    struct growth growth;
    uint32_t known;
    int rc;

    if (event->u.extend.first_layer > job->layers) {
        return error_set(err, EINVAL, "layers from %u on were sent for job %u, which has %u",
                         event->u.extend.first_layer, job->number, job->layers);
    }
    // Sent again by a client that could not know whether they had come.
    known = job->layers - event->u.extend.first_layer;
    if (graph != NULL && known > 0) {
        rc = check_known(job, event->u.extend.first_layer, graph, err);
        if (rc < 0) {
            return rc;
        }
        rest.n_layer = graph->n_layer > known ? graph->n_layer - known : 0;
        rest.layer = graph->layer + known;
        graph = rest.n_layer > 0 ? &rest : NULL;
    }
    if (graph != NULL) {
        rc = graph_check_more(graph, job->layers, job->layer_tasks, err);
        if (rc == 0) {
            rc = growth_prepare(&growth, job, graph, event->u.extend.arena, err);
        }
        if (rc < 0) {
            return rc;
        }
        growth_commit(&growth);
    }
    if (event->u.extend.last) {
        growth_close(job);
    }
    return 0;
}

int on_extend(struct sched *sched, const struct sched_event *event)
{
    struct job *job = client_job(sched, event->u.extend.job);
    struct error err = {0};
    int rc;

    // More layers may have been on their way when it ended: its client is told of that.
    if (job == NULL) {
        return 0;
    }
    // Or another client has the job by now, whose layers these would take the place of.
    if (!job->grows || (job->client != NULL ? job->client->peer : 0) != event->u.extend.client) {
        record_not_extended(job, event->u.extend.id);
        return 0;
    }
    rc = extend(job, event, &err);
    if (rc == -ENOMEM && event->u.extend.client == 0) {
        return rc; // a broker that cannot start loses nothing
    }
    // Without memory as well: what its client went on from would never be there.
    if (rc < 0 && job->client != NULL && outbox_reserve(sched, 1)) {
        struct sched_action *action;

        reject(sched, event->u.extend.client, job->number, err.code, err.text);
        action = &sched->out->action[sched->out->count - 1];
        action->key_hi = job->key_hi;
        action->key_lo = job->key_lo;
    }
    if (rc < 0) {
        job_end(job, JOB_FAILED, err.code, err.text, UINT32_MAX, UINT32_MAX, NULL);
    }
    return rc == -ENOMEM ? rc : 0;
}

int on_attach(struct sched *sched, const struct sched_event *event)
{
    struct client *client = client_find(sched, event->u.attach.client);
    struct job *job = client_job(sched, event->u.attach.job);

    if (event->u.attach.client == 0 && job != NULL) { // restored
        job->detached = job->detached || event->u.attach.detach;
        lapse_restored(job);
    }
    if (client == NULL) {
        return 0;
    }
    if (job == NULL) {
        char text[80];

        // It was there when its client was told so, or is none that anybody knows.
        snprintf(text, sizeof(text), "there is no job %u (it may have ended and been forgotten)",
                 event->u.attach.job);
        if (!outbox_reserve(sched, 1)) {
            return -ENOMEM;
        }
        reject(sched, client->peer, event->u.attach.job, ENOENT, text);
        return 0;
    }
    if (event->u.attach.again && job->client != NULL && job->client != client) {
        if (!outbox_reserve(sched, 1)) {
            return -ENOMEM;
        }
        reject(sched, client->peer, job->number, EBUSY, "another client has taken over this job");
        return 0;
    }
    job->detached = job->detached || event->u.attach.detach;
    take_over(job, client);
    return 0;
}

int on_keep(struct sched *sched, const struct sched_event *event)
{
    struct job *job = client_job(sched, event->u.attach.job);

    if (job == NULL) {
        return 0;
    }
    if (event->u.attach.keep) {
        job->kept++;
    } else if (event->u.attach.client == 0) {
        job->kept -= job->kept > 0 ? 1 : 0; // restored: its client may come back
        lapse_restored(job);
        return 0;
    } else if (job->kept > 0 && --job->kept == 0 && job->client == NULL && !job->detached) {
        job_forget(job);
        return 0;
    }
    lapse_follow(job);
    return 0;
}

int on_client_full(struct sched *sched, const struct sched_event *event)
{
    struct client *client = client_find(sched, event->u.client.client);

    if (client == NULL || client->full == event->u.client.full) {
        return 0;
    }
    client->full = event->u.client.full;
    for (struct job *job = client->jobs; !client->full && job != NULL; job = job->client_next) {
        for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
            if (job->layer[l]->wanted && bits_next(&job->layer[l]->results, 0) != BITS_NONE) {
                layer_mark_dirty(job->layer[l]);
            }
        }
        job_mark_dirty(job);
    }
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
    struct job *job = client_job(sched, event->u.job.job);

    if (job != NULL && event->u.job.ranges > 0) {
        cancel_tasks(sched, event);
    } else if (job != NULL && job->state <= JOB_RUNNING) {
        job_end(job, JOB_CANCELLED, ECANCELED, "a client asked for it", UINT32_MAX, UINT32_MAX, NULL);
    }
    return 0;
}

int on_free(struct sched *sched, const struct sched_event *event)
{
    struct job *job = client_job(sched, event->u.job.job);

    // Results belong to the client that has the job; anybody may clear up after none.
    if (job == NULL || (job->client != NULL && job->client->peer != event->u.job.client)) {
        return 0;
    }
    if (job->kept > 0) {
        // Others may want the results.
        if (event->u.job.ranges == 0) {
            job_detach(job);
        }
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
