#include "broker/core/speculate.h"

#include <string.h>

#include "broker/core/demand.h"
#include "broker/core/estimate.h"
#include "broker/core/lineage.h"
#include "broker/core/links.h"
#include "broker/core/on.h"
#include "broker/core/outbox.h"
#include "broker/core/worker.h"

enum {
    TIMES = 3,  // as long as its like
    LEARNT = 3, // tasks that say how long that is
    LOOKS = 4,  // in the time that a task may take beyond that
    WORKERS_LOOKED_AT = 64,
    INPUTS_MAX = 256,
    BYTES_A_CHARGE = 16, // that pass between two workers in CHARGE_NS, as in placement.c
};

// ---- second runs ------------------------------------------------------------------------------

static struct layer *twin_layer(const struct sched *sched, const struct twin *twin)
{
    return range_layer(sched, &(struct task_range){twin->job, twin->layer, twin->index, 1});
}

static struct twin *twin_find(const struct sched *sched, uint32_t worker, const struct layer *layer,
                              uint32_t i)
{
    for (uint32_t k = 0; k < sched->twins; k++) {
        const struct twin *twin = &sched->twin[k];

        if ((worker == OWNER_NONE || twin->worker == worker) && twin->index == i &&
            twin->layer == layer->number && twin->job == layer->job->number) {
            return (struct twin *)(uintptr_t)twin;
        }
    }
    return NULL;
}

static void twin_remove(struct sched *sched, struct twin *twin)
{
    sched->worker[twin->worker]->twins--;
    *twin = sched->twin[--sched->twins];
}

static void twin_stop(struct sched *sched, struct twin *twin)
{
    const struct layer *layer = twin_layer(sched, twin);
    const struct worker *worker = sched->worker[twin->worker];

    // Of a job that has gone the worker is told to forget all.
    if (layer != NULL && !twin->due) {
        outbox_drop(sched, worker, layer, twin->index, true);
    }
    twin_remove(sched, twin);
}

bool twin_wins(struct worker *worker, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    struct twin *twin = twin_find(sched, worker->number, layer, i);
    struct worker *first = sched->worker[layer->owner[i]];

    if (twin == NULL) {
        return false;
    }
    worker_unassign(first, layer, i);
    worker_reload(sched, first);
    outbox_drop(sched, first, layer, i, true);
    twin_remove(sched, twin);
    return true;
}

void twin_over(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    struct twin *twin = sched->twins > 0 ? twin_find(sched, worker->number, layer, i) : NULL;

    if (twin != NULL) {
        twin_remove(sched, twin);
    }
}

bool twin_runs(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    const struct sched *sched = layer->job->sched;

    return sched->twins > 0 && twin_find(sched, worker->number, layer, i) != NULL;
}

void twin_failed(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;

    for (uint32_t k = 0; twin_runs(worker, layer, i) && k < sched->watches; k++) {
        struct watch *watch = &sched->watch[k];

        if (watch->job == layer->job->number && watch->layer == layer->number && watch->index == i) {
            watch->since_us = sched->now_us;
        }
    }
    twin_over(worker, layer, i);
}

void twins_end(struct sched *sched, struct worker *worker, bool gone)
{
    for (uint32_t k = sched->twins; k-- > 0;) {
        if (sched->twin[k].worker != worker->number) {
            continue;
        }
        if (gone) {
            twin_remove(sched, &sched->twin[k]);
        } else {
            twin_stop(sched, &sched->twin[k]);
        }
    }
}

// The first run was lost with its worker, or given back: this is the one now.  False: it is not.
static bool take_over(struct twin *twin, struct layer *layer)
{
    struct sched *sched = layer->job->sched;
    struct worker *worker = sched->worker[twin->worker];
    const struct demand *demand = layer->lane->demand;

    if (twin->due || worker->leaving || (demand != NULL && demand_room(demand, worker) == 0) ||
        !worker_reserve(worker, 1) || !worker_prepare(worker, layer)) {
        return false;
    }
    worker_resume(worker, layer, twin->index);
    worker_reload(sched, worker);
    twin_remove(sched, twin);
    return true;
}

void twins_follow(struct sched *sched)
{
    for (uint32_t k = sched->twins; k-- > 0;) {
        struct twin *twin = &sched->twin[k];
        struct layer *layer = twin_layer(sched, twin);
        const struct worker *worker = sched->worker[twin->worker];
        enum task_state state = layer != NULL ? task_state(layer, twin->index) : TASK_IDLE;
        bool runs = state == TASK_ASSIGNED && layer->owner[twin->index] == twin->first;

        if (runs && (worker->assigned == 0 || worker->assigned + worker->twins <= worker->threads)) {
            continue;
        }
        if (state == TASK_ASSIGNED && layer->owner[twin->index] == twin->worker) {
            twin_remove(sched, twin); // it was given it anew
        } else if ((state != TASK_READY && state != TASK_WAITING) || !take_over(twin, layer)) {
            twin_stop(sched, twin);
        }
    }
}

bool twins_flush(struct sched *sched,
                 bool (*tell)(struct worker *worker, struct layer *layer, uint32_t first, uint32_t count))
{
    for (uint32_t k = 0; k < sched->twins; k++) {
        struct twin *twin = &sched->twin[k];

        if (twin->due) {
            if (!tell(sched->worker[twin->worker], twin_layer(sched, twin), twin->index, 1)) {
                return false;
            }
            twin->due = false;
        }
    }
    return true;
}

// ---- which tasks, and where -----------------------------------------------------------------------

// It has nothing to do, and could do this.
static bool is_idle(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    const struct demand *demand = layer->lane->demand;

    return worker->assigned == 0 && worker->twins < worker->threads && worker->load < LOAD_FULL &&
           (demand == NULL || (demand->resources == 0 && demand_is_met(demand, worker))) &&
           (!layer_reads_apart(layer) || worker_reads(worker, source_of(layer, i)));
}

// All that it reads is there, and is moved in less time than the task takes.
static bool is_cheap(struct layer *layer, uint32_t i, const struct worker *to)
{
    struct needs needs = needs_of(layer, i);
    const struct edge *edge;
    uint64_t bytes = 0;
    uint32_t count = 0;

    if (!task_has_inputs(layer, i)) {
        return false;
    }
    while ((edge = needs_next(&needs)) != NULL) {
        for (uint32_t n = 0; n < needs.span.count; n++) {
            uint32_t p = span_at(&needs.span, n);

            if (++count > INPUTS_MAX) {
                return false;
            }
            bytes += edge->source->owner[p] != to->number ? task_bytes(edge->source, p) : 0;
        }
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        if (layer->input[k].whole) {
            return false; // who reads all of a layer has all of it moved
        }
    }
    return bytes / BYTES_A_CHARGE <= layer_charge(layer);
}

static void start(struct worker *worker, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;

    if (worker_prepare(worker, layer)) {
        sched->twin[sched->twins++] = (struct twin){.job = layer->job->number,
                                                    .layer = layer->number,
                                                    .index = i,
                                                    .worker = worker->number,
                                                    .first = layer->owner[i],
                                                    .due = true};
        worker->twins++;
        sched->second_runs++;
    }
}

static void help(struct sched *sched, struct layer *layer, uint32_t i)
{
    struct worker *worker = load_first(sched);

    for (uint32_t k = 0; worker != NULL && worker->assigned == 0 && k < WORKERS_LOOKED_AT; k++) {
        if (worker->number != layer->owner[i] && is_idle(worker, layer, i) && is_cheap(layer, i, worker)) {
            start(worker, layer, i);
            return;
        }
        worker = load_next(sched, worker);
    }
}

// How long it has been at the front of its worker's queue, as far as that was seen.
static uint64_t age(struct sched *sched, const struct watch *before, uint32_t watches, struct layer *layer,
                    uint32_t i)
{
    struct watch *watch = &sched->watch[sched->watches];

    *watch = (struct watch){layer->job->number, layer->number, i, layer->owner[i], sched->now_us};
    for (uint32_t k = 0; k < watches; k++) {
        if (before[k].job == watch->job && before[k].layer == watch->layer && before[k].index == i &&
            before[k].worker == watch->worker) {
            watch->since_us = before[k].since_us;
            break;
        }
    }
    sched->watches++;
    return sched->now_us - watch->since_us;
}

// What each of them runs: the first tasks of its queue.
static void look_at(struct sched *sched, struct worker *worker, const struct watch *before, uint32_t watches)
{
    uint32_t running = 0;

    for (uint32_t k = worker_over(worker); k < worker->queue_told; k++) {
        const struct slot slot = worker->queue[k];

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            struct layer *layer = slot.layer;

            if (!worker_has(worker, layer, i)) {
                continue;
            }
            if (running++ == worker->threads || sched->watches == WATCHES_MAX) {
                return;
            }
            if (!layer->graph->speculate || !layer_is_learnt(layer) || layer->kin->learnt < LEARNT) {
                continue;
            }
            uint64_t usual_us = (uint64_t)layer_charge(layer) * CHARGE_NS / 1000;

            if (age(sched, before, watches, layer, i) > TIMES * usual_us + sched->options.straggler_us &&
                sched->twins < TWINS_MAX && twin_find(sched, OWNER_NONE, layer, i) == NULL) {
                help(sched, layer, i);
            }
        }
    }
}

void speculate_run(struct sched *sched)
{
    const struct worker *idle = load_first(sched);
    struct watch before[WATCHES_MAX];
    uint32_t watches = sched->watches;

    if (sched->options.straggler_us == 0 ||
        sched->now_us - sched->watched_us < sched->options.straggler_us / LOOKS) {
        return;
    }
    sched->watched_us = sched->now_us;
    sched->watches = 0;
    if (idle == NULL || idle->assigned > 0 || sched->in[TASK_ASSIGNED] == 0) {
        return; // nobody idles, or nothing runs
    }
    memcpy(before, sched->watch, watches * sizeof(*before));
    for (uint32_t s = 0, looked = 0; s < sched->worker_slots && looked < WORKERS_LOOKED_AT; s++) {
        struct worker *worker = sched->worker[s];

        if (worker != NULL && worker->assigned > 0) {
            looked++;
            look_at(sched, worker, before, watches);
        }
    }
}
