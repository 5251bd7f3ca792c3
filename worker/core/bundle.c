// Bundles: what one thread is given to run, in order.
#include <stdlib.h>

#include "worker/core/state.h"

struct making {
    size_t first_range; // in agent->range
    uint64_t ns;        // that it is expected to take
    uint32_t tasks;
    uint32_t outer;                  // of those, ready by themselves
    uint32_t outer_max;              // so that all threads get some
    const struct agent_layer *layer; // of the first tasks
};

static bool push_range(struct agent *agent, struct making *making, const struct agent_layer *layer,
                       uint32_t first, uint32_t count)
{
    struct agent_range *last = agent->ranges > making->first_range ? &agent->range[agent->ranges - 1] : NULL;

    if (last != NULL && last->job == layer->job->number && last->layer == layer->number &&
        last->first + last->count == first) {
        last->count += count;
        return true;
    }
    if (agent->ranges == agent->ranges_max) {
        size_t max = agent->ranges_max > 0 ? agent->ranges_max * 2 : 256;
        struct agent_range *grown = realloc(agent->range, max * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        agent->range = grown;
        agent->ranges_max = max;
    }
    agent->range[agent->ranges++] = (struct agent_range){layer->job->number, layer->number, first, count};
    return true;
}

// One more of its inputs is made by the bundle; perhaps that was the last one.
static void comes_soon(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    (void)arg;
    // What takes resources waits until it can run.
    if (block->layer->takes == NULL && (block->queued & bit(cell)) != 0 &&
        ++block->soon[cell] == block->missing[cell]) {
        block->inner |= bit(cell);
        task_ready(agent, block, cell);
    }
}

static void forget_soon(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    (void)arg;
    if (((block->queued | block->ready) & bit(cell)) == 0 || block->missing == NULL) {
        return;
    }
    block->soon[cell] = 0;
    if ((block->inner & bit(cell)) != 0) {
        block->inner &= ~bit(cell);
        block->ready &= ~bit(cell);
        block->queued |= bit(cell);
        block->layer->queued++;
        order_remove(agent, block->assignment[cell], 1);
    }
}

// What a bundle with such tasks may take: a hand-over from task to task costs a thread its sleep, so it gets
// some of those that are not long either.
static uint64_t time_for(const struct agent_layer *layer)
{
    uint64_t few = BUNDLE_FEW * layer->ns;

    if (few > BUNDLE_MAX_NS) {
        few = BUNDLE_MAX_NS;
    }
    return few > BUNDLE_NS ? few : BUNDLE_NS;
}

// How many more tasks of this layer it may get.
static uint32_t room_for(const struct making *making, const struct agent_layer *layer)
{
    uint64_t time = time_for(layer);
    uint64_t room;

    if (layer->ns == 0) {
        return making->tasks == 0 ? 1 : 0;
    }
    if (making->ns >= time || making->tasks >= BUNDLE_TASKS || making->tasks >= layer->bundle_max) {
        return 0;
    }
    room = (time - making->ns) / layer->ns;
    if (room == 0 && making->tasks == 0) {
        return 1;
    }
    if (room > layer->bundle_max - making->tasks) {
        room = layer->bundle_max - making->tasks;
    }
    return room < BUNDLE_TASKS - making->tasks ? (uint32_t)room : BUNDLE_TASKS - making->tasks;
}

// The first ready task of the assignment that is oldest.
static struct block *find_ready(struct agent *agent, struct assignment *assignment, uint32_t number,
                                uint32_t *cell)
{
    struct walk walk = walk_begin(assignment->cursor, assignment->end - assignment->cursor);

    (void)agent;
    while (walk_next(&walk)) {
        struct block *block = assignment->layer->block[walk.number];
        uint64_t some = block != NULL ? block->ready & walk.mask : 0;

        for (; some != 0; some &= some - 1) {
            // Later assignments of the same layer may lie in between.
            if (block->assignment[lowest(some)] == number) {
                *cell = lowest(some);
                return block;
            }
        }
    }
    return NULL;
}

static void start(struct agent *agent, struct block *block, uint64_t mask, uint32_t number)
{
    struct agent_layer *layer = block->layer;
    uint32_t count = popcount(mask);

    block->ready &= ~mask;
    block->inner &= ~mask;
    block->running |= mask;
    block->wanted |= mask;
    layer->running += count;
    agent->running += count;
    agent->waiting -= count;
    order_remove(agent, number, count);
    dependents_visit(agent, block, mask, comes_soon, NULL);
}

// Ready tasks beside one another, of one assignment and one kind.
static bool take_some(struct agent *agent, struct making *making)
{
    uint32_t number = agent->heap[0];
    struct assignment *assignment = &agent->assignment[number];
    const struct agent_layer *layer = assignment->layer;
    bool alike = making->layer == NULL || making->layer == layer ||
                 (making->layer->takes == NULL && layer->takes == NULL);
    uint32_t room = alike ? room_for(making, layer) : 0;
    uint32_t cell = 0;
    struct block *block = room > 0 ? find_ready(agent, assignment, number, &cell) : NULL;
    bool inner = block != NULL && (block->inner & bit(cell)) != 0;
    uint32_t count = 1;

    if (block == NULL) {
        return false;
    }
    if (!inner && making->outer_max - making->outer < room) {
        room = making->outer_max - making->outer;
    }
    if (room == 0) {
        return false;
    }
    while (count < room && cell + count < block->cells && (block->ready & bit(cell + count)) != 0 &&
           block->assignment[cell + count] == number && ((block->inner & bit(cell + count)) != 0) == inner) {
        count++;
    }
    if (!push_range(agent, making, block->layer, block->first + cell, count)) {
        return false;
    }
    making->layer = making->tasks == 0 ? layer : making->layer;
    making->tasks += count;
    making->outer += inner ? 0 : count;
    making->ns += count * (block->layer->ns > 0 ? block->layer->ns : BUNDLE_NS);
    assignment->cursor = block->first + cell + count;
    start(agent, block, bits(cell, count), number);
    return true;
}

static void tidy_up(struct agent *agent, const struct making *making)
{
    for (size_t r = making->first_range; r < agent->ranges; r++) {
        const struct agent_range *range = &agent->range[r];
        struct agent_layer *layer = layer_find(agent, range->job, range->layer);
        struct walk walk = walk_begin(range->first, layer->users != NULL ? range->count : 0);

        while (walk_next(&walk)) {
            dependents_visit(agent, layer->block[walk.number], walk.mask, forget_soon, NULL);
        }
    }
}

static struct slot *free_slot(struct agent *agent)
{
    for (uint32_t s = 0; s < agent->options.threads; s++) {
        if (agent->slot[s].bundle == 0) {
            return &agent->slot[s];
        }
    }
    return NULL;
}

bool bundles_run(struct agent *agent)
{
    while (agent->heap_count > 0 && agent->bundles < agent->options.threads) {
        uint32_t idle = agent->options.threads - agent->bundles;
        struct making making = {.first_range = agent->ranges, .outer_max = (agent->ready - 1) / idle + 1};
        struct agent_action *action;

        if (!stocks_suffice(agent, agent->assignment[agent->heap[0]].layer)) {
            order_park(agent);
            continue;
        }
        if (!actions_reserve(agent, 1)) {
            return false;
        }
        while (agent->heap_count > 0 && take_some(agent, &making)) {
        }
        tidy_up(agent, &making);
        if (making.tasks == 0) {
            return false;
        }
        struct slot *slot = free_slot(agent);

        agent->last_bundle = agent->last_bundle < UINT32_MAX ? agent->last_bundle + 1 : 1;
        *slot = (struct slot){.bundle = agent->last_bundle};
        agent->bundles++;
        stocks_take(agent, making.layer, (uint32_t)(slot - agent->slot));
        action = action_push(agent, AGENT_RUN);
        action->bundle = slot->bundle;
        action->u.ranges = agent->ranges - making.first_range;
        action->p.offset = making.first_range;
    }
    return true;
}

void bundle_over(struct agent *agent, uint32_t number)
{
    for (uint32_t s = 0; s < agent->options.threads; s++) {
        if (agent->slot[s].bundle == number) {
            agent->slot[s].bundle = 0;
            agent->bundles--;
            stocks_give(agent, s);
        }
    }
}

bool bundles_tick(struct agent *agent)
{
    for (uint32_t s = 0; s < agent->options.threads; s++) {
        if (agent->slot[s].bundle != 0 && ++agent->slot[s].ticks == CUT_TICKS) {
            if (!actions_reserve(agent, 1)) {
                agent->slot[s].ticks--;
                return false;
            }
            action_push(agent, AGENT_CUT)->bundle = agent->slot[s].bundle;
        }
    }
    return true;
}
