// Operators between columns, literals and values computed from the data.
#include <errno.h>
#include <string.h>

#include "client/plan/bind.h"
#include "client/plan/literal.h"
#include "client/plan/method.h"

static int check(struct binder *b, const struct expr *e, const struct expr_fault *fault, struct place at)
{
    if (e == NULL) {
        return fault->text != NULL ? bind_fail(b, at, "%s", fault->text) : bind_no_memory(b);
    }
    if (!expr_fits(e)) {
        return bind_fail(b, at,
                         "this expression has more than %u operations, or more than %u inside one another",
                         EXPR_NODES_MAX, EXPR_STACK_MAX);
    }
    return 0;
}

static int binary(struct binder *b, Dray__ExprKind kind, const struct expr *left, const struct expr *right,
                  struct place at, const struct expr **out)
{
    struct expr_fault fault = {0};

    if (kind >= DRAY__EXPR_KIND__AND && kind <= DRAY__EXPR_KIND__XOR) {
        left = expr_condition(b->arena, left);
        right = expr_condition(b->arena, right);
        if (left == NULL || right == NULL) {
            return bind_no_memory(b);
        }
    }
    const struct expr *e = expr_binary(b->arena, kind, left, right, &fault);
    int rc = check(b, e, &fault, at);

    if (rc == 0) {
        *out = e;
    }
    return rc;
}

static int unary(struct binder *b, Dray__ExprKind kind, const struct expr *operand, struct place at,
                 const struct expr **out)
{
    struct expr_fault fault = {0};

    if (kind == DRAY__EXPR_KIND__NOT) {
        operand = expr_condition(b->arena, operand);
        if (operand == NULL) {
            return bind_no_memory(b);
        }
    }
    const struct expr *e = expr_unary(b->arena, kind, operand, &fault);
    int rc = check(b, e, &fault, at);

    if (rc == 0) {
        *out = e;
    }
    return rc;
}

int bind_literal(struct binder *b, const struct value *value, const struct expr **out)
{
    const struct expr *e = NULL;

    switch (value->kind) {
    case VALUE_BOOL:
        e = expr_bool(b->arena, value->boolean);
        break;
    case VALUE_INT:
        e = expr_int(b->arena, value->i);
        break;
    case VALUE_FLOAT:
        if (value->f != value->f) {
            return bind_fail(b, value->at, "nan stands for nothing here: .isna() asks for missing values");
        }
        e = expr_float(b->arena, value->f);
        break;
    case VALUE_STRING:
        e = expr_string(b->arena, value->text, value->size);
        break;
    case VALUE_NONE:
        return bind_fail(b, value->at, "None cannot stand here: .isna() asks for missing values");
    case VALUE_SCALARS:
        return bind_fail(
            b, value->at,
            "a value computed from the data cannot be used beside a column yet: run that first and write "
            "its result here");
    default:
        return bind_fail(b, value->at, "%s cannot be used beside a column", value_words(value));
    }
    if (e == NULL) {
        return bind_no_memory(b);
    }
    *out = e;
    return 0;
}

// ---- columns -------------------------------------------------------------------------

// Two columns of tables with the same rows as expressions over one node.
static int pair(struct binder *b, const struct value *left, const struct value *right, struct place at,
                struct series *out, const struct expr **other)
{
    const struct series *x = &left->series;
    const struct series *y = &right->series;
    struct selection s;
    int rc;

    if (x->node == y->node) {
        *out = *x;
        *other = y->expr;
        return 0;
    }
    rc = selection_start(b, x->node, 0, x->index, &s);
    if (rc == 0) {
        rc = selection_add(b, &s, x->expr, "left");
    }
    if (rc == 0) {
        rc = selection_add_foreign(b, &s, y->node, y->expr, "right", at);
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &out->node);
    }
    if (rc < 0) {
        return rc;
    }
    out->index = x->index;
    out->expr = expr_column(b->arena, x->index, x->expr->type);
    *other = expr_column(b->arena, x->index + 1, y->expr->type);
    return out->expr == NULL || *other == NULL ? bind_no_memory(b) : 0;
}

static int series_binary(struct binder *b, Dray__ExprKind kind, const struct value *left,
                         const struct value *right, struct place at, const struct value **out)
{
    const struct value *column = left->kind == VALUE_SERIES ? left : right;
    struct series s = column->series;
    const struct expr *x = s.expr;
    const struct expr *y = NULL;
    const struct expr *e;
    const char *name = s.name;
    int rc;

    if (left->kind == VALUE_SERIES && right->kind == VALUE_SERIES) {
        const char *other = right->series.name;

        rc = pair(b, left, right, at, &s, &y);
        x = s.expr;
        if (name == NULL || other == NULL || strcmp(name, other) != 0) {
            name = NULL;
        }
    } else if (column == left) {
        rc = bind_literal(b, right, &y);
    } else {
        y = x;
        rc = bind_literal(b, left, &x);
    }
    if (rc == 0) {
        rc = binary(b, kind, x, y, at, &e);
    }
    return rc < 0 ? rc : bind_series(b, s.node, s.index, e, name, at, out);
}

// ---- values computed from the data ---------------------------------------------------------

// Both as expressions over one list of reductions.
static int merge(struct binder *b, const struct scalars *x, const struct scalars *y, struct place at,
                 struct scalars *out, const struct expr **other)
{
    uint32_t count = x->reductions + y->reductions;
    struct reduction *list = arena_array(b->arena, count, sizeof(*list));
    const struct expr **with = arena_array(b->arena, y->reductions, sizeof(*with));
    uint32_t used = x->reductions;
    bool same = x->node == y->node;
    int rc = 0;

    if (node_rows(x->node) != node_rows(y->node)) {
        return bind_fail(
            b, at, "these two values are computed from tables with different rows: that is not there yet");
    }
    if (list == NULL || with == NULL) {
        return bind_no_memory(b);
    }
    memcpy(list, x->reduction, x->reductions * sizeof(*list));
    for (uint32_t i = 0; i < used && !same && rc == 0; i++) {
        rc = bind_over_rows(b, x->node, &list[i].argument, at);
    }
    for (uint32_t i = 0; i < y->reductions && rc == 0; i++) {
        struct reduction r = y->reduction[i];
        uint32_t place = 0;
        enum type type = aggregate_type(r.fn, r.argument == NULL ? TYPE_INT64 : r.argument->type);

        rc = same ? 0 : bind_over_rows(b, y->node, &r.argument, at);
        while (place < used && !(list[place].fn == r.fn && expr_equal(list[place].argument, r.argument))) {
            place++;
        }
        if (place == used) {
            list[used++] = r;
        }
        with[i] = expr_column(b->arena, place, type);
        if (with[i] == NULL) {
            return bind_no_memory(b);
        }
    }
    if (rc < 0) {
        return rc;
    }
    *other = expr_substitute(b->arena, y->expr[0], with);
    if (*other == NULL) {
        return bind_fail(b, at, "this expression is too long");
    }
    *out = *x;
    out->node = same ? x->node : node_rows(x->node);
    out->reduction = list;
    out->reductions = used;
    return 0;
}

static int give_scalar(struct binder *b, const struct scalars *base, const struct expr *e, struct place at,
                       const struct value **out)
{
    struct value *v = bind_value(b, VALUE_SCALARS, at);
    const struct expr **one = arena_alloc(b->arena, sizeof(*one));

    if (v == NULL || one == NULL) {
        return bind_no_memory(b);
    }
    v->scalars = *base;
    *one = e;
    v->scalars.expr = one;
    v->scalars.count = 1;
    *out = v;
    return 0;
}

static int scalar_binary(struct binder *b, Dray__ExprKind kind, const struct value *left,
                         const struct value *right, struct place at, const struct value **out)
{
    const struct value *first = left->kind == VALUE_SCALARS ? left : right;
    struct scalars base = first->scalars;
    const struct expr *x;
    const struct expr *y = NULL;
    const struct expr *e;
    int rc;

    if (base.name != NULL || (right->kind == VALUE_SCALARS && right->scalars.name != NULL)) {
        return bind_fail(b, at,
                         "arithmetic on a row of results is not there yet: take one column, "
                         "as in df.x.mean()");
    }
    x = base.expr[0];
    if (left->kind == VALUE_SCALARS && right->kind == VALUE_SCALARS) {
        rc = merge(b, &left->scalars, &right->scalars, at, &base, &y);
    } else if (first == left) {
        rc = bind_literal(b, right, &y);
    } else {
        y = x;
        rc = bind_literal(b, left, &x);
    }
    if (rc == 0) {
        rc = binary(b, kind, x, y, at, &e);
    }
    return rc < 0 ? rc : give_scalar(b, &base, e, at, out);
}

// ---- all -------------------------------------------------------------------------------

static int join_lists(struct binder *b, const struct value *left, const struct value *right, struct place at,
                      const struct value **out)
{
    struct value *v = bind_value(b, left->kind, at);
    const struct value **item = arena_array(b->arena, (size_t)left->items + right->items, sizeof(*item));

    if (v == NULL || item == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < left->items; i++) {
        item[i] = left->item[i];
    }
    for (uint32_t i = 0; i < right->items; i++) {
        item[left->items + i] = right->item[i];
    }
    v->item = item;
    v->items = left->items + right->items;
    *out = v;
    return 0;
}

int bind_binary(struct binder *b, Dray__ExprKind kind, const struct value *left, const struct value *right,
                struct place at, const struct value **out)
{
    const struct value *both[] = {left, right};

    if (value_is_literal(left) && value_is_literal(right)) {
        return literal_binary(b, kind, left, right, at, out);
    }
    if (kind == DRAY__EXPR_KIND__ADD && left->kind == right->kind &&
        (left->kind == VALUE_LIST || left->kind == VALUE_TUPLE)) {
        return join_lists(b, left, right, at, out);
    }
    for (int i = 0; i < 2; i++) {
        if (both[i]->kind == VALUE_METHOD) {
            const char *name = both[i]->method->name;

            return bind_fail(b, both[i]->at, "'%s' is a method: write %s() to call it, [\"%s\"] for a column",
                             name, name, name);
        }
        if (both[i]->kind == VALUE_FRAME) {
            return bind_fail(b, at,
                             "operators on a whole table are not there yet: take a column, as in df[\"x\"]");
        }
    }
    if (left->kind == VALUE_SERIES || right->kind == VALUE_SERIES) {
        return series_binary(b, kind, left, right, at, out);
    }
    if (left->kind == VALUE_SCALARS || right->kind == VALUE_SCALARS) {
        return scalar_binary(b, kind, left, right, at, out);
    }
    return bind_fail(b, at, "%s and %s do not go together here", value_words(left), value_words(right));
}

int bind_unary(struct binder *b, Dray__ExprKind kind, const struct value *operand, struct place at,
               const struct value **out)
{
    const struct expr *e;
    int rc;

    if (value_is_literal(operand)) {
        return literal_unary(b, kind, operand, at, out);
    }
    if (operand->kind == VALUE_SERIES) {
        const struct series *s = &operand->series;

        rc = unary(b, kind, s->expr, at, &e);
        return rc < 0 ? rc : bind_series(b, s->node, s->index, e, s->name, at, out);
    }
    if (operand->kind == VALUE_SCALARS && operand->scalars.name == NULL) {
        rc = unary(b, kind, operand->scalars.expr[0], at, &e);
        return rc < 0 ? rc : give_scalar(b, &operand->scalars, e, at, out);
    }
    return bind_fail(b, at, "this cannot be done with %s", value_words(operand));
}
