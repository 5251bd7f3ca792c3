// A set of things in order of a 64-bit key, least first: which of a job's layers have something to
// hand out.  Intrusive, so that adding never fails; a treap whose shape follows from the keys alone,
// so that the same events give the same actions.
#ifndef DRAY_BROKER_CORE_RANK_H
#define DRAY_BROKER_CORE_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rank_node {
    struct rank_node *left, *right;
    uint64_t key; // no two in a set have the same
    bool in;
};

struct rank {
    struct rank_node *root; // zeroed: empty
};

void rank_add(struct rank *rank, struct rank_node *node);    // must not be in it
void rank_remove(struct rank *rank, struct rank_node *node); // must be in it
// The one with the least key >= `key`, or NULL.
struct rank_node *rank_from(const struct rank *rank, uint64_t key);

#endif
