// What the readers of YAML and of JSON build a document with; nobody else's business.
#ifndef DRAY_CLIENT_SUBMIT_DOCUMENT_TREE_H
#define DRAY_CLIENT_SUBMIT_DOCUMENT_TREE_H

#include "client/submit/document.h"

// Nodes are pushed as they end; a collection takes what was pushed since it began.
struct tree {
    struct document *document;
    struct arena *arena;
    struct node **pushed; // malloc
    size_t count, room;
    uint32_t nodes; // made
};

void tree_fini(struct tree *tree);
// All below give NULL or a negative errno with the error set.
struct node *tree_scalar(struct tree *tree, uint32_t at, const char *text, size_t size, bool quoted,
                         struct error *err);
// Of the nodes pushed since there were `begin`.
struct node *tree_collection(struct tree *tree, enum node_kind kind, uint32_t at, size_t begin,
                             struct error *err);
int tree_push(struct tree *tree, struct node *node, struct error *err);

int tree_error(const struct tree *tree, uint32_t at, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Set document->root.
int document_read_yaml(struct tree *tree, struct error *err);
int document_read_json(struct tree *tree, struct error *err);

#endif
