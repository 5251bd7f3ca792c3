// Typed expressions over the columns of a node: immutable trees in an arena,
// subtrees shared.  Kinds are those of the op catalogue (proto/op.proto); both sides of an operation
// have the same type, casts are explicit.
#ifndef DRAY_CLIENT_PLAN_EXPR_H
#define DRAY_CLIENT_PLAN_EXPR_H

#include "proto/arena.h"
#include "proto/op.pb-c.h"
#include "proto/table.h"

// Of a column of a file without rows: it takes whatever type is asked of it.  On the wire it is float64.
#define TYPE_ANY ((enum type)(TYPE_DICT + 1))

#define EXPR_NODES_MAX 1000U // what the op catalogue allows
#define EXPR_STACK_MAX 64U

struct expr {
    Dray__ExprKind kind;
    enum type type;       // never DICT, may be ANY
    const struct expr *a; // operands
    const struct expr *b;
    uint32_t column; // COLUMN
    union {          // LITERAL
        bool boolean;
        int64_t i;
        double f;
        const char *text;
    };
    uint32_t size;  // of text
    uint32_t nodes; // counted as a tree, saturating
    uint32_t stack; // what its postfix form needs
};

// What is wrong with an operation, for a message; points to static text or into the arena.
struct expr_fault {
    const char *text;
};

// All give NULL when memory ends; expr_unary and expr_binary also with fault->text set when the
// types do not fit.
const struct expr *expr_column(struct arena *arena, uint32_t column, enum type type);
const struct expr *expr_bool(struct arena *arena, bool value);
const struct expr *expr_int(struct arena *arena, int64_t value);
const struct expr *expr_float(struct arena *arena, double value);
const struct expr *expr_string(struct arena *arena, const char *text, uint32_t size);
const struct expr *expr_unary(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                              struct expr_fault *fault);
const struct expr *expr_binary(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                               const struct expr *b, struct expr_fault *fault);
const struct expr *expr_cast(struct arena *arena, const struct expr *a, enum type type);

// The same operation on other operands of the same types.
const struct expr *expr_rebuild(struct arena *arena, const struct expr *expr, const struct expr *a,
                                const struct expr *b);

// True or false and never missing.
bool expr_is_condition(const struct expr *expr);
// The same with missing values as false, where it is of type BOOL or ANY; anything else stays.  NULL: no
// memory.
const struct expr *expr_condition(struct arena *arena, const struct expr *expr);

bool expr_fits(const struct expr *expr); // into EXPR_NODES_MAX and EXPR_STACK_MAX
bool expr_equal(const struct expr *a, const struct expr *b);
bool expr_is_column(const struct expr *expr, uint32_t *column);
// Sets used[c] for each column it reads.
void expr_columns(const struct expr *expr, bool *used);
// COLUMN i becomes with[i].  NULL: no memory, or the result would not fit.
const struct expr *expr_substitute(struct arena *arena, const struct expr *expr,
                                   const struct expr *const *with);
// Operations on literals become literals; AND, OR, NOT with literals vanish.  The same pointer when nothing
// changes.
const struct expr *expr_fold(struct arena *arena, const struct expr *expr);

// NULL: no memory.
Dray__Expr *expr_encode(const struct expr *expr, struct arena *arena);
// "(price > 5)"; names[c] is the name of column c.
char *expr_print(const struct expr *expr, const char *const *names, struct arena *arena);

#endif
