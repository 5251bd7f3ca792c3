#include "client/plan/node.h"

#include <string.h>

static struct node *make(struct arena *arena, enum node_kind kind, const struct node *input, uint32_t columns,
                         struct field **field)
{
    struct node *out = arena_zalloc(arena, sizeof(*out));

    *field = arena_array(arena, columns, sizeof(**field));
    if (out == NULL || *field == NULL) {
        return NULL;
    }
    out->kind = kind;
    out->input = input;
    out->depth = input == NULL ? 1 : input->depth + 1;
    out->columns = columns;
    out->field = *field;
    return out;
}

static struct node *make_like(struct arena *arena, enum node_kind kind, const struct node *input)
{
    struct field *field;
    struct node *out = make(arena, kind, input, 0, &field);

    if (out != NULL) {
        out->columns = input->columns;
        out->field = input->field;
    }
    return out;
}

const struct node *node_scan(struct arena *arena, const struct csv_source *source, const uint32_t *column,
                             uint32_t columns)
{
    struct field *field;
    struct node *out = make(arena, NODE_SCAN, NULL, columns, &field);
    uint32_t *copy = arena_array(arena, columns, sizeof(*copy));

    if (out == NULL || copy == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < columns; i++) {
        copy[i] = column[i];
        field[i] = (struct field){source->column[column[i]].name, source->column[column[i]].type};
    }
    out->scan.source = source;
    out->scan.column = copy;
    return out;
}

const struct node *node_project(struct arena *arena, const struct node *input, const struct expr *const *expr,
                                const char *const *name, uint32_t columns)
{
    struct field *field;
    struct node *out = make(arena, NODE_PROJECT, input, columns, &field);
    const struct expr **copy = arena_array(arena, columns, sizeof(*copy));

    if (out == NULL || copy == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < columns; i++) {
        copy[i] = expr[i];
        field[i] = (struct field){name[i], expr[i]->type};
    }
    out->project.expr = copy;
    return out;
}

const struct node *node_filter(struct arena *arena, const struct node *input, const struct expr *predicate)
{
    struct node *out = make_like(arena, NODE_FILTER, input);

    if (out != NULL) {
        out->filter.predicate = predicate;
    }
    return out;
}

enum type aggregate_type(Dray__AggFn fn, enum type type)
{
    switch (fn) {
    case DRAY__AGG_FN__COUNT:
    case DRAY__AGG_FN__SIZE:
        return TYPE_INT64;
    case DRAY__AGG_FN__MEAN:
    case DRAY__AGG_FN__STD:
    case DRAY__AGG_FN__VAR:
        return type == TYPE_STRING ? (enum type)0 : TYPE_FLOAT64;
    case DRAY__AGG_FN__SUM:
        return type == TYPE_STRING ? (enum type)0
               : type == TYPE_BOOL ? TYPE_INT64
               : type == TYPE_ANY  ? TYPE_FLOAT64
                                   : type;
    default:
        return type;
    }
}

const char *aggregate_name(Dray__AggFn fn)
{
    static const char *const names[] = {"",     "sum", "mean", "count", "min", "max",
                                        "size", "std", "var",  "first", "last"};

    return (size_t)fn < sizeof(names) / sizeof(names[0]) ? names[fn] : "";
}

const struct node *node_aggregate(struct arena *arena, const struct node *input, const uint32_t *key,
                                  uint32_t keys, const struct aggregate *agg, uint32_t aggs,
                                  const char *const *name)
{
    struct field *field;
    struct node *out = make(arena, NODE_AGGREGATE, input, keys + aggs, &field);
    uint32_t *key_copy = arena_array(arena, keys, sizeof(*key_copy));
    struct aggregate *agg_copy = arena_array(arena, aggs, sizeof(*agg_copy));

    if (out == NULL || key_copy == NULL || agg_copy == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < keys; i++) {
        key_copy[i] = key[i];
        field[i] = (struct field){name[i], input->field[key[i]].type};
    }
    for (uint32_t i = 0; i < aggs; i++) {
        enum type type = agg[i].fn == DRAY__AGG_FN__SIZE ? TYPE_INT64 : input->field[agg[i].column].type;

        agg_copy[i] = agg[i];
        field[keys + i] = (struct field){name[keys + i], aggregate_type(agg[i].fn, type)};
    }
    out->aggregate.key = key_copy;
    out->aggregate.keys = keys;
    out->aggregate.agg = agg_copy;
    out->aggregate.aggs = aggs;
    return out;
}

const struct node *node_head(struct arena *arena, const struct node *input, uint64_t rows)
{
    struct node *out = make_like(arena, NODE_HEAD, input);

    if (out != NULL) {
        out->head.rows = rows;
    }
    return out;
}

const struct node *node_sort(struct arena *arena, const struct node *input, const struct sort_key *key,
                             uint32_t keys, uint64_t limit)
{
    struct node *out = make_like(arena, NODE_SORT, input);
    struct sort_key *copy = arena_array(arena, keys, sizeof(*copy));

    if (out == NULL || copy == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < keys; i++) {
        copy[i] = key[i];
    }
    out->sort.key = copy;
    out->sort.keys = keys;
    out->sort.limit = limit;
    return out;
}

const struct node *node_over(struct arena *arena, const struct node *node, const struct node *input)
{
    if (node->input == input) {
        return node;
    }
    struct node *out = arena_copy(arena, node, sizeof(*node));

    if (out != NULL) {
        out->input = input;
        out->depth = input->depth + 1;
        if (node->kind == NODE_FILTER || node->kind == NODE_HEAD || node->kind == NODE_SORT) {
            out->columns = input->columns;
            out->field = input->field;
        }
    }
    return out;
}

const struct node *node_rows(const struct node *node)
{
    while (node->kind == NODE_PROJECT) {
        node = node->input;
    }
    return node;
}

const struct node *node_bottom(const struct node *node)
{
    while (node->input != NULL) {
        node = node->input;
    }
    return node;
}

uint32_t node_find(const struct node *node, uint32_t from, const char *name)
{
    for (uint32_t i = from; i < node->columns; i++) {
        if (strcmp(node->field[i].name, name) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}

const char *const *node_names(const struct node *node, struct arena *arena)
{
    const char **out = arena_array(arena, node->columns, sizeof(*out));

    for (uint32_t i = 0; i < node->columns && out != NULL; i++) {
        out[i] = node->field[i].name;
    }
    return out;
}

// ---- printing ----------------------------------------------------------------------

// Text that grows in an arena; quiet once memory has ended.
struct text {
    struct arena *arena;
    char *out;
};

static void add(struct text *text, const char *separator, const char *word)
{
    if (text->out != NULL) {
        text->out = word == NULL ? NULL : arena_printf(text->arena, "%s%s%s", text->out, separator, word);
    }
}

static char *print_scan(const struct node *node, struct arena *arena)
{
    struct text text = {arena, arena_printf(arena, "scan %s [", node->scan.source->label)};

    for (uint32_t i = 0; i < node->columns; i++) {
        add(&text, i == 0 ? "" : ", ",
            arena_printf(arena, "%s: %s", node->field[i].name,
                         node->field[i].type == TYPE_ANY ? "any" : type_name(node->field[i].type)));
    }
    add(&text, "", "]");
    return text.out;
}

static char *print_project(const struct node *node, struct arena *arena)
{
    struct text text = {arena, arena_strdup(arena, "project [")};
    const char *const *names = node_names(node->input, arena);

    for (uint32_t i = 0; i < node->columns && names != NULL; i++) {
        const struct expr *expr = node->project.expr[i];
        const char *name = node->field[i].name;
        uint32_t column;
        char *word = expr_print(expr, names, arena);

        if (word != NULL && !(expr_is_column(expr, &column) && strcmp(names[column], name) == 0)) {
            word = arena_printf(arena, "%s = %s", name, word);
        }
        add(&text, i == 0 ? "" : ", ", word);
    }
    add(&text, "", "]");
    return names == NULL ? NULL : text.out;
}

static char *print_aggregate(const struct node *node, struct arena *arena)
{
    struct text text = {arena,
                        arena_strdup(arena, node->aggregate.keys > 0 ? "aggregate by [" : "aggregate [")};

    for (uint32_t i = 0; i < node->aggregate.keys; i++) {
        add(&text, i == 0 ? "" : ", ", node->input->field[node->aggregate.key[i]].name);
    }
    if (node->aggregate.keys > 0) {
        add(&text, "", "] [");
    }
    for (uint32_t i = 0; i < node->aggregate.aggs; i++) {
        const struct aggregate *agg = &node->aggregate.agg[i];
        const char *column = agg->fn == DRAY__AGG_FN__SIZE ? "" : node->input->field[agg->column].name;

        add(&text, i == 0 ? "" : ", ",
            arena_printf(arena, "%s = %s(%s)", node->field[node->aggregate.keys + i].name,
                         aggregate_name(agg->fn), column));
    }
    add(&text, "", "]");
    return text.out;
}

static char *print_sort(const struct node *node, struct arena *arena)
{
    struct text text = {arena, arena_strdup(arena, "sort [")};

    for (uint32_t i = 0; i < node->sort.keys; i++) {
        add(&text, i == 0 ? "" : ", ",
            arena_printf(arena, "%s%s%s", node->field[node->sort.key[i].column].name,
                         node->sort.key[i].descending ? " descending" : "",
                         node->sort.key[i].nulls_first ? " nulls first" : ""));
    }
    add(&text, "", "]");
    if (node->sort.limit > 0) {
        add(&text, "", arena_printf(arena, " first %llu", (unsigned long long)node->sort.limit));
    }
    return text.out;
}

char *node_print(const struct node *node, struct arena *arena)
{
    const char *const *names;

    switch (node->kind) {
    case NODE_SCAN:
        return print_scan(node, arena);
    case NODE_PROJECT:
        return print_project(node, arena);
    case NODE_FILTER:
        names = node_names(node, arena);
        char *predicate = names == NULL ? NULL : expr_print(node->filter.predicate, names, arena);

        return predicate == NULL ? NULL : arena_printf(arena, "filter %s", predicate);
    case NODE_AGGREGATE:
        return print_aggregate(node, arena);
    case NODE_HEAD:
        return arena_printf(arena, "head %llu", (unsigned long long)node->head.rows);
    case NODE_SORT:
        return print_sort(node, arena);
    }
    return NULL;
}
