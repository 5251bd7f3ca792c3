#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/plan/method.h"
#include "client/plan/method_frame_aggregate.h"
#include "client/plan/read_csv.h"
#include "client/plan/value.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "tests/unit/generate.h"
#include "tests/unit/plan_fixture.h"

static char *explain(const char *script, uint64_t size)
{
    struct fake_files files = {.size = size, .count = 1};
    struct query *query = NULL;
    struct error err = {0};
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);

    if (fake_create(&files, script, &query, &err) < 0 || query_explain(query, out, &err) < 0) {
        fprintf(out, "%s", err.text);
    }
    fclose(out);
    query_destroy(query);
    return text;
}

static void test_explain(void **state)
{
    char *text = explain("read_csv(\"sales.csv\").groupby(\"category\")[\"price\"].mean()", 100 + (64 << 20));

    (void)state;
    assert_string_equal(
        text,
        "As written:\n"
        "  project [category, price]\n"
        "    aggregate by [category] [price = mean(price)]\n"
        "      scan sales.csv [category: string, price: float64, quantity: int64, flag: bool, count: int64]\n"
        "Optimised:\n"
        "  aggregate by [category] [price = mean(price)]\n"
        "    scan sales.csv [category: string, price: float64]\n"
        "Layers:\n"
        "  0: 4 tasks, from files\n"
        "     scan_csv(sales.csv, 4 blocks) | aggregate(partial; key #0; mean #1)\n"
        "  1: 1 task, fan-in of 32 of layer 0, wanted\n"
        "     take_inputs() | aggregate(combine final; key #0; mean #1)\n");
    free(text);
}

// What is between "Optimised:" and "Layers:", one node a line, without indentation.
static void check_plan(const char *script, const char *expected)
{
    char *text = explain(script, 1000);
    char *from = strstr(text, "Optimised:\n");
    char *to = strstr(text, "Layers:\n");
    char got[2000] = "";
    size_t used = 0;

    if (from == NULL || to == NULL) {
        fail_msg("%s: %s", script, text);
        return;
    }
    *to = '\0';
    for (char *line = from + 11; *line != '\0'; line += strcspn(line, "\n") + 1) {
        line += strspn(line, " ");
        used += (size_t)snprintf(got + used, sizeof(got) - used, "%s%.*s", used > 0 ? "\n" : "",
                                 (int)strcspn(line, "\n"), line);
    }
    assert_string_equal(got, expected);
    free(text);
}

#define DF "df = read_csv('f.csv')\n"

static void test_rules(void **state)
{
    static const struct {
        const char *script;
        const char *plan;
    } cases[] = {
        // fold
        {DF "df[df.price > 2 * 3 + 1].price.sum()",
         "aggregate [value = sum(price)]\nfilter (price > 7.0)\nscan f.csv [price: float64]"},
        {DF "df[(df.price > 1) | True].price.sum()",
         "aggregate [value = sum(price)]\nscan f.csv [price: float64]"},
        {DF "df[~~(df.price > 1)].price.sum()",
         "aggregate [value = sum(price)]\nfilter (price > 1.0)\nscan f.csv [price: float64]"},
        // filters below projections, neighbours joined
        {DF "df = df.assign(z=df.price * 2)\ndf = df[df.z > 3]\ndf[df.quantity == 1][['z']]",
         "project [z = (price * 2.0)]\nfilter (((price * 2.0) > 3.0) & (quantity == 1))\n"
         "scan f.csv [price: float64, quantity: int64]"},
        {DF "df = df.rename(columns={'price': 'p'})\ndf[df.p > 3].groupby('category').p.max()",
         "aggregate by [category] [p = max(p)]\nproject [category, p = price]\nfilter (price > 3.0)\n"
         "scan f.csv [category: string, price: float64]"},
        // below an aggregation when it asks for keys alone
        {DF "g = df.groupby('category', as_index=False).agg({'price': 'sum'})\ng[g.category == 'Toys']",
         "aggregate by [category] [price = sum(price)]\nfilter (category == \"Toys\")\n"
         "scan f.csv [category: string, price: float64]"},
        {DF "g = df.groupby('category', as_index=False).agg({'price': 'sum'})\ng[g.price > 5]",
         "filter (price > 5.0)\naggregate by [category] [price = sum(price)]\n"
         "scan f.csv [category: string, price: float64]"},
        // size counts rows and reads no column
        {DF "df.groupby('category').agg(n=('price', 'size'), m=('price', 'max'))",
         "aggregate by [category] [n = size(), m = max(price)]\n"
         "scan f.csv [category: string, price: float64]"},
        {DF "df.price.agg(['size', 'max'])",
         "aggregate [size = size(), max = max(price)]\nscan f.csv [price: float64]"},
        // not below a head
        {DF "d = df.head(10)\nd[d.price > 5]",
         "filter (price > 5.0)\nhead 10\n"
         "scan f.csv [category: string, price: float64, quantity: int64, flag: bool, count: int64]"},
        // heads
        {DF "df[['price']].head(9).head(3)", "head 3\nscan f.csv [price: float64]"},
        {DF "df[['price']].sort_values('price').head(3)",
         "sort [price] first 3\nscan f.csv [price: float64]"},
        {DF "df.nlargest(2, 'price')[['quantity']]",
         "project [quantity]\nsort [price descending] first 2\nscan f.csv [price: float64, quantity: int64]"},
        // projects
        {DF "df['a'] = df.price * 2\ndf['b'] = df.a + 1\ndf[['b']]",
         "project [b = ((price * 2.0) + 1.0)]\nscan f.csv [price: float64]"},
        {DF "df['a'] = df.price * 2\ndf['b'] = df.a * df.a\ndf[['b']]",
         "project [b = (a * a)]\nproject [a = (price * 2.0)]\nscan f.csv [price: float64]"},
        // columns
        {DF "len(df)", "aggregate [value = size()]\nscan f.csv []"},
        {DF "df.groupby('category').agg({'price': 'sum', 'quantity': 'max'})[['quantity']]",
         "aggregate by [category] [quantity = max(quantity)]\nscan f.csv [category: string, quantity: "
         "int64]"},
        {DF "df.flag.mean()",
         "aggregate [value = mean(value)]\nproject [value = float64(flag)]\nscan f.csv [flag: bool]"},
        {DF "df.price.sum() / len(df)",
         "project [value = (value0 / float64(value1))]\naggregate [value0 = sum(price), value1 = size()]\n"
         "scan f.csv [price: float64]"},
        {DF "df.price.max() - df.price.max()",
         "project [value = (value - value)]\naggregate [value = max(price)]\nscan f.csv [price: float64]"},
        // a mask made before the column was added
        {DF "m = df.price > 1\ndf['z'] = df.quantity\ndf[m][['z']]",
         "project [z = quantity]\nfilter (price > 1.0)\nscan f.csv [price: float64, quantity: int64]"},
        {DF "df[df['flag']].count()",
         "aggregate [category = count(category), price = count(price), quantity = count(quantity), flag = "
         "count(flag), "
         "count = count(count)]\nfilter (flag == True)\n"
         "scan f.csv [category: string, price: float64, quantity: int64, flag: bool, count: int64]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_plan(cases[i].script, cases[i].plan);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *script;
        const char *error; // of the last line, without it
        const char *word;  // what the carets stand under
    } cases[] = {
        {DF "df.priice", "a table has no 'priice': did you mean 'price'?", "priice"},
        {DF "df['prise']", "there is no column 'prise': did you mean 'price'?", "'prise'"},
        {DF "df['xyz']", "there is no column 'xyz'; there is: category, price, quantity, flag, count",
         "'xyz'"},
        {DF "df[['price', 'cat']]",
         "there is no column 'cat'; there is: category, price, quantity, flag, count", "'cat'"},
        {DF "df.count.sum()", "'count' is a method: write count() to call it", "df.count"},
        {DF "dg.head()", "there is no 'dg' here: did you mean 'df'?", "dg"},
        {DF "df.grupby('category')", "a table has no 'grupby': did you mean 'groupby'?", "grupby"},
        {DF "df.merge(df)", "'merge' is not there yet; the nearest name that is: 'mean'", "merge"},
        {DF "df.query('x')", "'query' is not there yet; rows are chosen by df[condition]", "query"},
        {DF "df.head(m=3)", "head() takes no argument 'm' yet; the nearest that it takes: 'n'", "m"},
        {DF "df.head(1, 2, 3, 4)", "head() takes 3 arguments at most", "4"},
        {DF "df.head('a')", "'n' takes a whole number, this is a text", "'a'"},
        {DF "df.head(-1)", "counting from the end is not there yet: a number from 0", "-"},
        {DF "df.groupby()", "groupby() needs 'by'", "groupby"},
        {DF "df.groupby('category')", "a groupby needs an aggregation behind it: .mean(), .size(), .agg(...)",
         "groupby"},
        {DF "df.groupby('category').price.meen()", "a groupby has no 'meen': did you mean 'mean'?", "meen"},
        {DF "df.groupby('category').agg({'price': 'median'})",
         "there is no aggregation 'median' here; the nearest that there is: 'mean'", "'median'"},
        {DF "df.groupby('category').agg(t=('prise', 'sum'))",
         "there is no column 'prise': did you mean 'price'?", "'prise'"},
        {DF "df.groupby('flag').mean()",
         "column 'category' is text: choose columns with [...], or write mean(numeric_only=True)", "mean"},
        {DF "df.category.sum()", "sum cannot be taken of 'category': it is text", "sum"},
        {DF "df.category + 1", "'+' needs two numbers, and here stand text and a number", "+"},
        {DF "df.category > 1",
         "'>' compares text with a number (read_csv(dtype={...}) says how a column is read)", ">"},
        {DF "df[df.price]", "rows are chosen by a condition such as df.x > 5, these are float64 values",
         "df.price"},
        {DF "df[df.price > 1 & df.flag]",
         "& joins conditions, and here stands a number: put each comparison into parentheses, & binds "
         "tighter than "
         "they do",
         "&"},
        {DF "df.price(1)", "'price' is a column, no method", "price"},
        {DF "df * 2", "operators on a whole table are not there yet: take a column, as in df[\"x\"]", "*"},
        {DF "df.price - df.price.mean()",
         "a value computed from the data cannot be used beside a column yet: run that first and write its "
         "result here",
         "mean"},
        {DF "df[df.head(3).price > 1]",
         "these columns come from tables with different rows: filter and sort the table first, then take its "
         "columns",
         "df.head(3).price > 1"},
        {DF "df.z = 1", "there is no column 'z': a new column is made by df[\"z\"] = ...", "z"},
        {DF "df.rename(columns={'a': 'b'})",
         "there is no column 'a'; there is: category, price, quantity, flag, count", "'a'"},
        {DF "df.rename(columns={'price': 'flag'})", "two columns would be called 'flag'",
         "{'price': 'flag'}"},
        {DF "df.drop('price')",
         "dropping rows by label is not there: for columns write drop(columns=[...]) or axis=1", "'price'"},
        {DF "df.sort_values('price', inplace=True)",
         "'inplace' can be False only, other values are not there yet", "True"},
        {DF "x = df.price * 2\nx = x + x\nx = x + x\nx = x + x\nx = x + x\nx = x + x\nx = x + x\nx = x + "
            "x\nx = x + x\n"
            "x = x + x",
         "this expression has more than 1000 operations, or more than 64 inside one another", "+"},
        {"1 / 0", "division by zero", "/"},
        {"9223372036854775807 + 1", "the result does not fit into 64 bits", "+"},
        {"'a' - 1", "a text and a whole number do not go together here", "-"},
        {"pd.read_parquet('x')", "pandas.read_parquet is not there yet; the nearest name that is: 'read_csv'",
         "read_parquet"},
        {"read_csv('missing.csv')", "missing.csv: no such file", "'missing.csv'"},
        {"read_csv('s3://a/b')",
         "files from the network are not there yet: a path of this machine or of the workers", "'s3://a/b'"},
        {"read_csv('f.csv', parse_dates=['d'])",
         "'parse_dates' can be False only, other values are not there yet", "['d']"},
        {"read_csv('f.csv', sep=';;')", "the separator is one ASCII character", "';;'"},
        {"read_csv('f.csv', blocksize='64 pounds')",
         "'blocksize' is a number of bytes from 1, a size such as \"64MB\", or None", "'64 pounds'"},
        {"read_csv('f.csv', blocksize=0)",
         "'blocksize' is a number of bytes from 1, a size such as \"64MB\", or None", "0"},
        {"read_csv('f.csv', dtype={'prize': 'int64'})", "there is no column 'prize' to give a type",
         "'prize'"},
        {"read_csv('f.csv', dtype='complex')",
         "a type is one of \"int64\", \"float64\", \"str\", \"bool\", \"category\"", "'complex'"},
        {"read_csv('f.csv', names=['a'])", "1 names, but the lines of f.csv have 5 fields", "['a']"},
        {"read_csv('f.csv', usecols=['nope'])",
         "there is no column 'nope'; there is: category, price, quantity, flag, count", "'nope'"},
        {"read_csv('f.csv', usecols=[9])", "there are 5 columns, counted from 0", "9"},
        {"print(1)\nprint(2)", "a script has one value, that of its last line: print() belongs there",
         "print(1)"},
        {"import pandas as pd", "the script has no value: its last line should be what you want to see",
         "import pandas as pd"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_files files = {.size = 1000, .count = 1};
        struct query *query = NULL;
        struct error err = {0};
        char *lines[3] = {err.text, NULL, NULL};

        if (fake_create(&files, cases[i].script, &query, &err) == 0) {
            query_destroy(query);
            fail_msg("no error: %s", cases[i].script);
        }
        for (int k = 1; k < 3; k++) {
            lines[k] = strchr(lines[k - 1], '\n');
            assert_non_null(lines[k]);
            *lines[k]++ = '\0';
        }
        char *message = strstr(lines[0], ": ");

        assert_non_null(message);
        assert_string_equal(message + 2, cases[i].error);

        size_t from = strcspn(lines[2], "^");
        char word[200];

        snprintf(word, sizeof(word), "%.*s", (int)strspn(lines[2] + from, "^"), lines[1] + from);
        assert_string_equal(word, cases[i].word);
    }
}

static void test_read_csv_options(void **state)
{
    struct fake_files files = {.size = 1000, .count = 1};
    struct query *query = NULL;
    struct error err = {0};
    const char *script =
        "import dask.dataframe as dd\n"
        "dd.read_csv('dir/a*.csv', sep='\\t', quotechar=\"'\", comment='#', skiprows=3, header=None,\n"
        "            na_values=['-', 7], keep_default_na=False, encoding='utf-8').compute().head(1)";

    (void)state;
    assert_int_equal(fake_create(&files, script, &query, &err), 0);
    assert_true(files.last.glob);
    query_destroy(query);

    static const struct {
        const char *option;
        uint32_t tasks;
    } sizes[] = {{"blocksize=1", 900},   {"blocksize=100", 9},   {"blocksize='100B'", 9},
                 {"blocksize=None", 1},  {"blocksize='1KB'", 1}, {"blocksize='0.5'", 0},
                 {"blocksize=899", 2},   {"blocksize=900", 1},   {"blocksize='64MiB'", 1},
                 {"blocksize=2.5e2", 4}, {"blocksize='99'", 10}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char text[200];
        char wanted[40];

        snprintf(text, sizeof(text), "len(read_csv('f.csv', %s))", sizes[i].option);
        snprintf(wanted, sizeof(wanted), "  0: %u task", sizes[i].tasks);

        char *plan = explain(text, 1000);

        assert_true(sizes[i].tasks == 0 ? strstr(plan, "blocksize") != NULL : strstr(plan, wanted) != NULL);
        free(plan);
    }
}

static void test_known_values(void **state)
{
    static const struct {
        const char *script;
        enum shape_kind kind;
        const char *first; // the last column's first value when it is text
    } cases[] = {
        {"'a' + 'b'", SHAPE_SCALAR, "ab"},
        {DF "df[['price', 'category']].columns", SHAPE_LIST, "category"},
        {"(1, 'a')", SHAPE_TUPLE, "a"},
        {"['a', 2]", SHAPE_LIST, NULL},
        {DF "df.rename({'price': 'p'}, axis=1).columns[1]", SHAPE_SCALAR, "p"},
        {DF "df.dtypes", SHAPE_SERIES, "object"},
        {DF "df.price.name", SHAPE_SCALAR, "price"},
        {DF "df['price'].dtype", SHAPE_SCALAR, "float64"},
        {DF "df.columns[-1]", SHAPE_SCALAR, "count"},
        {"None", SHAPE_NONE, NULL},
        {"7 // -2", SHAPE_SCALAR, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_files files = {.size = 1000, .count = 1};
        struct query *query = NULL;
        struct table *table = NULL;
        struct error err = {0};

        assert_int_equal(fake_create(&files, cases[i].script, &query, &err), 0);
        assert_false(query_needs_graph(query));
        assert_int_equal(query_shape(query)->kind, cases[i].kind);
        assert_int_equal(query_value(query, &table, &err), 0);
        if (cases[i].first != NULL) {
            const struct column *last = &table->column[table->columns - 1];
            size_t size;
            const char *text = column_string(last, 0, &size);

            assert_int_equal(size, strlen(cases[i].first));
            assert_memory_equal(text, cases[i].first, size);
        }
        if (table != NULL) {
            assert_int_equal(table_check(table, &err), 0);
        }
        table_unref(table);
        query_destroy(query);
    }
}

// What is planned is a graph that broker and workers take.
static void check_graph(struct query *query)
{
    const Dray__Graph *graph;
    struct error err = {0};
    struct arena arena;
    void *bytes;
    size_t size;

    if (!query_needs_graph(query)) {
        return;
    }
    arena_init(&arena, 0);
    assert_int_equal(query_graph(query, &arena, &bytes, &size, &err), 0);
    if (graph_decode(bytes, size, &arena, &graph, &err) < 0) {
        fail_msg("%s", err.text);
    }
    for (size_t i = 0; i < graph->n_layer; i++) {
        const Dray__Op *op;

        if (op_decode(graph->layer[i]->op.data, graph->layer[i]->op.len, &arena, &op, &err) < 0) {
            fail_msg("%s", err.text);
        }
    }
    arena_fini(&arena);
}

// Valid scripts, damaged: a plan or an error in words, never more.
static void test_damaged_scripts(void **state)
{
    static const char *const scripts[] = {
        DF "df['z'] = df.price * df.quantity\ndf[(df.z > 5) & ~df.flag].groupby(['category', "
           "'flag']).agg({'z': ['mean', 'max']})",
        DF "df.groupby('category').agg(total=('price', 'sum')).reset_index().sort_values('total', "
           "ascending=False).head(3)",
        DF "(df.price.max() - df.price.min()) / len(df)",
        DF "df.assign(a=1, b=df.price ** 2)[['a', 'b']].nlargest(5, 'b').rename(columns={'a': "
           "'c'}).drop(columns='c')",
        DF "df.price.agg(['mean', 'max'])",
        DF "df[df.category.isin(['a', 'b']) | df.price.between(1, 2)].category.value_counts()",
        "import pandas as pd\ndf = pd.read_csv(['a.csv', 'b.csv'], sep=';', usecols=[0, 2], "
        "dtype={'category': str}, "
        "na_values=['-'])\ndf.shape",
        DF "df.set_index('category').price.sort_index().head(2).reset_index()",
        DF "df.mean(numeric_only=True)",
    };
    uint64_t random = 11;
    unsigned fine = 0;

    (void)state;
    for (int round = 0; round < 4000; round++) {
        const char *script = scripts[random_below(&random, sizeof(scripts) / sizeof(scripts[0]))];
        struct fake_files files = {.size = 100 + random_below(&random, 2000),
                                   .count = 1 + random_below(&random, 3)};
        size_t size = strlen(script);
        char *text = malloc(size + 1);
        struct query *query = NULL;
        struct error err = {0};

        memcpy(text, script, size + 1);
        if (random_below(&random, 4) > 0) {
            size = random_damage(&random, (uint8_t *)text, size);
        } else {
            // Two words change places.
            size_t a = random_below(&random, (uint32_t)size);
            size_t b = random_below(&random, (uint32_t)size);
            char c = text[a];

            text[a] = text[b];
            text[b] = c;
        }
        const struct query_host host = {&files, fake_probe, "/data"};

        if (query_create(text, size, "s", &host, &query, &err) == 0) {
            char *explained = NULL;
            size_t bytes;
            FILE *out = open_memstream(&explained, &bytes);

            assert_int_equal(query_explain(query, out, &err), 0);
            fclose(out);
            free(explained);
            check_graph(query);
            fine++;
        } else {
            assert_true(err.code != 0);
            assert_int_equal(strncmp(err.text, "s", 1), 0);
        }
        query_destroy(query);
        free(text);
    }
    assert_true(fine > 100);
}

static void test_methods_are_consistent(void **state)
{
    static const struct method_table *const tables[] = {&frame_methods, &series_methods, &group_methods,
                                                        &functions, &later_methods};

    (void)state;
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const struct method *m = &tables[t]->method[i];

            assert_true(m->receivers != 0 && m->name != NULL);
            assert_true((m->run == NULL) == (m->advice != NULL));
            if (m->run != NULL) {
                assert_ptr_equal(method_find(m->receivers & -m->receivers, m->name), m);
            }
            for (int p = 0; m->parameter != NULL && m->parameter[p].name != NULL; p++) {
                assert_true(p < METHOD_PARAMETERS_MAX);
                assert_true((m->parameter[p].kind == TAKES_ONLY) == (m->parameter[p].only != NULL));
            }
        }
    }
    assert_ptr_equal(method_find(ON_FRAME, "groupby")->run, frame_groupby);
    assert_string_equal(read_csv_parameters[0].name, "filepath_or_buffer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_read_csv_options),
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_damaged_scripts),
        cmocka_unit_test(test_methods_are_consistent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
