// Graphs and rounds: what is sent, and what is made of the answers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/plan/lower.h"
#include "client/plan/rounds.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "tests/unit/plan_fixture.h"

#define DF "df = read_csv('f.csv', blocksize=100)\n"

struct plan {
    struct fake_files files;
    struct query *query;
    struct arena arena;
    const Dray__Graph *graph;
    const Dray__Op *op[16];
};

static void decode(struct plan *p)
{
    struct error err = {0};
    void *bytes;
    size_t size;

    assert_int_equal(query_graph(p->query, &p->arena, &bytes, &size, &err), 0);
    if (graph_decode(bytes, size, &p->arena, &p->graph, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_true(p->graph->n_layer <= 16);
    for (size_t i = 0; i < p->graph->n_layer; i++) {
        const Dray__Layer *layer = p->graph->layer[i];

        if (op_decode(layer->op.data, layer->op.len, &p->arena, &p->op[i], &err) < 0) {
            fail_msg("layer %zu: %s", i, err.text);
        }
    }
}

static void plan_init(struct plan *p, const char *script, uint32_t blocks, uint32_t files)
{
    struct error err = {0};

    memset(p, 0, sizeof(*p));
    p->files = (struct fake_files){.size = 100 + 100 * (uint64_t)blocks, .count = files};
    arena_init(&p->arena, 0);
    if (fake_create(&p->files, script, &p->query, &err) < 0) {
        fail_msg("%s", err.text);
    }
    decode(p);
}

static void plan_fini(struct plan *p)
{
    query_destroy(p->query);
    arena_fini(&p->arena);
}

static void note(struct plan *p, uint32_t block, int column, enum type type, bool ends_quoted)
{
    Dray__Note message = DRAY__NOTE__INIT;
    Dray__Widen widen = DRAY__WIDEN__INIT;
    Dray__Widen *widens[] = {&widen};
    struct error err = {0};
    uint8_t bytes[100];

    widen.column = (uint32_t)column;
    widen.type = (Dray__Type)type;
    message.widen = widens;
    message.n_widen = column >= 0;
    message.has_ends_quoted = message.ends_quoted = ends_quoted;
    assert_int_equal(query_note(p->query, 0, block, bytes, dray__note__pack(&message, bytes), &err), 0);
}

static void give_rows(struct plan *p, uint32_t layer, uint32_t index, int64_t rows)
{
    struct table *table = table_create(0, rows);
    struct partition *partition = partition_from_table(table);
    struct table *out = NULL;
    struct error err = {0};

    assert_int_equal(query_table(p->query, layer, index, partition, &out, &err), 0);
    table_unref(out);
    partition_unref(partition);
}

static void give_count(struct plan *p, uint32_t layer, int64_t rows)
{
    struct column_builder *b = column_builder_create(TYPE_INT64);
    struct table *table = table_create(1, 1);
    struct table *out = NULL;
    struct error err = {0};

    column_builder_int64(b, rows);
    column_builder_finish(b, "rows", &table->column[0]);
    column_builder_destroy(b);

    struct partition *partition = partition_from_table(table);

    assert_int_equal(query_table(p->query, layer, 0, partition, &out, &err), 0);
    assert_null(out);
    partition_unref(partition);
}

static void give_quotes(struct plan *p, uint32_t block, bool outside, bool inside)
{
    Dray__CsvQuoteState state = DRAY__CSV_QUOTE_STATE__INIT;
    struct table *out = NULL;
    struct error err = {0};
    uint8_t *bytes;

    state.end_if_outside = outside;
    state.end_if_inside = inside;

    struct buffer *buffer = buffer_create(dray__csv_quote_state__get_packed_size(&state), &bytes);

    dray__csv_quote_state__pack(&state, bytes);

    struct partition *partition = partition_from_bytes(buffer);

    assert_int_equal(query_table(p->query, 0, block, partition, &out, &err), 0);
    assert_null(out);
    partition_unref(partition);
}

// ---- shapes --------------------------------------------------------------------------

static void test_combining_tree(void **state)
{
    static const struct {
        uint32_t blocks;
        uint32_t tasks[5]; // of each layer
    } cases[] = {{1, {1}},
                 {2, {2, 1}},
                 {32, {32, 1}},
                 {33, {33, 2, 1}},
                 {1024, {1024, 32, 1}},
                 {1025, {1025, 33, 2, 1}},
                 {40000, {40000, 1250, 40, 2, 1}}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct plan p;
        size_t layers = 0;

        plan_init(&p, DF "df.groupby('category').price.mean()", cases[i].blocks, 1);
        while (layers < 5 && cases[i].tasks[layers] > 0) {
            layers++;
        }
        assert_int_equal(p.graph->n_layer, layers);
        for (size_t k = 0; k < layers; k++) {
            const Dray__Layer *layer = p.graph->layer[k];
            const Dray__Op *op = p.op[k];
            const Dray__Step *last = op->step[op->n_step - 1];

            assert_int_equal(layer->tasks, cases[i].tasks[k]);
            assert_int_equal(layer->has_wanted && layer->wanted, k + 1 == layers);
            assert_int_equal(last->aggregate->stage, k + 1 == layers ? DRAY__AGG_STAGE__COMBINE_FINAL
                                                     : k == 0        ? DRAY__AGG_STAGE__PARTIAL
                                                                     : DRAY__AGG_STAGE__COMBINE);
        }
        assert_true(p.op[0]->step[0]->scan_csv->column[0]->group_key);
        assert_false(p.op[0]->step[0]->scan_csv->column[1]->group_key);
        plan_fini(&p);
    }
}

static void test_sources(void **state)
{
    struct plan p;

    (void)state;
    plan_init(&p, "df = read_csv(['a.csv', 'b.csv.gz', 'c/*.csv'], blocksize=100)\ndf", 7, 2);
    assert_int_equal(p.graph->layer[0]->tasks, 7 + 7 + 1 + 1 + 7 + 7);
    assert_int_equal(p.graph->layer[0]->n_source, 6);

    static const struct {
        const char *name, *path;
        uint32_t first, count;
    } expected[] = {{"a.csv", "/data/a.csv", 0, 7},        {"a.csv", "/data/a.csv", 7, 7},
                    {"b.csv.gz", "/data/b.csv.gz", 14, 1}, {"b.csv.gz", "/data/b.csv.gz", 15, 1},
                    {"c/*.csv", "/data/c/*.csv", 16, 7},   {"c/*.csv", "/data/c/*.csv", 23, 7}};

    for (size_t i = 0; i < 6; i++) {
        const Dray__Source *source = p.graph->layer[0]->source[i];

        assert_string_equal(source->name, expected[i].name);
        assert_string_equal(source->path, expected[i].path);
        assert_int_equal(source->first, expected[i].first);
        assert_int_equal(source->count, expected[i].count);
    }
    plan_fini(&p);
}

static void test_sort_gathers(void **state)
{
    struct plan p;

    (void)state;
    plan_init(&p, DF "df.sort_values('price')", 100, 1);
    assert_int_equal(p.graph->n_layer, 2);
    assert_int_equal(p.graph->layer[1]->input[0]->pattern, DRAY__PATTERN__ALL);
    assert_int_equal(p.graph->layer[1]->tasks, 1);
    plan_fini(&p);
    // With a limit each block keeps its best, and so does the tree.
    plan_init(&p, DF "df.nlargest(5, 'price')", 100, 1);
    assert_int_equal(p.graph->n_layer, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(p.op[i]->step[1]->sort->limit, 5);
    }
    plan_fini(&p);
}

// ---- rounds ----------------------------------------------------------------------------

static void test_head_takes_more_blocks(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    plan_init(&p, DF "df[df.price > 1].head(10)", 100, 1);
    assert_int_equal(p.graph->layer[0]->tasks, 1);
    assert_int_equal(p.graph->n_layer, 1);
    give_rows(&p, 0, 0, 3);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.graph->layer[0]->tasks, 2);
    assert_int_equal(p.graph->layer[0]->source[0]->count, 2);
    assert_int_equal(p.graph->n_layer, 2);
    give_rows(&p, 1, 0, 9);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.graph->layer[0]->tasks, 4);
    give_rows(&p, 1, 0, 10);
    assert_int_equal(query_round_end(p.query, &err), 0);
    plan_fini(&p);
}

static void test_head_below_an_aggregation(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    plan_init(&p, DF "df.head(10).price.sum()", 3, 1);
    // scan and head; how many rows that were; the sum
    assert_int_equal(p.graph->n_layer, 3);
    assert_true(p.graph->layer[1]->wanted && p.graph->layer[2]->wanted && !p.graph->layer[0]->wanted);
    assert_int_equal(p.graph->layer[2]->input[0]->layer, 0);
    give_count(&p, 1, 9);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.graph->layer[0]->tasks, 2);
    give_count(&p, 2, 9);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    // All blocks: no need to count.
    assert_int_equal(p.graph->layer[0]->tasks, 3);
    assert_int_equal(p.graph->n_layer, 2);
    assert_int_equal(query_round_end(p.query, &err), 0);
    plan_fini(&p);
}

static void test_widening(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    plan_init(&p, DF "df.groupby('category').quantity.sum()", 10, 1);
    assert_int_equal(p.op[0]->step[0]->scan_csv->column[1]->type, DRAY__TYPE__INT64);
    note(&p, 4, 1, TYPE_FLOAT64, false);
    note(&p, 7, 1, TYPE_FLOAT64, false);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.files.probes, 1);
    assert_int_equal(p.op[0]->step[0]->scan_csv->column[1]->type, DRAY__TYPE__FLOAT64);
    assert_int_equal(p.op[0]->step[1]->aggregate->aggregate->agg_type[0], DRAY__TYPE__FLOAT64);
    // Text has no sum.
    note(&p, 9, 1, TYPE_STRING, false);
    assert_true(query_round_end(p.query, &err) < 0);
    assert_string_equal(
        err.text,
        "column 'quantity' turned out to be text further down in the file, and then: s:2: sum cannot be "
        "taken of 'quantity': it is text\n  df.groupby('category').quantity.sum()\n"
        "                                  ^^^");
    plan_fini(&p);
}

static void test_widening_to_text_goes_on_where_it_can(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    plan_init(&p, DF "df.groupby('quantity').price.count()", 10, 1);
    note(&p, 4, 0, TYPE_FLOAT64, false); // price
    note(&p, 4, 1, TYPE_STRING, false);  // quantity: columns are in the order of the file
    // price is float64 already: asking for what it is makes no sense.
    assert_true(query_round_end(p.query, &err) < 0);
    plan_fini(&p);
    plan_init(&p, DF "df.groupby('quantity').price.count()", 10, 1);
    note(&p, 4, 1, TYPE_STRING, false);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.op[0]->step[0]->scan_csv->column[1]->type, DRAY__TYPE__STRING);
    assert_int_equal(query_round_end(p.query, &err), 0);
    plan_fini(&p);
}

static void test_quotes_across_blocks(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    plan_init(&p, DF "df.groupby('category').quantity.sum()", 6, 2);
    // Block 2 of the second file ends inside quotes; what blocks behind it say is void.
    note(&p, 8, -1, TYPE_BOOL, true);
    note(&p, 9, 1, TYPE_STRING, false);
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);
    assert_int_equal(p.graph->n_layer, 1);
    assert_non_null(p.op[0]->step[0]->quote_csv);
    assert_int_equal(p.graph->layer[0]->tasks, 12);
    for (uint32_t block = 0; block < 12; block++) {
        bool odd = block == 8 || block == 10; // an odd number of quotes

        give_quotes(&p, block, odd, !odd);
    }
    assert_int_equal(query_round_end(p.query, &err), 1);
    decode(&p);

    const Dray__ScanCsv *scan = p.op[0]->step[0]->scan_csv;

    assert_int_equal(scan->n_starts_quoted, 2);
    assert_int_equal(scan->starts_quoted[0], 9);
    assert_int_equal(scan->starts_quoted[1], 10);
    assert_int_equal(scan->column[1]->type, DRAY__TYPE__INT64);
    note(&p, 8, -1, TYPE_BOOL, true);
    note(&p, 9, -1, TYPE_BOOL, true);
    assert_int_equal(query_round_end(p.query, &err), 0);
    plan_fini(&p);
}

static void test_file_ends_are_no_chain(void **state)
{
    struct error err = {0};
    struct plan p;

    (void)state;
    // The last block of a file says nothing about the first of the next.
    plan_init(&p, DF "len(df)", 3, 2);
    note(&p, 2, -1, TYPE_BOOL, true);
    assert_int_equal(query_round_end(p.query, &err), 0);
    plan_fini(&p);
}

static void test_senseless_answers(void **state)
{
    Dray__Note message = DRAY__NOTE__INIT;
    struct error err = {0};
    struct plan p;
    uint8_t bytes[100];

    (void)state;
    plan_init(&p, DF "len(df)", 3, 1);
    message.has_ends_quoted = message.ends_quoted = true;

    size_t size = dray__note__pack(&message, bytes);

    assert_true(query_note(p.query, 0, 3, bytes, size, &err) < 0);
    assert_true(query_note(p.query, 0, 0, "\xff\xff\xff", 3, &err) < 0);

    Dray__Widen widen = {
        .base = PROTOBUF_C_MESSAGE_INIT(&dray__widen__descriptor), .column = 1, .type = DRAY__TYPE__INT64};
    Dray__Widen *widens[] = {&widen};

    message.widen = widens;
    message.n_widen = 1;
    size = dray__note__pack(&message, bytes);
    assert_true(query_note(p.query, 0, 0, bytes, size, &err) < 0);

    struct partition *partition = partition_from_table(table_create(0, 0));
    struct table *out;

    assert_true(query_table(p.query, 7, 0, partition, &out, &err) < 0);
    assert_true(query_table(p.query, 1, 1, partition, &out, &err) < 0);
    partition_unref(partition);
    plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combining_tree),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_sort_gathers),
        cmocka_unit_test(test_head_takes_more_blocks),
        cmocka_unit_test(test_head_below_an_aggregation),
        cmocka_unit_test(test_widening),
        cmocka_unit_test(test_widening_to_text_goes_on_where_it_can),
        cmocka_unit_test(test_quotes_across_blocks),
        cmocka_unit_test(test_file_ends_are_no_chain),
        cmocka_unit_test(test_senseless_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
