#include "client/lib/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/gather.h"
#include "client/lib/results_state.h"
#include "proto/graph.h"

int results_create(struct uplink *uplink, int epoll, uint64_t bytes_max, struct results **out,
                   struct error *err)
{
    struct results *results = calloc(1, sizeof(*results));
    int rc;

    if (results == NULL) {
        return error_no_memory(err);
    }
    results->uplink = uplink;
    results->bytes_max = bytes_max;
    rc = fetches_create(results, epoll, err);
    if (rc != 0) {
        free(results);
        return rc;
    }
    *out = results;
    return 0;
}

// ---- one job ----------------------------------------------------------------------------

void job_list(struct job *job, enum jobs_list list)
{
    struct jobs *jobs = &job->results->list[list];
    struct job *after = list == JOBS_ANNOUNCED && job->options.ordered ? NULL : jobs->last;
    struct job *before = after == NULL ? jobs->first : NULL;

    if (job->listed[list]) {
        return;
    }
    job->listed[list] = true;
    job->list_previous[list] = after;
    job->list_next[list] = before;
    *(after != NULL ? &after->list_next[list] : &jobs->first) = job;
    *(before != NULL ? &before->list_previous[list] : &jobs->last) = job;
}

void job_unlist(struct job *job, enum jobs_list list)
{
    struct jobs *jobs = &job->results->list[list];
    struct job *after = job->list_previous[list], *before = job->list_next[list];

    if (!job->listed[list]) {
        return;
    }
    job->listed[list] = false;
    *(after != NULL ? &after->list_next[list] : &jobs->first) = before;
    *(before != NULL ? &before->list_previous[list] : &jobs->last) = after;
}

void job_drop_undelivered(struct job *job)
{
    while (job->ready.first != NULL) {
        batch_destroy(job->ready.first);
    }
    while (job->announced.first != NULL) {
        batch_destroy(job->announced.first);
    }
    for (struct fetch *fetch = job->results->fetch, *next; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->job == job) {
            fetch_cancel(fetch);
        }
    }
}

void job_finish(struct job *job)
{
    if (job->options.unfinished != NULL) {
        *job->options.unfinished -= job->unfinished;
    }
    job->unfinished = 0;
}

void job_count_finished(struct job *job, size_t tasks)
{
    if (job->options.unfinished != NULL && tasks <= job->unfinished) {
        job->unfinished -= tasks;
        *job->options.unfinished -= tasks;
    }
}

static void layer_fini(struct layer *layer)
{
    free(layer->set);
    free(layer->noted);
    free(layer->at);
    layer->set = NULL;
    layer->noted = NULL;
    layer->at = NULL;
}

static void job_free(struct job *job)
{
    job_drop_undelivered(job);
    job_unlist(job, JOBS_STIRRED);
    job_unlist(job, JOBS_UNFLUSHED);
    job_finish(job);
    while (job->note != NULL) {
        struct note *note = job->note;

        job->note = note->next;
        job->results->overhead -= sizeof(*note) + note->size;
        free(note);
    }
    for (uint32_t i = 0; i < job->layers; i++) {
        layer_fini(&job->layer[i]);
    }
    for (size_t i = 0; i < job->failures; i++) {
        failure_unref(job->failed[i].why);
    }
    free(job->failed);
    free(job->with[0]);
    free(job->with[1]);
    free(job->layer);
    free(job->read);
    free(job->cancelled);
    free(job->kept);
    free(job);
}

void results_destroy(struct results *results)
{
    if (results == NULL) {
        return;
    }
    while (results->jobs != NULL) {
        struct job *job = results->jobs;

        results->jobs = job->next;
        job_free(job);
    }
    extends_fini(&results->extends);
    transfers_destroy(results->transfers);
    map_fini(&results->fetches);
    map_fini(&results->numbers);
    for (size_t i = 0; i < results->sources; i++) {
        for (size_t j = 0; j < results->source[i].endpoints; j++) {
            free(results->source[i].endpoint[j]);
        }
        free(results->source[i].endpoint);
    }
    free(results->source);
    buffer_unref(results->current);
    free(results->current_note);
    free(results);
}

static struct map_key number_key(uint32_t id)
{
    return (struct map_key){0, id};
}

struct job *results_find_job(const struct results *results, uint32_t id)
{
    struct job *job = results->found;

    if (job != NULL && job->id == id) {
        return job;
    }
    job = map_get(&results->numbers, number_key(id));
    if (job != NULL) {
        ((struct results *)(uintptr_t)results)->found = job; // remembered, no more
    }
    return job;
}

struct job *results_pool_job(const struct results *results, const size_t *unfinished, uint32_t *id)
{
    struct job *job = results->jobs;

    while (job != NULL && job->options.unfinished != unfinished) {
        job = job->next;
    }
    if (job != NULL) {
        *id = job->id;
    }
    return job;
}

bool results_has_job(const struct results *results, uint32_t job)
{
    return results_find_job(results, job) != NULL;
}

static int add_layer(struct job *job, uint32_t tasks, bool wanted)
{
    if (job->layers == job->layers_room) {
        uint32_t room = job->layers_room == 0 ? 4 : 2 * job->layers_room;
        struct layer *grown = realloc(job->layer, room * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        job->layer = grown;
        for (int k = 0; job->options.ordered && k < 2; k++) {
            uint64_t *with = calloc((room + 63) / 64, sizeof(*with));

            if (with == NULL) {
                return -ENOMEM;
            }
            if (job->with[k] != NULL) {
                memcpy(with, job->with[k], (job->layers + 63) / 64 * sizeof(*with));
            }
            free(job->with[k]);
            job->with[k] = with;
        }
        job->layers_room = room;
    }
    memset(&job->layer[job->layers], 0, sizeof(*job->layer));
    job->layer[job->layers].tasks = job->layer[job->layers].held = tasks;
    job->layer[job->layers].wanted = wanted;
    job->layers++;
    return 0;
}

static int add_job(struct results *results, uint32_t id, const struct results_job_options *options,
                   struct job **out, struct error *err)
{
    struct job *job;

    if (results_find_job(results, id) != NULL) {
        return error_set(err, EEXIST, "job %u is known already", id);
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL || (job->read = malloc(READS_MAX * sizeof(*job->read))) == NULL) {
        free(job);
        return error_no_memory(err);
    }
    job->id = id;
    job->options = *options;
    job->results = results;
    job->note_end = &job->note;
    *out = job;
    return 0;
}

static int add_graph(struct job *job, const Dray__Graph *graph, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; graph != NULL && i < graph->n_layer && rc == 0; i++) {
        rc = add_layer(job, graph->layer[i]->tasks, graph->layer[i]->wanted);
    }
    return rc == 0 ? 0 : error_no_memory(err);
}

static int link_job(struct results *results, struct job *job, struct error *err)
{
    if (map_put(&results->numbers, number_key(job->id), job) != 0) {
        return error_no_memory(err);
    }
    farewell_forget(results, job->id);
    job->next = results->jobs;
    if (results->jobs != NULL) {
        results->jobs->previous = job;
    }
    results->jobs = job;
    return 0;
}

int results_add_job(struct results *results, uint32_t id, const Dray__Graph *graph,
                    const struct results_job_options *options, struct error *err)
{
    struct job *job = NULL;
    int rc = add_job(results, id, options, &job, err);

    if (rc != 0) {
        return rc;
    }
    rc = add_graph(job, graph, err);
    rc = rc == 0 ? link_job(results, job, err) : rc;
    if (rc != 0) {
        job_free(job);
    }
    return rc;
}

int results_adopt_job(struct results *results, const Dray__Attached *attached,
                      const struct results_job_options *options, struct error *err)
{
    struct job *job = NULL;
    int rc = add_job(results, attached->job, options, &job, err);

    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < attached->n_layer && rc == 0; i++) {
        if (attached->layer[i]->tasks < 1 || attached->layer[i]->tasks > GRAPH_TASKS_MAX) {
            rc = error_set(err, EPROTO, "the broker says that layer %zu of job %u has %u tasks", i,
                           attached->job, attached->layer[i]->tasks);
        } else if (add_layer(job, attached->layer[i]->tasks, attached->layer[i]->wanted) != 0) {
            rc = error_no_memory(err);
        }
    }
    rc = rc == 0 ? link_job(results, job, err) : rc;
    if (rc != 0) {
        job_free(job);
    }
    return rc;
}

void results_drop_job(struct results *results, uint32_t id)
{
    struct job *job = map_remove(&results->numbers, number_key(id));

    if (job == NULL) {
        return;
    }
    *(job->previous != NULL ? &job->previous->next : &results->jobs) = job->next;
    if (job->next != NULL) {
        job->next->previous = job->previous;
    }
    if (results->found == job) {
        results->found = NULL;
    }
    results->returning -= job->attach_tag != 0;
    extends_forget(&results->extends, id);
    job_free(job);
}

void results_keep_job(struct results *results, uint32_t id, const char *name)
{
    struct job *job = results_find_job(results, id);

    if (job != NULL) {
        free(job->kept);
        job->kept = strdup(name); // without memory: ended with its pool, as if it had not been kept
    }
}

void results_unkeep(struct results *results, const char *name)
{
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        if (job->kept != NULL && strcmp(job->kept, name) == 0) {
            free(job->kept);
            job->kept = NULL;
        }
    }
}

bool results_job_kept(const struct job *job)
{
    return job->kept != NULL;
}

size_t results_job_unfinished(const struct job *job)
{
    return job->unfinished;
}

void results_sent(struct job *job, uint32_t layers)
{
    job->sent = layers;
}

bool results_job_ended(const struct job *job, struct error *why)
{
    if (!job->ended || job->end.type == DRAY_DONE) {
        return false;
    }
    if (why != NULL) {
        error_set(why, job->end.error.code > 0 ? job->end.error.code : EIO, "%s", job->end.error.text);
    }
    return true;
}

void results_fail_job(struct job *job, int code, const char *text)
{
    if (job->ended && job->end.type != DRAY_DONE) {
        return;
    }
    job_drop_undelivered(job);
    memset(&job->end, 0, sizeof(job->end));
    job->end.type = DRAY_FAILED;
    job->end.job = job->id;
    job->end.layer = job->end.index = UINT32_MAX;
    job->end.error.code = code;
    snprintf(job->end.error.text, sizeof(job->end.error.text), "%s", text);
    job->ended = true;
    job->end_delivered = false;
    job_list(job, JOBS_STIRRED);
    job_finish(job);
    if (job->results->gather != NULL) {
        gather_job_ended(job->results->gather, job);
    }
}

void results_refused(struct results *results, uint32_t id, const Dray__Failure *why)
{
    struct job *job = results_find_job(results, id);

    if (job != NULL) {
        results_fail_job(job, why->code > 0 ? why->code : EINVAL, why->text);
    }
}

// ---- layers that come later -----------------------------------------------------------------

int results_open_layers(const struct results *results, uint32_t id, uint32_t *layers, struct error *err)
{
    const struct job *job = results_find_job(results, id);

    if (job == NULL) {
        return error_set(err, ENOENT, "job %u is not one of this connection", id);
    }
    if (results_job_ended(job, err)) {
        return -job->end.error.code;
    }
    if (!job->options.open || job->options.unfinished != NULL) {
        return error_set(err, EPIPE, "job %u takes no more layers", id);
    }
    *layers = job->layers;
    return 0;
}

int results_add_layers(struct results *results, uint32_t id, const Dray__Graph *graph, struct error *err)
{
    struct job *job = results_find_job(results, id);
    uint32_t before = job->layers;
    uint32_t *tasks = malloc((before + 1) * sizeof(*tasks));
    int rc;

    if (tasks == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < before; i++) {
        tasks[i] = job->layer[i].tasks;
    }
    rc = graph_check_more(graph, before, tasks, err);
    free(tasks);
    if (rc == 0) {
        rc = add_graph(job, graph, err);
        if (rc != 0) {
            job->layers = before;
        }
    }
    return rc;
}

void results_cut_layers(struct results *results, uint32_t id, uint32_t layers)
{
    struct job *job = results_find_job(results, id);

    if (job != NULL && layers < job->layers) {
        job->layers = layers; // nothing has come of the others
    }
}

void results_close_job(struct results *results, uint32_t id)
{
    struct job *job = results_find_job(results, id);

    if (job != NULL) {
        job->options.open = false;
        job_list(job, JOBS_UNFLUSHED); // it may be over
    }
}

int results_begin_layer(struct job *job, struct error *err)
{
    return add_layer(job, 0, true) == 0 ? 0 : error_no_memory(err);
}

void results_grow_layer(struct job *job, uint32_t number, uint32_t tasks)
{
    struct layer *layer = &job->layer[number];

    layer->tasks += tasks;
    layer->held += tasks;
    job->unfinished += tasks;
    *job->options.unfinished += tasks;
}

int results_extend(struct results *results, uint32_t job, uint32_t first_layer, uint32_t layers,
                   uint8_t **graph, size_t size, bool last, bool must, struct error *err)
{
    int rc = results->link == LINK_UP ? extends_send(&results->extends, results->uplink, false, err)
                                      : error_set(err, EAGAIN, "the connection to the broker is lost");

    if (rc != 0 && (rc != -EAGAIN || !must)) {
        return rc;
    }
    rc = extends_add(&results->extends, job, first_layer, layers, graph, size, last, err);
    if (rc == 0 && results->link == LINK_UP) {
        rc = extends_send(&results->extends, results->uplink, false, err);
        rc = rc == -EAGAIN ? 0 : rc; // with the next one, or the next flush
        if (rc != 0) {
            extends_take_back(&results->extends);
        }
    }
    return rc;
}

void results_extended(struct results *results, const Dray__Extended *extended)
{
    extends_confirm(&results->extends, extended->job, extended->layers, extended->has_last && extended->last);
    if (results->link == LINK_UP) {
        extends_send(&results->extends, results->uplink, false, NULL); // or with the next one
    }
}

bool results_unconfirmed(const struct results *results, uint32_t job)
{
    return extends_open(&results->extends, job);
}

// ---- futures ----------------------------------------------------------------------------------

static int find_layer(const struct results *results, const struct dray_future *future, struct job **job,
                      struct error *err)
{
    struct job *found = results_find_job(results, future->job);

    if (found == NULL) {
        return error_set(err, ENOENT, "job %u is not one of this connection", future->job);
    }
    if (future->layer >= found->layers || future->index >= found->layer[future->layer].tasks) {
        return error_set(err, ENOENT, "job %u has no task %u of layer %u", future->job, future->index,
                         future->layer);
    }
    if (found->layer[future->layer].gone ||
        layer_has(&found->layer[future->layer], TASK_GONE, future->index)) {
        return error_set(err, ENOENT, "task %u of layer %u of job %u was released", future->index,
                         future->layer, future->job);
    }
    *job = found;
    return 0;
}

int results_layer_tasks(const struct results *results, const struct dray_future *future, uint32_t *tasks,
                        struct error *err)
{
    struct job *job = NULL;
    int rc = find_layer(results, future, &job, err);

    if (rc == 0) {
        *tasks = job->layer[future->layer].tasks;
    }
    return rc;
}

bool results_unsent(const struct results *results, const struct dray_future *future)
{
    const struct job *job = results_find_job(results, future->job);

    return job != NULL && job->options.unfinished != NULL && future->layer >= job->sent;
}

int results_done(const struct results *results, const struct dray_future *future, struct error *err)
{
    struct job *job = NULL;
    int rc = find_layer(results, future, &job, err);

    if (rc != 0) {
        return rc;
    }
    return results_job_ended(job, NULL) || layer_has(&job->layer[future->layer], TASK_HERE, future->index);
}

// None of these was released before.
static void release_range(struct job *job, uint32_t layer_number, uint32_t first, uint32_t count)
{
    struct layer *layer = &job->layer[layer_number];
    uint32_t fresh = 0;

    job_forget_range(job, layer_number, first, count);
    for (uint32_t at = first; at < first + count;) {
        bool here;
        uint32_t n = layer_alike(layer, TASK_HERE, at, first + count, &here);

        fresh += here ? 0 : n;
        at += n;
    }
    job_count_finished(job, fresh);
    layer_add(layer, TASK_HERE, first, count);
    layer_add(layer, TASK_GONE, first, count);
    layer->held -= count;
    job_mark_read(job, layer_number, first, count);
}

static void layer_let_go(struct job *job, struct layer *layer)
{
    layer_fini(layer);
    layer->gone = true;
    job->layers_gone++;
    job_list(job, JOBS_UNFLUSHED);
}

static void miss_range(struct job *job, struct layer *layer, uint32_t first, uint32_t count)
{
    static const enum task_set SETS[] = {TASK_HERE, TASK_TAKEN, TASK_GONE, TASK_FREED};

    for (size_t i = 0; i < sizeof(SETS) / sizeof(SETS[0]); i++) {
        layer_add(layer, SETS[i], first, count);
    }
    layer->held -= count;
    job_count_finished(job, count);
}

void job_miss_results(struct job *job)
{
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = &job->layer[l];

        for (uint32_t at = 0; layer->wanted && !layer->gone && at < layer->tasks;) {
            bool here;
            uint32_t n = layer_alike(layer, TASK_HERE, at, layer->tasks, &here);

            if (!here && layer_prepare(layer) == 0) { // without memory they are waited for
                miss_range(job, layer, at, n);
            }
            at += n;
        }
        if (layer->wanted && !layer->gone && layer->held == 0) {
            layer_let_go(job, layer);
        }
    }
}

void results_release(struct results *results, uint32_t id, uint32_t layer_number, uint32_t first,
                     uint32_t count)
{
    struct job *job = results_find_job(results, id);
    struct layer *layer;

    if (job == NULL || layer_number >= job->layers || job->layer[layer_number].gone) {
        return;
    }
    layer = &job->layer[layer_number];
    if (first >= layer->tasks || layer_prepare(layer) != 0) {
        return; // without memory it is released with the job
    }
    count = count < layer->tasks - first ? count : layer->tasks - first;
    for (uint32_t at = first; at < first + count;) {
        bool gone;
        uint32_t n = layer_alike(layer, TASK_GONE, at, first + count, &gone);

        if (!gone) {
            release_range(job, layer_number, at, n);
        }
        at += n;
    }
    if (layer->held == 0) {
        layer_let_go(job, layer);
    }
}
