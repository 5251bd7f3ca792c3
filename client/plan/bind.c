#include "client/plan/bind.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/lang/spell.h"
#include "client/plan/method.h"

int bind_fail(struct binder *b, struct place at, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return script_error(b->script, at, b->err, "%s", text);
}

int bind_no_memory(struct binder *b)
{
    return error_set(b->err, ENOMEM, "%s: this script needs more memory than a plan may take",
                     b->script->name);
}

struct value *bind_value(struct binder *b, enum value_kind kind, struct place at)
{
    struct value *v = arena_zalloc(b->arena, sizeof(*v));

    if (v != NULL) {
        v->kind = kind;
        v->at = at;
    }
    return v;
}

// ---- names ---------------------------------------------------------------------------

static const struct variable *find_variable(const struct binder *b, const char *name)
{
    for (const struct variable *v = b->variables; v != NULL; v = v->next) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

static int set_variable(struct binder *b, const char *name, const struct value *value)
{
    for (struct variable *v = b->variables; v != NULL; v = v->next) {
        if (strcmp(v->name, name) == 0) {
            v->value = value;
            return 0;
        }
    }
    struct variable *v = arena_alloc(b->arena, sizeof(*v));

    if (v == NULL) {
        return bind_no_memory(b);
    }
    *v = (struct variable){name, value, b->variables};
    b->variables = v;
    return 0;
}

static void try_name(void *spell, const char *name)
{
    spell_try(spell, name);
}

static int type_value(struct binder *b, const char *name, struct place at, const struct value **out)
{
    enum type type;

    if (!bind_type_name(name, &type)) {
        return 0;
    }
    struct value *v = bind_value(b, VALUE_TYPE, at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->type = type;
    *out = v;
    return 1;
}

static int bind_variable(struct binder *b, const struct ast *ast, const struct value **out)
{
    static const char *const types[] = {"int", "float", "str", "bool", "object"};
    const struct variable *variable = find_variable(b, ast->text);
    const struct method *function;

    if (variable != NULL) {
        struct value *copy = arena_copy(b->arena, variable->value, sizeof(*copy));

        if (copy == NULL) {
            return bind_no_memory(b);
        }
        copy->at = ast->at;
        *out = copy;
        return 0;
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(ast->text, types[i]) == 0) {
            int rc = type_value(b, ast->text, ast->at, out);

            return rc < 0 ? rc : 0;
        }
    }
    function = method_find(ON_NOTHING, ast->text);
    if (function != NULL) {
        struct value *v = bind_value(b, VALUE_METHOD, ast->at);

        if (v == NULL) {
            return bind_no_memory(b);
        }
        v->method = function;
        *out = v;
        return 0;
    }
    // People paste lines without their imports.
    if (strcmp(ast->text, "dd") == 0 || strcmp(ast->text, "pd") == 0 || strcmp(ast->text, "np") == 0) {
        struct value *v = bind_value(b, VALUE_MODULE, ast->at);

        if (v == NULL) {
            return bind_no_memory(b);
        }
        v->module = ast->text[0] == 'd' ? "dask.dataframe" : ast->text[0] == 'p' ? "pandas" : "numpy";
        *out = v;
        return 0;
    }
    struct spell spell = {.word = ast->text};

    for (const struct variable *v = b->variables; v != NULL; v = v->next) {
        spell_try(&spell, v->name);
    }
    method_each(ON_NOTHING, try_name, &spell);
    return bind_fail(b, ast->at, "there is no '%s' here%s%s%s", ast->text,
                     spell_is_near(&spell) ? ": did you mean '" : "", spell_is_near(&spell) ? spell.best : "",
                     spell_is_near(&spell) ? "'?" : "");
}

int bind_column(struct binder *b, const struct node *node, uint32_t from, const char *name, struct place at,
                uint32_t *column)
{
    struct spell spell = {.word = name};
    uint32_t found = node_find(node, from, name);

    if (found != UINT32_MAX) {
        *column = found;
        return 0;
    }
    for (uint32_t i = from; i < node->columns; i++) {
        spell_try(&spell, node->field[i].name);
    }
    if (spell_is_near(&spell)) {
        return bind_fail(b, at, "there is no column '%s': did you mean '%s'?", name, spell.best);
    }
    // Not near anything: show what there is, as far as it fits.
    char list[200] = "";
    size_t used = 0;

    for (uint32_t i = from; i < node->columns; i++) {
        size_t size = strlen(node->field[i].name);

        if (used + size + 8 > sizeof(list)) {
            memcpy(list + used, ", ...", 6);
            break;
        }
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i == from ? "" : ", ",
                                 node->field[i].name);
    }
    return bind_fail(b, at, "there is no column '%s'; there is: %s", name, list);
}

// ---- attributes, items, calls -----------------------------------------------------------

static int bind_expression(struct binder *b, const struct ast *ast, const struct value **out);

static int bind_module_attribute(struct binder *b, const struct ast *ast, const struct value *self,
                                 const struct value **out)
{
    const struct method *method = method_find(ON_MODULE, ast->text);
    int rc = 0;

    if (strcmp(self->module, "numpy") == 0) {
        rc = type_value(b, ast->text, ast->at, out);
        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
        if (strcmp(ast->text, "nan") == 0) {
            return bind_fail(b, ast->word, "np.nan is not there yet: .isna() asks for missing values");
        }
        return bind_fail(b, ast->word, "numpy has no '%s' here: its type names are there, nothing else",
                         ast->text);
    }
    if (strcmp(self->module, "dask") == 0 && strcmp(ast->text, "dataframe") == 0) {
        struct value *v = bind_value(b, VALUE_MODULE, ast->at);

        if (v == NULL) {
            return bind_no_memory(b);
        }
        v->module = "dask.dataframe";
        *out = v;
        return 0;
    }
    if (method == NULL || method->run == NULL) {
        struct spell spell = {.word = ast->text};

        method_each(ON_MODULE, try_name, &spell);
        return bind_fail(b, ast->word, "%s.%s is not there yet; the nearest name that is: '%s'", self->module,
                         ast->text, spell.best);
    }
    struct value *v = bind_value(b, VALUE_METHOD, ast->at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->method = method;
    *out = v;
    return 0;
}

static int no_attribute(struct binder *b, const struct ast *ast, const struct value *self,
                        const struct method *known)
{
    enum receiver receiver = method_receiver(self);
    struct spell spell = {.word = ast->text};
    const struct node *node = self->kind == VALUE_FRAME    ? self->frame.node
                              : self->kind == VALUE_GROUPS ? self->groups.node
                                                           : NULL;

    method_each(receiver, try_name, &spell);
    if (known != NULL) {
        return bind_fail(b, ast->word, "'%s' is not there yet; %s%s%s%s", ast->text,
                         known->advice[0] != '\0' ? known->advice : "the nearest name that is: '",
                         known->advice[0] != '\0' || spell.best == NULL ? "" : spell.best,
                         known->advice[0] != '\0' ? "" : "'", "");
    }
    for (uint32_t i = 0; node != NULL && i < node->columns; i++) {
        spell_try(&spell, node->field[i].name);
    }
    if (spell.best == NULL) {
        return bind_fail(b, ast->word, "%s has no '%s'", value_words(self), ast->text);
    }
    return bind_fail(b, ast->word,
                     spell_is_near(&spell) ? "%s has no '%s': did you mean '%s'?"
                                           : "%s has no '%s'; the nearest name that exists: '%s'",
                     value_words(self), ast->text, spell.best);
}

static int bind_attribute(struct binder *b, const struct ast *ast, const struct value **out)
{
    const struct value *self;
    int rc = bind_expression(b, ast->a, &self);

    if (rc < 0) {
        return rc;
    }
    if (self->kind == VALUE_MODULE) {
        return bind_module_attribute(b, ast, self, out);
    }
    if (self->kind == VALUE_METHOD) {
        return bind_fail(b, ast->a->at, "'%s' is a method: write %s() to call it", self->method->name,
                         self->method->name);
    }
    const struct method *method = method_find(method_receiver(self), ast->text);

    if (method != NULL && method->run != NULL) {
        if (method->property) {
            return method_property(b, method, self, ast->word, out);
        }
        struct value *v = bind_value(b, VALUE_METHOD, ast->at);

        if (v == NULL) {
            return bind_no_memory(b);
        }
        v->method = method;
        v->self = self;
        *out = v;
        return 0;
    }
    if (self->kind == VALUE_FRAME &&
        node_find(self->frame.node, self->frame.index, ast->text) != UINT32_MAX) {
        return bind_column_of(b, &self->frame, ast->text, ast->at, out);
    }
    if (self->kind == VALUE_GROUPS && !self->groups.chosen &&
        node_find(self->groups.node, 0, ast->text) != UINT32_MAX) {
        struct value *key = bind_value(b, VALUE_STRING, ast->word);

        if (key == NULL) {
            return bind_no_memory(b);
        }
        key->text = ast->text;
        key->size = ast->size;
        return bind_subscript(b, self, key, ast->word, out);
    }
    return no_attribute(b, ast, self, method);
}

static int bind_item(struct binder *b, const struct ast *ast, const struct value **out)
{
    const struct value *self;
    const struct value *key;
    int rc = bind_expression(b, ast->a, &self);

    if (rc == 0) {
        rc = bind_expression(b, ast->b, &key);
    }
    if (rc < 0) {
        return rc;
    }
    if ((self->kind == VALUE_LIST || self->kind == VALUE_TUPLE) && key->kind == VALUE_INT) {
        int64_t i = key->i < 0 ? key->i + self->items : key->i;

        if (i < 0 || i >= self->items) {
            return bind_fail(b, key->at, "there are %u items, counted from 0", self->items);
        }
        *out = self->item[i];
        return 0;
    }
    return bind_subscript(b, self, key, ast->b->at, out);
}

static int bind_call(struct binder *b, const struct ast *ast, const struct value **out)
{
    const struct value *callee;
    const struct value **arg = arena_array(b->arena, ast->items, sizeof(struct value *));
    int rc = bind_expression(b, ast->a, &callee);

    if (rc < 0) {
        return rc;
    }
    if (arg == NULL) {
        return bind_no_memory(b);
    }
    if (callee->kind != VALUE_METHOD) {
        if (callee->kind == VALUE_SERIES && ast->a->kind == AST_ATTRIBUTE) {
            return bind_fail(b, ast->a->word, "'%s' is a column, no method", ast->a->text);
        }
        return bind_fail(b, ast->a->word, "%s cannot be called", value_words(callee));
    }
    if (callee->method->run == NULL) {
        return bind_fail(b, ast->a->word, "'%s' is not there yet%s%s", callee->method->name,
                         callee->method->advice[0] != '\0' ? "; " : "", callee->method->advice);
    }
    for (uint32_t i = 0; i < ast->items; i++) {
        rc = bind_expression(b, ast->item[i], &arg[i]);
        if (rc < 0) {
            return rc;
        }
    }
    return method_call(b, callee->method, callee->self, ast, arg, out);
}

// ---- operators -----------------------------------------------------------------------------

static Dray__ExprKind binary_kind(enum op op)
{
    static const Dray__ExprKind kinds[] = {
        [OP_ADD] = DRAY__EXPR_KIND__ADD,
        [OP_SUB] = DRAY__EXPR_KIND__SUB,
        [OP_MUL] = DRAY__EXPR_KIND__MUL,
        [OP_DIV] = DRAY__EXPR_KIND__DIV,
        [OP_FLOORDIV] = DRAY__EXPR_KIND__FLOORDIV,
        [OP_MOD] = DRAY__EXPR_KIND__MOD,
        [OP_POW] = DRAY__EXPR_KIND__POW,
        [OP_BITAND] = DRAY__EXPR_KIND__AND,
        [OP_BITOR] = DRAY__EXPR_KIND__OR,
        [OP_BITXOR] = DRAY__EXPR_KIND__XOR,
        [OP_EQ] = DRAY__EXPR_KIND__EQ,
        [OP_NE] = DRAY__EXPR_KIND__NE,
        [OP_LT] = DRAY__EXPR_KIND__LT,
        [OP_LE] = DRAY__EXPR_KIND__LE,
        [OP_GT] = DRAY__EXPR_KIND__GT,
        [OP_GE] = DRAY__EXPR_KIND__GE,
    };

    return (size_t)op < sizeof(kinds) / sizeof(kinds[0]) ? kinds[op] : (Dray__ExprKind)0;
}

static int operate(struct binder *b, enum op op, const struct value *left, const struct value *right,
                   struct place at, const struct value **out)
{
    Dray__ExprKind kind = binary_kind(op);

    if (kind == 0) {
        return bind_fail(b, at, "'%s' is not there", op_text(op));
    }
    return bind_binary(b, kind, left, right, at, out);
}

static int bind_items(struct binder *b, const struct ast *ast, const struct value **out)
{
    struct value *v = bind_value(b,
                                 ast->kind == AST_LIST    ? VALUE_LIST
                                 : ast->kind == AST_TUPLE ? VALUE_TUPLE
                                                          : VALUE_DICT,
                                 ast->at);
    const struct value **item = arena_array(b->arena, ast->items, sizeof(struct value *));

    if (v == NULL || item == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < ast->items; i++) {
        int rc = bind_expression(b, ast->item[i], &item[i]);

        if (rc < 0) {
            return rc;
        }
    }
    v->item = item;
    v->items = ast->items;
    *out = v;
    return 0;
}

static int bind_constant(struct binder *b, const struct ast *ast, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_NONE, ast->at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    switch (ast->kind) {
    case AST_BOOL:
        v->kind = VALUE_BOOL;
        v->boolean = ast->boolean;
        break;
    case AST_INT:
        v->kind = VALUE_INT;
        v->i = ast->i;
        break;
    case AST_FLOAT:
        v->kind = VALUE_FLOAT;
        v->f = ast->f;
        break;
    case AST_STRING:
        v->kind = VALUE_STRING;
        v->text = ast->text;
        v->size = ast->size;
        break;
    default:
        break;
    }
    *out = v;
    return 0;
}

// Recursion is bounded by AST_DEPTH_MAX.
static int bind_expression(struct binder *b, const struct ast *ast, const struct value **out)
{
    const struct value *left;
    const struct value *right;
    int rc;

    switch (ast->kind) {
    case AST_NAME:
        return bind_variable(b, ast, out);
    case AST_LIST:
    case AST_TUPLE:
    case AST_DICT:
        return bind_items(b, ast, out);
    case AST_UNARY:
        rc = bind_expression(b, ast->a, &left);
        if (rc < 0) {
            return rc;
        }
        if (ast->op == OP_POS) {
            *out = left;
            return 0;
        }
        return bind_unary(b, ast->op == OP_NEG ? DRAY__EXPR_KIND__NEG : DRAY__EXPR_KIND__NOT, left, ast->word,
                          out);
    case AST_BINARY:
        rc = bind_expression(b, ast->a, &left);
        if (rc == 0) {
            rc = bind_expression(b, ast->b, &right);
        }
        return rc < 0 ? rc : operate(b, ast->op, left, right, ast->word, out);
    case AST_ATTRIBUTE:
        return bind_attribute(b, ast, out);
    case AST_ITEM:
        return bind_item(b, ast, out);
    case AST_CALL:
        return bind_call(b, ast, out);
    default:
        return bind_constant(b, ast, out);
    }
}

// ---- statements ------------------------------------------------------------------------------

// df["z"] = value: df is from here on a table with that column.
static int assign_column(struct binder *b, const struct statement *s, const struct value *value,
                         const struct value **out)
{
    const struct ast *target = s->target;
    const struct variable *variable = find_variable(b, target->a->text);
    const struct value *table;
    const char *name = target->text;
    int rc = bind_variable(b, target->a, &table);

    if (rc < 0) {
        return rc;
    }
    if (variable == NULL || table->kind != VALUE_FRAME) {
        return bind_fail(b, target->a->at, "columns can be assigned to tables, this is %s",
                         value_words(table));
    }
    if (target->kind == AST_ITEM) {
        const struct value *key;

        rc = bind_expression(b, target->b, &key);
        if (rc == 0 && key->kind == VALUE_SERIES) {
            return bind_fail(b, key->at, "assigning to some of the rows is not there yet");
        }
        if (rc == 0) {
            rc = bind_name(b, key, &name);
        }
    } else if (node_find(table->frame.node, table->frame.index, name) == UINT32_MAX) {
        return bind_fail(b, target->word, "there is no column '%s': a new column is made by %s[\"%s\"] = ...",
                         name, target->a->text, name);
    }
    if (rc < 0) {
        return rc;
    }
    const struct method *assign = method_find(ON_FRAME, "assign");
    struct place at = s->value->at;
    struct call call = {.method = assign,
                        .self = table,
                        .at = target->word,
                        .extra_name = &name,
                        .extra_at = &at,
                        .extra = &value,
                        .extras = 1};

    rc = assign->run(b, &call, out);
    return rc < 0 ? rc : set_variable(b, target->a->text, *out);
}

static int bind_statement(struct binder *b, const struct statement *s, const struct value **out)
{
    const struct value *value = NULL;
    int rc;

    if (s->kind == STATEMENT_IMPORT) {
        const char *last = strrchr(s->module, '.');
        struct value *v = bind_value(b, VALUE_MODULE, s->at);

        if (v == NULL) {
            return bind_no_memory(b);
        }
        v->module = s->module;
        if (last != NULL && strcmp(last + 1, "dataframe") != 0) {
            const struct method *method = method_find(ON_MODULE, last + 1);

            if (method != NULL && method->run != NULL) {
                v->kind = VALUE_METHOD;
                v->method = method;
                v->self = NULL;
            }
        }
        return set_variable(b, s->name[0] == '\0' ? s->module : s->name, v);
    }
    rc = bind_expression(b, s->value, &value);
    if (rc < 0) {
        return rc;
    }
    if (s->kind == STATEMENT_VALUE) {
        *out = value;
        return 0;
    }
    if (s->op != OP_NONE) {
        const struct value *old;

        rc = bind_expression(b, s->target, &old);
        if (rc == 0) {
            rc = operate(b, s->op, old, value, s->target->at, &value);
        }
        if (rc < 0) {
            return rc;
        }
    }
    if (s->target->kind != AST_NAME) {
        return assign_column(b, s, value, out);
    }
    *out = value;
    return set_variable(b, s->target->text, value);
}

static bool is_print(const struct statement *s)
{
    return s->kind == STATEMENT_VALUE && s->value->kind == AST_CALL && s->value->a->kind == AST_NAME &&
           strcmp(s->value->a->text, "print") == 0;
}

int bind_script(struct binder *b, const struct ast_script *script, const struct value **out)
{
    const struct value *value = NULL;

    for (uint32_t i = 0; i < script->statements; i++) {
        const struct statement *s = &script->statement[i];
        int rc;

        if (is_print(s) && i + 1 < script->statements) {
            return bind_fail(b, s->at,
                             "a script has one value, that of its last line: print() belongs there");
        }
        value = NULL;
        rc = bind_statement(b, s, &value);
        if (rc < 0) {
            return rc;
        }
    }
    struct place end = {script->statements == 0 ? 0 : script->statement[script->statements - 1].at.start,
                        script->statements == 0 ? 0 : script->statement[script->statements - 1].at.end};

    if (value == NULL) {
        return bind_fail(b, end, "the script has no value: its last line should be what you want to see");
    }
    *out = value;
    return 0;
}
