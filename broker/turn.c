#include "broker/turn.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/socket.h"

enum {
    KEEP_BYTES = 1 << 20,      // of an arena between turns
    ARENA_BYTES_MAX = 1 << 30, // a message that unpacks to more is refused
};

void turn_init(struct turn *turn)
{
    *turn = (struct turn){0};
    turn->last_answer = &turn->answers;
    arena_init(&turn->arena, ARENA_BYTES_MAX);
}

static void arenas_fini(struct turn *turn)
{
    for (struct turn_arena *own = turn->arenas; own != NULL; own = own->next) {
        arena_fini(&own->arena);
    }
    turn->arenas = NULL;
}

struct arena *turn_arena(struct turn *turn)
{
    struct turn_arena *own = arena_alloc(&turn->arena, sizeof(*own));

    if (own == NULL) {
        return NULL;
    }
    arena_init(&own->arena, ARENA_BYTES_MAX);
    own->next = turn->arenas;
    turn->arenas = own;
    return &own->arena;
}

void turn_fini(struct turn *turn)
{
    arenas_fini(turn);
    parcels_fini(&turn->parcels);
    arena_fini(&turn->arena);
    free(turn->event);
    *turn = (struct turn){0};
}

void turn_reset(struct turn *turn)
{
    turn->events = 0;
    turn->now_us = 0;
    turn->answers = NULL;
    turn->last_answer = &turn->answers;
    turn->extended = NULL;
    turn->replies = turn->cancels = NULL;
    turn->refusals = NULL;
    parcels_reset(&turn->parcels);
    arenas_fini(turn);
    if (turn->arena.used > KEEP_BYTES) {
        arena_fini(&turn->arena);
        arena_init(&turn->arena, ARENA_BYTES_MAX);
    } else {
        arena_reset(&turn->arena);
    }
}

size_t turn_bytes(const struct turn *turn)
{
    size_t bytes = turn->arena.used + turn->parcels.bytes + turn->events * sizeof(*turn->event);

    for (const struct turn_arena *own = turn->arenas; own != NULL; own = own->next) {
        bytes += own->arena.used;
    }
    return bytes;
}

struct turn_mark turn_mark(const struct turn *turn)
{
    return (struct turn_mark){turn->arena.used, turn->parcels.bytes, turn->events, turn->arenas};
}

static size_t more(size_t now, size_t then)
{
    return now > then ? now - then : 0; // something may have been dropped
}

size_t turn_bytes_since(const struct turn *turn, const struct turn_mark *mark)
{
    size_t bytes = more(turn->arena.used, mark->arena) + more(turn->parcels.bytes, mark->parcels) +
                   more(turn->events, mark->events) * sizeof(*turn->event);

    for (const struct turn_arena *own = turn->arenas; own != NULL && own != mark->arenas; own = own->next) {
        bytes += own->arena.used;
    }
    return bytes;
}

struct sched_event *turn_add(struct turn *turn, enum sched_event_type type)
{
    struct sched_event *event;

    if (turn->events == turn->capacity) {
        size_t capacity = turn->capacity == 0 ? 64 : turn->capacity * 2;

        event = realloc(turn->event, capacity * sizeof(*event));
        if (event == NULL) {
            return NULL;
        }
        turn->event = event;
        turn->capacity = capacity;
    }
    event = &turn->event[turn->events++];
    if (turn->now_us == 0) {
        turn->now_us = monotonic_us();
    }
    *event = (struct sched_event){.type = type, .now_us = turn->now_us};
    return event;
}

int turn_answer(struct turn *turn, uint32_t client, uint32_t job, Dray__Attached *attached)
{
    struct answer *answer = arena_alloc(&turn->arena, sizeof(*answer));

    if (answer == NULL) {
        return -ENOMEM;
    }
    *answer = (struct answer){NULL, client, job, attached};
    *turn->last_answer = answer;
    turn->last_answer = &answer->next;
    return 0;
}

int turn_extended(struct turn *turn, uint32_t client, uint32_t job)
{
    struct extended *extended = turn->extended;

    while (extended != NULL && (extended->job != job || extended->client != client)) {
        extended = extended->next;
    }
    if (extended != NULL) {
        return 0;
    }
    extended = arena_alloc(&turn->arena, sizeof(*extended));
    if (extended == NULL) {
        return -ENOMEM;
    }
    *extended = (struct extended){turn->extended, client, job};
    turn->extended = extended;
    return 0;
}

int turn_reply(struct turn *turn, uint32_t client, uint32_t tag, const char *name, uint32_t job,
               uint64_t serial)
{
    struct reply *reply = arena_alloc(&turn->arena, sizeof(*reply));
    const char *copy = name != NULL ? arena_strdup(&turn->arena, name) : NULL;

    if (reply == NULL || (name != NULL && copy == NULL)) {
        return -ENOMEM;
    }
    *reply = (struct reply){turn->replies, client, tag, job, copy, serial};
    turn->replies = reply;
    return 0;
}

int turn_cancel(struct turn *turn, uint32_t client, uint32_t tag)
{
    struct reply *cancel = arena_alloc(&turn->arena, sizeof(*cancel));

    if (cancel == NULL) {
        return -ENOMEM;
    }
    *cancel = (struct reply){.next = turn->cancels, .client = client, .tag = tag};
    turn->cancels = cancel;
    return 0;
}

int turn_refuse(struct turn *turn, const struct sched_action *action)
{
    struct refusal *refusal = arena_alloc(&turn->arena, sizeof(*refusal));
    const char *text = arena_strdup(&turn->arena, action->text != NULL ? action->text : "");

    if (refusal == NULL || text == NULL) {
        return -ENOMEM;
    }
    *refusal = (struct refusal){.next = turn->refusals,
                                .client = action->peer,
                                .key_hi = action->key_hi,
                                .key_lo = action->key_lo,
                                .code = action->code,
                                .text = text};
    turn->refusals = refusal;
    return 0;
}
