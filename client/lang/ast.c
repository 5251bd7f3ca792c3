#include "client/lang/ast.h"

#include "proto/number.h"

static char *print_items(const struct ast *ast, struct arena *arena, const char *open, const char *close)
{
    char *out = arena_strdup(arena, open);

    for (uint32_t i = 0; i < ast->items && out != NULL; i++) {
        char *item = ast_print(ast->item[i], arena);
        const char *before = i == 0 ? "" : ast->kind == AST_DICT && i % 2 == 1 ? ": " : ", ";
        const char *keyword = ast->kind == AST_CALL && ast->keyword[i] != NULL ? ast->keyword[i] : "";

        out = item == NULL ? NULL
                           : arena_printf(arena, "%s%s%s%s%s", out, before, keyword,
                                          *keyword != '\0' ? "=" : "", item);
    }
    return out == NULL ? NULL : arena_printf(arena, "%s%s", out, close);
}

char *ast_print(const struct ast *ast, struct arena *arena)
{
    char number[NUMBER_TEXT_MAX];
    char *a = ast->a == NULL ? NULL : ast_print(ast->a, arena);
    char *b = ast->b == NULL ? NULL : ast_print(ast->b, arena);

    if ((ast->a != NULL && a == NULL) || (ast->b != NULL && b == NULL)) {
        return NULL;
    }
    switch (ast->kind) {
    case AST_NONE:
        return arena_strdup(arena, "None");
    case AST_BOOL:
        return arena_strdup(arena, ast->boolean ? "True" : "False");
    case AST_INT:
        return arena_printf(arena, "%lld", (long long)ast->i);
    case AST_FLOAT:
        return arena_strndup(arena, number, number_print_float64(ast->f, number));
    case AST_STRING:
        return arena_printf(arena, "\"%s\"", ast->text);
    case AST_NAME:
        return arena_strdup(arena, ast->text);
    case AST_LIST:
        return print_items(ast, arena, "[", "]");
    case AST_TUPLE:
        return print_items(ast, arena, "(", ast->items == 1 ? ",)" : ")");
    case AST_DICT:
        return print_items(ast, arena, "{", "}");
    case AST_UNARY:
        return arena_printf(arena, "(%s%s)", op_text(ast->op), a);
    case AST_BINARY:
        return arena_printf(arena, "(%s %s %s)", a, op_text(ast->op), b);
    case AST_ATTRIBUTE:
        return arena_printf(arena, "%s.%s", a, ast->text);
    case AST_ITEM:
        return arena_printf(arena, "%s[%s]", a, b);
    case AST_CALL:
        return print_items(ast, arena, arena_printf(arena, "%s(", a), ")");
    }
    return NULL;
}
