#include "broker/core/estimate.h"

#include <string.h>

#include "broker/core/worker.h"

enum {
    GUESS_PARTS = 64, // a guess is this part of what fits the queue's depth at the least
    WORKERS_LOOKED_AT = 64,
    TASKS_LOOKED_AT = 256,
};

static bool is_same(const struct layer *a, const struct layer *b)
{
    const ProtobufCBinaryData *x = &a->graph->op;
    const ProtobufCBinaryData *y = &b->graph->op;

    return x->len == y->len && memcmp(x->data, y->data, x->len) == 0;
}

// The layer whose estimate this one shares: it comes before it, or it is its own.  A row of equal
// layers is looked at from its end once.
static struct layer *kin_of(struct layer *layer)
{
    struct layer *first = layer;

    while (first->kin == NULL && first->number > 0 && is_same(first, layer->job->layer[first->number - 1])) {
        first = layer->job->layer[first->number - 1];
    }
    for (size_t k = 0; first->kin == NULL && k < first->inputs; k++) {
        struct layer *source = first->input[k].source;

        if (source->job == layer->job && source->number < first->number && source->kin != NULL &&
            is_same(first, source)) {
            first = source;
        }
    }
    if (first->kin == NULL) {
        first->kin = first;
    }
    for (; layer->kin == NULL; layer = layer->job->layer[layer->number - 1]) {
        layer->kin = first->kin;
    }
    return first->kin;
}

static uint64_t mean(uint64_t charge, uint64_t weight, uint64_t busy, uint64_t tasks)
{
    uint64_t both = (charge * weight + busy) / (weight + tasks);

    return both < 1 ? 1 : both > UINT32_MAX ? UINT32_MAX : both;
}

uint32_t layer_charge(struct layer *layer)
{
    const struct layer *kin = layer->kin != NULL ? layer->kin : kin_of(layer);
    uint32_t guess = layer->job->sched->charge_guess;

    if (kin->learnt > 0) {
        return kin->charge;
    }
    // Nothing is known of it: then it is like the rest of the job, but not much smaller than what
    // fits the queue's depth.
    if (layer->job->learnt > 0 && layer->job->charge < guess) {
        guess = layer->job->charge > guess / GUESS_PARTS ? layer->job->charge : guess / GUESS_PARTS;
    }
    return guess > 0 ? guess : 1;
}

// What the layer's tasks in one queue are taken to last, now that it is known.
static void recharge(struct worker *worker, const struct layer *kin)
{
    uint32_t looked = 0;

    for (uint32_t k = worker_over(worker); k < worker->queue_count; k++) {
        const struct slot *slot = &worker->queue[k];

        for (uint32_t i = slot->first; slot->layer->kin == kin && i < slot->first + slot->count; i++) {
            if (looked++ == TASKS_LOOKED_AT) {
                return;
            }
            if (worker_has(worker, slot->layer, i)) {
                worker_recharge(worker, slot->layer, i, kin->charge);
            }
        }
    }
}

// The first time something is known: tasks that were given out on a guess count for what they are.
// For the first few workers, which is where the queues are short.
static void learn_first(struct layer *layer, const struct layer *kin)
{
    struct knows *knows = layer->job->knows;

    for (uint32_t looked = 0; knows != NULL && looked < WORKERS_LOOKED_AT; looked++) {
        if (knows_test(knows->holds, layer->number)) {
            recharge(knows->worker, kin);
            worker_reload(layer->job->sched, knows->worker);
        }
        knows = knows->job_next;
    }
}

bool layer_is_learnt(const struct layer *layer)
{
    return layer->kin != NULL && layer->kin->learnt > 0;
}

void layer_learn(struct layer *layer, uint32_t tasks, uint64_t busy_us)
{
    struct layer *kin = layer->kin != NULL ? layer->kin : kin_of(layer);
    struct job *job = layer->job;
    uint64_t most = UINT64_C(1) << 40;
    uint64_t busy = (busy_us < most ? busy_us : most) * 1000 / CHARGE_NS;

    bool first = kin->learnt == 0;

    kin->charge = (uint32_t)mean(kin->charge, kin->learnt, busy, tasks);
    kin->learnt = kin->learnt + (uint64_t)tasks < LEARNT_MAX ? kin->learnt + tasks : LEARNT_MAX;
    job->charge = (uint32_t)mean(job->charge, job->learnt, busy, tasks);
    job->learnt = job->learnt + (uint64_t)tasks < LEARNT_MAX ? job->learnt + tasks : LEARNT_MAX;
    if (first) {
        learn_first(layer, kin);
    }
}
