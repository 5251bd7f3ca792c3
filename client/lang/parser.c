#include "client/lang/parser.h"

#include <errno.h>
#include <string.h>

#include "client/lang/expression.h"

static int parse_dotted(struct parser *p, const char **out)
{
    const char *name = NULL;

    for (;;) {
        if (p->token->kind != TOKEN_NAME) {
            return parse_unexpected(p, "the name of a module");
        }
        name = name == NULL ? p->token->text : arena_printf(p->arena, "%s.%s", name, p->token->text);
        if (name == NULL) {
            return error_no_memory(p->err);
        }
        p->token++;
        if (!parse_is_op(p, OP_DOT)) {
            break;
        }
        p->token++;
    }
    *out = name;
    return 0;
}

static int check_module(struct parser *p, const char *module, struct place at)
{
    static const char *const known[] = {"pandas", "dask", "numpy", "dray"};
    size_t size = strcspn(module, ".");

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) == size && memcmp(module, known[i], size) == 0) {
            return 0;
        }
    }
    return script_error(p->script, at, p->err,
                        "there is no module '%s' here: imports of pandas and dask.dataframe are accepted",
                        module);
}

static int parse_import_name(struct parser *p, const char *module, const char **name)
{
    if (parse_is_word(p, "as")) {
        p->token++;
        if (p->token->kind != TOKEN_NAME || parse_reserved(p->token) != NULL) {
            return parse_unexpected(p, "a name");
        }
        *name = p->token->text;
        p->token++;
        return 0;
    }
    *name = module;
    return 0;
}

struct statements {
    struct statement *statement;
    uint32_t count, room;
};

static int statements_add(struct parser *p, struct statements *list, struct statement statement)
{
    if (list->count == list->room) {
        uint32_t room = list->room == 0 ? 8 : list->room * 2;
        struct statement *grown = arena_array(p->arena, room, sizeof(*grown));

        if (grown == NULL) {
            return error_no_memory(p->err);
        }
        if (list->count > 0) {
            memcpy(grown, list->statement, list->count * sizeof(*grown));
        }
        list->statement = grown;
        list->room = room;
    }
    list->statement[list->count++] = statement;
    return 0;
}

// import a.b as c, d     from a import b as c, d
static int parse_import(struct parser *p, struct statements *list)
{
    bool from = parse_is_word(p, "from");
    bool bracket = false;
    const char *module = NULL;
    struct place start = p->token->at;
    int rc = 0;

    p->token++;
    if (from) {
        struct place at = p->token->at;

        rc = parse_dotted(p, &module);
        if (rc == 0) {
            rc = check_module(p, module, place_join(at, p->token[-1].at));
        }
        if (rc < 0) {
            return rc;
        }
        if (!parse_is_word(p, "import")) {
            return parse_unexpected(p, "'import'");
        }
        p->token++;
        bracket = parse_is_op(p, OP_LPAREN);
        p->token += bracket;
    }
    for (;;) {
        struct statement s = {.kind = STATEMENT_IMPORT, .at = p->token->at};
        const char *name;

        if (from && parse_is_op(p, OP_MUL)) {
            return script_error(p->script, p->token->at, p->err, "import the names that you need, not *");
        }
        rc = parse_dotted(p, &name);
        if (rc == 0 && !from) {
            rc = check_module(p, name, place_join(s.at, p->token[-1].at));
        }
        if (rc == 0) {
            rc = parse_import_name(p, name, &s.name);
        }
        if (rc < 0) {
            return rc;
        }
        s.module = from ? arena_printf(p->arena, "%s.%s", module, name) : name;
        if (!from && s.name == name && strchr(name, '.') != NULL) {
            // `import dask.dataframe` makes the name `dask`.
            s.name = s.module = arena_strndup(p->arena, name, strcspn(name, "."));
        }
        s.at = place_join(start, p->token[-1].at);
        if (s.module == NULL || s.name == NULL) {
            return error_no_memory(p->err);
        }
        rc = statements_add(p, list, s);
        if (rc < 0) {
            return rc;
        }
        if (!parse_is_op(p, OP_COMMA)) {
            break;
        }
        p->token++;
    }
    return bracket ? parse_op(p, OP_RPAREN) : 0;
}

static int check_target(struct parser *p, const struct ast *target)
{
    if (target->kind == AST_NAME ||
        ((target->kind == AST_ATTRIBUTE || target->kind == AST_ITEM) && target->a->kind == AST_NAME)) {
        return 0;
    }
    if (target->kind == AST_ATTRIBUTE || target->kind == AST_ITEM) {
        return script_error(p->script, target->a->at, p->err,
                            "only a column of a variable can be assigned to: give this a name first");
    }
    if (target->kind == AST_TUPLE) {
        return script_error(p->script, target->at, p->err, "assign to one name at a time");
    }
    return script_error(p->script, target->at, p->err,
                        "this cannot be assigned to: a variable can, and df[\"column\"]");
}

static int parse_statement(struct parser *p, struct statements *list)
{
    struct statement s = {.kind = STATEMENT_VALUE, .at = p->token->at};
    int rc;

    if (parse_is_word(p, "import") || parse_is_word(p, "from")) {
        return parse_import(p, list);
    }
    rc = parse_expression(p, &s.value);
    if (rc < 0) {
        return rc;
    }
    if (parse_is_op(p, OP_COMMA)) {
        return script_error(p->script, p->token->at, p->err, "a ',' outside brackets");
    }
    if (parse_is_op(p, OP_COLON)) {
        return script_error(p->script, p->token->at, p->err, "a ':' means nothing here");
    }
    if (parse_is_op(p, OP_ASSIGN) || parse_is_op(p, OP_AUG_ASSIGN)) {
        s.kind = STATEMENT_ASSIGN;
        s.target = s.value;
        s.op = parse_is_op(p, OP_ASSIGN) ? OP_NONE : p->token->aug;
        rc = check_target(p, s.target);
        if (rc < 0) {
            return rc;
        }
        p->token++;
        rc = parse_expression(p, &s.value);
        if (rc < 0) {
            return rc;
        }
        if (parse_is_op(p, OP_ASSIGN) || parse_is_op(p, OP_AUG_ASSIGN)) {
            return script_error(p->script, p->token->at, p->err, "one '=' in a statement");
        }
    }
    s.at = place_join(s.at, p->token[-1].at);
    return statements_add(p, list, s);
}

int parser_run(const struct script *script, struct arena *arena, struct ast_script *out, struct error *err)
{
    struct parser p = {.script = script, .arena = arena, .err = err};
    struct statements list = {0};
    struct token *tokens;
    size_t count;
    int rc = lexer_run(script, arena, &tokens, &count, err);

    if (rc < 0) {
        return rc;
    }
    p.token = tokens;
    while (p.token->kind != TOKEN_END) {
        if (p.token->kind == TOKEN_NEWLINE) {
            p.token++;
            continue;
        }
        rc = parse_statement(&p, &list);
        if (rc < 0) {
            return rc;
        }
        if (p.token->kind != TOKEN_NEWLINE) {
            return parse_unexpected(&p, "the end of the line");
        }
    }
    out->statement = list.statement;
    out->statements = list.count;
    return 0;
}
