// Layers that were prepared are there; and what a job that goes means for others.
#include "broker/core/growth.h"

#include <string.h>

#include "broker/core/job.h"
#include "broker/core/links.h"
#include "broker/core/outbox.h"
#include "broker/core/worker.h"

enum { PRIORITY_BITS = 31 };

static uint32_t group_of(struct layer *layer)
{
    struct job *job = layer->job;
    uint32_t group = layer->number;

    while (job->layer[group]->group != group) {
        group = job->layer[group]->group;
    }
    while (layer->group != group) {
        struct layer *next = job->layer[layer->group];

        layer->group = group;
        layer = next;
    }
    return group;
}

// Layers that are tied by local edges run in step, a whole edge is a barrier.  Groups of layers that
// are there stay what they are.
static void group_layers(struct growth *growth)
{
    struct job *job = growth->job;

    for (uint32_t l = 0; l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        for (size_t k = 0; k < layer->inputs; k++) {
            if (!layer->input[k].whole && !layer->input[k].foreign) {
                uint32_t a = group_of(layer);
                uint32_t b = group_of(layer->input[k].source);
                uint32_t later = a > b ? a : b;

                if (later >= growth->first) {
                    job->layer[later]->group = a > b ? b : a;
                }
            }
        }
    }
}

// Least first.  Higher priorities; then later layers, so that partitions are released soonest; then
// what has no inputs, by groups, in the order of the graph.
static uint64_t layer_key(struct layer *layer)
{
    int64_t most = (INT64_C(1) << (PRIORITY_BITS - 1)) - 1;
    int64_t priority = layer->graph->has_priority ? layer->graph->priority : 0;
    uint64_t key;

    priority = priority > most ? most : priority < -most ? -most : priority;
    key = (uint64_t)(most - priority) << (64 - PRIORITY_BITS);
    if (layer->root) {
        return key | UINT64_C(1) << 32 | (uint64_t)group_of(layer) << 16 | layer->number;
    }
    return key | (GRAPH_LAYERS_MAX - 1 - layer->number);
}

static void edge_link(struct edge *edge)
{
    struct layer *source = edge->source;

    if (edge_is_linked(edge)) {
        source->readers += edge->readers;
        links_add(edge);
        return;
    }
    edge->at = source->dependents;
    source->readers += edge->readers;
    source->neighbours |= edge->input->pattern == DRAY__PATTERN__WINDOW;
    source->dependent[source->dependents++] = edge;
    if (edge->foreign) {
        source->job->users++;
        job_rouse(source->job);
    }
    if (edge->whole) {
        edge->target->blocked += source->in[TASK_HELD] < source->tasks ? 1 : 0;
        edge->target->doomed += source->in[TASK_FAILED] > 0 ? 1 : 0;
    }
}

// Nothing of its job but itself reads the layer.
static bool is_end(const struct layer *layer)
{
    for (uint32_t k = 0; k < layer->dependents; k++) {
        if (layer->dependent[k]->target != layer && !layer->dependent[k]->foreign) {
            return false;
        }
    }
    return !layer->read_elsewhere;
}

// Tasks that this partition of an input of theirs is for, all of which are unfinished and new.
static void count_all(struct growth *growth, struct edge *edge)
{
    struct layer *source = edge->source;

    (void)growth;
    for (size_t e = 0; edge_is_linked(edge) && e < edge->input->n_target; e++) {
        consumers_add(source, edge->input->target[e], 1);
    }
    for (uint32_t p = 0; !edge_is_linked(edge) && p < source->tasks; p++) {
        consumers_add(
            source, p,
            input_dependents(edge->input, edge->target->tasks, source->tasks, edge->reverse, p).count);
    }
}

// One more unfinished task needs a partition that was there before; 1 when it has to be waited for.
static uint32_t count_one(struct layer *source, uint32_t p)
{
    enum task_state state = task_state(source, p);

    // A failed one then fails those who need it.
    if (consumers_gain(source, p) || state == TASK_FAILED) {
        task_unsettle(source, p);
    }
    return state != TASK_HELD ? 1 : 0;
}

// What one needed task of a new layer means for its inputs; its state.
static enum task_state task_start(struct growth *growth, struct layer *layer, uint32_t i, bool counted)
{
    uint32_t pending = 0;

    struct needs needs = needs_of(layer, i);
    const struct edge *edge;

    while ((edge = needs_next(&needs)) != NULL) {
        struct span span = needs.span;

        if (!growth_adds(growth, edge->source)) {
            for (uint32_t n = 0; n < span.count; n++) {
                pending += count_one(edge->source, span_at(&span, n));
            }
            continue;
        }
        pending += span.count;
        for (uint32_t n = 0; !counted && n < span.count; n++) {
            consumers_add(edge->source, span_at(&span, n), 1);
        }
    }
    layer->value[i] = pending;
    if (pending > 0) {
        return TASK_WAITING;
    }
    bits_set(&layer->ready, i);
    return TASK_READY;
}

static void layer_start(struct growth *growth, struct layer *layer)
{
    bool all = layer->goal || layer->whole_active > 0;
    int flags = layer->goal ? TASK_KEEP : 0;

    if (all && !layer->local) {
        memset(layer->state, TASK_READY | flags, layer->tasks);
        bits_set_range(&layer->ready, 0, layer->tasks);
        layer->in[TASK_READY] = layer->tasks;
        return;
    }
    // With all of them needed, the index says how often each input is, in order.
    for (size_t k = 0; all && k < layer->inputs; k++) {
        if (!layer->input[k].whole && growth_adds(growth, layer->input[k].source)) {
            count_all(growth, &layer->input[k]);
        }
    }
    // Its own later tasks may need earlier ones.
    for (uint32_t i = layer->tasks; i-- > 0;) {
        bool needed = all || (layer->consumers != NULL && consumers_at(layer, i) > 0);
        enum task_state state = needed ? task_start(growth, layer, i, all) : TASK_IDLE;

        layer->state[i] = (uint8_t)((int)state | flags);
        layer->in[state]++;
    }
}

static void whole_inputs_start(struct growth *growth, struct layer *layer)
{
    for (size_t k = 0; k < layer->inputs; k++) {
        struct layer *source = layer->input[k].source;

        if (layer->input[k].whole && source->whole_active++ == 0 && !growth_adds(growth, source)) {
            layer_unsettle(source);
        }
    }
    if (layer->doomed > 0) {
        layer_unsettle(layer);
    }
}

// From the last layer to the first: need is known when a layer's turn comes.
static void layers_start(struct growth *growth)
{
    struct job *job = growth->job;

    for (uint32_t l = growth->count; l-- > 0;) {
        struct layer *layer = &growth->layer[l];
        uint32_t unfinished;

        layer_start(growth, layer);
        unfinished = layer_unfinished(layer);
        job->sched->transitions += unfinished;
        if (unfinished > 0) {
            whole_inputs_start(growth, layer);
        }
        job->tasks += unfinished;
        job->open += layer->goal ? unfinished : 0;
    }
}

static void layers_show(struct growth *growth)
{
    struct sched *sched = growth->job->sched;

    for (uint32_t l = 0; l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        layer->rank.key = layer_key(layer);
        sched->tasks += layer->tasks;
        for (int s = 0; s < TASK_STATES; s++) {
            sched->in[s] += layer->in[s];
        }
        if (layer->in[TASK_READY] > 0) {
            layer->ready_stamp = ++sched->ready_stamp;
            layer_wake(layer);
        }
        sched->check_sources = sched->check_sources || layer->graph->n_source > 0;
    }
}

void growth_commit(struct growth *growth)
{
    struct job *job = growth->job;

    if (growth->arena != NULL) {
        arena_adopt(&job->arena, growth->arena);
    }
    if (growth->slab != NULL) {
        growth->slab->next = job->slabs;
        job->slabs = growth->slab;
    }
    growth_charge(job, growth->bytes);
    for (uint32_t l = 0; l < growth->count; l++) {
        job->layer[job->layers] = &growth->layer[l];
        job->layer_tasks[job->layers++] = growth->layer[l].tasks;
        job->any_wanted = job->any_wanted || growth->layer[l].wanted;
    }
    for (uint32_t l = 0; l < growth->count; l++) {
        for (size_t k = 0; k < growth->layer[l].inputs; k++) {
            edge_link(&growth->layer[l].input[k]);
        }
    }
    // Nothing wanted: then it is run for what it does, to its last layers, once these are known.
    for (uint32_t l = 0; l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        layer->goal = layer->wanted || (!job->grows && !job->any_wanted && is_end(layer));
    }
    group_layers(growth);
    layers_start(growth);
    layers_show(growth);
    if (job->open == 0) {
        job_mark_dirty(job);
    }
}

void growth_close(struct job *job)
{
    job->grows = false;
    for (uint32_t l = 0; !job->any_wanted && l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        if (!is_end(layer)) {
            continue;
        }
        layer->goal = true;
        job->open += layer_unfinished(layer);
        for (uint32_t i = 0; i < layer->tasks; i++) {
            if (task_state(layer, i) == TASK_IDLE || task_unfinished(layer, i)) {
                layer->state[i] |= TASK_KEEP;
                task_unsettle(layer, i);
            }
        }
    }
    job_mark_dirty(job);
}

// ---- the end ----------------------------------------------------------------------------------------

// It is at its owner, or that is to make it.
static bool task_owned(const struct layer *layer, uint32_t p)
{
    return task_state(layer, p) == TASK_HELD || task_state(layer, p) == TASK_ASSIGNED ||
           bits_test(&layer->released, p);
}

// Copies of a whole layer that this job's tasks read go when nobody reads it whole any more.
static void copies_release(const struct layer *layer, const struct layer *source)
{
    struct sched *sched = layer->job->sched;

    for (const struct knows *knows = layer->job->knows; knows != NULL; knows = knows->job_next) {
        if (!knows_test(knows->told, layer->number)) {
            continue;
        }
        for (uint32_t p = 0; p < source->tasks; p++) {
            // Whatever became of it since: one that is made again, or was released with this step, may have
            // copies.
            bool copied = (source->state[p] & TASK_RAN) != 0;

            if (copied && !(task_owned(source, p) && source->owner[p] == knows->worker->number)) {
                outbox_release(sched, knows->worker, source, p);
            }
        }
    }
}

static void edge_detach(struct edge *edge)
{
    struct layer *layer = edge->target;
    struct layer *source = edge->source;
    struct edge *last = source->dependent[--source->dependents];

    source->dependent[edge->at] = last;
    last->at = edge->at;
    source->readers -= edge->readers;
    if (edge->whole && layer_unfinished(layer) > 0 && --source->whole_active == 0) {
        layer_unsettle(source);
    }
    if (edge->whole && source->whole_active == 0) {
        copies_release(layer, source);
    }
    for (uint32_t i = 0; !edge->whole && i < layer->tasks; i++) {
        struct span span = input_needs(edge->input, layer->tasks, source->tasks, i);

        for (uint32_t n = 0; task_unfinished(layer, i) && n < span.count; n++) {
            if (consumers_lose(source, span_at(&span, n))) {
                task_unsettle(source, span_at(&span, n));
            }
        }
    }
    // Those that are left may be there for this one's sake only.
    if (--source->job->users == 0 || source->job->hidden) {
        job_revisit(source->job);
    }
}

void growth_detach(struct job *job)
{
    if (job->is_cut) {
        return;
    }
    job->is_cut = true;
    for (uint32_t l = 0; l < job->layers; l++) {
        for (size_t k = 0; k < job->layer[l]->inputs; k++) {
            if (job->layer[l]->input[k].foreign) {
                edge_detach(&job->layer[l]->input[k]);
            }
        }
    }
}
