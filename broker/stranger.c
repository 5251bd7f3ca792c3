#include "broker/stranger.h"

enum { WINDOW_US = 10000000 };

static uint64_t hash_route(const uint8_t *route, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325U;

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ route[i]) * 0x100000001b3U;
    }
    return hash == 0 ? 1 : hash;
}

bool strangers_tell(struct strangers *strangers, const void *route, size_t size, uint64_t now_us,
                    uint64_t *unsaid)
{
    uint64_t hash = hash_route(route, size);

    for (size_t i = 0; i < STRANGERS_REMEMBERED; i++) {
        if (strangers->hash[i] == hash) {
            return false;
        }
    }
    strangers->hash[strangers->next] = hash;
    strangers->next = (strangers->next + 1) % STRANGERS_REMEMBERED;
    if (now_us - strangers->window_us >= WINDOW_US) {
        strangers->window_us = now_us;
        strangers->lines = 0;
    }
    if (strangers->lines >= STRANGERS_LINES) {
        strangers->unsaid++;
        return false;
    }
    strangers->lines++;
    *unsaid = strangers->unsaid;
    strangers->unsaid = 0;
    return true;
}
