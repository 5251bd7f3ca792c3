// What a table can do.
#include <string.h>

#include "client/plan/method_frame_aggregate.h"

static const struct field *columns_of(const struct frame *f, uint32_t *count)
{
    *count = f->node->columns - f->index;
    return f->node->field + f->index;
}

// ---- as it is -----------------------------------------------------------------------

static int same(struct binder *b, const struct call *call, const struct value **out)
{
    (void)b;
    *out = call->self;
    return 0;
}

static int run_columns(struct binder *b, const struct call *call, const struct value **out)
{
    uint32_t count;
    const struct field *field = columns_of(&call->self->frame, &count);
    const struct value **item = arena_array(b->arena, count, sizeof(*item));
    struct value *list = bind_value(b, VALUE_LIST, call->at);

    if (item == NULL || list == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct value *name = bind_value(b, VALUE_STRING, call->at);

        if (name == NULL) {
            return bind_no_memory(b);
        }
        name->text = field[i].name;
        name->size = (uint32_t)strlen(name->text);
        item[i] = name;
    }
    list->item = item;
    list->items = count;
    *out = list;
    return 0;
}

static int run_dtypes(struct binder *b, const struct call *call, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_DTYPES, call->at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->frame = call->self->frame;
    *out = v;
    return 0;
}

static int count_rows(struct binder *b, const struct node *node, struct place at, const struct value **out)
{
    const struct reduction size = {DRAY__AGG_FN__SIZE, NULL};

    return bind_scalars(b, node, &size, 1, NULL, at, out);
}

static int run_shape(struct binder *b, const struct call *call, const struct value **out)
{
    struct value *tuple = bind_value(b, VALUE_TUPLE, call->at);
    struct value *width = bind_value(b, VALUE_INT, call->at);
    const struct value **item = arena_array(b->arena, 2, sizeof(*item));
    const struct frame *f = &call->self->frame;
    int rc;

    if (tuple == NULL || width == NULL || item == NULL) {
        return bind_no_memory(b);
    }
    rc = count_rows(b, f->node, call->at, &item[0]);
    if (rc < 0) {
        return rc;
    }
    width->i = f->node->columns - f->index;
    item[1] = width;
    tuple->item = item;
    tuple->items = 2;
    *out = tuple;
    return 0;
}

// ---- columns ------------------------------------------------------------------------------

static int as_expr(struct binder *b, const struct value *v, const struct node *home, const struct node **node,
                   const struct expr **expr)
{
    if (v->kind == VALUE_SERIES) {
        *node = v->series.node;
        *expr = v->series.expr;
        return 0;
    }
    *node = home;
    return bind_literal(b, v, expr);
}

static int run_assign(struct binder *b, const struct call *call, const struct value **out)
{
    const struct value *self = call->self;
    int rc = 0;

    if (call->extras == 0) {
        *out = self;
        return 0;
    }
    for (uint32_t i = 0; i < call->extras && rc == 0; i++) {
        const char *name = call->extra_name[i];
        const struct frame *f = &self->frame;
        uint32_t place = node_find(f->node, f->index, name);
        const struct node *node;
        const struct expr *expr;
        struct selection s;

        rc = as_expr(b, call->extra[i], f->node, &node, &expr);
        if (rc == 0) {
            rc = selection_start(b, f->node, 0, f->node->columns, &s);
        }
        if (rc == 0) {
            rc = selection_add_foreign(b, &s, node, expr, name, call->extra[i]->at);
        }
        if (rc == 0 && place != UINT32_MAX) {
            s.expr[place] = s.expr[--s.count];
        }
        if (rc == 0) {
            rc = selection_node(b, &s, &node);
        }
        if (rc == 0) {
            rc = bind_frame(b, node, f->index, call->at, &self);
        }
    }
    *out = self;
    return rc;
}

static bool is_columns_axis(const struct value *axis)
{
    return axis != NULL && ((axis->kind == VALUE_INT && axis->i == 1) ||
                            (axis->kind == VALUE_STRING && strcmp(axis->text, "columns") == 0));
}

enum { RENAME_MAPPER, RENAME_AXIS, RENAME_COLUMNS };

static int run_rename(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct value *map = call->arg[RENAME_COLUMNS];
    const struct node *node;
    struct selection s;
    int rc = selection_start(b, f->node, 0, f->node->columns, &s);

    if (map == NULL && is_columns_axis(call->arg[RENAME_AXIS])) {
        map = call->arg[RENAME_MAPPER];
    }
    if (map == NULL) {
        return bind_fail(b, call->at, "rename() needs columns={\"old\": \"new\"}");
    }
    for (uint32_t i = 0; rc == 0 && i < map->items; i += 2) {
        const char *old;
        const char *new;
        uint32_t column;

        rc = bind_name(b, map->item[i], &old);
        if (rc == 0) {
            rc = bind_name(b, map->item[i + 1], &new);
        }
        // pandas passes over names that are not there; a misspelt one is worth a word.
        if (rc == 0) {
            rc = bind_column(b, f->node, f->index, old, map->item[i]->at, &column);
        }
        if (rc == 0) {
            s.name[column] = new;
        }
    }
    for (uint32_t i = f->index; rc == 0 && i < s.count && s.count < 4096; i++) {
        for (uint32_t k = f->index; k < i; k++) {
            if (strcmp(s.name[i], s.name[k]) == 0) {
                return bind_fail(b, map->at, "two columns would be called '%s'", s.name[i]);
            }
        }
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, f->index, call->at, out);
}

enum { DROP_LABELS, DROP_AXIS, DROP_COLUMNS };

static int run_drop(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct value *axis = call->arg[DROP_AXIS];
    const struct value *which = call->arg[DROP_COLUMNS];
    const char *const *name;
    const struct place *at;
    const struct node *node;
    struct selection s;
    uint32_t count;
    int rc;

    if (which == NULL && call->arg[DROP_LABELS] != NULL) {
        which = call->arg[DROP_LABELS];
        if (!is_columns_axis(axis)) {
            return bind_fail(b, which->at,
                             "dropping rows by label is not there: for columns write "
                             "drop(columns=[...]) or axis=1");
        }
    }
    if (which == NULL) {
        return bind_fail(b, call->at, "drop() needs columns=[...]");
    }
    rc = bind_names(b, which, &name, &at, &count);
    bool *gone = arena_zalloc(b->arena, f->node->columns + 1);

    if (rc < 0) {
        return rc;
    }
    if (gone == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t column;

        rc = bind_column(b, f->node, f->index, name[i], at[i], &column);
        if (rc < 0) {
            return rc;
        }
        gone[column] = true;
    }
    s = (struct selection){.node = f->node};
    for (uint32_t i = 0; i < f->node->columns && rc == 0; i++) {
        if (!gone[i]) {
            rc = selection_add(b, &s, expr_column(b->arena, i, f->node->field[i].type),
                               f->node->field[i].name);
        }
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, f->index, call->at, out);
}

static int cast(struct binder *b, const struct expr *expr, const struct value *to, const struct expr **out)
{
    enum type type = to->kind == VALUE_TYPE ? to->type : TYPE_INT64;

    if (to->kind == VALUE_STRING && !bind_type_name(to->text, &type)) {
        return bind_fail(b, to->at, "there is no type '%s': int64, float64, str, bool, category", to->text);
    }
    if (to->kind != VALUE_STRING && to->kind != VALUE_TYPE) {
        return bind_fail(b, to->at, "a type is written \"float64\" or float, this is %s", value_words(to));
    }
    *out = expr_cast(b->arena, expr, type);
    return *out == NULL ? bind_no_memory(b) : 0;
}

static int run_astype(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct value *to = call->arg[0];
    const struct node *node;
    struct selection s;
    int rc;

    if (call->self->kind == VALUE_SERIES) {
        const struct series *x = &call->self->series;
        const struct expr *expr;

        rc = cast(b, x->expr, to, &expr);
        return rc < 0 ? rc : bind_series(b, x->node, x->index, expr, x->name, call->at, out);
    }
    rc = selection_start(b, f->node, 0, f->node->columns, &s);
    if (to->kind != VALUE_DICT) {
        for (uint32_t i = f->index; i < s.count && rc == 0; i++) {
            rc = cast(b, s.expr[i], to, &s.expr[i]);
        }
    }
    for (uint32_t i = 0; to->kind == VALUE_DICT && i < to->items && rc == 0; i += 2) {
        const char *name;
        uint32_t column;

        rc = bind_name(b, to->item[i], &name);
        if (rc == 0) {
            rc = bind_column(b, f->node, f->index, name, to->item[i]->at, &column);
        }
        if (rc == 0) {
            rc = cast(b, s.expr[column], to->item[i + 1], &s.expr[column]);
        }
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, f->index, call->at, out);
}

// ---- rows -----------------------------------------------------------------------------------

static int row_count(struct binder *b, const struct value *v, uint64_t otherwise, uint64_t *out)
{
    if (v != NULL && v->i < 0) {
        return bind_fail(b, v->at, "counting from the end is not there yet: a number from 0");
    }
    *out = v == NULL ? otherwise : (uint64_t)v->i;
    return 0;
}

static int run_head(struct binder *b, const struct call *call, const struct value **out)
{
    const struct value *self = call->self;
    uint64_t rows = 0;
    int rc = row_count(b, call->arg[0], 5, &rows);

    if (rc < 0) {
        return rc;
    }
    if (self->kind == VALUE_FRAME) {
        return bind_frame(b, node_head(b->arena, self->frame.node, rows), self->frame.index, call->at, out);
    }
    const struct series *s = &self->series;

    return bind_series(b, node_head(b->arena, s->node, rows), s->index, s->expr, s->name, call->at, out);
}

static int sort_keys(struct binder *b, const struct frame *f, const struct value *by,
                     const struct value *ascending, bool nulls_first, struct sort_key **out, uint32_t *count)
{
    const char *const *name;
    const struct place *at;
    int rc = bind_names(b, by, &name, &at, count);
    struct sort_key *key = rc < 0 ? NULL : arena_array(b->arena, *count, sizeof(*key));
    bool many = ascending != NULL && ascending->kind == VALUE_LIST;

    if (rc < 0) {
        return rc;
    }
    if (key == NULL) {
        return bind_no_memory(b);
    }
    if (*count == 0) {
        return bind_fail(b, by->at, "an empty list: at least one column");
    }
    if (ascending != NULL && !many && ascending->kind != VALUE_BOOL) {
        return bind_fail(b, ascending->at, "'ascending' takes True, False or a list of them");
    }
    if (many && ascending->items != *count) {
        return bind_fail(b, ascending->at, "%u columns and %u directions", *count, ascending->items);
    }
    for (uint32_t i = 0; i < *count; i++) {
        const struct value *up = many ? ascending->item[i] : ascending;
        uint32_t column = node_find(f->node, 0, name[i]);

        if (up != NULL && up->kind != VALUE_BOOL) {
            return bind_fail(b, up->at, "'ascending' takes True, False or a list of them");
        }
        if (column == UINT32_MAX || column >= f->index) {
            rc = bind_column(b, f->node, f->index, name[i], at[i], &column);
            if (rc < 0) {
                return rc;
            }
        }
        key[i] = (struct sort_key){column, up != NULL && !up->boolean, nulls_first};
    }
    *out = key;
    return 0;
}

enum { SORT_BY, SORT_ASCENDING, SORT_NA_POSITION };

static int nulls_first(struct binder *b, const struct value *v, bool *out)
{
    *out = v != NULL && strcmp(v->text, "first") == 0;
    return v == NULL || *out || strcmp(v->text, "last") == 0
               ? 0
               : bind_fail(b, v->at, "'na_position' takes \"first\" or \"last\"");
}

static int run_sort_values(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    struct sort_key *key;
    uint32_t keys;
    bool first;
    int rc = nulls_first(b, call->arg[SORT_NA_POSITION], &first);

    if (rc == 0) {
        rc = sort_keys(b, f, call->arg[SORT_BY], call->arg[SORT_ASCENDING], first, &key, &keys);
    }
    return rc < 0 ? rc : bind_frame(b, node_sort(b->arena, f->node, key, keys, 0), f->index, call->at, out);
}

static int run_nlargest(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    const struct node *node;
    struct sort_key *key;
    uint32_t keys;
    uint64_t rows = 0;
    int rc = row_count(b, call->arg[0], 0, &rows);

    if (rc == 0) {
        rc = sort_keys(b, f, call->arg[1], NULL, false, &key, &keys);
    }
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < keys; i++) {
        key[i].descending = call->method->detail != 0;
        if (f->node->field[key[i].column].type == TYPE_STRING) {
            return bind_fail(b, call->arg[1]->at,
                             "%s() takes columns of numbers: sort_values(...).head(n) sorts text",
                             call->method->name);
        }
    }
    node = node_sort(b->arena, f->node, key, keys, 0);
    return bind_frame(b, node == NULL ? NULL : node_head(b->arena, node, rows), f->index, call->at, out);
}

static int run_sort_index(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    struct sort_key *key = arena_array(b->arena, f->index, sizeof(*key));
    bool down = call->arg[0] != NULL && !call->arg[0]->boolean;

    if (key == NULL) {
        return bind_no_memory(b);
    }
    if (f->index == 0) {
        return bind_fail(b, call->at, "the rows of this table are numbered: there is no index to sort by");
    }
    for (uint32_t i = 0; i < f->index; i++) {
        key[i] = (struct sort_key){i, down, false};
    }
    return bind_frame(b, node_sort(b->arena, f->node, key, f->index, 0), f->index, call->at, out);
}

// ---- the index --------------------------------------------------------------------------------

static int run_reset_index(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    bool drop = call->arg[0] != NULL && call->arg[0]->boolean;
    const struct node *node;
    struct selection s;
    int rc;

    if (!drop) {
        for (uint32_t i = 0; i < f->index; i++) {
            if (node_find(f->node, f->index, f->node->field[i].name) != UINT32_MAX) {
                return bind_fail(b, call->at,
                                 "there is a column '%s' already: reset_index(drop=True), or rename it",
                                 f->node->field[i].name);
            }
        }
        return bind_frame(b, f->node, 0, call->at, out);
    }
    rc = selection_start(b, f->node, f->index, f->node->columns - f->index, &s);
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, 0, call->at, out);
}

static int run_set_index(struct binder *b, const struct call *call, const struct value **out)
{
    const struct frame *f = &call->self->frame;
    bool *taken = arena_zalloc(b->arena, f->node->columns + 1);
    struct selection s = {.node = f->node};
    const char *const *name;
    const struct place *at;
    const struct node *node;
    uint32_t count;
    int rc = bind_names(b, call->arg[0], &name, &at, &count);

    if (taken == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        uint32_t column;

        rc = bind_column(b, f->node, f->index, name[i], at[i], &column);
        if (rc == 0) {
            taken[column] = true;
            rc = selection_add(b, &s, expr_column(b->arena, column, f->node->field[column].type), name[i]);
        }
    }
    for (uint32_t i = f->index; rc == 0 && i < f->node->columns; i++) {
        if (!taken[i]) {
            rc = selection_add(b, &s, expr_column(b->arena, i, f->node->field[i].type),
                               f->node->field[i].name);
        }
    }
    if (rc == 0) {
        rc = selection_node(b, &s, &node);
    }
    return rc < 0 ? rc : bind_frame(b, node, count, call->at, out);
}

// ---- the table ---------------------------------------------------------------------------------------

static const struct parameter no_parameters[] = {{0}};
static const struct parameter ignore_all[] = {{"scheduler", TAKES_NOTHING, NULL, false},
                                              {"num_workers", TAKES_NOTHING, NULL, false},
                                              {"npartitions", TAKES_NOTHING, NULL, false},
                                              {"deep", TAKES_NOTHING, NULL, false},
                                              {0}};
static const struct parameter head_parameters[] = {{"n", TAKES_INT, NULL, false},
                                                   {"npartitions", TAKES_NOTHING, NULL, false},
                                                   {"compute", TAKES_NOTHING, NULL, false},
                                                   {0}};
static const struct parameter sort_parameters[] = {{"by", TAKES_NAMES, NULL, true},
                                                   {"ascending", TAKES_ANY, NULL, false},
                                                   {"na_position", TAKES_STRING, NULL, false},
                                                   {"axis", TAKES_ONLY, "0", false},
                                                   {"inplace", TAKES_ONLY, "False", false},
                                                   {"kind", TAKES_NOTHING, NULL, false},
                                                   {"ignore_index", TAKES_BOOL, NULL, false},
                                                   {0}};
static const struct parameter sort_index_parameters[] = {{"ascending", TAKES_BOOL, NULL, false}, {0}};
static const struct parameter nlargest_parameters[] = {{"n", TAKES_INT, NULL, true},
                                                       {"columns", TAKES_NAMES, NULL, true},
                                                       {"keep", TAKES_ONLY, "first", false},
                                                       {0}};
static const struct parameter rename_parameters[] = {{"mapper", TAKES_DICT, NULL, false},
                                                     {"axis", TAKES_ANY, NULL, false},
                                                     {"columns", TAKES_DICT, NULL, false},
                                                     {"inplace", TAKES_ONLY, "False", false},
                                                     {"errors", TAKES_NOTHING, NULL, false},
                                                     {"copy", TAKES_NOTHING, NULL, false},
                                                     {0}};
static const struct parameter drop_parameters[] = {
    {"labels", TAKES_NAMES, NULL, false},   {"axis", TAKES_ANY, NULL, false},
    {"columns", TAKES_NAMES, NULL, false},  {"inplace", TAKES_ONLY, "False", false},
    {"errors", TAKES_ONLY, "raise", false}, {0}};
static const struct parameter reset_parameters[] = {
    {"drop", TAKES_BOOL, NULL, false}, {"inplace", TAKES_ONLY, "False", false}, {0}};
static const struct parameter set_index_parameters[] = {{"keys", TAKES_NAMES, NULL, true},
                                                        {"drop", TAKES_ONLY, "True", false},
                                                        {"inplace", TAKES_ONLY, "False", false},
                                                        {0}};
static const struct parameter astype_parameters[] = {
    {"dtype", TAKES_ANY, NULL, true}, {"copy", TAKES_NOTHING, NULL, false}, {0}};
static const struct parameter aggregate_parameters[] = {
    {"numeric_only", TAKES_ANY, NULL, false}, {"axis", TAKES_ONLY, "0", false},
    {"skipna", TAKES_ONLY, "True", false},    {"ddof", TAKES_ONLY, "1", false},
    {"min_count", TAKES_ONLY, "0", false},    {0}};
static const struct parameter agg_parameters[] = {
    {"func", TAKES_ANY, NULL, true}, {"axis", TAKES_ONLY, "0", false}, {0}};
static const struct parameter groupby_parameters[] = {{"by", TAKES_ANY, NULL, true},
                                                      {"as_index", TAKES_BOOL, NULL, false},
                                                      {"sort", TAKES_BOOL, NULL, false},
                                                      {"dropna", TAKES_ONLY, "True", false},
                                                      {"observed", TAKES_NOTHING, NULL, false},
                                                      {"axis", TAKES_ONLY, "0", false},
                                                      {"level", TAKES_ONLY, "None", false},
                                                      {"group_keys", TAKES_NOTHING, NULL, false},
                                                      {0}};

#define REDUCTION(NAME, FN)                                                                                  \
    {                                                                                                        \
        ON_FRAME, NAME, false, false, frame_reduce, (int)DRAY__AGG_FN__##FN, aggregate_parameters, NULL      \
    }
static const struct method methods[] = {
    {ON_FRAME | ON_SERIES | ON_SCALARS, "compute", false, false, same, 0, ignore_all, NULL},
    {ON_FRAME | ON_SERIES | ON_SCALARS, "persist", false, false, same, 0, ignore_all, NULL},
    {ON_FRAME | ON_SERIES, "copy", false, false, same, 0, ignore_all, NULL},
    {ON_FRAME | ON_SERIES, "repartition", false, false, same, 0, ignore_all, NULL},
    {ON_FRAME, "columns", true, false, run_columns, 0, NULL, NULL},
    {ON_FRAME, "dtypes", true, false, run_dtypes, 0, NULL, NULL},
    {ON_FRAME, "shape", true, false, run_shape, 0, NULL, NULL},
    {ON_FRAME, "assign", false, true, run_assign, 0, no_parameters, NULL},
    {ON_FRAME, "rename", false, false, run_rename, 0, rename_parameters, NULL},
    {ON_FRAME, "drop", false, false, run_drop, 0, drop_parameters, NULL},
    {ON_FRAME | ON_SERIES, "astype", false, false, run_astype, 0, astype_parameters, NULL},
    {ON_FRAME | ON_SERIES, "head", false, false, run_head, 0, head_parameters, NULL},
    {ON_FRAME, "sort_values", false, false, run_sort_values, 0, sort_parameters, NULL},
    {ON_FRAME, "sort_index", false, false, run_sort_index, 0, sort_index_parameters, NULL},
    {ON_FRAME, "nlargest", false, false, run_nlargest, 1, nlargest_parameters, NULL},
    {ON_FRAME, "nsmallest", false, false, run_nlargest, 0, nlargest_parameters, NULL},
    {ON_FRAME, "reset_index", false, false, run_reset_index, 0, reset_parameters, NULL},
    {ON_FRAME, "set_index", false, false, run_set_index, 0, set_index_parameters, NULL},
    {ON_FRAME, "groupby", false, false, frame_groupby, 0, groupby_parameters, NULL},
    {ON_FRAME, "agg", false, false, frame_agg, 0, agg_parameters, NULL},
    {ON_FRAME, "aggregate", false, false, frame_agg, 0, agg_parameters, NULL},
    REDUCTION("sum", SUM),
    REDUCTION("mean", MEAN),
    REDUCTION("count", COUNT),
    REDUCTION("min", MIN),
    REDUCTION("max", MAX),
    REDUCTION("std", STD),
    REDUCTION("var", VAR),
};

const struct method_table frame_methods = {methods, sizeof(methods) / sizeof(methods[0])};
