#include "broker/core/placement.h"

#include <errno.h>
#include <stdio.h>

#include "broker/core/job.h"
#include "broker/core/outbox.h"
#include "broker/core/worker.h"

enum {
    CANDIDATES = 8, // holders of inputs that are compared
    INPUTS_LOOKED_AT = 64,
    MUCH_BUSIER = 8,     // of LOAD_FULL: half a queue
    STEPS_TOGETHER = 16, // roots of one group that are kept in step
    STARVING_LOOKED_AT = 16,
};

static struct worker *least_loaded(const struct sched *sched)
{
    for (int load = 0; load < LOAD_FULL; load++) {
        if (sched->load_head[load] != NULL) {
            return sched->load_head[load];
        }
    }
    return NULL;
}

// The next in order of load that has room.
static struct worker *next_loaded(const struct sched *sched, const struct worker *worker)
{
    if (worker->load_next != NULL) {
        return worker->load_next;
    }
    for (int load = worker->load + 1; load < LOAD_FULL; load++) {
        if (sched->load_head[load] != NULL) {
            return sched->load_head[load];
        }
    }
    return NULL;
}

// Notes that the worker has to do with the layer from now on; false: no memory for that.
static bool prepare(struct worker *worker, struct layer *layer)
{
    struct job *job = layer->job;
    struct knows *knows = worker_knows(worker, job);

    if (knows == NULL) {
        return false;
    }
    knows_set(knows->holds, layer->number);
    if (job->state == JOB_QUEUED) {
        job->state = JOB_RUNNING;
    }
    worker_mark_dirty(job->sched, worker);
    return true;
}

static bool hand_out(struct worker *worker, struct layer *layer, uint32_t first, uint32_t count)
{
    if (!prepare(worker, layer)) {
        return false;
    }
    for (uint32_t i = first; i < first + count; i++) {
        worker_assign(worker, layer, i);
    }
    worker_reload(layer->job->sched, worker);
    return true;
}

// The worker with most bytes of the task's local inputs, or NULL.
static struct worker *best_holder(const struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    uint16_t owner[CANDIDATES];
    uint64_t bytes[CANDIDATES];
    uint32_t found = 0;
    uint32_t looked = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        if (edge->whole) {
            continue;
        }
        struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, i);

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
                bytes[c] += edge->source->value[p] + 1;
            }
        }
    }
    uint32_t best = 0;

    for (uint32_t c = 1; c < found; c++) {
        if (bytes[c] > bytes[best]) {
            best = c;
        }
    }
    return found > 0 ? sched->worker[owner[best]] : NULL;
}

static bool is_restricted(const struct layer *layer)
{
    return layer->graph->n_source > 0 && layer->job->sched->unshared > 0;
}

static struct worker *choose(const struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    const Dray__Source *source = is_restricted(layer) ? source_of(layer, i) : NULL;
    struct worker *least = least_loaded(sched);
    struct worker *best = NULL;

    while (least != NULL && !worker_reads(least, source)) {
        least = next_loaded(sched, least);
    }
    if (least == NULL) {
        return NULL;
    }
    if ((layer->state[i] & TASK_RECALL) == 0) {
        best = best_holder(layer, i);
    }
    if (best != NULL && best->load < LOAD_FULL && best->load <= least->load + MUCH_BUSIER &&
        worker_reads(best, source)) {
        return best;
    }
    return least;
}

// Task by task, each to where its inputs are.  False: no worker has room, or no memory.
static bool place_local(struct layer *layer)
{
    struct sched *sched = layer->job->sched;
    const struct worker *last = NULL;

    for (uint32_t i = 0; (i = bits_next(&layer->ready, i)) != BITS_NONE; i++) {
        struct worker *worker = choose(layer, i);

        if (worker == NULL) {
            if (least_loaded(sched) == NULL) {
                return false;
            }
            continue;
        }
        if (worker != last && !prepare(worker, layer)) {
            return false;
        }
        last = worker;
        worker_assign(worker, layer, i);
        worker_reload(sched, worker);
    }
    return true;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// A share of what is ready, so that all workers get some of a short supply and a long one
// goes out in long ranges.
static uint32_t portion(const struct sched *sched, const struct worker *worker)
{
    uint64_t share = sched->in[TASK_READY] / (2 * (uint64_t)sched->worker_count);

    if (share < 1) {
        share = 1;
    }
    uint32_t room = worker->slots - worker->assigned;

    return share < room ? (uint32_t)share : room;
}

// One portion to the least loaded worker.  False: no worker has room.
static bool place_portion(struct layer *layer)
{
    struct worker *worker = least_loaded(layer->job->sched);
    uint32_t first;

    if (worker == NULL) {
        return false;
    }
    first = bits_next(&layer->ready, 0);
    return hand_out(worker, layer, first, bits_run(&layer->ready, first, portion(layer->job->sched, worker)));
}

// The first ready task that this worker can read, and how many follow in the same source.
static uint32_t next_readable(const struct layer *layer, const struct worker *worker, uint32_t *count)
{
    uint32_t i = 0;

    while ((i = bits_next(&layer->ready, i)) != BITS_NONE) {
        const Dray__Source *source = source_of(layer, i);
        uint32_t end = source != NULL ? source->first + source->count : layer->tasks;

        if (worker_reads(worker, source)) {
            *count = bits_run(&layer->ready, i, end - i);
            return i;
        }
        i = end;
    }
    return BITS_NONE;
}

// Workers take turns, each takes what it can read.  False: out of memory.
static bool place_restricted(struct layer *layer)
{
    struct sched *sched = layer->job->sched;
    struct worker *worker = least_loaded(sched);

    while (worker != NULL && layer->in[TASK_READY] > 0) {
        uint32_t count = 0;
        uint32_t first = BITS_NONE;

        if (worker->barren_stamp != layer->ready_stamp) {
            first = next_readable(layer, worker, &count);
        }
        if (first == BITS_NONE) {
            worker->barren_stamp = layer->ready_stamp;
            worker = next_loaded(sched, worker);
            continue;
        }
        if (!hand_out(worker, layer, first, min_u32(count, portion(sched, worker)))) {
            return false;
        }
        worker = least_loaded(sched);
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
        if (other->group != best->group) {
            break;
        }
        uint64_t mine = (uint64_t)bits_next(&other->ready, 0) * best->tasks;

        if (mine < (uint64_t)bits_next(&best->ready, 0) * other->tasks) {
            best = other;
        }
    }
    return best;
}

// False: nobody has room.
static bool place_job(struct job *job)
{
    struct layer *layer;
    uint64_t key = 0;

    while ((layer = layer_from(job, key)) != NULL) {
        bool room;

        if (layer->local) {
            room = place_local(layer);
            key = layer->rank.key + 1;
        } else if (is_restricted(layer)) {
            room = place_restricted(layer);
            key = layer->rank.key + 1;
        } else {
            // Comes back to the same one until it is out of tasks.
            key = layer->rank.key;
            room = place_portion(hindmost(layer));
        }
        if (!room) {
            return false;
        }
    }
    return true;
}

// Asks for half of what a worker has queued, latest first, and no more than can start at once.
static uint32_t recall(struct sched *sched, struct worker *victim, const struct worker *thief, uint32_t want)
{
    uint32_t queued = victim->assigned - victim->threads - victim->recalled;
    uint32_t asked = 0;

    want = min_u32(want, (queued + 1) / 2);
    for (uint32_t k = victim->queue_told; k-- > 0 && asked < want;) {
        const struct slot *slot = &victim->queue[k];
        struct layer *layer = slot->layer;

        if (!worker_has(victim, slot) || (layer->state[slot->index] & TASK_RECALL) != 0 ||
            !worker_reads(thief, is_restricted(layer) ? source_of(layer, slot->index) : NULL)) {
            continue;
        }
        if (!outbox_drop(sched, victim, layer, slot->index, false)) {
            break;
        }
        layer->state[slot->index] |= TASK_RECALL;
        victim->recalled++;
        asked++;
    }
    return asked;
}

static void steal(struct sched *sched)
{
    struct worker *thief = least_loaded(sched);
    uint32_t looked = 0;

    for (; thief != NULL && looked < STARVING_LOOKED_AT; thief = next_loaded(sched, thief), looked++) {
        uint32_t want = thief->threads > thief->assigned ? thief->threads - thief->assigned : 0;

        // What was asked back for others before is not on its way to this one: a little too
        // much may be asked, never more than half of a queue.
        for (int load = LOAD_FULL; want > 0 && load > thief->load; load--) {
            struct worker *victim = sched->load_head[load];
            uint32_t tried = 0;

            for (; victim != NULL && want > 0 && tried < STARVING_LOOKED_AT; tried++) {
                if (victim->recalled == 0 && victim->assigned > victim->threads) {
                    want -= recall(sched, victim, thief, want);
                }
                victim = victim->load_next;
            }
        }
    }
}

void placement_run(struct sched *sched)
{
    struct job *job = sched->run_head;

    while (job != NULL && least_loaded(sched) != NULL) {
        struct job *next = job->run_next;

        if (!place_job(job)) {
            return;
        }
        job = next;
    }
    if (sched->worker_count > 1 && sched->in[TASK_ASSIGNED] > 0) {
        steal(sched);
    }
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

void placement_check_sources(struct sched *sched)
{
    struct job *job = sched->run_head;

    sched->check_sources = false;
    if (sched->worker_count == 0 || sched->unshared < sched->worker_count) {
        return;
    }
    while (job != NULL) {
        struct job *next = job->run_next;

        check_job(job);
        job = next;
    }
}
