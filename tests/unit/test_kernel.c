// Pipelines as a whole: tables in and out, head, filter, errors, memory given back.
#include <errno.h>

#include "tests/unit/kernel_fixture.h"

static const struct column_plan plans[] = {
    {.name = "b", .type = TYPE_BOOL, .null_in = 5},
    {.name = "i", .type = TYPE_INT64, .distinct = 1000, .null_in = 7, .offset = -500},
    {.name = "f", .type = TYPE_FLOAT64, .null_in = 3, .nan_in = 9},
    {.name = "s", .type = TYPE_STRING, .distinct = 300, .null_in = 4},
    {.name = "d", .type = TYPE_DICT, .distinct = 20, .null_in = 6},
    {.name = "full", .type = TYPE_INT64},
};
enum { COLUMNS = sizeof(plans) / sizeof(*plans) };

static void cut(struct random *r, const struct table *whole, struct table **part, uint32_t parts)
{
    int64_t at = 0;

    for (uint32_t i = 0; i < parts; i++) {
        int64_t n = i + 1 == parts ? whole->rows - at
                                   : (int64_t)random_below(r, (uint32_t)(whole->rows - at) / 2 + 1);

        part[i] = slice_table(whole, at, n);
        at += n;
    }
}

// Inputs one after another are the table that they were cut from, whatever mix of DICT and STRING.
static void test_take(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random r = {seed};
        struct table *whole = random_table(&r, plans, COLUMNS, random_below(&r, 20000));
        struct table *part[6];
        struct build b;

        cut(&r, whole, part, 5);
        // One part with text where the others have a dictionary.
        struct column_plan text[COLUMNS];

        memcpy(text, plans, sizeof(text));
        text[4].type = seed % 2 ? TYPE_STRING : TYPE_DICT;
        part[5] = random_table(&r, text, COLUMNS, 100);
        build_init(&b);

        struct table *out = run_tables(&b, part, 6);
        struct table *want = NULL;
        struct error err = {0};

        assert_int_equal(table_concat(part, 6, &want, &err), 0);
        assert_same_table(want, out, "concatenated");
        table_unref(want);
        table_unref(out);
        out = run_tables(&b, part, 5);
        assert_same_table(whole, out, "cut and put together");
        table_unref(out);
        out = run_tables(&b, part, 0);
        assert_int_equal(out->rows, 0);
        table_unref(out);
        for (int i = 0; i < 6; i++) {
            table_unref(part[i]);
        }
        table_unref(whole);
        build_fini(&b);
    }
}

static void test_filter_head(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random r = {seed};
        struct table *whole = random_table(&r, plans, COLUMNS, random_below(&r, 30000));
        int64_t *keep = calloc((size_t)whole->rows + 1, sizeof(*keep));
        int64_t limit = random_below(&r, 5000);
        int64_t n = 0;
        struct table *want = NULL;
        struct error err = {0};
        struct build b;

        // Two filters, so that one meets the selection of the other.
        build_init(&b);
        Dray__Expr *e = expr_new(&b);

        expr_column(&b, e, 1);
        expr_int(&b, e, 100);
        expr_node(&b, e, DRAY__EXPR_KIND__LT);
        build_filter(&b, e);
        e = expr_new(&b);
        expr_column(&b, e, 4);
        expr_string(&b, e, "4");
        expr_node(&b, e, DRAY__EXPR_KIND__NE);
        build_filter(&b, e);
        build_head(&b, (uint64_t)limit);
        for (int64_t i = 0; i < whole->rows; i++) {
            size_t size;
            const char *s = column_string(&whole->column[4], i, &size);
            bool is_four = column_is_valid(&whole->column[4], i) && size == 1 && *s == '4';

            if (column_is_valid(&whole->column[1], i) && column_int64(&whole->column[1], i) < 100 &&
                !is_four && n < limit) {
                keep[n++] = i;
            }
        }
        struct table *out = run_table(&b, whole);

        assert_int_equal(table_take(whole, keep, n, &want, &err), 0);
        assert_same_table(want, out, "filtered");
        table_unref(want);
        table_unref(out);
        table_unref(whole);
        free(keep);
        build_fini(&b);
    }
}

static void expect_error(struct build *b, struct table *const *tables, uint32_t count, const char *text)
{
    struct table *out = NULL;
    struct error err = {0};

    assert_true(run_limited(b, tables, count, 0, &out, &err) < 0);
    if (strstr(err.text, text) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, text);
    }
}

static void test_errors(void **state)
{
    struct random r = {3};
    struct table *t = random_table(&r, plans, COLUMNS, 10);
    struct column_plan other[COLUMNS];
    struct table *pair[2];
    struct build b;

    (void)state;
    memcpy(other, plans, sizeof(other));
    other[2].type = TYPE_INT64;
    pair[0] = t;
    pair[1] = random_table(&r, other, COLUMNS, 10);
    build_init(&b);
    expect_error(&b, pair, 2, "column 'f' is float64 in the first input partition and int64 in partition 1");
    table_unref(pair[1]);
    pair[1] = random_table(&r, other, 2, 10);
    expect_error(&b, pair, 2, "has 2 columns, the first has 6");
    table_unref(pair[1]);

    Dray__Expr *e = expr_new(&b);

    expr_column(&b, e, 1);
    build_filter(&b, e);
    expect_error(&b, pair, 1, "filter: a filter wants a bool for each row, int64 column 'i' is int64");
    e->node[0]->column = 77;
    expect_error(&b, pair, 1, "filter: column #77 is asked for, there are 6");
    build_fini(&b);
    table_unref(t);
}

static void test_cancel(void **state)
{
    struct random r = {4};
    struct table *t = random_table(&r, plans, COLUMNS, 10);
    struct partition *p = partition_from_table(t);
    uint32_t start[2] = {0, 1};
    struct kernel_inputs inputs = {.partition = &p, .start = start, .lists = 1};
    atomic_bool cancelled = true;
    struct budget *budget = budget_create(0);
    struct kernel_env env = {.budget = budget, .cancelled = &cancelled};
    struct partition *out = NULL;
    struct error err = {0};
    struct build b;

    (void)state;
    build_init(&b);
    assert_int_equal(kernel_run(&b.op, 0, &inputs, &env, &out, &err), -ECANCELED);
    assert_int_equal(budget_used(budget), 0);
    cancelled = false;
    env.deadline_ns = 1; // long ago
    assert_int_equal(kernel_run(&b.op, 0, &inputs, &env, &out, &err), -ETIMEDOUT);
    assert_int_equal(budget_used(budget), 0);
    budget_destroy(budget);
    partition_unref(p);
    build_fini(&b);
}

static void memory_pipeline(struct build *b, uint32_t which)
{
    Dray__Aggregate *a;

    build_init(b);
    if (which == 0) {
        Dray__Sort *s = build_sort(b);

        sort_key(b, s, 3);
        sort_key(b, s, 4);
        return;
    }
    a = aggregate_new(b);
    aggregate_key(a, 3, "s", TYPE_STRING);
    aggregate_key(a, which == 1 ? 5 : 4, "other", which == 1 ? TYPE_INT64 : TYPE_STRING);
    aggregate_agg(b, a, DRAY__AGG_FN__MEAN, 2, TYPE_FLOAT64, "mean");
    aggregate_agg(b, a, DRAY__AGG_FN__LAST, 4, TYPE_STRING, "last");
    build_aggregate(b, a, DRAY__AGG_STAGE__PARTIAL);
    build_aggregate(b, a, DRAY__AGG_STAGE__FINAL);
}

// Refuses the n-th request for memory, for every n: all sizes are multiples of 64, so limits in
// steps of 64 stop at each of them.  Nothing is left taken (run_limited looks).
static void test_memory(void **state)
{
    (void)state;
    for (uint32_t which = 0; which < 3; which++) {
        struct random r = {5 + which};
        struct table *t = random_table(&r, plans, COLUMNS, 150);
        struct build b;
        uint64_t step = 4096;
        unsigned refused = 0;

        memory_pipeline(&b, which);
        for (uint64_t limit = 64;; limit += step) {
            struct table *out = NULL;
            struct error err = {0};
            int rc = run_limited(&b, &t, 1, limit, &out, &err);

            if (rc == 0) {
                table_unref(out);
                break;
            }
            assert_int_equal(rc, -ENOMEM);
            assert_non_null(strstr(err.text, "--memory"));
            if (step == 4096 && strncmp(err.text, "a task", 6) != 0) {
                // The fixed buffers fit now: from here on each request by itself.
                limit -= step;
                step = 64;
            }
            refused++;
        }
        assert_true(refused > 100);
        table_unref(t);
        build_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),   cmocka_unit_test(test_filter_head), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cancel), cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
