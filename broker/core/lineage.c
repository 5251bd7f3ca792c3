#include "broker/core/lineage.h"


#include "broker/core/failure.h"
#include "broker/core/handover.h"
#include "broker/core/job.h"
#include "broker/core/links.h"
#include "broker/core/outbox.h"
#include "broker/core/records.h"
#include "broker/core/worker.h"

// Local inputs that are not held.  *failed: the layer of one that has failed, with *cause.
static uint64_t count_missing(const struct layer *layer, uint32_t i, const struct layer **failed,
                              uint64_t *cause)
{
    uint64_t missing = 0;

    struct needs needs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&needs)) != NULL) {
        struct span span = needs.span;

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t p = span_at(&span, n);

            missing += task_state(edge->source, p) != TASK_HELD ? 1 : 0;
            if (task_state(edge->source, p) == TASK_FAILED) {
                *failed = edge->source;
                *cause = task_cause(edge->source, p);
            }
        }
    }
    return missing;
}

// A whole input of the layer that has a failed task.
static const struct layer *doomed_by(const struct layer *layer)
{
    size_t k = 0;

    while (!layer->input[k].whole || layer->input[k].source->in[TASK_FAILED] == 0) {
        k++;
    }
    return layer->input[k].source;
}

bool task_has_inputs(const struct layer *layer, uint32_t i)
{
    const struct layer *failed;
    uint64_t cause;

    return layer->blocked == 0 && layer->doomed == 0 && count_missing(layer, i, &failed, &cause) == 0;
}

// From `waiting`: counts what is missing; ready when that is nothing.
static void task_wait(struct layer *layer, uint32_t i)
{
    const struct layer *failed = layer->doomed > 0 ? doomed_by(layer) : NULL;
    uint64_t cause = failed != NULL ? failed->cause : 0;

    layer->value[i] = (uint32_t)count_missing(layer, i, &failed, &cause);
    if (failed != NULL) {
        task_fail_with(layer, i, failed, cause);
    } else if (layer->value[i] == 0) {
        task_move(layer, i, TASK_READY);
    }
}

// The task became unfinished (+1) or stopped being so (-1): its local inputs count it.
static void inputs_count(struct layer *layer, uint32_t i, bool unfinished)
{
    struct needs needs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&needs)) != NULL) {
        struct span span = needs.span;
        struct layer *source = edge->source;

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t p = span_at(&span, n);

            if (unfinished ? consumers_gain(source, p) : consumers_lose(source, p)) {
                task_unsettle(source, p);
            }
        }
    }
}

static void dependents_gain(struct layer *layer, uint32_t i)
{
    struct readers readers = readers_of(layer, i);
    const struct edge *edge;

    while ((edge = readers_next(&readers)) != NULL) {
        struct span span = readers.span;
        struct layer *target = edge->target;

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t t = span_at(&span, n);

            if (task_state(target, t) == TASK_WAITING && --target->value[t] == 0) {
                task_move(target, t, TASK_READY);
            }
        }
    }
}

static void dependents_miss(struct layer *layer, uint32_t i)
{
    struct readers readers = readers_of(layer, i);
    const struct edge *edge;

    while ((edge = readers_next(&readers)) != NULL) {
        struct span span = readers.span;
        struct layer *target = edge->target;

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t t = span_at(&span, n);

            if (task_state(target, t) == TASK_READY) {
                target->state[t] &= (uint8_t)~TASK_RECALL;
                task_move(target, t, TASK_WAITING);
                target->value[t] = 1;
            } else if (task_state(target, t) == TASK_WAITING) {
                target->value[t]++;
            }
        }
    }
}

void task_hold(struct layer *layer, uint32_t i, struct worker *worker, uint64_t bytes)
{
    if ((layer->state[i] & TASK_RAN) != 0) {
        layer->job->sched->recomputed++;
    }
    layer->state[i] = (uint8_t)((layer->state[i] | TASK_RAN) & ~TASK_RECALL);
    task_move(layer, i, TASK_HELD);
    layer->owner[i] = worker->number;
    task_set_bytes(layer, i, bytes);
    worker->partitions++;
    if (layer->inputs > 0) {
        inputs_count(layer, i, false);
    }
    if (layer_has_readers(layer)) {
        dependents_gain(layer, i);
    }
    if (layer->wanted) {
        if ((layer->state[i] & TASK_KEEP) != 0) {
            bits_set(&layer->results, i);
            layer_mark_dirty(layer);
        }
    } else {
        // Only a goal that nobody wants to read is kept up to here.
        layer->state[i] &= (uint8_t)~TASK_KEEP;
    }
    if (!task_needed(layer, i)) {
        task_unsettle(layer, i);
    }
}

void task_requeue(struct layer *layer, uint32_t i)
{
    task_move(layer, i, TASK_WAITING);
    task_wait(layer, i);
}

static void result_cancel(struct layer *layer, uint32_t i)
{
    if (layer->wanted) {
        bits_clear(&layer->results, i);
    }
}

void task_lose(struct layer *layer, uint32_t i)
{
    partition_leave(layer, i);
    result_cancel(layer, i);
    task_move(layer, i, TASK_WAITING);
    inputs_count(layer, i, true);
    dependents_miss(layer, i);
    task_wait(layer, i);
    task_unsettle(layer, i);
}

void task_unwant(struct layer *layer, uint32_t i)
{
    if ((layer->state[i] & TASK_KEEP) != 0) {
        layer->state[i] &= (uint8_t)~TASK_KEEP;
        result_cancel(layer, i);
        task_unsettle(layer, i);
    }
}

// It stops being a task that may still be done, wherever that stood.
static void task_take_back(struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;

    if (task_state(layer, i) == TASK_ASSIGNED) {
        struct worker *worker = sched->worker[layer->owner[i]];

        worker_unassign(worker, layer, i);
        worker_reload(sched, worker);
        outbox_drop(sched, worker, layer, i, true);
    }
    layer->state[i] &= (uint8_t)~TASK_RECALL;
}

void task_unburden(struct layer *layer, uint32_t i)
{
    task_take_back(layer, i);
}

void task_fail(struct layer *layer, uint32_t i, uint64_t cause)
{
    bool unfinished = task_unfinished(layer, i);

    if (layer->in[TASK_FAILED] == 0) {
        layer->cause = cause;
    }
    layer->state[i] &= (uint8_t)~TASK_RECALL;
    task_move(layer, i, TASK_FAILED);
    task_set_cause(layer, i, cause);
    if (unfinished) {
        inputs_count(layer, i, false);
    }
    if (!layer->wanted) {
        layer->state[i] &= (uint8_t)~TASK_KEEP;
    } else if ((layer->state[i] & TASK_KEEP) != 0) {
        bits_set(&layer->results, i);
        layer_mark_dirty(layer);
    }
    if (layer_has_readers(layer)) {
        task_unsettle(layer, i);
    }
}

void task_stop(struct layer *layer, uint32_t i, int code, const char *text)
{
    if (task_unfinished(layer, i)) {
        task_take_back(layer, i);
        task_fail_as(layer, i, code, text);
    }
}

void task_cancel(struct layer *layer, uint32_t i)
{
    if (task_unfinished(layer, i) || task_state(layer, i) == TASK_IDLE) {
        task_take_back(layer, i);
        task_fail_cancelled(layer, i);
    }
}

// Those that need it and are not done fail with it.
static void dependents_fail(struct layer *layer, uint32_t i)
{
    struct readers readers = readers_of(layer, i);
    const struct edge *edge;

    while ((edge = readers_next(&readers)) != NULL) {
        struct span span = readers.span;
        struct layer *target = edge->target;

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t t = span_at(&span, n);

            if (task_unfinished(target, t)) {
                task_take_back(target, t);
                task_fail_with(target, t, layer, task_cause(layer, i));
            }
        }
    }
}

static void task_release(struct layer *layer, uint32_t i)
{
    task_move(layer, i, TASK_RELEASED);
    partition_leave(layer, i);
    result_cancel(layer, i);
    bits_set(&layer->released, i);
    layer_mark_dirty(layer);
    record_over(layer, i);
}

// Needed again.  A partition whose release has not been sent is simply kept.
static void task_revive(struct layer *layer, uint32_t i)
{
    if (bits_test(&layer->released, i)) {
        bits_clear(&layer->released, i);
        task_move(layer, i, TASK_HELD);
        layer->job->sched->worker[layer->owner[i]]->partitions++;
        dependents_gain(layer, i);
        return;
    }
    task_move(layer, i, TASK_WAITING);
    inputs_count(layer, i, true);
    task_wait(layer, i);
}

static bool is_done(const struct layer *layer, uint32_t i)
{
    return task_state(layer, i) == TASK_HELD || task_state(layer, i) == TASK_RELEASED;
}

// One that reads it was done, so it was done itself: before the broker was started anew.
static bool was_read(const struct layer *layer, uint32_t i)
{
    struct readers readers = readers_of(layer, i);
    const struct edge *edge;

    while ((edge = readers_next(&readers)) != NULL) {
        struct span span = readers.span;

        for (uint32_t n = 0; n < span.count; n++) {
            if (is_done(edge->target, span_at(&span, n))) {
                return true;
            }
        }
    }
    for (size_t k = 0; k < layer->dependents; k++) {
        const struct layer *target = layer->dependent[k]->target;

        if (layer->dependent[k]->whole && target->in[TASK_HELD] + target->in[TASK_RELEASED] > 0) {
            return true;
        }
    }
    return false;
}

// Nobody needs it any more, and it is not done.
static void task_abandon(struct layer *layer, uint32_t i)
{
    task_take_back(layer, i);
    if ((layer->state[i] & TASK_RAN) == 0 && was_read(layer, i)) {
        layer->state[i] |= TASK_RAN;
    }
    task_move(layer, i, (layer->state[i] & TASK_RAN) != 0 ? TASK_RELEASED : TASK_IDLE);
    record_over(layer, i);
    inputs_count(layer, i, false);
}

static void task_settle(struct layer *layer, uint32_t i)
{
    bool needed = task_needed(layer, i);

    switch (task_state(layer, i)) {
    case TASK_IDLE:
    case TASK_RELEASED:
        if (needed) {
            task_revive(layer, i);
        }
        break;
    case TASK_HELD:
        if (!needed) {
            task_release(layer, i);
        }
        break;
    case TASK_FAILED:
        dependents_fail(layer, i);
        break;
    default:
        if (!needed) {
            task_abandon(layer, i);
        } else if (layer->doomed > 0) {
            task_take_back(layer, i);
            task_fail_with(layer, i, doomed_by(layer), doomed_by(layer)->cause);
        }
        break;
    }
}

static void job_settle(struct job *job)
{
    uint32_t back;

    // What a layer's tasks need unsettles earlier layers (and earlier tasks of its own), which come
    // later here; what fails unsettles later ones, which then have their turn again.
    while ((back = bits_next(&job->unsettled, 0)) != BITS_NONE) {
        struct layer *layer = job->layer[job->layer_capacity - 1 - back];
        uint32_t i = 0;

        bits_clear(&job->unsettled, back);
        while ((i = bits_next(&layer->unsettled, i)) != BITS_NONE) {
            bits_clear(&layer->unsettled, i);
            task_settle(layer, i);
        }
    }
}

void lineage_settle(struct sched *sched)
{
    for (;;) {
        struct job *job;

        jobs_revisit(sched);
        job = sched->unsettled;
        if (job == NULL && !jobs_fail_late(sched)) {
            break;
        }
        if (job == NULL) {
            continue;
        }

        sched->unsettled = job->unsettled_next;
        job->is_unsettled = false;
        job_settle(job);
    }
}

static void layer_lose(struct layer *layer, struct worker *worker)
{
    uint32_t i = 0;

    for (i = 0; i < layer->tasks; i++) {
        if (layer->owner[i] != worker->number) {
            continue;
        }
        if (task_state(layer, i) == TASK_ASSIGNED) {
            worker_unassign(worker, layer, i);
            task_requeue(layer, i);
        } else if (task_state(layer, i) == TASK_HELD) {
            task_lose(layer, i);
        }
    }
    for (i = 0; (i = bits_next(&layer->released, i)) != BITS_NONE; i++) {
        if (layer->owner[i] == worker->number) {
            bits_clear(&layer->released, i);
        }
    }
}

// Costs a look at each task of the layers that it had to do with, one or three bytes each.
void worker_lose(struct sched *sched, struct worker *worker)
{
    for (struct knows *knows = worker->knows; knows != NULL; knows = knows->worker_next) {
        struct job *job = knows->job;

        for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
            if (knows_test(knows->holds, l)) {
                layer_lose(job->layer[l], worker);
            }
        }
    }
    (void)sched;
}
