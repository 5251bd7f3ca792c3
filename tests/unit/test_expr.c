// Expressions against an evaluator that works on one value at a time, and against pandas'
// answers where its rules surprise.
#include "tests/unit/kernel_fixture.h"

#include "proto/number.h"
#include "worker/kernel/expr.h"
#include "worker/kernel/expr_cast.h"
#include "worker/kernel/expr_op.h"

// ---- one value at a time ---------------------------------------------------------------

struct scalar {
    enum type type; // 0: a null of any type
    bool null;
    bool b;
    int64_t i;
    double f;
    char s[256];
    size_t size;
};

static double as_real(const struct scalar *v)
{
    return v->type == TYPE_BOOL ? (double)v->b : v->type == TYPE_INT64 ? (double)v->i : v->f;
}
static int64_t as_int(const struct scalar *v)
{
    return v->type == TYPE_BOOL ? (int64_t)v->b : v->i;
}

static bool is_logic(Dray__ExprKind k)
{
    return k == DRAY__EXPR_KIND__AND || k == DRAY__EXPR_KIND__OR || k == DRAY__EXPR_KIND__XOR;
}
static bool is_compare(Dray__ExprKind k)
{
    return k >= DRAY__EXPR_KIND__EQ && k <= DRAY__EXPR_KIND__GE;
}

static bool by_order(Dray__ExprKind k, int order)
{
    switch (k) {
    case DRAY__EXPR_KIND__EQ:
        return order == 0;
    case DRAY__EXPR_KIND__NE:
        return order != 0;
    case DRAY__EXPR_KIND__LT:
        return order < 0;
    case DRAY__EXPR_KIND__LE:
        return order <= 0;
    case DRAY__EXPR_KIND__GT:
        return order > 0;
    default:
        return order >= 0;
    }
}

// Python's definitions: floor of the true quotient, and the remainder that goes with it.
static int64_t floor_div(int64_t a, int64_t b)
{
    __int128 q = (__int128)a / b;

    if ((__int128)q * b != a && (a < 0) != (b < 0)) {
        q--;
    }
    return (int64_t)(uint64_t)q;
}

static struct scalar apply(Dray__ExprKind k, struct scalar a, struct scalar b)
{
    struct scalar out = {.null = a.null || b.null};
    bool real = a.type == TYPE_FLOAT64 || b.type == TYPE_FLOAT64;
    bool bools = a.type == TYPE_BOOL && b.type == TYPE_BOOL;

    if (is_compare(k)) {
        out.type = TYPE_BOOL;
        out.null = false;
        if (a.null || b.null) {
            out.b = k == DRAY__EXPR_KIND__NE;
        } else if (a.type == TYPE_STRING) {
            int c = memcmp(a.s, b.s, a.size < b.size ? a.size : b.size);

            out.b = by_order(k, c != 0 ? c : (a.size > b.size) - (a.size < b.size));
        } else if (real) {
            double x = as_real(&a);
            double y = as_real(&b);

            out.b = isnan(x) || isnan(y) ? k == DRAY__EXPR_KIND__NE : by_order(k, (x > y) - (x < y));
        } else {
            out.b = by_order(k, (as_int(&a) > as_int(&b)) - (as_int(&a) < as_int(&b)));
        }
        return out;
    }
    if (is_logic(k) && bools) {
        bool x = !a.null && a.b;
        bool y = !b.null && b.b;

        out.type = TYPE_BOOL;
        out.null = false;
        out.b = k == DRAY__EXPR_KIND__AND ? x && y : k == DRAY__EXPR_KIND__OR ? x || y : x != y;
        return out;
    }
    if (a.type == TYPE_STRING) {
        out.type = TYPE_STRING;
        memcpy(out.s, a.s, a.size);
        memcpy(out.s + a.size, b.s, b.size);
        out.size = a.size + b.size;
        return out;
    }
    if (bools) {
        out.type = TYPE_BOOL;
        out.b = k == DRAY__EXPR_KIND__ADD ? a.b || b.b : a.b && b.b;
        return out;
    }
    out.type = real || k == DRAY__EXPR_KIND__DIV ? TYPE_FLOAT64 : TYPE_INT64;
    if (out.null) {
        return out;
    }
    if (out.type == TYPE_FLOAT64) {
        double x = as_real(&a);
        double y = as_real(&b);
        double q;

        switch (k) {
        case DRAY__EXPR_KIND__ADD:
            out.f = x + y;
            break;
        case DRAY__EXPR_KIND__SUB:
            out.f = x - y;
            break;
        case DRAY__EXPR_KIND__MUL:
            out.f = x * y;
            break;
        case DRAY__EXPR_KIND__DIV:
            out.f = x / y;
            break;
        case DRAY__EXPR_KIND__MOD:
            out.f = fmod(x, y);
            if (y != 0 && out.f != 0 && (out.f < 0) != (y < 0)) {
                out.f += y;
            } else if (y != 0 && out.f == 0) {
                out.f = copysign(0, y);
            }
            break;
        default:
            q = fmod(x, y);
            if (y == 0) {
                out.f = x / y;
            } else {
                double d = (x - q) / y;

                if (q != 0 && (q < 0) != (y < 0)) {
                    d -= 1;
                }
                out.f = d == 0 ? copysign(0, x / y) : floor(d) + (d - floor(d) > 0.5);
            }
            break;
        }
        return out;
    }
    int64_t x = as_int(&a);
    int64_t y = as_int(&b);

    switch (k) {
    case DRAY__EXPR_KIND__ADD:
        out.i = (int64_t)((uint64_t)x + (uint64_t)y);
        break;
    case DRAY__EXPR_KIND__SUB:
        out.i = (int64_t)((uint64_t)x - (uint64_t)y);
        break;
    case DRAY__EXPR_KIND__MUL:
        out.i = (int64_t)((uint64_t)x * (uint64_t)y);
        break;
    case DRAY__EXPR_KIND__FLOORDIV:
        out.null = y == 0;
        out.i = y == 0 ? 0 : floor_div(x, y);
        break;
    case DRAY__EXPR_KIND__MOD:
        out.null = y == 0;
        out.i = y == 0 ? 0 : (int64_t)((uint64_t)x - (uint64_t)floor_div(x, y) * (uint64_t)y);
        break;
    case DRAY__EXPR_KIND__AND:
        out.i = x & y;
        break;
    case DRAY__EXPR_KIND__OR:
        out.i = x | y;
        break;
    default:
        out.i = x ^ y;
        break;
    }
    return out;
}

static struct scalar apply_one(Dray__ExprKind k, struct scalar a)
{
    struct scalar out = a;

    switch (k) {
    case DRAY__EXPR_KIND__IS_NULL:
    case DRAY__EXPR_KIND__NOT_NULL:
        out = (struct scalar){.type = TYPE_BOOL};
        out.b = (a.null || (a.type == TYPE_FLOAT64 && isnan(a.f))) == (k == DRAY__EXPR_KIND__IS_NULL);
        break;
    case DRAY__EXPR_KIND__NOT:
        if (a.type == TYPE_BOOL) {
            out.b = a.null || !a.b;
            out.null = false;
        } else {
            out.i = ~a.i;
        }
        break;
    case DRAY__EXPR_KIND__NEG:
        out.i = (int64_t)(0 - (uint64_t)a.i);
        out.f = -a.f;
        break;
    default:
        out.i = a.i < 0 ? (int64_t)(0 - (uint64_t)a.i) : a.i;
        out.f = fabs(a.f);
        break;
    }
    return out;
}

static struct scalar cell(const struct column *c, int64_t i)
{
    struct scalar v = {.type = c->type == TYPE_DICT ? TYPE_STRING : c->type, .null = !column_is_valid(c, i)};

    if (v.null) {
        return v;
    }
    if (v.type == TYPE_BOOL) {
        v.b = column_bool(c, i);
    } else if (v.type == TYPE_INT64) {
        v.i = column_int64(c, i);
    } else if (v.type == TYPE_FLOAT64) {
        v.f = column_float64(c, i);
    } else {
        const char *s = column_string(c, i, &v.size);

        memcpy(v.s, s, v.size);
    }
    return v;
}

static bool same(const struct scalar *a, const struct scalar *b)
{
    if (a->null || b->null) {
        return a->null == b->null;
    }
    switch (a->type) {
    case TYPE_BOOL:
        return a->b == b->b;
    case TYPE_INT64:
        return a->i == b->i;
    case TYPE_FLOAT64:
        return (isnan(a->f) && isnan(b->f)) || memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
    default:
        return a->size == b->size && memcmp(a->s, b->s, a->size) == 0;
    }
}

// ---- random expressions ----------------------------------------------------------------

static const struct column_plan plans[] = {
    {.name = "b", .type = TYPE_BOOL, .null_in = 5},
    {.name = "i", .type = TYPE_INT64, .distinct = 9, .null_in = 7, .offset = -4},
    {.name = "f", .type = TYPE_FLOAT64, .distinct = 12, .null_in = 3, .nan_in = 9},
    {.name = "s", .type = TYPE_STRING, .distinct = 12, .null_in = 4},
    {.name = "d", .type = TYPE_DICT, .distinct = 9, .null_in = 6},
    {.name = "any", .type = TYPE_INT64},
    {.name = "real", .type = TYPE_FLOAT64},
    {.name = "flag", .type = TYPE_BOOL},
};
enum { COLUMNS = sizeof(plans) / sizeof(*plans) };

static const Dray__ExprKind arithmetic[] = {DRAY__EXPR_KIND__ADD,      DRAY__EXPR_KIND__SUB,
                                            DRAY__EXPR_KIND__MUL,      DRAY__EXPR_KIND__DIV,
                                            DRAY__EXPR_KIND__FLOORDIV, DRAY__EXPR_KIND__MOD};

static enum type leaf(struct random *r, struct build *b, Dray__Expr *e, enum type want)
{
    static const uint32_t of_bool[] = {0, 7};
    static const uint32_t of_number[] = {1, 2, 5, 6, 1, 0};
    static const uint32_t of_string[] = {3, 4, 4};
    uint32_t pick = random_below(r, 4);
    uint32_t column;

    if (want == TYPE_BOOL) {
        if (pick == 0) {
            expr_bool(b, e, random_below(r, 2) == 0);
            return TYPE_BOOL;
        }
        column = of_bool[random_below(r, 2)];
    } else if (want == TYPE_STRING) {
        if (pick == 0) {
            char text[32] = "";
            size_t size;

            plan_string(random_below(r, 12), text, &size);
            text[size] = '\0';
            expr_string(b, e, text);
            return TYPE_STRING;
        }
        column = of_string[random_below(r, 3)];
    } else {
        if (pick == 0) {
            if (random_below(r, 2)) {
                expr_int(b, e, (int64_t)random_below(r, 7) - 3);
                return TYPE_INT64;
            }
            expr_real(b, e, (double)random_below(r, 7) / 2.0 - 1.5);
            return TYPE_FLOAT64;
        }
        column = of_number[random_below(r, 6)];
    }
    expr_column(b, e, column);
    return plans[column].type == TYPE_DICT ? TYPE_STRING : plans[column].type;
}

// Appends an expression of type BOOL, STRING, or (INT64) a number; returns its type.
static enum type grow(struct random *r, struct build *b, Dray__Expr *e, enum type want, int depth)
{
    enum type x;
    enum type y;
    Dray__ExprKind kind;

    if (depth == 0 || random_below(r, 5) == 0) {
        return leaf(r, b, e, want);
    }
    if (want == TYPE_STRING) {
        grow(r, b, e, TYPE_STRING, depth - 1 > 1 ? 1 : depth - 1);
        grow(r, b, e, TYPE_STRING, 0);
        expr_node(b, e, DRAY__EXPR_KIND__ADD);
        return TYPE_STRING;
    }
    if (want == TYPE_BOOL) {
        enum type inner;

        switch (random_below(r, 4)) {
        case 0:
            grow(r, b, e, TYPE_BOOL, depth - 1);
            grow(r, b, e, TYPE_BOOL, depth - 1);
            expr_node(b, e, (Dray__ExprKind)(DRAY__EXPR_KIND__AND + random_below(r, 3)));
            break;
        case 1:
            grow(r, b, e, TYPE_BOOL, depth - 1);
            expr_node(b, e, DRAY__EXPR_KIND__NOT);
            break;
        case 2:
            grow(r, b, e, random_below(r, 2) ? TYPE_INT64 : TYPE_STRING, depth - 1);
            expr_node(b, e, random_below(r, 2) ? DRAY__EXPR_KIND__IS_NULL : DRAY__EXPR_KIND__NOT_NULL);
            break;
        default:
            inner = random_below(r, 3) ? TYPE_INT64 : TYPE_STRING;
            grow(r, b, e, inner, depth - 1);
            if (random_below(r, 20) == 0) {
                expr_literal(b, e); // null
            } else {
                grow(r, b, e, inner, depth - 1);
            }
            expr_node(b, e, (Dray__ExprKind)(DRAY__EXPR_KIND__EQ + random_below(r, 6)));
            break;
        }
        return TYPE_BOOL;
    }
    x = grow(r, b, e, TYPE_INT64, depth - 1);
    if (random_below(r, 5) == 0 && x != TYPE_BOOL) {
        expr_node(b, e, random_below(r, 2) ? DRAY__EXPR_KIND__NEG : DRAY__EXPR_KIND__ABS);
        return x;
    }
    y = grow(r, b, e, TYPE_INT64, depth - 1);
    kind = x == TYPE_BOOL && y == TYPE_BOOL
               ? (random_below(r, 2) ? DRAY__EXPR_KIND__ADD : DRAY__EXPR_KIND__MUL)
               : arithmetic[random_below(r, 6)];
    expr_node(b, e, kind);
    if (kind == DRAY__EXPR_KIND__DIV || x == TYPE_FLOAT64 || y == TYPE_FLOAT64) {
        return TYPE_FLOAT64;
    }
    return x == TYPE_BOOL && y == TYPE_BOOL ? TYPE_BOOL : TYPE_INT64;
}

static struct scalar evaluate(const Dray__Expr *e, const struct table *t, int64_t row)
{
    static struct scalar stack[64];
    int depth = 0;

    for (size_t i = 0; i < e->n_node; i++) {
        const Dray__ExprNode *n = e->node[i];

        if (n->kind == DRAY__EXPR_KIND__COLUMN) {
            stack[depth++] = cell(&t->column[n->column], row);
        } else if (n->kind == DRAY__EXPR_KIND__LITERAL) {
            struct scalar v = {.null = true};

            if (n->literal->has_b) {
                v = (struct scalar){.type = TYPE_BOOL, .b = n->literal->b != 0};
            } else if (n->literal->has_i) {
                v = (struct scalar){.type = TYPE_INT64, .i = n->literal->i};
            } else if (n->literal->has_f) {
                v = (struct scalar){.type = TYPE_FLOAT64, .f = n->literal->f};
            } else if (n->literal->has_s) {
                v = (struct scalar){.type = TYPE_STRING, .size = n->literal->s.len};
                memcpy(v.s, n->literal->s.data, v.size);
            }
            stack[depth++] = v;
        } else if (n->kind < DRAY__EXPR_KIND__ADD) {
            stack[depth - 1] = apply_one(n->kind, stack[depth - 1]);
        } else {
            depth--;
            stack[depth - 1] = apply(n->kind, stack[depth - 1], stack[depth]);
        }
    }
    return stack[0];
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct random r = {seed};
        struct table *t = random_table(&r, plans, COLUMNS, 1 + random_below(&r, seed % 20 == 0 ? 9000 : 300));
        struct build b;
        Dray__Expr *e[4];

        build_init(&b);
        // Behind a filter every other time: with a selection.
        Dray__Expr *keep = NULL;

        if (seed % 2) {
            keep = expr_new(&b);
            grow(&r, &b, keep, TYPE_BOOL, 2);
            build_filter(&b, keep);
        }
        Dray__Project *p = build_project(&b);

        for (int k = 0; k < 4; k++) {
            static const enum type wants[] = {TYPE_BOOL, TYPE_INT64, TYPE_STRING, TYPE_INT64};
            char name[8];

            e[k] = expr_new(&b);
            grow(&r, &b, e[k], wants[k], 1 + (int)random_below(&r, 5));
            snprintf(name, sizeof(name), "x%d", k);
            project_add(&b, p, name, e[k]);
        }
        struct table *out = run_table(&b, t);
        int64_t at = 0;

        for (int64_t i = 0; i < t->rows; i++) {
            if (keep != NULL && !evaluate(keep, t, i).b) {
                continue;
            }
            for (int k = 0; k < 4; k++) {
                struct scalar want = evaluate(e[k], t, i);
                struct scalar got = cell(&out->column[k], at);

                if ((want.type != got.type && want.type != 0) || !same(&want, &got)) {
                    fail_msg(
                        "seed %llu expression %d row %lld: type %d null %d i %lld f %g, not %d %d %lld %g",
                        (unsigned long long)seed, k, (long long)i, got.type, got.null, (long long)got.i,
                        got.f, want.type, want.null, (long long)want.i, want.f);
                }
            }
            at++;
        }
        assert_int_equal(at, out->rows);
        table_unref(out);
        table_unref(t);
        build_fini(&b);
    }
}

// ---- by hand -----------------------------------------------------------------------------

static struct table *one_row(void)
{
    struct table *t = table_create(5, 1);
    static const char *const names[] = {"b", "i", "f", "s", "d"};
    static const enum type types[] = {TYPE_BOOL, TYPE_INT64, TYPE_FLOAT64, TYPE_STRING, TYPE_STRING};

    for (int k = 0; k < 5; k++) {
        struct column_builder *c = column_builder_create(types[k]);

        assert_int_equal(k == 0   ? column_builder_bool(c, true)
                         : k == 1 ? column_builder_int64(c, -7)
                         : k == 2 ? column_builder_float64(c, 2.5)
                         : k == 3 ? column_builder_string(c, "12", 2)
                                  : column_builder_string(c, "abc", 3),
                         0);
        assert_int_equal(column_builder_finish(c, names[k], &t->column[k]), 0);
        column_builder_destroy(c);
    }
    return t;
}

static void expect(struct build *b, Dray__Expr *e, struct table *t, const char *want)
{
    Dray__Project *p = build_project(b);
    struct table *out = NULL;
    struct error err = {0};
    char text[1200];

    project_add(b, p, "x", e);
    if (run_limited(b, &t, 1, 0, &out, &err) < 0) {
        snprintf(text, sizeof(text), "%s", err.text);
    } else {
        struct scalar v = cell(&out->column[0], 0);
        char number[NUMBER_TEXT_MAX];

        number[v.type == TYPE_FLOAT64 ? number_print_float64(v.f, number) : number_print_int64(v.i, number)] =
            0;
        snprintf(text, sizeof(text), "%s",
                 v.null                  ? "null"
                 : v.type == TYPE_BOOL   ? (v.b ? "True" : "False")
                 : v.type == TYPE_STRING ? v.s
                                         : number);
        table_unref(out);
    }
    if (strcmp(text, want) != 0) {
        fail_msg("'%s', not '%s'", text, want);
    }
    b->op.n_step = 1;
}

static Dray__Expr *pair(struct build *b, uint32_t column, int64_t value, Dray__ExprKind kind)
{
    Dray__Expr *e = expr_new(b);

    expr_column(b, e, column);
    expr_int(b, e, value);
    expr_node(b, e, kind);
    return e;
}

static Dray__Expr *cast(struct build *b, uint32_t column, Dray__Type type)
{
    Dray__Expr *e = expr_new(b);

    expr_column(b, e, column);
    expr_node(b, e, DRAY__EXPR_KIND__CAST);
    e->node[1]->has_type = 1;
    e->node[1]->type = type;
    return e;
}

static void test_values(void **state)
{
    struct table *t = one_row();
    struct build b;
    Dray__Expr *e;

    (void)state;
    build_init(&b);
    expect(&b, pair(&b, 1, 2, DRAY__EXPR_KIND__FLOORDIV), t, "-4");
    expect(&b, pair(&b, 1, 2, DRAY__EXPR_KIND__MOD), t, "1");
    expect(&b, pair(&b, 1, -2, DRAY__EXPR_KIND__MOD), t, "-1");
    expect(&b, pair(&b, 1, 0, DRAY__EXPR_KIND__MOD), t, "null");
    expect(&b, pair(&b, 1, 0, DRAY__EXPR_KIND__FLOORDIV), t, "null");
    expect(&b, pair(&b, 1, 0, DRAY__EXPR_KIND__DIV), t, "-inf");
    expect(&b, pair(&b, 1, 2, DRAY__EXPR_KIND__DIV), t, "-3.5");
    expect(&b, pair(&b, 1, 3, DRAY__EXPR_KIND__POW), t, "-343");
    expect(&b, pair(&b, 1, 65, DRAY__EXPR_KIND__POW), t, "5544873984239060473"); // wraps
    expect(&b, pair(&b, 2, 2, DRAY__EXPR_KIND__POW), t, "6.25");
    expect(&b, pair(&b, 2, -1, DRAY__EXPR_KIND__POW), t, "0.4");
    expect(&b, pair(&b, 2, 0, DRAY__EXPR_KIND__FLOORDIV), t, "inf");
    expect(&b, pair(&b, 2, 0, DRAY__EXPR_KIND__MOD), t, "nan");
    expect(&b, pair(&b, 0, 1, DRAY__EXPR_KIND__ADD), t, "2");
    expect(
        &b, pair(&b, 1, -1, DRAY__EXPR_KIND__POW), t,
        "project: column 'x': int64 -7 ** -1: an integer cannot be raised to a negative integer; make one of "
        "them a float");
    expect(&b, cast(&b, 3, DRAY__TYPE__INT64), t, "12");
    expect(&b, cast(&b, 3, DRAY__TYPE__FLOAT64), t, "12.0");
    expect(&b, cast(&b, 3, DRAY__TYPE__BOOL), t, "True");
    expect(&b, cast(&b, 2, DRAY__TYPE__INT64), t, "2");
    expect(&b, cast(&b, 2, DRAY__TYPE__STRING), t, "2.5");
    expect(&b, cast(&b, 1, DRAY__TYPE__STRING), t, "-7");
    expect(&b, cast(&b, 1, DRAY__TYPE__BOOL), t, "True");
    expect(&b, cast(&b, 1, DRAY__TYPE__FLOAT64), t, "-7.0");
    expect(&b, cast(&b, 0, DRAY__TYPE__STRING), t, "True");
    expect(&b, cast(&b, 0, DRAY__TYPE__DICT), t, "True");
    expect(&b, cast(&b, 4, DRAY__TYPE__INT64), t,
           "project: column 'x': could not convert string 'abc' to int64");
    // Literals alone fill the column; a null alone is a float64.
    e = expr_new(&b);
    expr_int(&b, e, 6);
    expr_int(&b, e, 7);
    expr_node(&b, e, DRAY__EXPR_KIND__MUL);
    expect(&b, e, t, "42");
    e = expr_new(&b);
    expr_string(&b, e, "text");
    expect(&b, e, t, "text");
    e = expr_new(&b);
    expr_literal(&b, e);
    expect(&b, e, t, "null");
    e = expr_new(&b);
    expr_literal(&b, e);
    expr_node(&b, e, DRAY__EXPR_KIND__CAST);
    e->node[1]->has_type = 1;
    e->node[1]->type = DRAY__TYPE__STRING;
    expect(&b, e, t, "null");
    table_unref(t);
    build_fini(&b);
}

static void test_errors(void **state)
{
    struct table *t = one_row();
    struct build b;
    Dray__Expr *e;

    (void)state;
    build_init(&b);
    expect(&b, pair(&b, 3, 5, DRAY__EXPR_KIND__ADD), t,
           "project: column 'x': cannot add string column 's' and int64 5");
    expect(&b, pair(&b, 3, 5, DRAY__EXPR_KIND__LT), t,
           "project: column 'x': cannot compare string column 's' with int64 5");
    expect(&b, pair(&b, 2, 1, DRAY__EXPR_KIND__AND), t,
           "project: column 'x': cannot combine float64 column 'f' and int64 1 with & | ^");
    e = expr_new(&b);
    expr_column(&b, e, 0);
    expr_bool(&b, e, true);
    expr_node(&b, e, DRAY__EXPR_KIND__SUB);
    expect(&b, e, t,
           "project: column 'x': cannot compute bool column 'b' minus bool True: make one of them an int64 "
           "first");
    e = expr_new(&b);
    expr_column(&b, e, 0);
    expr_node(&b, e, DRAY__EXPR_KIND__NEG);
    expect(&b, e, t, "project: column 'x': cannot negate bool column 'b': for its opposite write ~");
    // What op_check would have refused does no harm either.
    e = expr_new(&b);
    expr_node(&b, e, DRAY__EXPR_KIND__ADD);
    expect(&b, e, t, "project: column 'x': an expression has an operator without operands");
    e = expr_new(&b);
    for (int i = 0; i < 65; i++) {
        expr_int(&b, e, 1);
    }
    expect(&b, e, t, "project: column 'x': an expression is nested deeper than 64");
    table_unref(t);
    build_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
