#include "client/plan/lower.h"

#include <string.h>

enum { STEPS_MAX = 2 * NODE_DEPTH_MAX, COST_PARTIAL = 4 << 20 };

// Layers under construction.  Steps gather in `step` until a layer is closed.
struct lowering {
    struct arena *arena;
    struct lowered *out;
    Dray__Step *step[STEPS_MAX];
    size_t steps;
    uint32_t tasks;     // of the layer that is open
    Dray__Input *input; // of the layer that is open; NULL for the scan
    uint32_t room;
    bool ok;
    bool has_head;   // over the scan
    bool above_head; // something that changes the number of rows came after the head
};

static Dray__Step *add_step(struct lowering *l)
{
    Dray__Step *step = l->steps == STEPS_MAX ? NULL : arena_alloc(l->arena, sizeof(*step));

    if (step == NULL) {
        l->ok = false;
        return NULL;
    }
    dray__step__init(step);
    l->step[l->steps++] = step;
    return step;
}

static void *make(struct lowering *l, size_t size)
{
    void *out = arena_zalloc(l->arena, size);

    if (out == NULL) {
        l->ok = false;
    }
    return out;
}

// Packs the open steps as a layer.
static void close_layer(struct lowering *l, const char *name)
{
    struct lowered *out = l->out;
    Dray__Op *op = make(l, sizeof(*op));
    Dray__Layer *layer = make(l, sizeof(*layer));

    if (!l->ok) {
        return;
    }
    if (out->layers == l->room) {
        uint32_t room = l->room == 0 ? 8 : l->room * 2;
        Dray__Layer **layers = arena_array(l->arena, room, sizeof(*layers));
        Dray__Op **ops = arena_array(l->arena, room, sizeof(*ops));

        if (layers == NULL || ops == NULL) {
            l->ok = false;
            return;
        }
        if (out->layers > 0) {
            memcpy(layers, out->layer, out->layers * sizeof(*layers));
            memcpy(ops, out->op, out->layers * sizeof(*ops));
        }
        out->layer = layers;
        out->op = ops;
        l->room = room;
    }
    dray__op__init(op);
    op->step = arena_copy(l->arena, l->step, l->steps * sizeof(*l->step));
    op->n_step = l->steps;
    dray__layer__init(layer);
    layer->tasks = l->tasks;
    layer->has_speculate = layer->speculate = true;
    layer->name = arena_strdup(l->arena, name);
    layer->op.len = dray__op__get_packed_size(op);
    layer->op.data = arena_alloc(l->arena, layer->op.len);
    if (op->step == NULL || layer->name == NULL || layer->op.data == NULL) {
        l->ok = false;
        return;
    }
    dray__op__pack(op, layer->op.data);
    if (l->input != NULL) {
        layer->input = make(l, sizeof(Dray__Input *));
        if (layer->input != NULL) {
            layer->input[0] = l->input;
            layer->n_input = 1;
        }
    }
    out->layer[out->layers] = layer;
    out->op[out->layers++] = op;
    l->steps = 0;
    l->input = NULL;
}

// Opens a layer of `tasks` tasks over the one that was just closed.
static void open_layer(struct lowering *l, Dray__Pattern pattern, uint32_t tasks)
{
    Dray__Input *input = make(l, sizeof(*input));
    Dray__Step *step = add_step(l);
    Dray__TakeInputs *take = make(l, sizeof(*take));

    if (!l->ok) {
        return;
    }
    dray__input__init(input);
    input->layer = l->out->layers - 1;
    input->pattern = pattern;
    if (pattern == DRAY__PATTERN__FAN_IN) {
        input->has_width = true;
        input->width = LOWER_FAN_IN;
    }
    dray__take_inputs__init(take);
    step->take_inputs = take;
    l->input = input;
    l->tasks = tasks;
}

// ---- steps -------------------------------------------------------------------------------

static const char *step_title(const struct node *node)
{
    switch (node->kind) {
    case NODE_AGGREGATE:
        return "aggregate";
    case NODE_HEAD:
        return "head";
    case NODE_SORT:
        return "sort";
    default:
        return "step";
    }
}

static void add_filter(struct lowering *l, const struct node *node)
{
    Dray__Step *step = add_step(l);
    Dray__Filter *filter = make(l, sizeof(*filter));

    if (l->ok) {
        dray__filter__init(filter);
        filter->predicate = expr_encode(node->filter.predicate, l->arena);
        l->ok = filter->predicate != NULL;
        step->filter = filter;
    }
}

static void add_project(struct lowering *l, const struct node *node)
{
    Dray__Step *step = add_step(l);
    Dray__Project *project = make(l, sizeof(*project));
    Dray__Named **column = arena_array(l->arena, node->columns, sizeof(*column));

    if (!l->ok || column == NULL) {
        l->ok = false;
        return;
    }
    dray__project__init(project);
    for (uint32_t i = 0; i < node->columns && l->ok; i++) {
        column[i] = make(l, sizeof(**column));
        if (column[i] == NULL) {
            return;
        }
        dray__named__init(column[i]);
        column[i]->name = (char *)(uintptr_t)node->field[i].name;
        column[i]->expr = expr_encode(node->project.expr[i], l->arena);
        l->ok = column[i]->expr != NULL;
    }
    project->column = column;
    project->n_column = node->columns;
    step->project = project;
}

static void add_head(struct lowering *l, uint64_t rows)
{
    Dray__Step *step = add_step(l);
    Dray__Head *head = make(l, sizeof(*head));

    if (l->ok) {
        dray__head__init(head);
        head->rows = rows;
        step->head = head;
    }
}

static void add_sort(struct lowering *l, const struct node *node)
{
    Dray__Step *step = add_step(l);
    Dray__Sort *sort = make(l, sizeof(*sort));
    Dray__SortKey **key = arena_array(l->arena, node->sort.keys, sizeof(*key));

    if (!l->ok || key == NULL) {
        l->ok = false;
        return;
    }
    dray__sort__init(sort);
    for (uint32_t i = 0; i < node->sort.keys; i++) {
        const struct sort_key *from = &node->sort.key[i];

        key[i] = make(l, sizeof(**key));
        if (key[i] == NULL) {
            return;
        }
        dray__sort_key__init(key[i]);
        key[i]->column = from->column;
        key[i]->has_descending = key[i]->descending = from->descending;
        key[i]->has_nulls_first = key[i]->nulls_first = from->nulls_first;
    }
    sort->key = key;
    sort->n_key = node->sort.keys;
    sort->has_limit = node->sort.limit > 0;
    sort->limit = node->sort.limit;
    step->sort = sort;
}

static Dray__Type wire_type(enum type type)
{
    return type == TYPE_ANY ? DRAY__TYPE__FLOAT64 : (Dray__Type)type;
}

static Dray__Aggregate *make_aggregate(struct lowering *l, const struct node *node)
{
    uint32_t keys = node->aggregate.keys;
    uint32_t aggs = node->aggregate.aggs;
    Dray__Aggregate *out = make(l, sizeof(*out));
    uint32_t *key = arena_array(l->arena, keys, sizeof(*key));
    char **key_name = arena_array(l->arena, keys, sizeof(*key_name));
    Dray__Type *key_type = arena_array(l->arena, keys, sizeof(*key_type));
    Dray__Agg **agg = arena_array(l->arena, aggs, sizeof(*agg));
    Dray__Type *agg_type = arena_array(l->arena, aggs, sizeof(*agg_type));

    if (!l->ok || key == NULL || key_name == NULL || key_type == NULL || agg == NULL || agg_type == NULL) {
        l->ok = false;
        return NULL;
    }
    dray__aggregate__init(out);
    for (uint32_t i = 0; i < keys; i++) {
        key[i] = node->aggregate.key[i];
        key_name[i] = (char *)(uintptr_t)node->field[i].name;
        key_type[i] = wire_type(node->field[i].type);
    }
    for (uint32_t i = 0; i < aggs; i++) {
        const struct aggregate *from = &node->aggregate.agg[i];

        agg[i] = make(l, sizeof(**agg));
        if (agg[i] == NULL) {
            return NULL;
        }
        dray__agg__init(agg[i]);
        agg[i]->fn = from->fn;
        agg[i]->column = from->column;
        agg[i]->name = (char *)(uintptr_t)node->field[keys + i].name;
        agg_type[i] = from->fn == DRAY__AGG_FN__SIZE ? DRAY__TYPE__INT64
                                                     : wire_type(node->input->field[from->column].type);
    }
    out->key = key;
    out->n_key = keys;
    out->key_name = key_name;
    out->n_key_name = keys;
    out->key_type = key_type;
    out->n_key_type = keys;
    out->agg = agg;
    out->n_agg = aggs;
    out->agg_type = agg_type;
    out->n_agg_type = aggs;
    return out;
}

static void add_aggregate(struct lowering *l, Dray__Aggregate *aggregate, Dray__AggStage stage)
{
    Dray__Step *step = add_step(l);
    Dray__AggregateStep *out = make(l, sizeof(*out));

    if (l->ok) {
        dray__aggregate_step__init(out);
        out->stage = stage;
        out->aggregate = aggregate;
        step->aggregate = out;
    }
}

// ---- nodes ----------------------------------------------------------------------------------

// One step in each task of the open layer, then the same step in a tree of tasks down to one.
static void combine(struct lowering *l, const struct node *node, Dray__Aggregate *aggregate)
{
    bool last = l->tasks == 1;

    if (node->kind == NODE_AGGREGATE) {
        add_aggregate(l, aggregate, DRAY__AGG_STAGE__PARTIAL);
    } else if (node->kind == NODE_HEAD) {
        add_head(l, node->head.rows);
    } else {
        add_sort(l, node);
    }
    if (last && node->kind == NODE_AGGREGATE) {
        add_aggregate(l, aggregate, DRAY__AGG_STAGE__COMBINE_FINAL);
    }
    while (l->ok && l->tasks > 1) {
        uint32_t tasks = (l->tasks + LOWER_FAN_IN - 1) / LOWER_FAN_IN;

        close_layer(l, l->out->layers == 0 ? "scan" : step_title(node));
        open_layer(l, DRAY__PATTERN__FAN_IN, tasks);
        if (node->kind == NODE_AGGREGATE) {
            add_aggregate(l, aggregate,
                          tasks == 1 ? DRAY__AGG_STAGE__COMBINE_FINAL : DRAY__AGG_STAGE__COMBINE);
        } else if (node->kind == NODE_HEAD) {
            add_head(l, node->head.rows);
        } else {
            add_sort(l, node);
        }
    }
}

// A one-task layer beside the result that counts the rows of the layer before it.
static void add_count(struct lowering *l)
{
    Dray__Aggregate *aggregate = make(l, sizeof(*aggregate));
    Dray__Agg *agg = make(l, sizeof(*agg));
    Dray__Agg **aggs = make(l, sizeof(*aggs));
    Dray__Type *type = make(l, sizeof(*type));

    if (!l->ok) {
        return;
    }
    dray__agg__init(agg);
    agg->fn = DRAY__AGG_FN__SIZE;
    agg->name = "rows";
    aggs[0] = agg;
    *type = DRAY__TYPE__INT64;
    dray__aggregate__init(aggregate);
    aggregate->agg = aggs;
    aggregate->n_agg = 1;
    aggregate->agg_type = type;
    aggregate->n_agg_type = 1;
    close_layer(l, "head");

    uint32_t head = l->out->layers - 1;

    open_layer(l, DRAY__PATTERN__ONE_TO_ONE, 1);
    add_aggregate(l, aggregate, DRAY__AGG_STAGE__PARTIAL);
    add_aggregate(l, aggregate, DRAY__AGG_STAGE__COMBINE_FINAL);
    close_layer(l, "count");
    if (!l->ok) {
        return;
    }
    l->out->count_layer = l->out->layers - 1;
    l->out->layer[l->out->count_layer]->has_wanted = true;
    l->out->layer[l->out->count_layer]->wanted = true;
    open_layer(l, DRAY__PATTERN__ONE_TO_ONE, 1);
    if (l->ok) {
        l->input->layer = head;
    }
}

// The scan column that a key comes from unchanged, or UINT32_MAX.
static uint32_t trace(const struct node *node, uint32_t column)
{
    while (node->kind != NODE_SCAN) {
        if (node->kind == NODE_AGGREGATE) {
            return UINT32_MAX;
        }
        if (node->kind == NODE_PROJECT && !expr_is_column(node->project.expr[column], &column)) {
            return UINT32_MAX;
        }
        node = node->input;
    }
    return column;
}

static void mark_group_keys(const struct node *const *path, uint32_t depth, bool *group_key)
{
    for (uint32_t i = 0; i < depth; i++) {
        const struct node *node = path[i];

        for (uint32_t k = 0; node->kind == NODE_AGGREGATE && k < node->aggregate.keys; k++) {
            uint32_t column = trace(node->input, node->aggregate.key[k]);

            if (column != UINT32_MAX) {
                group_key[column] = true;
            }
        }
    }
}

static void scan_types(struct lowering *l, const struct node *scan, enum type **type)
{
    *type = arena_array(l->arena, scan->columns, sizeof(**type));
    if (*type == NULL) {
        l->ok = false;
        return;
    }
    for (uint32_t i = 0; i < scan->columns; i++) {
        (*type)[i] = (enum type)wire_type(scan->field[i].type);
    }
    l->out->scan_column = scan->scan.column;
    l->out->scan_columns = scan->columns;
}

static Dray__ScanCsv *make_scan(struct lowering *l, const struct node *scan, const bool *group_key,
                                const struct lower_options *options)
{
    enum type *type;
    Dray__ScanCsv *out;

    scan_types(l, scan, &type);
    if (!l->ok) {
        return NULL;
    }
    out = csv_scan(scan->scan.source, l->out->scan_column, type, group_key, l->out->scan_columns,
                   options->starts_quoted, options->starts, l->arena);
    l->ok = out != NULL;
    return out;
}

// Which blocks belong to which file, for placement.
static void add_sources(struct lowering *l, const struct csv_source *source, Dray__Layer *layer)
{
    layer->source = arena_array(l->arena, source->files, sizeof(*layer->source));
    if (layer->source == NULL) {
        l->ok = false;
        return;
    }
    for (uint32_t i = 0; i < source->files; i++) {
        const struct csv_file *file = &source->file[i];
        Dray__Source *out;

        if (file->first >= layer->tasks) {
            break;
        }
        out = make(l, sizeof(*out));
        if (out == NULL) {
            return;
        }
        dray__source__init(out);
        out->name = file->probe->name;
        out->path = file->probe->path;
        out->first = file->first;
        out->count = file->blocks < layer->tasks - file->first ? file->blocks : layer->tasks - file->first;
        layer->source[layer->n_source++] = out;
    }
}

static void finish_scan_layer(struct lowering *l, const struct csv_source *source, bool keeps_rows)
{
    Dray__Layer *layer = l->out->layer[0];
    uint64_t block = source->block_size < (uint64_t)64 << 20 ? source->block_size : (uint64_t)64 << 20;
    char *name = arena_printf(l->arena, "scan %s", source->label);

    if (name == NULL) {
        l->ok = false;
        return;
    }
    layer->name = name;
    layer->has_cost_bytes = true;
    layer->cost_bytes = COST_PARTIAL + (keeps_rows ? 2 * block : 0);
    add_sources(l, source, layer);
}

static bool has_head_over_scan(const struct node *const *path, uint32_t depth, uint64_t *rows)
{
    for (uint32_t i = depth; i-- > 0;) {
        if (path[i]->kind == NODE_HEAD) {
            *rows = path[i]->head.rows;
            return true;
        }
        if (path[i]->kind != NODE_PROJECT && path[i]->kind != NODE_FILTER && path[i]->kind != NODE_SCAN) {
            return false;
        }
    }
    return false;
}

static void lower_node(struct lowering *l, const struct node *node, bool *head_open)
{
    Dray__Aggregate *aggregate = NULL;

    switch (node->kind) {
    case NODE_PROJECT:
        add_project(l, node);
        return;
    case NODE_FILTER:
        add_filter(l, node);
        break;
    case NODE_AGGREGATE:
        aggregate = make_aggregate(l, node);
        if (aggregate != NULL) {
            combine(l, node, aggregate);
        }
        break;
    case NODE_HEAD:
        combine(l, node, NULL);
        if (*head_open) {
            // The first head: the one over the scan.
            *head_open = false;
            return;
        }
        break;
    case NODE_SORT:
        if (node->sort.limit > 0) {
            combine(l, node, NULL);
            break;
        }
        if (l->tasks > 1) {
            close_layer(l, l->out->layers == 0 ? "scan" : "rows");
            open_layer(l, DRAY__PATTERN__ALL, 1);
        }
        add_sort(l, node);
        return;
    case NODE_SCAN:
        return;
    }
}

static bool keeps_count(const struct node *node)
{
    return node->kind == NODE_PROJECT || (node->kind == NODE_SORT && node->sort.limit == 0);
}

int lower_plan(struct arena *arena, const struct node *root, const struct lower_options *options,
               struct lowered *out, struct error *err)
{
    struct lowering *l = arena_zalloc(arena, sizeof(*l));
    const struct node **path = arena_array(arena, (size_t)root->depth + 1, sizeof(*path));
    uint32_t depth = 0;
    uint64_t rows = UINT64_MAX;

    if (l == NULL || path == NULL) {
        return error_no_memory(err);
    }
    memset(out, 0, sizeof(*out));
    for (const struct node *node = root; node != NULL && depth <= root->depth; node = node->input) {
        path[depth++] = node;
    }
    const struct node *scan = path[depth - 1];
    const struct csv_source *source = scan->scan.source;
    bool *group_key = arena_zalloc(arena, scan->columns + (size_t)1);
    bool head_open = has_head_over_scan(path, depth, &rows);
    bool is_head = head_open;

    l->arena = arena;
    l->out = out;
    l->ok = group_key != NULL;
    out->source = source;
    out->count_layer = UINT32_MAX;
    out->head_rows = rows;
    out->head_counts = is_head;
    if (l->ok) {
        mark_group_keys(path, depth, group_key);
    }
    l->tasks = source->blocks;
    if (is_head && options->head_blocks > 0 && options->head_blocks < l->tasks) {
        l->tasks = options->head_blocks;
    }
    out->scan_tasks = l->tasks;

    Dray__Step *step = l->ok ? add_step(l) : NULL;

    if (step != NULL) {
        step->scan_csv = make_scan(l, scan, group_key, options);
    }
    for (uint32_t i = depth - 1; l->ok && i-- > 0;) {
        bool was_open = head_open;

        if (is_head && !was_open && out->count_layer == UINT32_MAX && !keeps_count(path[i])) {
            // What follows hides how many rows the head got.
            out->head_counts = false;
            if (out->scan_tasks < source->blocks) {
                add_count(l);
            }
            is_head = false;
        }
        if (l->ok) {
            lower_node(l, path[i], &head_open);
        }
    }
    bool scan_is_result = out->layers == 0;

    close_layer(l, "result");
    if (!l->ok) {
        return error_no_memory(err);
    }
    out->result_layer = out->layers - 1;
    out->layer[out->result_layer]->has_wanted = true;
    out->layer[out->result_layer]->wanted = true;
    finish_scan_layer(l, source,
                      scan_is_result ||
                          (out->layers > 1 && out->layer[1]->input[0]->pattern == DRAY__PATTERN__ALL));
    if (!l->ok) {
        return error_no_memory(err);
    }
    dray__graph__init(&out->graph);
    out->graph.layer = out->layer;
    out->graph.n_layer = out->layers;
    return 0;
}

int lower_quotes(struct arena *arena, const struct node *root, struct lowered *out, struct error *err)
{
    struct lowering *l = arena_zalloc(arena, sizeof(*l));
    const struct node *scan = node_bottom(root);
    const struct csv_source *source = scan->scan.source;
    const struct lower_options options = {0};
    bool *group_key = arena_zalloc(arena, scan->columns + (size_t)1);
    Dray__QuoteCsv *quote;
    Dray__Step *step;

    if (l == NULL || group_key == NULL) {
        return error_no_memory(err);
    }
    memset(out, 0, sizeof(*out));
    l->arena = arena;
    l->out = out;
    l->ok = true;
    l->tasks = source->blocks;
    out->source = source;
    out->count_layer = UINT32_MAX;
    out->head_rows = UINT64_MAX;
    out->scan_tasks = source->blocks;
    step = add_step(l);
    quote = make(l, sizeof(*quote));
    if (l->ok) {
        dray__quote_csv__init(quote);
        quote->scan = make_scan(l, scan, group_key, &options);
        step->quote_csv = quote;
        close_layer(l, "quotes");
    }
    if (l->ok) {
        out->layer[0]->has_wanted = true;
        out->layer[0]->wanted = true;
        finish_scan_layer(l, source, false);
    }
    if (!l->ok) {
        return error_no_memory(err);
    }
    dray__graph__init(&out->graph);
    out->graph.layer = out->layer;
    out->graph.n_layer = out->layers;
    return 0;
}
