#include "client/lib/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/results_state.h"

struct result results_taken;

static void transfer_done(void *context, void *owner, struct buffer *bytes);
static void transfer_lost(void *context, void *owner, const struct error *why);

int results_create(struct uplink *uplink, int epoll, uint64_t bytes_max, struct results **out,
                   struct error *err)
{
    struct results *results = calloc(1, sizeof(*results));
    struct transfers_listener listener = {results, transfer_done, transfer_lost};
    int rc;

    if (results == NULL) {
        return error_no_memory(err);
    }
    results->uplink = uplink;
    results->bytes_max = bytes_max;
    rc = transfers_create(uplink, epoll, &listener, &results->transfers, err);
    if (rc != 0) {
        free(results);
        return rc;
    }
    *out = results;
    return 0;
}

// ---- results of a job -----------------------------------------------------------------

void result_set_where(struct result *result, const Dray__Result *where)
{
    if (result->where != NULL) {
        dray__result__free_unpacked(result->where, NULL);
    }
    result->where = NULL;
    if (where != NULL) {
        size_t size = dray__result__get_packed_size(where);
        uint8_t *packed = malloc(size);

        if (packed != NULL) {
            dray__result__pack(where, packed);
            result->where = dray__result__unpack(NULL, size, packed);
            free(packed);
        }
    }
}

void result_unreserve(struct result *result)
{
    result->job->results->bytes_held -= result->reserved;
    result->reserved = 0;
}

static void list_remove(struct result *result)
{
    struct job *job = result->job;

    if (result->previous != NULL) {
        result->previous->next = result->next;
    } else {
        job->list[result->state].first = result->next;
    }
    if (result->next != NULL) {
        result->next->previous = result->previous;
    } else {
        job->list[result->state].last = result->previous;
    }
    job->undelivered--;
}

void result_append(struct result *result, enum result_state state)
{
    struct job *job = result->job;

    result->state = state;
    result->next = NULL;
    result->previous = job->list[state].last;
    if (result->previous != NULL) {
        result->previous->next = result;
    } else {
        job->list[state].first = result;
    }
    job->list[state].last = result;
    job->undelivered++;
}

void result_move(struct result *result, enum result_state state)
{
    list_remove(result);
    result_append(result, state);
}

void result_forget(struct result *result)
{
    list_remove(result);
    if (result->transfer != NULL) {
        transfers_cancel(result->job->results->transfers, result->transfer);
    }
    result_unreserve(result);
    result_set_where(result, NULL);
    buffer_unref(result->bytes);
    free(result);
}

void results_drop_undelivered(struct job *job)
{
    for (int state = 0; state < RESULT_STATES; state++) {
        while (job->list[state].first != NULL) {
            struct result *result = job->list[state].first;

            job->layer[result->layer].result[result->index] = RESULT_TAKEN;
            result_forget(result);
        }
    }
}

static void job_free(struct job *job)
{
    if (job->layer != NULL) {
        results_drop_undelivered(job);
    }
    while (job->note != NULL) {
        struct note *note = job->note;

        job->note = note->next;
        free(note);
    }
    for (uint32_t i = 0; job->layer != NULL && i < job->layers; i++) {
        free(job->layer[i].result);
        free(job->layer[i].noted);
    }
    free(job->layer);
    free(job->read);
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
    transfers_destroy(results->transfers);
    buffer_unref(results->current);
    free(results->current_note);
    free(results);
}

struct job *results_find_job(const struct results *results, uint32_t id)
{
    struct job *job = results->jobs;

    while (job != NULL && job->id != id) {
        job = job->next;
    }
    return job;
}

bool results_has_job(const struct results *results, uint32_t job)
{
    return results_find_job(results, job) != NULL;
}

int results_add_job(struct results *results, uint32_t id, const Dray__Graph *graph,
                    const struct results_job_options *options, struct error *err)
{
    struct job *job;

    if (results_find_job(results, id) != NULL) {
        return error_set(err, EEXIST, "job %u is known already", id);
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return error_no_memory(err);
    }
    job->layer = calloc(graph->n_layer > 0 ? graph->n_layer : 1, sizeof(*job->layer));
    job->read = malloc(2 * FREE_BATCH * sizeof(*job->read));
    if (job->layer == NULL || job->read == NULL) {
        job_free(job);
        return error_no_memory(err);
    }
    for (size_t i = 0; i < graph->n_layer; i++) {
        job->layer[i].tasks = graph->layer[i]->tasks;
        job->layer[i].wanted = graph->layer[i]->wanted;
    }
    job->layers = (uint32_t)graph->n_layer;
    job->id = id;
    job->options = *options;
    job->results = results;
    job->note_end = &job->note;
    job->next = results->jobs;
    results->jobs = job;
    return 0;
}

void results_drop_job(struct results *results, uint32_t id)
{
    for (struct job **link = &results->jobs; *link != NULL; link = &(*link)->next) {
        if ((*link)->id == id) {
            struct job *job = *link;

            *link = job->next;
            job_free(job);
            return;
        }
    }
}

// ---- fetching ---------------------------------------------------------------------------

void results_fail_job(struct job *job, int code, const char *text)
{
    if (job->ended && job->end.type != DRAY_DONE) {
        return;
    }
    results_drop_undelivered(job);
    memset(&job->end, 0, sizeof(job->end));
    job->end.type = DRAY_FAILED;
    job->end.job = job->id;
    job->end.layer = job->end.index = UINT32_MAX;
    job->end.error.code = code;
    snprintf(job->end.error.text, sizeof(job->end.error.text), "%s", text);
    job->ended = true;
}

// Tells the broker that a result need not be kept; detached jobs keep theirs for others.
static void mark_read(struct job *job, uint32_t layer, uint32_t index)
{
    if (job->options.detached) {
        return;
    }
    if (job->reads == FREE_BATCH) {
        results_flush(job->results);
    }
    if (job->reads < FREE_BATCH) { // else: not sent now; freed with the whole job
        job->read[2 * job->reads] = layer;
        job->read[2 * job->reads + 1] = index;
        job->reads++;
    }
}

void result_make_ready(struct result *result, struct buffer *bytes)
{
    struct results *results = result->job->results;

    result_unreserve(result);
    result->bytes = bytes;
    result->reserved = bytes->size;
    results->bytes_held += bytes->size;
    result_move(result, RESULT_READY);
    result_set_where(result, NULL);
    mark_read(result->job, result->layer, result->index);
}

static void fetch(struct result *result)
{
    struct results *results = result->job->results;
    struct error err = {0};

    result->reserved = result->where->bytes;
    results->bytes_held += result->reserved;
    result_move(result, RESULT_FETCHING);
    if (transfers_start(results->transfers, result->where, result, &result->transfer, &err) != 0) {
        result_unreserve(result);
        results_fail_job(result->job, err.code, err.text);
    }
}

struct result *results_next_in_order(const struct job *job)
{
    for (uint32_t i = 0; i < job->layers; i++) {
        const struct layer *layer = &job->layer[i];

        if (layer->result != NULL && layer->next < layer->tasks && layer->result[layer->next] != NULL &&
            layer->result[layer->next] != RESULT_TAKEN) {
            return layer->result[layer->next];
        }
    }
    return NULL;
}

static bool has_room(const struct results *results, uint64_t bytes)
{
    return results->bytes_held == 0 ||
           (bytes <= results->bytes_max && results->bytes_held <= results->bytes_max - bytes);
}

// Begins to fetch what there is room for.
void results_admit(struct results *results)
{
    if (results->admitting) {
        return;
    }
    results->admitting = true;
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        // In an ordered job all may wait for this one: it needs no room.
        struct result *first = job->options.ordered ? results_next_in_order(job) : NULL;

        if (first != NULL && first->state == RESULT_ANNOUNCED) {
            fetch(first);
        }
        while ((first = job->list[RESULT_ANNOUNCED].first) != NULL &&
               transfers_count(results->transfers) < FETCHES_MAX && has_room(results, first->where->bytes)) {
            fetch(first);
        }
    }
    results->admitting = false;
}

static void transfer_done(void *context, void *owner, struct buffer *bytes)
{
    struct result *result = owner;

    result->transfer = NULL;
    result_make_ready(result, bytes);
    results_admit(context);
}

static void transfer_lost(void *context, void *owner, const struct error *why)
{
    struct result *result = owner;

    result->transfer = NULL;
    result_unreserve(result);
    if (why->code == ENOMEM) {
        results_fail_job(result->job, why->code, why->text);
        return;
    }
    result->lost_us = monotonic_us();
    result_move(result, RESULT_LOST);
    results_admit(context);
}
