#include "proto/map.h"

#include <errno.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 16 };

// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static size_t home(const struct map *map, struct map_key key)
{
    return (size_t)mix(mix(key.hi + 0x9e3779b97f4a7c15U) ^ key.lo) & (map->capacity - 1);
}

static bool same(struct map_key a, struct map_key b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

// The slot that has the key, or the free one where it would go.
static size_t find(const struct map *map, struct map_key key)
{
    size_t i = home(map, key);

    while (map->slot[i].value != NULL && !same(map->slot[i].key, key)) {
        i = (i + 1) & (map->capacity - 1);
    }
    return i;
}

void map_fini(struct map *map)
{
    free(map->slot);
    *map = (struct map){0};
}

void *map_get(const struct map *map, struct map_key key)
{
    return map->count == 0 ? NULL : map->slot[find(map, key)].value;
}

static int resize(struct map *map, size_t capacity)
{
    struct map bigger = {calloc(capacity, sizeof(struct map_slot)), capacity, map->count};

    if (bigger.slot == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slot[i].value != NULL) {
            bigger.slot[find(&bigger, map->slot[i].key)] = map->slot[i];
        }
    }
    free(map->slot);
    *map = bigger;
    return 0;
}

int map_put(struct map *map, struct map_key key, void *value)
{
    if (map->count > 0) {
        struct map_slot *there = &map->slot[find(map, key)];

        if (there->value != NULL) {
            there->value = value;
            return 0;
        }
    }
    // At most three quarters full.
    if (map->count + 1 > map->capacity - map->capacity / 4) {
        int rc = resize(map, map->capacity == 0 ? CAPACITY_MIN : map->capacity * 2);

        if (rc != 0) {
            return rc;
        }
    }
    map->slot[find(map, key)] = (struct map_slot){key, value};
    map->count++;
    return 0;
}

void *map_remove(struct map *map, struct map_key key)
{
    if (map->count == 0) {
        return NULL;
    }
    size_t hole = find(map, key);
    void *value = map->slot[hole].value;

    if (value == NULL) {
        return NULL;
    }
    // Slots behind the hole that were pushed on move up, so that no probe ends early.
    for (size_t i = (hole + 1) & (map->capacity - 1); map->slot[i].value != NULL;
         i = (i + 1) & (map->capacity - 1)) {
        size_t wants = home(map, map->slot[i].key);

        if (((i - wants) & (map->capacity - 1)) >= ((i - hole) & (map->capacity - 1))) {
            map->slot[hole] = map->slot[i];
            hole = i;
        }
    }
    map->slot[hole].value = NULL;
    map->count--;
    if (map->capacity > CAPACITY_MIN && map->count < map->capacity / 8) {
        (void)resize(map, map->capacity / 2); // without memory for it, it stays as it is
    }
    return value;
}

void *map_next(const struct map *map, size_t *at, struct map_key *key)
{
    while (*at < map->capacity) {
        const struct map_slot *slot = &map->slot[(*at)++];

        if (slot->value != NULL) {
            if (key != NULL) {
                *key = slot->key;
            }
            return slot->value;
        }
    }
    return NULL;
}
