// Who needs whom, task by task.  Private to broker/core.
//
// A layer may have an input for each of hundreds of layers, of which each of its tasks needs one partition
// or two (a pool that grows).  What is done for a task must not cost as much as its layer has inputs, and what is
// done for a partition not as much as its layer has readers.  So a layer with many inputs has a list for each
// task of those that matter (picks); and sparse edges within a job have no index of their own, but are links in
// lists of the partitions' layer, one list a partition, in which later layers find their place.
#ifndef DRAY_BROKER_CORE_LINKS_H
#define DRAY_BROKER_CORE_LINKS_H

#include "broker/core/state.h"

struct link {
    struct edge *edge;
    uint32_t task; // of the edge's target
    uint32_t next; // place + 1
};

// The local inputs of one task: one edge after another, with what is needed by it.
struct needs {
    const struct layer *layer;
    uint32_t task, at, end;
    struct span span;
};
static inline struct needs needs_of(const struct layer *layer, uint32_t task)
{
    struct needs needs = {.layer = layer, .task = task, .end = (uint32_t)layer->inputs};

    if (layer->pick != NULL) {
        needs.at = layer->pick_at[task];
        needs.end = layer->pick_at[task + 1];
    }
    return needs;
}
static inline struct edge *needs_next(struct needs *needs)
{
    const struct layer *layer = needs->layer;

    while (needs->at < needs->end) {
        uint32_t at = needs->at++;
        struct edge *edge = &layer->input[layer->pick != NULL ? layer->pick[at] : at];

        if (layer->pick != NULL && input_is_sparse(edge->input)) {
            needs->span = input_row(edge->input, layer->pick_row[at]);
            return edge;
        }
        if (!edge->whole) {
            needs->span = input_needs(edge->input, layer->tasks, edge->source->tasks, needs->task);
            return edge;
        }
    }
    return NULL;
}

// The local dependents of one partition, likewise: those by patterns and dense edges, then those by links.
struct readers {
    const struct layer *layer;
    uint32_t partition, at, link;
    struct span span;
};
static inline struct readers readers_of(const struct layer *layer, uint32_t partition)
{
    return (struct readers){.layer = layer, .partition = partition,
                            .link = layer->link_head != NULL ? layer->link_head[partition] : 0};
}
static inline struct edge *readers_next(struct readers *readers)
{
    const struct layer *layer = readers->layer;

    while (readers->at < layer->dependents) {
        struct edge *edge = layer->dependent[readers->at++];

        if (!edge->whole) {
            readers->span =
                input_dependents(edge->input, edge->target->tasks, layer->tasks, edge->reverse, readers->partition);
            return edge;
        }
    }
    if (readers->link != 0) {
        const struct link *link = &layer->link[readers->link - 1];

        readers->link = link->next;
        readers->span = (struct span){.first = link->task, .count = 1};
        return link->edge;
    }
    return NULL;
}

static inline bool layer_has_readers(const struct layer *layer)
{
    return layer->dependents > 0 || layer->links > 0;
}

// An edge whose dependents are links.
static inline bool edge_is_linked(const struct edge *edge)
{
    return !edge->foreign && input_is_sparse(edge->input);
}

// What picks_create takes.
uint64_t picks_bytes(const struct layer *layer);
// Picks for a layer with many inputs, some of which are sparse; room for more links of a source.  False: no memory.
bool picks_create(struct layer *layer);
bool links_reserve(struct layer *source, uint64_t more);
// Room was reserved.
void links_add(struct edge *edge);

#endif
