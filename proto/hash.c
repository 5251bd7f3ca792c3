#include "proto/hash.h"

#include <stdlib.h>
#include <string.h>

void hash_init(struct hash *hash)
{
    memset(hash, 0, sizeof(*hash));
    hash->bucket = hash->fixed;
    hash->mask = HASH_FIXED - 1;
}

void hash_fini(struct hash *hash)
{
    if (hash->bucket != hash->fixed) {
        free(hash->bucket);
    }
    hash_init(hash);
}

static void grow(struct hash *hash)
{
    size_t size = (hash->mask + 1) * 2;
    struct hash_node **bucket = calloc(size, sizeof(*bucket));

    if (bucket == NULL) {
        return;
    }
    for (size_t i = 0; i <= hash->mask; i++) {
        struct hash_node *node = hash->bucket[i];
        struct hash_node *turned = NULL;

        // Chains are newest first: turn them round so that re-adding keeps that.
        while (node != NULL) {
            struct hash_node *next = node->next;

            node->next = turned;
            turned = node;
            node = next;
        }
        while (turned != NULL) {
            struct hash_node *next = turned->next;
            size_t at = turned->hash & (size - 1);

            turned->next = bucket[at];
            bucket[at] = turned;
            turned = next;
        }
    }
    if (hash->bucket != hash->fixed) {
        free(hash->bucket);
    }
    hash->bucket = bucket;
    hash->mask = size - 1;
    hash->any = 0;
}

void hash_add(struct hash *hash, struct hash_node *node, uint64_t value)
{
    if (hash->count > hash->mask) {
        grow(hash);
    }
    size_t at = value & hash->mask;

    node->hash = value;
    node->next = hash->bucket[at];
    hash->bucket[at] = node;
    hash->any = at < hash->any ? at : hash->any;
    hash->count++;
}

void hash_remove(struct hash *hash, struct hash_node *node)
{
    struct hash_node **link = &hash->bucket[node->hash & hash->mask];

    while (*link != node) {
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    hash->count--;
}

struct hash_node *hash_first(const struct hash *hash, uint64_t value)
{
    struct hash_node *node = hash->bucket[value & hash->mask];

    while (node != NULL && node->hash != value) {
        node = node->next;
    }
    return node;
}

struct hash_node *hash_next(const struct hash_node *node)
{
    struct hash_node *next = node->next;

    while (next != NULL && next->hash != node->hash) {
        next = next->next;
    }
    return next;
}

struct hash_node *hash_any(struct hash *hash)
{
    if (hash->count == 0) {
        return NULL;
    }
    while (hash->bucket[hash->any] == NULL) {
        hash->any++;
    }
    return hash->bucket[hash->any];
}
