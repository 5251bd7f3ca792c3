// Blocks: where the bits of 64 tasks and partitions are.
#include <stdlib.h>

#include "worker/core/state.h"

struct block *block_get(struct agent_layer *layer, uint32_t index)
{
    struct block **at = &layer->block[index / BLOCK_CELLS];
    struct block *block = *at;

    if (block != NULL) {
        return block;
    }
    uint32_t first = index - index % BLOCK_CELLS;
    uint32_t cells = layer->tasks - first < BLOCK_CELLS ? layer->tasks - first : BLOCK_CELLS;

    block = calloc(1, sizeof(*block));
    if (block == NULL) {
        return NULL;
    }
    block->layer = layer;
    block->first = first;
    block->cells = cells;
    *at = block;
    return block;
}

bool block_is_empty(const struct block *block)
{
    return (block->queued | block->ready | block->running | block->held | block->fetching | block->located |
            block->sticky | block->lost | block->unmade | block->line | block->check | block->copying) == 0 &&
           !block->in_checks && !block->in_line;
}

void block_destroy(struct block *block)
{
    block->layer->block[block->first / BLOCK_CELLS] = NULL;
    free(block->place);
    free(block->assignment);
    free(block);
}

bool block_place(struct block *block)
{
    if (block->place == NULL) {
        block->place = calloc(block->cells, sizeof(*block->place));
    }
    return block->place != NULL;
}

bool block_staff(struct block *block)
{
    bool inputs = block->layer->inputs > 0;

    if (block->assignment == NULL) {
        block->assignment = calloc(block->cells, (inputs ? 3 : 1) * sizeof(uint32_t));
        if (block->assignment != NULL && inputs) {
            block->missing = block->assignment + block->cells;
            block->soon = block->missing + block->cells;
        }
    }
    return block->assignment != NULL;
}

void block_check(struct agent *agent, struct block *block, uint64_t mask)
{
    block->check |= mask;
    if (!block->in_checks) {
        block->in_checks = true;
        block->check_next = agent->checks;
        agent->checks = block;
    }
}

void block_join_line(struct agent *agent, struct block *block, uint64_t mask)
{
    block->line |= mask;
    if (block->in_line) {
        return;
    }
    block->in_line = true;
    block->line_next = NULL;
    block->line_prev = agent->line_tail;
    if (agent->line_tail != NULL) {
        agent->line_tail->line_next = block;
    } else {
        agent->line_head = block;
    }
    agent->line_tail = block;
}

void block_leave_line(struct agent *agent, struct block *block, uint64_t mask)
{
    block->line &= ~mask;
    if (!block->in_line || block->line != 0) {
        return;
    }
    if (block->line_prev != NULL) {
        block->line_prev->line_next = block->line_next;
    } else {
        agent->line_head = block->line_next;
    }
    if (block->line_next != NULL) {
        block->line_next->line_prev = block->line_prev;
    } else {
        agent->line_tail = block->line_prev;
    }
    block->line_prev = block->line_next = NULL;
    block->in_line = false;
}

struct block *blocks_next(const struct agent *agent, struct blocks *at)
{
    while (at->bucket <= agent->layers.mask) {
        if (at->node == NULL) {
            at->node = agent->layers.bucket[at->bucket];
            at->number = 0;
        }
        while (at->node != NULL) {
            struct agent_layer *layer = hash_entry(at->node, struct agent_layer, node);

            while (at->number < layer->blocks) {
                struct block *block = layer->block[at->number++];

                if (block != NULL) {
                    return block;
                }
            }
            at->node = at->node->next;
            at->number = 0;
        }
        at->bucket++;
    }
    return NULL;
}
