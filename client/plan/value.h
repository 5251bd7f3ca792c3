// What an expression of a script means before anything has run.  Immutable, in an arena.
#ifndef DRAY_CLIENT_PLAN_VALUE_H
#define DRAY_CLIENT_PLAN_VALUE_H

#include "client/plan/node.h"

struct method;

enum value_kind {
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_TYPE,   // int, str, np.float64
    VALUE_MODULE, // pd, dd
    VALUE_METHOD, // df.head before its call; a function: without self
    VALUE_FRAME,
    VALUE_SERIES,
    VALUE_GROUPS,
    VALUE_SCALARS, // df.x.sum(); df.mean(): one row of numbers, known once the data were read
    VALUE_DTYPES,
};

// The first `index` columns of the node are the index; 0: rows are numbered.
struct frame {
    const struct node *node;
    uint32_t index;
};

struct series {
    const struct node *node;
    uint32_t index;
    const struct expr *expr; // over the node
    const char *name;        // NULL: none
};

// A groupby, perhaps with chosen columns.
struct groups {
    const struct node *node;
    const struct expr **key; // over the node
    const char **key_name;
    uint32_t keys;
    const uint32_t *column; // columns of the node that are aggregated
    uint32_t columns;
    bool chosen; // by [...]: an aggregation that cannot take one of them is an error
    bool single; // by ["x"]: results are series
    bool as_index;
};

// An aggregation of all rows of a node.
struct reduction {
    Dray__AggFn fn;
    const struct expr *argument; // over the node; NULL for SIZE
};
struct scalars {
    const struct node *node;
    const struct reduction *reduction;
    uint32_t reductions;
    const struct expr *const *expr; // over the reductions' results, one for each value
    const char *const *name;        // NULL: a single value
    const char *title;              // of the row as a series; NULL: none
    uint32_t count;
};

struct value {
    enum value_kind kind;
    struct place at;
    union {
        bool boolean;
        int64_t i;
        double f;
        struct {
            const char *text; // zero-terminated
            uint32_t size;
        };
        struct {
            const struct value *const *item; // DICT: key, value, key, value, ...
            uint32_t items;
        };
        struct {
            enum type type; // DICT: category
        };
        const char *module;
        struct {
            const struct method *method;
            const struct value *self;
        };
        struct frame frame; // and DTYPES
        struct series series;
        struct groups groups;
        struct scalars scalars;
    };
};

const char *value_words(const struct value *value); // "a table", "a whole number"
bool value_is_literal(const struct value *value);   // NONE to STRING

#endif
