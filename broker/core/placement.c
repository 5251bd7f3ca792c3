#include "broker/core/placement.h"

#include <errno.h>
#include <stdio.h>

#include "broker/core/ahead.h"
#include "broker/core/estimate.h"
#include "broker/core/job.h"
#include "broker/core/links.h"
#include "broker/core/share.h"
#include "broker/core/steal.h"
#include "broker/core/worker.h"

enum {
    CANDIDATES = 8,        // holders of inputs that are compared
    SLOTS_LOOKED_AT = 256, // for a faster worker
    IDLE_LOOKED_AT = 16,
    INPUTS_LOOKED_AT = 64,
    STEPS_TOGETHER = 16, // roots of one group that are kept in step
    PIECE_MIN = 8,       // roots whose dependents follow them
    // In CHARGE_NS:
    TRANSFER = 100 * 1000 / CHARGE_NS,      // what it takes to move a partition, apart from its bytes
    QUANTUM = 100 * 1000 / CHARGE_NS,       // work that is worth a message
    PAYS_TO_WAIT = 1000 * 1000 / CHARGE_NS, // for a faster worker
    BYTES_A_CHARGE = 16,                    // that pass between two workers in CHARGE_NS
    REFUSALS_MAX = 64,                      // layers in a row of which the least loaded worker wants none
};

static bool hand_out(struct worker *worker, struct layer *layer, uint32_t first, uint32_t count)
{
    if (!worker_reserve(worker, 1) || !worker_prepare(worker, layer)) {
        return false;
    }
    for (uint32_t i = first; i < first + count; i++) {
        worker_assign(worker, layer, i);
    }
    worker_reload(layer->job->sched, worker);
    return true;
}

// The worker with most bytes of the task's local inputs, or NULL; *weight: how many.
static struct worker *best_holder(const struct layer *layer, uint32_t i, uint64_t *weight)
{
    struct sched *sched = layer->job->sched;
    uint16_t owner[CANDIDATES];
    uint64_t bytes[CANDIDATES];
    uint32_t found = 0;
    uint32_t looked = 0;

    struct needs needs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&needs)) != NULL) {
        struct span span = needs.span;

        for (uint32_t n = 0; n < span.count && looked < INPUTS_LOOKED_AT; n++, looked++) {
            uint32_t p = span_at(&span, n);
            uint32_t c = 0;

            while (c < found && owner[c] != edge->source->owner[p]) {
                c++;
            }
            if (c == found && found < CANDIDATES) {
                owner[found] = edge->source->owner[p];
                bytes[found++] = 0;
            }
            if (c < found) {
                bytes[c] += task_bytes(edge->source, p) + 1;
            }
        }
    }
    uint32_t best = 0;

    for (uint32_t c = 1; c < found; c++) {
        if (bytes[c] > bytes[best]) {
            best = c;
        }
    }
    *weight = found > 0 ? bytes[best] : 0;
    return found > 0 ? sched->worker[owner[best]] : NULL;
}

// It pays to have a task wait at `best`, which holds `weight` bytes of its inputs, rather than start
// it at `least` as soon as the bytes are there.
static bool is_worth_waiting(struct layer *layer, const struct worker *best, const struct worker *least,
                             uint64_t weight)
{
    uint64_t transfer = TRANSFER + weight / BYTES_A_CHARGE;

    // So little work is done before it has moved.
    return worker_wait(best) + worker_time(best, layer) <=
               worker_wait(least) + worker_time(least, layer) + transfer ||
           layer_charge(layer) * (uint64_t)layer->in[TASK_READY] < transfer;
}

// The job's share has had what it gets in this turn.
static bool is_turn_over(const struct job *job)
{
    return share_used(job->share) >= job->sched->turn_limit;
}

// What it gets yet, in CHARGE_NS: at least what is worth a message.
static uint64_t turn_left(const struct job *job)
{
    uint64_t left = is_turn_over(job) ? 0 : job->sched->turn_limit - share_used(job->share);

    return left > QUANTUM ? left : QUANTUM;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// How many of the layer's ready tasks the worker gets in one go.  As many as bring it to where all
// would be if the work were dealt out evenly, so that all workers get some of a short supply and a long
// one goes out in long ranges; but no less than is worth a message.
static uint32_t portion(struct layer *layer, const struct worker *worker)
{
    const struct sched *sched = layer->job->sched;
    const struct demand *demand = layer->lane->demand;
    uint64_t charge = layer_charge(layer);
    uint64_t threads = demand != NULL ? demand->threads : sched->threads;
    // Of those that may have it, as if they were as busy as the rest.
    uint64_t busy = demand != NULL ? sched->backlog / sched->threads * threads : sched->backlog;
    uint64_t even = (busy + layer->in[TASK_READY] * charge) / threads * worker->threads * PACE / worker->pace;
    uint64_t work = even > worker->backlog ? even - worker->backlog : 0;

    // It has enough to do while others may still want some.
    if (work == 0 && worker->assigned > 0 && worker_wait(worker) >= 2 * QUANTUM) {
        return 0;
    }
    work = work < QUANTUM ? QUANTUM : work;
    if (sched->turn_limit != UINT64_MAX && work > turn_left(layer->job)) {
        work = turn_left(layer->job);
    }
    work = work < SLOTS_MAX * charge ? (work + charge - 1) / charge : SLOTS_MAX;
    return min_u32((uint32_t)work, worker_room(worker, layer));
}

static struct worker *free_from(const struct layer *layer, struct worker *worker)
{
    const struct demand *demand = layer->lane->demand;

    while (demand != NULL && worker != NULL && demand_room(demand, worker) == 0) {
        worker = load_next(layer->job->sched, worker);
    }
    return worker;
}

// The least loaded worker that meets what the layer's tasks ask for and has room for one, and the next by
// load.
static struct worker *first_free(const struct layer *layer)
{
    struct worker *worker = free_from(layer, load_first(layer->job->sched));

    if (worker == NULL && layer->lane->demand != NULL) {
        layer->lane->demand->stuck_run = layer->job->sched->run;
    }
    return worker;
}

static struct worker *next_free(const struct layer *layer, const struct worker *worker)
{
    return free_from(layer, load_next(layer->job->sched, worker));
}

static bool is_restricted(const struct layer *layer)
{
    return layer->lane->demand != NULL || layer_reads_apart(layer);
}

// A slow worker, where the last tasks would be over later than if they waited for a faster one that is busy.
static bool is_too_slow(struct layer *layer, const struct worker *worker)
{
    const struct sched *sched = layer->job->sched;
    uint64_t end = worker_wait(worker) + worker_time(worker, layer);
    uint64_t left = layer->in[TASK_READY] * (uint64_t)layer_charge(layer);

    if (worker->pace <= PACE || end <= (sched->backlog + left) / sched->threads + layer_charge(layer)) {
        return false;
    }
    for (uint32_t s = 0; s < sched->worker_slots && s < SLOTS_LOOKED_AT; s++) {
        const struct worker *other = sched->worker[s];

        // It is asked next, or will report, and then this is looked at again.
        if (other != NULL && other->pace < worker->pace && !other->leaving && !other->closed &&
            (other->assigned > 0 || worker_room(other, layer) > 0) &&
            worker_wait(other) + worker_time(other, layer) + PAYS_TO_WAIT < end) {
            return true;
        }
    }
    return false;
}

// Of those who have as little to do as `least`, one that is faster, if it is slow.
static struct worker *faster_idle(const struct layer *layer, struct worker *least, const Dray__Source *source)
{
    struct worker *best = least;
    struct worker *other = least;

    for (uint32_t k = 0; best->pace > PACE && k < IDLE_LOOKED_AT; k++) {
        other = next_free(layer, other);
        if (other == NULL || other->load != least->load) {
            break;
        }
        best = other->pace < best->pace && worker_reads(other, source) ? other : best;
    }
    return best;
}

// The worker for a ready task; *alone: it has no local inputs.  NULL: nobody has room.
static struct worker *choose(struct layer *layer, uint32_t i, bool *alone)
{
    const Dray__Source *source = layer_reads_apart(layer) ? source_of(layer, i) : NULL;
    struct worker *least = first_free(layer);
    struct worker *best = NULL;
    uint64_t weight = 0;

    while (least != NULL && !worker_reads(least, source)) {
        least = next_free(layer, least);
    }
    *alone = false;
    if (least == NULL) {
        return NULL;
    }
    least = faster_idle(layer, least, source);
    if ((layer->state[i] & TASK_RECALL) == 0) {
        best = best_holder(layer, i, &weight);
        *alone = best == NULL;
    }
    if (best != NULL && worker_room(best, layer) > 0 && worker_reads(best, source) &&
        is_worth_waiting(layer, best, least, weight)) {
        return best;
    }
    return least;
}

// No worker has room for any of its tasks, which is so until this placement is over.
static bool is_stuck(const struct layer *layer)
{
    return layer->lane->demand != NULL && layer->lane->demand->stuck_run == layer->job->sched->run;
}

// How many ready tasks from i on have no local inputs, at most max.
static uint32_t alone_run(const struct layer *layer, uint32_t i, uint32_t max)
{
    uint32_t run = bits_run(&layer->ready, i, max);
    uint64_t weight;

    for (uint32_t n = 1; n < run; n++) {
        if (best_holder(layer, i + n, &weight) != NULL) {
            return n;
        }
    }
    return run;
}

// Task by task, each to where its inputs are.  False: no worker has room, or no memory.
static bool place_local(struct layer *layer)
{
    struct sched *sched = layer->job->sched;

    for (uint32_t i = 0; (i = bits_next(&layer->ready, i)) != BITS_NONE;) {
        bool alone;
        struct worker *worker = choose(layer, i, &alone);
        uint32_t count = 1;

        if (worker == NULL) {
            if (load_first(sched) == NULL) {
                return false;
            }
            if (is_stuck(layer)) {
                return true;
            }
            i++;
            continue;
        }
        if (alone && !is_restricted(layer)) {
            count = alone_run(layer, i, portion(layer, worker));
        }
        if (count == 0 || is_turn_over(layer->job)) {
            return true;
        }
        if (!hand_out(worker, layer, i, count)) {
            return false;
        }
        i += count;
    }
    return true;
}

// Where a worker begins: tasks that share dependents with their neighbours stay together, so each
// worker has its own stretch of them.
static uint32_t stretch(const struct layer *layer, const struct worker *worker, uint32_t *end)
{
    uint64_t slots = layer->job->sched->worker_slots;
    uint32_t from = 0;
    uint32_t first;

    *end = layer->tasks;
    if (layer->neighbours && layer->tasks > slots) {
        from = (uint32_t)(layer->tasks * (uint64_t)worker->number / slots);
        *end = (uint32_t)(layer->tasks * (uint64_t)(worker->number + 1) / slots);
    }
    first = bits_next(&layer->ready, from);
    if (first >= *end) {
        *end = layer->tasks;
    }
    return first != BITS_NONE ? first : bits_next(&layer->ready, 0);
}

// One portion to the least loaded worker.  False: it gets none, so nobody does.
static bool place_portion(struct layer *layer)
{
    struct sched *sched = layer->job->sched;
    struct worker *worker = load_first(sched);
    uint32_t left;

    while (worker != NULL && is_too_slow(layer, worker)) {
        worker = load_next(sched, worker);
    }
    left = worker != NULL ? portion(layer, worker) : 0;

    if (left == 0) {
        return false;
    }
    // In pieces, so that what depends on each comes before the next one.
    while (left > 0 && layer->in[TASK_READY] > 0) {
        uint32_t end;
        uint32_t first = stretch(layer, worker, &end);
        uint32_t piece = QUANTUM / layer_charge(layer);
        uint32_t run;

        piece = piece < PIECE_MIN ? PIECE_MIN : piece;
        piece = layer->consumers == NULL || piece > left ? left : piece;
        run = bits_run(&layer->ready, first, min_u32(piece, end - first));
        if (!hand_out(worker, layer, first, run)) {
            return false;
        }
        if (layer->job->sched->options.ahead && layer->consumers != NULL) {
            ahead_expand(worker, NULL);
        }
        left = min_u32(left - run, worker_room(worker, layer));
    }
    return true;
}

// The first ready task that this worker can read, and how many follow in the same source.
static uint32_t next_readable(const struct layer *layer, const struct worker *worker, uint32_t *count)
{
    bool apart = layer_reads_apart(layer);
    uint32_t i = 0;

    while ((i = bits_next(&layer->ready, i)) != BITS_NONE) {
        const Dray__Source *source = apart ? source_of(layer, i) : NULL;
        uint32_t end = source != NULL ? source->first + source->count : layer->tasks;

        if (worker_reads(worker, source)) {
            *count = bits_run(&layer->ready, i, end - i);
            return i;
        }
        i = end;
    }
    return BITS_NONE;
}

// Workers take turns, each takes what it can read and is asked to.  False: out of memory.
static bool place_restricted(struct layer *layer)
{
    struct worker *worker = first_free(layer);

    while (worker != NULL && layer->in[TASK_READY] > 0 && !is_turn_over(layer->job)) {
        uint32_t count = 0;
        uint32_t first = BITS_NONE;

        if (worker->barren_stamp != layer->ready_stamp) {
            first = next_readable(layer, worker, &count);
        }
        if (first == BITS_NONE) {
            worker->barren_stamp = layer->ready_stamp;
            worker = next_free(layer, worker);
            continue;
        }
        count = min_u32(count, portion(layer, worker));
        if (count == 0) {
            return true;
        }
        if (!hand_out(worker, layer, first, count)) {
            return false;
        }
        worker = first_free(layer);
    }
    return true;
}

// Of the roots that are in step with this one, the one that is furthest behind.
static struct layer *hindmost(struct layer *best)
{
    struct layer *other = best;
    uint32_t looked = 0;

    while (best->root && (other = layer_from(best->job, other->rank.key + 1)) != NULL &&
           looked++ < STEPS_TOGETHER) {
        if (other->group != best->group || is_restricted(other)) {
            break;
        }
        uint64_t mine = (uint64_t)bits_next(&other->ready, 0) * best->tasks;

        if (mine < (uint64_t)bits_next(&best->ready, 0) * other->tasks) {
            best = other;
        }
    }
    return best;
}

enum outcome {
    PLACED,    // all that can be
    NO_ROOM,   // at any worker, or no memory
    TURN_OVER, // there may be more
};

static enum outcome place_job(struct job *job)
{
    struct layer *layer;
    uint64_t key = 0;
    uint32_t refused = 0;

    // Who did not want some of so many layers has enough to do, whatever else there is.
    while (refused < REFUSALS_MAX && (layer = layer_from(job, key)) != NULL) {
        bool room;

        if (layer->root && job->share->ahead_run != job->sched->run) {
            // What follows from roots that were given comes before more of them.
            ahead_run(job->sched, job);
            job->share->ahead_run = job->sched->run;
        }
        if (layer->local) {
            room = place_local(layer);
            key = layer->rank.key + 1;
        } else if (is_restricted(layer)) {
            room = place_restricted(layer);
            key = layer->rank.key + 1;
        } else {
            // Comes back to the same one until it is out of tasks or nobody wants more of them.
            bool placed = place_portion(hindmost(layer));

            key = layer->rank.key + (placed ? 0 : 1);
            refused = placed ? 0 : refused + 1;
            room = load_first(job->sched) != NULL;
        }
        if (!room) {
            return NO_ROOM;
        }
        if (is_turn_over(job)) {
            return TURN_OVER;
        }
    }
    return PLACED;
}

// Its jobs one after another.
static enum outcome place_share(struct sched *sched, struct share *share)
{
    struct job *job = share->run_head;
    enum outcome outcome = PLACED;

    while (job != NULL && outcome == PLACED) {
        struct job *next = job->run_next;

        outcome = place_job(job);
        job = next;
    }
    if (outcome == PLACED) {
        share->passed_run = sched->run;
    }
    return outcome;
}

// Shares of equal priority take turns, each until it has had a little more than the next one.
static enum outcome place_level(struct sched *sched, struct level *level)
{
    enum outcome outcome = PLACED;
    struct share *share;

    while (outcome != NO_ROOM &&
           (share = level_turn(level, sched->run, QUANTUM, &sched->turn_limit)) != NULL) {
        outcome = place_share(sched, share);
    }
    return outcome;
}

// For the first of those who have had least.
static void make_room(struct sched *sched, struct level *level)
{
    const struct share *first = level->runnable;
    const struct layer *layer;

    // Nobody else has anything that could be given up.
    if (first == NULL || (sched->levels->next == NULL && level->shares < 2)) {
        return;
    }
    for (const struct share *share = first->run_next; share != NULL; share = share->run_next) {
        first = share_used(share) < share_used(first) ? share : first;
    }
    layer = layer_from(first->run_head, 0);
    if (layer != NULL) {
        steal_room(sched, layer);
    }
}

static void place_jobs(struct sched *sched)
{
    for (struct level *level = sched->levels; level != NULL; level = level->next) {
        if (level->runnable != NULL && (load_first(sched) == NULL || place_level(sched, level) == NO_ROOM)) {
            make_room(sched, level);
            return;
        }
    }
    ahead_run(sched, NULL);
    if (sched->worker_count > 1 && sched->in[TASK_ASSIGNED] > 0) {
        steal_run(sched);
    }
}

void placement_run(struct sched *sched)
{
    place_jobs(sched);
    sched->run++;
}

static bool anyone_reads(const struct sched *sched, const Dray__Source *source)
{
    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        const struct worker *worker = sched->worker[s];

        // One that has not said what it has may still turn out to have it.
        if (worker != NULL &&
            ((!worker->shared_files && !worker->sources_known) || worker_reads(worker, source))) {
            return true;
        }
    }
    return false;
}

static void fail_unreadable(struct layer *layer, uint32_t i, const Dray__Source *source)
{
    struct sched *sched = layer->job->sched;
    char text[1024];
    size_t used = 0;
    uint32_t named = 0;
    int n = snprintf(text, sizeof(text), "no connected worker can read '%.300s' (%u connected:", source->name,
                     sched->worker_count);

    used = n > 0 ? (size_t)n : 0;
    for (uint32_t s = 0; s < sched->worker_slots && named < 8; s++) {
        const struct worker *worker = sched->worker[s];

        if (worker != NULL) {
            n = snprintf(text + used, sizeof(text) - used, "%s %.60s", named > 0 ? "," : "", worker->name);
            used += n > 0 ? (size_t)n : 0;
            named++;
        }
    }
    snprintf(
        text + used, sizeof(text) - used,
        "%s); start a worker with a --data-dir that holds it, or one without --data-dir that sees the path",
        named < sched->worker_count ? ", ..." : "");
    job_end(layer->job, JOB_FAILED, ENOENT, text, layer->number, i, NULL);
}

static void check_job(struct job *job)
{
    struct layer *layer;
    uint64_t key = 0;

    while (job->has_tasks && (layer = layer_from(job, key)) != NULL) {
        uint32_t i = 0;

        key = layer->rank.key + 1;
        while (layer->graph->n_source > 0 && (i = bits_next(&layer->ready, i)) != BITS_NONE) {
            const Dray__Source *source = source_of(layer, i);

            if (source == NULL) {
                break;
            }
            if (!anyone_reads(job->sched, source)) {
                fail_unreadable(layer, i, source);
                return;
            }
            i = source->first + source->count;
        }
    }
}

static void check_share(struct share *share)
{
    struct job *job = share->run_head;

    while (job != NULL) {
        struct job *next = job->run_next;

        check_job(job);
        job = next;
    }
}

void placement_check_sources(struct sched *sched)
{
    sched->check_sources = false;
    if (sched->worker_count == 0 || sched->unshared < sched->worker_count) {
        return;
    }
    for (struct level *level = sched->levels; level != NULL; level = level->next) {
        struct share *share = level->runnable;

        while (share != NULL) {
            struct share *next = share->run_next;

            check_share(share);
            share = next;
        }
    }
}
