#include "broker/core/rank.h"

#include "proto/hash.h"

// Parents are above their children in this order as well.
static bool is_above(const struct rank_node *a, const struct rank_node *b)
{
    return hash_mix(a->key) > hash_mix(b->key);
}

void rank_add(struct rank *rank, struct rank_node *node)
{
    struct rank_node **link = &rank->root;
    struct rank_node **low = &node->left;
    struct rank_node **high = &node->right;
    struct rank_node *rest;

    while (*link != NULL && is_above(*link, node)) {
        link = node->key < (*link)->key ? &(*link)->left : &(*link)->right;
    }
    // What was here is split into what is below and above the key.
    rest = *link;
    *link = node;
    while (rest != NULL) {
        if (rest->key < node->key) {
            *low = rest;
            low = &rest->right;
            rest = rest->right;
        } else {
            *high = rest;
            high = &rest->left;
            rest = rest->left;
        }
    }
    *low = *high = NULL;
    node->in = true;
}

void rank_remove(struct rank *rank, struct rank_node *node)
{
    struct rank_node **link = &rank->root;
    struct rank_node *left = node->left;
    struct rank_node *right = node->right;

    while (*link != node) {
        link = node->key < (*link)->key ? &(*link)->left : &(*link)->right;
    }
    while (left != NULL && right != NULL) {
        if (is_above(left, right)) {
            *link = left;
            link = &left->right;
            left = left->right;
        } else {
            *link = right;
            link = &right->left;
            right = right->left;
        }
    }
    *link = left != NULL ? left : right;
    node->left = node->right = NULL;
    node->in = false;
}

struct rank_node *rank_from(const struct rank *rank, uint64_t key)
{
    struct rank_node *node = rank->root;
    struct rank_node *found = NULL;

    while (node != NULL) {
        if (node->key >= key) {
            found = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}
