#include "client/lang/expression.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/lang/parser.h"

// Binding powers: higher binds tighter.  Python's table, from `or` down to `**`.
enum power {
    POWER_LOWEST = 0,
    POWER_COMPARE = 4,
    POWER_BITOR,
    POWER_BITXOR,
    POWER_BITAND,
    POWER_SHIFT,
    POWER_SUM,
    POWER_TERM,
    POWER_UNARY,
    POWER_POW,
};

static const enum power binary_power[] = {
    [OP_EQ] = POWER_COMPARE,    [OP_NE] = POWER_COMPARE,    [OP_LT] = POWER_COMPARE,
    [OP_LE] = POWER_COMPARE,    [OP_GT] = POWER_COMPARE,    [OP_GE] = POWER_COMPARE,
    [OP_BITOR] = POWER_BITOR,   [OP_BITXOR] = POWER_BITXOR, [OP_BITAND] = POWER_BITAND,
    [OP_SHL] = POWER_SHIFT,     [OP_SHR] = POWER_SHIFT,     [OP_ADD] = POWER_SUM,
    [OP_SUB] = POWER_SUM,       [OP_MUL] = POWER_TERM,      [OP_DIV] = POWER_TERM,
    [OP_FLOORDIV] = POWER_TERM, [OP_MOD] = POWER_TERM,      [OP_MATMUL] = POWER_TERM,
    [OP_POW] = POWER_POW,       [OP_ARROW] = POWER_LOWEST,
};

// Words of Python that are no names, and what to say about them.
static const struct {
    const char *word;
    const char *advice;
} reserved[] = {
    {"and", "'and' asks for one truth value: write & between two conditions, each in parentheses"},
    {"or", "'or' asks for one truth value: write | between two conditions, each in parentheses"},
    {"not", "'not' asks for one truth value: write ~ before a condition in parentheses"},
    {"in", "'in' is not there: write df.x.isin([...])"},
    {"is", "'is' is not there: write == or .isna()"},
    {"if", "'if' is not there: a script is a list of expressions and assignments"},
    {"else", "'else' is not there: a script is a list of expressions and assignments"},
    {"lambda", "lambda is not there yet: write the column itself, as in df.assign(z=df.x * 2)"},
    {"for", "'for' is not there: a script is a list of expressions and assignments"},
    {"while", "'while' is not there: a script is a list of expressions and assignments"},
    {"def", "'def' is not there: a script is a list of expressions and assignments"},
    {"class", "'class' is not there: a script is a list of expressions and assignments"},
    {"return", "'return' is not there: the last line is the result"},
    {"with", "'with' is not there: a script is a list of expressions and assignments"},
    {"try", "'try' is not there: a script is a list of expressions and assignments"},
    {"del", "'del' is not there: write df.drop(columns=[...])"},
    {"assert", "'assert' is not there"},
    {"async", "'async' is not there"},
    {"await", "'await' is not there"},
    {"break", "'break' is not there"},
    {"continue", "'continue' is not there"},
    {"except", "'except' is not there"},
    {"finally", "'finally' is not there"},
    {"global", "'global' is not there"},
    {"nonlocal", "'nonlocal' is not there"},
    {"pass", "'pass' is not there"},
    {"raise", "'raise' is not there"},
    {"yield", "'yield' is not there"},
    {"elif", "'elif' is not there: a script is a list of expressions and assignments"},
    {"as", "'as' belongs behind import"},
    {"import", "'import' belongs at the start of a line"},
    {"from", "'from' belongs at the start of a line"},
};

const char *parse_reserved(const struct token *t)
{
    for (size_t i = 0; t->kind == TOKEN_NAME && i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strcmp(t->text, reserved[i].word) == 0) {
            return reserved[i].advice;
        }
    }
    return NULL;
}

bool parse_is_op(const struct parser *p, enum op op)
{
    return p->token->kind == TOKEN_OP && p->token->op == op;
}

bool parse_is_word(const struct parser *p, const char *word)
{
    return p->token->kind == TOKEN_NAME && strcmp(p->token->text, word) == 0;
}

struct place place_join(struct place a, struct place b)
{
    return (struct place){a.start, b.end};
}

int parse_unexpected(struct parser *p, const char *wanted)
{
    const struct token *t = p->token;
    const char *advice = parse_reserved(t);

    if (advice != NULL) {
        return script_error(p->script, t->at, p->err, "%s", advice);
    }
    switch (t->kind) {
    case TOKEN_END:
    case TOKEN_NEWLINE:
        return script_error(p->script, t->at, p->err, "the line ends where %s is expected", wanted);
    case TOKEN_OP:
        if (t->op == OP_WALRUS || t->op == OP_ARROW) {
            return script_error(p->script, t->at, p->err, "'%s' is not there", op_text(t->op));
        }
        if (t->op == OP_ASSIGN) {
            return script_error(p->script, t->at, p->err,
                                "'=' assigns, and cannot stand here: '==' compares (%s is expected)", wanted);
        }
        if (t->op == OP_DOT) {
            return script_error(p->script, t->at, p->err,
                                "a line cannot start with '.': put the whole chain into parentheses");
        }
        break;
    default:
        break;
    }
    return script_error(p->script, t->at, p->err, "%s is expected here", wanted);
}

static struct ast *node(struct parser *p, enum ast_kind kind, struct place at, struct place word)
{
    struct ast *out = arena_zalloc(p->arena, sizeof(*out));

    if (out == NULL) {
        error_no_memory(p->err);
        return NULL;
    }
    out->kind = kind;
    out->at = at;
    out->word = word;
    out->depth = 1;
    return out;
}

// Sets the depth from the children; a tree that is too deep is refused here, so that nobody who walks it has
// to count.
static int finish(struct parser *p, struct ast *ast)
{
    uint32_t below = 0;

    for (uint32_t i = 0; i < ast->items; i++) {
        below = ast->item[i]->depth > below ? ast->item[i]->depth : below;
    }
    if (ast->a != NULL && ast->a->depth > below) {
        below = ast->a->depth;
    }
    if (ast->b != NULL && ast->b->depth > below) {
        below = ast->b->depth;
    }
    ast->depth = below + 1;
    if (ast->depth > AST_DEPTH_MAX) {
        return script_error(
            p->script, ast->word, p->err,
            "more than %u operations inside one another: put a part into a variable of its own",
            AST_DEPTH_MAX);
    }
    return 0;
}

static int parse_above(struct parser *p, int power, struct ast **out);

struct items {
    struct ast **item;
    const char **keyword;
    struct place *keyword_at;
    uint32_t count, room;
};

static int items_add(struct parser *p, struct items *list, struct ast *item, const char *keyword,
                     struct place keyword_at)
{
    if (list->count == list->room) {
        uint32_t room = list->room == 0 ? 4 : list->room * 2;
        struct ast **grown = arena_array(p->arena, room, sizeof(*grown));
        const char **names = arena_array(p->arena, room, sizeof(*names));
        struct place *places = arena_array(p->arena, room, sizeof(*places));

        if (grown == NULL || names == NULL || places == NULL) {
            return error_no_memory(p->err);
        }
        if (list->count > 0) {
            memcpy(grown, list->item, list->count * sizeof(*grown));
            memcpy(names, list->keyword, list->count * sizeof(*names));
            memcpy(places, list->keyword_at, list->count * sizeof(*places));
        }
        list->item = grown;
        list->keyword = names;
        list->keyword_at = places;
        list->room = room;
    }
    list->item[list->count] = item;
    list->keyword[list->count] = keyword;
    list->keyword_at[list->count] = keyword_at;
    list->count++;
    return 0;
}

int parse_op(struct parser *p, enum op op)
{
    char wanted[8];

    if (!parse_is_op(p, op)) {
        snprintf(wanted, sizeof(wanted), "'%s'", op_text(op));
        return parse_unexpected(p, wanted);
    }
    p->token++;
    return 0;
}

// Items up to `close`, which is taken.  *comma: there was one (a tuple).
static int parse_items(struct parser *p, enum op close, struct items *list, bool *comma)
{
    while (!parse_is_op(p, close)) {
        struct ast *item;
        int rc;

        if (parse_is_op(p, OP_MUL) || parse_is_op(p, OP_POW)) {
            return script_error(p->script, p->token->at, p->err, "unpacking with '%s' is not there",
                                op_text(p->token->op));
        }
        rc = parse_above(p, POWER_LOWEST, &item);
        if (rc == 0) {
            rc = items_add(p, list, item, NULL, item->at);
        }
        if (rc < 0) {
            return rc;
        }
        if (!parse_is_op(p, OP_COMMA)) {
            break;
        }
        *comma = true;
        p->token++;
    }
    if (parse_is_word(p, "for")) {
        return script_error(p->script, p->token->at, p->err,
                            "comprehensions are not there: write the list out");
    }
    return parse_op(p, close);
}

static int parse_sequence(struct parser *p, enum op close, struct ast **out)
{
    struct token open = *p->token++;
    struct items list = {0};
    bool comma = false;
    int rc = parse_items(p, close, &list, &comma);

    if (rc < 0) {
        return rc;
    }
    struct place at = place_join(open.at, p->token[-1].at);

    if (close == OP_RPAREN && list.count == 1 && !comma) {
        list.item[0]->parenthesised = true;
        list.item[0]->at = at;
        *out = list.item[0];
        return 0;
    }
    struct ast *ast = node(p, close == OP_RPAREN ? AST_TUPLE : AST_LIST, at, at);

    if (ast == NULL) {
        return -ENOMEM;
    }
    ast->item = list.item;
    ast->items = list.count;
    *out = ast;
    return finish(p, ast);
}

static int parse_dict(struct parser *p, struct ast **out)
{
    struct token open = *p->token++;
    struct items list = {0};
    int rc = 0;

    while (!parse_is_op(p, OP_RBRACE)) {
        struct ast *key;
        struct ast *value;

        rc = parse_above(p, POWER_LOWEST, &key);
        if (rc < 0) {
            return rc;
        }
        if (!parse_is_op(p, OP_COLON)) {
            return parse_unexpected(p, list.count == 0 ? "':' (sets are not there, a dict is {key: value})"
                                                       : "':'");
        }
        p->token++;
        rc = parse_above(p, POWER_LOWEST, &value);
        if (rc == 0) {
            rc = items_add(p, &list, key, NULL, key->at);
        }
        if (rc == 0) {
            rc = items_add(p, &list, value, NULL, value->at);
        }
        if (rc < 0) {
            return rc;
        }
        if (!parse_is_op(p, OP_COMMA)) {
            break;
        }
        p->token++;
    }
    rc = parse_op(p, OP_RBRACE);
    if (rc < 0) {
        return rc;
    }
    struct place at = place_join(open.at, p->token[-1].at);
    struct ast *ast = node(p, AST_DICT, at, at);

    if (ast == NULL) {
        return -ENOMEM;
    }
    ast->item = list.item;
    ast->items = list.count;
    *out = ast;
    return finish(p, ast);
}

static int parse_name(struct parser *p, struct ast **out)
{
    static const struct {
        const char *word;
        enum ast_kind kind;
        bool value;
    } constants[] = {{"None", AST_NONE, false}, {"True", AST_BOOL, true}, {"False", AST_BOOL, false}};
    const struct token *t = p->token;
    const char *advice = parse_reserved(t);

    if (advice != NULL) {
        return script_error(p->script, t->at, p->err, "%s", advice);
    }
    struct ast *ast = node(p, AST_NAME, t->at, t->at);

    if (ast == NULL) {
        return -ENOMEM;
    }
    ast->text = t->text;
    ast->size = t->size;
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        if (strcmp(t->text, constants[i].word) == 0) {
            ast->kind = constants[i].kind;
            ast->boolean = constants[i].value;
        }
    }
    p->token++;
    *out = ast;
    return 0;
}

// Neighbouring strings are one, as in Python.
static int parse_string(struct parser *p, struct ast **out)
{
    const struct token *first = p->token;
    size_t size = 0;
    size_t used = 0;

    for (const struct token *t = first; t->kind == TOKEN_STRING; t++) {
        size += t->size;
    }
    char *text = arena_alloc(p->arena, size + 1);
    struct ast *ast = node(p, AST_STRING, first->at, first->at);

    if (text == NULL || ast == NULL) {
        return error_no_memory(p->err);
    }
    while (p->token->kind == TOKEN_STRING) {
        memcpy(text + used, p->token->text, p->token->size);
        used += p->token->size;
        p->token++;
    }
    text[used] = '\0';
    ast->text = text;
    ast->size = (uint32_t)used;
    ast->at = ast->word = place_join(first->at, p->token[-1].at);
    *out = ast;
    return 0;
}

static int parse_unary(struct parser *p, enum op op, struct ast **out)
{
    struct token t = *p->token++;
    struct ast *ast = node(p, AST_UNARY, t.at, t.at);
    int rc;

    if (ast == NULL) {
        return -ENOMEM;
    }
    ast->op = op;
    rc = parse_above(p, POWER_UNARY, &ast->a);
    if (rc < 0) {
        return rc;
    }
    ast->at = place_join(t.at, ast->a->at);
    *out = ast;
    return finish(p, ast);
}

static int parse_primary(struct parser *p, struct ast **out)
{
    const struct token *t = p->token;
    struct ast *ast;

    switch (t->kind) {
    case TOKEN_NAME:
        return parse_name(p, out);
    case TOKEN_STRING:
        return parse_string(p, out);
    case TOKEN_INT:
    case TOKEN_FLOAT:
        ast = node(p, t->kind == TOKEN_INT ? AST_INT : AST_FLOAT, t->at, t->at);
        if (ast == NULL) {
            return -ENOMEM;
        }
        if (t->kind == TOKEN_INT) {
            ast->i = t->i;
        } else {
            ast->f = t->f;
        }
        p->token++;
        *out = ast;
        return 0;
    case TOKEN_OP:
        switch (t->op) {
        case OP_LPAREN:
            return parse_sequence(p, OP_RPAREN, out);
        case OP_LBRACKET:
            return parse_sequence(p, OP_RBRACKET, out);
        case OP_LBRACE:
            return parse_dict(p, out);
        case OP_SUB:
            return parse_unary(p, OP_NEG, out);
        case OP_ADD:
            return parse_unary(p, OP_POS, out);
        case OP_INVERT:
            return parse_unary(p, OP_INVERT, out);
        default:
            break;
        }
        break;
    default:
        break;
    }
    return parse_unexpected(p, "a value");
}

static int parse_arguments(struct parser *p, struct ast *call)
{
    struct items list = {0};
    bool named = false;
    int rc = 0;

    p->token++;
    while (!parse_is_op(p, OP_RPAREN)) {
        const char *keyword = NULL;
        struct place keyword_at = p->token->at;
        struct ast *value;

        if (parse_is_op(p, OP_MUL) || parse_is_op(p, OP_POW)) {
            return script_error(p->script, p->token->at, p->err, "unpacking with '%s' is not there",
                                op_text(p->token->op));
        }
        if (p->token->kind == TOKEN_NAME && p->token[1].kind == TOKEN_OP && p->token[1].op == OP_ASSIGN) {
            if (parse_reserved(p->token) != NULL) {
                return parse_unexpected(p, "a name");
            }
            keyword = p->token->text;
            p->token += 2;
            named = true;
            for (uint32_t i = 0; i < list.count; i++) {
                if (list.keyword[i] != NULL && strcmp(list.keyword[i], keyword) == 0) {
                    return script_error(p->script, keyword_at, p->err, "'%s' is given twice", keyword);
                }
            }
        } else if (named) {
            return script_error(p->script, p->token->at, p->err,
                                "an argument without a name behind one with a name");
        }
        rc = parse_above(p, POWER_LOWEST, &value);
        if (rc == 0) {
            rc = items_add(p, &list, value, keyword, keyword_at);
        }
        if (rc < 0) {
            return rc;
        }
        if (parse_is_word(p, "for")) {
            return script_error(p->script, p->token->at, p->err,
                                "comprehensions are not there: write the list out");
        }
        if (!parse_is_op(p, OP_COMMA)) {
            break;
        }
        p->token++;
    }
    rc = parse_op(p, OP_RPAREN);
    call->item = list.item;
    call->keyword = list.keyword;
    call->keyword_at = list.keyword_at;
    call->items = list.count;
    return rc;
}

static int parse_subscript(struct parser *p, struct ast *item)
{
    struct items list = {0};
    bool comma = false;
    struct place open = p->token->at;
    int rc;

    p->token++;
    if (parse_is_op(p, OP_COLON)) {
        return script_error(p->script, p->token->at, p->err,
                            "slices are not there yet: df.head(n) gives the first rows");
    }
    for (;;) {
        struct ast *value;

        rc = parse_above(p, POWER_LOWEST, &value);
        if (rc == 0) {
            rc = items_add(p, &list, value, NULL, value->at);
        }
        if (rc < 0) {
            return rc;
        }
        if (parse_is_op(p, OP_COLON)) {
            return script_error(p->script, p->token->at, p->err,
                                "slices are not there yet: df.head(n) gives the first rows");
        }
        if (!parse_is_op(p, OP_COMMA)) {
            break;
        }
        comma = true;
        p->token++;
        if (parse_is_op(p, OP_RBRACKET)) {
            break;
        }
    }
    rc = parse_op(p, OP_RBRACKET);
    if (rc < 0) {
        return rc;
    }
    item->b = list.item[0];
    if (comma) {
        struct place at = place_join(open, p->token[-1].at);

        item->b = node(p, AST_TUPLE, at, at);
        if (item->b == NULL) {
            return -ENOMEM;
        }
        item->b->item = list.item;
        item->b->items = list.count;
        return finish(p, item->b);
    }
    return 0;
}

// Calls, attributes and items behind a value.
static int parse_postfix(struct parser *p, struct ast **out)
{
    for (;;) {
        struct ast *ast;
        int rc = 0;

        if (parse_is_op(p, OP_LPAREN)) {
            ast = node(p, AST_CALL, (*out)->at, (*out)->word);
        } else if (parse_is_op(p, OP_LBRACKET)) {
            ast = node(p, AST_ITEM, (*out)->at, p->token->at);
        } else if (parse_is_op(p, OP_DOT)) {
            ast = node(p, AST_ATTRIBUTE, (*out)->at, p->token[1].at);
        } else {
            return 0;
        }
        if (ast == NULL) {
            return -ENOMEM;
        }
        ast->a = *out;
        if (ast->kind == AST_CALL) {
            rc = parse_arguments(p, ast);
        } else if (ast->kind == AST_ITEM) {
            rc = parse_subscript(p, ast);
        } else {
            p->token++;
            if (p->token->kind != TOKEN_NAME) {
                return parse_unexpected(p, "a name");
            }
            ast->text = p->token->text;
            ast->size = p->token->size;
            p->token++;
        }
        if (rc == 0) {
            ast->at = place_join(ast->at, p->token[-1].at);
            if (ast->kind == AST_ITEM) {
                ast->word = ast->b->at;
            }
            rc = finish(p, ast);
        }
        if (rc < 0) {
            return rc;
        }
        *out = ast;
    }
}

static int parse_binary(struct parser *p, int power, struct ast **out)
{
    for (;;) {
        const struct token *t = p->token;
        const char *advice = parse_reserved(t);
        enum power own;
        struct ast *ast;
        int rc;

        if (advice != NULL) {
            // "df.x > 1 and ...", "x if y else z", "a in b"
            return parse_is_word(p, "for") || parse_is_word(p, "as")
                       ? 0
                       : script_error(p->script, t->at, p->err, "%s", advice);
        }
        if (t->kind != TOKEN_OP || t->op >= OP_NEG) {
            return 0;
        }
        own = binary_power[t->op];
        if ((int)own <= power) {
            return 0;
        }
        if (own == POWER_COMPARE && (*out)->kind == AST_BINARY && !(*out)->parenthesised &&
            (*out)->op >= OP_EQ && (*out)->op <= OP_GE) {
            return script_error(
                p->script, t->at, p->err,
                "comparisons cannot be chained: use & between two comparisons, each in parentheses");
        }
        p->token++;
        ast = node(p, AST_BINARY, (*out)->at, t->at);
        if (ast == NULL) {
            return -ENOMEM;
        }
        ast->op = t->op;
        ast->a = *out;
        // ** binds to the right, and its right side may start with a sign: 2 ** -1.
        rc = parse_above(p, own == POWER_POW ? POWER_UNARY : (int)own, &ast->b);
        if (rc == 0) {
            ast->at = place_join(ast->a->at, ast->b->at);
            rc = finish(p, ast);
        }
        if (rc < 0) {
            return rc;
        }
        *out = ast;
    }
}

// Operators that bind tighter than `power`.
static int parse_above(struct parser *p, int power, struct ast **out)
{
    struct ast *ast;
    int rc;

    if (p->depth == PARSER_DEPTH_MAX) {
        return script_error(
            p->script, p->token->at, p->err,
            "more than %d expressions inside one another: put a part into a variable of its own",
            PARSER_DEPTH_MAX);
    }
    p->depth++;
    rc = parse_primary(p, &ast);
    if (rc == 0 && (ast->kind != AST_UNARY || ast->parenthesised)) {
        rc = parse_postfix(p, &ast);
    }
    if (rc == 0) {
        rc = parse_binary(p, power, &ast);
    }
    p->depth--;
    if (rc == 0) {
        *out = ast;
    }
    return rc;
}

int parse_expression(struct parser *p, struct ast **out)
{
    return parse_above(p, POWER_LOWEST, out);
}
