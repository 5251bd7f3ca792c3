// Groupby against an obvious implementation: row by row, one group after another found by
// looking at all of them.  Float sums are compared bit by bit: the oracle keeps to the order of
// additions that aggregate.h promises, and to nothing else of the kernel's ways.
#include "tests/unit/kernel_fixture.h"

#include "worker/kernel/aggregate.h"
#include "worker/kernel/aggregate_group.h"
#include "worker/kernel/aggregate_key.h"
#include "worker/kernel/aggregate_state.h"
#include "worker/kernel/aggregate_sum.h"
#include "worker/kernel/collect.h"
#include "worker/kernel/intern.h"

enum { GROUPS_MAX = 20000, KEYS_MAX = 3, LANES = 8 };

// ---- the oracle ------------------------------------------------------------------------

struct place {
    const struct table *table;
    int64_t row;
};

struct value {
    struct place first, last, least, most; // table NULL: none
    int64_t count;
    __int128 whole;
    double sum, compensation;
    double mean, squares;
    double squares_count;
    // of the batch now
    double lane[LANES];
    double lane_squares[LANES];
    int64_t batch_count;
};

struct group {
    struct place key;
    int64_t size;
    struct value value[8]; // by column
};

struct oracle {
    const uint32_t *key;
    uint32_t keys;
    struct group *group;
    uint32_t groups;
};

static bool is_missing(const struct column *c, int64_t i)
{
    return !column_is_valid(c, i) || (c->type == TYPE_FLOAT64 && isnan(column_float64(c, i)));
}

static int compare_cells(const struct column *a, int64_t i, const struct column *b, int64_t j)
{
    if (a->type == TYPE_BOOL) {
        return column_bool(a, i) - column_bool(b, j);
    }
    if (a->type == TYPE_INT64) {
        return (column_int64(a, i) > column_int64(b, j)) - (column_int64(a, i) < column_int64(b, j));
    }
    if (a->type == TYPE_FLOAT64) {
        return (column_float64(a, i) > column_float64(b, j)) - (column_float64(a, i) < column_float64(b, j));
    }
    size_t n;
    size_t m;
    const char *s = column_string(a, i, &n);
    const char *t = column_string(b, j, &m);
    int c = memcmp(s, t, n < m ? n : m);

    return c != 0 ? c : (n > m) - (n < m);
}

static struct group *find(struct oracle *o, const struct table *t, int64_t row)
{
    for (uint32_t g = 0; g < o->groups; g++) {
        bool same = true;

        for (uint32_t k = 0; same && k < o->keys; k++) {
            same = compare_cells(&o->group[g].key.table->column[o->key[k]], o->group[g].key.row,
                                 &t->column[o->key[k]], row) == 0;
        }
        if (same) {
            return &o->group[g];
        }
    }
    assert_true(o->groups < GROUPS_MAX);
    o->group[o->groups].key = (struct place){t, row};
    return &o->group[o->groups++];
}

static double number(const struct column *c, int64_t row)
{
    return c->type == TYPE_BOOL    ? (double)column_bool(c, row)
           : c->type == TYPE_INT64 ? (double)column_int64(c, row)
                                   : column_float64(c, row);
}

static double merge_lanes(const double *l)
{
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

static void neumaier(struct value *v, double x)
{
    double t = v->sum + x;

    if (isfinite(t)) {
        v->compensation += fabs(v->sum) >= fabs(x) ? (v->sum - t) + x : (x - t) + v->sum;
    }
    v->sum = t;
}

static void end_batch(struct oracle *o, const struct table *t, int64_t from, int64_t to,
                      const uint8_t *lane_of, const bool *counts)
{
    for (uint32_t g = 0; g < o->groups; g++) {
        for (uint32_t c = 0; c < t->columns; c++) {
            struct value *v = &o->group[g].value[c];

            neumaier(v, merge_lanes(v->lane));
        }
    }
    // Second pass for the squares.
    for (int64_t i = from; i < to; i++) {
        if (!counts[i - from]) {
            continue;
        }
        struct group *g = find(o, t, i);

        for (uint32_t c = 0; c < t->columns; c++) {
            const struct column *column = &t->column[c];
            struct value *v = &g->value[c];

            if (column->type < TYPE_STRING && !is_missing(column, i)) {
                double d = number(column, i) - merge_lanes(v->lane) / (double)v->batch_count;

                v->lane_squares[lane_of[i - from]] += d * d;
            }
        }
    }
    for (uint32_t g = 0; g < o->groups; g++) {
        for (uint32_t c = 0; c < t->columns; c++) {
            struct value *v = &o->group[g].value[c];

            if (v->batch_count > 0) {
                double nb = (double)v->batch_count;
                double na = v->squares_count;
                double mean = merge_lanes(v->lane) / nb;
                double squares = merge_lanes(v->lane_squares);

                if (na == 0) {
                    v->mean = mean;
                    v->squares = squares;
                } else {
                    double delta = mean - v->mean;

                    v->mean = v->mean + delta * (nb / (na + nb));
                    v->squares = v->squares + squares + delta * delta * (na * nb / (na + nb));
                }
                v->squares_count += nb;
            }
            memset(v->lane, 0, sizeof(v->lane));
            memset(v->lane_squares, 0, sizeof(v->lane_squares));
            v->batch_count = 0;
        }
    }
}

// By value, -0.0 below 0.0.
static int compare_places(struct place a, const struct table *t, int64_t row, uint32_t c)
{
    int order = compare_cells(&t->column[c], row, &a.table->column[c], a.row);

    if (order == 0 && t->column[c].type == TYPE_FLOAT64) {
        order = (signbit(column_float64(&a.table->column[c], a.row)) != 0) -
                (signbit(column_float64(&t->column[c], row)) != 0);
    }
    return order;
}

static void add_row(struct group *g, const struct table *t, int64_t row, uint32_t lane)
{
    g->size++;
    for (uint32_t c = 0; c < t->columns; c++) {
        const struct column *column = &t->column[c];
        struct value *v = &g->value[c];

        if (is_missing(column, row)) {
            continue;
        }
        v->first = v->count == 0 ? (struct place){t, row} : v->first;
        v->last = (struct place){t, row};
        if (v->count == 0 || compare_places(v->least, t, row, c) < 0) {
            v->least = (struct place){t, row};
        }
        if (v->count == 0 || compare_places(v->most, t, row, c) > 0) {
            v->most = (struct place){t, row};
        }
        v->count++;
        v->batch_count++;
        if (column->type < TYPE_STRING) {
            v->lane[lane] += number(column, row);
            if (column->type != TYPE_FLOAT64) {
                v->whole += column->type == TYPE_BOOL ? column_bool(column, row) : column_int64(column, row);
            }
        }
    }
}

// `below`: only rows whose column 1 (int64) is present and less.
static void oracle_table(struct oracle *o, const struct table *t, const int64_t *below)
{
    for (int64_t from = 0; from < t->rows; from += 4096) {
        int64_t to = from + 4096 < t->rows ? from + 4096 : t->rows;
        uint8_t lane_of[4096];
        bool counts[4096];
        uint32_t j = 0;

        for (int64_t i = from; i < to; i++) {
            bool keep = below == NULL ||
                        (column_is_valid(&t->column[1], i) && column_int64(&t->column[1], i) < *below);

            for (uint32_t k = 0; k < o->keys; k++) {
                keep = keep && !is_missing(&t->column[o->key[k]], i);
            }
            counts[i - from] = keep;
            lane_of[i - from] = j % LANES;
            if (keep) {
                add_row(find(o, t, i), t, i, j++ % LANES);
            }
        }
        end_batch(o, t, from, to, lane_of, counts);
    }
}

static const struct oracle *sorting;

static int compare_groups(const void *a, const void *b)
{
    const struct group *x = a;
    const struct group *y = b;

    for (uint32_t k = 0; k < sorting->keys; k++) {
        uint32_t c = sorting->key[k];
        int order = compare_cells(&x->key.table->column[c], x->key.row, &y->key.table->column[c], y->key.row);

        if (order != 0) {
            return order;
        }
    }
    return 0;
}

static bool near(double a, double b, double tolerance)
{
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= tolerance * (fabs(a) + fabs(b));
}

static void check_real(const struct column *c, int64_t i, bool null, double want, double tolerance)
{
    if (column_is_valid(c, i) == null) {
        fail_msg("%s row %lld: null where it should not be, or the reverse", c->name, (long long)i);
    }
    if (null) {
        return;
    }
    double got = column_float64(c, i);

    if (tolerance == 0 ? memcmp(&got, &want, sizeof(got)) != 0 : !near(got, want, tolerance)) {
        fail_msg("%s row %lld: %.17g, not %.17g", c->name, (long long)i, got, want);
    }
}

static void check_int(const struct column *c, int64_t i, int64_t want)
{
    if (!column_is_valid(c, i) || column_int64(c, i) != want) {
        fail_msg("%s row %lld: %lld, not %lld", c->name, (long long)i, (long long)column_int64(c, i),
                 (long long)want);
    }
}

static void check_agg(const struct group *g, const Dray__Agg *agg, enum type type, const struct column *out,
                      int64_t i, double tolerance)
{
    const struct value *v = &g->value[agg->column];
    struct place best;

    switch (agg->fn) {
    case DRAY__AGG_FN__SIZE:
        check_int(out, i, g->size);
        break;
    case DRAY__AGG_FN__COUNT:
        check_int(out, i, v->count);
        break;
    case DRAY__AGG_FN__SUM:
        if (type == TYPE_FLOAT64) {
            check_real(out, i, false, v->sum + v->compensation, tolerance);
        } else {
            check_int(out, i, (int64_t)(uint64_t)v->whole);
        }
        break;
    case DRAY__AGG_FN__MEAN:
        check_real(out, i, v->count == 0,
                   v->count == 0          ? 0
                   : type == TYPE_FLOAT64 ? (v->sum + v->compensation) / (double)v->count
                                          : (double)v->whole / (double)v->count,
                   tolerance);
        break;
    case DRAY__AGG_FN__VAR:
        check_real(out, i, v->count < 2, v->squares / (double)(v->count - 1), tolerance * 1e4);
        break;
    case DRAY__AGG_FN__STD:
        check_real(out, i, v->count < 2, sqrt(v->squares / (double)(v->count - 1)), tolerance * 1e4);
        break;
    default:
        best = agg->fn == DRAY__AGG_FN__FIRST  ? v->first
               : agg->fn == DRAY__AGG_FN__LAST ? v->last
               : agg->fn == DRAY__AGG_FN__MIN  ? v->least
                                               : v->most;
        if (best.table == NULL ? column_is_valid(out, i)
                               : !same_cell(&best.table->column[agg->column], best.row, out, i)) {
            fail_msg("%s row %lld is another value", out->name, (long long)i);
        }
        break;
    }
}

static void check(const struct table *out, const uint32_t *key, uint32_t keys, const Dray__Aggregate *a,
                  struct table *const *tables, uint32_t count, const int64_t *below, double tolerance)
{
    struct oracle o = {.key = key, .keys = keys, .group = calloc(GROUPS_MAX, sizeof(struct group))};

    assert_non_null(o.group);
    if (keys == 0) {
        o.groups = 1;
    }
    for (uint32_t p = 0; p < count; p++) {
        oracle_table(&o, tables[p], below);
    }
    sorting = &o;
    qsort(o.group, o.groups, sizeof(*o.group), compare_groups);
    assert_int_equal(out->rows, o.groups);
    assert_int_equal(out->columns, keys + a->n_agg);
    for (int64_t i = 0; i < out->rows; i++) {
        const struct group *g = &o.group[i];

        for (uint32_t k = 0; k < keys; k++) {
            assert_true(column_is_valid(&out->column[k], i));
            assert_int_equal(compare_cells(&g->key.table->column[key[k]], g->key.row, &out->column[k], i), 0);
            assert_string_equal(out->column[k].name, a->key_name[k]);
        }
        for (uint32_t f = 0; f < a->n_agg; f++) {
            assert_string_equal(out->column[keys + f].name, a->agg[f]->name);
            check_agg(g, a->agg[f], tables[0]->column[a->agg[f]->column].type, &out->column[keys + f], i,
                      tolerance);
        }
    }
    free(o.group);
}

// ---- cases -----------------------------------------------------------------------------

static Dray__Aggregate *all_aggs(struct build *b, const struct column_plan *plan, const uint32_t *key,
                                 uint32_t keys)
{
    static const char *const names[] = {"k0", "k1", "k2"};
    Dray__Aggregate *a = aggregate_new(b);

    for (uint32_t k = 0; k < keys; k++) {
        aggregate_key(a, key[k], names[k], plan[key[k]].type);
    }
    for (uint32_t c = 0; c < 5; c++) {
        for (int fn = DRAY__AGG_FN__SUM; fn <= DRAY__AGG_FN__LAST; fn++) {
            bool text = plan[c].type == TYPE_STRING || plan[c].type == TYPE_DICT;
            char name[32];

            if (text && (fn == DRAY__AGG_FN__SUM || fn == DRAY__AGG_FN__MEAN || fn == DRAY__AGG_FN__STD ||
                         fn == DRAY__AGG_FN__VAR)) {
                continue;
            }
            snprintf(name, sizeof(name), "%s_%d", plan[c].name, fn);
            aggregate_agg(b, a, (Dray__AggFn)fn, c, plan[c].type, name);
        }
    }
    return a;
}

static void filter_below(struct build *b, int64_t below)
{
    Dray__Expr *e = expr_new(b);

    expr_column(b, e, 1);
    expr_int(b, e, below);
    expr_node(b, e, DRAY__EXPR_KIND__LT);
    build_filter(b, e);
}

static void one_case(uint64_t seed, const struct column_plan *plan, uint32_t columns, const uint32_t *key,
                     uint32_t keys, uint32_t rows, const int64_t *below)
{
    struct random r = {seed};
    struct table *part[5];
    uint32_t parts = 1 + random_below(&r, 5);
    struct build b;

    for (uint32_t p = 0; p < parts; p++) {
        part[p] = random_table(&r, plan, columns, random_below(&r, rows));
    }
    build_init(&b);
    if (below != NULL) {
        filter_below(&b, *below);
    }
    Dray__Aggregate *a = all_aggs(&b, plan, key, keys);

    build_aggregate(&b, a, DRAY__AGG_STAGE__PARTIAL);
    build_aggregate(&b, a, seed % 2 ? DRAY__AGG_STAGE__FINAL : DRAY__AGG_STAGE__COMBINE_FINAL);

    // In one task: bit by bit.
    struct table *whole = run_tables(&b, part, parts);

    check(whole, key, keys, a, part, parts, below, 0);

    // As a tree: each part, then pairs, then all.
    b.op.n_step--;
    struct table *state[5];

    for (uint32_t p = 0; p < parts; p++) {
        state[p] = run_table(&b, part[p]);
    }
    struct build combine;
    struct build final;
    uint32_t n = parts;

    build_init(&combine);
    build_aggregate(&combine, a, DRAY__AGG_STAGE__COMBINE);
    build_init(&final);
    build_aggregate(&final, a, DRAY__AGG_STAGE__COMBINE_FINAL);
    while (n > 2) {
        struct table *merged = run_tables(&combine, state, 2);

        table_unref(state[0]);
        table_unref(state[1]);
        state[0] = merged;
        memmove(&state[1], &state[2], (n - 2) * sizeof(*state));
        n--;
    }
    struct table *tree = run_tables(&final, state, n);
    struct table *again = run_tables(&final, state, n);

    check(tree, key, keys, a, part, parts, below, 1e-12);
    assert_same_table(tree, again, "twice the same");
    table_unref(again);
    table_unref(tree);
    table_unref(whole);
    for (uint32_t p = 0; p < n; p++) {
        table_unref(state[p]);
    }
    for (uint32_t p = 0; p < parts; p++) {
        table_unref(part[p]);
    }
    build_fini(&combine);
    build_fini(&final);
    build_fini(&b);
}

#define VALUES                                                                                               \
    {.name = "b", .type = TYPE_BOOL, .null_in = 5}, {.name = "i", .type = TYPE_INT64, .null_in = 7},         \
        {.name = "f", .type = TYPE_FLOAT64, .null_in = 8, .nan_in = 9},                                      \
        {.name = "s", .type = TYPE_STRING, .distinct = 100, .null_in = 4},                                   \
    {                                                                                                        \
        .name = "d", .type = TYPE_DICT, .distinct = 20, .null_in = 6                                         \
    }

static void test_one_key(void **state)
{
    static const struct column_plan keys[] = {
        {.name = "k", .type = TYPE_DICT, .distinct = 6},
        {.name = "k", .type = TYPE_STRING, .distinct = 6, .null_in = 10},
        {.name = "k", .type = TYPE_INT64, .distinct = 4, .offset = 1},
        {.name = "k", .type = TYPE_INT64, .distinct = 5, .offset = INT64_MAX - 4, .null_in = 3},
        {.name = "k", .type = TYPE_INT64, .distinct = 5, .offset = INT64_MIN},
        {.name = "k", .type = TYPE_BOOL, .null_in = 4},
        {.name = "k", .type = TYPE_FLOAT64, .distinct = 9, .nan_in = 7},
        {.name = "k", .type = TYPE_INT64, .distinct = 700},
        {.name = "k", .type = TYPE_DICT, .distinct = 300, .null_in = 50},
        {.name = "k", .type = TYPE_FLOAT64},
    };

    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct column_plan plan[6] = {VALUES};
        uint32_t key = 5;

        plan[5] = keys[seed % (sizeof(keys) / sizeof(*keys))];
        // Without nulls the fast ways are taken.
        for (int c = 0; seed % 3 == 0 && c < 5; c++) {
            plan[c].null_in = 0;
            plan[c].nan_in = 0;
        }
        one_case(seed, plan, 6, &key, 1, plan[5].distinct == 0 || plan[5].distinct > 100 ? 900 : 9000, NULL);
    }
}

static void test_more_keys(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct column_plan plan[8] = {VALUES};
        uint32_t key[3] = {5, 6, 7};
        int64_t below = 0;

        plan[5] =
            (struct column_plan){.name = "x", .type = seed % 2 ? TYPE_DICT : TYPE_STRING, .distinct = 6};
        plan[6] = (struct column_plan){.name = "y",
                                       .type = TYPE_INT64,
                                       .distinct = seed % 3 ? 4 : 40,
                                       .offset = -2,
                                       .null_in = seed % 4 * 9};
        plan[7] =
            (struct column_plan){.name = "z", .type = seed % 5 ? TYPE_BOOL : TYPE_FLOAT64, .distinct = 3};
        one_case(seed, plan, 8, key, 2 + seed % 2, 3000, seed % 4 == 0 ? &below : NULL);
    }
}

static void test_no_keys(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct column_plan plan[5] = {VALUES};
        int64_t below = 0;

        one_case(seed, plan, 5, NULL, 0, seed == 1 ? 1 : 20000, seed % 2 ? &below : NULL);
    }
}

// The way that groups are found changes no bit: a small range of integers, the same spread wide,
// and the same as text.
static void test_same_way(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct column_plan plan[8] = {VALUES};
        struct table *made[3];
        struct random r = {seed};

        plan[5] = (struct column_plan){.name = "k", .type = TYPE_INT64, .distinct = seed % 2 ? 9 : 2000};
        struct table *t = random_table(&r, plan, 6, 20000);

        for (int way = 0; way < 3; way++) {
            struct build b;
            Dray__Expr *e;
            Dray__Project *p;

            build_init(&b);
            p = build_project(&b);
            for (uint32_t c = 0; c < 5; c++) {
                e = expr_new(&b);
                expr_column(&b, e, c);
                project_add(&b, p, plan[c].name, e);
            }
            e = expr_new(&b);
            expr_column(&b, e, 5);
            if (way == 1) {
                expr_int(&b, e, INT64_C(1000000000007));
                expr_node(&b, e, DRAY__EXPR_KIND__MUL);
            } else if (way == 2) {
                expr_node(&b, e, DRAY__EXPR_KIND__CAST);
                e->node[1]->has_type = 1;
                e->node[1]->type = DRAY__TYPE__STRING;
            }
            project_add(&b, p, "k", e);

            struct column_plan typed[6];
            uint32_t key = 5;

            memcpy(typed, plan, sizeof(typed));
            typed[5].type = way == 2 ? TYPE_STRING : TYPE_INT64;
            Dray__Aggregate *a = all_aggs(&b, typed, &key, 1);

            build_aggregate(&b, a, DRAY__AGG_STAGE__PARTIAL);
            build_aggregate(&b, a, DRAY__AGG_STAGE__FINAL);
            // The text sorts otherwise: by a value that all have.
            Dray__Sort *s = build_sort(&b);

            sort_key(&b, s, 1 + 5);
            sort_key(&b, s, 1 + 20);
            sort_key(&b, s, 1 + 21);
            sort_key(&b, s, 1 + 10);
            made[way] = run_table(&b, t);
            build_fini(&b);
        }
        for (uint32_t c = 1; c < made[0]->columns; c++) {
            for (int way = 1; way < 3; way++) {
                for (int64_t i = 0; i < made[0]->rows; i++) {
                    if (!same_cell(&made[0]->column[c], i, &made[way]->column[c], i)) {
                        fail_msg("way %d column %u row %lld", way, c, (long long)i);
                    }
                }
            }
        }
        for (int way = 0; way < 3; way++) {
            table_unref(made[way]);
        }
        table_unref(t);
    }
}

// Many groups: against the same counted by sorting.
static void test_many_groups(void **state)
{
    struct random r = {7};
    struct column_plan plan[2] = {{.name = "k", .type = TYPE_INT64, .distinct = 2000000000},
                                  {.name = "v", .type = TYPE_INT64, .distinct = 1000}};
    struct table *t = random_table(&r, plan, 2, 300000);
    struct build b;

    (void)state;
    build_init(&b);
    Dray__Aggregate *a = aggregate_new(&b);

    aggregate_key(a, 0, "k", TYPE_INT64);
    aggregate_agg(&b, a, DRAY__AGG_FN__SUM, 1, TYPE_INT64, "sum");
    aggregate_agg(&b, a, DRAY__AGG_FN__SIZE, 0, TYPE_INT64, "size");
    build_aggregate(&b, a, DRAY__AGG_STAGE__PARTIAL);
    build_aggregate(&b, a, DRAY__AGG_STAGE__FINAL);
    struct table *out = run_table(&b, t);
    struct build sorted;

    build_init(&sorted);
    sort_key(&sorted, build_sort(&sorted), 0);
    struct table *s = run_table(&sorted, t);
    int64_t at = 0;

    for (int64_t i = 0; i < out->rows; i++) {
        int64_t sum = 0;
        int64_t size = 0;

        for (; at < s->rows && column_int64(&s->column[0], at) == column_int64(&out->column[0], i);
             at++, size++) {
            sum += column_int64(&s->column[1], at);
        }
        check_int(&out->column[1], i, sum);
        check_int(&out->column[2], i, size);
    }
    assert_int_equal(at, s->rows);
    table_unref(out);
    table_unref(s);
    table_unref(t);
    build_fini(&b);
    build_fini(&sorted);
}

static void test_extremes(void **state)
{
    static const double values[][3] = {{INFINITY, 1, -INFINITY},
                                       {INFINITY, 1, INFINITY},
                                       {1e308, 1e308, -1e308},
                                       {1, 1e100, -1e100},
                                       {-0.0, -0.0, -0.0}};

    (void)state;
    for (size_t k = 0; k < sizeof(values) / sizeof(*values); k++) {
        struct column_builder *c = column_builder_create(TYPE_FLOAT64);
        struct table *t = table_create(1, 3);
        struct build b;

        for (int i = 0; i < 3; i++) {
            assert_int_equal(column_builder_float64(c, values[k][i]), 0);
        }
        assert_int_equal(column_builder_finish(c, "x", &t->column[0]), 0);
        column_builder_destroy(c);
        build_init(&b);
        Dray__Aggregate *a = aggregate_new(&b);

        aggregate_agg(&b, a, DRAY__AGG_FN__SUM, 0, TYPE_FLOAT64, "sum");
        aggregate_agg(&b, a, DRAY__AGG_FN__MAX, 0, TYPE_FLOAT64, "max");
        build_aggregate(&b, a, DRAY__AGG_STAGE__PARTIAL);
        build_aggregate(&b, a, DRAY__AGG_STAGE__FINAL);
        struct table *out = run_table(&b, t);
        double sum = column_float64(&out->column[0], 0);

        switch (k) {
        case 0:
            assert_true(isnan(sum) && column_is_valid(&out->column[0], 0));
            break;
        case 1:
            assert_true(isinf(sum) && sum > 0);
            break;
        case 4:
            assert_true(sum == 0 && !signbit(sum));
            assert_true(signbit(column_float64(&out->column[1], 0)));
            break;
        default:
            break;
        }
        table_unref(out);
        table_unref(t);
        build_fini(&b);
    }
}

static void test_errors(void **state)
{
    struct random r = {9};
    struct column_plan plan[6] = {VALUES};
    struct table *t = random_table(&r, plan, 5, 10);
    struct table *out = NULL;
    struct error err = {0};
    struct build b;

    (void)state;
    build_init(&b);
    Dray__Aggregate *a = aggregate_new(&b);

    aggregate_agg(&b, a, DRAY__AGG_FN__MEAN, 3, TYPE_STRING, "m");
    build_aggregate(&b, a, DRAY__AGG_STAGE__PARTIAL);
    assert_true(run_limited(&b, &t, 1, 0, &out, &err) < 0);
    assert_non_null(strstr(err.text, "agg function failed [how->mean, dtype->string]: column 's' is text"));
    a->agg[0]->column = 2;
    assert_true(run_limited(&b, &t, 1, 0, &out, &err) < 0);
    assert_non_null(strstr(err.text, "column 'f' is float64, the plan says string"));
    // A table that is no state.
    a->agg_type[0] = DRAY__TYPE__FLOAT64;
    b.op.step[1]->aggregate->stage = DRAY__AGG_STAGE__COMBINE;
    assert_true(run_limited(&b, &t, 1, 0, &out, &err) < 0);
    assert_non_null(strstr(err.text, "the state of 'm' should have sum as column #0"));
    build_fini(&b);
    table_unref(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_key),  cmocka_unit_test(test_more_keys),   cmocka_unit_test(test_no_keys),
        cmocka_unit_test(test_same_way), cmocka_unit_test(test_many_groups), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
