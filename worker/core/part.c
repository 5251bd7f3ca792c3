// Partitions: held, on their way, needed.
#include "worker/core/state.h"

// ---- who needs them ----------------------------------------------------------------------

static struct span dependents(const struct link *link, uint32_t index)
{
    return input_dependents(link->input, link->layer->tasks, link->source->tasks, link->reverse, index);
}

// A task in one of these states among those that need the partition?
static bool any_dependent(const struct link *link, uint32_t index, bool queued_only)
{
    struct span span = dependents(link, index);
    struct walk walk = walk_begin(span.first, span.list == NULL ? span.count : 0);

    while (walk_next(&walk)) {
        const struct block *block = link->layer->block[walk.number];

        if (block != NULL &&
            ((block->queued | (queued_only ? 0 : block->ready | block->running)) & walk.mask) != 0) {
            return true;
        }
    }
    for (uint32_t s = 0; span.list != NULL && s < span.count; s++) {
        const struct block *block = block_find(link->layer, span.list[s]);

        if (block != NULL && ((block->queued | (queued_only ? 0 : block->ready | block->running)) &
                              bit(span.list[s] % BLOCK_CELLS)) != 0) {
            return true;
        }
    }
    return false;
}

bool part_is_waited_for(const struct agent_layer *layer, uint32_t index)
{
    for (const struct link *link = layer->users; link != NULL; link = link->next) {
        if (link->layer->queued > 0 && any_dependent(link, index, true)) {
            return true;
        }
    }
    return false;
}

static bool is_needed(const struct agent_layer *layer, uint32_t index)
{
    for (const struct link *link = layer->users; link != NULL; link = link->next) {
        if (link->layer->queued + link->layer->ready + link->layer->running > 0 &&
            any_dependent(link, index, false)) {
            return true;
        }
    }
    return false;
}

static inline void visit_one(struct agent *agent, const struct agent_layer *layer, uint32_t index,
                             dependent_visit visit, void *arg)
{
    struct block *block = block_find(layer, index);

    if (block != NULL) {
        visit(agent, block, index % BLOCK_CELLS, arg);
    }
}

static void visit_of_link(struct agent *agent, const struct link *link, uint32_t index, dependent_visit visit,
                          void *arg)
{
    struct span span = dependents(link, index);
    struct walk walk = walk_begin(span.first, span.list == NULL ? span.count : 0);

    while (walk_next(&walk)) {
        struct block *block = link->layer->block[walk.number];
        uint64_t some = block != NULL ? (block->queued | block->ready) & walk.mask : 0;

        for (; some != 0; some &= some - 1) {
            visit(agent, block, lowest(some), arg);
        }
    }
    for (uint32_t s = 0; span.list != NULL && s < span.count; s++) {
        visit_one(agent, link->layer, span.list[s], visit, arg);
    }
}

void dependents_visit(struct agent *agent, struct block *block, uint64_t mask, dependent_visit visit,
                      void *arg)
{
    for (const struct link *link = block->layer->users; link != NULL; link = link->next) {
        if (link->layer->queued + link->layer->ready == 0) {
            continue;
        }
        for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
            visit_of_link(agent, link, block->first + lowest(rest), visit, arg);
        }
    }
}

// ---- held --------------------------------------------------------------------------------

static void found(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    (void)arg;
    if ((block->queued & bit(cell)) != 0 && --block->missing[cell] == 0) {
        task_ready(agent, block, cell);
    }
}

void parts_hold(struct agent *agent, struct block *block, uint64_t mask, bool own)
{
    uint64_t fresh = mask & ~block->held;

    block->held |= mask;
    agent->held += popcount(fresh);
    block->unmade &= ~mask;
    block->lost &= ~mask;
    if (own) {
        block->own |= mask;
        block->sticky &= ~mask;
    }
    if (block->in_line) {
        block_leave_line(agent, block, mask);
    }
    // What is not own is looked at again: somebody has to need it.
    if (!own || ((block->located | block->fetching) & mask) != 0) {
        block_check(agent, block, mask);
    }
    dependents_visit(agent, block, fresh, found, NULL);
}

static void missed(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    (void)arg;
    if ((block->ready & bit(cell)) != 0) {
        block->ready &= ~bit(cell);
        block->queued |= bit(cell);
        block->layer->queued++;
        block->missing[cell] = 0;
        block->soon[cell] = 0;
        order_remove(agent, block->assignment[cell], 1);
    }
    if ((block->queued & bit(cell)) != 0) {
        block->missing[cell]++;
    }
}

void parts_drop(struct agent *agent, struct block *block, uint64_t mask)
{
    // While its own task runs here the store may have either: then it is freed when that is over, or told
    // as made.
    uint64_t gone = block->held & mask & ~block->running;

    block->own &= ~mask;
    block->sticky &= ~mask;
    copies_decline(agent, block, mask);
    if (gone != 0) {
        block->held &= ~gone;
        agent->held -= popcount(gone);
        shortage_relief(agent);
        block->lost |= gone;
        block->layer->uneven = true;
        action_mask(agent, AGENT_FREE, block, gone);
        dependents_visit(agent, block, gone, missed, NULL);
    }
    block_check(agent, block, mask);
}

void parts_lose(struct agent *agent, struct block *block, uint64_t mask)
{
    block->own &= ~mask;
    block->sticky &= ~mask;
    block->held &= ~mask;
    agent->held -= popcount(mask);
    shortage_relief(agent);
    block->lost |= mask;
    block->layer->uneven = true;
    action_mask(agent, AGENT_FREE, block, mask & ~block->running); // another may have come since
    dependents_visit(agent, block, mask, missed, NULL);
    block_check(agent, block, mask);
}

void parts_unmade(struct agent *agent, struct block *block, uint64_t mask)
{
    if (block->layer->users != NULL) {
        block->unmade |= mask & ~block->held;
        block->layer->uneven = true;
        block_check(agent, block, mask);
    }
}

// ---- settling ----------------------------------------------------------------------------

struct lack {
    const struct block *source;
    uint32_t cell;
};

// Nobody knows where it is: the broker has to find out, for every task that waits for it.
static void report_missing(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    const struct lack *lack = arg;
    const struct block *source = lack->source;
    struct agent_action *action;

    if ((block->queued & bit(cell)) == 0 || !actions_reserve(agent, 1)) {
        return;
    }
    if (agent->connected) {
        action = action_push(agent, AGENT_REPORT_FAILED);
        action->u.key = (struct task_key){block->layer->job->number, block->layer->number, block->first + cell};
        action->missing_input = true;
        action->missing =
            (struct task_key){source->layer->job->number, source->layer->number, source->first + lack->cell};
        action->worker = source->place != NULL ? source->place[lack->cell].location : 0;
        action->p.text = "an input could not be fetched";
    }
    tasks_leave(agent, block, bit(cell));
    parts_unmade(agent, block, bit(cell));
}

static void give_back(struct agent *agent, struct block *block, uint32_t cell, void *arg)
{
    (void)arg;
    if ((block->queued & bit(cell)) == 0 || !actions_reserve(agent, 1)) {
        return;
    }
    if (agent->connected) {
        action_range(agent, AGENT_REPORT_DROPPED, block->layer, block->first + cell, 1);
    }
    tasks_leave(agent, block, bit(cell));
    parts_unmade(agent, block, bit(cell));
}

// A task waits for it or it is to be taken over, it is neither here nor on its way, and no task here makes it.
static bool settle_lacking(struct agent *agent, struct block *block, uint32_t cell)
{
    struct lack lack = {block, cell};
    uint32_t index = block->first + cell;

    if ((block->located & bit(cell)) != 0) {
        block_join_line(agent, block, bit(cell));
        return true;
    }
    // The broker took it to be made here, or to be somewhere.
    bool ahead = (block->unmade & ~block->lost & bit(cell)) != 0 &&
                 (block->place == NULL || block->place[cell].location == 0);

    dependents_visit(agent, block, bit(cell), ahead ? give_back : report_missing, &lack);
    if (part_is_waited_for(block->layer, index) || !actions_reserve(agent, 1)) {
        return false; // no memory
    }
    copies_decline(agent, block, bit(cell));
    return true;
}

// Of those that are neither here nor on their way.
static void forget_place(struct block *block, uint64_t mask)
{
    mask &= ~(block->held | block->fetching);
    block->located &= ~mask;
    block->sticky &= ~mask;
    block->lost &= ~mask;
    for (; block->place != NULL && mask != 0; mask &= mask - 1) {
        block->place[lowest(mask)].location = 0;
    }
}

static bool settle(struct agent *agent, struct block *block, uint32_t cell)
{
    uint64_t one = bit(cell);
    bool here = (block->held & one) != 0;
    bool coming = (block->fetching & one) != 0;

    if (!here && !coming && (block_expected(block) & one) == 0 &&
        ((block->copying & one) != 0 || part_is_waited_for(block->layer, block->first + cell))) {
        if (!settle_lacking(agent, block, cell)) {
            return false;
        }
    } else if (block->in_line) {
        block_leave_line(agent, block, one);
    }
    if (block->layer->users == NULL) {
        block->sticky &= ~one;
    }
    // One that runs may yet come back for want of it.
    if (((block->own | block->copying) & one) != 0 || is_needed(block->layer, block->first + cell)) {
        return true;
    }
    block->unmade &= ~one;
    // While its own task runs here the store may have either.
    if (here && ((block->sticky | block->running) & one) == 0) {
        if (!actions_reserve(agent, 1)) {
            return false;
        }
        block->held &= ~one;
        agent->held--;
        shortage_relief(agent);
        action_range(agent, AGENT_FREE, block->layer, block->first + cell, 1);
    }
    forget_place(block, one);
    return true;
}

static bool has_live_users(const struct agent_layer *layer)
{
    for (const struct link *link = layer->users; link != NULL; link = link->next) {
        if (link->layer->queued + link->layer->ready + link->layer->running > 0) {
            return true;
        }
    }
    return false;
}

// No task needs any of them.
static bool settle_unneeded(struct agent *agent, struct block *block)
{
    uint64_t mask = block->check;
    uint64_t copies;

    if (!actions_reserve(agent, BLOCK_CELLS)) {
        return false;
    }
    block->check = 0;
    block->unmade &= ~mask;
    if (block->layer->users == NULL) {
        block->sticky &= ~mask;
    }
    if (block->in_line) {
        block_leave_line(agent, block, mask);
    }
    copies = block->held & mask & ~(block->own | block->sticky | block->running);
    if (copies != 0) {
        block->held &= ~copies;
        agent->held -= popcount(copies);
        shortage_relief(agent);
        action_mask(agent, AGENT_FREE, block, copies);
    }
    forget_place(block, mask);
    return true;
}

static bool settle_block(struct agent *agent, struct block *block)
{
    if ((block->check & block->copying) == 0 && !has_live_users(block->layer)) {
        return settle_unneeded(agent, block);
    }
    while (block->check != 0) {
        uint32_t cell = lowest(block->check);

        block->check &= block->check - 1;
        if (!settle(agent, block, cell)) {
            block->check |= bit(cell);
            return false;
        }
    }
    return true;
}

bool parts_settle(struct agent *agent)
{
    while (agent->checks != NULL) {
        struct block *block = agent->checks;

        agent->checks = block->check_next;
        block->in_checks = false;
        if (!settle_block(agent, block)) {
            block_check(agent, block, 0);
            return false;
        }
        if (block_is_empty(block)) {
            agent->strangers = agent->strangers || (!block->layer->told && block->layer->users == NULL);
            block_destroy(block);
        }
    }
    return true;
}

bool parts_fetch(struct agent *agent)
{
    struct block *block;
    uint32_t cell;

    while ((block = shortage_next(agent, &cell)) != NULL) {
        struct agent_action *action;

        if (!actions_reserve(agent, 1)) {
            return false;
        }
        block_leave_line(agent, block, bit(cell));
        block->fetching |= bit(cell);
        block->place[cell].fetch_from = block->place[cell].location;
        agent->fetching++;
        action = action_push(agent, AGENT_FETCH);
        action->ahead = agent->running > 0 || (block->copying & bit(cell)) != 0;
        action->u.key =
            (struct task_key){block->layer->job->number, block->layer->number, block->first + cell};
        action->worker = block->place[cell].location;
    }
    return true;
}
