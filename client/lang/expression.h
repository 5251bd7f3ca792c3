// Expressions: what parser.c's statements are made of.
#ifndef DRAY_CLIENT_LANG_EXPRESSION_H
#define DRAY_CLIENT_LANG_EXPRESSION_H

#include "client/lang/ast.h"

struct parser {
    const struct script *script;
    struct arena *arena;
    struct error *err;
    const struct token *token; // the next one
    unsigned depth;
};

// From the next token on as far as it goes.  -EINVAL with words and a caret.
int parse_expression(struct parser *p, struct ast **out);

// What to say of a word of Python's that is no name; NULL: it is a name, or no word.
const char *parse_reserved(const struct token *token);
bool parse_is_op(const struct parser *p, enum op op); // is the next token
bool parse_is_word(const struct parser *p, const char *word);
int parse_op(struct parser *p, enum op op); // takes it, or refuses what is there
// -EINVAL: `wanted` ("a value") is expected where the next token stands.
int parse_unexpected(struct parser *p, const char *wanted);
struct place place_join(struct place a, struct place b);

#endif
