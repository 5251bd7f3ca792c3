// Columns of a table: looked up, chosen, put together, filtered.
#include <errno.h>
#include <string.h>

#include "client/plan/bind.h"

int bind_frame(struct binder *b, const struct node *node, uint32_t index, struct place at,
               const struct value **out)
{
    struct value *v = bind_value(b, VALUE_FRAME, at);

    if (node == NULL || v == NULL) {
        return bind_no_memory(b);
    }
    if (node->depth > NODE_DEPTH_MAX) {
        return bind_fail(b, at, "more than %u steps on one table", NODE_DEPTH_MAX);
    }
    if (node->columns > TABLE_COLUMNS_MAX) {
        return bind_fail(b, at, "more than %u columns", TABLE_COLUMNS_MAX);
    }
    v->frame = (struct frame){node, index};
    *out = v;
    return 0;
}

int bind_series(struct binder *b, const struct node *node, uint32_t index, const struct expr *expr,
                const char *name, struct place at, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_SERIES, at);

    if (node == NULL || expr == NULL || v == NULL) {
        return bind_no_memory(b);
    }
    v->series = (struct series){node, index, expr, name};
    *out = v;
    return 0;
}

int bind_column_of(struct binder *b, const struct frame *frame, const char *name, struct place at,
                   const struct value **out)
{
    uint32_t column;
    int rc = bind_column(b, frame->node, frame->index, name, at, &column);

    if (rc < 0) {
        return rc;
    }
    const struct field *field = &frame->node->field[column];

    return bind_series(b, frame->node, frame->index, expr_column(b->arena, column, field->type), field->name,
                       at, out);
}

int bind_name(struct binder *b, const struct value *value, const char **out)
{
    if (value->kind == VALUE_STRING) {
        *out = value->text;
        return 0;
    }
    if (value->kind == VALUE_INT) {
        // Columns of a file without a header are called 0, 1, 2.
        *out = arena_printf(b->arena, "%lld", (long long)value->i);
        return *out == NULL ? bind_no_memory(b) : 0;
    }
    return bind_fail(b, value->at, "a column's name is a text, this is %s", value_words(value));
}

int bind_names(struct binder *b, const struct value *value, const char *const **out, const struct place **at,
               uint32_t *count)
{
    bool many = value->kind == VALUE_LIST || value->kind == VALUE_TUPLE;
    uint32_t n = many ? value->items : 1;
    const char **names = arena_array(b->arena, n, sizeof(*names));
    struct place *places = arena_array(b->arena, n, sizeof(*places));

    if (names == NULL || places == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct value *one = many ? value->item[i] : value;
        int rc = bind_name(b, one, &names[i]);

        if (rc < 0) {
            return rc;
        }
        places[i] = one->at;
    }
    *out = names;
    *at = places;
    *count = n;
    return 0;
}

// ---- selections ------------------------------------------------------------------------

int selection_add(struct binder *b, struct selection *s, const struct expr *expr, const char *name)
{
    if (s->count == s->room) {
        uint32_t room = s->room == 0 ? 16 : s->room * 2;
        const struct expr **exprs = arena_array(b->arena, room, sizeof(*exprs));
        const char **names = arena_array(b->arena, room, sizeof(*names));

        if (exprs == NULL || names == NULL) {
            return bind_no_memory(b);
        }
        if (s->count > 0) {
            memcpy(exprs, s->expr, s->count * sizeof(*exprs));
            memcpy(names, s->name, s->count * sizeof(*names));
        }
        s->expr = exprs;
        s->name = names;
        s->room = room;
    }
    if (expr == NULL) {
        return bind_no_memory(b);
    }
    s->expr[s->count] = expr;
    s->name[s->count++] = name;
    return 0;
}

int selection_start(struct binder *b, const struct node *node, uint32_t first, uint32_t count,
                    struct selection *out)
{
    int rc = 0;

    *out = (struct selection){.node = node};
    for (uint32_t i = first; i < first + count && rc == 0; i++) {
        rc = selection_add(b, out, expr_column(b->arena, i, node->field[i].type), node->field[i].name);
    }
    return rc;
}

int bind_over_rows(struct binder *b, const struct node *node, const struct expr **expr, struct place at)
{
    while (*expr != NULL && node->kind == NODE_PROJECT) {
        const struct expr *below = expr_substitute(b->arena, *expr, node->project.expr);

        if (below == NULL) {
            return bind_fail(b, at, "this combines columns whose expressions have become too long");
        }
        *expr = below;
        node = node->input;
    }
    return 0;
}

int selection_add_foreign(struct binder *b, struct selection *s, const struct node *node,
                          const struct expr *expr, const char *name, struct place at)
{
    int rc = 0;

    if (s->node == node) {
        return selection_add(b, s, expr, name);
    }
    if (node_rows(s->node) != node_rows(node)) {
        return bind_fail(
            b, at,
            "these columns come from tables with different rows: filter and sort the table first, then "
            "take its columns");
    }
    for (uint32_t i = 0; i < s->count && rc == 0; i++) {
        rc = bind_over_rows(b, s->node, &s->expr[i], at);
    }
    if (rc == 0) {
        rc = bind_over_rows(b, node, &expr, at);
    }
    s->node = node_rows(s->node);
    return rc < 0 ? rc : selection_add(b, s, expr, name);
}

int selection_node(struct binder *b, const struct selection *s, const struct node **out)
{
    const struct node *node = node_project(b->arena, s->node, s->expr, s->name, s->count);

    if (node == NULL) {
        return bind_no_memory(b);
    }
    *out = node;
    return 0;
}

// ---- [ ] -----------------------------------------------------------------------------------

static int choose(struct binder *b, const struct frame *frame, const struct value *key,
                  const struct value **out)
{
    const char *const *name;
    const struct place *at;
    const struct node *node = NULL;
    struct selection s;
    uint32_t count;
    int rc = bind_names(b, key, &name, &at, &count);

    if (rc == 0) {
        rc = selection_start(b, frame->node, 0, frame->index, &s);
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        uint32_t column;

        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(name[k], name[i]) == 0) {
                return bind_fail(b, at[i], "column '%s' is named twice", name[i]);
            }
        }
        rc = bind_column(b, frame->node, frame->index, name[i], at[i], &column);
        if (rc == 0) {
            const struct field *field = &frame->node->field[column];

            rc = selection_add(b, &s, expr_column(b->arena, column, field->type), field->name);
        }
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, frame->index, key->at, out);
}

// A condition over `node`, never missing.
static int as_condition(struct binder *b, const struct expr *expr, struct place at, const struct expr **out)
{
    expr = expr_condition(b->arena, expr);
    if (expr != NULL && expr->type != TYPE_BOOL) {
        return bind_fail(b, at, "rows are chosen by a condition such as df.x > 5, these are %s values",
                         type_name(expr->type));
    }
    *out = expr;
    return expr == NULL ? bind_no_memory(b) : 0;
}

// Rows of `node` (its columns up to `columns` are kept) where the mask is true.
static int filter(struct binder *b, const struct node *node, const struct series *mask, struct place at,
                  const struct node **out)
{
    const struct expr *predicate;
    uint32_t columns = node->columns;
    struct selection s;
    int rc;

    if (mask->node == node) {
        rc = as_condition(b, mask->expr, at, &predicate);
        if (rc == 0) {
            *out = node_filter(b->arena, node, predicate);
            rc = *out == NULL ? bind_no_memory(b) : 0;
        }
        return rc;
    }
    // The mask was made from another state of the table: compute it beside the columns, filter, drop it.
    rc = selection_start(b, node, 0, columns, &s);
    if (rc == 0) {
        rc = selection_add_foreign(b, &s, mask->node, mask->expr, "mask", at);
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    if (rc < 0) {
        return rc;
    }
    const struct expr *column = expr_column(b->arena, columns, mask->expr->type);

    rc = column == NULL ? bind_no_memory(b) : as_condition(b, column, at, &predicate);
    if (rc < 0) {
        return rc;
    }
    node = node_filter(b->arena, node, predicate);
    rc = node == NULL ? bind_no_memory(b) : selection_start(b, node, 0, columns, &s);
    return rc < 0 ? rc : selection_node(b, &s, out);
}

static int filter_series(struct binder *b, const struct value *column, const struct series *mask,
                         struct place at, const struct value **out)
{
    const struct series *x = &column->series;
    const struct node *node = NULL;
    struct selection s;
    uint32_t last = x->index;
    int rc;

    if (x->node == mask->node) {
        rc = filter(b, x->node, mask, at, &node);
        return rc < 0 ? rc : bind_series(b, node, x->index, x->expr, x->name, at, out);
    }
    rc = selection_start(b, x->node, 0, x->index, &s);
    if (rc == 0) {
        rc = selection_add(b, &s, x->expr, x->name == NULL ? "0" : x->name);
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    if (rc == 0) {
        rc = filter(b, node, mask, at, &node);
    }
    return rc < 0
               ? rc
               : bind_series(b, node, x->index, expr_column(b->arena, last, x->expr->type), x->name, at, out);
}

static int choose_groups(struct binder *b, const struct value *self, const struct value *key,
                         const struct value **out)
{
    const struct groups *g = &self->groups;
    const char *const *name;
    const struct place *at;
    uint32_t count;
    struct value *v = bind_value(b, VALUE_GROUPS, key->at);
    int rc = bind_names(b, key, &name, &at, &count);
    uint32_t *column = rc < 0 ? NULL : arena_array(b->arena, count, sizeof(*column));

    if (rc < 0) {
        return rc;
    }
    if (v == NULL || column == NULL) {
        return bind_no_memory(b);
    }
    if (g->chosen) {
        return bind_fail(b, key->at, "the columns of this groupby are chosen already");
    }
    for (uint32_t i = 0; i < count; i++) {
        rc = bind_column(b, g->node, 0, name[i], at[i], &column[i]);
        if (rc < 0) {
            return rc;
        }
    }
    v->groups = *g;
    v->groups.column = column;
    v->groups.columns = count;
    v->groups.chosen = true;
    v->groups.single = key->kind != VALUE_LIST && key->kind != VALUE_TUPLE;
    *out = v;
    return 0;
}

int bind_subscript(struct binder *b, const struct value *table, const struct value *key, struct place at,
                   const struct value **out)
{
    const struct node *node = NULL;
    const char *name;
    int rc;

    switch (table->kind) {
    case VALUE_FRAME:
        if (key->kind == VALUE_SERIES) {
            rc = filter(b, table->frame.node, &key->series, at, &node);
            return rc < 0 ? rc : bind_frame(b, node, table->frame.index, at, out);
        }
        if (key->kind == VALUE_LIST) {
            return choose(b, &table->frame, key, out);
        }
        if (key->kind == VALUE_TUPLE) {
            return bind_fail(b, key->at, "several columns are named in a list: df[[\"a\", \"b\"]]");
        }
        rc = bind_name(b, key, &name);
        return rc < 0 ? rc : bind_column_of(b, &table->frame, name, key->at, out);
    case VALUE_SERIES:
        if (key->kind == VALUE_SERIES) {
            return filter_series(b, table, &key->series, at, out);
        }
        return bind_fail(b, key->at,
                         "a column takes a condition in [ ]: single rows by number are not there yet");
    case VALUE_GROUPS:
        return choose_groups(b, table, key, out);
    case VALUE_METHOD:
        return bind_fail(b, table->at, "this is a method, and takes ( ) and not [ ]");
    default:
        return bind_fail(b, at, "%s has no [ ]", value_words(table));
    }
}
