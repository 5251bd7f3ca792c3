#include "client/plan/expr.h"

#include <string.h>

#include "proto/number.h"

#define KIND(name) DRAY__EXPR_KIND__##name

static struct expr *make(struct arena *arena, Dray__ExprKind kind, enum type type, const struct expr *a,
                         const struct expr *b)
{
    struct expr *out = arena_zalloc(arena, sizeof(*out));

    if (out == NULL) {
        return NULL;
    }
    out->kind = kind;
    out->type = type;
    out->a = a;
    out->b = b;
    out->nodes = 1;
    out->stack = 1;
    if (a != NULL) {
        out->nodes += a->nodes;
        out->stack = a->stack;
    }
    if (b != NULL) {
        out->nodes += b->nodes;
        out->stack = b->stack + 1 > out->stack ? b->stack + 1 : out->stack;
    }
    // What does not fit is as good as infinite.
    if (out->nodes > 2 * EXPR_NODES_MAX) {
        out->nodes = 2 * EXPR_NODES_MAX;
    }
    return out;
}

const struct expr *expr_column(struct arena *arena, uint32_t column, enum type type)
{
    struct expr *out = make(arena, KIND(COLUMN), type, NULL, NULL);

    if (out != NULL) {
        out->column = column;
    }
    return out;
}

const struct expr *expr_bool(struct arena *arena, bool value)
{
    struct expr *out = make(arena, KIND(LITERAL), TYPE_BOOL, NULL, NULL);

    if (out != NULL) {
        out->boolean = value;
    }
    return out;
}

const struct expr *expr_int(struct arena *arena, int64_t value)
{
    struct expr *out = make(arena, KIND(LITERAL), TYPE_INT64, NULL, NULL);

    if (out != NULL) {
        out->i = value;
    }
    return out;
}

const struct expr *expr_float(struct arena *arena, double value)
{
    struct expr *out = make(arena, KIND(LITERAL), TYPE_FLOAT64, NULL, NULL);

    if (out != NULL) {
        out->f = value;
    }
    return out;
}

const struct expr *expr_string(struct arena *arena, const char *text, uint32_t size)
{
    struct expr *out = make(arena, KIND(LITERAL), TYPE_STRING, NULL, NULL);

    if (out != NULL) {
        out->text = text;
        out->size = size;
    }
    return out;
}

const struct expr *expr_rebuild(struct arena *arena, const struct expr *expr, const struct expr *a,
                                const struct expr *b)
{
    return make(arena, expr->kind, expr->type, a, b);
}

bool expr_fits(const struct expr *expr)
{
    return expr->nodes <= EXPR_NODES_MAX && expr->stack <= EXPR_STACK_MAX;
}

// ---- types ------------------------------------------------------------------------

static const char *type_words(enum type type)
{
    switch (type) {
    case TYPE_BOOL:
        return "true or false";
    case TYPE_INT64:
    case TYPE_FLOAT64:
        return "a number";
    default:
        return "text";
    }
}

static const struct expr *fail(struct expr_fault *fault, const char *text)
{
    fault->text = text;
    return NULL;
}

static const char *kind_symbol(Dray__ExprKind kind)
{
    switch (kind) {
    case KIND(NEG):
    case KIND(SUB):
        return "-";
    case KIND(NOT):
        return "~";
    case KIND(ADD):
        return "+";
    case KIND(MUL):
        return "*";
    case KIND(DIV):
        return "/";
    case KIND(FLOORDIV):
        return "//";
    case KIND(MOD):
        return "%";
    case KIND(POW):
        return "**";
    case KIND(EQ):
        return "==";
    case KIND(NE):
        return "!=";
    case KIND(LT):
        return "<";
    case KIND(LE):
        return "<=";
    case KIND(GT):
        return ">";
    case KIND(GE):
        return ">=";
    case KIND(AND):
        return "&";
    case KIND(OR):
        return "|";
    case KIND(XOR):
        return "^";
    default:
        return "?";
    }
}

static bool is_literal(const struct expr *e)
{
    return e->kind == KIND(LITERAL);
}

const struct expr *expr_cast(struct arena *arena, const struct expr *a, enum type type)
{
    if (type == TYPE_DICT) {
        type = TYPE_STRING;
    }
    if (a->type == type) {
        return a;
    }
    if (is_literal(a)) {
        if (a->type == TYPE_INT64 && type == TYPE_FLOAT64) {
            return expr_float(arena, (double)a->i);
        }
        if (a->type == TYPE_BOOL && type == TYPE_INT64) {
            return expr_int(arena, a->boolean);
        }
        if (a->type == TYPE_BOOL && type == TYPE_FLOAT64) {
            return expr_float(arena, a->boolean);
        }
    }
    return make(arena, KIND(CAST), type, a, NULL);
}

const struct expr *expr_unary(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                              struct expr_fault *fault)
{
    if (a->type == TYPE_ANY && kind != KIND(IS_NULL) && kind != KIND(NOT_NULL)) {
        a = expr_cast(arena, a, kind == KIND(NOT) ? TYPE_BOOL : TYPE_FLOAT64);
        if (a == NULL) {
            return NULL;
        }
    }
    switch (kind) {
    case KIND(NOT):
        if (a->type != TYPE_BOOL && a->type != TYPE_INT64) {
            return fail(fault, arena_printf(arena, "~ needs true or false, this is %s", type_words(a->type)));
        }
        return make(arena, kind, a->type, a, NULL);
    case KIND(IS_NULL):
    case KIND(NOT_NULL):
        return make(arena, kind, TYPE_BOOL, a, NULL);
    default:
        if (a->type == TYPE_STRING || (a->type == TYPE_BOOL && kind == KIND(NEG))) {
            return fail(fault, arena_printf(arena, "%s needs a number, this is %s",
                                            kind == KIND(NEG) ? "-" : "abs", type_words(a->type)));
        }
        return a->type == TYPE_BOOL ? a : make(arena, kind, a->type, a, NULL);
    }
}

static const struct expr *logical(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                                  const struct expr *b, struct expr_fault *fault)
{
    if (a->type == TYPE_INT64 && b->type == TYPE_INT64) {
        return make(arena, kind, TYPE_INT64, a, b);
    }
    if (a->type != TYPE_BOOL || b->type != TYPE_BOOL) {
        return fail(fault,
                    arena_printf(arena,
                                 "%s joins conditions, and here stands %s: put each comparison into "
                                 "parentheses, %s binds tighter than they do",
                                 kind_symbol(kind), type_words(a->type != TYPE_BOOL ? a->type : b->type),
                                 kind_symbol(kind)));
    }
    return make(arena, kind, TYPE_BOOL, a, b);
}

static const struct expr *comparison(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                                     const struct expr *b, struct expr_fault *fault)
{
    if (a->type != b->type) {
        if (a->type == TYPE_STRING || b->type == TYPE_STRING) {
            return fail(
                fault,
                arena_printf(arena,
                             "'%s' compares %s with %s (read_csv(dtype={...}) says how a column is read)",
                             kind_symbol(kind), type_words(a->type), type_words(b->type)));
        }
        enum type wide = a->type == TYPE_FLOAT64 || b->type == TYPE_FLOAT64 ? TYPE_FLOAT64 : TYPE_INT64;

        a = expr_cast(arena, a, wide);
        b = expr_cast(arena, b, wide);
        if (a == NULL || b == NULL) {
            return NULL;
        }
    }
    return make(arena, kind, TYPE_BOOL, a, b);
}

static const struct expr *arithmetic(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                                     const struct expr *b, struct expr_fault *fault)
{
    enum type wide = TYPE_INT64;

    if (a->type == TYPE_STRING && b->type == TYPE_STRING && kind == KIND(ADD)) {
        return make(arena, kind, TYPE_STRING, a, b);
    }
    if (a->type == TYPE_STRING || b->type == TYPE_STRING) {
        return fail(fault, arena_printf(arena, "'%s' needs two numbers, and here stand %s and %s",
                                        kind_symbol(kind), type_words(a->type), type_words(b->type)));
    }
    if (a->type == TYPE_BOOL && b->type == TYPE_BOOL && kind != KIND(DIV)) {
        if (kind == KIND(ADD) || kind == KIND(MUL)) {
            return make(arena, kind, TYPE_BOOL, a, b);
        }
        return fail(fault, arena_printf(arena, "'%s' between two conditions: use & | ^", kind_symbol(kind)));
    }
    if (kind == KIND(DIV) || a->type == TYPE_FLOAT64 || b->type == TYPE_FLOAT64) {
        wide = TYPE_FLOAT64;
    }
    if (wide == TYPE_INT64 && kind == KIND(POW) && is_literal(b) && b->type == TYPE_INT64 && b->i < 0) {
        return fail(fault, "a whole number to a negative power is no whole number: write the power as -1.0");
    }
    a = expr_cast(arena, a, wide);
    b = expr_cast(arena, b, wide);
    return a == NULL || b == NULL ? NULL : make(arena, kind, wide, a, b);
}

const struct expr *expr_binary(struct arena *arena, Dray__ExprKind kind, const struct expr *a,
                               const struct expr *b, struct expr_fault *fault)
{
    if (a->type == TYPE_ANY || b->type == TYPE_ANY) {
        enum type type = a->type == TYPE_ANY ? b->type : a->type;

        if (kind >= KIND(AND)) {
            type = TYPE_BOOL;
        } else if (type == TYPE_ANY || (kind < KIND(EQ) && type != TYPE_STRING)) {
            type = TYPE_FLOAT64;
        }
        a = a->type == TYPE_ANY ? expr_cast(arena, a, type) : a;
        b = b->type == TYPE_ANY ? expr_cast(arena, b, type) : b;
        if (a == NULL || b == NULL) {
            return NULL;
        }
    }
    switch (kind) {
    case KIND(AND):
    case KIND(OR):
    case KIND(XOR):
        return logical(arena, kind, a, b, fault);
    case KIND(EQ):
    case KIND(NE):
    case KIND(LT):
    case KIND(LE):
    case KIND(GT):
    case KIND(GE):
        return comparison(arena, kind, a, b, fault);
    default:
        return arithmetic(arena, kind, a, b, fault);
    }
}

bool expr_is_condition(const struct expr *e)
{
    return e->type == TYPE_BOOL &&
           (e->kind == KIND(LITERAL) || e->kind == KIND(NOT) || e->kind == KIND(IS_NULL) ||
            e->kind == KIND(NOT_NULL) || (e->kind >= KIND(EQ) && e->kind <= KIND(XOR)));
}

const struct expr *expr_condition(struct arena *arena, const struct expr *e)
{
    struct expr_fault fault = {0};

    if (e->type == TYPE_ANY) {
        e = expr_cast(arena, e, TYPE_BOOL);
    }
    if (e == NULL || e->type != TYPE_BOOL || expr_is_condition(e)) {
        return e;
    }
    const struct expr *yes = expr_bool(arena, true);

    return yes == NULL ? NULL : expr_binary(arena, KIND(EQ), e, yes, &fault);
}

// ---- walks -------------------------------------------------------------------------
// All recursion here is bounded by EXPR_STACK_MAX to the right and by EXPR_NODES_MAX to the left.

bool expr_is_column(const struct expr *expr, uint32_t *column)
{
    if (expr->kind != KIND(COLUMN)) {
        return false;
    }
    *column = expr->column;
    return true;
}

static bool literal_equal(const struct expr *a, const struct expr *b)
{
    switch (a->type) {
    case TYPE_BOOL:
        return a->boolean == b->boolean;
    case TYPE_INT64:
        return a->i == b->i;
    case TYPE_FLOAT64:
        return memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
    default:
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
    }
}

bool expr_equal(const struct expr *a, const struct expr *b)
{
    if (a == b) {
        return true;
    }
    if (a == NULL || b == NULL || a->kind != b->kind || a->type != b->type || a->nodes != b->nodes ||
        a->column != b->column) {
        return false;
    }
    if (is_literal(a)) {
        return literal_equal(a, b);
    }
    return expr_equal(a->a, b->a) && expr_equal(a->b, b->b);
}

void expr_columns(const struct expr *expr, bool *used)
{
    if (expr == NULL) {
        return;
    }
    if (expr->kind == KIND(COLUMN)) {
        used[expr->column] = true;
    }
    expr_columns(expr->a, used);
    expr_columns(expr->b, used);
}

static uint32_t substituted_nodes(const struct expr *expr, const struct expr *const *with)
{
    uint32_t n = 1;

    if (expr->kind == KIND(COLUMN)) {
        return with[expr->column]->nodes;
    }
    if (expr->a != NULL) {
        n += substituted_nodes(expr->a, with);
    }
    if (expr->b != NULL) {
        n += substituted_nodes(expr->b, with);
    }
    return n > 2 * EXPR_NODES_MAX ? 2 * EXPR_NODES_MAX : n;
}

static const struct expr *substitute(struct arena *arena, const struct expr *expr,
                                     const struct expr *const *with)
{
    const struct expr *a = NULL;
    const struct expr *b = NULL;

    if (expr->kind == KIND(COLUMN)) {
        return with[expr->column];
    }
    if (is_literal(expr)) {
        return expr;
    }
    if (expr->a != NULL) {
        a = substitute(arena, expr->a, with);
    }
    if (expr->b != NULL) {
        b = substitute(arena, expr->b, with);
    }
    if ((expr->a != NULL && a == NULL) || (expr->b != NULL && b == NULL)) {
        return NULL;
    }
    return a == expr->a && b == expr->b ? expr : make(arena, expr->kind, expr->type, a, b);
}

const struct expr *expr_substitute(struct arena *arena, const struct expr *expr,
                                   const struct expr *const *with)
{
    if (substituted_nodes(expr, with) > EXPR_NODES_MAX) {
        return NULL;
    }
    const struct expr *out = substitute(arena, expr, with);

    return out == NULL || !expr_fits(out) ? NULL : out;
}

// ---- out ------------------------------------------------------------------------------

static void encode(const struct expr *expr, struct arena *arena, Dray__Expr *out, bool *ok)
{
    if (expr->a != NULL) {
        encode(expr->a, arena, out, ok);
    }
    if (expr->b != NULL) {
        encode(expr->b, arena, out, ok);
    }
    Dray__ExprNode *node = arena_alloc(arena, sizeof(*node));

    if (node == NULL) {
        *ok = false;
        return;
    }
    dray__expr_node__init(node);
    node->kind = expr->kind;
    if (expr->kind == KIND(COLUMN)) {
        node->has_column = true;
        node->column = expr->column;
    }
    if (expr->kind == KIND(CAST)) {
        node->has_type = true;
        node->type = (Dray__Type)expr->type;
    }
    if (is_literal(expr)) {
        Dray__Literal *literal = arena_alloc(arena, sizeof(*literal));

        if (literal == NULL) {
            *ok = false;
            return;
        }
        dray__literal__init(literal);
        node->literal = literal;
        literal->has_b = expr->type == TYPE_BOOL;
        literal->has_i = expr->type == TYPE_INT64;
        literal->has_f = expr->type == TYPE_FLOAT64;
        literal->has_s = expr->type == TYPE_STRING;
        if (literal->has_b) {
            literal->b = expr->boolean;
        } else if (literal->has_i) {
            literal->i = expr->i;
        } else if (literal->has_f) {
            literal->f = expr->f;
        } else {
            literal->s.data = (uint8_t *)(uintptr_t)expr->text;
            literal->s.len = expr->size;
        }
    }
    out->node[out->n_node++] = node;
}

Dray__Expr *expr_encode(const struct expr *expr, struct arena *arena)
{
    Dray__Expr *out = arena_alloc(arena, sizeof(*out));
    bool ok = true;

    if (out == NULL) {
        return NULL;
    }
    dray__expr__init(out);
    out->node = arena_array(arena, expr->nodes, sizeof(*out->node));
    if (out->node == NULL) {
        return NULL;
    }
    encode(expr, arena, out, &ok);
    return ok ? out : NULL;
}

static char *print_literal(const struct expr *e, struct arena *arena)
{
    char number[NUMBER_TEXT_MAX];

    switch (e->type) {
    case TYPE_BOOL:
        return arena_strdup(arena, e->boolean ? "True" : "False");
    case TYPE_INT64:
        return arena_printf(arena, "%lld", (long long)e->i);
    case TYPE_FLOAT64:
        return arena_strndup(arena, number, number_print_float64(e->f, number));
    default:
        return arena_printf(arena, "\"%.*s\"", (int)e->size, e->text);
    }
}

char *expr_print(const struct expr *expr, const char *const *names, struct arena *arena)
{
    char *a = expr->a == NULL ? NULL : expr_print(expr->a, names, arena);
    char *b = expr->b == NULL ? NULL : expr_print(expr->b, names, arena);

    if ((expr->a != NULL && a == NULL) || (expr->b != NULL && b == NULL)) {
        return NULL;
    }
    switch (expr->kind) {
    case KIND(COLUMN):
        return arena_strdup(arena, names[expr->column]);
    case KIND(LITERAL):
        return print_literal(expr, arena);
    case KIND(ABS):
        return arena_printf(arena, "abs(%s)", a);
    case KIND(IS_NULL):
        return arena_printf(arena, "isna(%s)", a);
    case KIND(NOT_NULL):
        return arena_printf(arena, "notna(%s)", a);
    case KIND(CAST):
        return arena_printf(arena, "%s(%s)", type_name(expr->type), a);
    default:
        break;
    }
    if (b == NULL) {
        return arena_printf(arena, "%s%s", kind_symbol(expr->kind), a);
    }
    return arena_printf(arena, "(%s %s %s)", a, kind_symbol(expr->kind), b);
}
