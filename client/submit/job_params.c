// Arrays and parameters: how many tasks there are, and what stands for what in each.
#include "client/submit/job_state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/template.h"

static const struct key SOURCE_KEYS[] = {{"lines", 0}, {"glob", 1}};

static Dray__Column *new_column(const struct job_state *state, const char *name)
{
    Dray__Column *column = arena_zalloc(state->arena, sizeof(*column));

    if (column != NULL) {
        dray__column__init(column);
        column->name = (char *)(uintptr_t)name;
    }
    return column;
}

static int set_numbers(const struct job_state *state, Dray__Column *column, const struct numbers *numbers,
                       struct error *err)
{
    if (numbers->value == NULL) {
        column->has_first = column->has_step = column->has_count = true;
        column->first = numbers->first;
        column->step = numbers->step;
        column->count = numbers->count;
        return 0;
    }
    column->value = arena_array(state->arena, numbers->count, sizeof(*column->value));
    column->n_value = numbers->count;
    for (uint32_t i = 0; i < numbers->count && column->value != NULL; i++) {
        char *text = arena_printf(state->arena, "%" PRId64, numbers->value[i]);

        if (text == NULL) {
            return error_no_memory(err);
        }
        column->value[i] = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
    }
    return column->value != NULL ? 0 : error_no_memory(err);
}

static int add_column(struct job_state *state, struct task *task, Dray__Column *column, struct error *err)
{
    if (column == NULL) {
        return error_no_memory(err);
    }
    task->column[task->columns++] = column;
    (void)state;
    return 0;
}

static int make_room(struct job_state *state, struct task *task, size_t columns, struct error *err)
{
    task->column = arena_array(state->arena, columns + 1, sizeof(*task->column));
    return task->column != NULL ? 0 : error_no_memory(err);
}

// ---- arrays -----------------------------------------------------------------------------------

static int read_indices(const struct job_state *state, const struct node *node, const char *name,
                        struct numbers *out, struct error *err)
{
    struct error why = {0};
    int64_t *value;
    int rc = 0;

    if (node->kind == NODE_SCALAR) {
        rc = numbers_parse(node->text, state->arena, out, &why);
        return rc == 0 ? 0 : STATE_ERROR(state, node, err, "'%s': %s", name, why.text);
    }
    if (node->kind != NODE_LIST || node->count == 0) {
        return STATE_ERROR(state, node, err, "'%s' is 0..999, 0..20..5, \"1,3,10..19\" or a list of numbers",
                           name);
    }
    value = arena_array(state->arena, node->count, sizeof(*value));
    if (value == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = read_integer(state, node->item[i], name, 0, NUMBER_MAX, &value[i], err);
    }
    if (rc == 0 && numbers_from_list(value, node->count, state->arena, out, &why) != 0) {
        rc = STATE_ERROR(state, node, err, "'%s': %s", name, why.text);
    }
    return rc;
}

static int read_array(struct job_state *state, struct task *task, struct error *err)
{
    const struct node *node = task->field[FIELD_ARRAY];
    Dray__Column *column;
    int64_t number;
    int rc;

    if (node->kind == NODE_SCALAR && number_parse(node->text, &number, NULL) == 0) {
        return STATE_ERROR(state, node, err,
                           "'array: %s' could be one index or so many tasks: write 0..%" PRId64
                           ", or [%s] for that one",
                           node->text, number > 0 ? number - 1 : 0, node->text);
    }
    rc = read_indices(state, node, "array", &task->indices, err);
    if (rc == 0) {
        rc = make_room(state, task, 1, err);
    }
    if (rc != 0) {
        return rc;
    }
    task->count = task->indices.count;
    if (numbers_from_zero(&task->indices)) {
        return 0; // {index} says it by itself
    }
    column = new_column(state, "index");
    rc = add_column(state, task, column, err);
    return rc == 0 ? set_numbers(state, column, &task->indices, err) : rc;
}

// ---- parameters ---------------------------------------------------------------------------------

static int set_lines(const struct job_state *state, const struct node *node, Dray__Column *column,
                     const struct lines *lines, struct error *err)
{
    if (lines->count == 0) {
        return STATE_ERROR(state, node, err, "'%s' has no values: there is nothing in '%.200s'", column->name,
                           node->text);
    }
    column->value = arena_array(state->arena, lines->count, sizeof(*column->value));
    if (column->value == NULL) {
        return error_no_memory(err);
    }
    column->n_value = lines->count;
    for (size_t i = 0; i < lines->count; i++) {
        column->value[i] = (ProtobufCBinaryData){.len = strlen(lines->line[i]),
                                                 .data = (uint8_t *)(uintptr_t)lines->line[i]};
    }
    return 0;
}

// {lines: FILE} or {glob: PATTERN}
static int read_source(const struct job_state *state, const struct node *map, Dray__Column *column,
                       struct error *err)
{
    const struct node *field[2] = {NULL, NULL};
    int (*source)(void *, const char *, struct arena *, struct lines *, struct error *);
    struct error why = {0};
    struct lines lines = {0};
    const char *text = NULL;
    int rc = schema_read(state, map, "a parameter's source", SOURCE_KEYS, 2, field, err);

    if (rc != 0) {
        return rc;
    }
    if ((field[0] == NULL) == (field[1] == NULL)) {
        return STATE_ERROR(state, map, err,
                           "a parameter has values from {lines: FILE} or from {glob: PATTERN}");
    }
    source = field[0] != NULL ? state->host->lines : state->host->glob;
    rc = read_text(state, field[0] != NULL ? field[0] : field[1], field[0] != NULL ? "lines" : "glob", &text,
                   err);
    if (rc == 0 && source == NULL) {
        rc = STATE_ERROR(state, map, err, "files are not read here");
    }
    if (rc == 0 && source(state->host->context, text, state->arena, &lines, &why) != 0) {
        rc = STATE_ERROR(state, field[0] != NULL ? field[0] : field[1], err, "%s", why.text);
    }
    return rc == 0 ? set_lines(state, field[0] != NULL ? field[0] : field[1], column, &lines, err) : rc;
}

static int read_values(const struct job_state *state, const struct node *node, Dray__Column *column,
                       struct error *err)
{
    struct numbers numbers;
    struct error why = {0};
    struct items items;
    int rc;

    if (node->kind == NODE_MAP) {
        return read_source(state, node, column, err);
    }
    if (node->kind == NODE_SCALAR && !node->quoted && numbers_is_range(node->text)) {
        rc = numbers_parse(node->text, state->arena, &numbers, &why);
        return rc == 0 ? set_numbers(state, column, &numbers, err)
                       : STATE_ERROR(state, node, err, "'%s': %s", column->name, why.text);
    }
    rc = read_items(state, node, column->name, &items, err);
    if (rc != 0) {
        return rc;
    }
    if (items.count == 0) {
        return STATE_ERROR(state, node, err, "'%s' has no values", column->name);
    }
    column->value = arena_array(state->arena, items.count, sizeof(*column->value));
    if (column->value == NULL) {
        return error_no_memory(err);
    }
    column->n_value = items.count;
    for (uint32_t i = 0; i < items.count; i++) {
        const struct node *item = items_at(&items, i);

        column->value[i] =
            (ProtobufCBinaryData){.len = item->count, .data = (uint8_t *)(uintptr_t)item->text};
    }
    return 0;
}

static int read_named(struct job_state *state, struct task *task, const struct node *map, struct error *err)
{
    int rc = 0;

    if (map->count == 0 || map->count > TEMPLATE_COLUMNS_MAX) {
        return STATE_ERROR(state, map, err, "'params' has from 1 to %d parameters", TEMPLATE_COLUMNS_MAX);
    }
    for (uint32_t i = 0; i < map->count && rc == 0; i++) {
        const struct node *key = map_key(map, i);
        Dray__Column *column;

        if (!template_name_is_valid(key->text, key->count) || strcmp(key->text, "index") == 0 ||
            strcmp(key->text, "i") == 0) {
            return STATE_ERROR(state, key, err,
                               "'%.80s' cannot be a parameter's name: a letter, then letters, digits and _; "
                               "not 'index' or 'i'",
                               key->text);
        }
        column = new_column(state, key->text);
        rc = add_column(state, task, column, err);
        rc = rc == 0 ? read_values(state, map_value(map, i), column, err) : rc;
    }
    return rc;
}

static int combine(struct job_state *state, struct task *task, bool zip, struct error *err)
{
    uint64_t count = 1;

    for (size_t i = task->columns; i-- > 0 && !zip;) {
        task->column[i]->has_each = true;
        task->column[i]->each = (uint32_t)count;
        count *= template_column_count(task->column[i]);
        if (count > NUMBERS_MAX) {
            return STATE_ERROR(state, task->field[FIELD_PARAMS], err,
                               "the product of the parameters is more than %u tasks", NUMBERS_MAX);
        }
    }
    for (size_t i = 0; i < task->columns && zip; i++) {
        uint64_t own = template_column_count(task->column[i]);

        if (i > 0 && own != count) {
            return STATE_ERROR(state, task->field[FIELD_PARAMS], err,
                               "'combine: zip' takes lists of one length, and '%s' has %" PRIu64
                               " values, '%s' %" PRIu64,
                               task->column[0]->name, count, task->column[i]->name, own);
        }
        count = own;
        if (count > NUMBERS_MAX) {
            return STATE_ERROR(state, task->field[FIELD_PARAMS], err, "more than %u tasks", NUMBERS_MAX);
        }
    }
    task->count = (uint32_t)count;
    task->indices = (struct numbers){.count = (uint32_t)count, .step = 1};
    return 0;
}

static int read_combine(const struct job_state *state, const struct task *task, bool *zip, struct error *err)
{
    const struct node *node = task->field[FIELD_COMBINE];
    const char *text = "product";
    int rc = node != NULL ? read_text(state, node, "combine", &text, err) : 0;

    if (rc == 0 && strcmp(text, "product") != 0 && strcmp(text, "zip") != 0) {
        rc = STATE_ERROR(state, node, err,
                         "'combine' is 'product' (each with each) or 'zip' (first with first)");
    }
    *zip = rc == 0 && strcmp(text, "zip") == 0;
    return rc;
}

static int read_params(struct job_state *state, struct task *task, struct error *err)
{
    const struct node *node = task->field[FIELD_PARAMS];
    bool zip;
    int rc = make_room(state, task, node->kind == NODE_MAP ? node->count : 1, err);

    if (rc == 0) {
        rc = read_combine(state, task, &zip, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (node->kind == NODE_MAP) {
        rc = read_named(state, task, node, err);
    } else {
        Dray__Column *column = new_column(state, "param");

        rc = add_column(state, task, column, err);
        rc = rc == 0 ? read_values(state, node, column, err) : rc;
    }
    return rc == 0 ? combine(state, task, zip, err) : rc;
}

int job_params_read(struct job_state *state, struct task *task, struct error *err)
{
    task->count = 1;
    task->indices = (struct numbers){.count = 1, .step = 1};
    task->is_array = task->field[FIELD_ARRAY] != NULL || task->field[FIELD_PARAMS] != NULL;
    if (task->field[FIELD_ARRAY] != NULL && task->field[FIELD_PARAMS] != NULL) {
        return STATE_ERROR(state, task->field[FIELD_PARAMS], err,
                           "'array' and 'params' in one task: give the indices as one more parameter, as in "
                           "params: {run: 0..9, ...}");
    }
    if (task->field[FIELD_COMBINE] != NULL && task->field[FIELD_PARAMS] == NULL) {
        return STATE_ERROR(state, task->field[FIELD_COMBINE], err, "'combine' without 'params'");
    }
    if (task->field[FIELD_ARRAY] != NULL) {
        return read_array(state, task, err);
    }
    return task->field[FIELD_PARAMS] != NULL ? read_params(state, task, err) : 0;
}
