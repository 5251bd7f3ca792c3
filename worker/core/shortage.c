// Memory that inputs from elsewhere did not get.  It is no reason to give up while tasks run that give some
// back; and when none does, copies for one task make room for those of another.
#include <errno.h>
#include <stdio.h>

#include "worker/core/state.h"

// A fetch is tried again after so many ticks without news, and a task fails after so many.
enum { RETRY_TICKS = 4, PATIENCE_TICKS = 100 };

void shortage_begin(struct agent *agent, const char *why)
{
    struct shortage *shortage = &agent->shortage;

    shortage->waiting = true;
    shortage->fetches = 1;
    snprintf(shortage->why, sizeof(shortage->why), "%s", why != NULL ? why : "out of memory");
}

void shortage_relief(struct agent *agent)
{
    agent->shortage.waiting = false;
    agent->shortage.ticks = 0;
}

void shortage_fetched(struct agent *agent)
{
    struct shortage *shortage = &agent->shortage;

    shortage->ticks = 0;
    if (shortage->fetches != 0 && ++shortage->fetches >= agent->options.fetches_max) {
        shortage->fetches = 0;
    }
}

void shortage_tick(struct agent *agent)
{
    struct shortage *shortage = &agent->shortage;

    if (shortage->waiting && ++shortage->ticks % RETRY_TICKS == 0) {
        shortage->waiting = false;
    }
}

// The task that has precedence, while it lacks something.
static struct block *first_block(const struct agent *agent)
{
    const struct task_key *key = &agent->shortage.first;
    const struct agent_layer *layer =
        agent->shortage.has_first ? layer_find(agent, key->job, key->layer) : NULL;
    struct block *block = layer != NULL && key->index < layer->tasks ? block_find(layer, key->index) : NULL;

    return block != NULL && (block->queued & bit(key->index % BLOCK_CELLS)) != 0 ? block : NULL;
}

// One of its inputs that waits for being fetched, or NULL.  *bound: it also lacks what another task here
// makes.
static struct block *lacking(const struct agent_layer *layer, uint32_t index, uint32_t *cell, bool *bound)
{
    struct block *found = NULL;

    *bound = false;
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct link *link = &layer->input[k];
        struct span span = input_needs(link->input, layer->tasks, link->source->tasks, index);

        for (uint32_t s = 0; s < span.count; s++) {
            struct block *block = block_find(link->source, span_at(&span, s));
            uint32_t at = span_at(&span, s) % BLOCK_CELLS;

            if (block == NULL || ((block->held | block->fetching | block->line) & bit(at)) == 0) {
                *bound = true;
                return NULL;
            }
            if (found == NULL && (block->line & bit(at)) != 0) {
                found = block;
                *cell = at;
            }
        }
    }
    return found;
}

// The task that has precedence, for as long as all it waits for is being fetched: if it lost that with its
// last fetch, and that failed, then what it has would make room for an older task, which may wait for it.
static struct block *first_waiting(struct agent *agent, struct block **lack, uint32_t *cell)
{
    struct block *block = first_block(agent);
    bool bound = false;

    *lack = block != NULL ? lacking(block->layer, agent->shortage.first.index, cell, &bound) : NULL;
    agent->shortage.has_first = block != NULL && !bound;
    return agent->shortage.has_first ? block : NULL;
}

struct block *shortage_next(struct agent *agent, uint32_t *cell)
{
    struct shortage *shortage = &agent->shortage;
    uint32_t most = shortage->fetches != 0 ? shortage->fetches : agent->options.fetches_max;
    struct block *lack;

    if (shortage->waiting || agent->fetching >= most || agent->line_head == NULL) {
        return NULL;
    }
    if (first_waiting(agent, &lack, cell) == NULL || lack == NULL) { // what it lacks is on its way
        lack = agent->line_head;
        *cell = lowest(lack->line);
    }
    return lack;
}

// The oldest task that waits for a fetch, and for no other task here, gets precedence: so it can be run.
static bool choose_first(struct agent *agent)
{
    uint64_t oldest = UINT64_MAX;

    for (uint32_t number = 0; number < agent->assignments; number++) {
        const struct assignment *assignment = &agent->assignment[number];

        for (uint32_t i = assignment->first;
             assignment->tasks > 0 && assignment->sequence < oldest && i < assignment->end; i++) {
            const struct block *block = block_find(assignment->layer, i);
            uint32_t cell = i % BLOCK_CELLS;
            bool bound;

            if (block != NULL && (block->queued & bit(cell)) != 0 && block->assignment[cell] == number &&
                lacking(assignment->layer, i, &cell, &bound) != NULL) {
                agent->shortage.first =
                    (struct task_key){assignment->layer->job->number, assignment->layer->number, i};
                oldest = assignment->sequence;
            }
        }
    }
    agent->shortage.has_first = oldest != UINT64_MAX;
    return agent->shortage.has_first;
}

static void keep_needs(struct agent *agent, bool keep)
{
    const struct agent_layer *layer = first_block(agent)->layer;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct link *link = &layer->input[k];
        struct span span =
            input_needs(link->input, layer->tasks, link->source->tasks, agent->shortage.first.index);

        for (uint32_t s = 0; s < span.count; s++) {
            struct block *block = block_find(link->source, span_at(&span, s));

            if (block != NULL) {
                block->keep = keep ? block->keep | bit(span_at(&span, s) % BLOCK_CELLS) : 0;
            }
        }
    }
}

// Copies for other tasks go; they are fetched again when it is their turn.  False: no memory to go on.
static bool make_room(struct agent *agent, bool *made)
{
    struct blocks at = {0};
    struct block *block;
    bool fine = true;

    keep_needs(agent, true);
    while (fine && (block = blocks_next(agent, &at)) != NULL) {
        uint64_t copies = block->held & ~(block->own | block->keep);

        fine = actions_reserve(agent, BLOCK_CELLS);
        if (fine && copies != 0) {
            uint64_t sticky = block->sticky & copies;

            parts_drop(agent, block, copies);
            block->sticky |= sticky;
            *made = true;
        }
    }
    keep_needs(agent, false);
    return fine;
}

// What is left is made here and kept for others, and was not released in all that time.
static bool give_up(struct agent *agent)
{
    struct block *block = first_block(agent);
    uint32_t index = agent->shortage.first.index;
    struct agent_action *action;
    char *text = arena_strdup(&agent->arena, agent->shortage.why);

    if (!actions_reserve(agent, 1)) {
        return false;
    }
    if (agent->connected) {
        action = action_push(agent, AGENT_REPORT_FAILED);
        action->u.key = agent->shortage.first;
        action->code = ENOMEM;
        action->p.text = text != NULL ? text : "out of memory";
    }
    tasks_leave(agent, block, bit(index % BLOCK_CELLS));
    parts_unmade(agent, block, bit(index % BLOCK_CELLS));
    return true;
}

bool shortage_settle(struct agent *agent)
{
    bool made = false;
    struct block *lack;
    uint32_t cell;

    if (!agent->shortage.waiting || agent->bundles > 0 || agent->running > 0 || agent->fetching > 0 ||
        agent->line_head == NULL || (first_waiting(agent, &lack, &cell) == NULL && !choose_first(agent))) {
        return true;
    }
    if (!make_room(agent, &made)) {
        return false;
    }
    if (!made && agent->shortage.ticks < PATIENCE_TICKS) {
        return true;
    }
    if (!made && !give_up(agent)) {
        return false;
    }
    shortage_relief(agent);
    return parts_settle(agent) && parts_fetch(agent);
}
