#include "broker/core/links.h"

#include <stdlib.h>
#include <string.h>

enum { PICKS_FROM = 3 }; // inputs that are many

// A task has something of this input, as far as it can be told without a look at the row.
static uint32_t rows_of(const struct layer *layer, const struct edge *edge)
{
    return input_is_sparse(edge->input) ? (uint32_t)edge->input->n_task : layer->tasks;
}

static uint32_t row_task(const struct edge *edge, uint32_t row)
{
    return input_is_sparse(edge->input) ? edge->input->task[row] : row;
}

// 0: it goes without.
static uint64_t count_picks(const struct layer *layer)
{
    uint64_t picks = 0;
    bool any = false;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        any = any || input_is_sparse(edge->input);
        picks += edge->whole ? 0 : rows_of(layer, edge);
    }
    return any && layer->inputs >= PICKS_FROM && picks <= UINT32_MAX - 2 ? picks : 0;
}

uint64_t picks_bytes(const struct layer *layer)
{
    uint64_t picks = count_picks(layer);

    return picks > 0 ? picks * (sizeof(uint16_t) + sizeof(uint32_t)) + layer->tasks * sizeof(uint32_t) : 0;
}

bool picks_create(struct layer *layer)
{
    uint64_t picks = count_picks(layer);

    if (picks == 0) {
        return true;
    }
    uint32_t *at = arena_zalloc(&layer->job->arena, ((size_t)layer->tasks + 2) * sizeof(*at));
    uint16_t *pick = arena_array(&layer->job->arena, picks, sizeof(*pick));
    uint32_t *row = arena_array(&layer->job->arena, picks, sizeof(*row));

    if (at == NULL || pick == NULL || row == NULL) {
        return false;
    }
    // Counted two places up, so that filling moves each start to where it belongs.
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        for (uint32_t r = 0; !edge->whole && r < rows_of(layer, edge); r++) {
            at[row_task(edge, r) + 2]++;
        }
    }
    for (uint32_t i = 2; i <= layer->tasks; i++) {
        at[i] += at[i - 1];
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        for (uint32_t r = 0; !edge->whole && r < rows_of(layer, edge); r++) {
            uint32_t place = at[row_task(edge, r) + 1]++;

            pick[place] = (uint16_t)k;
            row[place] = r;
        }
    }
    layer->pick_at = at;
    layer->pick = pick;
    layer->pick_row = row;
    return true;
}

bool links_reserve(struct layer *source, uint64_t more)
{
    uint64_t capacity = source->link_capacity;
    struct link *grown;

    if (source->link_head == NULL) {
        source->link_head = arena_zalloc(&source->job->arena, (size_t)source->tasks * sizeof(uint32_t));
        if (source->link_head == NULL) {
            return false;
        }
    }
    if (source->links + more <= capacity) {
        return true;
    }
    while (capacity < source->links + more) {
        capacity = capacity * 3 / 2 + 8;
    }
    if (capacity > UINT32_MAX - 1) {
        return false;
    }
    grown = realloc(source->link, capacity * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    source->link = grown;
    source->link_capacity = (uint32_t)capacity;
    return true;
}

void links_add(struct edge *edge)
{
    struct layer *source = edge->source;
    const Dray__Input *input = edge->input;

    source->read_elsewhere = source->read_elsewhere || edge->target != source;
    for (uint32_t r = 0; r < input->n_task; r++) {
        struct span row = input_row(input, r);

        for (uint32_t n = 0; n < row.count; n++) {
            uint32_t *head = &source->link_head[row.list[n]];

            source->link[source->links] = (struct link){edge, input->task[r], *head};
            *head = ++source->links;
        }
    }
}
