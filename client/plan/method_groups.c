// What a groupby can do.
#include <string.h>

#include "client/plan/method.h"

// Results under construction: one reduction and one name a column.
struct results {
    struct reduction *reduction;
    const char **name; // of the keys, then of the reductions
    uint32_t count, room;
    uint32_t keys;
};

static int results_start(struct binder *b, const struct groups *g, struct results *r)
{
    *r = (struct results){.room = 8, .keys = g->keys};
    r->reduction = arena_array(b->arena, r->room, sizeof(*r->reduction));
    r->name = arena_array(b->arena, (size_t)r->room + g->keys, sizeof(*r->name));
    if (r->reduction == NULL || r->name == NULL) {
        return bind_no_memory(b);
    }
    memcpy(r->name, g->key_name, g->keys * sizeof(*r->name));
    return 0;
}

static int results_add(struct binder *b, const struct groups *g, struct results *r, Dray__AggFn fn,
                       uint32_t column, const char *name, struct place at)
{
    const struct field *field = &g->node->field[column];
    const struct expr *expr = expr_column(b->arena, column, field->type);
    int rc = expr == NULL ? bind_no_memory(b) : bind_argument(b, fn, expr, field->name, at, &expr);

    if (rc < 0) {
        return rc;
    }
    if (r->count == r->room) {
        struct reduction *grown = arena_array(b->arena, (size_t)r->room * 2, sizeof(*grown));
        const char **names = arena_array(b->arena, (size_t)r->room * 2 + r->keys, sizeof(*names));

        if (grown == NULL || names == NULL) {
            return bind_no_memory(b);
        }
        memcpy(grown, r->reduction, r->count * sizeof(*grown));
        memcpy(names, r->name, (r->keys + r->count) * sizeof(*names));
        r->reduction = grown;
        r->name = names;
        r->room *= 2;
    }
    r->reduction[r->count] = (struct reduction){fn, expr};
    r->name[r->keys + r->count++] = name;
    return 0;
}

// A series when there is one unnamed-list result of one column, else a table.
static int results_value(struct binder *b, const struct groups *g, const struct results *r, bool series,
                         const char *name, struct place at, const struct value **out)
{
    const struct node *node;
    int rc = bind_aggregate(b, g->node, g->key, g->keys, r->reduction, r->count, r->name, &node);

    if (rc < 0) {
        return rc;
    }
    if (series && g->as_index) {
        const struct expr *expr = expr_column(b->arena, g->keys, node->field[g->keys].type);

        return bind_series(b, node, g->keys, expr, name, at, out);
    }
    if (!g->as_index) {
        for (uint32_t i = 0; i < g->keys; i++) {
            if (node_find(node, g->keys, node->field[i].name) != UINT32_MAX) {
                return bind_fail(b, at,
                                 "a key and a result would both be called '%s': leave out as_index=False",
                                 node->field[i].name);
            }
        }
    }
    return bind_frame(b, node, g->as_index ? g->keys : 0, at, out);
}

static int run_reduction(struct binder *b, const struct call *call, const struct value **out)
{
    const struct groups *g = &call->self->groups;
    const struct value *numeric = call->arg[0];
    bool numbers = numeric != NULL && numeric->kind == VALUE_BOOL && numeric->boolean;
    Dray__AggFn fn = (Dray__AggFn)call->method->detail;
    struct results r;
    int rc = results_start(b, g, &r);

    for (uint32_t i = 0; i < g->columns && rc == 0; i++) {
        const struct field *field = &g->node->field[g->column[i]];

        if (!g->chosen && field->type == TYPE_STRING && (numbers || aggregate_type(fn, field->type) == 0)) {
            if (numbers) {
                continue;
            }
            return bind_fail(b, call->at,
                             "column '%s' is text: choose columns with [...], or write %s(numeric_only=True)",
                             field->name, call->method->name);
        }
        rc = results_add(b, g, &r, fn, g->column[i], field->name, call->at);
    }
    if (rc == 0 && r.count == 0) {
        return bind_fail(b, call->at,
                         "there is no column beside the keys to aggregate: size() counts the rows");
    }
    return rc < 0 ? rc
                  : results_value(b, g, &r, g->single, g->single ? r.name[g->keys] : NULL, call->at, out);
}

static int run_size(struct binder *b, const struct call *call, const struct value **out)
{
    const struct groups *g = &call->self->groups;
    const struct reduction size = {DRAY__AGG_FN__SIZE, NULL};
    const char **name = arena_array(b->arena, (size_t)g->keys + 1, sizeof(*name));

    if (name == NULL) {
        return bind_no_memory(b);
    }
    memcpy(name, g->key_name, g->keys * sizeof(*name));
    name[g->keys] = g->as_index ? "0" : "size";

    struct results r = {(struct reduction *)(uintptr_t)&size, name, 1, 1, g->keys};
    const char *series_name = g->single ? g->node->field[g->column[0]].name : NULL;

    return results_value(b, g, &r, true, series_name, call->at, out);
}

// One item of agg: column and fn, called `name`.
static int add_named(struct binder *b, const struct groups *g, struct results *r, uint32_t column,
                     const struct value *fn_value, const char *name)
{
    Dray__AggFn fn;
    int rc = bind_agg_name(b, fn_value, &fn);

    return rc < 0 ? rc : results_add(b, g, r, fn, column, name, fn_value->at);
}

// "mean" -> mean; ["mean", "max"] -> price_mean, price_max (or mean, max of one column).
static int add_column(struct binder *b, const struct groups *g, struct results *r, uint32_t column,
                      const struct value *what, bool two_levels)
{
    bool many = what->kind == VALUE_LIST || what->kind == VALUE_TUPLE;
    const char *label = g->node->field[column].name;
    int rc = 0;

    for (uint32_t i = 0; i < (many ? what->items : 1) && rc == 0; i++) {
        const struct value *one = many ? what->item[i] : what;
        const char *name = label;

        if (one->kind != VALUE_STRING) {
            return bind_fail(b, one->at, "an aggregation is named by a text such as \"mean\", this is %s",
                             value_words(one));
        }
        if (two_levels) {
            name = g->single ? one->text : arena_printf(b->arena, "%s_%s", label, one->text);
        }
        if (name == NULL) {
            return bind_no_memory(b);
        }
        rc = add_named(b, g, r, column, one, name);
    }
    return rc;
}

// agg(total=("price", "sum")), and agg(low="min") of one column.
static int add_keywords(struct binder *b, const struct groups *g, struct results *r, const struct call *call)
{
    int rc = 0;

    for (uint32_t i = 0; i < call->extras && rc == 0; i++) {
        const struct value *v = call->extra[i];
        uint32_t column;

        if (g->single) {
            rc = add_named(b, g, r, g->column[0], v, call->extra_name[i]);
            continue;
        }
        if (v->kind != VALUE_TUPLE || v->items != 2 || v->item[0]->kind != VALUE_STRING) {
            return bind_fail(b, v->at, "a named aggregation is written %s=(\"column\", \"mean\")",
                             call->extra_name[i]);
        }
        rc = bind_column(b, g->node, 0, v->item[0]->text, v->item[0]->at, &column);
        if (rc == 0) {
            rc = add_named(b, g, r, column, v->item[1], call->extra_name[i]);
        }
    }
    return rc;
}

static int add_dict(struct binder *b, const struct groups *g, struct results *r, const struct value *what)
{
    bool two_levels = false;
    int rc = 0;

    for (uint32_t i = 1; i < what->items; i += 2) {
        two_levels |= what->item[i]->kind == VALUE_LIST || what->item[i]->kind == VALUE_TUPLE;
    }
    for (uint32_t i = 0; i < what->items && rc == 0; i += 2) {
        const char *name;
        uint32_t column;

        rc = bind_name(b, what->item[i], &name);
        if (rc == 0) {
            rc = bind_column(b, g->node, 0, name, what->item[i]->at, &column);
        }
        if (rc == 0) {
            rc = add_column(b, g, r, column, what->item[i + 1], two_levels);
        }
    }
    return rc;
}

static int run_agg(struct binder *b, const struct call *call, const struct value **out)
{
    const struct groups *g = &call->self->groups;
    const struct value *what = call->arg[0];
    bool series = false;
    struct results r;
    int rc = results_start(b, g, &r);

    if (rc == 0 && what == NULL) {
        rc = add_keywords(b, g, &r, call);
    } else if (rc == 0 && what->kind == VALUE_DICT) {
        if (g->single) {
            return bind_fail(b, what->at, "one column is chosen: agg(\"mean\") or agg([\"mean\", \"max\"])");
        }
        rc = add_dict(b, g, &r, what);
    } else if (rc == 0) {
        bool many = what->kind == VALUE_LIST || what->kind == VALUE_TUPLE;

        if (what->kind == VALUE_STRING && strcmp(what->text, "size") == 0) {
            return run_size(b, call, out);
        }
        series = g->single && !many;
        for (uint32_t i = 0; i < g->columns && rc == 0; i++) {
            rc = add_column(b, g, &r, g->column[i], what, many);
        }
    }
    if (rc == 0 && r.count == 0) {
        return bind_fail(b, call->at,
                         "agg() needs aggregations, such as agg({\"price\": \"mean\"}) or "
                         "agg(total=(\"price\", \"sum\"))");
    }
    for (uint32_t i = 0; rc == 0 && i < r.count && r.count < 4096; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(r.name[r.keys + i], r.name[r.keys + k]) == 0) {
                return bind_fail(b, call->at, "two results would be called '%s'", r.name[r.keys + i]);
            }
        }
    }
    return rc < 0 ? rc : results_value(b, g, &r, series, series ? r.name[g->keys] : NULL, call->at, out);
}

static const struct parameter no_parameters[] = {{0}};
static const struct parameter reduction_parameters[] = {
    {"numeric_only", TAKES_ANY, NULL, false},    {"ddof", TAKES_ONLY, "1", false},
    {"min_count", TAKES_ONLY, "0", false},       {"split_out", TAKES_NOTHING, NULL, false},
    {"split_every", TAKES_NOTHING, NULL, false}, {0}};
static const struct parameter agg_parameters[] = {{"func", TAKES_ANY, NULL, false}, {0}};

#define BOTH (ON_GROUPS | ON_COLUMN_GROUPS)
#define REDUCTION(NAME, FN)                                                                                  \
    {                                                                                                        \
        BOTH, NAME, false, false, run_reduction, (int)DRAY__AGG_FN__##FN, reduction_parameters, NULL         \
    }

static const struct method methods[] = {
    REDUCTION("sum", SUM),
    REDUCTION("mean", MEAN),
    REDUCTION("count", COUNT),
    REDUCTION("min", MIN),
    REDUCTION("max", MAX),
    REDUCTION("std", STD),
    REDUCTION("var", VAR),
    REDUCTION("first", FIRST),
    REDUCTION("last", LAST),
    {BOTH, "size", false, false, run_size, 0, no_parameters, NULL},
    {BOTH, "agg", false, true, run_agg, 0, agg_parameters, NULL},
    {BOTH, "aggregate", false, true, run_agg, 0, agg_parameters, NULL},
};

const struct method_table group_methods = {methods, sizeof(methods) / sizeof(methods[0])};
