// Letters on their way: a heap by time, links that keep order.
#include "tests/sim/world.h"

#include <stdlib.h>

// ---- letters: a heap by time, then by order of posting -----------------------------------------

static bool is_earlier(const struct letter *a, const struct letter *b)
{
    return a->at < b->at || (a->at == b->at && a->sequence < b->sequence);
}

struct letter *letter_new(enum letter_type type)
{
    struct letter *letter = must(calloc(1, sizeof(*letter)));

    letter->type = type;
    return letter;
}

static void event_free(struct sched_event *event)
{
    switch (event->type) {
    case EVENT_TASKS_DONE:
        free((void *)event->u.done.range);
        free((void *)event->u.done.bytes);
        break;
    case EVENT_TASKS_DROPPED:
        free((void *)event->u.dropped.range);
        break;
    case EVENT_HOLDING:
        free((void *)event->u.holding.add);
        free((void *)event->u.holding.has);
        free((void *)event->u.holding.gone);
        free((void *)event->u.holding.bytes);
        break;
    case EVENT_SOURCES:
        free((void *)event->u.sources.name);
        break;
    case EVENT_FREE:
    case EVENT_CANCEL:
        free((void *)event->u.job.range);
        break;
    case EVENT_EXTEND:
        free((void *)event->u.extend.graph);
        break;
    case EVENT_SUBMIT:
        free((void *)event->u.submit.graph);
        break;
    case EVENT_TASK_FAILED:
        free((void *)event->u.failed.text);
        break;
    default:
        break;
    }
}

void letter_free(struct letter *letter)
{
    if (letter->type == LETTER_TO_BROKER) {
        event_free(&letter->event);
    }
    free(letter->events);
    free(letter);
}

void world_post(struct world *world, struct letter *letter, uint64_t delay)
{
    size_t at = world->letters++;

    letter->at = world->now + delay;
    letter->sequence = world->sequence++;
    if (world->letters > world->letter_capacity) {
        world->letter_capacity = world->letter_capacity * 2 + 64;
        world->heap = must(realloc(world->heap, world->letter_capacity * sizeof(struct letter *)));
    }
    while (at > 0 && is_earlier(letter, world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = letter;
}

struct letter *world_next(struct world *world)
{
    struct letter *first = world->heap[0];
    struct letter *last = world->heap[--world->letters];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= world->letters) {
            break;
        }
        if (child + 1 < world->letters && is_earlier(world->heap[child + 1], world->heap[child])) {
            child++;
        }
        if (is_earlier(last, world->heap[child])) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    return first;
}

uint64_t world_delay(struct world *world)
{
    return random_below(&world->random, world->delay_max) + 1;
}

// ---- links ---------------------------------------------------------------------------------------

struct link *world_link(struct world *world)
{
    if (world->links == LINKS_MAX) {
        world_fail(world, "more than %d links", LINKS_MAX);
    }
    struct link *link = must(calloc(1, sizeof(*link)));

    link->up = true;
    link->life = world->life;
    link->gate_last = &link->gate;
    link->to_broker = link->from_broker = world->now;
    world->link[world->links++] = link;
    return link;
}

void world_post_in_order(struct world *world, struct letter *letter, uint64_t *last)
{
    uint64_t at = world->now + world_delay(world);

    *last = at > *last ? at : *last;
    world_post(world, letter, *last - world->now);
}

void world_send_broker(struct world *world, struct link *link, struct letter *letter)
{
    letter->link = link;
    world_post_in_order(world, letter, &link->to_broker);
}

void world_cut(struct world *world, struct link *link)
{
    struct letter *letter;

    if (!link->up) {
        return;
    }
    link->up = false;
    if (!link->broker_knows && !link->heard) {
        return;
    }
    letter = letter_new(LETTER_TO_BROKER);
    if (link->host != NULL) {
        letter->event.type = EVENT_WORKER_LEFT;
        letter->event.u.left.worker = link->peer;
        letter->event.u.left.why = link->bye ? "it said goodbye" : "connection lost";
        letter->event.u.left.on_purpose = link->bye;
    } else {
        letter->event.type = EVENT_CLIENT_LEFT;
        letter->event.u.client.client = link->peer;
        letter->event.u.client.on_purpose = link->bye;
    }
    letter->about = world->options.mortal ? link : NULL;
    letter->event.now_us = 0;
    world_post(world, letter, world_delay(world) * (random_percent(&world->random, 20) ? 20 : 1));
}

struct plan *world_plan(struct world *world, uint32_t job)
{
    uint32_t plan = job < JOBS_MAX ? world->job_plan[job] : 0;

    return plan > 0 ? &world->plan[plan - 1] : NULL;
}

struct host *world_holder(struct world *world, uint32_t peer)
{
    for (uint32_t l = 0; l < world->links; l++) {
        if (world->link[l]->host != NULL && world->link[l]->peer == peer) {
            // The exchange is a socket of its own: it goes on without the broker.
            return world->link[l]->host->alive ? world->link[l]->host : NULL;
        }
    }
    return NULL;
}

struct link *world_link_of(struct world *world, uint32_t peer)
{
    for (uint32_t l = 0; l < world->links; l++) {
        if (world->link[l]->broker_knows && world->link[l]->peer == peer) {
            return world->link[l];
        }
    }
    world_fail(world, "the broker writes to a peer %u that never was", peer);
}
