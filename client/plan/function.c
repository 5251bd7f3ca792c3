// Functions: read_csv, len, print, abs.
#include <string.h>

#include "client/plan/method.h"
#include "client/plan/read_csv.h"

static int run_len(struct binder *b, const struct call *call, const struct value **out)
{
    const struct value *v = call->arg[0];
    const struct reduction size = {DRAY__AGG_FN__SIZE, NULL};
    const struct node *node = NULL;
    struct value *length = bind_value(b, VALUE_INT, call->at);

    if (length == NULL) {
        return bind_no_memory(b);
    }
    switch (v->kind) {
    case VALUE_FRAME:
        return bind_scalars(b, v->frame.node, &size, 1, NULL, call->at, out);
    case VALUE_SERIES:
        return bind_scalars(b, v->series.node, &size, 1, NULL, call->at, out);
    case VALUE_GROUPS: {
        int rc = bind_aggregate(b, v->groups.node, v->groups.key, v->groups.keys, NULL, 0, v->groups.key_name,
                                &node);

        return rc < 0 ? rc : bind_scalars(b, node, &size, 1, NULL, call->at, out);
    }
    case VALUE_LIST:
    case VALUE_TUPLE:
        length->i = v->items;
        break;
    case VALUE_DICT:
        length->i = v->items / 2;
        break;
    case VALUE_STRING:
        for (uint32_t i = 0; i < v->size; i++) {
            length->i += ((unsigned char)v->text[i] & 0xc0) != 0x80;
        }
        break;
    default:
        return bind_fail(b, v->at, "%s has no length", value_words(v));
    }
    *out = length;
    return 0;
}

static int run_print(struct binder *b, const struct call *call, const struct value **out)
{
    (void)b;
    *out = call->arg[0];
    return 0;
}

static int run_abs(struct binder *b, const struct call *call, const struct value **out)
{
    return bind_unary(b, DRAY__EXPR_KIND__ABS, call->arg[0], call->at, out);
}

static const struct parameter len_parameters[] = {{"obj", TAKES_ANY, NULL, true}, {0}};
static const struct parameter print_parameters[] = {{"value", TAKES_ANY, NULL, true}, {0}};
static const struct parameter abs_parameters[] = {{"x", TAKES_ANY, NULL, true}, {0}};

static const struct method methods[] = {
    {ON_NOTHING | ON_MODULE, "read_csv", false, false, read_csv, 0, read_csv_parameters, NULL},
    {ON_NOTHING, "len", false, false, run_len, 0, len_parameters, NULL},
    {ON_NOTHING, "print", false, false, run_print, 0, print_parameters, NULL},
    {ON_NOTHING, "abs", false, false, run_abs, 0, abs_parameters, NULL},
};

const struct method_table functions = {methods, sizeof(methods) / sizeof(methods[0])};
