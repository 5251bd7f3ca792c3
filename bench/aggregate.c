// The groupby kernel alone: batches that lie in the cache, as a scan hands them over, pushed
// into filter and aggregation.  Nanoseconds of processor time a row: least and median of the rounds.
#include "bench/bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/kernel/step.h"

enum { RING = 8, ROUNDS = 11, COLUMNS = 6 };

// category (6 strings), price, quantity 1..4, and integers of growing range
struct data {
    uint32_t category[RING][BATCH_ROWS];
    double price[RING][BATCH_ROWS];
    int64_t quantity[RING][BATCH_ROWS];
    int64_t thousand[RING][BATCH_ROWS];
    int64_t wide[RING][BATCH_ROWS];
    int64_t many[RING][BATCH_ROWS];
};

static const char *names[COLUMNS] = {"category", "price", "quantity", "thousand", "wide", "many"};
static enum type types[COLUMNS] = {TYPE_STRING, TYPE_FLOAT64, TYPE_INT64, TYPE_INT64, TYPE_INT64, TYPE_INT64};

struct job {
    const char *name;
    uint32_t keys;
    uint32_t key[2];
    uint32_t aggs;
    struct {
        Dray__AggFn fn;
        uint32_t column;
    } agg[5];
    bool filter;
};

static const struct job jobs[] = {
    {"mean by category", 1, {0}, 1, {{DRAY__AGG_FN__MEAN, 1}}, false},
    {"mean, no key", 0, {0}, 1, {{DRAY__AGG_FN__MEAN, 1}}, false},
    {"var by category", 1, {0}, 1, {{DRAY__AGG_FN__VAR, 1}}, false},
    {"min by category", 1, {0}, 1, {{DRAY__AGG_FN__MIN, 1}}, false},
    {"4 aggs by category, quantity",
     2,
     {0, 2},
     4,
     {{DRAY__AGG_FN__MEAN, 1}, {DRAY__AGG_FN__MAX, 1}, {DRAY__AGG_FN__SUM, 2}, {DRAY__AGG_FN__SIZE, 0}},
     false},
    {"the same behind a filter of 1/2",
     2,
     {0, 2},
     4,
     {{DRAY__AGG_FN__MEAN, 1}, {DRAY__AGG_FN__MAX, 1}, {DRAY__AGG_FN__SUM, 2}, {DRAY__AGG_FN__SIZE, 0}},
     true},
    {"mean by 1,000 integers", 1, {3}, 1, {{DRAY__AGG_FN__MEAN, 1}}, false},
    {"mean by 1,000 wide integers", 1, {4}, 1, {{DRAY__AGG_FN__MEAN, 1}}, false},
    {"mean by 262,144 integers", 1, {5}, 1, {{DRAY__AGG_FN__MEAN, 1}}, false},
};

static double seconds(void)
{
    struct timespec t;

    // Of this thread: what else runs on the machine counts less.
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static void fill(struct data *d)
{
    uint64_t state = 42;

    for (uint32_t b = 0; b < RING; b++) {
        for (uint32_t i = 0; i < BATCH_ROWS; i++) {
            d->category[b][i] = (uint32_t)(next(&state) % 6);
            d->price[b][i] = 10.0 + (double)(next(&state) >> 11) * 0x1p-53 * 990.0;
            d->quantity[b][i] = 1 + (int64_t)(next(&state) % 4);
            d->thousand[b][i] = (int64_t)(next(&state) % 1000);
            d->wide[b][i] = (int64_t)(next(&state) % 1000 * 1000003);
            d->many[b][i] = (int64_t)(next(&state) % 262144 * 1000003);
        }
    }
}

// Swallows the groups.
static int sink_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    (void)stage;
    (void)batch;
    (void)err;
    return 0;
}
static const struct stage_class sink_class = {.name = "sink", .push = sink_push};

static void filter_message(struct arena *arena, Dray__Step *step)
{
    Dray__Expr *e = arena_alloc(arena, sizeof(*e));

    step->filter = arena_alloc(arena, sizeof(*step->filter));
    dray__filter__init(step->filter);
    dray__expr__init(e);
    e->n_node = 3;
    e->node = arena_array(arena, 3, sizeof(*e->node));
    for (int i = 0; i < 3; i++) {
        e->node[i] = arena_alloc(arena, sizeof(*e->node[i]));
        dray__expr_node__init(e->node[i]);
    }
    e->node[0]->kind = DRAY__EXPR_KIND__COLUMN;
    e->node[0]->has_column = 1;
    e->node[0]->column = 1;
    e->node[1]->kind = DRAY__EXPR_KIND__LITERAL;
    e->node[1]->literal = arena_alloc(arena, sizeof(Dray__Literal));
    dray__literal__init(e->node[1]->literal);
    e->node[1]->literal->has_f = 1;
    e->node[1]->literal->f = 505.0;
    e->node[2]->kind = DRAY__EXPR_KIND__GT;
    step->filter->predicate = e;
}

static void aggregate_message(struct arena *arena, Dray__Step *step, const struct job *job)
{
    Dray__Aggregate *a = arena_alloc(arena, sizeof(*a));

    step->aggregate = arena_alloc(arena, sizeof(*step->aggregate));
    dray__aggregate_step__init(step->aggregate);
    dray__aggregate__init(a);
    step->aggregate->stage = DRAY__AGG_STAGE__PARTIAL;
    step->aggregate->aggregate = a;
    a->n_key = job->keys;
    a->key = arena_array(arena, job->keys, sizeof(*a->key));
    a->n_agg = job->aggs;
    a->agg = arena_array(arena, job->aggs, sizeof(*a->agg));
    for (uint32_t k = 0; k < job->keys; k++) {
        a->key[k] = job->key[k];
    }
    for (uint32_t i = 0; i < job->aggs; i++) {
        a->agg[i] = arena_alloc(arena, sizeof(*a->agg[i]));
        dray__agg__init(a->agg[i]);
        a->agg[i]->fn = job->agg[i].fn;
        a->agg[i]->column = job->agg[i].column;
        a->agg[i]->name = arena_strdup(arena, "x");
    }
}

static struct stage *open_stage(struct arena *arena, struct kernel_env *env, enum step_kind kind,
                                const Dray__Step *step, const struct schema *in, struct error *err)
{
    const struct stage_class *class = step_class(kind)->stage;
    struct stage *stage = arena_zalloc(arena, class->size);

    stage->class = class;
    stage->env = env;
    stage->arena = arena;
    return class->open(stage, step, in, err) == 0 ? stage : NULL;
}

static int push_all(struct stage *first, const struct data *d, uint32_t batches, struct error *err)
{
    static const struct string_view entry[6] = {{"Books", 5},     {"Clothing", 8},    {"Electronics", 11},
                                                {"Groceries", 9}, {"Home Goods", 10}, {"Toys", 4}};
    static const struct dictionary dictionary = {entry, 6};

    for (uint32_t i = 0; i < batches; i++) {
        uint32_t b = i % RING;
        struct vector column[COLUMNS] = {
            {.type = TYPE_DICT, .values = d->category[b], .dictionary = &dictionary},
            {.type = TYPE_FLOAT64, .values = d->price[b]},
            {.type = TYPE_INT64, .values = d->quantity[b]},
            {.type = TYPE_INT64, .values = d->thousand[b]},
            {.type = TYPE_INT64, .values = d->wide[b]},
            {.type = TYPE_INT64, .values = d->many[b]},
        };
        struct batch batch = {
            .rows = BATCH_ROWS, .columns = COLUMNS, .column = column, .selected = BATCH_ROWS};
        int rc = stage_push(first, &batch, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

// Nanoseconds a row, negative when it failed.
static double run(const struct job *job, const struct data *d, uint32_t batches, struct error *err)
{
    struct schema schema = {COLUMNS, names, types};
    struct stage sink = {.class = &sink_class};
    struct arena arena;
    struct kernel_env env = {0};
    Dray__Step steps[2];
    struct stage *aggregate;
    struct stage *first;
    double start;
    double end = -1;

    arena_init(&arena, 0);
    dray__step__init(&steps[0]);
    dray__step__init(&steps[1]);
    aggregate_message(&arena, &steps[1], job);
    first = aggregate = open_stage(&arena, &env, STEP_AGGREGATE, &steps[1], &schema, err);
    if (aggregate == NULL) {
        goto out;
    }
    aggregate->next = &sink;
    if (job->filter) {
        filter_message(&arena, &steps[0]);
        first = open_stage(&arena, &env, STEP_FILTER, &steps[0], &schema, err);
        if (first == NULL) {
            goto out;
        }
        first->next = aggregate;
    }
    start = seconds();
    if (push_all(first, d, batches, err) == 0 && aggregate->class->finish(aggregate, err) == 0) {
        end = (seconds() - start) * 1e9 / ((double)batches * BATCH_ROWS);
    }
out:
    if (aggregate != NULL) {
        aggregate->class->close(aggregate);
    }
    arena_fini(&arena);
    return end;
}

int bench_aggregate(int argc, char **argv)
{
    uint32_t batches = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) / BATCH_ROWS : 2048;
    size_t only = argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX;
    struct data *d = malloc(sizeof(*d));
    int code = 1;

    if (d == NULL || batches == 0) {
        fputs("usage: dray-bench aggregate [ROWS [JOB]]\n", stderr);
        goto out;
    }
    fill(d);
    printf("%-36s %10s %10s\n", "job, ns a row", "least", "median");
    for (size_t j = 0; j < sizeof(jobs) / sizeof(jobs[0]); j++) {
        double round[ROUNDS];

        if (only != SIZE_MAX && only != j) {
            continue;
        }
        for (int i = 0; i < ROUNDS; i++) {
            struct error err = {0};

            round[i] = run(&jobs[j], d, batches, &err);
            if (round[i] < 0) {
                fprintf(stderr, "dray-bench: %s: %s\n", jobs[j].name, err.text);
                goto out;
            }
        }
        qsort(round, ROUNDS, sizeof(round[0]), compare);
        printf("%-36s %10.2f %10.2f\n", jobs[j].name, round[0], round[ROUNDS / 2]);
    }
    code = 0;
out:
    free(d);
    return code;
}
