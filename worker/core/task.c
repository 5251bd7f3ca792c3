// Tasks: given, lacking what, gone.
#include <errno.h>

#include "worker/core/state.h"

static bool reads_all(const Dray__Input *input)
{
    return input->pattern == DRAY__PATTERN__ALL || input->pattern == DRAY__PATTERN__BROADCAST;
}

// ---- needs -------------------------------------------------------------------------------

// How many of these partitions are not held; each of those is expected or will be looked at.  False: no
// memory.
static inline bool count_lacking(struct agent *agent, struct agent_layer *source, uint32_t first,
                                 uint32_t count, uint32_t *missing)
{
    struct walk walk = walk_begin(first, count);

    while (walk_next(&walk)) {
        struct block *block = source->block[walk.number];
        uint64_t lacking = block != NULL ? walk.mask & ~block->held : walk.mask;
        uint64_t unexpected;

        if (lacking == 0) {
            continue;
        }
        block = block != NULL ? block : block_get(source, walk.number * BLOCK_CELLS);
        if (block == NULL) {
            return false;
        }
        unexpected = lacking & ~block_expected(block);
        if (unexpected != 0) {
            block_check(agent, block, unexpected);
        }
        *missing += popcount(lacking);
    }
    return true;
}

static bool count_needs(struct agent *agent, struct agent_layer *layer, uint32_t index, uint32_t *missing)
{
    for (size_t k = 0; k < layer->inputs; k++) {
        struct link *link = &layer->input[k];
        struct span span = input_needs(link->input, layer->tasks, link->source->tasks, index);
        bool fine = span.list != NULL || count_lacking(agent, link->source, span.first, span.count, missing);

        for (uint32_t s = 0; fine && span.list != NULL && s < span.count; s++) {
            fine = count_lacking(agent, link->source, span.list[s], 1, missing);
        }
        if (!fine) {
            return false;
        }
    }
    return true;
}

// Copies of what a whole layer reads stay until they are released.
static bool hold_whole_inputs(struct agent_layer *layer)
{
    for (size_t k = 0; k < layer->inputs; k++) {
        struct agent_layer *source = layer->input[k].source;
        struct walk walk = walk_begin(0, reads_all(layer->input[k].input) ? source->tasks : 0);

        while (walk_next(&walk)) {
            struct block *block = block_get(source, walk.number * BLOCK_CELLS);

            if (block == NULL) {
                return false;
            }
            block->sticky |= walk.mask & ~block->own;
        }
    }
    return true;
}

// The task is over: copies that it needed may go, and partitions that it waited for.
static void leave_needs_of(struct agent *agent, const struct link *link, uint32_t index)
{
    struct span span = input_needs(link->input, link->layer->tasks, link->source->tasks, index);
    struct walk walk = walk_begin(span.first, span.list == NULL ? span.count : 0);

    while (walk_next(&walk)) {
        struct block *block = link->source->block[walk.number];
        uint64_t some = block == NULL ? 0
                                      : walk.mask & ((block->held & ~block->own & ~block->sticky) |
                                                     (~block->held & (block->located | block->sticky |
                                                                      block->lost | block->unmade)));

        if (some != 0) {
            block_check(agent, block, some);
        }
    }
    for (uint32_t s = 0; span.list != NULL && s < span.count; s++) {
        struct block *block = block_find(link->source, span.list[s]);
        uint64_t one = bit(span.list[s] % BLOCK_CELLS);

        if (block != NULL && (block->own & one) == 0) {
            block_check(agent, block, one);
        }
    }
}

static void leave_needs(struct agent *agent, const struct block *block, uint64_t mask)
{
    const struct agent_layer *layer = block->layer;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct link *link = &layer->input[k];

        if (!link->source->uneven && !reads_all(link->input)) {
            continue;
        }
        for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
            leave_needs_of(agent, link, block->first + lowest(rest));
            if (reads_all(link->input)) {
                break; // the same for all
            }
        }
    }
}

// ---- going -------------------------------------------------------------------------------

// All tasks of the mask, assignment by assignment.
static void leave_assignments(struct agent *agent, const struct block *block, uint64_t mask, bool ready)
{
    while (mask != 0) {
        uint32_t cell = lowest(mask);
        uint32_t number = block->assignment[cell];
        uint32_t count = 0;

        for (; mask != 0 && block->assignment[lowest(mask)] == number; mask &= mask - 1) {
            count++;
        }
        if (ready) {
            order_remove(agent, number, count);
        }
        assignment_left(agent, number, count);
    }
}

void tasks_leave(struct agent *agent, struct block *block, uint64_t mask)
{
    uint64_t queued = block->queued & mask;
    uint64_t ready = block->ready & mask;

    if ((queued | ready) == 0) {
        return;
    }
    block->queued &= ~queued;
    block->ready &= ~ready;
    block->layer->queued -= popcount(queued);
    agent->waiting -= popcount(queued | ready);
    leave_assignments(agent, block, ready, true);
    leave_assignments(agent, block, queued, false);
    leave_needs(agent, block, queued | ready);
    block_check(agent, block, 0); // it may be empty
}

void tasks_over(struct agent *agent, struct block *block, uint64_t mask)
{
    mask &= block->running;
    if (mask == 0) {
        return;
    }
    shortage_relief(agent);
    block->running &= ~mask;
    block->stopping &= ~mask;
    block->wanted &= ~mask;
    block->asked &= ~mask;
    block->rotten &= ~mask;
    block->layer->running -= popcount(mask);
    agent->running -= popcount(mask);
    leave_assignments(agent, block, mask, false);
    leave_needs(agent, block, mask);
    block_check(agent, block, mask & block->held);
}

// ---- coming ------------------------------------------------------------------------------

static void queue_ready(struct agent *agent, struct block *block, uint64_t mask, uint32_t number)
{
    uint64_t rest = mask;

    block->ready |= mask;
    agent->waiting += popcount(mask);
    agent->assignment[number].tasks += popcount(mask);
    order_add(agent, number, block->first + lowest(mask), popcount(mask));
    for (; rest != 0; rest &= rest - 1) {
        block->assignment[lowest(rest)] = number;
    }
}

static void queue_lacking(struct agent *agent, struct block *block, uint32_t cell, uint32_t number,
                          uint32_t missing)
{
    block->queued |= bit(cell);
    block->layer->queued++;
    block->missing[cell] = missing;
    block->soon[cell] = 0;
    block->assignment[cell] = number;
    agent->waiting++;
    agent->assignment[number].tasks++;
}

static int queue_fresh(struct agent *agent, struct block *block, uint64_t fresh, uint32_t number)
{
    block->unmade &= ~fresh;
    if (block->layer->inputs == 0) {
        queue_ready(agent, block, fresh, number);
        return 0;
    }
    for (; fresh != 0; fresh &= fresh - 1) {
        uint32_t cell = lowest(fresh);
        uint32_t missing = 0;

        if (!count_needs(agent, block->layer, block->first + cell, &missing)) {
            return -ENOMEM;
        }
        if (missing == 0) {
            queue_ready(agent, block, bit(cell), number);
        } else {
            queue_lacking(agent, block, cell, number, missing);
        }
    }
    return 0;
}

static int assign_block(struct agent *agent, struct block *block, const struct walk *walk, uint32_t *number,
                        uint32_t end)
{
    uint64_t fresh = walk->mask & ~(block->held | block->queued | block->ready | block->running);
    uint64_t here = walk->mask & block->held & ~block->running;
    uint64_t busy = walk->mask & block->running;

    if (!actions_reserve(agent, BLOCK_CELLS)) {
        return -ENOMEM;
    }
    block->wanted |= busy;
    block->asked &= ~busy;
    copies_decline(agent, block, fresh); // it is made here instead
    if (here != 0) {
        // The broker does not know, or these were copies: they are ours to keep now.  Some may be in the queue: the
        // broker did not know yet that they are, and a copy came meanwhile.
        tasks_leave(agent, block, here & (block->queued | block->ready));
        block->own |= here;
        block->sticky &= ~here;
        action_mask(agent, AGENT_REPORT_DONE, block, here);
    }
    if (fresh == 0) {
        return 0;
    }
    if (agent->leaving) {
        action_mask(agent, AGENT_REPORT_DROPPED, block, fresh);
        parts_unmade(agent, block, fresh);
        block_check(agent, block, 0);
        return 0;
    }
    if (!block_staff(block)) {
        return -ENOMEM;
    }
    if (*number == NOBODY) {
        *number = assignment_get(agent, block->layer, block->first + walk->from, end);
        if (*number == NOBODY) {
            return -ENOMEM;
        }
    }
    return queue_fresh(agent, block, fresh, *number);
}

// After a failure: what was prepared may be of no use.
static void look_again(struct agent *agent, struct agent_layer *layer, uint32_t first, uint32_t count)
{
    struct walk walk = walk_begin(first, count);

    while (walk_next(&walk)) {
        if (layer->block[walk.number] != NULL) {
            block_check(agent, layer->block[walk.number], walk.mask);
        }
    }
}

int tasks_assign(struct agent *agent, struct agent_layer *layer, uint32_t first, uint32_t count)
{
    struct walk walk = walk_begin(first, count);
    uint32_t number = NOBODY;
    int rc = 0;

    if (!agent->leaving && !hold_whole_inputs(layer)) {
        rc = -ENOMEM;
    }
    while (rc == 0 && walk_next(&walk)) {
        struct block *block = block_get(layer, walk.number * BLOCK_CELLS);

        rc = block != NULL ? assign_block(agent, block, &walk, &number, first + count) : -ENOMEM;
    }
    if (number != NOBODY && agent->assignment[number].tasks == 0) {
        assignment_left(agent, number, 0);
    }
    if (rc < 0) {
        look_again(agent, layer, first, count);
        for (size_t k = 0; k < layer->inputs; k++) {
            look_again(agent, layer->input[k].source, 0, layer->input[k].source->tasks);
        }
    }
    return rc;
}

int task_restart(struct agent *agent, struct block *block, uint32_t cell)
{
    uint32_t missing = 0;
    uint32_t number = block->assignment[cell];

    if (!count_needs(agent, block->layer, block->first + cell, &missing)) {
        return -ENOMEM;
    }
    block->running &= ~bit(cell);
    block->stopping &= ~bit(cell);
    block->wanted &= ~bit(cell);
    block->asked &= ~bit(cell);
    block->rotten &= ~bit(cell);
    block->layer->running--;
    agent->running--;
    agent->assignment[number].tasks--;
    block_check(agent, block, bit(cell) & block->held);
    if (missing == 0) {
        queue_ready(agent, block, bit(cell), number);
    } else {
        queue_lacking(agent, block, cell, number, missing);
    }
    return 0;
}
