// Operations on literals become literals.
#include <math.h>

#include "client/plan/expr.h"

#define KIND(name) DRAY__EXPR_KIND__##name

static bool is_literal(const struct expr *e)
{
    return e->kind == KIND(LITERAL);
}

static const struct expr *fold_int(struct arena *arena, const struct expr *e)
{
    uint64_t x = (uint64_t)e->a->i;
    uint64_t y = e->b == NULL ? 0 : (uint64_t)e->b->i;

    switch (e->kind) {
    case KIND(NEG):
        return expr_int(arena, (int64_t)(0 - x));
    case KIND(ADD):
        return expr_int(arena, (int64_t)(x + y));
    case KIND(SUB):
        return expr_int(arena, (int64_t)(x - y));
    case KIND(MUL):
        return expr_int(arena, (int64_t)(x * y));
    default:
        return e;
    }
}

static const struct expr *fold_float(struct arena *arena, const struct expr *e)
{
    double x = e->a->f;
    double y = e->b == NULL ? 0 : e->b->f;

    switch (e->kind) {
    case KIND(NEG):
        return expr_float(arena, -x);
    case KIND(ADD):
        return expr_float(arena, x + y);
    case KIND(SUB):
        return expr_float(arena, x - y);
    case KIND(MUL):
        return expr_float(arena, x * y);
    case KIND(DIV):
        // x / 0 is for the kernel to decide: a NaN made here would be no null.
        return y != 0 && !isnan(x) && !isnan(y) ? expr_float(arena, x / y) : e;
    default:
        return e;
    }
}

static int order(double a, double b)
{
    return (a > b) - (a < b);
}

static const struct expr *fold_comparison(struct arena *arena, const struct expr *e)
{
    int c;

    switch (e->a->type) {
    case TYPE_INT64:
        c = (e->a->i > e->b->i) - (e->a->i < e->b->i);
        break;
    case TYPE_FLOAT64:
        if (isnan(e->a->f) || isnan(e->b->f)) {
            return e;
        }
        c = order(e->a->f, e->b->f);
        break;
    case TYPE_BOOL:
        c = e->a->boolean - e->b->boolean;
        break;
    default:
        return e;
    }
    switch (e->kind) {
    case KIND(EQ):
        return expr_bool(arena, c == 0);
    case KIND(NE):
        return expr_bool(arena, c != 0);
    case KIND(LT):
        return expr_bool(arena, c < 0);
    case KIND(LE):
        return expr_bool(arena, c <= 0);
    case KIND(GT):
        return expr_bool(arena, c > 0);
    default:
        return expr_bool(arena, c >= 0);
    }
}

static const struct expr *fold_not(struct arena *arena, const struct expr *e)
{
    if (is_literal(e->a)) {
        return expr_bool(arena, !e->a->boolean);
    }
    return e->a->kind == KIND(NOT) && expr_is_condition(e->a->a) ? e->a->a : e;
}

static const struct expr *fold_logical(const struct expr *e)
{
    const struct expr *known = is_literal(e->a) ? e->a : is_literal(e->b) ? e->b : NULL;
    const struct expr *other = known == e->a ? e->b : e->a;

    if (known == NULL || !expr_is_condition(other)) {
        return e;
    }
    if (e->kind == KIND(AND)) {
        return known->boolean ? other : known;
    }
    if (e->kind == KIND(OR)) {
        return known->boolean ? known : other;
    }
    return known->boolean ? e : other;
}

static const struct expr *fold_one(struct arena *arena, const struct expr *e)
{
    if (e->a == NULL) {
        return e;
    }
    if (e->type == TYPE_BOOL && e->kind == KIND(NOT)) {
        return fold_not(arena, e);
    }
    if (e->type == TYPE_BOOL && (e->kind == KIND(AND) || e->kind == KIND(OR) || e->kind == KIND(XOR))) {
        return fold_logical(e);
    }
    if (e->kind == KIND(EQ) && is_literal(e->b) && e->b->type == TYPE_BOOL && e->b->boolean &&
        expr_is_condition(e->a)) {
        return e->a;
    }
    if (!is_literal(e->a) || (e->b != NULL && !is_literal(e->b))) {
        return e;
    }
    if (e->kind == KIND(CAST)) {
        const struct expr *out = expr_cast(arena, e->a, e->type);

        return out != NULL && is_literal(out) ? out : e;
    }
    if (e->kind >= KIND(EQ) && e->kind <= KIND(GE)) {
        return fold_comparison(arena, e);
    }
    if (e->type == TYPE_INT64 && e->a->type == TYPE_INT64) {
        // What it does not know stays as it is.
        return fold_int(arena, e);
    }
    return e->type == TYPE_FLOAT64 && e->a->type == TYPE_FLOAT64 ? fold_float(arena, e) : e;
}

const struct expr *expr_fold(struct arena *arena, const struct expr *expr)
{
    if (expr->a == NULL) {
        return expr;
    }
    const struct expr *a = expr_fold(arena, expr->a);
    const struct expr *b = expr->b == NULL ? NULL : expr_fold(arena, expr->b);

    // Folding is a service: without memory the expression stays as it is.
    if (a == NULL || (expr->b != NULL && b == NULL)) {
        return expr;
    }
    const struct expr *out = a == expr->a && b == expr->b ? expr : expr_rebuild(arena, expr, a, b);

    if (out == NULL) {
        return expr;
    }
    const struct expr *folded = fold_one(arena, out);

    return folded == NULL ? out : folded;
}
