#include "worker/kernel/expr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "worker/kernel/expr_op.h"

enum { STACK_MAX = 64, NODES_MAX = 1000 };

struct node {
    Dray__ExprKind kind;
    enum type type;     // of its result; 0: a null that may become any type
    enum type operands; // binary: what both are turned into first
    uint32_t column;
    bool scalar;
    struct operand literal; // LITERAL
    union {
        uint8_t b;
        int64_t i;
        double f;
        struct string_view s;
    } value;
    struct result *result;
    struct result *turned[2]; // operands converted to `operands`
    struct memo memo;
};

struct expr {
    struct arena *arena;
    enum type type;
    const char *text;
    uint32_t nodes;
    struct node *node;
    struct operand *stack;
    struct result *spread; // of a scalar whole
    // Results that nobody reads any more while opening, for reuse.
    uint32_t spares;
    struct result *spare[3 * STACK_MAX];
};

static const uint64_t null_word = 0;

// ---- opening -------------------------------------------------------------------------

// What is on the stack while opening.
struct slot {
    enum type type;
    struct result *result; // that it lies in, or NULL
    const char *text;
    struct node *node;
};

static struct result *claim(struct expr *e)
{
    if (e->spares > 0) {
        return e->spare[--e->spares];
    }
    return arena_zalloc(e->arena, sizeof(struct result) + BATCH_ROWS * sizeof(struct string_view));
}

static void release(struct expr *e, struct result *result)
{
    if (result != NULL && e->spares < 3 * STACK_MAX) {
        e->spare[e->spares++] = result;
    }
}

static enum type plain(enum type type)
{
    return type == TYPE_DICT ? TYPE_STRING : type;
}

static const char *name_of(enum type type)
{
    return type == 0 ? "null" : type_name(type);
}

static int open_column(struct node *n, const Dray__ExprNode *m, const struct schema *in, struct expr *e,
                       struct slot *out, struct error *err)
{
    n->column = m->column;
    if (!m->has_column || m->column >= in->columns) {
        return error_set(err, EINVAL, "column #%u is asked for, there are %u", m->column, in->columns);
    }
    n->type = plain(in->type[n->column]);
    out->text = arena_printf(e->arena, "%s column '%.100s'", type_name(n->type), in->name[n->column]);
    return 0;
}

static void open_literal(struct node *n, const Dray__ExprNode *m, struct expr *e, struct slot *out)
{
    const Dray__Literal *l = m->literal;

    n->scalar = true;
    n->literal.scalar = true;
    n->literal.vector.values = &n->value;
    if (l != NULL && l->has_b) {
        n->type = TYPE_BOOL;
        n->value.b = l->b ? 1 : 0;
        out->text = l->b ? "bool True" : "bool False";
    } else if (l != NULL && l->has_i) {
        n->type = TYPE_INT64;
        n->value.i = l->i;
        out->text = arena_printf(e->arena, "int64 %lld", (long long)l->i);
    } else if (l != NULL && l->has_f) {
        n->type = TYPE_FLOAT64;
        n->value.f = l->f;
        out->text = arena_printf(e->arena, "float64 %.17g", l->f);
    } else if (l != NULL && l->has_s) {
        n->type = TYPE_STRING;
        n->value.s = (struct string_view){(const char *)l->s.data, (uint32_t)l->s.len};
        out->text = arena_printf(e->arena, "string '%.*s'", l->s.len < 50 ? (int)l->s.len : 50,
                                 (const char *)l->s.data);
    } else {
        n->literal.vector.validity = &null_word;
        out->text = "null";
    }
    n->literal.vector.type = n->type;
}

// Settles a null that stood for any type.
static void settle(struct slot *s, enum type type)
{
    if (s->type == 0) {
        s->type = type;
        if (s->node->kind == DRAY__EXPR_KIND__LITERAL) {
            s->node->type = type;
            s->node->literal.vector.type = type;
        }
    }
}

static const char *binary_phrase(Dray__ExprKind kind)
{
    switch (kind) {
    case DRAY__EXPR_KIND__ADD:
        return "cannot add %s and %s";
    case DRAY__EXPR_KIND__SUB:
        return "cannot compute %s minus %s";
    case DRAY__EXPR_KIND__MUL:
        return "cannot multiply %s by %s";
    case DRAY__EXPR_KIND__DIV:
    case DRAY__EXPR_KIND__FLOORDIV:
        return "cannot divide %s by %s";
    case DRAY__EXPR_KIND__MOD:
        return "cannot take the remainder of %s by %s";
    case DRAY__EXPR_KIND__POW:
        return "cannot raise %s to %s";
    case DRAY__EXPR_KIND__AND:
    case DRAY__EXPR_KIND__OR:
    case DRAY__EXPR_KIND__XOR:
        return "cannot combine %s and %s with & | ^";
    default:
        return "cannot compare %s with %s";
    }
}

static int refuse(Dray__ExprKind kind, const struct slot *a, const struct slot *b, const char *advice,
                  struct error *err)
{
    char text[400];

    // The phrase is one of the constants above.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof(text), binary_phrase(kind), a->text, b->text);
#pragma GCC diagnostic pop
    return error_set(err, EINVAL, "%s%s", text, advice);
}

static int binary_types(struct node *n, struct slot *a, struct slot *b, struct error *err)
{
    bool arithmetic = n->kind < DRAY__EXPR_KIND__EQ;
    bool logic = n->kind >= DRAY__EXPR_KIND__AND;
    enum type any;

    settle(a, b->type == 0 ? TYPE_FLOAT64 : b->type);
    settle(b, a->type);
    any = a->type;
    if ((a->type == TYPE_STRING) != (b->type == TYPE_STRING)) {
        return refuse(n->kind, a, b, "", err);
    }
    if (a->type != b->type) {
        any = a->type == TYPE_FLOAT64 || b->type == TYPE_FLOAT64 ? TYPE_FLOAT64 : TYPE_INT64;
    }
    n->operands = any;
    if (!arithmetic && !logic) {
        n->type = TYPE_BOOL;
        return 0;
    }
    if (logic) {
        n->type = any;
        return any == TYPE_BOOL || any == TYPE_INT64 ? 0 : refuse(n->kind, a, b, "", err);
    }
    n->type = n->kind == DRAY__EXPR_KIND__DIV ? TYPE_FLOAT64 : any;
    if (any == TYPE_STRING && n->kind != DRAY__EXPR_KIND__ADD) {
        return refuse(n->kind, a, b, "", err);
    }
    if (any == TYPE_BOOL && n->kind != DRAY__EXPR_KIND__ADD && n->kind != DRAY__EXPR_KIND__MUL) {
        return refuse(n->kind, a, b, ": make one of them an int64 first", err);
    }
    return 0;
}

static int unary_types(struct node *n, const Dray__ExprNode *m, struct slot *a, struct error *err)
{
    settle(a, n->kind == DRAY__EXPR_KIND__CAST ? plain((enum type)m->type) : TYPE_FLOAT64);
    n->type = a->type;
    switch (n->kind) {
    case DRAY__EXPR_KIND__IS_NULL:
    case DRAY__EXPR_KIND__NOT_NULL:
        n->type = TYPE_BOOL;
        return 0;
    case DRAY__EXPR_KIND__NEG:
        if (a->type == TYPE_BOOL) {
            return error_set(err, EINVAL, "cannot negate %s: for its opposite write ~", a->text);
        }
        return a->type == TYPE_STRING ? error_set(err, EINVAL, "cannot negate %s", a->text) : 0;
    case DRAY__EXPR_KIND__ABS:
        return a->type == TYPE_STRING ? error_set(err, EINVAL, "%s has no absolute value", a->text) : 0;
    case DRAY__EXPR_KIND__NOT:
        return a->type == TYPE_BOOL || a->type == TYPE_INT64
                   ? 0
                   : error_set(err, EINVAL, "~ wants a bool or an int64, not %s", a->text);
    default:
        if (!m->has_type || m->type < DRAY__TYPE__BOOL || m->type > DRAY__TYPE__DICT) {
            return error_set(err, EINVAL, "a cast of %s names no type", a->text);
        }
        n->type = plain((enum type)m->type);
        return 0;
    }
}

static int open_operator(struct expr *e, struct node *n, const Dray__ExprNode *m, struct slot *stack,
                         uint32_t *depth, struct error *err)
{
    bool binary = n->kind >= DRAY__EXPR_KIND__ADD && n->kind <= DRAY__EXPR_KIND__XOR;
    uint32_t takes = binary ? 2 : 1;
    int rc;

    if (*depth < takes) {
        return error_set(err, EINVAL, "an expression has an operator without operands");
    }
    struct slot *a = &stack[*depth - takes];
    struct slot *b = &stack[*depth - 1];

    n->memo.arena = e->arena;
    rc = binary ? binary_types(n, a, b, err) : unary_types(n, m, a, err);
    if (rc < 0) {
        return rc;
    }
    n->result = claim(e);
    n->turned[0] = claim(e);
    n->turned[1] = claim(e);
    if (n->result == NULL || n->turned[0] == NULL || n->turned[1] == NULL) {
        return error_no_memory(err);
    }
    release(e, n->turned[0]);
    release(e, n->turned[1]);
    release(e, a->result);
    if (binary) {
        release(e, b->result);
    }
    *depth -= takes;
    stack[(*depth)++] =
        (struct slot){n->type, n->result, arena_printf(e->arena, "a %s expression", name_of(n->type)), n};
    return 0;
}

static int open_nodes(struct expr *e, const Dray__Expr *message, const struct schema *in, struct slot *stack,
                      uint32_t *depth, struct error *err)
{
    for (uint32_t i = 0; i < e->nodes; i++) {
        const Dray__ExprNode *m = message->node[i];
        struct node *n = &e->node[i];
        int rc = 0;

        n->kind = m->kind;
        if (n->kind == DRAY__EXPR_KIND__COLUMN || n->kind == DRAY__EXPR_KIND__LITERAL) {
            if (*depth == STACK_MAX) {
                return error_set(err, EINVAL, "an expression is nested deeper than %d", STACK_MAX);
            }
            struct slot *top = &stack[*depth];

            *top = (struct slot){.node = n};
            if (n->kind == DRAY__EXPR_KIND__COLUMN) {
                rc = open_column(n, m, in, e, top, err);
            } else {
                open_literal(n, m, e, top);
            }
            top->type = n->type;
            ++*depth;
        } else {
            rc = open_operator(e, n, m, stack, depth, err);
        }
        if (rc < 0) {
            return rc;
        }
        if (stack[*depth - 1].text == NULL) {
            return error_no_memory(err);
        }
    }
    return *depth == 1 ? 0 : error_set(err, EINVAL, "an expression leaves %u values, not one", *depth);
}

int expr_open(const Dray__Expr *message, const struct schema *in, struct arena *arena, struct expr **out,
              struct error *err)
{
    struct expr *e = arena_zalloc(arena, sizeof(*e));
    struct slot stack[STACK_MAX];
    uint32_t depth = 0;
    int rc;

    if (message == NULL || message->n_node == 0 || message->n_node > NODES_MAX) {
        return error_set(err, EINVAL, "an expression is empty or has more than %d nodes", NODES_MAX);
    }
    if (e == NULL) {
        return error_no_memory(err);
    }
    e->arena = arena;
    e->nodes = (uint32_t)message->n_node;
    e->node = arena_zalloc(arena, e->nodes * sizeof(*e->node));
    e->stack = arena_array(arena, STACK_MAX, sizeof(*e->stack));
    if (e->node == NULL || e->stack == NULL) {
        return error_no_memory(err);
    }
    rc = open_nodes(e, message, in, stack, &depth, err);
    if (rc < 0) {
        return rc;
    }
    // A lone null is what a column without any value is.
    settle(&stack[0], TYPE_FLOAT64);
    e->type = stack[0].type;
    e->text = stack[0].text;
    if (stack[0].result == NULL && stack[0].node->scalar) {
        e->spread = claim(e);
        if (e->spread == NULL) {
            return error_no_memory(err);
        }
    }
    *out = e;
    return 0;
}

enum type expr_type(const struct expr *expr)
{
    return expr->type;
}

const char *expr_text(const struct expr *expr)
{
    return expr->text;
}

// ---- evaluation ------------------------------------------------------------------------

static int turn(struct node *n, int which, struct operand *a, const struct batch *batch, struct error *err)
{
    bool scalar = a->scalar;
    enum type type = plain(a->vector.type);

    if (type == n->operands) {
        return 0;
    }
    if (a->vector.validity != NULL && scalar) {
        a->vector.type = n->operands; // a null of whichever type
        return 0;
    }
    struct batch one = {.rows = 1, .selected = 1};
    int rc = cast_eval(n->operands, a, scalar ? &one : batch, n->turned[which], &n->memo, a, err);

    a->scalar = scalar;
    return rc;
}

static int eval_binary(struct node *n, struct operand *a, struct operand *b, const struct batch *batch,
                       struct operand *out, struct error *err)
{
    int rc = turn(n, 0, a, batch, err);

    if (rc == 0) {
        rc = turn(n, 1, b, batch, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (a->scalar && b->scalar) {
        // Rare, and the optimiser folds it: not worth a kind of its own.
        operand_spread(a, batch->rows, n->turned[0], a);
    }
    return binary_eval(n->kind, n->operands, a, b, batch, n->result, &n->memo, out, err);
}

static int eval_unary(struct node *n, struct operand *a, const struct batch *batch, struct operand *out,
                      struct error *err)
{
    if (a->scalar) {
        operand_spread(a, batch->rows, n->turned[0], a);
    }
    if (n->kind != DRAY__EXPR_KIND__CAST) {
        return unary_eval(n->kind, a, batch, n->result, out, err);
    }
    if (plain(a->vector.type) != n->type) {
        return cast_eval(n->type, a, batch, n->result, &n->memo, out, err);
    }
    // Nothing to do, but the operand's place may be reused: move it.
    if (a->vector.type == TYPE_DICT) {
        *out = *a; // straight from the batch, which stays
        return 0;
    }
    size_t size = n->type == TYPE_BOOL ? 1 : n->type == TYPE_STRING ? sizeof(struct string_view) : 8;

    memcpy(n->result->values, a->vector.values, batch->rows * size);
    if (a->vector.validity != NULL) {
        memcpy(n->result->validity, a->vector.validity, (batch->rows + 63) / 64 * sizeof(uint64_t));
    }
    *out = *a;
    out->vector.values = n->result->values;
    out->vector.validity = a->vector.validity != NULL ? n->result->validity : NULL;
    return 0;
}

int expr_eval(struct expr *e, const struct batch *batch, struct vector *out, struct error *err)
{
    struct operand *top = e->stack; // one past the last

    for (uint32_t i = 0; i < e->nodes; i++) {
        struct node *n = &e->node[i];
        struct operand made;
        int rc = 0;

        if (n->kind == DRAY__EXPR_KIND__COLUMN) {
            *top++ = (struct operand){.vector = batch->column[n->column]};
            continue;
        }
        if (n->kind == DRAY__EXPR_KIND__LITERAL) {
            *top++ = n->literal;
            continue;
        }
        if (n->operands != 0) {
            rc = eval_binary(n, &top[-2], &top[-1], batch, &made, err);
            top--;
        } else {
            rc = eval_unary(n, &top[-1], batch, &made, err);
        }
        if (rc < 0) {
            return rc;
        }
        top[-1] = made;
    }
    if (e->stack->scalar) {
        operand_spread(e->stack, batch->rows, e->spread, e->stack);
    }
    *out = e->stack->vector;
    return 0;
}
