#include "worker/store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "proto/map.h"

enum { HELD_BYTES = 128 }; // what keeping one costs besides its own bytes

struct held {
    struct partition *partition;
    struct buffer *note;
    uint64_t charged;
};

struct store {
    pthread_mutex_t lock;
    struct budget *budget;
    struct map map; // of struct held
    uint64_t bytes;
};

struct store *store_create(struct budget *budget)
{
    struct store *store = calloc(1, sizeof(*store));

    if (store != NULL) {
        pthread_mutex_init(&store->lock, NULL);
        store->budget = budget;
    }
    return store;
}

// Outside of the lock: the last reference may give back a lot of memory.
static void held_destroy(struct store *store, struct held *held)
{
    if (held != NULL) {
        partition_unref(held->partition);
        buffer_unref(held->note);
        budget_give(store->budget, held->charged);
        free(held);
    }
}

void store_clear(struct store *store)
{
    struct map map;
    struct held *held;
    size_t at = 0;

    pthread_mutex_lock(&store->lock);
    map = store->map;
    store->map = (struct map){0};
    store->bytes = 0;
    pthread_mutex_unlock(&store->lock);
    while ((held = map_next(&map, &at, NULL)) != NULL) {
        held_destroy(store, held);
    }
    map_fini(&map);
}

void store_destroy(struct store *store)
{
    if (store != NULL) {
        store_clear(store);
        pthread_mutex_destroy(&store->lock);
        free(store);
    }
}

int store_put(struct store *store, uint32_t job, uint32_t layer, uint32_t index, struct partition *partition,
              struct buffer *note, uint64_t charged, uint64_t *bytes, struct error *err)
{
    struct map_key key = map_key_task(job, layer, index);
    uint64_t size = partition_bytes(partition);
    uint64_t wanted = size + (note == NULL ? 0 : note->size) + HELD_BYTES;
    struct held *held = malloc(sizeof(*held));
    struct held *before = NULL;
    int rc = 0;

    if (held == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    if (wanted > charged) {
        rc = budget_take(store->budget, wanted - charged, "a partition to be held", err);
        if (rc != 0) {
            goto out;
        }
    } else {
        budget_give(store->budget, charged - wanted);
    }
    charged = wanted;
    *held = (struct held){partition, note, wanted};
    pthread_mutex_lock(&store->lock);
    before = map_get(&store->map, key);
    rc = map_put(&store->map, key, held);
    if (rc == 0) {
        store->bytes += wanted - (before == NULL ? 0 : before->charged);
    }
    pthread_mutex_unlock(&store->lock);
    if (rc != 0) {
        before = NULL;
        error_no_memory(err);
        goto out;
    }
    *bytes = size;
    held = NULL;
    partition = NULL;
    note = NULL;
    charged = 0;
out:
    held_destroy(store, before);
    free(held);
    partition_unref(partition);
    buffer_unref(note);
    budget_give(store->budget, charged);
    return rc;
}

struct partition *store_get(struct store *store, uint32_t job, uint32_t layer, uint32_t index)
{
    struct partition *partition = NULL;

    pthread_mutex_lock(&store->lock);

    const struct held *held = map_get(&store->map, map_key_task(job, layer, index));

    if (held != NULL) {
        partition = partition_ref(held->partition);
    }
    pthread_mutex_unlock(&store->lock);
    return partition;
}

struct buffer *store_note(struct store *store, uint32_t job, uint32_t layer, uint32_t index)
{
    struct buffer *note = NULL;

    pthread_mutex_lock(&store->lock);

    const struct held *held = map_get(&store->map, map_key_task(job, layer, index));

    if (held != NULL) {
        note = buffer_ref(held->note);
    }
    pthread_mutex_unlock(&store->lock);
    return note;
}

void store_drop(struct store *store, uint32_t job, uint32_t layer, uint32_t index)
{
    struct held *held;

    pthread_mutex_lock(&store->lock);
    held = map_remove(&store->map, map_key_task(job, layer, index));
    if (held != NULL) {
        store->bytes -= held->charged;
    }
    pthread_mutex_unlock(&store->lock);
    held_destroy(store, held);
}

void store_notes(struct store *store,
                 void (*visit)(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note),
                 void *arg)
{
    struct map_key key;
    const struct held *held;

    pthread_mutex_lock(&store->lock);
    for (size_t at = 0; (held = map_next(&store->map, &at, &key)) != NULL;) {
        if (held->note != NULL) {
            visit(arg, (uint32_t)key.hi, (uint32_t)(key.lo >> 32), (uint32_t)key.lo, held->note);
        }
    }
    pthread_mutex_unlock(&store->lock);
}

struct store_counts store_counts(struct store *store)
{
    struct store_counts counts;

    pthread_mutex_lock(&store->lock);
    counts = (struct store_counts){store->map.count, store->bytes};
    pthread_mutex_unlock(&store->lock);
    return counts;
}
