#include "broker/core/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "broker/core/failure.h"
#include "broker/core/job.h"
#include "broker/core/lapse.h"
#include "broker/core/links.h"
#include "broker/core/records.h"
#include "broker/core/speculate.h"
#include "broker/core/why.h"
#include "broker/core/worker.h"

void sched_actions_init(struct sched_actions *actions)
{
    memset(actions, 0, sizeof(*actions));
}

void sched_actions_fini(struct sched_actions *actions)
{
    free(actions->action);
    sched_actions_init(actions);
}

bool outbox_reserve(struct sched *sched, size_t count)
{
    struct sched_actions *out = sched->out;

    if (out->capacity - out->count >= count) {
        return true;
    }
    size_t capacity = out->capacity > 0 ? out->capacity * 2 : 64;

    while (capacity - out->count < count) {
        capacity *= 2;
    }
    struct sched_action *grown = realloc(out->action, capacity * sizeof(*grown));

    if (grown == NULL) {
        return false;
    }
    out->action = grown;
    out->capacity = capacity;
    return true;
}

struct sched_action *outbox_push(struct sched *sched, enum sched_action_type type, uint32_t peer,
                                 uint32_t job)
{
    struct sched_action *action;

    if (!outbox_reserve(sched, 1)) {
        return NULL;
    }
    action = &sched->out->action[sched->out->count++];
    memset(action, 0, sizeof(*action));
    action->type = type;
    action->peer = peer;
    action->range.job = job;
    action->layer_at = action->index_at = UINT32_MAX;
    return action;
}

// One more task for the last action when it borders on that one's range.
static bool range_push(struct sched *sched, enum sched_action_type type, uint32_t peer,
                       const struct layer *layer, uint32_t i, bool kill)
{
    struct sched_actions *out = sched->out;
    struct sched_action *last = out->count > 0 ? &out->action[out->count - 1] : NULL;

    if (last != NULL && last->type == type && last->peer == peer && last->kill == kill &&
        last->range.job == layer->job->number && last->range.layer == layer->number &&
        (last->range.first + last->range.count == i || last->range.first == i + 1)) {
        last->range.first -= last->range.first == i + 1 ? 1 : 0;
        last->range.count++;
        return true;
    }
    last = outbox_push(sched, type, peer, layer->job->number);
    if (last == NULL) {
        return false;
    }
    last->range.layer = layer->number;
    last->range.first = i;
    last->range.count = 1;
    last->kill = kill;
    return true;
}

bool outbox_drop(struct sched *sched, const struct worker *worker, const struct layer *layer, uint32_t i,
                 bool kill)
{
    worker_unlocate(worker, layer);
    return range_push(sched, ACTION_DROP, worker->peer, layer, i, kill);
}

void outbox_release(struct sched *sched, const struct worker *worker, const struct layer *layer, uint32_t i)
{
    range_push(sched, ACTION_RELEASE, worker->peer, layer, i, false);
}

void outbox_disown(struct sched *sched, const struct worker *worker, enum sched_action_type type,
                   const struct task_range *range)
{
    struct sched_action *action = outbox_push(sched, type, worker->peer, range->job);

    if (action != NULL) {
        action->range = *range;
        action->kill = type == ACTION_DROP;
    }
}

void outbox_forget(struct sched *sched, const struct worker *worker, uint32_t job)
{
    struct sched_actions *out = sched->out;
    struct sched_action *last = out->count > 0 ? &out->action[out->count - 1] : NULL;

    if (last != NULL && last->type == ACTION_FORGET_JOB && last->peer == worker->peer &&
        last->range.job == job) {
        return;
    }
    outbox_push(sched, ACTION_FORGET_JOB, worker->peer, job);
}

void outbox_progress(struct sched *sched, struct job *job)
{
    struct sched_action *action = outbox_push(sched, ACTION_PROGRESS, job->client->peer, job->number);
    char why[256];

    if (action != NULL) {
        action->stuck = job_why_waiting(job, why, sizeof(why));
        action->text = why[0] != '\0' ? arena_strdup(&sched->arena, why) : NULL;
        action->tasks = job->tasks;
        action->done = job->done;
        action->failed = job->failed;
        action->rows = job->rows;
        action->source_bytes = job->source_bytes;
        action->workers = sched->worker_count;
        action->state = job->state;
        job->progress_at = sched->now_us;
    }
}

// Partitions [first, first + count) of a layer are at one worker.
static bool tell_held(const struct layer *layer, uint32_t first, uint32_t count)
{
    struct job *job = layer->job;
    struct sched *sched = job->sched;
    uint64_t *sizes = arena_array(&sched->arena, count, sizeof(*sizes));
    struct sched_action *action =
        sizes != NULL ? outbox_push(sched, ACTION_RESULT, job->client->peer, job->number) : NULL;

    if (action == NULL) {
        return false;
    }
    for (uint32_t n = 0; n < count; n++) {
        sizes[n] = task_bytes(layer, first + n);
    }
    action->range.layer = layer->number;
    action->range.first = first;
    action->range.count = count;
    action->worker = sched->worker[layer->owner[first]]->peer;
    action->sizes = sizes;
    return true;
}

static bool tell_failed(const struct layer *layer, uint32_t first, uint32_t count)
{
    struct job *job = layer->job;
    int code;
    const char *text = failure_tell(layer, first, count, &code);
    struct sched_action *action =
        text != NULL ? outbox_push(job->sched, ACTION_RESULT_FAILED, job->client->peer, job->number) : NULL;

    if (action == NULL) {
        return false;
    }
    action->range.layer = layer->number;
    action->range.first = first;
    action->range.count = count;
    action->code = code;
    action->text = text;
    action->layer_at = cause_layer(task_cause(layer, first));
    action->index_at = cause_index(task_cause(layer, first));
    return true;
}

static bool results_flush(struct layer *layer)
{
    const struct job *job = layer->job;

    if (job->client != NULL && job->client->full) {
        return true; // they wait until it has room
    }
    uint32_t end = 0; // of the run that i is in: measured once, however many actions it takes

    for (uint32_t i = 0; (i = bits_next(&layer->results, i)) != BITS_NONE;) {
        bool failed = task_state(layer, i) == TASK_FAILED;
        uint16_t owner = layer->owner[i];
        uint32_t count = 1;

        end = i < end ? end : i + bits_run(&layer->results, i, UINT32_MAX);
        if (failed) {
            count = failure_run(layer, i, end - i);
        }
        while (!failed && i + count < end && task_state(layer, i + count) != TASK_FAILED &&
               layer->owner[i + count] == owner) {
            count++;
        }
        if (job->client != NULL && !(failed ? tell_failed(layer, i, count) : tell_held(layer, i, count))) {
            return false;
        }
        bits_clear_range(&layer->results, i, count);
        i += count;
    }
    return true;
}

static bool release_push(const struct layer *layer, uint32_t peer, uint32_t first, uint32_t count)
{
    struct sched_action *action = outbox_push(layer->job->sched, ACTION_RELEASE, peer, layer->job->number);

    if (action == NULL) {
        return false;
    }
    action->range.layer = layer->number;
    action->range.first = first;
    action->range.count = count;
    return true;
}

// Copies of partitions that whole layers read stay with those who had such tasks, of this job or of others:
// they are told of all at once, whosever these are.  `owner` is told anyway.
static bool copies_flush(const struct layer *layer, const struct layer *reader, uint32_t owner,
                         uint32_t first, uint32_t count)
{
    for (struct knows *knows = reader->job->knows; knows != NULL; knows = knows->job_next) {
        if (knows->worker->number != owner && knows_test(knows->told, reader->number) &&
            !release_push(layer, knows->worker->peer, first, count)) {
            return false;
        }
    }
    return true;
}

// How many partitions from this one on have the same owner, before `end`.
static uint32_t owner_run(const struct layer *layer, uint32_t first, uint32_t end)
{
    uint32_t count = 1;

    while (first + count < end && layer->owner[first + count] == layer->owner[first]) {
        count++;
    }
    return count;
}

static bool releases_flush(struct layer *layer)
{
    const struct sched *sched = layer->job->sched;

    for (uint32_t first = 0; (first = bits_next(&layer->released, first)) != BITS_NONE;) {
        uint32_t end = first + bits_run(&layer->released, first, UINT32_MAX);
        uint32_t owner = owner_run(layer, first, end) == end - first ? layer->owner[first] : OWNER_NONE;

        // Sent twice after a failure half-way, or to one who reads it twice: that does no harm.
        for (uint32_t k = 0; k < layer->dependents; k++) {
            const struct edge *edge = layer->dependent[k];

            if (edge->whole && !copies_flush(layer, edge->target, owner, first, end - first)) {
                return false;
            }
        }
        while (first < end) {
            uint32_t count = owner_run(layer, first, end);

            if (!release_push(layer, sched->worker[layer->owner[first]]->peer, first, count)) {
                return false;
            }
            bits_clear_range(&layer->released, first, count);
            first += count;
        }
    }
    return true;
}

static bool layers_flush(struct job *job)
{
    for (uint32_t l = 0; (l = bits_next(&job->dirty, l)) != BITS_NONE; l++) {
        struct layer *layer = job->layer[l];

        if ((layer->wanted && !results_flush(layer)) || !releases_flush(layer) ||
            !records_flush_layer(layer)) {
            return false;
        }
        bits_clear(&job->dirty, l);
    }
    return true;
}

static bool end_flush(struct job *job)
{
    // A job that was done before anybody asked may be repairing a result that was lost since.
    if (job->told_end || job->client == NULL || job->client->full ||
        (job->state == JOB_DONE && job->open > 0)) {
        return true;
    }
    struct sched_action *action = outbox_push(job->sched, ACTION_JOB_ENDED, job->client->peer, job->number);

    if (action == NULL) {
        return false;
    }
    action->state = job->state;
    action->code = job->code;
    action->text = job->text;
    action->layer_at = job->layer_at;
    action->index_at = job->index_at;
    action->worker_name = job->worker_name;
    action->tasks = job->tasks;
    action->done = job->done;
    action->failed = job->failed;
    action->rows = job->rows;
    action->source_bytes = job->source_bytes;
    job->told_end = true;
    return true;
}

static bool forget_flush(struct job *job)
{
    while (job->knows != NULL) {
        if (outbox_push(job->sched, ACTION_FORGET_JOB, job->knows->worker->peer, job->number) == NULL) {
            return false;
        }
        knows_destroy(job->sched, job->knows);
    }
    return true;
}

static bool job_flush(struct job *job)
{
    if (job->has_tasks) {
        if (!layers_flush(job)) {
            return false;
        }
        if (job->open == 0 && !job->grows && (job->state == JOB_QUEUED || job->state == JOB_RUNNING)) {
            job->state = JOB_DONE;
            job->told_end = false;
            job->is_end_due = !job->hidden; // one that nobody has has only stopped growing
        }
        if (job->open == 0 && job->client == NULL) {
            lapse_follow(job);
        }
    }
    return records_flush_job(job) && end_flush(job) && (job->has_tasks || forget_flush(job));
}

static void jobs_flush(struct sched *sched)
{
    struct job *todo = NULL;

    // First marked, first out.
    while (sched->dirty != NULL) {
        struct job *job = sched->dirty;

        sched->dirty = job->dirty_next;
        job->dirty_next = todo;
        todo = job;
    }
    while (todo != NULL) {
        struct job *job = todo;

        todo = job->dirty_next;
        job->is_dirty = false;
        if (!job_flush(job)) {
            job_mark_dirty(job);
        } else if (job->forgotten) {
            job_detach(job);
            job->dirty_next = sched->graveyard;
            sched->graveyard = job;
        }
    }
}

static bool location_push(struct sched *sched, const struct layer *layer, uint32_t p, uint32_t worker,
                          size_t *count)
{
    struct sched_location *last = *count > 0 ? &sched->location[sched->locations - 1] : NULL;

    if (last != NULL && last->range.job == layer->job->number && last->range.layer == layer->number &&
        last->worker == worker && last->range.first + last->range.count == p) {
        last->range.count++;
        return true;
    }
    if (sched->locations == sched->location_capacity) {
        size_t capacity = sched->location_capacity > 0 ? sched->location_capacity * 2 : 64;
        struct sched_location *grown = realloc(sched->location, capacity * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        sched->location = grown;
        sched->location_capacity = capacity;
    }
    sched->location[sched->locations++] =
        (struct sched_location){{layer->job->number, layer->number, p, 1}, worker};
    ++*count;
    return true;
}

// Of one row of needs, those that the worker itself does not hold; partitions of a pattern that are below
// `after` were written before.
static bool span_push(const struct worker *worker, const struct layer *source, const struct span *span,
                      uint32_t after, size_t *count)
{
    struct sched *sched = source->job->sched;

    for (uint32_t n = 0; n < span->count; n++) {
        uint32_t p = span_at(span, n);
        struct worker *owner = sched->worker[source->owner[p]];

        if (task_state(source, p) != TASK_HELD || owner == worker || (span->list == NULL && p < after)) {
            continue;
        }
        if (!location_push(sched, source, p, owner->peer, count)) {
            return false;
        }
    }
    return true;
}

// Where the local inputs of these tasks are, input by input; with many inputs, task by task.
static bool locations_push(const struct worker *worker, const struct layer *layer, uint32_t first,
                           uint32_t tasks, size_t *count)
{
    for (size_t k = 0; layer->pick == NULL && k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];
        uint32_t after = 0;

        for (uint32_t t = first; !edge->whole && t < first + tasks; t++) {
            struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, t);

            if (!span_push(worker, edge->source, &span, after, count)) {
                return false;
            }
            after = span.list == NULL ? span.first + span.count : 0;
        }
    }
    for (uint32_t t = first; layer->pick != NULL && t < first + tasks; t++) {
        struct needs needs = needs_of(layer, t);
        const struct edge *edge;

        while ((edge = needs_next(&needs)) != NULL) {
            if (!span_push(worker, edge->source, &needs.span, 0, count)) {
                return false;
            }
        }
    }
    return true;
}

// Where the whole inputs of the layer are: looked up once a step, however many workers are told.
static bool whole_push(struct layer *layer)
{
    struct sched *sched = layer->job->sched;
    size_t at = sched->locations;
    size_t count = 0;

    if (layer->whole_step == sched->steps) {
        return true;
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];
        struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, 0);

        if (edge->whole && !span_push(NULL, edge->source, &span, 0, &count)) {
            sched->locations = at;
            return false;
        }
    }
    layer->whole_step = sched->steps;
    layer->whole_at = at;
    layer->wholes = count;
    return true;
}

static bool layer_flush(const struct worker *worker, struct layer *layer, struct knows *knows)
{
    if (!knows_test(knows->told, layer->number)) {
        struct sched_action *action =
            outbox_push(layer->job->sched, ACTION_LAYER, worker->peer, layer->job->number);

        if (action == NULL) {
            return false;
        }
        action->range.layer = layer->number;
        action->layer = layer->graph;
        action->input_tasks = layer->input_tasks;
        knows_set(knows->told, layer->number);
    }
    return true;
}

bool outbox_copy(struct worker *to, struct layer *layer, const struct task_range *range, uint32_t from)
{
    struct knows *knows = worker_knows(to, layer->job);
    struct sched_action *action = knows != NULL && layer_flush(to, layer, knows)
                                      ? outbox_push(layer->job->sched, ACTION_COPY, to->peer, range->job)
                                      : NULL;

    if (action == NULL) {
        return false;
    }
    action->range = *range;
    action->worker = from;
    return true;
}

static bool run_flush(struct worker *worker, struct layer *layer, uint32_t first, uint32_t tasks)
{
    struct sched *sched = layer->job->sched;
    struct knows *knows = worker_knows(worker, layer->job);
    bool located = knows != NULL && knows_test(knows->located, layer->number);
    size_t before;
    size_t count = 0;

    if (knows == NULL || !layer_flush(worker, layer, knows) || !outbox_reserve(sched, 1) ||
        (!located && !whole_push(layer))) {
        return false;
    }
    before = sched->locations;
    if (!locations_push(worker, layer, first, tasks, &count)) {
        sched->locations = before;
        return false;
    }
    struct sched_action *action = outbox_push(sched, ACTION_RUN, worker->peer, layer->job->number);

    action->range.layer = layer->number;
    action->range.first = first;
    action->range.count = tasks;
    action->locations = count;
    action->location_at = before;
    action->wholes = located ? 0 : layer->wholes;
    action->whole_at = located ? 0 : layer->whole_at;
    knows_set(knows->located, layer->number);
    return true;
}

static bool worker_flush(struct worker *worker)
{
    while (worker->queue_told < worker->queue_count) {
        const struct slot slot = worker->queue[worker->queue_told];
        uint32_t at = slot.first;

        while (at < slot.first + slot.count) {
            uint32_t run = 0;

            while (at + run < slot.first + slot.count && worker_has(worker, slot.layer, at + run)) {
                run++;
            }
            if (run > 0 && !run_flush(worker, slot.layer, at, run)) {
                // What was said is not said again.
                worker->queue[worker->queue_told].first = at;
                worker->queue[worker->queue_told].count = slot.first + slot.count - at;
                return false;
            }
            at += run + 1;
        }
        worker->queue_told++;
    }
    return true;
}

static void workers_flush(struct sched *sched)
{
    struct worker *todo = NULL;

    while (sched->dirty_workers != NULL) {
        struct worker *worker = sched->dirty_workers;

        sched->dirty_workers = worker->dirty_next;
        worker->dirty_next = todo;
        todo = worker;
    }
    while (todo != NULL) {
        struct worker *worker = todo;

        todo = worker->dirty_next;
        worker->is_dirty = false;
        if (!worker_flush(worker)) {
            worker_mark_dirty(sched, worker);
        }
    }
}

void outbox_flush(struct sched *sched)
{
    size_t begin;

    records_flush_failed(sched);
    jobs_flush(sched);
    begin = sched->out->count;
    workers_flush(sched);
    twins_flush(sched, run_flush);
    // The array of locations has stopped moving.
    for (size_t k = begin; k < sched->out->count; k++) {
        struct sched_action *action = &sched->out->action[k];

        if (action->type == ACTION_RUN) {
            action->location = action->locations > 0 ? sched->location + action->location_at : NULL;
            action->whole = action->wholes > 0 ? sched->location + action->whole_at : NULL;
        }
    }
}
