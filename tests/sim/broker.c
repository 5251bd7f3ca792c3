// The broker: what has come is one turn of the scheduler, whose actions become letters.
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void world_trace(struct world *world, const struct sched_event *events, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        fprintf(world->options.trace, "[%7" PRIu64 "] ", world->now);
        sched_event_print(&events[k], world->options.trace);
        fputc('\n', world->options.trace);
    }
    for (size_t k = 0; k < world->actions.count; k++) {
        fprintf(world->options.trace, "          -> ");
        sched_action_print(&world->actions.action[k], world->options.trace);
        fputc('\n', world->options.trace);
    }
}

// The handshake: numbers are given when the broker hears of a peer.
static void handshake(struct world *world, struct letter *letter)
{
    struct letter *welcome;

    if (letter->event.type != EVENT_WORKER_JOINED && letter->event.type != EVENT_CLIENT_JOINED) {
        return;
    }
    letter->link->broker_knows = true;
    if (letter->event.type == EVENT_WORKER_JOINED) {
        welcome = letter_new(LETTER_TO_HOST);
        welcome->events = must(calloc(1, sizeof(*welcome->events)));
        welcome->events[0].type = AGENT_CONNECTED;
        welcome->count = 1;
        welcome->link = letter->link;
        world_post_in_order(world, welcome, &letter->link->from_broker);
    }
}

static void set_range(struct agent_event *event, enum agent_event_type type, const struct task_range *range)
{
    memset(event, 0, sizeof(*event));
    event->type = type;
    event->u.range.range = (struct agent_range){range->job, range->layer, range->first, range->count};
}

static void layer_event(struct world *world, const struct sched_action *action, struct agent_event *event)
{
    struct plan *plan = world_plan(world, action->range.job);
    const Dray__Layer *layer = plan->graph->layer[action->range.layer];

    memset(event, 0, sizeof(*event));
    event->type = AGENT_LAYER;
    event->u.layer.job = action->range.job;
    event->u.layer.layer = action->range.layer;
    event->u.layer.tasks = layer->tasks;
    event->u.layer.instant = action->range.layer % 3 == 0; // for long bundles from the beginning
    event->u.layer.inputs = layer->n_input;
    event->u.layer.input = layer->input;
    event->u.layer.resources = layer->n_resource;
    event->u.layer.resource = layer->resource;
    // Copied by the agent; of the plan, so that it lives until the letter is read.
    uint32_t *tasks = build_alloc(&plan->build, layer->n_input + 1, sizeof(*tasks));

    memcpy(tasks, action->input_tasks, layer->n_input * sizeof(*tasks));
    event->u.layer.input_tasks = tasks;
}

static size_t agent_events(struct world *world, const struct sched_action *action, struct agent_event *out)
{
    size_t count = 0;

    switch (action->type) {
    case ACTION_LAYER:
        layer_event(world, action, out);
        return 1;
    case ACTION_RUN:
        for (size_t k = 0; k < action->locations; k++) {
            set_range(&out[count], AGENT_LOCATION, &action->location[k].range);
            out[count++].u.range.worker = action->location[k].worker;
        }
        for (size_t k = 0; k < action->wholes; k++) {
            if (action->whole[k].worker != action->peer) {
                set_range(&out[count], AGENT_LOCATION, &action->whole[k].range);
                out[count++].u.range.worker = action->whole[k].worker;
            }
        }
        set_range(&out[count++], AGENT_ASSIGN, &action->range);
        return count;
    case ACTION_DROP:
        set_range(out, AGENT_DROP, &action->range);
        out->u.range.kill = action->kill;
        return 1;
    case ACTION_RELEASE:
        set_range(out, AGENT_RELEASE, &action->range);
        return 1;
    case ACTION_COPY:
        set_range(out, AGENT_COPY, &action->range);
        out->u.range.worker = action->worker;
        return 1;
    default:
        set_range(out, AGENT_FORGET_JOB, &action->range);
        return 1;
    }
}

// What one turn has for one host goes into one letter.
static void deliver_to_host(struct world *world, struct link *link)
{
    struct letter *letter = NULL;

    for (size_t k = 0; k < world->actions.count; k++) {
        const struct sched_action *action = &world->actions.action[k];

        if (action->peer != link->peer) {
            continue;
        }
        if (letter == NULL) {
            letter = letter_new(LETTER_TO_HOST);
            letter->link = link;
        }
        letter->events =
            must(realloc(letter->events,
                         (letter->count + action->locations + action->wholes + 1) * sizeof(*letter->events)));
        letter->count += agent_events(world, action, letter->events + letter->count);
    }
    world_post_in_order(world, letter, &link->from_broker);
}

static void note_accepted(struct world *world, const struct sched_action *action)
{
    for (uint32_t p = 0; p < world->plans; p++) {
        if (world->plan[p].key == action->key_lo) {
            world->plan[p].job = action->range.job;
            world->job_plan[action->range.job % JOBS_MAX] = p + 1;
        }
    }
}

static void deliver(struct world *world)
{
    for (size_t k = 0; k < world->actions.count; k++) {
        if (world->actions.action[k].type == ACTION_ACCEPTED) {
            note_accepted(world, &world->actions.action[k]);
        }
    }
    for (size_t k = 0; k < world->actions.count; k++) {
        const struct sched_action *action = &world->actions.action[k];
        struct link *link = action->type != ACTION_RECORD ? world_link_of(world, action->peer) : NULL;
        bool first = true;

        if (link == NULL) {
            continue; // it is in the ledger
        }

        if (link->customer != NULL) {
            struct letter *letter = letter_new(LETTER_TO_CUSTOMER);

            letter->link = link;
            letter->action = *action;
            letter->action.text = NULL; // what it points to does not live so long
            letter->action.worker_name = NULL;
            if (world->options.mortal && action->type == ACTION_REJECTED && action->range.job == 0) {
                mortal_hold(world, letter);
                continue;
            }
            world_post_in_order(world, letter, &link->from_broker);
            continue;
        }
        for (size_t j = 0; j < k && first; j++) {
            first = world->actions.action[j].peer != action->peer;
        }
        if (first) {
            deliver_to_host(world, link);
        }
    }
}

void broker_turn(struct world *world)
{
    struct sched_event *events = must(calloc(world->inbox_count + 1, sizeof(*events)));
    size_t count = 0;

    world->turn_due = false;
    if (world->down) {
        free(events);
        return;
    }
    for (size_t k = 0; k < world->inbox_count; k++) {
        struct letter *letter = world->inbox[k];

        if (letter->link == NULL || letter->link->up || letter->read) {
            handshake(world, letter);
            if (world->options.mortal) {
                mortal_reads(world, letter);
            } else {
                customer_arrives(world, letter);
            }
            letter->event.now_us = world->now;
            events[count++] = letter->event;
        }
    }
    if (sched_step(world->sched, events, count, &world->actions) < 0) {
        world_fail(world, "the scheduler is out of memory");
    }
    if (world->options.trace != NULL) {
        world_trace(world, events, count);
    }
    sched_check(world->sched);
    world->steps++;
    if (world->options.mortal) {
        mortal_step_over(world, events, count);
    }
    deliver(world);
    for (size_t k = 0; k < world->inbox_count; k++) {
        letter_free(world->inbox[k]);
    }
    world->inbox_count = 0;
    free(events);
}

// The broker reads all that has come when its turn is due.
void broker_hears(struct world *world, struct letter *letter)
{
    if (world->down) {
        letter_free(letter);
        return;
    }
    if (world->options.apart) {
        apart_broker_hears(world, letter);
    }
    if (world->options.mortal && mortal_gate(world, letter)) {
        return;
    }
    broker_reads(world, letter);
}

void broker_reads(struct world *world, struct letter *letter)
{
    if (world->inbox_count == world->inbox_capacity) {
        world->inbox_capacity = world->inbox_capacity * 2 + 16;
        world->inbox = must(realloc(world->inbox, world->inbox_capacity * sizeof(struct letter *)));
    }
    world->inbox[world->inbox_count++] = letter;
    if (!world->turn_due) {
        world->turn_due = true;
        world_post(world, letter_new(LETTER_BROKER_TURN), random_below(&world->random, 30));
    }
}
