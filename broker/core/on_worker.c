// What workers say.
#include "broker/core/on.h"

#include <errno.h>
#include <string.h>

#include "broker/core/estimate.h"
#include "broker/core/failure.h"
#include "broker/core/handover.h"
#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/outbox.h"
#include "broker/core/recovery.h"
#include "broker/core/rest.h"
#include "broker/core/share.h"
#include "broker/core/speculate.h"
#include "broker/core/steal.h"
#include "broker/core/suspect.h"
#include "broker/core/worker.h"

enum { LOSSES_MAX = 20 }; // partitions of one task that went missing without a dead worker

// A worker speaks of tasks that there are not.
static void disown(struct sched *sched, const struct worker *worker, enum sched_action_type type,
                   const struct task_range *range)
{
    const struct job *job = job_find(sched, range->job);

    if (job == NULL || !job->has_tasks) {
        outbox_forget(sched, worker, range->job);
    } else {
        outbox_disown(sched, worker, type, range);
    }
}

// A worker holds a partition: it was asked for it (before it could say that it has it from an earlier
// session, maybe), or was not, or is no longer, or another one was, since it had been away.
static void adopt(struct worker *worker, struct layer *layer, uint32_t i, uint64_t bytes)
{
    struct sched *sched = layer->job->sched;
    enum task_state state = task_state(layer, i);

    if ((sched->leavers > 0 || sched->shipments > 0) && handover_arrived(worker, layer, i)) {
        return;
    }
    if (state == TASK_HELD && layer->owner[i] == worker->number) {
        return;
    }
    if (state == TASK_ASSIGNED && layer->owner[i] == worker->number) {
        worker_unassign(worker, layer, i);
        task_hold(layer, i, worker, bytes);
        return;
    }
    if (state == TASK_ASSIGNED && sched->twins > 0 && twin_wins(worker, layer, i)) {
        task_hold(layer, i, worker, bytes);
        return;
    }
    if (state == TASK_WAITING || state == TASK_READY || state == TASK_DELAYED || state == TASK_ASSIGNED) {
        struct knows *knows = worker_knows(worker, layer->job);

        if (knows != NULL) {
            knows_set(knows->holds, layer->number);
            if (state == TASK_ASSIGNED) {
                task_unburden(layer, i);
            }
            task_hold(layer, i, worker, bytes);
            return;
        }
    }
    outbox_release(sched, worker, layer, i);
}

// Counts what went missing without a death; true: too often, and the task has failed.
static bool is_lost_too_often(struct layer *layer, uint32_t i)
{
    struct blame *blame = job_blame(layer->job, layer->number, i);
    char what[256];

    if (blame == NULL || ++blame->losses <= LOSSES_MAX || !task_unfinished(layer, i)) {
        return false;
    }
    task_describe(layer, i, what, sizeof(what));
    char *text =
        arena_printf(&layer->job->sched->arena,
                     "the partition of %s could not be fetched %u times in a row of attempts; is the "
                     "network between the workers whole?",
                     what, blame->losses);

    task_fail_for_good(layer, i, EIO, text, NULL);
    return true;
}

int on_worker_joined(struct sched *sched, const struct sched_event *event)
{
    int rc;

    if (worker_find(sched, event->u.joined.worker) != NULL) {
        return 0;
    }
    sched->check_sources = true;
    rc = worker_create(sched, event);
    if (rc == 0) {
        recovery_joined(sched, worker_find(sched, event->u.joined.worker));
    }
    return rc;
}

int on_worker_left(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.left.worker);

    if (worker != NULL) {
        if (!event->u.left.on_purpose) {
            suspects_blame(sched, worker, event->u.left.why);
        }
        worker_lose(sched, worker);
        worker_destroy(sched, worker);
        sched->check_sources = true;
    }
    return 0;
}

int on_worker_status(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.status.worker);

    if (worker != NULL) {
        worker->memory_used = event->u.status.memory_used;
        worker->rss = event->u.status.rss;
    }
    return 0;
}

int on_sources(struct sched *sched, const struct sched_event *event)
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
                lose_unlisted(knows->job->layer[l], worker);
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

// A task that it was given in an earlier session and has not finished.
static void resume(struct worker *worker, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    enum task_state state = task_state(layer, i);
    const struct demand *demand = layer->lane->demand;

    suspect_pardon(worker, layer, i);
    if (worker_has(worker, layer, i) || twin_runs(worker, layer, i)) {
        return; // it was given it again before this was known
    }
    if ((state == TASK_READY || state == TASK_WAITING) && worker->assigned < SLOTS_MAX &&
        (demand == NULL || demand_room(demand, worker) > 0) && worker_reserve(worker, 1) &&
        worker_prepare(worker, layer)) {
        worker_resume(worker, layer, i);
    } else {
        outbox_drop(sched, worker, layer, i, true);
    }
}

static void resume_all(struct sched *sched, struct worker *worker, const struct sched_event *event)
{
    for (size_t k = 0; k < event->u.holding.hases; k++) {
        const struct task_range *range = &event->u.holding.has[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t n = 0; layer != NULL && n < range->count; n++) {
            resume(worker, layer, range->first + n);
        }
        if (layer == NULL) {
            disown(sched, worker, ACTION_DROP, range);
        }
    }
}

int on_holding(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.holding.worker);
    const uint64_t *bytes = event->u.holding.bytes;
    uint64_t recomputed = sched->recomputed;

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
        if (layer == NULL) {
            disown(sched, worker, ACTION_RELEASE, range);
        }
        bytes += range->count;
    }
    sched->recomputed = recomputed; // what comes back has not been run again
    for (size_t k = 0; k < event->u.holding.gones; k++) {
        const struct task_range *range = &event->u.holding.gone[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t i = range->first; layer != NULL && i < range->first + range->count; i++) {
            if (task_state(layer, i) == TASK_HELD && layer->owner[i] == worker->number) {
                task_lose(layer, i);
            } else if (sched->shipments > 0) {
                handover_declined(worker, layer, i);
            }
        }
    }
    resume_all(sched, worker, event);
    worker_reload(sched, worker);
    if (event->u.holding.full) {
        recovery_heard(sched, worker);
    }
    return 0;
}

static void range_done(struct worker *worker, struct layer *layer, const struct task_range *range,
                       const uint64_t *bytes)
{
    for (uint32_t n = 0; n < range->count; n++) {
        adopt(worker, layer, range->first + n, bytes[n]);
    }
}

// How long tasks of a range ran, of an event's; in CHARGE_NS.
static uint64_t range_time(struct layer *layer, uint32_t count, uint64_t busy_us, uint64_t tasks)
{
    uint64_t most = UINT64_C(1) << 40;

    if (busy_us == 0) {
        return (uint64_t)count * layer_charge(layer);
    }
    return (busy_us < most ? busy_us : most) * 1000 / CHARGE_NS / tasks * count;
}

int on_tasks_done(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.done.worker);
    struct job *job = job_find(sched, event->u.done.job);
    const uint64_t *bytes = event->u.done.bytes;
    uint64_t tasks = 0;

    if (worker == NULL) {
        return 0;
    }
    if (job != NULL) {
        job->rows += event->u.done.rows;
        job->source_bytes += event->u.done.source_bytes;
    }
    for (size_t k = 0; k < event->u.done.ranges; k++) {
        tasks += event->u.done.range[k].count;
    }
    for (size_t k = 0; k < event->u.done.ranges; k++) {
        const struct task_range *range = &event->u.done.range[k];
        struct layer *layer = range_layer(sched, range);

        if (layer != NULL && range->count > 0 && event->u.done.busy_us > 0) {
            if (layer_is_learnt(layer)) {
                worker_measure(worker, range->count, (uint64_t)range->count * layer_charge(layer),
                               range_time(layer, range->count, event->u.done.busy_us, tasks));
            }
            layer_learn(layer, range->count, event->u.done.busy_us * range->count / tasks);
        }
        if (layer != NULL) {
            job_spend(layer->job, range_time(layer, range->count, event->u.done.busy_us, tasks));
            range_done(worker, layer, range, bytes);
        } else {
            disown(sched, worker, ACTION_RELEASE, range);
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
    outbox_release(sched, holder, layer, i);
    task_lose(layer, i);
    is_lost_too_often(layer, i);
}

int on_task_failed(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.failed.worker);
    struct task_range range = {event->u.failed.job, event->u.failed.layer, event->u.failed.index, 1};
    struct task_range missing = {event->u.failed.missing_job != 0 ? event->u.failed.missing_job : range.job,
                                 event->u.failed.missing_layer, event->u.failed.missing_index, 1};
    struct layer *layer = range_layer(sched, &range);
    struct layer *source = event->u.failed.missing_input ? range_layer(sched, &missing) : NULL;

    if (worker != NULL && layer != NULL && !worker_has(worker, layer, range.first)) {
        twin_failed(worker, layer, range.first);
    }
    if (worker == NULL || layer == NULL || !worker_has(worker, layer, range.first)) {
        return 0;
    }
    worker_unlocate(worker, layer);
    if (!event->u.failed.missing_input) {
        job_spend(layer->job, layer->value[range.first]);
    }
    if (event->u.failed.busy_us > 0) {
        layer_learn(layer, 1, event->u.failed.busy_us);
    }
    worker_unassign(worker, layer, range.first);
    worker_reload(sched, worker);
    if (!event->u.failed.missing_input && event->u.failed.code == ENOSPC &&
        rest_begin(worker, layer, range.first)) {
        return 0;
    }
    if (!event->u.failed.missing_input) {
        task_fail_attempt(layer, range.first, event->u.failed.code, event->u.failed.text, worker->name);
        return 0;
    }
    task_requeue(layer, range.first);
    // The task's own count as well: a worker may blame a partition that it never needed.
    if (!is_lost_too_often(layer, range.first) && source != NULL) {
        uint32_t holder = event->u.failed.missing_worker;

        lose_at(sched, holder != 0 ? holder : worker->peer, source, missing.first);
    }
    return 0;
}

// What it has not started goes to others.
int on_worker_leaving(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.left.worker);

    if (worker == NULL || worker->leaving) {
        return 0;
    }
    worker->leaving = true;
    sched->leavers++;
    worker_reload(sched, worker);
    steal_back(sched, worker);
    twins_end(sched, worker, false);
    return 0;
}

int on_tasks_dropped(struct sched *sched, const struct sched_event *event)
{
    struct worker *worker = worker_find(sched, event->u.dropped.worker);

    for (size_t k = 0; worker != NULL && k < event->u.dropped.ranges; k++) {
        const struct task_range *range = &event->u.dropped.range[k];
        struct layer *layer = range_layer(sched, range);

        for (uint32_t i = range->first; layer != NULL && i < range->first + range->count; i++) {
            bool asked = (layer->state[i] & TASK_RECALL) != 0;

            // Only what was asked back and is still there (other answers are to drops of before), or
            // waits for what will not be made there.
            if (!worker_has(worker, layer, i)) {
                twin_over(worker, layer, i);
                continue;
            }
            if (!asked && (layer->state[i] & TASK_AHEAD) == 0) {
                continue;
            }
            worker_unassign(worker, layer, i);
            worker_unlocate(worker, layer);
            task_requeue(layer, i);
            if (asked && task_state(layer, i) == TASK_READY) {
                layer->state[i] |= TASK_RECALL;
            }
        }
    }
    if (worker != NULL) {
        worker_reload(sched, worker);
    }
    return 0;
}

int on_result_lost(struct sched *sched, const struct sched_event *event)
{
    const struct task_range *range = &event->u.lost.range;

    struct layer *layer = range_layer(sched, range);

    for (uint32_t n = 0; layer != NULL && n < range->count; n++) {
        lose_at(sched, event->u.lost.worker, layer, range->first + n);
    }
    return 0;
}
