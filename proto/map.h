// A hash map from a key of 128 bits to a pointer.  Not thread-safe.
#ifndef DRAY_PROTO_MAP_H
#define DRAY_PROTO_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_key {
    uint64_t hi;
    uint64_t lo;
};

// The key of a task or partition.
static inline struct map_key map_key_task(uint32_t job, uint32_t layer, uint32_t index)
{
    return (struct map_key){job, (uint64_t)layer << 32 | index};
}

struct map_slot {
    struct map_key key;
    void *value; // NULL: free
};

struct map {
    struct map_slot *slot;
    size_t capacity; // a power of two, or 0
    size_t count;
};

// A map of all zeros is empty and ready.
void map_fini(struct map *map);                           // not the values
void *map_get(const struct map *map, struct map_key key); // NULL: not there
// Adds or replaces; value is not NULL.  -ENOMEM: the map is as before (never when it replaces).
int map_put(struct map *map, struct map_key key, void *value);
void *map_remove(struct map *map, struct map_key key); // what was there, or NULL
// In no order: for (size_t at = 0; (v = map_next(map, &at, &key)) != NULL;).  `key` may be NULL.
// The map may not be changed in between.
void *map_next(const struct map *map, size_t *at, struct map_key *key);

#endif
