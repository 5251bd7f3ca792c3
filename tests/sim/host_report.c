// What a worker's agent has to tell the broker.
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

static struct task_range *one_range(const struct agent_range *range)
{
    struct task_range *out = must(malloc(sizeof(*out)));

    *out = (struct task_range){range->job, range->layer, range->first, range->count};
    return out;
}

static uint64_t *sizes_of(uint32_t count)
{
    uint64_t *bytes = must(calloc(count, sizeof(*bytes)));

    for (uint32_t k = 0; k < count; k++) {
        bytes[k] = 8;
    }
    return bytes;
}

void host_report(struct world *world, struct host *host, const struct agent_action *action)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;

    if (action->type == AGENT_REPORT_DONE) {
        event->type = EVENT_TASKS_DONE;
        event->u.done.worker = host->link->peer;
        event->u.done.ranges = 1;
        event->u.done.range = one_range(&action->u.range);
        event->u.done.bytes = sizes_of(action->u.range.count);
        event->u.done.busy_us = (uint64_t)action->u.range.count * (1 + random_below(&world->random, 50));
    } else if (action->type == AGENT_REPORT_DROPPED) {
        event->type = EVENT_TASKS_DROPPED;
        event->u.dropped.worker = host->link->peer;
        event->u.dropped.ranges = 1;
        event->u.dropped.range = one_range(&action->u.range);
    } else if (action->type == AGENT_REPORT_GONE) {
        event->type = EVENT_HOLDING;
        event->u.holding.worker = host->link->peer;
        event->u.holding.gones = 1;
        event->u.holding.gone = one_range(&action->u.range);
    } else {
        event->type = EVENT_TASK_FAILED;
        event->u.failed.worker = host->link->peer;
        event->u.failed.job = action->u.key.job;
        event->u.failed.layer = action->u.key.layer;
        event->u.failed.index = action->u.key.index;
        event->u.failed.code = action->code;
        event->u.failed.text = must(strdup(action->p.text));
        event->u.failed.missing_input = action->missing_input;
        event->u.failed.missing_layer = action->missing.layer;
        event->u.failed.missing_index = action->missing.index;
        event->u.failed.missing_worker = action->worker;
        event->u.failed.missing_job = action->missing.job == action->u.key.job ? 0 : action->missing.job;
    }
    world_send_broker(world, host->link, letter);
}

// Ranges of the actions of one type in a row.
static struct task_range *gather(const struct agent_actions *actions, size_t at, enum agent_action_type type,
                                 size_t *count, uint32_t *partitions)
{
    struct task_range *range;

    *count = 0;
    *partitions = 0;
    while (at + *count < actions->count && actions->action[at + *count].type == type) {
        *partitions += actions->action[at + (*count)++].u.range.count;
    }
    range = must(calloc(*count + 1, sizeof(*range)));
    for (size_t k = 0; k < *count; k++) {
        const struct agent_range *one = &actions->action[at + k].u.range;

        range[k] = (struct task_range){one->job, one->layer, one->first, one->count};
    }
    return range;
}

// After the handshake all that is here, in one message; otherwise what was taken over, or not.
size_t host_advertise(struct world *world, struct host *host, size_t at, bool full)
{
    const struct agent_actions *actions = &host->actions;
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct sched_event *event = &letter->event;
    uint32_t partitions;
    uint32_t others;

    event->type = EVENT_HOLDING;
    event->u.holding.worker = host->link->peer;
    event->u.holding.full = full;
    event->u.holding.add = gather(actions, at, AGENT_ADVERTISE, &event->u.holding.adds, &partitions);
    event->u.holding.bytes = sizes_of(partitions);
    at += event->u.holding.adds;
    if (full) {
        event->u.holding.has = gather(actions, at, AGENT_HAS, &event->u.holding.hases, &others);
    } else {
        event->u.holding.gone = gather(actions, at, AGENT_DECLINE, &event->u.holding.gones, &others);
    }
    world_send_broker(world, host->link, letter);
    return event->u.holding.adds + event->u.holding.hases + event->u.holding.gones;
}
