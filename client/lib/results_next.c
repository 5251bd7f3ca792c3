#include "client/lib/results_state.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/partition.h"

// The batch that gives the job's next result; NULL: none is here.
static struct batch *deliverable(const struct job *job)
{
    if (!job->options.ordered) {
        return job->ready.first;
    }
    for (uint32_t i = 0; (i = job_layer_with(job, false, i)) < job->layers; i++) {
        struct layer *layer = &job->layer[i];

        while (layer->next < layer->tasks && layer_has(layer, TASK_TAKEN, layer->next)) {
            layer->next++;
        }
        if (layer->at != NULL && layer->next < layer->tasks && layer->at[layer->next] != NULL &&
            !layer->at[layer->next]->announced) {
            return layer->at[layer->next];
        }
    }
    return NULL;
}

static bool end_due(const struct job *job)
{
    return job->ended && !job->end_delivered && job->undelivered == 0;
}

static bool job_pending(const struct job *job)
{
    return job->note != NULL || deliverable(job) != NULL || job->progress_fresh || end_due(job);
}

// The first of those for which something has come; NULL: none.
static struct job *pending(struct results *results)
{
    struct job *job;

    while ((job = results->list[JOBS_STIRRED].first) != NULL && !job_pending(job)) {
        job_unlist(job, JOBS_STIRRED);
    }
    return job;
}

bool results_pending(struct results *results)
{
    return pending(results) != NULL;
}

static void give_note(struct results *results, struct job *job, struct dray_event *event)
{
    struct note *note = job->note;

    job->note = note->next;
    if (job->note == NULL) {
        job->note_end = &job->note;
    }
    results->overhead -= sizeof(*note) + note->size;
    results->current_note = note;
    event->type = DRAY_NOTE;
    event->layer = note->layer;
    event->index = note->index;
    event->data = note->data;
    event->size = note->size;
}

static void give_bytes(struct results *results, struct batch *batch, uint64_t offset, uint64_t size,
                       struct dray_event *event)
{
    const uint8_t *data = batch->bytes->data + offset;

    if (results->current != batch->bytes) {
        buffer_unref(results->current);
        results->current = buffer_ref(batch->bytes);
    }
    results->current_data = data;
    results->current_size = size;
    event->data = data;
    if (size >= PARTITION_HEADER && memcmp(data, "DPT1", 4) == 0 && data[4] == PARTITION_BYTES) {
        event->value.data = data + PARTITION_HEADER;
        event->value.size = size - PARTITION_HEADER;
    }
}

static void give_result(struct results *results, struct batch *batch, struct dray_event *event)
{
    uint32_t index;
    uint64_t offset, size;

    batch_take(batch, &index, &offset, &size);
    layer_add(&batch->job->layer[batch->layer], TASK_TAKEN, index, 1);
    event->layer = batch->layer;
    event->index = index;
    if (batch->failure != NULL) {
        event->type = DRAY_TASK_FAILED;
        event->error.code = batch->failure->code;
        snprintf(event->error.text, sizeof(event->error.text), "%s", batch->failure->text);
    } else {
        event->type = DRAY_PARTITION;
        event->size = size;
        if (batch->bytes != NULL) {
            give_bytes(results, batch, offset, size, event);
        }
    }
    if (batch->left == 0) {
        batch_destroy(batch);
        fetches_admit(results);
    }
}

int results_next(struct results *results, struct dray_event *event)
{
    struct job *job = pending(results);
    struct batch *batch;

    results->current_data = NULL;
    if (results->current_note != NULL) {
        free(results->current_note);
        results->current_note = NULL;
    }
    if (job == NULL) {
        buffer_unref(results->current);
        results->current = NULL;
        return 0;
    }
    memset(event, 0, offsetof(struct dray_event, error)); // not all of the text, for each result
    event->error.code = 0;
    event->error.text[0] = '\0';
    event->job = job->id;
    if (job->note != NULL) {
        give_note(results, job, event);
    } else if ((batch = deliverable(job)) != NULL) {
        give_result(results, batch, event);
    } else if (job->progress_fresh) {
        *event = job->progress;
        if (event->waiting != NULL) {
            memcpy(results->current_waiting, job->waiting, sizeof(results->current_waiting));
            event->waiting = results->current_waiting;
        }
        job->progress_fresh = false;
    } else {
        *event = job->end;
        job->end_delivered = true;
        job_list(job, JOBS_UNFLUSHED);
    }
    return 1;
}

struct buffer *results_current(struct results *results)
{
    const uint8_t *data = results->current_data;
    struct buffer *copy;
    uint8_t *to;

    if (data == NULL) {
        return NULL;
    }
    if (data == results->current->data && results->current_size == results->current->size) {
        return buffer_ref(results->current);
    }
    copy = buffer_create(results->current_size, &to);
    if (copy != NULL) {
        memcpy(to, data, results->current_size);
    }
    return copy;
}
