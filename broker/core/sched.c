#include "broker/core/sched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/outbox.h"
#include "broker/core/placement.h"
#include "broker/core/state.h"
#include "broker/core/worker.h"

enum {
    QUEUE_DEPTH = 2,
    ATTEMPTS_MAX = 3,
    LOSSES_MAX = 20, // partitions of one task that went missing without a dead worker
};

void sched_options_default(struct sched_options *options)
{
    *options = (struct sched_options){
        .queue_depth = QUEUE_DEPTH,
        .attempts_max = ATTEMPTS_MAX,
        .progress_us = 100000,
        .tasks_max = UINT64_C(100) * 1000 * 1000,
        .jobs_max = 1000 * 1000,
        .bytes_max = UINT64_C(4) << 30,
    };
}

struct sched *sched_create(const struct sched_options *options)
{
    struct sched *sched = calloc(1, sizeof(*sched));

    if (sched == NULL) {
        return NULL;
    }
    sched->options = *options;
    hash_init(&sched->jobs);
    hash_init(&sched->keys);
    hash_init(&sched->workers);
    hash_init(&sched->clients);
    hash_init(&sched->knows);
    arena_init(&sched->arena, 0);
    return sched;
}

static void bury(struct sched *sched)
{
    while (sched->graveyard != NULL) {
        struct job *job = sched->graveyard;

        sched->graveyard = job->dirty_next;
        job_destroy(job);
    }
}

void sched_destroy(struct sched *sched)
{
    struct hash_node *node;

    if (sched == NULL) {
        return;
    }
    bury(sched);
    while ((node = hash_any(&sched->workers)) != NULL) {
        worker_destroy(sched, hash_entry(node, struct worker, node));
    }
    while ((node = hash_any(&sched->jobs)) != NULL) {
        hash_remove(&sched->jobs, node);
        job_destroy(hash_entry(node, struct job, by_number));
    }
    // Forgotten, but their last words could not be written for lack of memory.
    while (sched->dirty != NULL) {
        struct job *job = sched->dirty;

        sched->dirty = job->dirty_next;
        if (job->forgotten) {
            job_destroy(job);
        }
    }
    while ((node = hash_any(&sched->clients)) != NULL) {
        hash_remove(&sched->clients, node);
        free(hash_entry(node, struct client, node));
    }
    hash_fini(&sched->jobs);
    hash_fini(&sched->keys);
    hash_fini(&sched->workers);
    hash_fini(&sched->clients);
    hash_fini(&sched->knows);
    arena_fini(&sched->arena);
    free(sched->worker);
    free(sched->location);
    free(sched);
}

static struct client *client_find(const struct sched *sched, uint32_t peer)
{
    struct hash_node *node = hash_first(&sched->clients, hash_mix(peer));

    return node != NULL ? hash_entry(node, struct client, node) : NULL;
}

// The layer of a range from a peer; NULL when job, layer or range is not there.
static struct layer *range_layer(const struct sched *sched, const struct task_range *range)
{
    struct job *job = job_find(sched, range->job);

    if (job == NULL || !job->has_tasks || range->layer >= job->layers) {
        return NULL;
    }
    struct layer *layer = &job->layer[range->layer];

    return range->first <= layer->tasks && range->count <= layer->tasks - range->first ? layer : NULL;
}

static bool is_unknown_job(const struct sched *sched, uint32_t number)
{
    const struct job *job = job_find(sched, number);

    return job == NULL || !job->has_tasks;
}

// A worker says that it holds a partition that it was not (or is no longer) asked for.
static void adopt(struct worker *worker, struct layer *layer, uint32_t i, uint64_t bytes)
{
    struct sched *sched = layer->job->sched;
    enum task_state state = task_state(layer, i);

    if (state == TASK_HELD && layer->owner[i] == worker->number) {
        return;
    }
    if (state == TASK_WAITING || state == TASK_READY) {
        struct knows *knows = worker_knows(worker, layer->job);

        if (knows != NULL) {
            knows_set(knows->holds, layer->number);
            task_hold(layer, i, worker, bytes);
            return;
        }
    }
    outbox_release(sched, worker, layer, i);
}

// Counts what went missing without a death; true: too often, and the job has failed.
static bool is_lost_too_often(struct layer *layer, uint32_t i)
{
    struct blame *blame = job_blame(layer->job, layer->number, i);
    char what[256];

    if (blame == NULL || ++blame->losses <= LOSSES_MAX) {
        return false;
    }
    task_describe(layer, i, what, sizeof(what));
    char *text =
        arena_printf(&layer->job->sched->arena,
                     "the partition of %s could not be fetched %u times in a row of attempts; is the "
                     "network between the workers whole?",
                     what, blame->losses);

    job_end(layer->job, JOB_FAILED, EIO, text, layer->number, i, NULL);
    return true;
}

static int on_tick(struct sched *sched, const struct sched_event *event)
{
    struct hash_node *node;

    (void)event;
    for (size_t b = 0; b <= sched->clients.mask; b++) {
        for (node = sched->clients.bucket[b]; node != NULL; node = node->next) {
            struct job *job = hash_entry(node, struct client, node)->jobs;

            for (; job != NULL; job = job->client_next) {
                if (job->state <= JOB_RUNNING && !job->forgotten &&
                    sched->now_us - job->progress_at >= sched->options.progress_us) {
                    outbox_progress(sched, job);
                }
            }
        }
    }
    return 0;
}

static int on_worker_joined(struct sched *sched, const struct sched_event *event)
{
    if (worker_find(sched, event->u.joined.worker) != NULL) {
        return 0;
    }
    sched->check_sources = true;
    return worker_create(sched, event->u.joined.worker, event->u.joined.threads, event->u.joined.memory,
                         event->u.joined.shared_files, event->u.joined.name);
}

static void set_aside(struct layer *layer, uint32_t i, const struct worker *worker, uint32_t deaths,
                      const char *why)
{
    char what[256];
    char *text;

    task_describe(layer, i, what, sizeof(what));
    text = arena_printf(&layer->job->sched->arena,
                        "%u workers died while they ran %s, the last of them %s (%s); it is not tried again",
                        deaths, what, worker->name, why != NULL ? why : "connection lost");
    job_end(layer->job, JOB_FAILED, EOWNERDEAD, text, layer->number, i, worker->name);
}

// What a dying worker was given first is what it ran: as many tasks as it has threads.
static void blame_running(struct worker *worker, const struct sched_event *event)
{
    uint32_t running = 0;

    for (uint32_t k = 0; k < worker->queue_told && running < worker->threads; k++) {
        struct slot slot = worker->queue[k];

        if (!worker_has(worker, &slot)) {
            continue;
        }
        running++;
        struct blame *blame = job_blame(slot.layer->job, slot.layer->number, slot.index);

        if (blame != NULL && ++blame->deaths >= slot.layer->job->sched->options.attempts_max) {
            set_aside(slot.layer, slot.index, worker, blame->deaths, event->u.left.why);
            // Ending the job has purged it from the queue: the places have moved.
            return;
        }
    }
}

static int on_worker_left(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.left.worker);

    if (worker != NULL) {
        if (!event->u.left.on_purpose) {
            blame_running(worker, event);
        }
        worker_lose(sched, worker);
        worker_destroy(sched, worker);
        sched->check_sources = true;
    }
    return 0;
}

static int on_worker_status(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.status.worker);

    if (worker != NULL) {
        worker->memory_used = event->u.status.memory_used;
    }
    return 0;
}

static int on_sources(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.sources.worker);

    if (worker == NULL) {
        return 0;
    }
    sched->check_sources = true;
    return worker_set_sources(worker, event->u.sources.count, event->u.sources.name, event->u.sources.path);
}

// The worker's own list of what it holds of one job leaves out what we think it holds.
static void lose_unlisted(struct layer *layer, const struct worker *worker)
{
    for (uint32_t i = 0; i < layer->tasks; i++) {
        uint8_t seen = layer->state[i] & TASK_SEEN;

        layer->state[i] &= (uint8_t)~TASK_SEEN;
        if (seen == 0 && task_state(layer, i) == TASK_HELD && layer->owner[i] == worker->number) {
            task_lose(layer, i);
        }
    }
}

static void on_holding_full(struct sched *sched, struct worker *worker, const struct sched_event *event)
{
    if (worker->partitions == 0) {
        return;
    }
    for (size_t k = 0; k < event->u.holding.adds; k++) {
        const struct task_range *range = &event->u.holding.add[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t n = 0; layer != NULL && n < range->count; n++) {
            layer->state[range->first + n] |= TASK_SEEN;
        }
    }
    for (struct knows *knows = worker->knows; knows != NULL; knows = knows->worker_next) {
        for (uint32_t l = 0; knows->job->has_tasks && l < knows->job->layers; l++) {
            if (knows_test(knows->holds, l)) {
                lose_unlisted(&knows->job->layer[l], worker);
            }
        }
    }
    for (size_t k = 0; k < event->u.holding.adds; k++) {
        const struct task_range *range = &event->u.holding.add[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t n = 0; layer != NULL && n < range->count; n++) {
            layer->state[range->first + n] &= (uint8_t)~TASK_SEEN;
        }
    }
}

static int on_holding(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.holding.worker);
    const uint64_t *bytes = event->u.holding.bytes;

    if (worker == NULL) {
        return 0;
    }
    if (event->u.holding.full) {
        on_holding_full(sched, worker, event);
    }
    for (size_t k = 0; k < event->u.holding.adds; k++) {
        const struct task_range *range = &event->u.holding.add[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t n = 0; layer != NULL && n < range->count; n++) {
            adopt(worker, layer, range->first + n, bytes[n]);
        }
        if (layer == NULL && is_unknown_job(sched, range->job)) {
            outbox_forget(sched, worker, range->job);
        }
        bytes += range->count;
    }
    for (size_t k = 0; k < event->u.holding.gones; k++) {
        const struct task_range *range = &event->u.holding.gone[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t i = range->first; layer != NULL && i < range->first + range->count; i++) {
            if (task_state(layer, i) == TASK_HELD && layer->owner[i] == worker->number) {
                task_lose(layer, i);
            }
        }
    }
    return 0;
}

static void range_done(struct worker *worker, struct layer *layer, const struct task_range *range,
                       const uint64_t *bytes)
{
    for (uint32_t n = 0; n < range->count; n++) {
        uint32_t i = range->first + n;

        if (task_state(layer, i) == TASK_ASSIGNED && layer->owner[i] == worker->number) {
            worker_unassign(worker, layer, i);
            task_hold(layer, i, worker, bytes[n]);
        } else {
            adopt(worker, layer, i, bytes[n]);
        }
    }
}

static int on_tasks_done(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.done.worker);
    struct job *job = job_find(sched, event->u.done.job);
    const uint64_t *bytes = event->u.done.bytes;

    if (worker == NULL) {
        return 0;
    }
    if (job != NULL) {
        job->rows += event->u.done.rows;
        job->source_bytes += event->u.done.source_bytes;
    }
    for (size_t k = 0; k < event->u.done.ranges; k++) {
        const struct task_range *range = &event->u.done.range[k];
        struct layer *layer = range_layer(sched, range);

        if (layer != NULL) {
            range_done(worker, layer, range, bytes);
        } else if (is_unknown_job(sched, range->job)) {
            outbox_forget(sched, worker, range->job);
        }
        bytes += range->count;
    }
    worker_reload(sched, worker);
    return 0;
}

// Somebody could not get a partition from this worker: it is not there, or not for us.
static void lose_at(struct sched *sched, uint32_t peer, struct layer *layer, uint32_t i)
{
    struct worker *holder = worker_find(sched, peer);

    if (holder == NULL || task_state(layer, i) != TASK_HELD || layer->owner[i] != holder->number) {
        return; // that is known already
    }
    if (!is_lost_too_often(layer, i)) {
        outbox_release(sched, holder, layer, i);
        task_lose(layer, i);
    }
}

static int on_task_failed(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.failed.worker);
    struct task_range range = {event->u.failed.job, event->u.failed.layer, event->u.failed.index, 1};
    struct task_range missing = {range.job, event->u.failed.missing_layer, event->u.failed.missing_index, 1};
    struct layer *layer = range_layer(sched, &range);
    struct layer *source = event->u.failed.missing_input ? range_layer(sched, &missing) : NULL;

    if (worker == NULL || layer == NULL || task_state(layer, range.first) != TASK_ASSIGNED ||
        layer->owner[range.first] != worker->number) {
        return 0;
    }
    if (!event->u.failed.missing_input) {
        job_end(layer->job, JOB_FAILED, event->u.failed.code, event->u.failed.text, range.layer, range.first,
                worker->name);
        return 0;
    }
    worker_unassign(worker, layer, range.first);
    worker_reload(sched, worker);
    task_requeue(layer, range.first);
    // The task's own count as well: a worker may blame a partition that it never needed.
    if (!is_lost_too_often(layer, range.first) && source != NULL) {
        uint32_t holder = event->u.failed.missing_worker;

        lose_at(sched, holder != 0 ? holder : worker->peer, source, missing.first);
    }
    return 0;
}

static int on_tasks_dropped(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.dropped.worker);

    for (size_t k = 0; worker != NULL && k < event->u.dropped.ranges; k++) {
        const struct task_range *range = &event->u.dropped.range[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t i = range->first; layer != NULL && i < range->first + range->count; i++) {
            // Only what was asked back and is still there: other answers are to drops of before.
            if (task_state(layer, i) != TASK_ASSIGNED || layer->owner[i] != worker->number ||
                (layer->state[i] & TASK_RECALL) == 0) {
                continue;
            }
            worker_unassign(worker, layer, i);
            task_requeue(layer, i);
            if (task_state(layer, i) == TASK_READY) {
                layer->state[i] |= TASK_RECALL;
            }
        }
    }
    if (worker != NULL) {
        worker_reload(sched, worker);
    }
    return 0;
}

static int on_client_joined(struct sched *sched, const struct sched_event *event)
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

static int on_client_left(struct sched *sched, const struct sched_event *event)
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
        struct layer *layer = &job->layer[l];

        for (uint32_t i = 0; layer->wanted && layer->in[TASK_HELD] > 0 && i < layer->tasks; i++) {
            if (task_state(layer, i) == TASK_HELD && (layer->state[i] & TASK_KEEP) != 0) {
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

static int on_submit(struct sched *sched, const struct sched_event *event)
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

static int on_cancel(struct sched *sched, const struct sched_event *event)
{
    struct job *job = job_find(sched, event->u.job.job);

    if (job != NULL && job->state <= JOB_RUNNING) {
        job_end(job, JOB_CANCELLED, ECANCELED, "cancelled", UINT32_MAX, UINT32_MAX, NULL);
    }
    return 0;
}

static int on_free(struct sched *sched, const struct sched_event *event)
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

static int on_result_lost(struct sched *sched, const struct sched_event *event)
{
    const struct task_range *range = &event->u.lost.range;

    for (uint32_t n = 0; n < range->count; n++) {
        // Looked up each time: the job may end on the way.
        struct layer *layer = range_layer(sched, range);

        if (layer == NULL) {
            break;
        }
        lose_at(sched, event->u.lost.worker, layer, range->first + n);
    }
    return 0;
}

// To be filled in with growth, attachment, keeping and leaving.
static int on_later(struct sched *sched, const struct sched_event *event)
{
    (void)sched;
    (void)event;
    return 0;
}

static int (*const handlers[])(struct sched *, const struct sched_event *) = {
    [EVENT_TICK] = on_tick,
    [EVENT_WORKER_JOINED] = on_worker_joined,
    [EVENT_WORKER_LEFT] = on_worker_left,
    [EVENT_WORKER_STATUS] = on_worker_status,
    [EVENT_SOURCES] = on_sources,
    [EVENT_HOLDING] = on_holding,
    [EVENT_TASKS_DONE] = on_tasks_done,
    [EVENT_TASK_FAILED] = on_task_failed,
    [EVENT_TASKS_DROPPED] = on_tasks_dropped,
    [EVENT_CLIENT_JOINED] = on_client_joined,
    [EVENT_CLIENT_LEFT] = on_client_left,
    [EVENT_SUBMIT] = on_submit,
    [EVENT_CANCEL] = on_cancel,
    [EVENT_FREE] = on_free,
    [EVENT_RESULT_LOST] = on_result_lost,
    [EVENT_EXTEND] = on_later,
    [EVENT_ATTACH] = on_later,
    [EVENT_KEEP] = on_later,
    [EVENT_WORKER_LEAVING] = on_later,
    [EVENT_CLIENT_FULL] = on_later,
};

int sched_step(struct sched *sched, const struct sched_event *events, size_t count,
               struct sched_actions *actions)
{
    int rc = 0;

    bury(sched);
    arena_reset(&sched->arena);
    actions->count = 0;
    sched->locations = 0;
    sched->out = actions;
    for (size_t k = 0; k < count; k++) {
        int one;

        sched->now_us = events[k].now_us;
        one = handlers[events[k].type](sched, &events[k]);
        lineage_settle(sched);
        rc = one < 0 ? one : rc;
    }
    if (sched->check_sources) {
        placement_check_sources(sched);
    }
    placement_run(sched);
    outbox_flush(sched);
    sched->out = NULL;
    return rc;
}

void sched_counts(const struct sched *sched, struct sched_counts *counts)
{
    *counts = (struct sched_counts){
        .jobs = sched->job_count,
        .tasks = sched->tasks,
        .tasks_ready = sched->in[TASK_READY],
        .tasks_assigned = sched->in[TASK_ASSIGNED],
        .tasks_done = sched->in[TASK_HELD] + sched->in[TASK_RELEASED],
        .partitions = sched->in[TASK_HELD],
        .recomputed = sched->recomputed,
        .workers = sched->worker_count,
        .clients = (uint32_t)sched->clients.count,
    };
}

uint64_t sched_worker_partitions(const struct sched *sched, uint32_t peer)
{
    const struct worker *worker = worker_find(sched, peer);

    return worker != NULL ? worker->partitions : 0;
}
