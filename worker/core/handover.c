// Partitions that come from a worker that leaves, and stay; and those that this worker must hand over itself.
#include "worker/core/state.h"

void copies_decline(struct agent *agent, struct block *block, uint64_t mask)
{
    mask &= block->copying;
    if (mask == 0) {
        return;
    }
    block->copying &= ~mask;
    agent->copying -= popcount(mask);
    if (agent->connected) {
        action_mask(agent, AGENT_DECLINE, block, mask);
    }
    block_check(agent, block, mask); // what was on its way for them is of no use
}

void copies_forget(struct agent *agent, struct block *block)
{
    agent->copying -= popcount(block->copying);
    block->copying = 0;
}

void copies_arrived(struct agent *agent, struct block *block, uint64_t mask)
{
    mask &= block->copying;
    block->copying &= ~mask;
    agent->copying -= popcount(mask);
    parts_hold(agent, block, mask, true);
    action_mask(agent, AGENT_ADVERTISE, block, mask);
}

// What is here is told at once; what a task here makes anyway, or nobody would wait for, is not fetched.
static bool ask_block(struct agent *agent, struct block *block, uint64_t mask, uint32_t worker)
{
    uint64_t busy = mask & (block->queued | block->ready | block->running);
    uint64_t here = block->held & mask & ~busy;
    uint64_t fresh = mask & ~(here | busy | block->copying);

    if (!actions_reserve(agent, 2 * BLOCK_CELLS) || !block_place(block)) {
        return false;
    }
    if (agent->leaving) {
        action_mask(agent, AGENT_DECLINE, block, mask);
        block_check(agent, block, 0); // it may be empty
        return true;
    }
    block->own |= here;
    block->sticky &= ~here;
    action_mask(agent, AGENT_ADVERTISE, block, here);
    action_mask(agent, AGENT_DECLINE, block, busy);
    for (uint64_t rest = fresh; rest != 0; rest &= rest - 1) {
        block->place[lowest(rest)].location = worker;
    }
    block->located |= fresh;
    block->copying |= fresh;
    agent->copying += popcount(fresh);
    block->layer->uneven = true;
    block_check(agent, block, fresh);
    return true;
}

bool copies_ask(struct agent *agent, struct agent_layer *layer, const struct agent_range *range,
                uint32_t worker)
{
    struct walk walk = walk_begin(range->first, range->count);

    while (walk_next(&walk)) {
        struct block *block = block_get(layer, walk.number * BLOCK_CELLS);

        if (block == NULL || !ask_block(agent, block, walk.mask, worker)) {
            if (block != NULL) {
                block_check(agent, block, 0);
            }
            return false;
        }
    }
    return true;
}

bool copies_make_way(struct agent *agent)
{
    struct blocks at = {0};
    struct block *block;

    while (agent->copying > 0 && (block = blocks_next(agent, &at)) != NULL) {
        if (!actions_reserve(agent, BLOCK_CELLS)) {
            return false;
        }
        copies_decline(agent, block, ~block->fetching);
    }
    return true;
}

uint64_t agent_own(const struct agent *agent, void (*visit)(void *arg, const struct agent_range *range),
                   void *arg)
{
    struct blocks at = {0};
    const struct block *block;
    uint64_t count = 0;

    while ((block = blocks_next(agent, &at)) != NULL) {
        uint64_t own = block->own;

        count += popcount(own);
        while (visit != NULL && own != 0) {
            struct agent_range range = {block->layer->job->number, block->layer->number, 0, 0};

            range.first = block->first + take_run(&own, &range.count);
            visit(arg, &range);
        }
    }
    return count;
}
