// The lazy table: a chain of immutable nodes in an arena, from a scan upward.
// Columns are numbered by their place in the node below.
#ifndef DRAY_CLIENT_PLAN_NODE_H
#define DRAY_CLIENT_PLAN_NODE_H

#include "client/plan/csv.h"
#include "client/plan/expr.h"

#define NODE_DEPTH_MAX 500U

enum node_kind { NODE_SCAN, NODE_PROJECT, NODE_FILTER, NODE_AGGREGATE, NODE_HEAD, NODE_SORT };

struct field {
    const char *name;
    enum type type;
};

struct aggregate {
    Dray__AggFn fn;
    uint32_t column; // of the input
};

struct sort_key {
    uint32_t column;
    bool descending;
    bool nulls_first;
};

struct node {
    enum node_kind kind;
    const struct node *input; // NULL for a scan
    uint32_t depth;           // of the chain, from 1
    uint32_t columns;
    const struct field *field; // [columns], of what comes out
    union {
        struct {
            const struct csv_source *source;
            const uint32_t *column; // of the source, for each field
        } scan;
        struct {
            const struct expr *const *expr; // one for each field
        } project;
        struct {
            const struct expr *predicate;
        } filter;
        struct {
            const uint32_t *key; // columns of the input; the fields are the keys, then the aggregates
            uint32_t keys;
            const struct aggregate *agg;
            uint32_t aggs;
        } aggregate;
        struct {
            uint64_t rows;
        } head;
        struct {
            const struct sort_key *key;
            uint32_t keys;
            uint64_t limit; // 0: none
        } sort;
    };
};

// All copy what they are given, except expressions and names, which must live as long as the arena.  NULL: no
// memory.
const struct node *node_scan(struct arena *arena, const struct csv_source *source, const uint32_t *column,
                             uint32_t columns);
const struct node *node_project(struct arena *arena, const struct node *input, const struct expr *const *expr,
                                const char *const *name, uint32_t columns);
const struct node *node_filter(struct arena *arena, const struct node *input, const struct expr *predicate);
// name: of the keys, then of the aggregates.
const struct node *node_aggregate(struct arena *arena, const struct node *input, const uint32_t *key,
                                  uint32_t keys, const struct aggregate *agg, uint32_t aggs,
                                  const char *const *name);
const struct node *node_head(struct arena *arena, const struct node *input, uint64_t rows);
const struct node *node_sort(struct arena *arena, const struct node *input, const struct sort_key *key,
                             uint32_t keys, uint64_t limit);
// The same step over another input with the same columns.
const struct node *node_over(struct arena *arena, const struct node *node, const struct node *input);

// The type that an aggregate makes of a column; 0: it cannot (the mean of a text).
enum type aggregate_type(Dray__AggFn fn, enum type type);
const char *aggregate_name(Dray__AggFn fn); // "mean"

// The node that decides which rows there are: below the projections.
const struct node *node_rows(const struct node *node);
const struct node *node_bottom(const struct node *node); // the scan
// UINT32_MAX: there is none.
uint32_t node_find(const struct node *node, uint32_t from, const char *name);
const char *const *node_names(const struct node *node, struct arena *arena);

// One line, without what is below.
char *node_print(const struct node *node, struct arena *arena);

#endif
