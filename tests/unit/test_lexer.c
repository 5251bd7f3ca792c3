#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/lang/lexer.h"
#include "client/lang/spell.h"
#include "tests/unit/generate.h"

// Tokens in one line: kind and value, so that a case is one string.
static char *lex(const char *text, struct arena *arena, struct error *err)
{
    const struct script script = {"s", text, strlen(text)};
    struct token *token;
    size_t count;
    char *out = arena_strdup(arena, "");

    if (lexer_run(&script, arena, &token, &count, err) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const struct token *t = &token[i];

        switch (t->kind) {
        case TOKEN_NAME:
            out = arena_printf(arena, "%s %s", out, t->text);
            break;
        case TOKEN_INT:
            out = arena_printf(arena, "%s i%lld", out, (long long)t->i);
            break;
        case TOKEN_FLOAT:
            out = arena_printf(arena, "%s f%g", out, t->f);
            break;
        case TOKEN_STRING:
            out = arena_printf(arena, "%s \"%s\"", out, t->text);
            break;
        case TOKEN_OP:
            out = arena_printf(arena, "%s %s%s", out, t->op == OP_AUG_ASSIGN ? "=" : op_text(t->op),
                               t->op == OP_AUG_ASSIGN ? op_text(t->aug) : "");
            break;
        case TOKEN_NEWLINE:
            out = arena_printf(arena, "%s ;", out);
            break;
        case TOKEN_END:
            break;
        }
    }
    return out + 1;
}

static void test_tokens(void **state)
{
    static const struct {
        const char *text;
        const char *tokens;
    } cases[] = {
        {"", ";"},
        {"a=1", "a = i1 ;"},
        {"a;b\nc\r\nd\re", "a ; b ; c ; d ; e ;"},
        {"f(\n1,\n 2)\n", "f ( i1 , i2 ) ; ;"},
        {"a \\\n + b", "a + b ;"},
        {"a # text\n#more\nb", "a ; ; b ;"},
        {"1_000 0x_ff 0b101 0o17 00", "i1000 i255 i5 i15 i0 ;"},
        {"1.5 .5 5. 1e3 1E-2 1_0.0_1 2e+1", "f1.5 f0.5 f5 f1000 f0.01 f10.01 f20 ;"},
        {"9223372036854775807", "i9223372036854775807 ;"},
        {"'a' \"b\" '' \"\"", "\"a\" \"b\" \"\" \"\" ;"},
        {"'a\\'b' \"c\\\"d\" 'it''s'", "\"a'b\" \"c\"d\" \"it\" \"s\" ;"},
        {"'\\t\\x41\\u00e9\\U0001F600\\101\\q'", "\"\tA\xc3\xa9\xf0\x9f\x98\x80"
                                                 "A\\q\" ;"},
        {"r'\\n' R\"\\\"\" u'x'", "\"\\n\" \"\\\"\" \"x\" ;"},
        {"'''a\n'b'''", "\"a\n'b\" ;"},
        {"\"a\\\nb\"", "\"ab\" ;"},
        {"a**b//c<=d!=e->f:=g", "a ** b // c <= d != e -> f := g ;"},
        {"a**=b; a//=b; a<<=1", "a =** b ; a =// b ; a =<< i1 ;"},
        {"x.y.z[1](2){3:4}", "x . y . z [ i1 ] ( i2 ) { i3 : i4 } ;"},
        {"gr\xc3\xb6\xc3\x9f"
         "e",
         "gr\xc3\xb6\xc3\x9f"
         "e ;"},
        {"\xef\xbb\xbf"
         "a\xc2\xa0"
         "b",
         "a b ;"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct arena arena;
        char *tokens;

        arena_init(&arena, 0);
        tokens = lex(cases[i].text, &arena, &err);
        if (tokens == NULL) {
            fail_msg("%s: %s", cases[i].text, err.text);
        }
        assert_string_equal(tokens, cases[i].tokens);
        arena_fini(&arena);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"a = 'b", "s:1: this string has no end on its line\n  a = 'b\n      ^"},
        {"a = '''b\n", "s:1: this string has no end\n  a = '''b\n      ^"},
        {"f(1", "s:1: this '(' is never closed\n  f(1\n   ^"},
        {"f(1]", "s:1: ']' does not close the '(' of line 1\n  f(1]\n     ^"},
        {"a)", "s:1: nothing was opened that this ')' could close\n  a)\n   ^"},
        {"a\nb = 12ab", "s:2: this is not a number\n  b = 12ab\n      ^^^^"},
        {"1__0", "s:1: this is not a number\n  1__0\n  ^^^^"},
        {"0x", "s:1: this is not a number\n  0x\n  ^^"},
        {"012", "s:1: a whole number does not start with 0\n  012\n  ^^^"},
        {"9223372036854775808",
         "s:1: this whole number does not fit into 64 bits\n  9223372036854775808\n  ^^^^^^^^^^^^^^^^^^^"},
        {"f'x'", "s:1: f-strings are not there: write the text itself\n  f'x'\n  ^^"},
        {"b'x'", "s:1: 'b' before a string is not there: r\"...\" and \"...\" are\n  b'x'\n  ^"},
        {"a ? b", "s:1: '?' means nothing here\n  a ? b\n    ^"},
        {"a \\ b", "s:1: nothing may follow a backslash on its line\n  a \\ b\n    ^"},
        {"(a;b)", "s:1: ';' inside brackets\n  (a;b)\n    ^"},
        {"\xe2\x80\x9c"
         "a",
         "s:1: a typographic quote: write ' or \" instead\n  \xe2\x80\x9c"
         "a\n  ^"},
        {"'\\ud800'", "s:1: there is no such character\n  '\\ud800'\n   ^^^^^^"},
        {"'\\xg'", "s:1: this escape needs 2 hexadecimal digits\n  '\\xg'\n   ^^"},
        {"\tgr\xc3\xb6\xc3\x9f"
         "e ? 1",
         "s:1: '?' means nothing here\n   gr\xc3\xb6\xc3\x9f"
         "e ? 1\n         ^"},
        {"a \x01", "s:1: a byte 0x01 means nothing here\n  a  \n    ^"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct arena arena;

        arena_init(&arena, 0);
        assert_null(lex(cases[i].text, &arena, &err));
        assert_string_equal(err.text, cases[i].error);
        arena_fini(&arena);
    }
}

static void test_long_line_is_cut(void **state)
{
    char text[600];
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[300] = '?';
    assert_null(lex(text, &arena, &err));

    // The caret stands under the question mark.
    char *line = strchr(err.text, '\n') + 1;
    char *carets = strchr(line, '\n') + 1;

    assert_true(strlen(line) < 300);
    assert_int_equal(line[strchr(carets, '^') - carets], '?');
    arena_fini(&arena);
}

static void test_memory_is_linear(void **state)
{
    struct error err = {0};
    struct arena arena;
    char *text = malloc(200001);

    (void)state;
    arena_init(&arena, 64 << 20);
    for (int i = 0; i < 200000; i += 2) {
        text[i] = '1';
        text[i + 1] = ',';
    }
    text[200000] = '\0';

    const struct script script = {"s", text, 200000};
    struct token *token;
    size_t count;

    assert_int_equal(lexer_run(&script, &arena, &token, &count, &err), 0);
    assert_int_equal(count, 200002);
    arena_fini(&arena);
    free(text);
}

// Any bytes: tokens or an error, and never a byte beyond the text.
static void test_any_bytes(void **state)
{
    static const char alphabet[] = "ab1_0.eE'\"\\\n\r();[]{}#x \t=<>!*/+-&|^~@:,\xc3\xa9\xe2\x80\x9c";
    uint64_t random = 42;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t size = random_below(&random, 40);
        char *text = malloc(size + 1); // so that asan sees a read behind it
        struct error err = {0};
        struct arena arena;
        struct token *token;
        size_t count;

        for (size_t i = 0; i < size; i++) {
            text[i] = random_below(&random, 20) == 0 ? (char)random_next(&random)
                                                     : alphabet[random_below(&random, sizeof(alphabet) - 1)];
        }
        const struct script script = {"s", text, size};

        arena_init(&arena, 0);
        if (lexer_run(&script, &arena, &token, &count, &err) == 0) {
            assert_int_equal(token[count - 1].kind, TOKEN_END);
            for (size_t i = 0; i < count; i++) {
                assert_true(token[i].at.start <= token[i].at.end && token[i].at.end <= size);
            }
        } else {
            assert_int_equal(strncmp(err.text, "s:", 2), 0);
        }
        arena_fini(&arena);
        free(text);
    }
}

static void test_spelling(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        unsigned distance;
    } cases[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"mean", "mean", 0},
        {"mean", "maen", 1},
        {"groupbyy", "groupby", 1},
        {"prise", "price", 1},
        {"kitten", "sitting", 3},
        {"Price", "price", 0},
        {"ab", "ba", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(spell_distance(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(spell_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
    struct spell spell = {.word = "blocksiez"};

    spell_try(&spell, "sep");
    spell_try(&spell, "blocksize");
    assert_string_equal(spell.best, "blocksize");
    assert_true(spell_is_near(&spell));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),           cmocka_unit_test(test_errors),
        cmocka_unit_test(test_long_line_is_cut), cmocka_unit_test(test_memory_is_linear),
        cmocka_unit_test(test_any_bytes),        cmocka_unit_test(test_spelling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
