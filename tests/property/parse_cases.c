// Prints expressions with every operation in parentheses, for a comparison with Python's own parser.
//
// usage: parse_cases < expressions      one a line; "error" for what is refused
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lang/parser.h"

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, stdin)) > 0) {
        const struct script script = {"line", line, (size_t)n};
        struct ast_script ast;
        struct error err;
        struct arena arena;

        arena_init(&arena, 0);
        if (parser_run(&script, &arena, &ast, &err) == 0 && ast.statements == 1 &&
            ast.statement[0].kind == STATEMENT_VALUE) {
            printf("%s\n", ast_print(ast.statement[0].value, &arena));
        } else {
            printf("error\n");
        }
        arena_fini(&arena);
    }
    free(line);
    return 0;
}
