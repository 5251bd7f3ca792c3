#include "broker/core/ahead.h"

#include "broker/core/share.h"
#include "broker/core/links.h"
#include "broker/core/worker.h"

enum {
    CHUNK = 256,             // tasks whose dependents are looked at in one go
    NEEDS_MAX = 1024,        // a task with more inputs waits for them
    REMOTE_MAX = 256 * 1024, // bytes at other workers that count for nothing
    IDLE_LOOKED_AT = 16,
    MOVE = 200 * 1000 / CHARGE_NS, // what it takes to have inputs moved
};

// All local inputs are held, or made by this worker of what it was given; and what other workers
// hold does not outweigh what is here.
static bool fits(const struct layer *layer, uint32_t i, const struct worker *worker)
{
    uint64_t here = 0;
    uint64_t elsewhere = 0;
    uint32_t needs = 0;
    struct needs inputs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&inputs)) != NULL) {
        const struct layer *source = edge->source;
        struct span span = inputs.span;

        if (span.count > NEEDS_MAX - needs) {
            return false;
        }
        needs += span.count;
        for (uint32_t n = span.count; n-- > 0;) {
            uint32_t p = span_at(&span, n);
            enum task_state state = task_state(source, p);
            bool own = source->owner[p] == worker->number;

            if (state == TASK_HELD) {
                *(own ? &here : &elsewhere) += task_bytes(source, p);
            } else if (state != TASK_ASSIGNED || !own) {
                return false;
            }
        }
    }
    return elsewhere <= here + REMOTE_MAX;
}

// A task that takes resources would keep them from others while it waits for its inputs.
static bool may_wait(const struct worker *worker, const struct layer *target)
{
    const struct demand *demand = target->lane->demand;

    return demand == NULL || (demand->resources == 0 && demand_is_met(demand, worker));
}

// Somebody who is faster has nothing to do: the task goes there when its inputs are made, though they have to
// move.
static bool is_faster_elsewhere(const struct worker *worker, struct layer *target)
{
    const struct worker *other = load_first(target->job->sched);
    uint32_t looked = 0;

    if (worker->pace <= PACE) {
        return false;
    }
    while (other != NULL && other->assigned == 0 && looked++ < IDLE_LOOKED_AT) {
        if (worker_time(other, target) + MOVE < worker_time(worker, target)) {
            return true;
        }
        other = load_next(target->job->sched, other);
    }
    return false;
}

struct expansion {
    struct worker *worker;
    struct layer *target;
    uint32_t room;
    bool prepared;
};

// False: there is no room (or memory) for a task that would be given.
static bool consider(struct expansion *expansion, uint32_t i)
{
    struct layer *target = expansion->target;

    if (task_state(target, i) != TASK_WAITING || !fits(target, i, expansion->worker) ||
        !worker_reads(expansion->worker, layer_reads_apart(target) ? source_of(target, i) : NULL)) {
        return true;
    }
    if (expansion->room == 0 || !worker_reserve(expansion->worker, 1) ||
        (!expansion->prepared && !worker_prepare(expansion->worker, target))) {
        return false;
    }
    expansion->prepared = true;
    expansion->room--;
    worker_assign(expansion->worker, target, i);
    return true;
}

// The dependents of one edge of tasks [first, end).
static bool follow_edge(struct worker *worker, const struct edge *edge, uint32_t first, uint32_t end)
{
    struct layer *target = edge->target;
    uint32_t tasks = edge->source->tasks;
    struct expansion expansion = {worker, target, worker_room(worker, target), false};

    if (edge->whole || target->blocked > 0 || target->in[TASK_WAITING] == 0 || !may_wait(worker, target) ||
        is_faster_elsewhere(worker, target)) {
        return true;
    }
    if (edge->reverse == NULL) {
        struct span span = input_dependents(edge->input, target->tasks, tasks, NULL, first);
        struct span last = input_dependents(edge->input, target->tasks, tasks, NULL, end - 1);

        // Patterns keep the order, so that what depends on a range is a range.
        uint32_t to = last.count > 0 ? last.first + last.count : target->tasks;

        for (uint32_t i = span.first; span.count > 0 && i < to; i++) {
            if (!consider(&expansion, i)) {
                return false;
            }
        }
        return true;
    }
    for (uint32_t p = first; p < end; p++) {
        struct span span = input_dependents(edge->input, target->tasks, tasks, edge->reverse, p);

        for (uint32_t n = 0; n < span.count; n++) {
            if (!consider(&expansion, span_at(&span, n))) {
                return false;
            }
        }
    }
    return true;
}

// Those by links, which may be of any layer.
static bool follow_links(struct worker *worker, const struct layer *layer, uint32_t first, uint32_t end)
{
    for (uint32_t p = first; layer->link_head != NULL && p < end; p++) {
        for (uint32_t at = layer->link_head[p]; at != 0; at = layer->link[at - 1].next) {
            const struct link *link = &layer->link[at - 1];
            struct layer *target = link->edge->target;
            struct expansion expansion = {worker, target, 0, false};

            if (target->blocked > 0 || task_state(target, link->task) != TASK_WAITING ||
                !may_wait(worker, target)) {
                continue;
            }
            expansion.room = worker_room(worker, target);
            if (!consider(&expansion, link->task)) {
                return false;
            }
        }
    }
    return true;
}

static bool follow(struct worker *worker, const struct layer *layer, uint32_t first, uint32_t end)
{
    for (size_t k = 0; k < layer->dependents; k++) {
        if (!follow_edge(worker, layer->dependent[k], first, end)) {
            return false;
        }
    }
    return follow_links(worker, layer, first, end);
}

bool ahead_expand(struct worker *worker, const struct job *rival)
{
    bool outranked = false;
    uint32_t load = worker->assigned;

    while (worker_is_ahead_due(worker)) {
        const struct slot slot = worker->queue[worker->queue_ahead];
        uint32_t end = slot.first + slot.count;
        uint32_t from = worker->ahead_from > slot.first ? worker->ahead_from : slot.first;
        uint32_t room = worker_space(worker, slot.layer);
        uint32_t to;

        while (from < end && (slot.layer->consumers == NULL || !worker_has(worker, slot.layer, from))) {
            from = slot.layer->consumers == NULL ? end : from + 1;
        }
        worker->ahead_from = from;
        if (from >= end) { // beyond: the range has lost its end meanwhile
            // The last range may still grow.
            if (worker->queue_ahead + 1 < worker->queue_count) {
                worker->queue_ahead++;
                worker->ahead_from = 0;
            }
            continue;
        }
        outranked = rival != NULL && job_outranks(rival, slot.layer->job);
        if (room == 0 || outranked) {
            break;
        }
        // No more than there is room for, so that what is looked at again is in proportion.
        for (to = from + 1; to < end && to - from < room && to - from < CHUNK; to++) {
            if (!worker_has(worker, slot.layer, to)) {
                break;
            }
        }
        if (!follow(worker, slot.layer, from, to)) {
            break;
        }
        worker->ahead_from = to;
    }
    if (worker->assigned != load && worker->assigned > 0) {
        worker_reload(worker->queue[worker->queue_count - 1].layer->job->sched, worker);
    }
    return !outranked;
}

void ahead_run(struct sched *sched, const struct job *rival)
{
    struct worker *later = NULL;

    while (sched->ahead != NULL) {
        struct worker *worker = sched->ahead;

        sched->ahead = worker->ahead_next;
        // Its own assignments have not put it in again.
        worker->is_ahead = !ahead_expand(worker, rival);
        if (worker->is_ahead) {
            worker->ahead_next = later;
            later = worker;
        }
    }
    sched->ahead = later;
}
