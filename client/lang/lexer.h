// Script text -> tokens.  Newlines inside brackets and after a backslash do not
// count, as in Python.
#ifndef DRAY_CLIENT_LANG_LEXER_H
#define DRAY_CLIENT_LANG_LEXER_H

#include "client/lang/script.h"
#include "proto/arena.h"

enum token_kind {
    TOKEN_END,
    TOKEN_NEWLINE, // or ;
    TOKEN_NAME,    // keywords too
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_STRING,
    TOKEN_OP,
};

enum op {
    OP_NONE,
    // binary
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_MATMUL,
    OP_SHL,
    OP_SHR,
    OP_BITAND,
    OP_BITOR,
    OP_BITXOR,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    // unary only
    OP_NEG,
    OP_POS,
    OP_INVERT,
    // punctuation
    OP_LPAREN,
    OP_RPAREN,
    OP_LBRACKET,
    OP_RBRACKET,
    OP_LBRACE,
    OP_RBRACE,
    OP_COMMA,
    OP_COLON,
    OP_DOT,
    OP_ASSIGN,
    OP_AUG_ASSIGN,
    OP_WALRUS,
    OP_ARROW,
};
const char *op_text(enum op op); // "**"

struct token {
    enum token_kind kind;
    enum op op;  // OP; for AUG_ASSIGN see aug
    enum op aug; // += is ADD
    struct place at;
    union {
        const char *text; // NAME; STRING: decoded, zero-terminated, `size` bytes
        int64_t i;
        double f;
    };
    uint32_t size;
};

// Tokens in the arena, the last one END.  -EINVAL with words and a caret.
int lexer_run(const struct script *script, struct arena *arena, struct token **out, size_t *count,
              struct error *err);

#endif
