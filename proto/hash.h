// An intrusive hash table: nodes live inside the caller's structs, so adding one
// never fails.  Growing the buckets may fail; then chains get longer and nothing
// else changes.  The order of iteration must not decide anything.
#ifndef DRAY_PROTO_HASH_H
#define DRAY_PROTO_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_node {
    struct hash_node *next;
    uint64_t hash;
};

enum { HASH_FIXED = 8 };

// Not movable: bucket may point to fixed.
struct hash {
    struct hash_node **bucket;
    size_t mask;
    size_t count;
    size_t any; // hash_any looks from here: no bucket before has a node
    struct hash_node *fixed[HASH_FIXED];
};

#define hash_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

void hash_init(struct hash *hash);
void hash_fini(struct hash *hash); // the nodes are the caller's

void hash_add(struct hash *hash, struct hash_node *node, uint64_t value);
void hash_remove(struct hash *hash, struct hash_node *node); // must be in it

// All nodes with this hash value, newest first; the caller compares the rest.
struct hash_node *hash_first(const struct hash *hash, uint64_t value);
struct hash_node *hash_next(const struct hash_node *node);
// Any node, or NULL when empty: for tearing down.  To take all out like that costs as much as there are.
struct hash_node *hash_any(struct hash *hash);

// Spreads the bits of an integer (the finaliser of SplitMix64).
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9U;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebU;
    return x ^ x >> 31;
}

#endif
