// Runs scripts in this process and prints their values, for a comparison with pandas.
//
// usage: query_cases FORMAT < scripts     each script ends with a line "----"; so does each answer, after
// "ok ROUNDS" or "error" on a line of its own
#include "tests/unit/query_fixture.h"

static void answer(const char *script, enum print_format format)
{
    struct error err = {0};
    struct local local;
    char *text = NULL;
    int rc = local_create(&local, script, NULL, &err);

    if (rc == 0) {
        rc = local_run(&local, format, &text, &err);
    }
    if (rc == 0) {
        printf("ok %u\n%s----\n", local.rounds, text);
    } else {
        printf("error\n%s\n----\n", err.text);
    }
    fflush(stdout);
    free(text);
    local_fini(&local);
}

int main(int argc, char **argv)
{
    enum print_format format = PRINT_TABLE;
    struct error err = {0};
    char *script = calloc(1, 1 << 20);
    size_t used = 0;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    if (script == NULL || (argc > 1 && print_format_parse(argv[1], &format, &err) < 0)) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    while ((n = getline(&line, &room, stdin)) > 0) {
        if (strcmp(line, "----\n") == 0) {
            script[used] = '\0';
            answer(script, format);
            used = 0;
        } else if (used + (size_t)n < 1 << 20) {
            memcpy(script + used, line, (size_t)n);
            used += (size_t)n;
        }
    }
    free(line);
    free(script);
    return 0;
}
