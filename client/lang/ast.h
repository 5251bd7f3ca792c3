// What a script says, as a tree in an arena.
#ifndef DRAY_CLIENT_LANG_AST_H
#define DRAY_CLIENT_LANG_AST_H

#include "client/lang/lexer.h"

enum ast_kind {
    AST_NONE,
    AST_BOOL,
    AST_INT,
    AST_FLOAT,
    AST_STRING,
    AST_NAME,
    AST_LIST,
    AST_TUPLE,     // items
    AST_DICT,      // items: key, value, key, value, ...
    AST_UNARY,     // op, a
    AST_BINARY,    // op, a, b
    AST_ATTRIBUTE, // a.text
    AST_ITEM,      // a[b]
    AST_CALL,      // a(items), keywords by name
};

struct ast {
    enum ast_kind kind;
    enum op op;
    struct place at;   // all of it
    struct place word; // what an error points at: the operator, the attribute's name
    uint32_t depth;    // of the tree below, itself included: at most AST_DEPTH_MAX
    struct ast *a;
    struct ast *b;
    struct ast **item;
    const char **keyword; // CALL: name of each item, NULL: positional
    struct place *keyword_at;
    uint32_t items;
    bool parenthesised;
    union {
        bool boolean;
        int64_t i;
        double f;
        const char *text; // STRING, NAME, ATTRIBUTE: zero-terminated
    };
    uint32_t size; // of text
};

#define AST_DEPTH_MAX 400U

enum statement_kind { STATEMENT_VALUE, STATEMENT_ASSIGN, STATEMENT_IMPORT };

struct statement {
    enum statement_kind kind;
    struct place at;
    struct ast *target; // ASSIGN: NAME, ATTRIBUTE or ITEM
    enum op op;         // ASSIGN: += is ADD; NONE: =
    struct ast *value;  // VALUE, ASSIGN
    const char *module; // IMPORT: "pandas", "dask.dataframe", "dask.dataframe.read_csv"
    const char *name;   // IMPORT: what it is called from here on
};

struct ast_script {
    struct statement *statement;
    uint32_t statements;
};

// As Python would write it with every operation in parentheses, for tests.
char *ast_print(const struct ast *ast, struct arena *arena);

#endif
