// Gives a script's tree its meaning: variables, columns and methods become values, tables
// become chains of nodes, all typed.  The table of methods is in method.h.
#ifndef DRAY_CLIENT_PLAN_BIND_H
#define DRAY_CLIENT_PLAN_BIND_H

#include "client/lang/ast.h"
#include "client/plan/query.h"
#include "client/plan/value.h"

// What survives binding anew: the files found, and the types learnt since.
struct learnt_type {
    uint32_t ordinal; // of the read_csv
    const char *column;
    enum type type;
};
struct learnt {
    struct arena *arena;           // outlives the binder
    Dray__CsvProbeResult ***probe; // [ordinal], one a path
    uint32_t *paths;               // [ordinal], how many
    uint32_t probes;
    struct learnt_type *type;
    uint32_t types;
};

struct variable {
    const char *name;
    const struct value *value;
    struct variable *next;
};

struct binder {
    const struct script *script;
    const struct query_host *host;
    struct learnt *learnt;
    struct arena *arena;
    struct error *err;
    struct variable *variables;
    uint32_t sources; // read_csv calls so far
};

// The value of the last statement.
int bind_script(struct binder *b, const struct ast_script *script, const struct value **out);

// ---- for the methods -----------------------------------------------------------

int bind_fail(struct binder *b, struct place at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int bind_no_memory(struct binder *b);
struct value *bind_value(struct binder *b, enum value_kind kind, struct place at); // NULL: error is set

int bind_binary(struct binder *b, Dray__ExprKind kind, const struct value *left, const struct value *right,
                struct place at, const struct value **out);
int bind_unary(struct binder *b, Dray__ExprKind kind, const struct value *operand, struct place at,
               const struct value **out);
// A literal as an expression; -EINVAL in words for what cannot stand in a column.
int bind_literal(struct binder *b, const struct value *value, const struct expr **out);

// Sets *column, or names the nearest.  The search starts behind `from` columns.
int bind_column(struct binder *b, const struct node *node, uint32_t from, const char *name, struct place at,
                uint32_t *column);
int bind_frame(struct binder *b, const struct node *node, uint32_t index, struct place at,
               const struct value **out);
int bind_series(struct binder *b, const struct node *node, uint32_t index, const struct expr *expr,
                const char *name, struct place at, const struct value **out);
int bind_column_of(struct binder *b, const struct frame *frame, const char *name, struct place at,
                   const struct value **out);
// The column's name that a key in a script means: text, or a number for columns without names.
int bind_name(struct binder *b, const struct value *value, const char **out);
// A text or a list of texts.
int bind_names(struct binder *b, const struct value *value, const char *const **out, const struct place **at,
               uint32_t *count);
// table[key]: a column, some columns, the rows that a condition is true for.
int bind_subscript(struct binder *b, const struct value *table, const struct value *key, struct place at,
                   const struct value **out);

// Columns under construction: expressions over one node.
struct selection {
    const struct node *node;
    const struct expr **expr;
    const char **name;
    uint32_t count, room;
};
int selection_start(struct binder *b, const struct node *node, uint32_t first, uint32_t count,
                    struct selection *out); // columns [first, first + count) of the node
int selection_add(struct binder *b, struct selection *s, const struct expr *expr, const char *name);
// Over another node: taken when both have the same rows, else an error in words.
int selection_add_foreign(struct binder *b, struct selection *s, const struct node *node,
                          const struct expr *expr, const char *name, struct place at);
int selection_node(struct binder *b, const struct selection *s, const struct node **out);

// *expr over `node` becomes an expression over node_rows(node); NULL stays NULL.
int bind_over_rows(struct binder *b, const struct node *node, const struct expr **expr, struct place at);

// One row of reductions as a value; expr and name as in struct scalars.
int bind_scalars(struct binder *b, const struct node *node, const struct reduction *reduction, uint32_t count,
                 const char *const *name, struct place at, const struct value **out);
// Checks that fn can be taken of expr (called `name` in words) and casts truth values where numbers are
// needed.  NULL for size, which counts rows whatever is in them.
int bind_argument(struct binder *b, Dray__AggFn fn, const struct expr *expr, const char *name,
                  struct place at, const struct expr **out);
// keys and arguments are over `node`; names: of the keys, then of the reductions.
int bind_aggregate(struct binder *b, const struct node *node, const struct expr *const *key, uint32_t keys,
                   const struct reduction *reduction, uint32_t count, const char *const *name,
                   const struct node **out);
// The aggregation that a text names; SIZE is not among them.
int bind_agg_name(struct binder *b, const struct value *value, Dray__AggFn *out);
// "int64", "float", "category" (DICT), ...; false: unknown.
bool bind_type_name(const char *name, enum type *out);

#endif
