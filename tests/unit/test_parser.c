#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/lang/parser.h"
#include "tests/unit/generate.h"

static char *parse(const char *text, struct arena *arena, struct error *err)
{
    const struct script script = {"s", text, strlen(text)};
    struct ast_script ast;
    char *out = arena_strdup(arena, "");

    if (parser_run(&script, arena, &ast, err) < 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < ast.statements; i++) {
        const struct statement *s = &ast.statement[i];
        const char *separator = i == 0 ? "" : "; ";

        if (s->kind == STATEMENT_IMPORT) {
            out = arena_printf(arena, "%s%simport %s as %s", out, separator, s->module, s->name);
        } else if (s->kind == STATEMENT_ASSIGN) {
            out = arena_printf(arena, "%s%s%s %s= %s", out, separator, ast_print(s->target, arena),
                               s->op == OP_NONE ? "" : op_text(s->op), ast_print(s->value, arena));
        } else {
            out = arena_printf(arena, "%s%s%s", out, separator, ast_print(s->value, arena));
        }
    }
    return out;
}

static void test_trees(void **state)
{
    static const struct {
        const char *text;
        const char *tree;
    } cases[] = {
        {"1 + 2 * 3", "(1 + (2 * 3))"},
        {"(1 + 2) * 3", "((1 + 2) * 3)"},
        {"a - b - c", "((a - b) - c)"},
        {"2 ** 3 ** 2", "(2 ** (3 ** 2))"},
        {"-x ** 2", "(-(x ** 2))"},
        {"2 ** -1", "(2 ** (-1))"},
        {"-a * b", "((-a) * b)"},
        {"- - ~a", "(-(-(~a)))"},
        {"+x.y", "(+x.y)"},
        {"a | b ^ c & d << e + f", "(a | (b ^ (c & (d << (e + f)))))"},
        {"a > 5 & b", "(a > (5 & b))"},
        {"(a > 5) & ~(b == 'x')", "((a > 5) & (~(b == \"x\")))"},
        {"a // b % c @ d", "(((a // b) % c) @ d)"},
        {"df.x.mean()", "df.x.mean()"},
        {"df[['a', 'b']].head(n=5)", "df[[\"a\", \"b\"]].head(n=5)"},
        {"df[df.x > 5]['y']", "df[(df.x > 5)][\"y\"]"},
        {"f(1, b=2, c=[3],)", "f(1, b=2, c=[3])"},
        {"()", "()"},
        {"(1,)", "(1,)"},
        {"(1, 2)", "(1, 2)"},
        {"[1, [2, 3],]", "[1, [2, 3]]"},
        {"{'a': 1, 'b': [2]}", "{\"a\": 1, \"b\": [2]}"},
        {"{}", "{}"},
        {"'a' 'b' \"c\"", "\"abc\""},
        {"[None, True, False, 1.5]", "[None, True, False, 1.5]"},
        {"a = 1; b = a\nb", "a = 1; b = a; b"},
        {"a += 1; a **= 2", "a += 1; a **= 2"},
        {"df['z'] = df.x * 2", "df[\"z\"] = (df.x * 2)"},
        {"df.z = 1", "df.z = 1"},
        {"(df\n .groupby('k')\n .x)", "df.groupby(\"k\").x"},
        {"df \\\n .x", "df.x"},
        {"(-1).x", "(-1).x"},
        {"(a < b) == c", "((a < b) == c)"},
        {"import pandas as pd", "import pandas as pd"},
        {"import dask.dataframe as dd, numpy as np", "import dask.dataframe as dd; import numpy as np"},
        {"import dask.dataframe", "import dask as dask"},
        {"from dask import dataframe as dd", "import dask.dataframe as dd"},
        {"from pandas import (read_csv as r, DataFrame)",
         "import pandas.read_csv as r; import pandas.DataFrame as DataFrame"},
        {"", ""},
        {"# nothing\n\n", ""},
        {"f(a)(b)[c].d", "f(a)(b)[c].d"},
        {"x[1, 2]", "x[(1, 2)]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct arena arena;
        char *tree;

        arena_init(&arena, 0);
        tree = parse(cases[i].text, &arena, &err);
        if (tree == NULL) {
            fail_msg("%s: %s", cases[i].text, err.text);
        }
        assert_string_equal(tree, cases[i].tree);
        arena_fini(&arena);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"1 < x < 2", "s:1: comparisons cannot be chained: use & between two comparisons, each in "
                      "parentheses\n  1 < x < 2\n        ^"},
        {"a and b",
         "s:1: 'and' asks for one truth value: write & between two conditions, each in parentheses\n"
         "  a and b\n    ^^^"},
        {"not a",
         "s:1: 'not' asks for one truth value: write ~ before a condition in parentheses\n  not a\n  ^^^"},
        {"x if y else z", "s:1: 'if' is not there: a script is a list of expressions and assignments\n"
                          "  x if y else z\n    ^^"},
        {"f(lambda x: x)", "s:1: lambda is not there yet: write the column itself, as in df.assign(z=df.x * "
                           "2)\n  f(lambda x: x)\n    ^^^^^^"},
        {"[x for x in y]",
         "s:1: comprehensions are not there: write the list out\n  [x for x in y]\n     ^^^"},
        {"for x in y:", "s:1: 'for' is not there: a script is a list of expressions and assignments\n"
                        "  for x in y:\n  ^^^"},
        {"df\n.x", "s:2: a line cannot start with '.': put the whole chain into parentheses\n  .x\n  ^"},
        {"f(a=1, 2)", "s:1: an argument without a name behind one with a name\n  f(a=1, 2)\n         ^"},
        {"f(a=1, a=2)", "s:1: 'a' is given twice\n  f(a=1, a=2)\n         ^"},
        {"f(*a)", "s:1: unpacking with '*' is not there\n  f(*a)\n    ^"},
        {"df[1:2]", "s:1: slices are not there yet: df.head(n) gives the first rows\n  df[1:2]\n      ^"},
        {"a = b = c", "s:1: one '=' in a statement\n  a = b = c\n        ^"},
        {"1 = a", "s:1: this cannot be assigned to: a variable can, and df[\"column\"]\n  1 = a\n  ^"},
        {"f().x = 1", "s:1: only a column of a variable can be assigned to: give this a name first\n"
                      "  f().x = 1\n  ^^^"},
        {"a b", "s:1: the end of the line is expected here\n  a b\n    ^"},
        {"a +", "s:1: the line ends where a value is expected\n  a +\n     ^"},
        {"a, b", "s:1: a ',' outside brackets\n  a, b\n   ^"},
        {"{1, 2}", "s:1: ':' (sets are not there, a dict is {key: value}) is expected here\n  {1, 2}\n    ^"},
        {"import os", "s:1: there is no module 'os' here: imports of pandas and dask.dataframe are accepted\n"
                      "  import os\n         ^^"},
        {"x = 5 import", "s:1: 'import' belongs at the start of a line\n  x = 5 import\n        ^^^^^^"},
        {"df[]", "s:1: a value is expected here\n  df[]\n     ^"},
        {"f(x=)", "s:1: a value is expected here\n  f(x=)\n      ^"},
        {"if x:", "s:1: 'if' is not there: a script is a list of expressions and assignments\n  if x:\n  ^^"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct arena arena;

        arena_init(&arena, 0);
        assert_null(parse(cases[i].text, &arena, &err));
        assert_string_equal(err.text, cases[i].error);
        arena_fini(&arena);
    }
}

static void test_depth_is_bounded(void **state)
{
    static const struct {
        const char *open, *middle, *close;
        int count;
        bool fine;
    } cases[] = {
        {"(", "x", ")", 100, true},     {"(", "x", ")", 100000, false},  {"-", "x", "", 100, true},
        {"-", "x", "", 100000, false},  {"[", "", "]", 100000, false},   {"f(", "", ")", 100000, false},
        {"", "x", "+x", 300, true},     {"", "x", "+x", 50000, false},   {"", "x", ".y", 50000, false},
        {"2**", "x", "", 50000, false}, {"{1:", "1", "}", 50000, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t room = (strlen(cases[i].open) + strlen(cases[i].close)) * (size_t)cases[i].count + 10;
        char *text = malloc(room);
        size_t used = 0;
        struct error err = {0};
        struct arena arena;
        char *tree;

        arena_init(&arena, 0);
        for (int k = 0; k < cases[i].count; k++) {
            used += (size_t)snprintf(text + used, room - used, "%s", cases[i].open);
        }
        used += (size_t)snprintf(text + used, room - used, "%s", cases[i].middle);
        for (int k = 0; k < cases[i].count; k++) {
            used += (size_t)snprintf(text + used, room - used, "%s", cases[i].close);
        }
        tree = parse(text, &arena, &err);
        assert_int_equal(tree != NULL, cases[i].fine);
        arena_fini(&arena);
        free(text);
    }
}

// Any sequence of words: a tree or an error that points into the script.
static void test_any_words(void **state)
{
    static const char *const words[] = {"df",   ".",   "x",      "[",      "]",        "(",   ")",
                                        "=",    "==",  ">",      "&",      "-",        "**",  "1",
                                        "2.5",  "'s'", ",",      "\n",     ";",        "{",   "}",
                                        ":",    "~",   "+=",     "import", "pandas",   "as",  "from",
                                        "None", "and", "lambda", "*",      "read_csv", "\\\n"};
    uint64_t random = 7;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[400];
        size_t used = 0;
        struct error err = {0};
        struct arena arena;

        for (uint32_t n = random_below(&random, 25); n > 0; n--) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s ",
                                     words[random_below(&random, sizeof(words) / sizeof(words[0]))]);
        }
        text[used] = '\0';
        arena_init(&arena, 0);
        if (parse(text, &arena, &err) == NULL) {
            assert_int_equal(err.code, EINVAL);
            assert_non_null(strchr(err.text, '^'));
        }
        arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_any_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
