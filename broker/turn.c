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
    arena_init(&turn->arena, ARENA_BYTES_MAX);
}

static void drop_payloads(struct turn *turn)
{
    struct buffer *payload;
    size_t at = 0;

    while ((payload = map_next(&turn->payload, &at, NULL)) != NULL) {
        buffer_unref(payload);
    }
    map_fini(&turn->payload);
    turn->payload_bytes = 0;
}

void turn_fini(struct turn *turn)
{
    drop_payloads(turn);
    arena_fini(&turn->arena);
    free(turn->event);
    *turn = (struct turn){0};
}

void turn_reset(struct turn *turn)
{
    turn->events = 0;
    if (turn->payload.count > 0) {
        drop_payloads(turn);
    }
    if (turn->arena.used > KEEP_BYTES) {
        arena_fini(&turn->arena);
        arena_init(&turn->arena, ARENA_BYTES_MAX);
    } else {
        arena_reset(&turn->arena);
    }
}

size_t turn_bytes(const struct turn *turn)
{
    return turn->arena.used + turn->payload_bytes + turn->events * sizeof(*turn->event);
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
    *event = (struct sched_event){.type = type, .now_us = monotonic_us()};
    return event;
}

int turn_keep(struct turn *turn, uint32_t job, uint32_t layer, uint32_t index, struct buffer *payload)
{
    struct map_key key = map_key_task(job, layer, index);
    struct buffer *before = map_get(&turn->payload, key);

    if (map_put(&turn->payload, key, payload) != 0) {
        buffer_unref(payload);
        return -ENOMEM;
    }
    turn->payload_bytes += payload->size - (before != NULL ? before->size : 0);
    buffer_unref(before);
    return 0;
}

struct buffer *turn_payload(const struct turn *turn, uint32_t job, uint32_t layer, uint32_t index)
{
    return map_get(&turn->payload, map_key_task(job, layer, index));
}
