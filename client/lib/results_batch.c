#include "client/lib/results_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- sets of tasks ---------------------------------------------------------------------------

static size_t words_of(const struct layer *layer)
{
    return ((size_t)layer->tasks + 63) / 64;
}

int layer_prepare(struct layer *layer)
{
    size_t words = words_of(layer);

    if (layer->set != NULL) {
        return 0;
    }
    layer->set = calloc(1, TASK_SETS * words * sizeof(uint64_t) + layer->tasks * sizeof(uint16_t));
    if (layer->set == NULL) {
        return -ENOMEM;
    }
    layer->where = (uint16_t *)(void *)(layer->set + TASK_SETS * words);
    return 0;
}

static uint64_t *words(const struct layer *layer, enum task_set set)
{
    return layer->set + (size_t)set * words_of(layer);
}

bool layer_has(const struct layer *layer, enum task_set set, uint32_t index)
{
    return layer->set != NULL && (words(layer, set)[index / 64] >> index % 64 & 1) != 0;
}

void layer_add(struct layer *layer, enum task_set set, uint32_t first, uint32_t count)
{
    uint64_t *word = words(layer, set);
    uint64_t end = (uint64_t)first + count;

    for (uint64_t i = first; i < end;) {
        uint64_t n = 64 - i % 64 < end - i ? 64 - i % 64 : end - i;
        uint64_t mask = n == 64 ? UINT64_MAX : ((UINT64_C(1) << n) - 1) << i % 64;

        word[i / 64] |= mask;
        i += n;
    }
}

uint32_t layer_alike(const struct layer *layer, enum task_set set, uint32_t index, uint32_t end, bool *in)
{
    const uint64_t *word;
    uint64_t i = index;

    if (layer->set == NULL) {
        *in = false;
        return end - index;
    }
    word = words(layer, set);
    *in = (word[i / 64] >> i % 64 & 1) != 0;
    while (i < end) {
        uint64_t others = (*in ? ~word[i / 64] : word[i / 64]) >> i % 64;

        if (others != 0) {
            i += (uint64_t)__builtin_ctzll(others);
            break;
        }
        i += 64 - i % 64;
    }
    return (uint32_t)(i < end ? i : end) - index;
}

// ---- failures ----------------------------------------------------------------------------------

struct failure *failure_create(int code, const char *text)
{
    size_t size = strnlen(text, DRAY_ERROR_TEXT - 1);
    struct failure *failure = malloc(sizeof(*failure) + size + 1);

    if (failure != NULL) {
        failure->refs = 1;
        failure->code = code;
        memcpy(failure->text, text, size);
        failure->text[size] = '\0';
    }
    return failure;
}

void failure_unref(struct failure *failure)
{
    if (failure != NULL && --failure->refs == 0) {
        free(failure);
    }
}

// ---- batches -------------------------------------------------------------------------------------

struct batch *batch_create(struct job *job, uint32_t layer, uint32_t ranges, size_t sizes)
{
    size_t size = sizeof(struct batch) + ranges * sizeof(struct batch_range);
    struct batch *batch = malloc(size + sizes * sizeof(uint64_t));

    if (batch == NULL) {
        return NULL;
    }
    memset(batch, 0, sizeof(*batch));
    batch->job = job;
    batch->layer = layer;
    batch->sizes = sizes > 0 ? (uint64_t *)(void *)((uint8_t *)batch + size) : NULL;
    batch->overhead = size + sizes * sizeof(uint64_t);
    job->results->overhead += batch->overhead;
    return batch;
}

// The indices that it still has, in `at` of an ordered job's layer.
static void point(struct batch *batch, struct batch *to)
{
    struct layer *layer = &batch->job->layer[batch->layer];

    for (uint32_t r = batch->at_range; layer->at != NULL && r < batch->ranges; r++) {
        for (uint32_t i = r == batch->at_range ? batch->at : 0; i < batch->range[r].count; i++) {
            layer->at[batch->range[r].first + i] = to;
        }
    }
}

// Its layer has one more, or one less.
static void count_batch(const struct batch *batch, bool more)
{
    struct job *job = batch->job;
    uint32_t number = batch->layer, *count = &job->layer[number].batches[batch->announced];
    uint64_t one = UINT64_C(1) << number % 64;

    if (!job->options.ordered) {
        return;
    }
    *count += more ? 1 : UINT32_MAX;
    if (*count > 0) {
        job->with[batch->announced][number / 64] |= one;
    } else {
        job->with[batch->announced][number / 64] &= ~one;
    }
}

uint32_t job_layer_with(const struct job *job, bool announced, uint32_t from)
{
    const uint64_t *word = job->with[announced];

    while (from < job->layers) {
        uint64_t rest = word[from / 64] >> from % 64;

        if (rest != 0) {
            from += (uint32_t)__builtin_ctzll(rest);
            break;
        }
        from += 64 - from % 64;
    }
    return from < job->layers ? from : job->layers;
}

void batch_append(struct batch *batch)
{
    struct job *job = batch->job;
    struct batch **first = batch->announced ? &job->announced.first : &job->ready.first;
    struct batch **last = batch->announced ? &job->announced.last : &job->ready.last;

    batch->next = NULL;
    batch->previous = *last;
    *(*last != NULL ? &(*last)->next : first) = batch;
    *last = batch;
    job->undelivered += batch->left;
    job_list(job, batch->announced ? JOBS_ANNOUNCED : JOBS_STIRRED);
    count_batch(batch, true);
    point(batch, batch);
}

static void batch_free(struct batch *batch)
{
    batch->job->results->bytes_held -= batch->held;
    batch->job->results->overhead -= batch->overhead;
    buffer_unref(batch->bytes);
    failure_unref(batch->failure);
    free(batch);
}

void batch_destroy(struct batch *batch)
{
    struct job *job = batch->job;
    struct batch **first = batch->announced ? &job->announced.first : &job->ready.first;
    struct batch **last = batch->announced ? &job->announced.last : &job->ready.last;

    if (batch->previous != NULL || *first == batch) { // else it is in no list
        *(batch->previous != NULL ? &batch->previous->next : first) = batch->next;
        *(batch->next != NULL ? &batch->next->previous : last) = batch->previous;
        job->undelivered -= batch->left;
        if (job->announced.first == NULL) {
            job_unlist(job, JOBS_ANNOUNCED);
        }
        job_list(job, JOBS_STIRRED); // its end may be all that is left
        count_batch(batch, false);
        point(batch, NULL);
    }
    batch_free(batch);
}

void batch_take(struct batch *batch, uint32_t *index, uint64_t *offset, uint64_t *size)
{
    struct layer *layer = &batch->job->layer[batch->layer];

    for (;;) {
        const struct batch_range *range = &batch->range[batch->at_range];
        uint32_t at = range->first + batch->at;

        *offset = batch->at == 0 ? range->offset : batch->at_offset;
        *size = batch_size_at(batch, range->size_at + batch->at);
        *index = at;
        batch->at_offset = *offset + *size;
        if (++batch->at == range->count) {
            batch->at = 0;
            batch->at_range++;
        }
        if (layer->at != NULL) {
            layer->at[at] = NULL;
        }
        if (!layer_has(layer, TASK_TAKEN, at)) {
            batch->left--;
            batch->job->undelivered--;
            return;
        }
    }
}

// How many of [first, first + count) wait in the batch.
static uint32_t waiting_in(const struct batch *batch, uint32_t first, uint32_t count)
{
    const struct layer *layer = &batch->job->layer[batch->layer];
    uint32_t waiting = 0;

    for (uint32_t r = batch->at_range; r < batch->ranges; r++) {
        const struct batch_range *range = &batch->range[r];
        uint32_t from = range->first + (r == batch->at_range ? batch->at : 0);
        uint32_t end = range->first + range->count;

        from = from > first ? from : first;
        end = end < first + count ? end : first + count;
        while (from < end) {
            bool taken;
            uint32_t n = layer_alike(layer, TASK_TAKEN, from, end, &taken);

            waiting += taken ? 0 : n;
            from += n;
        }
    }
    return waiting;
}

static void forget_in(struct batch *batch, uint32_t layer, uint32_t first, uint32_t count)
{
    while (batch != NULL) {
        struct batch *next = batch->next;
        uint32_t waiting = batch->layer == layer ? waiting_in(batch, first, count) : 0;

        batch->left -= waiting;
        batch->job->undelivered -= waiting;
        if (batch->left == 0) {
            batch_destroy(batch);
        }
        batch = next;
    }
}

void job_forget_range(struct job *job, uint32_t layer_number, uint32_t first, uint32_t count)
{
    struct layer *layer = &job->layer[layer_number];
    bool all_taken;

    if (layer_alike(layer, TASK_TAKEN, first, first + count, &all_taken) == count && all_taken) {
        return;
    }
    forget_in(job->ready.first, layer_number, first, count);
    forget_in(job->announced.first, layer_number, first, count);
    for (struct fetch *fetch = job->results->fetch, *next; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->job == job && fetch->layer == layer_number && fetch->index >= first &&
            fetch->index - first < count && fetch->for_user) {
            fetch->for_user = false;
            job->undelivered--;
            if (!fetch->for_gather) {
                fetch_cancel(fetch);
            }
        }
    }
    layer_add(layer, TASK_TAKEN, first, count);
    job_list(job, JOBS_STIRRED);
}
