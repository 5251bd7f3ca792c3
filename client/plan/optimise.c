#include "client/plan/optimise.h"

#include <string.h>

enum { ROUNDS_MAX = 1000 };

// A local rule looks at one node and what is below it; NULL: nothing to do, or no memory (rules
// are a service: a plan without them is slower and no less right).
typedef const struct node *(*local_rule)(struct arena *arena, const struct node *node);

// ---- fold ----------------------------------------------------------------------------

static const struct node *fold(struct arena *arena, const struct node *node)
{
    if (node->kind == NODE_FILTER) {
        const struct expr *p = expr_fold(arena, node->filter.predicate);

        if (p->kind == DRAY__EXPR_KIND__LITERAL && p->boolean) {
            return node->input;
        }
        return p == node->filter.predicate ? NULL : node_filter(arena, node->input, p);
    }
    if (node->kind == NODE_PROJECT) {
        const struct expr **expr = arena_array(arena, node->columns, sizeof(*expr));
        const char *const *names = node_names(node, arena);
        bool changed = false;

        if (expr == NULL || names == NULL) {
            return NULL;
        }
        for (uint32_t i = 0; i < node->columns; i++) {
            expr[i] = expr_fold(arena, node->project.expr[i]);
            changed |= expr[i] != node->project.expr[i];
        }
        return changed ? node_project(arena, node->input, expr, names, node->columns) : NULL;
    }
    return NULL;
}

// ---- filters ----------------------------------------------------------------------------

static const struct node *filter_below_project(struct arena *arena, const struct node *node)
{
    const struct node *project = node->input;
    const struct expr *p = expr_substitute(arena, node->filter.predicate, project->project.expr);

    if (p == NULL) {
        return NULL;
    }
    const struct node *filter = node_filter(arena, project->input, p);

    return filter == NULL ? NULL : node_over(arena, project, filter);
}

static const struct node *merge_filters(struct arena *arena, const struct node *node)
{
    struct expr_fault fault = {0};
    const struct expr *both = expr_binary(arena, DRAY__EXPR_KIND__AND, node->input->filter.predicate,
                                          node->filter.predicate, &fault);

    return both == NULL || !expr_fits(both) ? NULL : node_filter(arena, node->input->input, both);
}

// A condition on the keys alone holds for a group as it holds for each of its rows.
static const struct node *filter_below_aggregate(struct arena *arena, const struct node *node)
{
    const struct node *aggregate = node->input;
    uint32_t keys = aggregate->aggregate.keys;
    bool *used = arena_zalloc(arena, aggregate->columns + 1);
    const struct expr **with = arena_array(arena, aggregate->columns, sizeof(*with));
    bool any = false;

    if (used == NULL || with == NULL || keys == 0) {
        return NULL;
    }
    expr_columns(node->filter.predicate, used);
    for (uint32_t i = keys; i < aggregate->columns; i++) {
        any |= used[i];
        with[i] = NULL;
    }
    for (uint32_t i = 0; i < keys && !any; i++) {
        with[i] = expr_column(arena, aggregate->aggregate.key[i], aggregate->field[i].type);
        any |= with[i] == NULL;
    }
    if (any) {
        return NULL;
    }
    const struct expr *p = expr_substitute(arena, node->filter.predicate, with);
    const struct node *filter = p == NULL ? NULL : node_filter(arena, aggregate->input, p);

    return filter == NULL ? NULL : node_over(arena, aggregate, filter);
}

static const struct node *push_filter(struct arena *arena, const struct node *node)
{
    const struct node *filter;

    if (node->kind != NODE_FILTER) {
        return NULL;
    }
    switch (node->input->kind) {
    case NODE_PROJECT:
        return filter_below_project(arena, node);
    case NODE_FILTER:
        return merge_filters(arena, node);
    case NODE_AGGREGATE:
        return filter_below_aggregate(arena, node);
    case NODE_SORT:
        if (node->input->sort.limit > 0) {
            return NULL;
        }
        filter = node_filter(arena, node->input->input, node->filter.predicate);
        return filter == NULL ? NULL : node_over(arena, node->input, filter);
    default:
        return NULL;
    }
}

// ---- heads ----------------------------------------------------------------------------------

static const struct node *push_head(struct arena *arena, const struct node *node)
{
    const struct node *input = node->input;
    const struct node *head;

    if (node->kind != NODE_HEAD) {
        return NULL;
    }
    switch (input->kind) {
    case NODE_PROJECT:
        head = node_head(arena, input->input, node->head.rows);
        return head == NULL ? NULL : node_over(arena, input, head);
    case NODE_HEAD:
        return node_head(arena, input->input,
                         node->head.rows < input->head.rows ? node->head.rows : input->head.rows);
    case NODE_SORT:
        if (node->head.rows == 0) { // a limit of 0 means none
            head = node_head(arena, input->input, 0);
            return head == NULL ? NULL : node_over(arena, input, head);
        }
        return node_sort(arena, input->input, input->sort.key, input->sort.keys,
                         input->sort.limit > 0 && input->sort.limit < node->head.rows ? input->sort.limit
                                                                                      : node->head.rows);
    default:
        return NULL;
    }
}

// ---- projects --------------------------------------------------------------------------------

static bool is_identity(const struct node *node)
{
    uint32_t column;

    if (node->columns != node->input->columns) {
        return false;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        if (!expr_is_column(node->project.expr[i], &column) || column != i ||
            strcmp(node->field[i].name, node->input->field[i].name) != 0) {
            return false;
        }
    }
    return true;
}

// How often each column of the input is read, up to two.
static void count_uses(const struct expr *expr, unsigned char *uses)
{
    if (expr == NULL) {
        return;
    }
    if (expr->kind == DRAY__EXPR_KIND__COLUMN && uses[expr->column] < 2) {
        uses[expr->column]++;
    }
    count_uses(expr->a, uses);
    count_uses(expr->b, uses);
}

static const struct node *merge_projects(struct arena *arena, const struct node *node)
{
    const struct node *below = node->input;
    const struct expr **expr = arena_array(arena, node->columns, sizeof(*expr));
    unsigned char *uses = arena_zalloc(arena, below->columns + 1);
    const char *const *names = node_names(node, arena);

    if (expr == NULL || uses == NULL || names == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        count_uses(node->project.expr[i], uses);
    }
    for (uint32_t i = 0; i < below->columns; i++) {
        if (uses[i] > 1 && below->project.expr[i]->nodes > 1) {
            return NULL; // it would be computed twice
        }
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        expr[i] = expr_substitute(arena, node->project.expr[i], below->project.expr);
        if (expr[i] == NULL) {
            return NULL;
        }
    }
    return node_project(arena, below->input, expr, names, node->columns);
}

static const struct node *fuse_projects(struct arena *arena, const struct node *node)
{
    if (node->kind != NODE_PROJECT) {
        return NULL;
    }
    if (is_identity(node)) {
        return node->input;
    }
    return node->input->kind == NODE_PROJECT ? merge_projects(arena, node) : NULL;
}

// ---- columns --------------------------------------------------------------------------------------

// What a node became, and where each of its old columns is now (UINT32_MAX: gone).
struct culled {
    const struct node *node;
    uint32_t *place;
};

static bool cull(struct arena *arena, const struct node *node, const bool *needed, struct culled *out);

// expr over the columns at their new places.
static const struct expr *moved(struct arena *arena, const struct expr *expr, const struct node *old,
                                const uint32_t *place)
{
    const struct expr **with = arena_array(arena, old->columns, sizeof(*with));

    for (uint32_t i = 0; i < old->columns && with != NULL; i++) {
        with[i] = place[i] == UINT32_MAX ? NULL : expr_column(arena, place[i], old->field[i].type);
    }
    return with == NULL ? NULL : expr_substitute(arena, expr, with);
}

static bool all_in_place(const struct node *node, const uint32_t *place, uint32_t columns)
{
    if (columns != node->columns) {
        return false;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        if (place[i] != i) {
            return false;
        }
    }
    return true;
}

static bool cull_scan(struct arena *arena, const struct node *node, const bool *needed, struct culled *out)
{
    uint32_t *column = arena_array(arena, (size_t)node->columns + 1, sizeof(*column));
    uint32_t used = 0;

    if (column == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        out->place[i] = needed[i] ? used : UINT32_MAX;
        if (needed[i]) {
            column[used++] = node->scan.column[i];
        }
    }
    out->node = used == node->columns ? node : node_scan(arena, node->scan.source, column, used);
    return out->node != NULL;
}

static bool cull_project(struct arena *arena, const struct node *node, const bool *needed, struct culled *out)
{
    const struct node *input = node->input;
    bool *below = arena_zalloc(arena, input->columns + 1);
    const struct expr **expr = arena_array(arena, node->columns, sizeof(*expr));
    const char **name = arena_array(arena, node->columns, sizeof(*name));
    struct culled in;
    uint32_t used = 0;

    if (below == NULL || expr == NULL || name == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        if (needed[i]) {
            expr_columns(node->project.expr[i], below);
        }
    }
    if (!cull(arena, input, below, &in)) {
        return false;
    }
    for (uint32_t i = 0; i < node->columns; i++) {
        out->place[i] = needed[i] ? used : UINT32_MAX;
        if (needed[i]) {
            name[used] = node->field[i].name;
            expr[used] = moved(arena, node->project.expr[i], input, in.place);
            if (expr[used++] == NULL) {
                return false;
            }
        }
    }
    out->node =
        in.node == input && used == node->columns ? node : node_project(arena, in.node, expr, name, used);
    return out->node != NULL;
}

static bool cull_through(struct arena *arena, const struct node *node, const bool *needed, struct culled *out)
{
    const struct node *input = node->input;
    bool *below = arena_copy(arena, needed, node->columns + (size_t)1);
    struct culled in;

    if (below == NULL) {
        return false;
    }
    if (node->kind == NODE_FILTER) {
        expr_columns(node->filter.predicate, below);
    }
    for (uint32_t i = 0; node->kind == NODE_SORT && i < node->sort.keys; i++) {
        below[node->sort.key[i].column] = true;
    }
    if (!cull(arena, input, below, &in)) {
        return false;
    }
    memcpy(out->place, in.place, node->columns * sizeof(*out->place));
    if (in.node == input) {
        out->node = node;
        return true;
    }
    if (node->kind == NODE_HEAD || all_in_place(input, in.place, in.node->columns)) {
        out->node = node_over(arena, node, in.node);
    } else if (node->kind == NODE_FILTER) {
        const struct expr *p = moved(arena, node->filter.predicate, input, in.place);

        out->node = p == NULL ? NULL : node_filter(arena, in.node, p);
    } else {
        struct sort_key *key = arena_array(arena, node->sort.keys, sizeof(*key));

        for (uint32_t i = 0; i < node->sort.keys && key != NULL; i++) {
            key[i] = node->sort.key[i];
            key[i].column = in.place[key[i].column];
        }
        out->node = key == NULL ? NULL : node_sort(arena, in.node, key, node->sort.keys, node->sort.limit);
    }
    return out->node != NULL;
}

static bool cull_aggregate(struct arena *arena, const struct node *node, const bool *needed,
                           struct culled *out)
{
    const struct node *input = node->input;
    uint32_t keys = node->aggregate.keys;
    bool *below = arena_zalloc(arena, input->columns + 1);
    uint32_t *key = arena_array(arena, keys, sizeof(*key));
    struct aggregate *agg = arena_array(arena, node->aggregate.aggs, sizeof(*agg));
    const char **name = arena_array(arena, node->columns, sizeof(*name));
    struct culled in;
    uint32_t used = 0;

    if (below == NULL || key == NULL || agg == NULL || name == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < keys; i++) {
        below[node->aggregate.key[i]] = true;
    }
    for (uint32_t i = 0; i < node->aggregate.aggs; i++) {
        if (needed[keys + i] && node->aggregate.agg[i].fn != DRAY__AGG_FN__SIZE) {
            below[node->aggregate.agg[i].column] = true;
        }
    }
    if (!cull(arena, input, below, &in)) {
        return false;
    }
    for (uint32_t i = 0; i < keys; i++) {
        out->place[i] = i;
        key[i] = in.place[node->aggregate.key[i]];
        name[i] = node->field[i].name;
    }
    for (uint32_t i = 0; i < node->aggregate.aggs; i++) {
        const struct aggregate *a = &node->aggregate.agg[i];

        out->place[keys + i] = needed[keys + i] ? keys + used : UINT32_MAX;
        if (needed[keys + i]) {
            name[keys + used] = node->field[keys + i].name;
            agg[used++] = (struct aggregate){a->fn, a->fn == DRAY__AGG_FN__SIZE ? 0 : in.place[a->column]};
        }
    }
    out->node = in.node == input && used == node->aggregate.aggs
                    ? node
                    : node_aggregate(arena, in.node, key, keys, agg, used, name);
    return out->node != NULL;
}

// Recursion is bounded by NODE_DEPTH_MAX.
static bool cull(struct arena *arena, const struct node *node, const bool *needed, struct culled *out)
{
    out->place = arena_array(arena, (size_t)node->columns + 1, sizeof(*out->place));
    if (out->place == NULL) {
        return false;
    }
    switch (node->kind) {
    case NODE_SCAN:
        return cull_scan(arena, node, needed, out);
    case NODE_PROJECT:
        return cull_project(arena, node, needed, out);
    case NODE_AGGREGATE:
        return cull_aggregate(arena, node, needed, out);
    default:
        return cull_through(arena, node, needed, out);
    }
}

static const struct node *cull_columns(struct arena *arena, const struct node *root)
{
    bool *needed = arena_alloc(arena, root->columns + (size_t)1);
    struct culled out;

    if (needed == NULL) {
        return root;
    }
    memset(needed, 1, root->columns + (size_t)1);
    return cull(arena, root, needed, &out) ? out.node : root;
}

// ---- to a fixed point ---------------------------------------------------------------------------

// Applies a rule at every node, from the top down.
static const struct node *everywhere(struct arena *arena, const struct node *root, local_rule rule)
{
    const struct node *path[2 * NODE_DEPTH_MAX];
    uint32_t depth = 0;
    const struct node *node = root;

    while (node->input != NULL && depth < 2 * NODE_DEPTH_MAX) {
        const struct node *better = rule(arena, node);

        if (better != NULL) {
            // Put back what was above it.
            while (depth > 0 && better != NULL) {
                better = node_over(arena, path[--depth], better);
            }
            return better == NULL ? root : better;
        }
        path[depth++] = node;
        node = node->input;
    }
    return root;
}

struct rule {
    const char *name;
    local_rule local;                                                          // at one node, or
    const struct node *(*whole)(struct arena *arena, const struct node *root); // over all of them
};

static const struct rule rules[] = {
    {"fold", fold, NULL},
    {"filters", push_filter, NULL},
    {"heads", push_head, NULL},
    {"projects", fuse_projects, NULL},
    {"columns", NULL, cull_columns},
};

const struct node *optimise(struct arena *arena, const struct node *root)
{
    bool changed = true;

    for (int round = 0; changed && round < ROUNDS_MAX; round++) {
        changed = false;
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && !changed; i++) {
            const struct node *better = rules[i].local != NULL ? everywhere(arena, root, rules[i].local)
                                                               : rules[i].whole(arena, root);

            changed = better != root;
            root = better;
        }
    }
    return root;
}
