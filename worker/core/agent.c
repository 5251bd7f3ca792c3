#include "worker/core/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/core/state.h"

void agent_actions_init(struct agent_actions *actions)
{
    memset(actions, 0, sizeof(*actions));
}

void agent_actions_fini(struct agent_actions *actions)
{
    free(actions->action);
    agent_actions_init(actions);
}

bool actions_reserve(struct agent *agent, size_t count)
{
    struct agent_actions *out = agent->out;
    size_t capacity = (out->count + count) * 2;
    struct agent_action *grown;

    if (out->capacity - out->count >= count) {
        return true;
    }
    grown = realloc(out->action, capacity * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    out->action = grown;
    out->capacity = capacity;
    return true;
}

struct agent_action *action_push(struct agent *agent, enum agent_action_type type)
{
    struct agent_action *action = &agent->out->action[agent->out->count++];

    memset(action, 0, sizeof(*action));
    action->type = type;
    return action;
}

void action_range(struct agent *agent, enum agent_action_type type, const struct agent_layer *layer,
                  uint32_t first, uint32_t count)
{
    struct agent_action *last = agent->out->count > 0 ? &agent->out->action[agent->out->count - 1] : NULL;

    if (last != NULL && last->type == type && last->u.range.layer == layer->number &&
        last->u.range.job == layer->job->number && last->u.range.first + last->u.range.count == first) {
        last->u.range.count += count;
        return;
    }
    action_push(agent, type)->u.range = (struct agent_range){layer->job->number, layer->number, first, count};
}

void action_mask(struct agent *agent, enum agent_action_type type, const struct block *block, uint64_t mask)
{
    while (mask != 0) {
        uint32_t count;
        uint32_t from = take_run(&mask, &count);

        action_range(agent, type, block->layer, block->first + from, count);
    }
}

struct agent *agent_create(const struct agent_options *options)
{
    struct agent *agent = calloc(1, sizeof(*agent));

    if (agent == NULL) {
        return NULL;
    }
    agent->options = *options;
    if (agent->options.fetches_max == 0) {
        agent->options.fetches_max = 1;
    }
    agent->slot = calloc(options->threads + 1, sizeof(*agent->slot));
    if (agent->slot == NULL) {
        free(agent);
        return NULL;
    }
    agent->free_assignment = agent->last_assignment = agent->parked = NOBODY;
    if (stocks_create(agent) < 0) {
        stocks_destroy(agent);
        free(agent->slot);
        free(agent);
        return NULL;
    }
    hash_init(&agent->jobs);
    hash_init(&agent->layers);
    arena_init(&agent->arena, 0);
    return agent;
}

void agent_destroy(struct agent *agent)
{
    if (agent == NULL) {
        return;
    }
    layers_destroy(agent);
    hash_fini(&agent->jobs);
    hash_fini(&agent->layers);
    arena_fini(&agent->arena);
    free(agent->assignment);
    free(agent->heap);
    free(agent->slot);
    stocks_destroy(agent);
    free(agent->range);
    free(agent);
}

// ---- events from the broker ----------------------------------------------------------------

// All that there is of one kind.  False: no memory.
static bool tell_all(struct agent *agent, enum agent_action_type type)
{
    struct blocks at = {0};
    struct block *block;

    while ((block = blocks_next(agent, &at)) != NULL) {
        if (!actions_reserve(agent, BLOCK_CELLS)) {
            return false;
        }
        action_mask(agent, type, block,
                    type == AGENT_ADVERTISE ? block->own
                                            : block->queued | block->ready | (block->running & block->wanted));
        // What an earlier session asked back it has given away; one that leaves gives it back all the same.
        block->asked &= agent->leaving ? block->asked : 0;
    }
    return true;
}

static int on_connected(struct agent *agent, const struct agent_event *event, struct error *err)
{
    size_t first = agent->out->count;

    (void)event;
    jobs_age(agent);
    if (jobs_tidy(agent) < 0 || !tell_all(agent, AGENT_ADVERTISE) || !tell_all(agent, AGENT_HAS)) {
        agent->out->count = first;
        return error_no_memory(err);
    }
    for (size_t k = first; k < agent->out->count; k++) {
        struct agent_action *action = &agent->out->action[k];

        if (action->type == AGENT_ADVERTISE || action->type == AGENT_HAS) {
            action->full = true;
            break;
        }
    }
    agent->connected = true;
    return 0;
}

// Releases of copies may not be heard: they stay for tasks that are here only.
static int on_disconnected(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct blocks at = {0};
    struct block *block;

    (void)event;
    (void)err;
    agent->connected = false;
    while ((block = blocks_next(agent, &at)) != NULL) {
        copies_forget(agent, block);
        block->sticky = 0;
        block_check(agent, block, bits(0, block->cells));
    }
    return 0;
}

static int on_leaving(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct blocks at = {0};
    struct block *block;

    (void)event;
    agent->leaving = true;
    while ((block = blocks_next(agent, &at)) != NULL) {
        uint64_t waiting = block->queued | block->ready;

        if (!actions_reserve(agent, 2 * BLOCK_CELLS)) {
            return error_no_memory(err);
        }
        if (agent->connected) {
            action_mask(agent, AGENT_REPORT_DROPPED, block, waiting);
        }
        tasks_leave(agent, block, waiting);
        parts_unmade(agent, block, waiting);
        action_mask(agent, AGENT_WITHDRAW, block, block->running & ~block->asked);
        block->asked |= block->running;
        copies_decline(agent, block, ~(uint64_t)0);
    }
    return 0;
}

static int on_tick(struct agent *agent, const struct agent_event *event, struct error *err)
{
    (void)event;
    // Tasks come before what others only want to be rid of.
    if (agent->shortage.waiting && !copies_make_way(agent)) {
        return error_no_memory(err);
    }
    shortage_tick(agent);
    return jobs_tidy(agent) == 0 && bundles_tick(agent) ? 0 : error_no_memory(err);
}

static int on_layer(struct agent *agent, const struct agent_event *event, struct error *err)
{
    return agent_layer_learn(agent, event, err);
}

static int on_assign(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);

    if (layer == NULL || !layer->told || range->first > layer->tasks ||
        range->count > layer->tasks - range->first) {
        return error_set(
            err, EPROTO, "the broker assigned tasks %u to %llu of job %u, layer %u, which is not known",
            range->first, (unsigned long long)range->first + range->count, range->job, range->layer);
    }
    return tasks_assign(agent, layer, range->first, range->count) < 0 ? error_no_memory(err) : 0;
}

static int on_location(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    uint64_t count = layer == NULL || range->first >= layer->tasks ? 0 : layer->tasks - range->first;
    struct walk walk = walk_begin(range->first, count < range->count ? count : range->count);

    while (walk_next(&walk)) {
        struct block *block = block_get(layer, walk.number * BLOCK_CELLS);

        if (block == NULL || !block_place(block)) {
            if (block != NULL) {
                block_check(agent, block, 0); // it may be empty
            }
            return error_no_memory(err);
        }
        for (uint32_t c = walk.from; c < walk.from + walk.count; c++) {
            block->place[c].location = event->u.range.worker;
        }
        layer->uneven = true;
        block->located |= walk.mask;
        block_check(agent, block, walk.mask);
    }
    return 0;
}

// The blocks that there are of a range, which may be of an unknown layer or go beyond its end.
static struct walk walk_known(const struct agent_layer *layer, const struct agent_range *range)
{
    uint64_t end = layer == NULL ? 0 : (uint64_t)range->first + range->count;

    end = layer != NULL && end > layer->tasks ? layer->tasks : end;
    return walk_begin(range->first, end > range->first ? end - range->first : 0);
}

static void drop_some(struct agent *agent, struct block *block, uint64_t mask, bool kill)
{
    uint64_t waiting = (block->queued | block->ready) & mask;
    uint64_t running = block->running & mask & ~block->stopping;

    action_mask(agent, AGENT_REPORT_DROPPED, block, waiting);
    tasks_leave(agent, block, waiting);
    if (kill) {
        action_mask(agent, AGENT_CANCEL, block, running);
        block->stopping |= running;
        block->wanted &= ~mask;
        parts_unmade(agent, block, waiting | (block->running & mask));
    } else {
        action_mask(agent, AGENT_WITHDRAW, block, running & ~block->asked);
        block->asked |= running;
        parts_unmade(agent, block, waiting);
    }
}

static int on_drop(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    struct walk walk = walk_known(layer, range);

    while (walk_next(&walk)) {
        struct block *block = layer->block[walk.number];

        if (block == NULL) {
            continue;
        }
        if (!actions_reserve(agent, BLOCK_CELLS + 2)) {
            return error_no_memory(err);
        }
        drop_some(agent, block, walk.mask, event->u.range.kill);
    }
    return 0;
}

static int on_release(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    struct walk walk = walk_known(layer, range);

    while (walk_next(&walk)) {
        struct block *block = layer->block[walk.number];

        if (block == NULL) {
            continue;
        }
        if (!actions_reserve(agent, BLOCK_CELLS)) {
            return error_no_memory(err);
        }
        parts_drop(agent, block, walk.mask);
    }
    return 0;
}

static int on_forget_job(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_job *job = agent_job_find(agent, event->u.range.range.job);

    return (job == NULL || agent_job_forget(agent, job) == 0) && jobs_tidy(agent) == 0 ? 0
                                                                                      : error_no_memory(err);
}

static int on_copy(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);

    if (layer == NULL || !layer->told || range->first > layer->tasks ||
        range->count > layer->tasks - range->first) {
        return error_set(err, EPROTO,
                         "the broker hands over partitions %u to %llu of job %u, layer %u, which is not known",
                         range->first, (unsigned long long)range->first + range->count, range->job,
                         range->layer);
    }
    return copies_ask(agent, layer, range, event->u.range.worker) ? 0 : error_no_memory(err);
}

// ---- events from the worker itself ------------------------------------------------------------

static struct block *find_block(const struct agent *agent, const struct task_key *key)
{
    const struct agent_layer *layer = layer_find(agent, key->job, key->layer);

    return layer != NULL && key->index < layer->tasks ? block_find(layer, key->index) : NULL;
}

// One that was under way for a layer that has been forgotten.
static void orphan_over(struct agent *agent)
{
    if (agent->orphans > 0) {
        agent->orphans--;
        agent->fetching--;
    }
}

static int on_fetched(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct task_key *key = &event->u.task.key;
    struct block *block = find_block(agent, key);
    uint64_t one = bit(key->index % BLOCK_CELLS);

    if (!actions_reserve(agent, BLOCK_CELLS)) {
        return error_no_memory(err);
    }
    if (block == NULL || (block->fetching & one) == 0) {
        orphan_over(agent);
        if (block == NULL || (block->held & one) == 0) {
            action_push(agent, AGENT_FREE)->u.range =
                (struct agent_range){key->job, key->layer, key->index, 1};
        }
        return 0;
    }
    block->fetching &= ~one;
    agent->fetching--;
    shortage_fetched(agent);
    if ((block->copying & one) != 0) {
        copies_arrived(agent, block, one);
    } else if ((block->held & one) == 0) {
        parts_hold(agent, block, one, false);
    }
    block_check(agent, block, one);
    return 0;
}

static int on_fetch_failed(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct task_key *key = &event->u.task.key;
    struct block *block = find_block(agent, key);
    uint32_t cell = key->index % BLOCK_CELLS;

    if (!actions_reserve(agent, BLOCK_CELLS)) {
        return error_no_memory(err);
    }
    if (block == NULL || (block->fetching & bit(cell)) == 0) {
        orphan_over(agent);
        return 0;
    }
    bool waited = (block->copying & bit(cell)) == 0 || part_is_waited_for(block->layer, key->index);

    block->fetching &= ~bit(cell);
    agent->fetching--;
    copies_decline(agent, block, bit(cell));
    if (event->u.task.code == ENOMEM && waited) {
        shortage_begin(agent, event->u.task.text); // it is there, and comes when there is room
    } else if (block->place[cell].location == block->place[cell].fetch_from) {
        block->located &= ~bit(cell);
    }
    block_check(agent, block, bit(cell));
    return 0;
}

static void lose_some(struct agent *agent, struct block *block, uint64_t lost)
{
    if (agent->connected) {
        action_mask(agent, AGENT_REPORT_GONE, block, lost & block->own);
    }
    parts_lose(agent, block, lost);
}

static void done_some(struct agent *agent, struct block *block, uint64_t mask)
{
    uint64_t running = block->running & mask;
    uint64_t stopped = running & block->stopping & ~block->wanted;
    uint64_t made = running & ~stopped;
    uint64_t rotten = made & block->rotten;

    // A copy of what was stopped may have come meanwhile; a stranger is of a layer that was forgotten.
    action_mask(agent, AGENT_FREE, block, (stopped | (mask & ~running)) & ~block->held);
    tasks_over(agent, block, running);
    if (made != 0) {
        parts_hold(agent, block, made, true);
        if (agent->connected) {
            action_mask(agent, AGENT_REPORT_DONE, block, made);
        }
    }
    if (rotten != 0) {
        lose_some(agent, block, rotten);
    }
}

// What is not here any more is fetched again where it came from; what was made here the broker has to know.
static int on_lost(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    struct walk walk = walk_known(layer, range);

    while (walk_next(&walk)) {
        struct block *block = layer->block[walk.number];
        uint64_t lost = block != NULL ? walk.mask & block->held : 0;

        if (block != NULL) {
            block->rotten |= walk.mask & block->running;
        }
        if (lost == 0) {
            continue;
        }
        if (!actions_reserve(agent, BLOCK_CELLS)) {
            return error_no_memory(err);
        }
        lose_some(agent, block, lost);
    }
    return 0;
}

// Actions that done_some may make of a range.
static size_t done_actions(const struct agent_layer *layer, struct walk walk)
{
    size_t count = 1;

    while (walk_next(&walk)) {
        const struct block *block = layer->block[walk.number];
        uint64_t running = block != NULL ? block->running & walk.mask : 0;

        // Runs that begin here, of both kinds.
        count += 2 + popcount(running & ~(running << 1)) + popcount(~running & (running << 1));
        count += block != NULL && (block->stopping | block->held | block->rotten) != 0 ? 2 * BLOCK_CELLS : 0;
    }
    return count;
}

static int on_tasks_done(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    struct walk walk = walk_known(layer, range);

    // All of it or nothing: who frees twice would free what came in between.
    if (!actions_reserve(agent, done_actions(layer, walk))) {
        return error_no_memory(err);
    }
    if (layer == NULL) {
        action_push(agent, AGENT_FREE)->u.range = *range;
        return 0;
    }
    layer_measure(layer, range->count, event->u.range.busy_ns);
    while (walk_next(&walk)) {
        struct block *block = layer->block[walk.number];

        if (block != NULL) {
            done_some(agent, block, walk.mask);
        } else {
            action_range(agent, AGENT_FREE, layer, walk.number * BLOCK_CELLS + walk.from, walk.count);
        }
    }
    return 0;
}

static int on_task_failed(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct task_key *key = &event->u.task.key;
    struct block *block = find_block(agent, key);
    uint32_t cell = key->index % BLOCK_CELLS;
    uint64_t one = bit(cell);

    if (!actions_reserve(agent, 1)) {
        return error_no_memory(err);
    }
    if (block == NULL || (block->running & one) == 0) {
        return 0;
    }
    if ((block->stopping & block->wanted & one) != 0) {
        return task_restart(agent, block, cell) < 0 ? error_no_memory(err) : 0;
    }
    layer_measure(block->layer, 1, event->u.task.busy_ns);
    if ((block->wanted & one) != 0 && agent->connected) {
        struct agent_action *action = action_push(agent, AGENT_REPORT_FAILED);
        char *text = arena_strdup(&agent->arena, event->u.task.text != NULL ? event->u.task.text : "");

        action->u.key = *key;
        action->code = event->u.task.code;
        action->busy_ns = event->u.task.busy_ns;
        action->p.text = text != NULL ? text : "the task failed; there was no memory to say why";
    }
    tasks_over(agent, block, one);
    parts_unmade(agent, block, one);
    return 0;
}

static int skip_one(struct agent *agent, struct block *block, uint32_t cell)
{
    uint64_t one = bit(cell);
    bool back = (block->asked & one) != 0;

    if ((block->wanted & one) != 0 && !back) {
        return task_restart(agent, block, cell);
    }
    if ((block->wanted & one) != 0 && agent->connected) {
        action_range(agent, AGENT_REPORT_DROPPED, block->layer, block->first + cell, 1);
    }
    tasks_over(agent, block, one);
    parts_unmade(agent, block, one);
    return 0;
}

static int on_tasks_skipped(struct agent *agent, const struct agent_event *event, struct error *err)
{
    const struct agent_range *range = &event->u.range.range;
    struct agent_layer *layer = layer_find(agent, range->job, range->layer);
    struct walk walk = walk_known(layer, range);

    while (walk_next(&walk)) {
        struct block *block = layer->block[walk.number];
        uint64_t some = block != NULL ? block->running & walk.mask : 0;

        for (; some != 0; some &= some - 1) {
            if (!actions_reserve(agent, 1) || skip_one(agent, block, lowest(some)) < 0) {
                return error_no_memory(err);
            }
        }
    }
    return 0;
}

static int on_bundle_over(struct agent *agent, const struct agent_event *event, struct error *err)
{
    (void)err;
    bundle_over(agent, event->u.bundle);
    return 0;
}

static int (*const handlers[])(struct agent *, const struct agent_event *, struct error *) = {
    [AGENT_CONNECTED] = on_connected,
    [AGENT_DISCONNECTED] = on_disconnected,
    [AGENT_LEAVING] = on_leaving,
    [AGENT_TICK] = on_tick,
    [AGENT_LAYER] = on_layer,
    [AGENT_ASSIGN] = on_assign,
    [AGENT_LOCATION] = on_location,
    [AGENT_DROP] = on_drop,
    [AGENT_RELEASE] = on_release,
    [AGENT_FORGET_JOB] = on_forget_job,
    [AGENT_COPY] = on_copy,
    [AGENT_FETCHED] = on_fetched,
    [AGENT_FETCH_FAILED] = on_fetch_failed,
    [AGENT_LOST] = on_lost,
    [AGENT_TASKS_DONE] = on_tasks_done,
    [AGENT_TASK_FAILED] = on_task_failed,
    [AGENT_TASKS_SKIPPED] = on_tasks_skipped,
    [AGENT_BUNDLE_OVER] = on_bundle_over,
};

int agent_step(struct agent *agent, const struct agent_event *events, size_t count,
               struct agent_actions *actions, struct error *err)
{
    int rc = 0;

    arena_reset(&agent->arena);
    actions->count = 0;
    actions->events_taken = 0;
    agent->out = actions;
    agent->ranges = 0;
    for (size_t k = 0; rc == 0 && k < count; k++) {
        rc = handlers[events[k].type](agent, &events[k], err);
        actions->events_taken += rc == 0 ? 1 : 0;
    }
    // Without memory the rest is left for the next step.
    if (!parts_settle(agent) || !bundles_run(agent) || !parts_fetch(agent) || !shortage_settle(agent)) {
        rc = rc == 0 ? error_no_memory(err) : rc;
    }
    if (agent->strangers) {
        layers_tidy(agent);
    }
    for (size_t k = 0; k < actions->count; k++) {
        if (actions->action[k].type == AGENT_RUN) {
            actions->action[k].p.range = agent->range + actions->action[k].p.offset;
        }
    }
    agent->out = NULL;
    return rc;
}

void agent_counts(const struct agent *agent, struct agent_counts *counts)
{
    *counts = (struct agent_counts){
        .queued = agent->waiting,
        .running = agent->running,
        .fetching = agent->fetching,
        .partitions = agent->held,
    };
}
