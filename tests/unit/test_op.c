#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/op.h"
#include "proto/op_step.h"
#include "proto/table.h"
#include "tests/unit/generate.h"

// ---- operations to check, made in an arena ------------------------------------------------

#define NEW(arena, type, Type)                                                                               \
    __extension__({                                                                                          \
        Type *made = arena_zalloc(arena, sizeof(Type));                                                      \
        dray__##type##__init(made);                                                                          \
        made;                                                                                                \
    })

static Dray__ExprNode *node(struct arena *a, Dray__ExprKind kind)
{
    Dray__ExprNode *n = NEW(a, expr_node, Dray__ExprNode);

    n->kind = kind;
    return n;
}

static Dray__ExprNode *column(struct arena *a, uint32_t number)
{
    Dray__ExprNode *n = node(a, DRAY__EXPR_KIND__COLUMN);

    n->has_column = true;
    n->column = number;
    return n;
}

static Dray__ExprNode *integer(struct arena *a, int64_t value)
{
    Dray__ExprNode *n = node(a, DRAY__EXPR_KIND__LITERAL);

    n->literal = NEW(a, literal, Dray__Literal);
    n->literal->has_i = true;
    n->literal->i = value;
    return n;
}

static Dray__Expr *expr(struct arena *a, size_t count, Dray__ExprNode *const *nodes)
{
    Dray__Expr *e = NEW(a, expr, Dray__Expr);

    e->n_node = count;
    e->node = arena_copy(a, nodes, count * sizeof(*nodes));
    return e;
}
#define EXPR(a, ...)                                                                                         \
    expr(a, sizeof((Dray__ExprNode *[]){__VA_ARGS__}) / sizeof(Dray__ExprNode *),                            \
         (Dray__ExprNode *[]){__VA_ARGS__})

static void add_step(struct arena *a, Dray__Op *op, Dray__Step *step)
{
    Dray__Step **grown = arena_array(a, op->n_step + 1, sizeof(*grown));

    if (op->n_step > 0) {
        memcpy(grown, op->step, op->n_step * sizeof(*grown));
    }
    grown[op->n_step++] = step;
    op->step = grown;
}

static Dray__CsvDialect *dialect(struct arena *a)
{
    Dray__CsvDialect *d = NEW(a, csv_dialect, Dray__CsvDialect);

    d->sep = ',';
    d->has_quote = true;
    d->quote = '"';
    return d;
}

// scan_csv(sales.csv, 3 blocks), three columns | filter(#1 > 5) | aggregate(partial; key #0; mean #1)
static Dray__Op *sales(struct arena *a)
{
    static const char *const names[] = {"category", "price", "quantity"};
    Dray__Op *op = NEW(a, op, Dray__Op);
    Dray__Step *scan = NEW(a, step, Dray__Step);
    Dray__Step *filter = NEW(a, step, Dray__Step);
    Dray__Step *aggregate = NEW(a, step, Dray__Step);
    Dray__ScanCsv *s = scan->scan_csv = NEW(a, scan_csv, Dray__ScanCsv);
    Dray__CsvFile *file = NEW(a, csv_file, Dray__CsvFile);

    s->dialect = dialect(a);
    s->block_size = 100;
    s->n_file = 1;
    s->file = arena_copy(a, &file, sizeof(file));
    file->path = arena_strdup(a, "/data/sales.csv");
    file->name = arena_strdup(a, "sales.csv");
    file->size = 300;
    file->codec = DRAY__CODEC__PLAIN;
    file->data_start = 25;
    file->fields = 3;
    file->blocks = 3;
    file->n_field = 3;
    file->field = arena_copy(a, (uint32_t[]){0, 1, 2}, 12);
    s->n_column = 3;
    s->column = arena_array(a, 3, sizeof(*s->column));
    for (int i = 0; i < 3; i++) {
        s->column[i] = NEW(a, csv_column, Dray__CsvColumn);
        s->column[i]->name = arena_strdup(a, names[i]);
        s->column[i]->type = i == 0 ? DRAY__TYPE__STRING : DRAY__TYPE__FLOAT64;
    }
    s->n_starts_quoted = 1;
    s->starts_quoted = arena_copy(a, (uint32_t[]){2}, 4);

    filter->filter = NEW(a, filter, Dray__Filter);
    filter->filter->predicate = EXPR(a, column(a, 1), integer(a, 5), node(a, DRAY__EXPR_KIND__GT));

    Dray__AggregateStep *step = aggregate->aggregate = NEW(a, aggregate_step, Dray__AggregateStep);
    Dray__Aggregate *g = step->aggregate = NEW(a, aggregate, Dray__Aggregate);
    Dray__Agg *mean = NEW(a, agg, Dray__Agg);
    char *key_name = arena_strdup(a, "category");

    step->stage = DRAY__AGG_STAGE__PARTIAL;
    g->n_key = g->n_key_name = g->n_key_type = g->n_agg = g->n_agg_type = 1;
    g->key = arena_copy(a, (uint32_t[]){0}, 4);
    g->key_name = arena_copy(a, &key_name, sizeof(key_name));
    g->key_type = arena_copy(a, (Dray__Type[]){DRAY__TYPE__STRING}, sizeof(Dray__Type));
    mean->fn = DRAY__AGG_FN__MEAN;
    mean->column = 1;
    mean->name = arena_strdup(a, "price");
    g->agg = arena_copy(a, &mean, sizeof(mean));
    g->agg_type = arena_copy(a, (Dray__Type[]){DRAY__TYPE__FLOAT64}, sizeof(Dray__Type));
    add_step(a, op, scan);
    add_step(a, op, filter);
    add_step(a, op, aggregate);
    return op;
}

static Dray__Op *one_filter(struct arena *a, Dray__Expr *predicate)
{
    Dray__Op *op = NEW(a, op, Dray__Op);
    Dray__Step *source = NEW(a, step, Dray__Step);
    Dray__Step *filter = NEW(a, step, Dray__Step);

    source->take_inputs = NEW(a, take_inputs, Dray__TakeInputs);
    filter->filter = NEW(a, filter, Dray__Filter);
    filter->filter->predicate = predicate;
    add_step(a, op, source);
    add_step(a, op, filter);
    return op;
}

static void refused(const Dray__Op *op, const char *why)
{
    struct error err = {0};

    assert_int_equal(op_check(op, &err), -EBADMSG);
    if (strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
}

static void taken(const Dray__Op *op)
{
    struct error err = {0};

    if (op_check(op, &err) != 0) {
        fail_msg("op_check: %s", err.text);
    }
}

// ---- tests ---------------------------------------------------------------------------------

static void test_decode(void **state)
{
    (void)state;
    struct arena a;
    struct error err = {0};
    const Dray__Op *back = NULL;

    arena_init(&a, 0);

    Dray__Op *op = sales(&a);
    uint8_t packed[1024];
    size_t size = dray__op__pack(op, packed);

    taken(op);
    assert_int_equal(op_decode(packed, size, &a, &back, &err), 0);
    assert_int_equal(back->n_step, 3);
    assert_int_equal(step_kind(back->step[2]), STEP_AGGREGATE);
    assert_string_equal(op_describe(back, &a), "scan_csv(sales.csv, 3 blocks) | filter(#1 > 5) | "
                                               "aggregate(partial; key #0; mean #1)");
    arena_fini(&a);
}

static void test_step_order(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);

    Dray__Op *op = NEW(&a, op, Dray__Op);

    refused(op, "0 steps");
    op = sales(&a);
    op->step++;
    op->n_step--;
    refused(op, "the first step");
    op = sales(&a);
    add_step(&a, op, op->step[0]);
    refused(op, "step 3 (scan_csv) of an operation: it can only come first");
    op = sales(&a);
    op->step[1]->head = NEW(&a, head, Dray__Head);
    refused(op, "step 1 of an operation is not exactly one");
    op = sales(&a);
    op->step[1] = NEW(&a, step, Dray__Step);
    refused(op, "step 1 of an operation is not exactly one");
    op = sales(&a);
    op->step[0]->quote_csv = NEW(&a, quote_csv, Dray__QuoteCsv);
    op->step[0]->quote_csv->scan = op->step[0]->scan_csv;
    op->step[0]->scan_csv = NULL;
    refused(op, "makes bytes");
    op->n_step = 1;
    taken(op);
    assert_string_equal(op_describe(op, &a), "quote_csv(sales.csv, 3 blocks)");
    for (int kind = 0; kind < STEP_KINDS; kind++) {
        assert_non_null(step_info((enum step_kind)kind)->name);
    }
    assert_true(step_info(STEP_FILTER)->is_row_wise);
    assert_true(step_info(STEP_TAKE_INPUTS)->is_source);
    arena_fini(&a);
}

static void test_scan(void **state)
{
    (void)state;
    struct arena a;
    Dray__Op *op;

    arena_init(&a, 0);
#define SCAN (op = sales(&a), op->step[0]->scan_csv)
    SCAN->dialect->sep = 256;
    refused(op, "one byte");
    SCAN->dialect->sep = '\n';
    refused(op, "one byte");
    SCAN->dialect->sep = '"';
    refused(op, "same byte");
    SCAN->block_size = 0;
    refused(op, "blocks of 0 bytes");
    SCAN->n_file = 0;
    refused(op, "0 files");
    SCAN->file[0]->name[0] = '\0';
    refused(op, "name is empty");
    SCAN->file[0]->data_start = 301;
    refused(op, "begin at byte 301");
    SCAN->file[0]->size = UINT64_MAX;
    refused(op, "its data begin");
    SCAN->file[0]->blocks = 4;
    refused(op, "4 blocks, not 3");
    SCAN->file[0]->codec = DRAY__CODEC__GZIP;
    refused(op, "3 blocks, not 1");
    SCAN->file[0]->n_field = 2;
    refused(op, "2 field numbers for 3");
    SCAN->file[0]->field[1] = 3;
    refused(op, "field 3 of 3");
    SCAN->starts_quoted[0] = 3;
    refused(op, "starts_quoted");
    SCAN->dialect->has_quote = false;
    refused(op, "quoting is off");
    SCAN->block_size = UINT64_MAX;
    op->step[0]->scan_csv->file[0]->blocks = 1;
    op->step[0]->scan_csv->n_starts_quoted = 0;
    taken(op);
    SCAN->file[0]->data_start = 300; // no data: one empty block
    op->step[0]->scan_csv->file[0]->blocks = 1;
    op->step[0]->scan_csv->n_starts_quoted = 0;
    taken(op);
    SCAN->file[0]->size = INT64_MAX;
    op->step[0]->scan_csv->block_size = ((uint64_t)INT64_MAX - 25) / 0xf0000000 + 1;
    op->step[0]->scan_csv->file[0]->blocks = 0xefffffff;
    refused(op, "blocks");
#undef SCAN
    arena_fini(&a);
}

static void test_expressions(void **state)
{
    (void)state;
    struct arena a;
    Dray__ExprNode *many[1002];

    arena_init(&a, 0);
    taken(one_filter(&a, EXPR(&a, column(&a, 65535))));
    refused(one_filter(&a, EXPR(&a, column(&a, 65536))), "column #65536");
    refused(one_filter(&a, NEW(&a, expr, Dray__Expr)), "0 nodes");
    refused(one_filter(&a, EXPR(&a, node(&a, DRAY__EXPR_KIND__NEG))), "takes 1 operands of 0");
    refused(one_filter(&a, EXPR(&a, column(&a, 0), node(&a, DRAY__EXPR_KIND__ADD))), "takes 2 operands of 1");
    refused(one_filter(&a, EXPR(&a, column(&a, 0), column(&a, 1))), "2 results");
    refused(one_filter(&a, EXPR(&a, node(&a, DRAY__EXPR_KIND__COLUMN))), "no number");
    refused(one_filter(&a, EXPR(&a, node(&a, DRAY__EXPR_KIND__LITERAL))), "no value");
    refused(one_filter(&a, EXPR(&a, column(&a, 0), node(&a, DRAY__EXPR_KIND__CAST))), "no type");
    refused(one_filter(&a, EXPR(&a, node(&a, (Dray__ExprKind)99))), "node 0");

    Dray__ExprNode *two = integer(&a, 1);

    two->literal->has_b = true;
    refused(one_filter(&a, EXPR(&a, two)), "2 values");
    for (int i = 0; i < 1002; i++) {
        many[i] = i == 0 ? column(&a, 0) : node(&a, DRAY__EXPR_KIND__NOT);
    }
    taken(one_filter(&a, expr(&a, 1000, many)));
    refused(one_filter(&a, expr(&a, 1001, many)), "1001 nodes");
    for (int i = 0; i < 130; i++) {
        many[i] = i <= 64 ? column(&a, 0) : node(&a, DRAY__EXPR_KIND__ADD);
    }
    taken(one_filter(&a, expr(&a, 127, many + 1)));
    refused(one_filter(&a, expr(&a, 129, many)), "takes 0 operands of 64");
    arena_fini(&a);
}

static void test_columns_known(void **state)
{
    (void)state;
    struct arena a;
    Dray__Op *op;

    arena_init(&a, 0);
    op = sales(&a);
    op->step[1]->filter->predicate->node[0]->column = 3;
    refused(op, "step 1 (filter) of an operation: node 0 of an expression: an operand is column #3 of 3");
    op = sales(&a);
    op->step[2]->aggregate->aggregate->key[0] = 3;
    refused(op, "a key is column #3");
    op = sales(&a);
    op->step[2]->aggregate->aggregate->agg[0]->column = 3;
    refused(op, "an aggregated column is column #3");
    op->step[2]->aggregate->aggregate->agg[0]->fn = DRAY__AGG_FN__SIZE;
    taken(op);
    op->step[2]->aggregate->stage = DRAY__AGG_STAGE__FINAL; // numbers of the rows that partial saw
    taken(op);

    Dray__Step *sort = NEW(&a, step, Dray__Step);
    Dray__SortKey *key = NEW(&a, sort_key, Dray__SortKey);

    sort->sort = NEW(&a, sort, Dray__Sort);
    sort->sort->n_key = 1;
    sort->sort->key = &key;
    key->column = 2;
    add_step(&a, op, sort);
    refused(op, "step 3 (sort) of an operation: a key is column #2 of 2");
    key->column = 1;
    taken(op);
    sort->sort->n_key = 0;
    refused(op, "0 keys");

    Dray__Step *project = NEW(&a, step, Dray__Step);
    Dray__Named *named = NEW(&a, named, Dray__Named);

    op = sales(&a);
    project->project = NEW(&a, project, Dray__Project);
    project->project->n_column = 1;
    project->project->column = &named;
    named->name = arena_strdup(&a, "z");
    named->expr = EXPR(&a, column(&a, 1), column(&a, 2), node(&a, DRAY__EXPR_KIND__MUL));
    op->step[2] = op->step[1];
    op->step[1] = project;
    refused(op, "step 2 (filter) of an operation: node 0 of an expression: an operand is column #1 of 1");
    op->n_step = 2;
    taken(op);
    assert_string_equal(op_describe(op, &a), "scan_csv(sales.csv, 3 blocks) | project(z = #1 * #2)");
    arena_fini(&a);
}

static void test_aggregate(void **state)
{
    (void)state;
    struct arena a;
    Dray__Op *op;

    arena_init(&a, 0);
#define AGGREGATE (op = sales(&a), op->step[2]->aggregate->aggregate)
    AGGREGATE->n_key_name = 0;
    refused(op, "1 keys with 0 names");
    AGGREGATE->n_key_type = 0;
    refused(op, "and 0 types");
    AGGREGATE->n_agg_type = 0;
    refused(op, "1 aggregations with 0 types");

    Dray__Aggregate *none = AGGREGATE;

    none->n_key = none->n_key_name = none->n_key_type = none->n_agg = none->n_agg_type = 0;
    refused(op, "0 keys and 0 aggregations");
#undef AGGREGATE
    arena_fini(&a);
}

// What each step makes of the columns before it.
static void test_step_columns(void **state)
{
    (void)state;
    struct arena a;
    struct step_columns columns = {.known = true, .count = 3};
    Dray__Head head = DRAY__HEAD__INIT;
    Dray__TakeInputs take = DRAY__TAKE_INPUTS__INIT;
    struct error err = {0};

    arena_init(&a, 0);
    head.rows = (uint64_t)INT64_MAX;
    assert_int_equal(step_check_head(&head, &columns, &err), 0);
    assert_true(columns.known && columns.count == 3);
    head.rows++;
    assert_int_equal(step_check_head(&head, &columns, &err), -EBADMSG);

    Dray__AggregateStep *step = sales(&a)->step[2]->aggregate;

    assert_int_equal(step_check_aggregate(step, &columns, &err), 0);
    assert_false(columns.known); // the columns of a partial state are the kernel's matter
    step->stage = DRAY__AGG_STAGE__COMBINE_FINAL;
    assert_int_equal(step_check_aggregate(step, &columns, &err), 0);
    assert_true(columns.known && columns.count == 2);
    step->aggregate->n_agg = step->aggregate->n_agg_type = TABLE_COLUMNS_MAX / 4;
    assert_int_equal(step_check_aggregate(step, &columns, &err), -EBADMSG);
    assert_int_equal(step_check_take_inputs(&take, &columns, &err), 0);
    assert_false(columns.known);

    Dray__ProbeCsv *probe = NEW(&a, probe_csv, Dray__ProbeCsv);

    probe->dialect = dialect(&a);
    probe->pattern = arena_strdup(&a, "*.csv");
    probe->path = arena_strdup(&a, "/data/*.csv");
    assert_int_equal(step_check_probe_csv(probe, &columns, &err), 0);
    assert_true(columns.bytes);
    probe->sample_bytes = 0;
    assert_int_equal(step_check_probe_csv(probe, &columns, &err), -EBADMSG);
    arena_fini(&a);
}

static void test_describe(void **state)
{
    (void)state;
    struct arena a;
    const struct {
        Dray__ExprKind inner;
        Dray__ExprKind outer;
        bool left;
        const char *text;
    } cases[] = {
        {DRAY__EXPR_KIND__ADD, DRAY__EXPR_KIND__MUL, true, "(#0 + #1) * 7"},
        {DRAY__EXPR_KIND__ADD, DRAY__EXPR_KIND__MUL, false, "7 * (#0 + #1)"},
        {DRAY__EXPR_KIND__MUL, DRAY__EXPR_KIND__ADD, true, "#0 * #1 + 7"},
        {DRAY__EXPR_KIND__SUB, DRAY__EXPR_KIND__SUB, true, "#0 - #1 - 7"},
        {DRAY__EXPR_KIND__SUB, DRAY__EXPR_KIND__SUB, false, "7 - (#0 - #1)"},
        {DRAY__EXPR_KIND__LT, DRAY__EXPR_KIND__AND, true, "(#0 < #1) & 7"},
        {DRAY__EXPR_KIND__AND, DRAY__EXPR_KIND__OR, true, "#0 & #1 | 7"},
        {DRAY__EXPR_KIND__OR, DRAY__EXPR_KIND__AND, true, "(#0 | #1) & 7"},
        {DRAY__EXPR_KIND__FLOORDIV, DRAY__EXPR_KIND__MOD, true, "#0 // #1 % 7"},
    };

    arena_init(&a, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[100];
        Dray__Expr *e = cases[i].left ? EXPR(&a, column(&a, 0), column(&a, 1), node(&a, cases[i].inner),
                                             integer(&a, 7), node(&a, cases[i].outer))
                                      : EXPR(&a, integer(&a, 7), column(&a, 0), column(&a, 1),
                                             node(&a, cases[i].inner), node(&a, cases[i].outer));

        snprintf(expected, sizeof(expected), "take_inputs() | filter(%s)", cases[i].text);
        assert_string_equal(op_describe(one_filter(&a, e), &a), expected);
    }

    Dray__ExprNode *cast = node(&a, DRAY__EXPR_KIND__CAST);
    Dray__ExprNode *text = integer(&a, 0);
    Dray__ExprNode *number = integer(&a, 0);

    cast->has_type = true;
    cast->type = DRAY__TYPE__INT64;
    text->literal->has_i = false;
    text->literal->has_s = true;
    text->literal->s = (ProtobufCBinaryData){.data = (uint8_t *)arena_strdup(&a, "abc"), .len = 3};
    number->literal->has_i = false;
    number->literal->has_f = true;
    number->literal->f = 0.1;
    assert_string_equal(
        op_describe(one_filter(&a, EXPR(&a, text, column(&a, 0), cast, node(&a, DRAY__EXPR_KIND__IS_NULL),
                                        node(&a, DRAY__EXPR_KIND__NE), node(&a, DRAY__EXPR_KIND__NOT), number,
                                        node(&a, DRAY__EXPR_KIND__XOR))),
                    &a),
        "take_inputs() | filter(~(\"abc\" != isna(INT64(#0))) ^ 0.1)");

    // However large it is, its description is short.
    Dray__Op *op = sales(&a);

    for (int i = 0; i < 200; i++) {
        add_step(&a, op, op->step[1]);
    }
    assert_true(strlen(op_describe(op, &a)) < 5000);
    arena_fini(&a);
}

// Damaged operations are refused, or are sound ones all the same.
static void test_damage(void **state)
{
    (void)state;
    struct arena a;
    uint8_t packed[1024];
    size_t size;
    int accepted = 0;

    arena_init(&a, 0);
    size = dray__op__pack(sales(&a), packed);
    for (uint64_t seed = 0; seed < 50000; seed++) {
        uint64_t r = seed;
        uint8_t damaged[1024];
        const Dray__Op *op = NULL;
        struct error err = {0};

        memcpy(damaged, packed, size);

        size_t n = random_damage(&r, damaged, size);
        uint8_t *exact = malloc(n);
        int rc;

        memcpy(exact, damaged, n);
        arena_reset(&a);
        rc = op_decode(exact, n, &a, &op, &err);
        if (rc == 0) {
            accepted++;
            assert_int_equal(op_check(op, &err), 0);
            assert_non_null(op_describe(op, &a));
        } else {
            assert_int_equal(rc, -EBADMSG);
            assert_true(err.text[0] != '\0');
            assert_null(op);
        }
        free(exact);
    }
    assert_true(accepted > 100);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),        cmocka_unit_test(test_step_order),
        cmocka_unit_test(test_scan),          cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_columns_known), cmocka_unit_test(test_aggregate),
        cmocka_unit_test(test_step_columns),  cmocka_unit_test(test_describe),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
