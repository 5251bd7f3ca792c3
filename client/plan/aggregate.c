// Aggregations: of whole tables and of groups.
#include <string.h>

#include "client/lang/spell.h"
#include "client/plan/bind.h"

int bind_argument(struct binder *b, Dray__AggFn fn, const struct expr *expr, const char *name,
                  struct place at, const struct expr **out)
{
    if (fn == DRAY__AGG_FN__SIZE) {
        *out = NULL;
        return 0;
    }
    if (aggregate_type(fn, expr->type) == 0) {
        return bind_fail(b, at, "%s cannot be taken of %s%s%s: it is text", aggregate_name(fn),
                         name == NULL ? "this" : "'", name == NULL ? "" : name, name == NULL ? "" : "'");
    }
    if (expr->type == TYPE_BOOL) {
        switch (fn) {
        case DRAY__AGG_FN__SUM:
            expr = expr_cast(b->arena, expr, TYPE_INT64);
            break;
        case DRAY__AGG_FN__MEAN:
        case DRAY__AGG_FN__STD:
        case DRAY__AGG_FN__VAR:
            expr = expr_cast(b->arena, expr, TYPE_FLOAT64);
            break;
        default:
            break;
        }
    }
    *out = expr;
    return expr == NULL ? bind_no_memory(b) : 0;
}

int bind_scalars(struct binder *b, const struct node *node, const struct reduction *reduction, uint32_t count,
                 const char *const *name, struct place at, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_SCALARS, at);
    const struct expr **expr = arena_array(b->arena, count, sizeof(*expr));
    struct reduction *copy = arena_array(b->arena, count, sizeof(*copy));

    if (v == NULL || expr == NULL || copy == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < count; i++) {
        enum type type = aggregate_type(
            reduction[i].fn, reduction[i].argument == NULL ? TYPE_INT64 : reduction[i].argument->type);

        copy[i] = reduction[i];
        expr[i] = expr_column(b->arena, i, type);
        if (expr[i] == NULL) {
            return bind_no_memory(b);
        }
    }
    v->scalars = (struct scalars){
        .node = node, .reduction = copy, .reductions = count, .expr = expr, .name = name, .count = count};
    *out = v;
    return 0;
}

// The place of an expression among a selection's columns, added when it is not there.
static int place_of(struct binder *b, struct selection *s, const struct expr *expr, const char *name,
                    uint32_t *place)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (expr_equal(s->expr[i], expr)) {
            *place = i;
            return 0;
        }
    }
    *place = s->count;
    return selection_add(b, s, expr, name);
}

int bind_aggregate(struct binder *b, const struct node *node, const struct expr *const *key, uint32_t keys,
                   const struct reduction *reduction, uint32_t count, const char *const *name,
                   const struct node **out)
{
    struct selection s = {.node = node};
    uint32_t *key_column = arena_array(b->arena, keys, sizeof(*key_column));
    struct aggregate *agg = arena_array(b->arena, count, sizeof(*agg));
    bool plain = true;
    uint32_t column;
    int rc = 0;

    if (key_column == NULL || agg == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < keys; i++) {
        plain = plain && expr_is_column(key[i], &key_column[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        agg[i] = (struct aggregate){reduction[i].fn, 0};
        plain =
            plain && (reduction[i].argument == NULL || expr_is_column(reduction[i].argument, &agg[i].column));
    }
    for (uint32_t i = 0; i < keys && !plain && rc == 0; i++) {
        const char *label = expr_is_column(key[i], &column) ? node->field[column].name : name[i];

        rc = place_of(b, &s, key[i], label, &key_column[i]);
    }
    for (uint32_t i = 0; i < count && !plain && rc == 0; i++) {
        if (reduction[i].argument != NULL) {
            const char *label =
                expr_is_column(reduction[i].argument, &column) ? node->field[column].name : name[keys + i];

            rc = place_of(b, &s, reduction[i].argument, label, &agg[i].column);
        }
    }
    if (rc == 0 && !plain) {
        rc = selection_node(b, &s, &node);
    }
    if (rc < 0) {
        return rc;
    }
    *out = node_aggregate(b->arena, node, key_column, keys, agg, count, name);
    return *out == NULL ? bind_no_memory(b) : 0;
}

int bind_agg_name(struct binder *b, const struct value *v, Dray__AggFn *out)
{
    struct spell spell = {.word = v->kind == VALUE_STRING ? v->text : ""};

    if (v->kind != VALUE_STRING) {
        return bind_fail(b, v->at, "an aggregation is named by a text such as \"mean\", this is %s",
                         value_words(v));
    }
    for (int fn = DRAY__AGG_FN__SUM; fn <= (int)DRAY__AGG_FN__LAST; fn++) {
        const char *name = aggregate_name((Dray__AggFn)fn);

        if (strcmp(name, v->text) == 0) {
            *out = (Dray__AggFn)fn;
            return 0;
        }
        spell_try(&spell, name);
    }
    return bind_fail(b, v->at, "there is no aggregation '%s' here; the nearest that there is: '%s'", v->text,
                     spell.best);
}

bool bind_type_name(const char *name, enum type *out)
{
    static const struct {
        const char *name;
        enum type type;
    } names[] = {
        {"int64", TYPE_INT64},
        {"int", TYPE_INT64},
        {"int32", TYPE_INT64},
        {"Int64", TYPE_INT64},
        {"float64", TYPE_FLOAT64},
        {"float", TYPE_FLOAT64},
        {"float32", TYPE_FLOAT64},
        {"str", TYPE_STRING},
        {"string", TYPE_STRING},
        {"object", TYPE_STRING},
        {"O", TYPE_STRING},
        {"bool", TYPE_BOOL},
        {"boolean", TYPE_BOOL},
        {"category", TYPE_DICT},
        {"int16", TYPE_INT64},
        {"int8", TYPE_INT64},
        {"bool_", TYPE_BOOL},
        {"str_", TYPE_STRING},
        {"object_", TYPE_STRING},
        {"double", TYPE_FLOAT64},
        {"i8", TYPE_INT64},
        {"f8", TYPE_FLOAT64},
        {"string[pyarrow]", TYPE_STRING},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].type;
            return true;
        }
    }
    return false;
}
