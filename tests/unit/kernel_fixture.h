// What tests of kernels share: random tables, operations put together in an arena, a run.
#ifndef DRAY_TESTS_UNIT_KERNEL_FIXTURE_H
#define DRAY_TESTS_UNIT_KERNEL_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/kernel/kernel.h"

#define UNUSED __attribute__((unused))

// ---- random numbers (splitmix64) -----------------------------------------------------

struct random {
    uint64_t state;
};
UNUSED static uint64_t random_next(struct random *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}
UNUSED static uint32_t random_below(struct random *r, uint32_t n)
{
    return (uint32_t)(random_next(r) % n);
}
UNUSED static double random_real(struct random *r)
{
    return (double)(random_next(r) >> 11) * 0x1p-53;
}

// ---- tables ----------------------------------------------------------------------------

struct column_plan {
    const char *name;
    enum type type;    // DICT: strings, dictionary-encoded
    uint32_t distinct; // values; 0: any
    uint32_t null_in;  // one row in so many is null; 0: none
    uint32_t nan_in;   // FLOAT64: one in so many is NaN
    int64_t offset;    // INT64: of the least value
};

UNUSED static void plan_string(uint32_t i, char text[32], size_t *size)
{
    // Of different lengths, some sharing their first eight bytes, one empty.
    *size = i == 0 ? 0
                   : (size_t)snprintf(text, 32,
                                      i % 3 == 0   ? "shared prefix %u"
                                      : i % 3 == 1 ? "%u"
                                                   : "\xc3\xa9%u",
                                      i);
}

UNUSED static void make_dict(struct column *c)
{
    // Entries by first appearance, reversed so that codes do not ascend with it.
    struct column_builder *entries = column_builder_create(TYPE_STRING);
    uint8_t *bytes;
    struct buffer *codes = buffer_create((size_t)c->length * sizeof(int32_t), &bytes);
    int32_t *code = (int32_t *)(void *)bytes;
    int64_t *of = calloc((size_t)c->length + 1, sizeof(*of));
    int32_t count = 0;
    struct column *dictionary = calloc(1, sizeof(*dictionary));

    assert_true(entries != NULL && codes != NULL && of != NULL && dictionary != NULL);
    for (int64_t i = 0; i < c->length; i++) {
        size_t size;
        const char *data = column_string(c, i, &size);
        int32_t k = 0;

        code[i] = 0;
        if (!column_is_valid(c, i)) {
            continue;
        }
        for (; k < count; k++) {
            size_t other;
            const char *known = column_string(c, of[k], &other);

            if (other == size && memcmp(known, data, size) == 0) {
                break;
            }
        }
        if (k == count) {
            of[count++] = i;
            assert_int_equal(column_builder_string(entries, data, size), 0);
        }
        code[i] = k;
    }
    assert_int_equal(column_builder_finish(entries, "", dictionary), 0);
    column_builder_destroy(entries);
    free(of);
    buffer_unref(c->offsets);
    buffer_unref(c->values);
    c->offsets = NULL;
    c->values = codes;
    c->dictionary = dictionary;
    c->type = TYPE_DICT;
}

UNUSED static void random_column(struct random *r, const struct column_plan *plan, int64_t rows,
                                 struct column *out)
{
    enum type type = plan->type == TYPE_DICT ? TYPE_STRING : plan->type;
    struct column_builder *b = column_builder_create(type);

    assert_non_null(b);
    for (int64_t i = 0; i < rows; i++) {
        uint32_t pick = plan->distinct > 0 ? random_below(r, plan->distinct) : 0;
        int rc = 0;

        if (plan->null_in > 0 && random_below(r, plan->null_in) == 0) {
            assert_int_equal(column_builder_null(b), 0);
            continue;
        }
        if (type == TYPE_BOOL) {
            rc = column_builder_bool(b, random_next(r) & 1);
        } else if (type == TYPE_INT64) {
            rc = column_builder_int64(b, plan->distinct > 0 ? plan->offset + pick : (int64_t)random_next(r));
        } else if (type == TYPE_FLOAT64) {
            double v = plan->distinct > 0 ? (double)pick / 3.0 - 1.0 : random_real(r) * 2000.0 - 1000.0;

            if (plan->nan_in > 0 && random_below(r, plan->nan_in) == 0) {
                v = (double)NAN;
            } else if (random_below(r, 50) == 0) {
                v = random_below(r, 2) ? 0.0 : -0.0;
            }
            rc = column_builder_float64(b, v);
        } else {
            char text[32];
            size_t size;

            plan_string(plan->distinct > 0 ? pick : (uint32_t)random_next(r), text, &size);
            rc = column_builder_string(b, text, size);
        }
        assert_int_equal(rc, 0);
    }
    assert_int_equal(column_builder_finish(b, plan->name, out), 0);
    column_builder_destroy(b);
    if (plan->type == TYPE_DICT) {
        make_dict(out);
    }
}

UNUSED static struct table *random_table(struct random *r, const struct column_plan *plan, uint32_t columns,
                                         int64_t rows)
{
    struct table *t = table_create(columns, rows);
    struct error err = {0};

    assert_non_null(t);
    for (uint32_t i = 0; i < columns; i++) {
        random_column(r, &plan[i], rows, &t->column[i]);
    }
    if (table_check(t, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return t;
}

UNUSED static struct table *slice_table(const struct table *t, int64_t from, int64_t count)
{
    int64_t *row = calloc((size_t)count + 1, sizeof(*row));
    struct table *out = NULL;
    struct error err = {0};

    assert_non_null(row);
    for (int64_t i = 0; i < count; i++) {
        row[i] = from + i;
    }
    if (table_take(t, row, count, &out, &err) < 0) {
        fail_msg("%s", err.text);
    }
    free(row);
    return out;
}

UNUSED static bool same_cell(const struct column *a, int64_t i, const struct column *b, int64_t j)
{
    size_t n;
    size_t m;
    const char *s;
    const char *u;

    if (column_is_valid(a, i) != column_is_valid(b, j)) {
        return false;
    }
    if (!column_is_valid(a, i)) {
        return true;
    }
    switch (a->type) {
    case TYPE_BOOL:
        return column_bool(a, i) == column_bool(b, j);
    case TYPE_INT64:
    case TYPE_FLOAT64: // bits: NaN equals itself, -0.0 is not 0.0
        return column_int64(a, i) == column_int64(b, j);
    default:
        s = column_string(a, i, &n);
        u = column_string(b, j, &m);
        return n == m && (n == 0 || memcmp(s, u, n) == 0);
    }
}

UNUSED static void assert_same_table(const struct table *a, const struct table *b, const char *what)
{
    if (a->rows != b->rows || a->columns != b->columns) {
        fail_msg("%s: %lld x %u and %lld x %u", what, (long long)a->rows, a->columns, (long long)b->rows,
                 b->columns);
    }
    for (uint32_t c = 0; c < a->columns; c++) {
        assert_string_equal(a->column[c].name, b->column[c].name);
        assert_string_equal(type_name(a->column[c].type), type_name(b->column[c].type));
        for (int64_t i = 0; i < a->rows; i++) {
            if (!same_cell(&a->column[c], i, &b->column[c], i)) {
                fail_msg("%s: column '%s' differs in row %lld", what, a->column[c].name, (long long)i);
            }
        }
    }
}

// ---- operations --------------------------------------------------------------------------

struct build {
    struct arena arena;
    Dray__Op op;
};

UNUSED static void build_init(struct build *b)
{
    static Dray__TakeInputs take = DRAY__TAKE_INPUTS__INIT;

    arena_init(&b->arena, 0);
    dray__op__init(&b->op);
    b->op.step = arena_array(&b->arena, 16, sizeof(*b->op.step));
    Dray__Step *step = arena_alloc(&b->arena, sizeof(*step));

    dray__step__init(step);
    step->take_inputs = &take;
    b->op.step[b->op.n_step++] = step;
}
UNUSED static void build_fini(struct build *b)
{
    arena_fini(&b->arena);
}
UNUSED static Dray__Step *build_step(struct build *b)
{
    Dray__Step *step = arena_alloc(&b->arena, sizeof(*step));

    dray__step__init(step);
    b->op.step[b->op.n_step++] = step;
    return step;
}

UNUSED static Dray__Expr *expr_new(struct build *b)
{
    Dray__Expr *e = arena_alloc(&b->arena, sizeof(*e));

    dray__expr__init(e);
    e->node = arena_array(&b->arena, 1000, sizeof(*e->node));
    return e;
}
UNUSED static Dray__ExprNode *expr_node(struct build *b, Dray__Expr *e, Dray__ExprKind kind)
{
    Dray__ExprNode *n = arena_alloc(&b->arena, sizeof(*n));

    dray__expr_node__init(n);
    n->kind = kind;
    e->node[e->n_node++] = n;
    return n;
}
UNUSED static void expr_column(struct build *b, Dray__Expr *e, uint32_t column)
{
    Dray__ExprNode *n = expr_node(b, e, DRAY__EXPR_KIND__COLUMN);

    n->has_column = 1;
    n->column = column;
}
UNUSED static Dray__Literal *expr_literal(struct build *b, Dray__Expr *e)
{
    Dray__ExprNode *n = expr_node(b, e, DRAY__EXPR_KIND__LITERAL);

    n->literal = arena_alloc(&b->arena, sizeof(*n->literal));
    dray__literal__init(n->literal);
    return n->literal;
}
UNUSED static void expr_int(struct build *b, Dray__Expr *e, int64_t value)
{
    Dray__Literal *l = expr_literal(b, e);

    l->has_i = 1;
    l->i = value;
}
UNUSED static void expr_real(struct build *b, Dray__Expr *e, double value)
{
    Dray__Literal *l = expr_literal(b, e);

    l->has_f = 1;
    l->f = value;
}
UNUSED static void expr_bool(struct build *b, Dray__Expr *e, bool value)
{
    Dray__Literal *l = expr_literal(b, e);

    l->has_b = 1;
    l->b = value;
}
UNUSED static void expr_string(struct build *b, Dray__Expr *e, const char *value)
{
    Dray__Literal *l = expr_literal(b, e);

    l->has_s = 1;
    l->s.data = (uint8_t *)arena_strdup(&b->arena, value);
    l->s.len = strlen(value);
}

UNUSED static void build_filter(struct build *b, Dray__Expr *predicate)
{
    Dray__Filter *f = arena_alloc(&b->arena, sizeof(*f));

    dray__filter__init(f);
    f->predicate = predicate;
    build_step(b)->filter = f;
}
UNUSED static Dray__Project *build_project(struct build *b)
{
    Dray__Project *p = arena_alloc(&b->arena, sizeof(*p));

    dray__project__init(p);
    p->column = arena_array(&b->arena, 64, sizeof(*p->column));
    build_step(b)->project = p;
    return p;
}
UNUSED static void project_add(struct build *b, Dray__Project *p, const char *name, Dray__Expr *e)
{
    Dray__Named *n = arena_alloc(&b->arena, sizeof(*n));

    dray__named__init(n);
    n->name = arena_strdup(&b->arena, name);
    n->expr = e;
    p->column[p->n_column++] = n;
}
UNUSED static void build_head(struct build *b, uint64_t rows)
{
    Dray__Head *h = arena_alloc(&b->arena, sizeof(*h));

    dray__head__init(h);
    h->rows = rows;
    build_step(b)->head = h;
}
UNUSED static Dray__Sort *build_sort(struct build *b)
{
    Dray__Sort *s = arena_alloc(&b->arena, sizeof(*s));

    dray__sort__init(s);
    s->key = arena_array(&b->arena, 16, sizeof(*s->key));
    build_step(b)->sort = s;
    return s;
}
UNUSED static Dray__SortKey *sort_key(struct build *b, Dray__Sort *s, uint32_t column)
{
    Dray__SortKey *k = arena_alloc(&b->arena, sizeof(*k));

    dray__sort_key__init(k);
    k->column = column;
    s->key[s->n_key++] = k;
    return k;
}
UNUSED static Dray__Aggregate *aggregate_new(struct build *b)
{
    Dray__Aggregate *a = arena_alloc(&b->arena, sizeof(*a));

    dray__aggregate__init(a);
    a->key = arena_array(&b->arena, 16, sizeof(*a->key));
    a->key_name = arena_array(&b->arena, 16, sizeof(*a->key_name));
    a->key_type = arena_array(&b->arena, 16, sizeof(*a->key_type));
    a->agg = arena_array(&b->arena, 64, sizeof(*a->agg));
    a->agg_type = arena_array(&b->arena, 64, sizeof(*a->agg_type));
    return a;
}
UNUSED static void aggregate_key(Dray__Aggregate *a, uint32_t column, const char *name, enum type type)
{
    a->key_name[a->n_key_name++] = (char *)(uintptr_t)name;
    a->key_type[a->n_key_type++] = (Dray__Type)type;
    a->key[a->n_key++] = column;
}
UNUSED static void aggregate_agg(struct build *b, Dray__Aggregate *a, Dray__AggFn fn, uint32_t column,
                                 enum type type, const char *name)
{
    Dray__Agg *g = arena_alloc(&b->arena, sizeof(*g));

    dray__agg__init(g);
    g->fn = fn;
    g->column = column;
    g->name = arena_strdup(&b->arena, name);
    a->agg_type[a->n_agg_type++] = (Dray__Type)type;
    a->agg[a->n_agg++] = g;
}
UNUSED static void build_aggregate(struct build *b, Dray__Aggregate *a, Dray__AggStage stage)
{
    Dray__AggregateStep *s = arena_alloc(&b->arena, sizeof(*s));

    dray__aggregate_step__init(s);
    s->stage = stage;
    s->aggregate = a;
    build_step(b)->aggregate = s;
}

// ---- running -----------------------------------------------------------------------------

// Counts and may refuse: with `limit` as budget_create has it.
UNUSED static int run_limited(const struct build *b, struct table *const *tables, uint32_t count,
                              uint64_t limit, struct table **out, struct error *err)
{
    struct partition **input = calloc(count + 1, sizeof(*input));
    uint32_t start[2] = {0, count};
    struct kernel_inputs inputs = {.partition = input, .start = start, .lists = 1};
    struct budget *budget = budget_create(limit);
    struct arena arena;
    struct kernel_env env = {.budget = budget, .arena = &arena};
    struct partition *made = NULL;
    int rc;

    assert_true(input != NULL && budget != NULL);
    arena_init(&arena, 0);
    dray__note__init(&env.note);
    for (uint32_t i = 0; i < count; i++) {
        input[i] = partition_from_table(table_ref(tables[i]));
        assert_non_null(input[i]);
    }
    rc = kernel_run(&b->op, 0, &inputs, &env, &made, err);
    assert_int_equal(budget_used(budget), 0);
    if (rc == 0) {
        struct error broken = {0};

        assert_int_equal(made->kind, PARTITION_TABLE);
        *out = table_ref(made->table);
        if (table_check(*out, &broken) < 0) {
            fail_msg("%s", broken.text);
        }
        partition_unref(made);
    } else {
        assert_null(made);
        assert_true(rc < 0 && err->text[0] != '\0');
    }
    for (uint32_t i = 0; i < count; i++) {
        partition_unref(input[i]);
    }
    free(input);
    budget_destroy(budget);
    arena_fini(&arena);
    return rc;
}

UNUSED static struct table *run_tables(const struct build *b, struct table *const *tables, uint32_t count)
{
    struct table *out = NULL;
    struct error err = {0};

    if (op_check(&b->op, &err) < 0 || run_limited(b, tables, count, 0, &out, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return out;
}
UNUSED static struct table *run_table(const struct build *b, struct table *table)
{
    return run_tables(b, &table, 1);
}

#endif
