#include "broker/core/records.h"

#include <string.h>

#include "broker/core/outbox.h"

static struct sched_action *push(struct sched *sched, enum sched_record record, uint32_t job)
{
    struct sched_action *action = outbox_push(sched, ACTION_RECORD, 0, job);

    if (action != NULL) {
        action->record = record;
    }
    return action;
}

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

// Kept apart until one comes that does not go with it: between two of a range, workers are told to drop them.
void record_failed(const struct layer *layer, uint32_t i, int code, const char *text, const char *worker)
{
    struct sched *sched = layer->job->sched;
    struct sched_action *last = &sched->failed;

    if (!sched->options.records || sched->restoring) {
        return;
    }
    if (last->range.job == layer->job->number && last->range.layer == layer->number &&
        last->range.first + last->range.count == i && last->code == code && is_same(last->text, text) &&
        is_same(last->worker_name, worker)) {
        last->range.count++;
        return;
    }
    records_flush_failed(sched);
    last->range = (struct task_range){layer->job->number, layer->number, i, 1};
    last->code = code;
    last->text = text;
    // The worker may go with this step.
    last->worker_name = worker != NULL ? arena_strdup(&sched->arena, worker) : NULL;
}

void records_flush_failed(struct sched *sched)
{
    struct sched_action *action =
        sched->failed.range.job != 0 ? push(sched, RECORD_TASKS_FAILED, sched->failed.range.job) : NULL;

    if (action != NULL) {
        action->range = sched->failed.range;
        action->code = sched->failed.code;
        action->text = sched->failed.text;
        action->worker_name = sched->failed.worker_name;
    }
    memset(&sched->failed, 0, sizeof(sched->failed));
}

void record_refused(struct sched *sched, uint32_t number)
{
    if (sched->options.records) {
        push(sched, RECORD_JOB_FORGOTTEN, number);
    }
}

void record_not_extended(struct job *job, uint64_t id)
{
    struct sched_action *action =
        job->sched->options.records && id != 0 ? push(job->sched, RECORD_NOT_EXTENDED, job->number) : NULL;

    if (action != NULL) {
        action->key_lo = id;
    }
}

void record_worker_gone(struct sched *sched, uint64_t incarnation)
{
    struct sched_action *action = sched->options.records ? push(sched, RECORD_WORKER_GONE, 0) : NULL;

    if (action != NULL) {
        action->key_lo = incarnation;
    }
}

bool records_flush_layer(struct layer *layer)
{
    uint32_t first = 0;

    if (layer->over.word == NULL) {
        return true;
    }
    while ((first = bits_next(&layer->over, first)) != BITS_NONE) {
        uint32_t end = first + bits_run(&layer->over, first, UINT32_MAX);
        struct sched_action *action = push(layer->job->sched, RECORD_TASKS_OVER, layer->job->number);

        if (action == NULL) {
            return false;
        }
        action->range.layer = layer->number;
        action->range.first = first;
        action->range.count = end - first;
        bits_clear_range(&layer->over, first, end - first);
        first = end;
    }
    return true;
}

static bool flush_end(struct job *job)
{
    struct sched_action *action = push(job->sched, RECORD_JOB_ENDED, job->number);

    if (action == NULL) {
        return false;
    }
    action->state = job->state;
    action->code = job->code;
    action->text = job->text;
    action->layer_at = job->layer_at;
    action->index_at = job->index_at;
    action->worker_name = job->worker_name;
    action->done = job->ended_done;
    action->failed = job->ended_failed;
    job->is_end_due = false;
    return true;
}

bool records_flush_job(struct job *job)
{
    if (!job->sched->options.records) {
        return true;
    }
    if (job->is_end_due && !flush_end(job)) {
        return false;
    }
    if (job->is_given_up_due && push(job->sched, RECORD_JOB_GIVEN_UP, job->number) == NULL) {
        return false;
    }
    job->is_given_up_due = false;
    if (job->is_forgotten_due && push(job->sched, RECORD_JOB_FORGOTTEN, job->number) == NULL) {
        return false;
    }
    job->is_forgotten_due = false;
    return true;
}
