#include "client/lang/lexer.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "proto/number.h"

enum { NESTING_MAX = 200 };

struct lexer {
    const struct script *script;
    struct arena *arena;
    struct error *err;
    uint32_t at;
    struct token *token;
    size_t count, room;
    uint32_t opener[NESTING_MAX]; // offsets of open brackets
    unsigned open;
};

// Longest first among those that share a beginning.
static const struct {
    const char *text;
    enum op op;
    enum op aug;
} ops[] = {
    {"**=", OP_AUG_ASSIGN, OP_POW},  {"//=", OP_AUG_ASSIGN, OP_FLOORDIV},
    {"<<=", OP_AUG_ASSIGN, OP_SHL},  {">>=", OP_AUG_ASSIGN, OP_SHR},
    {"**", OP_POW, OP_NONE},         {"//", OP_FLOORDIV, OP_NONE},
    {"<<", OP_SHL, OP_NONE},         {">>", OP_SHR, OP_NONE},
    {"==", OP_EQ, OP_NONE},          {"!=", OP_NE, OP_NONE},
    {"<=", OP_LE, OP_NONE},          {">=", OP_GE, OP_NONE},
    {":=", OP_WALRUS, OP_NONE},      {"->", OP_ARROW, OP_NONE},
    {"+=", OP_AUG_ASSIGN, OP_ADD},   {"-=", OP_AUG_ASSIGN, OP_SUB},
    {"*=", OP_AUG_ASSIGN, OP_MUL},   {"/=", OP_AUG_ASSIGN, OP_DIV},
    {"%=", OP_AUG_ASSIGN, OP_MOD},   {"&=", OP_AUG_ASSIGN, OP_BITAND},
    {"|=", OP_AUG_ASSIGN, OP_BITOR}, {"^=", OP_AUG_ASSIGN, OP_BITXOR},
    {"+", OP_ADD, OP_NONE},          {"-", OP_SUB, OP_NONE},
    {"*", OP_MUL, OP_NONE},          {"/", OP_DIV, OP_NONE},
    {"%", OP_MOD, OP_NONE},          {"@", OP_MATMUL, OP_NONE},
    {"&", OP_BITAND, OP_NONE},       {"|", OP_BITOR, OP_NONE},
    {"^", OP_BITXOR, OP_NONE},       {"<", OP_LT, OP_NONE},
    {">", OP_GT, OP_NONE},           {"~", OP_INVERT, OP_NONE},
    {"(", OP_LPAREN, OP_NONE},       {")", OP_RPAREN, OP_NONE},
    {"[", OP_LBRACKET, OP_NONE},     {"]", OP_RBRACKET, OP_NONE},
    {"{", OP_LBRACE, OP_NONE},       {"}", OP_RBRACE, OP_NONE},
    {",", OP_COMMA, OP_NONE},        {":", OP_COLON, OP_NONE},
    {".", OP_DOT, OP_NONE},          {"=", OP_ASSIGN, OP_NONE},
};

const char *op_text(enum op op)
{
    if (op == OP_NEG || op == OP_POS) {
        return op == OP_NEG ? "-" : "+";
    }
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (ops[i].op == op) {
            return ops[i].text;
        }
    }
    return "?";
}

static int peek(const struct lexer *l, uint32_t ahead)
{
    size_t i = (size_t)l->at + ahead;

    return i < l->script->size ? (unsigned char)l->script->text[i] : -1;
}

static bool is_name_start(int c)
{
    return isalpha(c) || c == '_' || c >= 0x80;
}

static bool is_name(int c)
{
    return is_name_start(c) || isdigit(c);
}

// A no-break space, from web pages.
static bool is_wide_space(const struct lexer *l)
{
    return peek(l, 0) == 0xc2 && peek(l, 1) == 0xa0;
}

static int push(struct lexer *l, struct token token)
{
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 64 : l->room * 2;
        struct token *grown = arena_array(l->arena, room, sizeof(*grown));

        if (grown == NULL) {
            return error_no_memory(l->err);
        }
        if (l->count > 0) {
            memcpy(grown, l->token, l->count * sizeof(*grown));
        }
        l->token = grown;
        l->room = room;
    }
    l->token[l->count++] = token;
    return 0;
}

// ---- numbers -------------------------------------------------------------------

static int digit_value(int c)
{
    if (isdigit(c)) {
        return c - '0';
    }
    return isxdigit(c) ? tolower(c) - 'a' + 10 : 99;
}

static int lex_radix(struct lexer *l, int radix)
{
    uint32_t start = l->at;
    uint64_t value = 0;
    bool digits = false;
    bool too_big = false;

    l->at += 2;
    while (digit_value(peek(l, 0)) < radix || (peek(l, 0) == '_' && digit_value(peek(l, 1)) < radix)) {
        if (peek(l, 0) != '_') {
            too_big |= __builtin_mul_overflow(value, (uint64_t)radix, &value);
            value += (uint64_t)digit_value(peek(l, 0));
            too_big |= value > INT64_MAX;
            digits = true;
        }
        l->at++;
    }
    while (is_name(peek(l, 0))) {
        digits = false;
        l->at++;
    }
    struct token token = {.kind = TOKEN_INT, .at = {start, l->at}, .i = (int64_t)(value & INT64_MAX)};

    if (!digits) {
        return script_error(l->script, token.at, l->err, "this is not a number");
    }
    if (too_big) {
        return script_error(l->script, token.at, l->err, "this whole number does not fit into 64 bits");
    }
    return push(l, token);
}

// Copies digits without underscores; false: an underscore that does not stand between two digits.
static bool lex_digits(struct lexer *l, char *out, size_t *used)
{
    bool ok = true;

    while (isdigit(peek(l, 0)) || peek(l, 0) == '_') {
        if (peek(l, 0) == '_') {
            ok &= isdigit(peek(l, 1)) != 0 && l->at > 0 && isdigit((unsigned char)l->script->text[l->at - 1]);
        } else {
            out[(*used)++] = (char)peek(l, 0);
        }
        l->at++;
    }
    return ok;
}

static int lex_number(struct lexer *l)
{
    uint32_t start = l->at;
    int second = peek(l, 0) == '0' ? tolower(peek(l, 1)) : 0;
    bool is_float = false;
    bool ok = true;
    size_t used = 0;
    size_t end = start;
    const char *script = l->script->text;

    if (second == 'x' || second == 'o' || second == 'b') {
        return lex_radix(l, second == 'x' ? 16 : second == 'o' ? 8 : 2);
    }
    while (end < l->script->size && (is_name((unsigned char)script[end]) || script[end] == '.' ||
                                     (end > start && tolower((unsigned char)script[end - 1]) == 'e' &&
                                      (script[end] == '+' || script[end] == '-')))) {
        end++;
    }
    char *text = arena_alloc(l->arena, end - start + 1);

    if (text == NULL) {
        return error_no_memory(l->err);
    }
    ok &= lex_digits(l, text, &used);
    if (peek(l, 0) == '.') {
        is_float = true;
        text[used++] = '.';
        l->at++;
        ok &= lex_digits(l, text, &used);
    }
    int sign = peek(l, 1) == '-' || peek(l, 1) == '+';

    if ((peek(l, 0) == 'e' || peek(l, 0) == 'E') && isdigit(peek(l, sign ? 2 : 1))) {
        is_float = true;
        text[used++] = 'e';
        if (sign) {
            text[used++] = (char)peek(l, 1);
        }
        l->at += sign ? 2 : 1;
        ok &= lex_digits(l, text, &used);
    }
    while (is_name(peek(l, 0))) {
        ok = false;
        l->at++;
    }
    struct token token = {.kind = is_float ? TOKEN_FLOAT : TOKEN_INT, .at = {start, l->at}};

    if (!ok) {
        return script_error(l->script, token.at, l->err, "this is not a number");
    }
    if (is_float) {
        if (!number_parse_float64(text, used, &token.f)) {
            return script_error(l->script, token.at, l->err, "this is not a number");
        }
    } else {
        if (used > 1 && text[0] == '0' && strspn(text, "0") < used) {
            return script_error(l->script, token.at, l->err, "a whole number does not start with 0");
        }
        if (!number_parse_int64(text, used, &token.i)) {
            return script_error(l->script, token.at, l->err, "this whole number does not fit into 64 bits");
        }
    }
    return push(l, token);
}

// ---- strings --------------------------------------------------------------------

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static int lex_hex_escape(struct lexer *l, uint32_t start, unsigned digits, char *out, size_t *used)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < digits; i++) {
        if (!isxdigit(peek(l, i))) {
            return script_error(l->script, (struct place){start, l->at + i}, l->err,
                                "this escape needs %u hexadecimal digits", digits);
        }
        value = value << 4 | (uint32_t)digit_value(peek(l, i));
    }
    l->at += digits;
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
        return script_error(l->script, (struct place){start, l->at}, l->err, "there is no such character");
    }
    *used += put_utf8(out + *used, value);
    return 0;
}

// After the backslash.
static int lex_escape(struct lexer *l, char *out, size_t *used)
{
    static const char plain[] = "\\\\''\"\"n\nt\tr\ra\ab\bf\fv\v";
    uint32_t start = l->at - 1;
    int c = peek(l, 0);

    if (c >= '0' && c <= '7') {
        uint32_t value = 0;

        for (int i = 0; i < 3 && peek(l, 0) >= '0' && peek(l, 0) <= '7'; i++) {
            value = value * 8 + (uint32_t)(peek(l, 0) - '0');
            l->at++;
        }
        *used += put_utf8(out + *used, value);
        return 0;
    }
    if (c < 0) {
        return 0;
    }
    l->at++;
    switch (c) {
    case 'x':
        return lex_hex_escape(l, start, 2, out, used);
    case 'u':
        return lex_hex_escape(l, start, 4, out, used);
    case 'U':
        return lex_hex_escape(l, start, 8, out, used);
    case '\r':
        if (peek(l, 0) == '\n') {
            l->at++;
        }
        return 0;
    case '\n':
        return 0;
    default:
        break;
    }
    for (const char *p = plain; *p != '\0'; p += 2) {
        if (*p == c) {
            out[(*used)++] = p[1];
            return 0;
        }
    }
    // Python keeps a backslash that means nothing.
    out[(*used)++] = '\\';
    out[(*used)++] = (char)c;
    return 0;
}

static int lex_string(struct lexer *l, uint32_t start, bool raw)
{
    int quote = peek(l, 0);
    bool triple = peek(l, 1) == quote && peek(l, 2) == quote;
    uint32_t width = triple ? 3 : 1;
    size_t used = 0;
    int rc = 0;

    l->at += width;
    uint32_t end = l->at;

    while (end < l->script->size &&
           !(l->script->text[end] == quote &&
             (!triple || (end + 2 < l->script->size && l->script->text[end + 1] == quote &&
                          l->script->text[end + 2] == quote)))) {
        if (l->script->text[end] == '\n' && !triple) {
            end = (uint32_t)l->script->size;
            break;
        }
        end += l->script->text[end] == '\\' && end + 1 < l->script->size ? 2 : 1;
    }
    if (end >= l->script->size) {
        return script_error(l->script, (struct place){start, start + 1}, l->err, "this string has no end%s",
                            triple ? "" : " on its line");
    }
    // No escape grows: \u takes 6 bytes and makes at most 4.
    char *out = arena_alloc(l->arena, (size_t)(end - l->at) + 1);

    if (out == NULL) {
        return error_no_memory(l->err);
    }
    while (l->at < end) {
        int c = peek(l, 0);

        l->at++;
        if (c == 0) {
            return script_error(l->script, (struct place){l->at - 1, l->at}, l->err,
                                "a zero byte in a string");
        }
        if (c == '\\' && !raw) {
            rc = lex_escape(l, out, &used);
            if (rc < 0) {
                return rc;
            }
        } else {
            out[used++] = (char)c;
        }
    }
    out[used] = '\0';
    l->at += width;
    return push(
        l, (struct token){.kind = TOKEN_STRING, .at = {start, l->at}, .text = out, .size = (uint32_t)used});
}

// ---- the rest ---------------------------------------------------------------------

static int lex_name(struct lexer *l)
{
    static const char *const typographic[] = {"\xe2\x80\x98", "\xe2\x80\x99", "\xe2\x80\x9c",
                                              "\xe2\x80\x9d", "\xc2\xab",     "\xc2\xbb"};
    uint32_t start = l->at;

    while (is_name(peek(l, 0)) && !is_wide_space(l)) {
        for (size_t i = 0; i < sizeof(typographic) / sizeof(typographic[0]); i++) {
            size_t n = strlen(typographic[i]);

            if (l->script->size - l->at >= n && memcmp(l->script->text + l->at, typographic[i], n) == 0) {
                return script_error(l->script, (struct place){l->at, l->at + (uint32_t)n}, l->err,
                                    "a typographic quote: write ' or \" instead");
            }
        }
        l->at++;
    }
    uint32_t size = l->at - start;
    const char *text = l->script->text + start;

    if (peek(l, 0) == '"' || peek(l, 0) == '\'') {
        bool raw = false;
        bool other = size > 2;

        for (uint32_t i = 0; i < size; i++) {
            int c = tolower((unsigned char)text[i]);

            raw |= c == 'r';
            if (c == 'f' && size <= 2) {
                return script_error(l->script, (struct place){start, l->at + 1}, l->err,
                                    "f-strings are not there: write the text itself");
            }
            other |= c != 'r' && c != 'u';
        }
        if (other) {
            return script_error(l->script, (struct place){start, l->at}, l->err,
                                "'%.*s' before a string is not there: r\"...\" and \"...\" are", (int)size,
                                text);
        }
        return lex_string(l, start, raw);
    }
    const char *copy = arena_strndup(l->arena, text, size);

    if (copy == NULL) {
        return error_no_memory(l->err);
    }
    return push(l, (struct token){.kind = TOKEN_NAME, .at = {start, l->at}, .text = copy, .size = size});
}

static int lex_bracket(struct lexer *l, enum op op, uint32_t start)
{
    static const char pairs[] = "()[]{}";
    char c = l->script->text[start];
    struct place at = {start, start + 1};

    if (op == OP_LPAREN || op == OP_LBRACKET || op == OP_LBRACE) {
        if (l->open == NESTING_MAX) {
            return script_error(l->script, at, l->err, "more than %d brackets inside one another",
                                NESTING_MAX);
        }
        l->opener[l->open++] = start;
    } else {
        if (l->open == 0) {
            return script_error(l->script, at, l->err, "nothing was opened that this '%c' could close", c);
        }
        char opened = l->script->text[l->opener[--l->open]];

        if (strchr(pairs, opened)[1] != c) {
            return script_error(l->script, at, l->err, "'%c' does not close the '%c' of line %u", c, opened,
                                script_line(l->script, l->opener[l->open]));
        }
    }
    return 0;
}

static int lex_op(struct lexer *l)
{
    uint32_t start = l->at;

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        size_t n = strlen(ops[i].text);

        if (l->script->size - start >= n && memcmp(l->script->text + start, ops[i].text, n) == 0) {
            enum op op = ops[i].op;

            l->at += (uint32_t)n;
            if (op >= OP_LPAREN && op <= OP_RBRACE) {
                int rc = lex_bracket(l, op, start);

                if (rc < 0) {
                    return rc;
                }
            }
            return push(l,
                        (struct token){.kind = TOKEN_OP, .op = op, .aug = ops[i].aug, .at = {start, l->at}});
        }
    }
    int c = peek(l, 0);
    struct place at = {start, start + 1};

    if (c == '!') {
        return script_error(l->script, at, l->err,
                            "'!' is not there: ~ turns a condition round, != compares");
    }
    if (c > 0x20 && c < 0x7f) {
        return script_error(l->script, at, l->err, "'%c' means nothing here", c);
    }
    return script_error(l->script, at, l->err, "a byte 0x%02x means nothing here", (unsigned)c);
}

static int lex_newline(struct lexer *l, uint32_t width)
{
    struct token token = {.kind = TOKEN_NEWLINE, .at = {l->at, l->at + width}};

    l->at += width;
    return l->open > 0 ? 0 : push(l, token);
}

static int lex_one(struct lexer *l)
{
    int c = peek(l, 0);

    if (c == ' ' || c == '\t' || c == '\f') {
        l->at++;
        return 0;
    }
    if (is_wide_space(l)) {
        l->at += 2;
        return 0;
    }
    if (c == '#') {
        while (peek(l, 0) >= 0 && peek(l, 0) != '\n' && peek(l, 0) != '\r') {
            l->at++;
        }
        return 0;
    }
    if (c == '\\') {
        uint32_t width = peek(l, 1) == '\r' ? (peek(l, 2) == '\n' ? 3 : 2) : 2;

        if (peek(l, 1) != '\n' && peek(l, 1) != '\r') {
            return script_error(l->script, (struct place){l->at, l->at + 1}, l->err,
                                "nothing may follow a backslash on its line");
        }
        l->at += width;
        return 0;
    }
    if (c == '\r') {
        return lex_newline(l, peek(l, 1) == '\n' ? 2 : 1);
    }
    if (c == '\n') {
        return lex_newline(l, 1);
    }
    if (c == ';') {
        if (l->open > 0) {
            return script_error(l->script, (struct place){l->at, l->at + 1}, l->err, "';' inside brackets");
        }
        return lex_newline(l, 1);
    }
    if (isdigit(c) || (c == '.' && isdigit(peek(l, 1)))) {
        return lex_number(l);
    }
    if (is_name_start(c)) {
        return lex_name(l);
    }
    if (c == '"' || c == '\'') {
        return lex_string(l, l->at, false);
    }
    return lex_op(l);
}

int lexer_run(const struct script *script, struct arena *arena, struct token **out, size_t *count,
              struct error *err)
{
    struct lexer l = {.script = script, .arena = arena, .err = err};
    int rc = 0;

    if (script->size > SCRIPT_BYTES_MAX) {
        return error_set(err, E2BIG, "%s: a script has at most %zu KB, this one %zu", script->name,
                         SCRIPT_BYTES_MAX >> 10, script->size >> 10);
    }
    if (script->size >= 3 && memcmp(script->text, "\xef\xbb\xbf", 3) == 0) {
        l.at = 3;
    }
    while (l.at < script->size && rc == 0) {
        rc = lex_one(&l);
    }
    if (rc == 0 && l.open > 0) {
        uint32_t at = l.opener[l.open - 1];

        rc = script_error(script, (struct place){at, at + 1}, err, "this '%c' is never closed",
                          script->text[at]);
    }
    struct place end = {(uint32_t)script->size, (uint32_t)script->size};

    if (rc == 0) {
        rc = push(&l, (struct token){.kind = TOKEN_NEWLINE, .at = end});
    }
    if (rc == 0) {
        rc = push(&l, (struct token){.kind = TOKEN_END, .at = end});
    }
    if (rc == 0) {
        *out = l.token;
        *count = l.count;
    }
    return rc;
}
