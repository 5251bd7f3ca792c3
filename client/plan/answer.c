#include "client/plan/answer.h"

#include <errno.h>
#include <string.h>

#include "proto/number.h"

// ---- making ------------------------------------------------------------------------------

static int answer_frame(const struct frame *f, struct answer *out)
{
    out->plan = f->node;
    out->shape.kind = SHAPE_FRAME;
    out->shape.index_columns = f->index;
    return 0;
}

static int answer_series(struct binder *b, const struct series *s, struct answer *out)
{
    struct selection sel;
    int rc = selection_start(b, s->node, 0, s->index, &sel);

    if (rc == 0) {
        rc = selection_add(b, &sel, s->expr, s->name == NULL ? "0" : s->name);
    }
    if (rc == 0) {
        rc = selection_node(b, &sel, &out->plan);
    }
    out->shape.kind = SHAPE_SERIES;
    out->shape.index_columns = s->index;
    out->shape.series_name = s->name;
    return rc;
}

// The reductions of all rows, then the expressions over them: one row.
static int scalars_plan(struct binder *b, const struct scalars *s, const struct node **out)
{
    const char **name = arena_array(b->arena, (size_t)s->reductions + s->count, sizeof(*name));
    const struct node *node;
    int rc;

    if (name == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < s->reductions; i++) {
        name[i] = i < s->count && s->name != NULL ? s->name[i]
                  : s->reductions == 1            ? "value"
                                                  : arena_printf(b->arena, "value%u", i);
        if (name[i] == NULL) {
            return bind_no_memory(b);
        }
    }
    rc = bind_aggregate(b, s->node, NULL, 0, s->reduction, s->reductions, name, &node);
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        name[i] = s->name != NULL ? s->name[i] : "value";
    }
    *out = node_project(b->arena, node, s->expr, name, s->count);
    return *out == NULL ? bind_no_memory(b) : 0;
}

static bool is_number(enum type type)
{
    return type == TYPE_INT64 || type == TYPE_FLOAT64;
}

// Values of types that have no other in common than text are printed as what they are all the same.
static int note_row_types(struct binder *b, const struct scalars *s, struct shape *shape)
{
    enum type *type = arena_array(b->arena, s->count, sizeof(*type));
    bool is_mixed = false;

    if (type == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        type[i] =
            s->expr[i]->type == TYPE_DICT || s->expr[i]->type == TYPE_ANY ? TYPE_STRING : s->expr[i]->type;
        is_mixed |= type[i] != type[0] && !(is_number(type[i]) && is_number(type[0]));
    }
    shape->row_type = is_mixed ? type : NULL;
    return 0;
}

static int answer_scalars(struct binder *b, const struct scalars *s, struct answer *out)
{
    int rc = scalars_plan(b, s, &out->plan);

    if (rc < 0 || s->name == NULL) {
        out->shape.kind = SHAPE_SCALAR;
        return rc;
    }
    out->shape.kind = SHAPE_SERIES;
    out->shape.index_columns = 1;
    out->shape.index_is_names = true;
    out->shape.series_name = s->title;
    out->across = true;
    out->cells = s->count;
    out->cell = arena_zalloc(b->arena, s->count * sizeof(*out->cell));
    if (out->cell == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        out->cell[i].column = i;
        out->cell[i].name = s->name[i];
    }
    return note_row_types(b, s, &out->shape);
}

// Lists and tuples: literals and single values computed from one table.
static int answer_list(struct binder *b, const struct value *list, struct answer *out)
{
    struct scalars all = {0};
    uint32_t reductions = 0;
    uint32_t values = 0;

    for (uint32_t i = 0; i < list->items; i++) {
        const struct value *item = list->item[i];

        if (item->kind == VALUE_SCALARS && item->scalars.name == NULL) {
            if (all.node != NULL && all.node != item->scalars.node) {
                return bind_fail(b, item->at, "values of different tables in one list are not there yet");
            }
            all.node = item->scalars.node;
            reductions += item->scalars.reductions;
            values++;
        } else if (!value_is_literal(item)) {
            return bind_fail(b, item->at,
                             "%s in a list cannot be printed: the last line should be one of them",
                             value_words(item));
        }
    }
    struct reduction *reduction = arena_array(b->arena, reductions, sizeof(*reduction));
    const struct expr **expr = arena_array(b->arena, values, sizeof(*expr));

    out->cell = arena_zalloc(b->arena, (list->items + (size_t)1) * sizeof(*out->cell));
    if (reduction == NULL || expr == NULL || out->cell == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < list->items; i++) {
        const struct scalars *s = &list->item[i]->scalars;

        if (list->item[i]->kind != VALUE_SCALARS) {
            out->cell[i].literal = list->item[i];
            continue;
        }
        const struct expr **with = arena_array(b->arena, s->reductions, sizeof(*with));

        for (uint32_t k = 0; k < s->reductions && with != NULL; k++) {
            const struct reduction *r = &s->reduction[k];

            with[k] =
                expr_column(b->arena, all.reductions + k,
                            aggregate_type(r->fn, r->argument == NULL ? TYPE_INT64 : r->argument->type));
            reduction[all.reductions + k] = *r;
        }
        expr[all.count] = with == NULL ? NULL : expr_substitute(b->arena, s->expr[0], with);
        if (expr[all.count] == NULL) {
            return bind_no_memory(b);
        }
        out->cell[i].column = all.count++;
        all.reductions += s->reductions;
    }
    out->shape.kind = list->kind == VALUE_TUPLE ? SHAPE_TUPLE : SHAPE_LIST;
    out->cells = list->items;
    all.reduction = reduction;
    all.expr = expr;
    if (values == 0) {
        return 0;
    }
    out->across = true;
    return scalars_plan(b, &all, &out->plan);
}

int answer_create(struct binder *b, const struct value *value, struct answer *out)
{
    memset(out, 0, sizeof(*out));
    switch (value->kind) {
    case VALUE_FRAME:
        return answer_frame(&value->frame, out);
    case VALUE_SERIES:
        return answer_series(b, &value->series, out);
    case VALUE_SCALARS:
        return answer_scalars(b, &value->scalars, out);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return answer_list(b, value, out);
    case VALUE_DTYPES:
        out->shape = (struct shape){
            .kind = SHAPE_SERIES, .index_columns = 1, .dtype = "object", .index_is_names = true};
        out->dtypes = &value->frame;
        return 0;
    case VALUE_GROUPS:
        return bind_fail(b, value->at,
                         "a groupby needs an aggregation behind it: .mean(), .size(), .agg(...)");
    case VALUE_METHOD:
        return bind_fail(b, value->at, "a method without its call: put () behind it");
    case VALUE_NONE:
        out->shape.kind = SHAPE_NONE;
        return 0;
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
    case VALUE_STRING:
        out->shape.kind = SHAPE_SCALAR;
        out->cells = 1;
        out->cell = arena_zalloc(b->arena, sizeof(*out->cell));
        if (out->cell == NULL) {
            return bind_no_memory(b);
        }
        out->cell[0].literal = value;
        return 0;
    default:
        return bind_fail(b, value->at,
                         "%s cannot be printed: the last line should be a table, a column or a value",
                         value_words(value));
    }
}

// ---- tables --------------------------------------------------------------------------------

static enum type cell_type(const struct cell *cell, const struct table *row)
{
    if (cell->literal == NULL) {
        enum type type = row->column[cell->column].type;

        return type == TYPE_DICT ? TYPE_STRING : type;
    }
    switch (cell->literal->kind) {
    case VALUE_BOOL:
        return TYPE_BOOL;
    case VALUE_INT:
        return TYPE_INT64;
    case VALUE_FLOAT:
        return TYPE_FLOAT64;
    default:
        return TYPE_STRING;
    }
}

// One type for all cells: numbers become float64 beside one another, anything else becomes text.
static enum type common_type(const struct answer *answer, const struct table *row)
{
    enum type type = answer->cells == 0 ? TYPE_STRING : cell_type(&answer->cell[0], row);

    for (uint32_t i = 1; i < answer->cells; i++) {
        enum type other = cell_type(&answer->cell[i], row);

        if (type != other) {
            type = is_number(type) && is_number(other) ? TYPE_FLOAT64 : TYPE_STRING;
        }
    }
    return type;
}

static int add_text(struct column_builder *b, enum type type, bool boolean, int64_t i, double f)
{
    char text[NUMBER_TEXT_MAX];
    size_t size;

    switch (type) {
    case TYPE_BOOL:
        return column_builder_string(b, boolean ? "True" : "False", boolean ? 4 : 5);
    case TYPE_INT64:
        size = number_print_int64(i, text);
        break;
    default:
        size = number_print_float64(f, text);
    }
    return column_builder_string(b, text, size);
}

static int add_number(struct column_builder *b, enum type as, enum type type, bool boolean, int64_t i,
                      double f)
{
    if (as == TYPE_STRING) {
        return add_text(b, type, boolean, i, f);
    }
    switch (as) {
    case TYPE_BOOL:
        return column_builder_bool(b, boolean);
    case TYPE_INT64:
        return column_builder_int64(b, i);
    default:
        return column_builder_float64(b, type == TYPE_INT64 ? (double)i : f);
    }
}

static int add_cell(struct column_builder *b, enum type as, const struct cell *cell, const struct table *row)
{
    enum type type = cell_type(cell, row);

    if (cell->literal != NULL) {
        const struct value *v = cell->literal;

        if (v->kind == VALUE_NONE) {
            return column_builder_null(b);
        }
        if (v->kind == VALUE_STRING) {
            return column_builder_string(b, v->text, v->size);
        }
        return add_number(b, as, type, type == TYPE_BOOL && v->boolean, type == TYPE_INT64 ? v->i : 0,
                          type == TYPE_FLOAT64 ? v->f : 0);
    }
    const struct column *column = &row->column[cell->column];

    if (!column_is_valid(column, 0)) {
        return column_builder_null(b);
    }
    if (type == TYPE_STRING) {
        size_t size;
        const char *text = column_string(column, 0, &size);

        return column_builder_string(b, text, size);
    }
    return add_number(b, as, type, type == TYPE_BOOL && column_bool(column, 0),
                      type == TYPE_INT64 ? column_int64(column, 0) : 0,
                      type == TYPE_FLOAT64 ? column_float64(column, 0) : 0);
}

// The cells below one another, with their names before them for a row.
static int cells_table(const struct answer *answer, const struct table *row, struct table **out,
                       struct error *err)
{
    bool named = answer->shape.kind == SHAPE_SERIES;
    enum type type = common_type(answer, row);
    struct column_builder *names = column_builder_create(TYPE_STRING);
    struct column_builder *values = column_builder_create(type);
    struct table *table = table_create(named ? 2 : 1, answer->cells);
    int rc = names == NULL || values == NULL || table == NULL ? -ENOMEM : 0;

    for (uint32_t i = 0; i < answer->cells && rc == 0; i++) {
        const struct cell *cell = &answer->cell[i];

        if (named) {
            rc = column_builder_string(names, cell->name, strlen(cell->name));
        }
        if (rc == 0) {
            rc = add_cell(values, type, cell, row);
        }
    }
    if (rc == 0 && named) {
        rc = column_builder_finish(names, "", &table->column[0]);
    }
    if (rc == 0) {
        rc =
            column_builder_finish(values, answer->shape.series_name == NULL ? "0" : answer->shape.series_name,
                                  &table->column[named]);
    }
    column_builder_destroy(names);
    column_builder_destroy(values);
    if (rc < 0) {
        table_unref(table);
        return rc == -ENOMEM ? error_no_memory(err) : error_set(err, -rc, "the result is too large to print");
    }
    *out = table;
    return 0;
}

// A list or a tuple: the cells beside one another, each of its own type.
static int items_table(const struct answer *answer, const struct table *row, struct table **out,
                       struct error *err)
{
    struct table *table = table_create(answer->cells, 1);
    int rc = table == NULL ? -ENOMEM : 0;

    for (uint32_t i = 0; i < answer->cells && rc == 0; i++) {
        const struct cell *cell = &answer->cell[i];
        enum type type = cell_type(cell, row);
        struct column_builder *value = column_builder_create(type);

        rc = value == NULL ? -ENOMEM : add_cell(value, type, cell, row);
        if (rc == 0) {
            rc = column_builder_finish(value, "", &table->column[i]);
        }
        column_builder_destroy(value);
    }
    if (rc < 0) {
        table_unref(table);
        return rc == -ENOMEM ? error_no_memory(err) : error_set(err, -rc, "the result is too large to print");
    }
    *out = table;
    return 0;
}

static int answer_cells(const struct answer *answer, const struct table *row, struct table **out,
                        struct error *err)
{
    bool items = answer->shape.kind == SHAPE_LIST || answer->shape.kind == SHAPE_TUPLE;

    return items ? items_table(answer, row, out, err) : cells_table(answer, row, out, err);
}

static int dtypes_table(const struct frame *f, struct table **out, struct error *err)
{
    uint32_t count = f->node->columns - f->index;
    struct column_builder *names = column_builder_create(TYPE_STRING);
    struct column_builder *types = column_builder_create(TYPE_STRING);
    struct table *table = table_create(2, count);
    int rc = names == NULL || types == NULL || table == NULL ? -ENOMEM : 0;

    for (uint32_t i = 0; i < count && rc == 0; i++) {
        const struct field *field = &f->node->field[f->index + i];
        const char *type =
            field->type == TYPE_STRING || field->type == TYPE_ANY ? "object" : type_name(field->type);

        rc = column_builder_string(names, field->name, strlen(field->name));
        if (rc == 0) {
            rc = column_builder_string(types, type, strlen(type));
        }
    }
    if (rc == 0) {
        rc = column_builder_finish(names, "", &table->column[0]);
    }
    if (rc == 0) {
        rc = column_builder_finish(types, "0", &table->column[1]);
    }
    column_builder_destroy(names);
    column_builder_destroy(types);
    if (rc < 0) {
        table_unref(table);
        return error_no_memory(err);
    }
    *out = table;
    return 0;
}

int answer_table(const struct answer *answer, struct table *result, struct table **out, struct error *err)
{
    if (!answer->across) {
        *out = table_ref(result);
        return 0;
    }
    if (result->rows != 1) {
        return error_set(err, EBADMSG, "a result of one row came with %lld rows", (long long)result->rows);
    }
    for (uint32_t i = 0; i < answer->cells; i++) {
        if (answer->cell[i].literal == NULL && answer->cell[i].column >= result->columns) {
            return error_set(err, EBADMSG, "a result came with %u columns, too few", result->columns);
        }
    }
    return answer_cells(answer, result, out, err);
}

int answer_known(const struct answer *answer, struct table **out, struct error *err)
{
    if (answer->shape.kind == SHAPE_NONE) {
        *out = NULL;
        return 0;
    }
    return answer->dtypes != NULL ? dtypes_table(answer->dtypes, out, err)
                                  : answer_cells(answer, NULL, out, err);
}
