// What a column can do.
#include <string.h>

#include "client/plan/method.h"

#define KIND(name) DRAY__EXPR_KIND__##name

static const char *label(const struct series *s)
{
    return s->name == NULL ? "0" : s->name; // pandas' name for a column without one
}

// The index and the column as a node of their own.
static int as_node(struct binder *b, const struct series *x, const char *name, const struct node **out)
{
    struct selection s;
    int rc = selection_start(b, x->node, 0, x->index, &s);

    if (rc == 0) {
        rc = selection_add(b, &s, x->expr, name);
    }
    return rc < 0 ? rc : selection_node(b, &s, out);
}

// ---- aggregations ------------------------------------------------------------------------

static int run_reduction(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;
    struct reduction r = {(Dray__AggFn)call->method->detail, s->expr};
    int rc = bind_argument(b, r.fn, s->expr, s->name, call->at, &r.argument);

    return rc < 0 ? rc : bind_scalars(b, s->node, &r, 1, NULL, call->at, out);
}

static int run_agg(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;
    const struct value *what = call->arg[0];
    bool many = what->kind == VALUE_LIST;
    uint32_t count = many ? what->items : 1;
    struct reduction *list = arena_array(b->arena, count, sizeof(*list));
    const char **name = arena_array(b->arena, count, sizeof(*name));

    if (list == NULL || name == NULL) {
        return bind_no_memory(b);
    }
    if (count == 0) {
        return bind_fail(b, what->at, "an empty list: at least one aggregation");
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct value *one = many ? what->item[i] : what;
        int rc = bind_agg_name(b, one, &list[i].fn);

        if (rc == 0) {
            rc = bind_argument(b, list[i].fn, s->expr, s->name, one->at, &list[i].argument);
        }
        if (rc < 0) {
            return rc;
        }
        name[i] = one->text;
    }
    const struct value *row = NULL;
    int rc = bind_scalars(b, s->node, list, count, many ? name : NULL, call->at, &row);

    if (rc == 0 && many) {
        struct value *titled = arena_copy(b->arena, row, sizeof(*row));

        if (titled == NULL) {
            return bind_no_memory(b);
        }
        titled->scalars.title = s->name;
        row = titled;
    }
    *out = row;
    return rc;
}

static int run_value_counts(struct binder *b, const struct call *call, const struct value **out)
{
    enum { ASCENDING = 1 };
    const struct series *s = &call->self->series;
    const struct reduction size = {DRAY__AGG_FN__SIZE, NULL};
    const char *name[] = {label(s), "count"};
    bool up = call->arg[ASCENDING] != NULL && call->arg[ASCENDING]->boolean;
    const struct sort_key key[] = {{1, !up, false}, {0, false, false}};
    const struct node *node;
    int rc = bind_aggregate(b, s->node, &s->expr, 1, &size, 1, name, &node);

    if (rc < 0) {
        return rc;
    }
    // Equal counts come in the order of their values: pandas leaves that order open.
    node = node_sort(b->arena, node, key, 2, 0);
    return bind_series(b, node, 1, expr_column(b->arena, 1, TYPE_INT64), "count", call->at, out);
}

// ---- value by value --------------------------------------------------------------------------

static int run_unary(struct binder *b, const struct call *call, const struct value **out)
{
    return bind_unary(b, (Dray__ExprKind)call->method->detail, call->self, call->at, out);
}

static int run_binary(struct binder *b, const struct call *call, const struct value **out)
{
    return bind_binary(b, (Dray__ExprKind)call->method->detail, call->self, call->arg[0], call->at, out);
}

static int run_binary_reversed(struct binder *b, const struct call *call, const struct value **out)
{
    return bind_binary(b, (Dray__ExprKind)call->method->detail, call->arg[0], call->self, call->at, out);
}

static int run_between(struct binder *b, const struct call *call, const struct value **out)
{
    enum { LEFT, RIGHT, INCLUSIVE };
    const char *inclusive = call->arg[INCLUSIVE] == NULL ? "both" : call->arg[INCLUSIVE]->text;
    bool both = strcmp(inclusive, "both") == 0;
    bool left = both || strcmp(inclusive, "left") == 0;
    bool right = both || strcmp(inclusive, "right") == 0;
    const struct value *low;
    const struct value *high;
    int rc;

    if (!left && !right && strcmp(inclusive, "neither") != 0) {
        return bind_fail(b, call->arg[INCLUSIVE]->at,
                         "'inclusive' takes \"both\", \"left\", \"right\" or \"neither\"");
    }
    rc = bind_binary(b, left ? KIND(GE) : KIND(GT), call->self, call->arg[LEFT], call->at, &low);
    if (rc == 0) {
        rc = bind_binary(b, right ? KIND(LE) : KIND(LT), call->self, call->arg[RIGHT], call->at, &high);
    }
    return rc < 0 ? rc : bind_binary(b, KIND(AND), low, high, call->at, out);
}

static bool is_text(const struct value *v)
{
    return v->kind == VALUE_STRING;
}

static int run_isin(struct binder *b, const struct call *call, const struct value **out)
{
    const struct value *list = call->arg[0];
    const struct series *s = &call->self->series;
    const struct value *any = NULL;
    int rc = 0;

    if (list->kind != VALUE_LIST && list->kind != VALUE_TUPLE) {
        return bind_fail(b, list->at, "isin() takes a list, this is %s", value_words(list));
    }
    for (uint32_t i = 0; i < list->items && rc == 0; i++) {
        const struct value *equal;

        // What can never be equal is simply not in the list, as in pandas.
        if (!value_is_literal(list->item[i]) || list->item[i]->kind == VALUE_NONE) {
            return bind_fail(b, list->item[i]->at, "isin() takes literals, this is %s",
                             value_words(list->item[i]));
        }
        if (is_text(list->item[i]) != (s->expr->type == TYPE_STRING)) {
            continue;
        }
        rc = bind_binary(b, KIND(EQ), call->self, list->item[i], list->item[i]->at, &equal);
        if (rc == 0 && any != NULL) {
            rc = bind_binary(b, KIND(OR), any, equal, call->at, &any);
        } else if (rc == 0) {
            any = equal;
        }
    }
    if (rc == 0 && any == NULL) {
        return bind_series(b, s->node, s->index, expr_bool(b->arena, false), s->name, call->at, out);
    }
    *out = any;
    return rc;
}

// ---- the column itself --------------------------------------------------------------------------

static int run_name(struct binder *b, const struct call *call, const struct value **out)
{
    const char *name = call->self->series.name;
    struct value *v = bind_value(b, name == NULL ? VALUE_NONE : VALUE_STRING, call->at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    if (name != NULL) {
        v->text = name;
        v->size = (uint32_t)strlen(name);
    }
    *out = v;
    return 0;
}

static int run_dtype(struct binder *b, const struct call *call, const struct value **out)
{
    enum type type = call->self->series.expr->type;
    struct value *v = bind_value(b, VALUE_STRING, call->at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->text = type == TYPE_STRING || type == TYPE_ANY ? "object" : type_name(type);
    v->size = (uint32_t)strlen(v->text);
    *out = v;
    return 0;
}

static int run_rename(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;

    return bind_series(b, s->node, s->index, s->expr, call->arg[0]->text, call->at, out);
}

static int run_to_frame(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;
    const struct node *node;
    int rc = as_node(b, s, call->arg[0] == NULL ? label(s) : call->arg[0]->text, &node);

    return rc < 0 ? rc : bind_frame(b, node, s->index, call->at, out);
}

static int run_reset_index(struct binder *b, const struct call *call, const struct value **out)
{
    enum { DROP, NAME };
    const struct series *s = &call->self->series;
    const char *name = call->arg[NAME] == NULL ? label(s) : call->arg[NAME]->text;
    const struct node *node;
    int rc;

    if (call->arg[DROP] != NULL && call->arg[DROP]->boolean) {
        return bind_series(b, s->node, 0, s->expr, s->name, call->at, out);
    }
    for (uint32_t i = 0; i < s->index; i++) {
        if (strcmp(s->node->field[i].name, name) == 0) {
            return bind_fail(b, call->at, "two columns would be called '%s': reset_index(name=\"...\")",
                             name);
        }
    }
    rc = as_node(b, s, name, &node);
    return rc < 0 ? rc : bind_frame(b, node, 0, call->at, out);
}

// ---- order ------------------------------------------------------------------------------------------

static int sorted(struct binder *b, const struct series *s, struct sort_key key, bool head, uint64_t rows,
                  struct place at, const struct value **out)
{
    const struct node *node;
    int rc = as_node(b, s, label(s), &node);

    if (rc < 0) {
        return rc;
    }
    node = node_sort(b->arena, node, &key, 1, 0);
    if (node != NULL && head) {
        node = node_head(b->arena, node, rows);
    }
    return bind_series(b, node, s->index, expr_column(b->arena, s->index, s->expr->type), s->name, at, out);
}

static int run_sort_values(struct binder *b, const struct call *call, const struct value **out)
{
    enum { ASCENDING, NA_POSITION };
    const struct value *position = call->arg[NA_POSITION];
    bool first = position != NULL && strcmp(position->text, "first") == 0;
    bool down = call->arg[ASCENDING] != NULL && !call->arg[ASCENDING]->boolean;

    if (position != NULL && !first && strcmp(position->text, "last") != 0) {
        return bind_fail(b, position->at, "'na_position' takes \"first\" or \"last\"");
    }
    return sorted(b, &call->self->series, (struct sort_key){call->self->series.index, down, first}, false, 0,
                  call->at, out);
}

static int run_nlargest(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;
    const struct value *n = call->arg[0];

    if (n != NULL && n->i < 0) {
        return bind_fail(b, n->at, "a number from 0");
    }
    if (s->expr->type == TYPE_STRING) {
        return bind_fail(b, call->at, "%s() takes numbers: sort_values().head(n) sorts text",
                         call->method->name);
    }
    return sorted(b, s, (struct sort_key){s->index, call->method->detail != 0, false}, true,
                  n == NULL ? 5 : (uint64_t)n->i, call->at, out);
}

static int run_sort_index(struct binder *b, const struct call *call, const struct value **out)
{
    const struct series *s = &call->self->series;
    bool down = call->arg[0] != NULL && !call->arg[0]->boolean;
    struct sort_key *key = arena_array(b->arena, s->index, sizeof(*key));
    const struct node *node;
    int rc;

    if (key == NULL) {
        return bind_no_memory(b);
    }
    if (s->index == 0) {
        return bind_fail(b, call->at, "the rows of this column are numbered: there is no index to sort by");
    }
    for (uint32_t i = 0; i < s->index; i++) {
        key[i] = (struct sort_key){i, down, false};
    }
    rc = as_node(b, s, label(s), &node);
    if (rc < 0) {
        return rc;
    }
    return bind_series(b, node_sort(b->arena, node, key, s->index, 0), s->index,
                       expr_column(b->arena, s->index, s->expr->type), s->name, call->at, out);
}

// ---- the table -----------------------------------------------------------------------------------------

static const struct parameter no_parameters[] = {{0}};
static const struct parameter reduction_parameters[] = {{"axis", TAKES_ONLY, "0", false},
                                                        {"skipna", TAKES_ONLY, "True", false},
                                                        {"numeric_only", TAKES_NOTHING, NULL, false},
                                                        {"ddof", TAKES_ONLY, "1", false},
                                                        {"min_count", TAKES_ONLY, "0", false},
                                                        {0}};
static const struct parameter agg_parameters[] = {{"func", TAKES_ANY, NULL, true}, {0}};
static const struct parameter value_counts_parameters[] = {{"normalize", TAKES_ONLY, "False", false},
                                                           {"ascending", TAKES_BOOL, NULL, false},
                                                           {"sort", TAKES_ONLY, "True", false},
                                                           {"dropna", TAKES_ONLY, "True", false},
                                                           {0}};
static const struct parameter other_parameters[] = {{"other", TAKES_ANY, NULL, true}, {0}};
static const struct parameter between_parameters[] = {{"left", TAKES_ANY, NULL, true},
                                                      {"right", TAKES_ANY, NULL, true},
                                                      {"inclusive", TAKES_STRING, NULL, false},
                                                      {0}};
static const struct parameter isin_parameters[] = {{"values", TAKES_ANY, NULL, true}, {0}};
static const struct parameter rename_parameters[] = {{"index", TAKES_STRING, NULL, true}, {0}};
static const struct parameter to_frame_parameters[] = {{"name", TAKES_STRING, NULL, false}, {0}};
static const struct parameter reset_parameters[] = {{"drop", TAKES_BOOL, NULL, false},
                                                    {"name", TAKES_STRING, NULL, false},
                                                    {"inplace", TAKES_ONLY, "False", false},
                                                    {0}};
static const struct parameter sort_parameters[] = {
    {"ascending", TAKES_BOOL, NULL, false},    {"na_position", TAKES_STRING, NULL, false},
    {"inplace", TAKES_ONLY, "False", false},   {"kind", TAKES_NOTHING, NULL, false},
    {"ignore_index", TAKES_BOOL, NULL, false}, {0}};
static const struct parameter sort_index_parameters[] = {{"ascending", TAKES_BOOL, NULL, false}, {0}};
static const struct parameter n_parameters[] = {
    {"n", TAKES_INT, NULL, false}, {"keep", TAKES_ONLY, "first", false}, {0}};

#define REDUCTION(NAME, FN)                                                                                  \
    {                                                                                                        \
        ON_SERIES, NAME, false, false, run_reduction, (int)DRAY__AGG_FN__##FN, reduction_parameters, NULL    \
    }
#define BINARY(NAME, OP)                                                                                     \
    {                                                                                                        \
        ON_SERIES, NAME, false, false, run_binary, (int)KIND(OP), other_parameters, NULL                     \
    }
#define REVERSED(NAME, OP)                                                                                   \
    {                                                                                                        \
        ON_SERIES, NAME, false, false, run_binary_reversed, (int)KIND(OP), other_parameters, NULL            \
    }
#define UNARY(NAME, OP)                                                                                      \
    {                                                                                                        \
        ON_SERIES, NAME, false, false, run_unary, (int)KIND(OP), no_parameters, NULL                         \
    }

static const struct method methods[] = {
    REDUCTION("sum", SUM),
    REDUCTION("mean", MEAN),
    REDUCTION("count", COUNT),
    REDUCTION("min", MIN),
    REDUCTION("max", MAX),
    REDUCTION("std", STD),
    REDUCTION("var", VAR),
    {ON_SERIES, "agg", false, false, run_agg, 0, agg_parameters, NULL},
    {ON_SERIES, "aggregate", false, false, run_agg, 0, agg_parameters, NULL},
    {ON_SERIES, "value_counts", false, false, run_value_counts, 0, value_counts_parameters, NULL},
    UNARY("abs", ABS),
    UNARY("isna", IS_NULL),
    UNARY("isnull", IS_NULL),
    UNARY("notna", NOT_NULL),
    UNARY("notnull", NOT_NULL),
    BINARY("add", ADD),
    BINARY("sub", SUB),
    BINARY("mul", MUL),
    BINARY("div", DIV),
    BINARY("truediv", DIV),
    BINARY("floordiv", FLOORDIV),
    BINARY("mod", MOD),
    BINARY("pow", POW),
    REVERSED("radd", ADD),
    REVERSED("rsub", SUB),
    REVERSED("rmul", MUL),
    REVERSED("rdiv", DIV),
    BINARY("eq", EQ),
    BINARY("ne", NE),
    BINARY("lt", LT),
    BINARY("le", LE),
    BINARY("gt", GT),
    BINARY("ge", GE),
    {ON_SERIES, "between", false, false, run_between, 0, between_parameters, NULL},
    {ON_SERIES, "isin", false, false, run_isin, 0, isin_parameters, NULL},
    {ON_SERIES, "name", true, false, run_name, 0, NULL, NULL},
    {ON_SERIES, "dtype", true, false, run_dtype, 0, NULL, NULL},
    {ON_SERIES, "dtypes", true, false, run_dtype, 0, NULL, NULL},
    {ON_SERIES, "rename", false, false, run_rename, 0, rename_parameters, NULL},
    {ON_SERIES, "to_frame", false, false, run_to_frame, 0, to_frame_parameters, NULL},
    {ON_SERIES, "reset_index", false, false, run_reset_index, 0, reset_parameters, NULL},
    {ON_SERIES, "sort_values", false, false, run_sort_values, 0, sort_parameters, NULL},
    {ON_SERIES, "sort_index", false, false, run_sort_index, 0, sort_index_parameters, NULL},
    {ON_SERIES, "nlargest", false, false, run_nlargest, 1, n_parameters, NULL},
    {ON_SERIES, "nsmallest", false, false, run_nlargest, 0, n_parameters, NULL},
};

const struct method_table series_methods = {methods, sizeof(methods) / sizeof(methods[0])};
