#include "client/lib/results_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/socket.h"

// ---- workers -----------------------------------------------------------------------------------

static int source_add(struct results *results, uint32_t worker, uint64_t incarnation, char *const *endpoint,
                      size_t endpoints)
{
    struct source *source;

    if (results->sources == results->sources_room) {
        size_t room = results->sources_room == 0 ? 8 : 2 * results->sources_room;
        struct source *grown = realloc(results->source, room * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        results->source = grown;
        results->sources_room = room;
    }
    source = &results->source[results->sources];
    memset(source, 0, sizeof(*source));
    source->worker = worker;
    source->incarnation = incarnation;
    source->endpoint = calloc(endpoints + 1, sizeof(char *));
    if (source->endpoint == NULL) {
        return -ENOMEM;
    }
    while (source->endpoints < endpoints) {
        source->endpoint[source->endpoints] = strdup(endpoint[source->endpoints]);
        if (source->endpoint[source->endpoints++] == NULL) {
            break; // a string short: then by way of the broker
        }
    }
    if (source->endpoints > 0 && source->endpoint[source->endpoints - 1] == NULL) {
        source->endpoints--;
    }
    results->sources++;
    return 0;
}

// A batch that brings its results along need not say where the worker can be reached.
static bool is_same(const struct source *source, char *const *endpoint, size_t endpoints)
{
    if (endpoints == 0) {
        return true;
    }
    for (size_t i = 0; i < endpoints; i++) {
        if (endpoints != source->endpoints || strcmp(source->endpoint[i], endpoint[i]) != 0) {
            return false;
        }
    }
    return true;
}

uint16_t source_number(struct results *results, bool has_worker, uint32_t worker, uint64_t incarnation,
                       char *const *endpoint, size_t endpoints)
{
    if (!has_worker) {
        return 0;
    }
    for (size_t i = results->sources; i-- > 1;) { // new ones are asked for more often
        const struct source *source = &results->source[i];

        if (source->worker == worker && source->incarnation == incarnation &&
            is_same(source, endpoint, endpoints)) {
            return (uint16_t)i;
        }
    }
    if (results->sources == 0 && source_add(results, 0, 0, NULL, 0) != 0) {
        return 0;
    }
    if (results->sources >= SOURCES_MAX ||
        source_add(results, worker, incarnation, endpoint, endpoints) != 0) {
        return 0;
    }
    return (uint16_t)(results->sources - 1);
}

// ---- one fetch -----------------------------------------------------------------------------------

static void unreserve(struct fetch *fetch)
{
    fetch->job->results->bytes_held -= fetch->reserved;
    fetch->reserved = 0;
}

void fetch_cancel(struct fetch *fetch)
{
    struct results *results = fetch->job->results;

    if (fetch->transfer != NULL) {
        transfers_cancel(results->transfers, fetch->transfer);
    } else {
        results->lost--;
    }
    unreserve(fetch);
    map_remove(&results->fetches, map_key_task(fetch->job->id, fetch->layer, fetch->index));
    *(fetch->previous != NULL ? &fetch->previous->next : &results->fetch) = fetch->next;
    if (fetch->next != NULL) {
        fetch->next->previous = fetch->previous;
    }
    if (fetch->for_user) {
        fetch->job->undelivered--;
        job_list(fetch->job, JOBS_STIRRED);
    }
    free(fetch);
}

// size: expected, UINT64_MAX when it is not known.
static int start(struct fetch *fetch, uint64_t size)
{
    struct job *job = fetch->job;
    struct results *results = job->results;
    uint16_t number = job->layer[fetch->layer].where[fetch->index];
    Dray__Result at = DRAY__RESULT__INIT;
    int rc;

    at.job = job->id;
    at.layer = fetch->layer;
    at.index = fetch->index;
    at.bytes = size;
    if (number > 0) {
        const struct source *source = &results->source[number];

        at.worker = source->worker;
        at.incarnation = source->incarnation;
        at.endpoint = source->endpoint;
        at.n_endpoint = source->endpoints;
    }
    rc = transfers_start(results->transfers, &at, fetch, &fetch->transfer, NULL);
    if (rc == 0) {
        results->lost--;
    }
    return rc;
}

static int fetch_create(struct job *job, uint32_t layer, uint32_t index, struct fetch **out)
{
    struct results *results = job->results;
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (fetch == NULL || map_put(&results->fetches, map_key_task(job->id, layer, index), fetch) != 0) {
        free(fetch);
        return -ENOMEM;
    }
    fetch->job = job;
    fetch->layer = layer;
    fetch->index = index;
    fetch->lost_us = monotonic_us();
    fetch->next = results->fetch;
    if (fetch->next != NULL) {
        fetch->next->previous = fetch;
    }
    results->fetch = fetch;
    results->lost++; // until it is under way
    *out = fetch;
    return 0;
}

struct fetch *fetch_find(const struct job *job, uint32_t layer, uint32_t index)
{
    return map_get(&job->results->fetches, map_key_task(job->id, layer, index));
}

static void begin_for_user(struct batch *batch)
{
    struct job *job = batch->job;
    struct fetch *fetch;
    uint32_t index;
    uint64_t offset, size;

    batch_take(batch, &index, &offset, &size);
    if (fetch_create(job, batch->layer, index, &fetch) != 0) {
        results_fail_job(job, ENOMEM, "no memory for the list of results");
        return;
    }
    fetch->for_user = true;
    job->undelivered++;
    fetch->reserved = size;
    job->results->bytes_held += size;
    if (batch->left == 0) {
        batch_destroy(batch);
    }
    if (start(fetch, size) != 0) {
        results_fail_job(job, ENOMEM, "no memory to fetch a result");
    }
}

int fetch_gathered(struct job *job, uint32_t layer, uint32_t index, struct error *err)
{
    struct fetch *fetch = fetch_find(job, layer, index);
    int rc;

    if (fetch == NULL) {
        if (job->layer[layer].where[index] == 0) {
            return error_set(err, ENOENT,
                             "the broker did not say where task %u of layer %u of job %u has its result",
                             index, layer, job->id);
        }
        rc = fetch_create(job, layer, index, &fetch);
        if (rc == 0) {
            rc = start(fetch, UINT64_MAX);
        }
        if (rc != 0) {
            if (fetch != NULL) {
                fetch_cancel(fetch);
            }
            return error_no_memory(err);
        }
    }
    fetch->for_gather = true;
    job_forget_range(job, layer, index, 1);
    return 0;
}

void fetch_moved(struct job *job, uint32_t layer, uint32_t index, bool same)
{
    struct fetch *fetch = fetch_find(job, layer, index);

    // What comes from there goes on.
    if (fetch == NULL || (same && fetch->transfer != NULL && transfers_direct(fetch->transfer))) {
        return;
    }
    if (fetch->transfer != NULL) {
        transfers_cancel(job->results->transfers, fetch->transfer);
        fetch->transfer = NULL;
        job->results->lost++;
    }
    fetch->lost_us = monotonic_us();
    start(fetch, UINT64_MAX); // without memory: with the next tick
}

// ---- what comes of it -----------------------------------------------------------------------------

static void give_to_user(struct fetch *fetch, struct buffer *bytes)
{
    struct job *job = fetch->job;
    struct batch *batch = batch_create(job, fetch->layer, 1, 0);

    if (batch == NULL) {
        results_fail_job(job, ENOMEM, "no memory for a result");
        return;
    }
    batch->ranges = batch->left = 1;
    batch->range[0] = (struct batch_range){.first = fetch->index, .count = 1};
    batch->size = bytes->size;
    batch->bytes = buffer_ref(bytes);
    batch->held = bytes->size;
    job->results->bytes_held += bytes->size;
    if (job_frees_read(job)) {
        job_mark_read(job, fetch->layer, fetch->index, 1);
    }
    batch_append(batch);
}

static void transfer_done(void *context, void *owner, struct buffer *bytes)
{
    struct results *results = context;
    struct fetch *fetch = owner;
    struct job *job = fetch->job;
    uint32_t layer = fetch->layer, index = fetch->index;
    bool gathered = fetch->for_gather;

    fetch->transfer = NULL;
    results->lost++;
    if (fetch->for_user) {
        unreserve(fetch);
        give_to_user(fetch, bytes); // fails the job without memory, and the fetch is gone then
    }
    fetch = fetch_find(job, layer, index);
    if (fetch != NULL) {
        fetch_cancel(fetch);
    }
    if (gathered && results->gather != NULL) {
        gather_put(results->gather, job, layer, index, bytes);
    }
    buffer_unref(bytes);
    fetches_admit(results);
}

static void transfer_lost(void *context, void *owner, const struct error *why)
{
    struct results *results = context;
    struct fetch *fetch = owner;

    fetch->transfer = NULL;
    results->lost++;
    if (why->code == ENOMEM) {
        if (fetch->for_gather && results->gather != NULL) {
            gather_fail(results->gather, fetch->job, ENOMEM, why->text);
        }
        if (fetch->for_user) {
            results_fail_job(fetch->job, ENOMEM, why->text);
        } else {
            fetch_cancel(fetch);
        }
        return;
    }
    unreserve(fetch);
    fetch->lost_us = monotonic_us();
    fetches_admit(results);
}

int fetches_create(struct results *results, int epoll, struct error *err)
{
    const struct transfers_listener listener = {results, transfer_done, transfer_lost};

    return transfers_create(results->uplink, epoll, &listener, &results->transfers, err);
}

// ---- which ones, and when ---------------------------------------------------------------------------

static bool has_room(const struct results *results, uint64_t bytes)
{
    return results->bytes_held == 0 ||
           (bytes <= results->bytes_max && results->bytes_held <= results->bytes_max - bytes);
}

// A few large ones, or many small ones.
static bool may_begin(struct results *results, uint64_t bytes)
{
    size_t count = transfers_count(results->transfers);

    // Many at a time, so that neighbours are asked for with one message.
    if (count >= SMALL_FETCHES_MAX) {
        results->resting = true;
    } else if (count <= SMALL_FETCHES_MAX / 2) {
        results->resting = false;
    }
    if (!has_room(results, bytes)) {
        return false;
    }
    return count < FETCHES_MAX || (bytes <= SMALL_BYTES && !results->resting);
}

static uint64_t next_size(const struct batch *batch)
{
    return batch_size_at(batch, batch->range[batch->at_range].size_at + batch->at);
}

void fetches_admit(struct results *results)
{
    if (results->admitting) {
        return;
    }
    results->admitting = true;
    for (struct job *job = results->list[JOBS_ANNOUNCED].first, *next; job != NULL; job = next) {
        next = job->list_next[JOBS_ANNOUNCED];
        if (!job->options.ordered && !may_begin(results, 0)) {
            break; // none of those behind it is ordered
        }
        // In an ordered job all may wait for these: they need no room.
        for (uint32_t i = 0; job->options.ordered && (i = job_layer_with(job, true, i)) < job->layers; i++) {
            struct layer *layer = &job->layer[i];

            if (layer->at != NULL && layer->next < layer->tasks && layer->at[layer->next] != NULL &&
                layer->at[layer->next]->announced) {
                begin_for_user(layer->at[layer->next]);
            }
        }
        while (job->announced.first != NULL && may_begin(results, next_size(job->announced.first))) {
            begin_for_user(job->announced.first);
        }
    }
    results->admitting = false;
}

void results_process(struct results *results)
{
    transfers_process(results->transfers);
}

void results_tick(struct results *results)
{
    uint64_t now = monotonic_us();

    transfers_tick(results->transfers);
    for (struct fetch *fetch = results->fetch; results->lost > 0 && fetch != NULL; fetch = fetch->next) {
        if (fetch->transfer == NULL && now - fetch->lost_us > LOST_US) {
            start(fetch, UINT64_MAX);
        }
    }
    fetches_admit(results);
}

void results_ask(struct results *results)
{
    transfers_flush(results->transfers);
}

bool results_ready(struct results *results)
{
    return transfers_ready(results->transfers);
}

bool results_fetching(const struct results *results)
{
    return results->fetch != NULL;
}
