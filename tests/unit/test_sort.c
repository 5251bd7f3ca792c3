// Sorting against insertion sort over whole rows: several keys, directions, nulls, limits.
#include <errno.h>

#include "tests/unit/kernel_fixture.h"

#include "worker/kernel/order.h"
#include "worker/kernel/sort.h"

static const struct column_plan plans[] = {
    {.name = "b", .type = TYPE_BOOL, .null_in = 5},
    {.name = "i", .type = TYPE_INT64, .distinct = 20, .null_in = 7, .offset = -10},
    {.name = "f", .type = TYPE_FLOAT64, .distinct = 15, .null_in = 9, .nan_in = 9},
    {.name = "s", .type = TYPE_STRING, .distinct = 30, .null_in = 4},
    {.name = "d", .type = TYPE_DICT, .distinct = 9, .null_in = 6},
    {.name = "any", .type = TYPE_INT64},
    {.name = "real", .type = TYPE_FLOAT64},
};
enum { COLUMNS = sizeof(plans) / sizeof(*plans) };

static bool missing(const struct column *c, int64_t i)
{
    return !column_is_valid(c, i) || (c->type == TYPE_FLOAT64 && isnan(column_float64(c, i)));
}

static int compare_key(const struct column *c, const Dray__SortKey *key, int64_t i, int64_t j)
{
    int order;

    if (missing(c, i) || missing(c, j)) {
        order = missing(c, i) - missing(c, j);
        return key->nulls_first ? -order : order;
    }
    if (c->type == TYPE_BOOL) {
        order = column_bool(c, i) - column_bool(c, j);
    } else if (c->type == TYPE_INT64) {
        order = (column_int64(c, i) > column_int64(c, j)) - (column_int64(c, i) < column_int64(c, j));
    } else if (c->type == TYPE_FLOAT64) {
        order = (column_float64(c, i) > column_float64(c, j)) - (column_float64(c, i) < column_float64(c, j));
    } else {
        size_t n;
        size_t m;
        const char *s = column_string(c, i, &n);
        const char *t = column_string(c, j, &m);

        order = memcmp(s, t, n < m ? n : m);
        order = order != 0 ? order : (n > m) - (n < m);
    }
    return key->descending ? -order : order;
}

static int compare_rows(const struct table *t, const Dray__Sort *s, int64_t i, int64_t j)
{
    for (size_t k = 0; k < s->n_key; k++) {
        int order = compare_key(&t->column[s->key[k]->column], s->key[k], i, j);

        if (order != 0) {
            return order;
        }
    }
    return 0;
}

static void sort_rows(const struct table *t, const Dray__Sort *s, int64_t *row)
{
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t j = i;

        for (; j > 0 && compare_rows(t, s, row[j - 1], i) > 0; j--) {
            row[j] = row[j - 1];
        }
        row[j] = i;
    }
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random r = {seed};
        struct table *t = random_table(&r, plans, COLUMNS, random_below(&r, seed % 10 == 0 ? 6000 : 300));
        struct build b;
        uint32_t keys = 1 + random_below(&r, 3);
        int64_t *row = calloc((size_t)t->rows + 1, sizeof(*row));
        struct table *want = NULL;
        struct error err = {0};
        int64_t rows = t->rows;

        build_init(&b);
        Dray__Sort *s = build_sort(&b);

        for (uint32_t k = 0; k < keys; k++) {
            Dray__SortKey *key = sort_key(&b, s, random_below(&r, COLUMNS));

            key->has_descending = 1;
            key->descending = random_below(&r, 2) == 0;
            key->has_nulls_first = 1;
            key->nulls_first = random_below(&r, 4) == 0;
        }
        if (seed % 3 == 0) {
            s->has_limit = 1;
            s->limit = random_below(&r, 100);
            rows = rows < (int64_t)s->limit ? rows : (int64_t)s->limit;
        }
        sort_rows(t, s, row);
        struct table *out = run_table(&b, t);

        assert_int_equal(table_take(t, row, rows, &want, &err), 0);
        assert_same_table(want, out, "sorted");
        table_unref(out);
        table_unref(want);
        table_unref(t);
        free(row);
        build_fini(&b);
    }
}

// A limit is the head of the whole sort, also where rows are cut on the way, and keeps little.
static void test_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct random r = {seed};
        struct table *t = random_table(&r, plans, COLUMNS, 200000);
        struct build whole;
        struct build limited;
        struct table *out[2];
        struct error err = {0};

        build_init(&whole);
        build_init(&limited);
        for (int i = 0; i < 2; i++) {
            struct build *b = i == 0 ? &whole : &limited;
            Dray__Sort *s = build_sort(b);

            // Many rows are equal: they stay in their order.
            sort_key(b, s, seed % 2 ? 1 : 4)->descending = seed < 3;
            s->has_limit = i == 1;
            s->limit = 5000;
        }
        build_head(&whole, 5000);
        out[0] = run_table(&whole, t);
        assert_true(run_limited(&limited, &t, 1, 8 << 20, &out[1], &err) == 0);
        assert_same_table(out[0], out[1], "limited");
        // All rows would not have fitted.
        struct table *none = NULL;

        assert_int_equal(run_limited(&whole, &t, 1, 8 << 20, &none, &err), -ENOMEM);
        table_unref(out[0]);
        table_unref(out[1]);
        table_unref(t);
        build_fini(&whole);
        build_fini(&limited);
    }
}

// Strings that differ late, by length, and by zeros at their end.
static void test_strings(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        enum { COUNT = 120, SIZE = 100 };
        struct random r = {seed};
        static char text[COUNT][SIZE];
        struct string_view view[COUNT];
        uint64_t rank[COUNT];
        struct memory memory = {.what = "a test"};
        uint32_t sizes = 1 + random_below(&r, SIZE);
        uint32_t letters = 1 + random_below(&r, 3);

        for (int i = 0; i < COUNT; i++) {
            view[i] = (struct string_view){text[i], random_below(&r, sizes)};
            for (uint32_t k = 0; k < SIZE; k++) {
                // Mostly the same, so that they agree far in; zeros and bytes above 127 among them.
                static const char letter[] = {'\0', '\xff', 'a'};

                text[i][k] = random_below(&r, 40) == 0 ? letter[random_below(&r, letters)] : '\0';
            }
        }
        assert_int_equal(order_strings(view, COUNT, &memory, rank, NULL), 0);
        assert_int_equal(memory.taken, 0);
        for (int i = 0; i < COUNT; i++) {
            for (int j = 0; j < COUNT; j++) {
                uint32_t n = view[i].size < view[j].size ? view[i].size : view[j].size;
                int c = memcmp(view[i].data, view[j].data, n);

                c = c != 0 ? c : (view[i].size > view[j].size) - (view[i].size < view[j].size);
                assert_int_equal((rank[i] > rank[j]) - (rank[i] < rank[j]), (c > 0) - (c < 0));
            }
        }
    }
}

static void test_errors(void **state)
{
    struct random r = {1};
    struct table *t = random_table(&r, plans, COLUMNS, 10);
    struct table *out = NULL;
    struct error err = {0};
    struct build b;

    (void)state;
    build_init(&b);
    sort_key(&b, build_sort(&b), 99);
    assert_true(run_limited(&b, &t, 1, 0, &out, &err) < 0);
    assert_string_equal(err.text, "sort: key column #99 is asked for, there are 7");
    table_unref(t);
    build_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
