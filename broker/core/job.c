#include "broker/core/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/demand.h"
#include "broker/core/failure.h"
#include "broker/core/growth.h"
#include "broker/core/handover.h"
#include "broker/core/lapse.h"
#include "broker/core/lineage.h"
#include "broker/core/progress.h"
#include "broker/core/recovery.h"
#include "broker/core/share.h"
#include "broker/core/suspect.h"
#include "broker/core/worker.h"

struct job *job_create(struct sched *sched)
{
    struct job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return NULL;
    }
    job->sched = sched;
    job->state = JOB_QUEUED;
    job->told_end = true;
    job->has_tasks = true;
    job->layer_at = job->index_at = UINT32_MAX;
    job->bytes = job->lasting = sizeof(*job);
    hash_init(&job->blames);
    hash_init(&job->reasons);
    arena_init(&job->arena, 0);
    return job;
}

static void tasks_destroy(struct job *job)
{
    for (uint32_t l = 0; l < job->layers; l++) {
        for (size_t k = 0; k < job->layer[l]->inputs; k++) {
            edge_index_destroy(job->layer[l]->input[k].reverse);
        }
        free(job->layer[l]->link);
    }
    for (struct lane *lane = job->lane.next; lane != NULL; lane = lane->next) {
        demand_put(job->sched, lane->demand);
    }
    job->lane.next = NULL; // in the arena
    slabs_destroy(job);
    free(job->tables);
    arena_fini(&job->arena);
    job->tables = NULL;
    job->layer = NULL;
    job->layers = job->layer_capacity = 0;
    job->has_tasks = job->grows = false;
}

static void blame_destroy(struct blame *blame)
{
    attempts_destroy(blame);
    free(blame);
}

static void blames_destroy(struct job *job)
{
    struct hash_node *node;

    while ((node = hash_any(&job->blames)) != NULL) {
        hash_remove(&job->blames, node);
        blame_destroy(hash_entry(node, struct blame, node));
    }
    hash_fini(&job->blames);
}

void job_destroy(struct job *job)
{
    if (job == NULL) {
        return;
    }
    progress_stop(job);
    tasks_destroy(job);
    job_delist(job);
    blames_destroy(job);
    failures_destroy(job);
    free(job->text);
    free(job->worker_name);
    free(job->name);
    free(job->note);
    free(job);
}

static uint64_t key_hash(uint64_t key_hi, uint64_t key_lo)
{
    return hash_mix(key_hi ^ hash_mix(key_lo));
}

void job_commit(struct job *job, uint32_t number)
{
    struct sched *sched = job->sched;

    job->number = number != 0 ? number : sched->job_last + 1;
    sched->job_last = job->number > sched->job_last ? job->number : sched->job_last;
    hash_add(&sched->jobs, &job->by_number, hash_mix(job->number));
    if (job->repeats) {
        sched->repeats++;
    } else {
        hash_add(&sched->keys, &job->by_key, key_hash(job->key_hi, job->key_lo));
    }
    sched->job_count++;
    sched->bytes += job->bytes;
    job_mark_dirty(job);
}

struct job *job_find(const struct sched *sched, uint32_t number)
{
    struct hash_node *node = hash_first(&sched->jobs, hash_mix(number));

    // The mix of 64 bits is one-to-one, so an equal hash is an equal number.
    return node != NULL ? hash_entry(node, struct job, by_number) : NULL;
}

struct job *job_find_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo)
{
    struct hash_node *node = hash_first(&sched->keys, key_hash(key_hi, key_lo));

    while (node != NULL) {
        struct job *job = hash_entry(node, struct job, by_key);

        if (job->key_hi == key_hi && job->key_lo == key_lo) {
            return job;
        }
        node = hash_next(node);
    }
    return NULL;
}

// A job that repeats others; with a key, or (NULL) any.
static struct job *find_repeat(const struct sched *sched, const struct job *key)
{
    for (size_t b = 0; sched->repeats > 0 && b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            struct job *job = hash_entry(node, struct job, by_number);

            if (job->repeats && (key == NULL || (job->key_hi == key->key_hi && job->key_lo == key->key_lo))) {
                return job;
            }
        }
    }
    return NULL;
}

// Its key is another one's, if there is one that repeats it.
static void leave_key(struct job *job)
{
    struct sched *sched = job->sched;
    struct job *next;

    if (job->repeats) {
        job->repeats = false;
        sched->repeats--;
        return;
    }
    hash_remove(&sched->keys, &job->by_key);
    next = find_repeat(sched, job);
    if (next != NULL) {
        next->repeats = false;
        sched->repeats--;
        hash_add(&sched->keys, &next->by_key, key_hash(next->key_hi, next->key_lo));
    }
}

void jobs_forget_repeats(struct sched *sched)
{
    struct job *job;

    while ((job = find_repeat(sched, NULL)) != NULL) {
        job_forget(job);
    }
}

void job_attach(struct job *job, struct client *client)
{
    job_detach(job);
    job->client = client;
    job_reshare(job);
    job->client_prev = NULL;
    job->client_next = client->jobs;
    if (client->jobs != NULL) {
        client->jobs->client_prev = job;
    }
    client->jobs = job;
    progress_follow(job);
    lapse_follow(job);
    job_rouse(job);
}

void job_detach(struct job *job)
{
    if (job->client == NULL) {
        return;
    }
    if (job->client_prev != NULL) {
        job->client_prev->client_next = job->client_next;
    } else {
        job->client->jobs = job->client_next;
    }
    if (job->client_next != NULL) {
        job->client_next->client_prev = job->client_prev;
    }
    job->client = NULL;
    job->client_prev = job->client_next = NULL;
    job_reshare(job);
}

// Gives up all tasks and partitions; workers are told to forget the job when it is flushed.
static void job_drop_tasks(struct job *job)
{
    struct sched *sched = job->sched;

    if (!job->has_tasks) {
        return;
    }
    growth_detach(job);
    sched->shipments_stale = true;
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];
        uint32_t here = layer->in[TASK_HELD] + layer->in[TASK_ASSIGNED];

        for (uint32_t i = 0; here > 0 && i < layer->tasks; i++) {
            enum task_state state = task_state(layer, i);

            if (state == TASK_HELD) {
                partition_leave(layer, i);
                here--;
            } else if (state == TASK_ASSIGNED) {
                worker_unassign(sched->worker[layer->owner[i]], layer, i);
                here--;
            }
        }
        for (int s = 0; s < TASK_STATES; s++) {
            sched->in[s] -= layer->in[s];
            layer->in[s] = 0;
        }
        layer_wake(layer);
        sched->tasks -= layer->tasks;
    }
    for (struct knows *knows = job->knows; knows != NULL; knows = knows->job_next) {
        worker_purge(knows->worker, job);
    }
    // An event's settling is over or has nothing left to settle here.
    for (struct job **link = &sched->unsettled; *link != NULL; link = &(*link)->unsettled_next) {
        if (*link == job) {
            *link = job->unsettled_next;
            job->is_unsettled = false;
            break;
        }
    }
    job->assigned = job->open = 0;
    sched->bytes -= job->bytes - job->lasting;
    job->bytes = job->lasting;
    tasks_destroy(job);
    job_mark_dirty(job);
}

void job_rest(struct job *job)
{
    job->dormant = true;
    if (job->is_runnable) {
        job_run_remove(job);
    }
}

void job_rouse(struct job *job)
{
    if (job->dormant) {
        job->dormant = false;
        if (job->runnable > 0) {
            job_run_insert(job);
        }
    }
}

static void job_set_why(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
                        const char *worker_name)
{
    free(job->text);
    free(job->worker_name);
    job->text = text != NULL ? strdup(text) : NULL;
    job->worker_name = worker_name != NULL ? strdup(worker_name) : NULL;
    job->code = code;
    job->layer_at = layer;
    job->index_at = index;
}

// It is over or nobody has it any more, but other jobs still need partitions of it.
static bool is_retired(const struct job *job)
{
    return job->has_tasks && (job->hidden || job->state == JOB_FAILED || job->state == JOB_CANCELLED);
}

// Its tasks go, but for what other jobs need: that stays until they have done with it.  What is not
// done fails when the job has; otherwise, what others need is still made.  After a restart, what is done
// is not known before the workers are back.
static void job_retire(struct job *job)
{
    bool ended = job->state == JOB_FAILED || job->state == JOB_CANCELLED;

    job->grows = false;
    job->stops_late = ended && recovery_holds(job->sched);
    ended = ended && !job->stops_late;
    job_mark_dirty(job); // with nothing open it is done
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        for (uint32_t i = 0; i < layer->tasks; i++) {
            task_unwant(layer, i);
            if (ended) {
                task_stop(layer, i, job->code, job->text != NULL ? job->text : "the job has ended");
            }
        }
    }
}

void job_stop_late(struct job *job)
{
    if (job->stops_late && job->has_tasks) {
        job_retire(job);
    }
}

void job_revisit(struct job *job)
{
    if (!job->is_revisit) {
        job->is_revisit = true;
        job->revisit_next = job->sched->revisit;
        job->sched->revisit = job;
    }
}

static void job_end_as(struct job *job, enum job_state state)
{
    job->state = state;
    job->ended_done = job->done;
    job->ended_failed = job->failed;
    job->told_end = false;
    job->is_end_due = true;
    job->dormant = false;
    lapse_follow(job);
    job_mark_dirty(job);
    if (job->users > 0) {
        job_retire(job);
    } else {
        job_drop_tasks(job);
        // Given up before, and there for others only: now it may go.
        if (job->hidden) {
            job_revisit(job);
        }
    }
}

void job_end(struct job *job, enum job_state state, int code, const char *text, uint32_t layer,
             uint32_t index, const char *worker_name)
{
    job_set_why(job, code, text, layer, index, worker_name);
    job_end_as(job, state);
}

void job_doom(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
              const char *worker_name)
{
    if (!job->is_doomed && !is_retired(job)) {
        job->is_doomed = true;
        job_revisit(job);
        job_set_why(job, code, text, layer, index, worker_name);
    }
}

void job_doom_late(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
                   const char *worker_name)
{
    if (job->fails_late || job->is_doomed || is_retired(job)) {
        return;
    }
    job->fails_late = true;
    job_set_why(job, code, text, layer, index, worker_name);
    if (!job->is_late_due) {
        job->is_late_due = true;
        job->late_next = job->sched->late;
        job->sched->late = job;
    }
}

bool jobs_fail_late(struct sched *sched)
{
    struct job **link = &sched->late;
    bool any = false;

    while (*link != NULL) {
        struct job *job = *link;
        bool over = job->forgotten || job->hidden || job->state > JOB_RUNNING;

        if (!over && (job->open > 0 || job->grows)) {
            link = &job->late_next;
            continue;
        }
        *link = job->late_next;
        job->is_late_due = false;
        if (!over) {
            job_end_as(job, JOB_FAILED);
            any = true;
        }
    }
    return any;
}

// The jobs that read a layer of this one, added to the ring.  True: one of them somebody has.
static bool ring_add_users(const struct job *job, struct job **last)
{
    for (uint32_t l = 0; l < job->layers; l++) {
        const struct layer *layer = job->layer[l];

        for (uint32_t k = 0; k < layer->dependents; k++) {
            struct job *user = layer->dependent[k]->target->job;

            if (!user->hidden) {
                return true;
            }
            if (!user->is_in_ring) {
                user->is_in_ring = true;
                (*last)->ring_next = user;
                *last = user;
            }
        }
    }
    return false;
}

// Jobs that read one another (pools with tasks that depend on those of the other) keep one another: when all
// that need a hidden job, however indirectly, are hidden too, none of them is of use any more.
static void forget_ring(struct job *job)
{
    struct job *last = job, *next;
    bool needed = false;

    job->is_in_ring = true;
    for (const struct job *at = job; at != NULL && !needed; at = at->ring_next) {
        needed = ring_add_users(at, &last);
    }
    for (struct job *at = job; !needed && at != NULL; at = at->ring_next) {
        growth_detach(at);
    }
    for (; job != NULL; job = next) {
        next = job->ring_next;
        job->is_in_ring = false;
        job->ring_next = NULL;
        if (!needed) {
            job_forget(job); // nobody uses it any more
        }
    }
}

void jobs_revisit(struct sched *sched)
{
    while (sched->revisit != NULL) {
        struct job *job = sched->revisit;
        bool doomed = job->is_doomed;

        sched->revisit = job->revisit_next;
        job->is_revisit = job->is_doomed = false;
        if (job->forgotten) {
            continue;
        }
        if (doomed && !is_retired(job)) {
            job_end_as(job, JOB_FAILED);
        }
        if (job->users == 0 && (is_retired(job) || job->hidden)) {
            job_drop_tasks(job);
            if (job->hidden) {
                job_forget(job);
            }
        } else if (job->hidden) {
            forget_ring(job);
        }
    }
}

void job_forget(struct job *job)
{
    struct sched *sched = job->sched;

    lapse_stop(job);
    if (!job->hidden) {
        leave_key(job);
    }
    if (job->users > 0) {
        job->is_given_up_due = !job->hidden && !sched->restoring;
        job->hidden = true;
        job_detach(job);
        job_retire(job);
        job_revisit(job);
        return;
    }
    job_drop_tasks(job);
    progress_stop(job);
    sched->bytes -= job->bytes;
    job->bytes = job->lasting = 0;
    hash_remove(&sched->jobs, &job->by_number);
    sched->job_count--;
    job->forgotten = job->is_forgotten_due = true;
    job_mark_dirty(job);
}

struct blame *job_blame_find(const struct job *job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&job->blames, hash_mix((uint64_t)layer << 32 | index));

    return node != NULL ? hash_entry(node, struct blame, node) : NULL;
}

struct blame *job_blame(struct job *job, uint32_t layer, uint32_t index)
{
    struct blame *blame = job_blame_find(job, layer, index);

    if (blame != NULL) {
        return blame;
    }
    blame = calloc(1, sizeof(*blame));
    if (blame != NULL) {
        blame->layer = layer;
        blame->index = index;
        hash_add(&job->blames, &blame->node, hash_mix((uint64_t)layer << 32 | index));
    }
    return blame;
}

void job_forgive(struct job *job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&job->blames, hash_mix((uint64_t)layer << 32 | index));

    if (node != NULL) {
        hash_remove(&job->blames, node);
        blame_destroy(hash_entry(node, struct blame, node));
    }
}

void task_describe(const struct layer *layer, uint32_t index, char *out, size_t size)
{
    if (layer->graph->name != NULL && layer->graph->name[0] != '\0') {
        snprintf(out, size, "task %.200s[%u]", layer->graph->name, index);
    } else {
        snprintf(out, size, "task %u of layer %u", index, layer->number);
    }
}
