// Tokens -> tree: Python's grammar for expressions and assignments, its
// precedence to the letter.  What Python has and Dray has not is refused in words.
#ifndef DRAY_CLIENT_LANG_PARSER_H
#define DRAY_CLIENT_LANG_PARSER_H

#include "client/lang/ast.h"

#define PARSER_DEPTH_MAX 200

// -EINVAL with words and a caret; the tree lives in the arena.
int parser_run(const struct script *script, struct arena *arena, struct ast_script *out, struct error *err);

#endif
