// Whole tables aggregated, and grouped.
#include "client/plan/method_frame_aggregate.h"

#include <string.h>

static const struct field *columns_of(const struct frame *f, uint32_t *count)
{
    *count = f->node->columns - f->index;
    return f->node->field + f->index;
}

static bool can_be_taken(Dray__AggFn fn, enum type type)
{
    return aggregate_type(fn, type) != 0;
}

enum { AGGREGATE_NUMERIC_ONLY };

int frame_reduce(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct value *numeric = call->arg[AGGREGATE_NUMERIC_ONLY];
    bool numbers = numeric != NULL && numeric->kind == VALUE_BOOL && numeric->boolean;
    Dray__AggFn fn = (Dray__AggFn)call->method->detail;
    uint32_t count;
    const struct field *field = columns_of(f, &count);
    struct reduction *list = arena_array(b->arena, count, sizeof(*list));
    const char **name = arena_array(b->arena, count, sizeof(*name));
    uint32_t used = 0;

    if (list == NULL || name == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct expr *expr = expr_column(b->arena, f->index + i, field[i].type);

        if (expr == NULL) {
            return bind_no_memory(b);
        }
        if (numbers && field[i].type == TYPE_STRING) {
            continue;
        }
        if (!can_be_taken(fn, field[i].type)) {
            return bind_fail(b, call->at,
                             "column '%s' is text: %s(numeric_only=True) leaves such columns out",
                             field[i].name, call->method->name);
        }
        int rc = bind_argument(b, fn, expr, field[i].name, call->at, &expr);

        if (rc < 0) {
            return rc;
        }
        list[used] = (struct reduction){fn, expr};
        name[used++] = field[i].name;
    }
    if (used == 0) {
        return bind_fail(b, call->at, "there is no column of numbers");
    }
    return bind_scalars(b, f->node, list, used, name, call->at, out);
}

int frame_agg(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct value *what = call->arg[0];
    uint32_t count = what->kind == VALUE_DICT ? what->items / 2 : 0;
    struct reduction *list = arena_array(b->arena, count, sizeof(*list));
    const char **name = arena_array(b->arena, count, sizeof(*name));

    if (what->kind == VALUE_STRING) {
        Dray__AggFn fn;
        int rc = bind_agg_name(b, what, &fn);
        const struct method *method = rc < 0 ? NULL : method_find(ON_FRAME, what->text);

        if (rc == 0 && (method == NULL || method->run == NULL)) {
            return bind_fail(b, what->at, "'%s' of a whole table is not there", what->text);
        }
        struct call inner = {.method = method, .self = call->self, .at = call->at};

        return rc < 0 ? rc : method->run(b, &inner, out);
    }
    if (what->kind != VALUE_DICT) {
        return bind_fail(b, what->at, "agg() of a whole table takes a name or a dict of column: name");
    }
    if (list == NULL || name == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct value *key = what->item[2 * i];
        const struct expr *expr;
        uint32_t column;
        Dray__AggFn fn;
        int rc = bind_name(b, key, &name[i]);

        if (rc == 0) {
            rc = bind_column(b, f->node, f->index, name[i], key->at, &column);
        }
        if (rc == 0) {
            rc = bind_agg_name(b, what->item[2 * i + 1], &fn);
        }
        if (rc < 0) {
            return rc;
        }
        expr = expr_column(b->arena, column, f->node->field[column].type);
        if (expr == NULL) {
            return bind_no_memory(b);
        }
        rc = bind_argument(b, fn, expr, name[i], what->item[2 * i + 1]->at, &expr);
        if (rc < 0) {
            return rc;
        }
        list[i] = (struct reduction){fn, expr};
    }
    if (count == 0) {
        return bind_fail(b, what->at, "an empty dict: at least one column");
    }
    return bind_scalars(b, f->node, list, count, name, call->at, out);
}

int frame_groupby(struct binder *b, const struct call *call, const struct value **out)
{
    enum { BY, AS_INDEX, SORT, DROPNA };
    const struct frame *f = &call->self->frame;
    const struct value *by = call->arg[BY];
    bool many = by->kind == VALUE_LIST || by->kind == VALUE_TUPLE;
    uint32_t keys = many ? by->items : 1;
    uint32_t columns = f->node->columns;
    struct value *v = bind_value(b, VALUE_GROUPS, call->at);
    const char **name = arena_array(b->arena, keys, sizeof(*name));
    const struct expr **expr = arena_array(b->arena, keys, sizeof(*expr));
    uint32_t *rest = arena_array(b->arena, columns, sizeof(*rest));
    bool *is_key = arena_zalloc(b->arena, columns + 1);
    struct selection s;
    int rc = selection_start(b, f->node, 0, columns, &s);

    if (v == NULL || name == NULL || expr == NULL || rest == NULL || is_key == NULL) {
        return bind_no_memory(b);
    }
    if (keys == 0) {
        return bind_fail(b, by->at, "an empty list: groupby needs at least one key");
    }
    for (uint32_t i = 0; rc == 0 && i < keys; i++) {
        const struct value *key = many ? by->item[i] : by;
        uint32_t column;

        if (key->kind == VALUE_SERIES) {
            name[i] = key->series.name == NULL ? "" : key->series.name;
            if (key->series.node == f->node) {
                expr[i] = key->series.expr;
                continue;
            }
            rc = selection_add_foreign(b, &s, key->series.node, key->series.expr, name[i], key->at);
            expr[i] = rc < 0 ? NULL : expr_column(b->arena, s.count - 1, key->series.expr->type);
            continue;
        }
        rc = bind_name(b, key, &name[i]);
        if (rc == 0) {
            rc = bind_column(b, f->node, 0, name[i], key->at, &column);
        }
        if (rc == 0) {
            is_key[column] = true;
            expr[i] = expr_column(b->arena, column, f->node->field[column].type);
        }
    }
    if (rc < 0) {
        return rc;
    }
    v->groups.node = f->node;
    if (s.count > columns || s.node != f->node) {
        rc = selection_node(b, &s, &v->groups.node);
        if (rc < 0) {
            return rc;
        }
    }
    for (uint32_t i = f->index; i < columns; i++) {
        if (!is_key[i]) {
            rest[v->groups.columns++] = i;
        }
    }
    v->groups.key = expr;
    v->groups.key_name = name;
    v->groups.keys = keys;
    v->groups.column = rest;
    v->groups.as_index = call->arg[AS_INDEX] == NULL || call->arg[AS_INDEX]->boolean;
    *out = v;
    return 0;
}
