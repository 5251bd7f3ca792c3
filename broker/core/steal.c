#include "broker/core/steal.h"

#include "broker/core/links.h"
#include "broker/core/outbox.h"
#include "broker/core/share.h"
#include "broker/core/worker.h"

enum {
    STARVING_LOOKED_AT = 16,       // thieves, and victims for each
    TASKS_LOOKED_AT = 512,         // of a victim's queue, from the end and from the front
    PAYS = 300 * 1000 / CHARGE_NS, // a task comes back, is given and fetches its inputs
    ROOM_LOOKED_AT = 64,
    LONG_WAIT = 4 * WINDOW, // what is queued for so long is asked back for who comes before
};

// Its inputs are made: it can be started elsewhere.
static bool is_free(const struct layer *layer, uint32_t i)
{
    if ((layer->state[i] & TASK_AHEAD) == 0) {
        return true;
    }
    struct needs needs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&needs)) != NULL) {
        struct span span = needs.span;

        for (uint32_t n = span.count; n-- > 0;) {
            if (task_state(edge->source, span_at(&span, n)) != TASK_HELD) {
                return false;
            }
        }
    }
    return true;
}

struct theft {
    struct worker *victim;
    const struct worker *thief;
    uint32_t want;   // tasks
    uint64_t charge; // and how long they may last
    uint32_t looked;
    uint32_t asked;
};

// Those that wait for this one come along unasked.  False: enough.
static bool ask(struct theft *theft, struct layer *layer, uint32_t i)
{
    struct worker *victim = theft->victim;

    if (theft->looked++ == TASKS_LOOKED_AT) {
        return false;
    }
    if (!worker_has(victim, layer, i) || (layer->state[i] & TASK_RECALL) != 0 || !is_free(layer, i) ||
        worker_room(theft->thief, layer) == 0 ||
        !worker_reads(theft->thief, layer_reads_apart(layer) ? source_of(layer, i) : NULL)) {
        return true;
    }
    if (!outbox_drop(layer->job->sched, victim, layer, i, false)) {
        return false;
    }
    layer->state[i] |= TASK_RECALL;
    victim->recalled++;
    theft->asked++;
    theft->charge -= theft->charge < layer->value[i] ? theft->charge : layer->value[i];
    return theft->asked < theft->want && theft->charge > 0;
}

// Latest first.
static void recall_from_end(struct theft *theft)
{
    struct worker *victim = theft->victim;

    for (uint32_t k = victim->queue_told; k-- > victim->queue_over;) {
        const struct slot slot = victim->queue[k];

        for (uint32_t i = slot.first + slot.count; i-- > slot.first;) {
            if (!ask(theft, slot.layer, i)) {
                return;
            }
        }
    }
}

// Where the end of a queue waits for its front: every second one of those that are free.
static void recall_from_front(struct theft *theft)
{
    struct worker *victim = theft->victim;
    uint32_t skip = victim->threads;

    for (uint32_t k = worker_over(victim); k < victim->queue_told; k++) {
        const struct slot slot = victim->queue[k];

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            if (theft->looked == TASKS_LOOKED_AT) {
                return;
            }
            if (!worker_has(victim, slot.layer, i) || !is_free(slot.layer, i)) {
                theft->looked++;
            } else if (skip > 0) {
                skip--;
                theft->looked++;
            } else if (!ask(theft, slot.layer, i)) {
                return;
            } else {
                skip = 1;
            }
        }
    }
}

// At most half of what is queued, and no more than evens the two out; what was asked.
static uint32_t recall(struct worker *victim, const struct worker *thief)
{
    uint32_t queued = victim->assigned - victim->threads;
    uint64_t threads = (uint64_t)victim->threads + thief->threads;
    uint64_t even = (victim->backlog + thief->backlog) / threads * thief->threads * PACE / thief->pace;
    struct theft theft = {.victim = victim, .thief = thief, .want = (queued + 1) / 2};

    theft.charge = even > thief->backlog ? even - thief->backlog : 0;
    if (theft.charge == 0) {
        return 0;
    }
    recall_from_end(&theft);
    if (theft.asked == 0 && theft.looked >= TASKS_LOOKED_AT) {
        theft.looked = 0;
        recall_from_front(&theft);
    }
    return theft.asked;
}

// True: there was somebody to take from, whether or not he had anything for this one.
static bool rob(struct sched *sched, const struct worker *thief)
{
    uint32_t tried = 0;
    bool any = false;

    for (int load = load_below(sched, LOAD_FULL + 1); load > thief->load; load = load_below(sched, load)) {
        for (struct worker *victim = sched->load_head[load]; victim != NULL; victim = victim->load_next) {
            if (tried++ == STARVING_LOOKED_AT) {
                return any;
            }
            if (victim->recalled > 0 || victim->assigned <= victim->threads ||
                worker_wait(victim) < worker_wait(thief) + PAYS) {
                continue;
            }
            any = true;
            if (recall(victim, thief) > 0) {
                return true;
            }
        }
    }
    return any;
}

// What is asked back for the sake of one job.
struct claim {
    const struct job *job;
    uint32_t wanted; // tasks
    uint64_t given;  // work that comes back, from now or before
};

// It comes first, and still does when it has got all this and the others have given it back: so that no
// two jobs take the same places from one another in turn.
static bool is_clearly_first(const struct claim *claim, const struct job *other, uint64_t charge)
{
    const struct job *job = claim->job;

    if (job->priority != other->priority) {
        return job->priority > other->priority;
    }
    return job->share != other->share &&
           share_used(job->share) + 2 * (claim->given + charge) + LONG_WAIT < share_used(other->share);
}

// Asks for one task, the latest that may be given up.
static void make_room(struct claim *claim, struct worker *worker)
{
    uint32_t queued = worker->assigned - worker->threads;
    uint32_t looked = 0;

    for (uint32_t k = worker->queue_told; k-- > worker->queue_over;) {
        const struct slot slot = worker->queue[k];

        for (uint32_t i = slot.first + slot.count; i-- > slot.first;) {
            bool has = worker_has(worker, slot.layer, i);

            // Those that are left then are running.
            if (looked++ == ROOM_LOOKED_AT || (has && queued-- == 0)) {
                return;
            }
            if (!has || !is_free(slot.layer, i) ||
                !is_clearly_first(claim, slot.layer->job, slot.layer->value[i])) {
                continue;
            }
            if (outbox_drop(claim->job->sched, worker, slot.layer, i, false)) {
                slot.layer->state[i] |= TASK_RECALL;
                worker->recalled++;
                claim->wanted--;
                claim->given += slot.layer->value[i];
            }
            return;
        }
    }
}

void steal_room(struct sched *sched, const struct layer *layer)
{
    const struct demand *demand = layer->lane->demand;
    struct worker *worker = sched->load_head[LOAD_FULL];
    struct claim claim = {.job = layer->job, .wanted = layer->in[TASK_READY]};

    for (uint32_t k = 0; worker != NULL && claim.wanted > 0 && k < STARVING_LOOKED_AT; k++) {
        if (worker->recalled > 0) {
            claim.wanted--;
            claim.given += worker->backlog / worker->assigned;
        } else if (!worker->leaving && worker->assigned > worker->threads &&
                   worker_wait(worker) > LONG_WAIT && (demand == NULL || demand_is_met(demand, worker))) {
            // Short ones are soon over.
            make_room(&claim, worker);
        }
        worker = worker->load_next;
    }
}

void steal_back(struct sched *sched, struct worker *worker)
{
    for (uint32_t k = worker_over(worker); k < worker->queue_count; k++) {
        const struct slot slot = worker->queue[k];

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            if (!worker_has(worker, slot.layer, i) || (slot.layer->state[i] & TASK_RECALL) != 0) {
                continue;
            }
            if (!outbox_drop(sched, worker, slot.layer, i, false)) {
                return; // then it does them
            }
            slot.layer->state[i] |= TASK_RECALL;
            worker->recalled++;
        }
    }
}

void steal_run(struct sched *sched)
{
    struct worker *thief = load_first(sched);

    for (uint32_t k = 0; thief != NULL && k < STARVING_LOOKED_AT; k++) {
        struct worker *next = load_next(sched, thief);

        if (thief->assigned < thief->threads && !rob(sched, thief)) {
            return;
        }
        thief = next;
    }
}
