#include "client/lib/results_state.h"

#include <stdlib.h>
#include <string.h>

void results_process(struct results *results)
{
    transfers_process(results->transfers);
}

void results_tick(struct results *results)
{
    uint64_t now = monotonic_us();

    transfers_tick(results->transfers);
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        struct result *lost;

        while ((lost = job->list[RESULT_LOST].first) != NULL && lost->where != NULL &&
               now - lost->lost_us > LOST_US) {
            result_move(lost, RESULT_ANNOUNCED);
        }
    }
    results_admit(results);
}

bool results_ready(struct results *results)
{
    return transfers_ready(results->transfers);
}

bool results_fetching(const struct results *results)
{
    for (const struct job *job = results->jobs; job != NULL; job = job->next) {
        if (job->list[RESULT_LOST].first != NULL) {
            return true;
        }
    }
    return transfers_count(results->transfers) != 0;
}

// ---- delivery --------------------------------------------------------------------------------

static struct result *deliverable(const struct job *job)
{
    struct result *result;

    if (!job->options.ordered) {
        return job->list[RESULT_READY].first;
    }
    result = results_next_in_order(job);
    return result != NULL && result->state == RESULT_READY ? result : NULL;
}

static bool end_due(const struct job *job)
{
    return job->ended && !job->end_delivered && job->undelivered == 0;
}

static bool job_pending(const struct job *job)
{
    return job->note != NULL || deliverable(job) != NULL || job->progress_fresh || end_due(job);
}

bool results_pending(const struct results *results)
{
    for (const struct job *job = results->jobs; job != NULL; job = job->next) {
        if (job_pending(job)) {
            return true;
        }
    }
    return false;
}

static void give_note(struct results *results, struct job *job, struct dray_event *event)
{
    struct note *note = job->note;

    job->note = note->next;
    if (job->note == NULL) {
        job->note_end = &job->note;
    }
    results->current_note = note;
    event->type = DRAY_NOTE;
    event->layer = note->layer;
    event->index = note->index;
    event->data = note->data;
    event->size = note->size;
}

static void give_result(struct results *results, struct result *result, struct dray_event *event)
{
    struct layer *layer = &result->job->layer[result->layer];

    results->current = result->bytes;
    result->bytes = NULL;
    event->type = DRAY_PARTITION;
    event->layer = result->layer;
    event->index = result->index;
    event->data = results->current->data;
    event->size = results->current->size;
    layer->result[result->index] = RESULT_TAKEN;
    while (layer->next < layer->tasks && layer->result[layer->next] == RESULT_TAKEN) {
        layer->next++;
    }
    result_forget(result);
    results_admit(results);
}

int results_next(struct results *results, struct dray_event *event)
{
    struct job *job = results->jobs;

    buffer_unref(results->current);
    results->current = NULL;
    free(results->current_note);
    results->current_note = NULL;
    while (job != NULL && !job_pending(job)) {
        job = job->next;
    }
    if (job == NULL) {
        return 0;
    }
    memset(event, 0, sizeof(*event));
    event->job = job->id;
    if (job->note != NULL) {
        give_note(results, job, event);
    } else if (deliverable(job) != NULL) {
        give_result(results, deliverable(job), event);
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
    }
    return 1;
}

struct buffer *results_current(struct results *results)
{
    return buffer_ref(results->current);
}

void results_flush(struct results *results)
{
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        Dray__Run run[FREE_BATCH];
        Dray__Run *runs[FREE_BATCH];
        uint32_t first[FREE_BATCH], count[FREE_BATCH];
        Dray__Free message = DRAY__FREE__INIT;
        size_t n = 0;

        for (size_t i = 0; i < job->reads; i++) {
            uint32_t layer = job->read[2 * i], index = job->read[2 * i + 1];

            if (n > 0 && run[n - 1].layer == layer && first[n - 1] + count[n - 1] == index) {
                count[n - 1]++;
                continue;
            }
            dray__run__init(&run[n]);
            run[n].job = job->id;
            run[n].layer = layer;
            run[n].n_first = run[n].n_count = 1;
            run[n].first = &first[n];
            run[n].count = &count[n];
            first[n] = index;
            count[n] = 1;
            runs[n] = &run[n];
            n++;
        }
        message.job = job->id;
        message.run = runs;
        message.n_run = n;
        if (n > 0 && uplink_send(results->uplink, FRAME_FREE, &message.base, NULL) == 0) {
            job->reads = 0;
        }
    }
}
