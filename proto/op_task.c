#include <errno.h>
#include <string.h>

#include "proto/op.h"
#include "proto/op_step.h"
#include "proto/template.h"

enum { ARGV_MAX = 65536, NAME_BYTES_MAX = 4096 };
#define BUSY_NANOSECONDS_MAX (UINT64_C(3600) * 1000 * 1000 * 1000)
#define BUSY_ITERATIONS_MAX (UINT64_C(1) << 40)
#define BUSY_BYTES_MAX (UINT64_C(1) << 32)

int step_check_count(const void *step, struct step_columns *columns, struct error *err)
{
    (void)step;
    (void)err;
    columns->bytes = true;
    return 0;
}

int step_check_busy(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Busy *busy = step;

    columns->bytes = true;
    if (busy->output_bytes < 8 || busy->output_bytes > BUSY_BYTES_MAX || busy->iterations > BUSY_ITERATIONS_MAX ||
        busy->nanoseconds > BUSY_NANOSECONDS_MAX || (busy->has_iterations && busy->has_nanoseconds)) {
        return error_set(err, EBADMSG, "%llu iterations, %llu ns, %llu bytes of output",
                         (unsigned long long)busy->iterations, (unsigned long long)busy->nanoseconds,
                         (unsigned long long)busy->output_bytes);
    }
    return 0;
}

int step_check_data(const void *step, struct step_columns *columns, struct error *err)
{
    columns->bytes = true;
    return ((const Dray__Data *)step)->n_value > 0 ? 0 : error_set(err, EBADMSG, "it has no value");
}

static int check_word(const char *what, const char *text, struct error *err)
{
    if (text[0] == '\0' || strlen(text) > NAME_BYTES_MAX) {
        return error_set(err, EBADMSG, "%s is empty or longer than %d bytes", what, NAME_BYTES_MAX);
    }
    return 0;
}

int step_check_call(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Call *call = step;
    int rc = check_word("the name of its plugin", call->plugin, err);

    columns->bytes = true;
    return rc == 0 ? check_word("the name of its function", call->function, err) : rc;
}

// Words that become C strings.
static int check_words(const char *what, const ProtobufCBinaryData *word, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (word[i].len > 0 && memchr(word[i].data, '\0', word[i].len) != NULL) {
            return error_set(err, EBADMSG, "%s %zu has a zero byte", what, i);
        }
    }
    return 0;
}

// A path that stays below the working directory.
static int check_relative(const char *path, struct error *err)
{
    const char *at = path;
    int rc = check_word("a path", path, err);

    if (rc == 0 && path[0] == '/') {
        rc = error_set(err, EBADMSG, "the path '%.200s' is not below the working directory", path);
    }
    while (rc == 0 && at != NULL) {
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0')) {
            rc = error_set(err, EBADMSG, "the path '%.200s' leaves the working directory", path);
        }
        at = strchr(at, '/');
        at = at != NULL ? at + 1 : NULL;
    }
    return rc;
}

int step_check_command(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Command *command = step;
    int rc = 0;

    columns->bytes = true;
    if (command->n_argv < 1 || command->n_argv > ARGV_MAX || command->argv[0].len == 0) {
        return error_set(err, EBADMSG, "a command of %zu words, the first of which must name a program",
                         command->n_argv);
    }
    if (command->shell && command->n_argv != 1) {
        return error_set(err, EBADMSG, "%zu texts for the shell instead of one", command->n_argv);
    }
    if (command->has_stdin && command->has_stdin_input) {
        return error_set(err, EBADMSG, "it has two standard inputs");
    }
    rc = check_words("word", command->argv, command->n_argv, err);
    if (rc == 0) {
        rc = check_words("parameter", command->param, command->n_param, err);
    }
    if (rc == 0) {
        rc = check_words("environment entry", command->env, command->n_env, err);
    }
    for (size_t i = 0; i < command->n_env && rc == 0; i++) {
        const ProtobufCBinaryData *entry = &command->env[i];

        if (entry->len == 0 || entry->data[0] == '=' || memchr(entry->data, '=', entry->len) == NULL) {
            rc = error_set(err, EBADMSG, "environment entry %zu is not NAME=value", i);
        }
    }
    for (size_t i = 0; i < command->n_file && rc == 0; i++) {
        rc = check_relative(command->file[i]->path, err);
    }
    if (rc == 0 && command->output != NULL) {
        rc = check_relative(command->output, err);
    }
    if (rc == 0 && command->directory != NULL) {
        rc = check_word("the working directory", command->directory, err);
    }
    return rc == 0 ? template_check_columns(command, err) : rc;
}

static int check_count(const char *what, size_t count, size_t least, uint32_t tasks, struct error *err)
{
    if (count < least || (count > 1 && count != tasks)) {
        return error_set(err, EBADMSG, "%zu %s for %u tasks", count, what, tasks);
    }
    return 0;
}

int op_check_tasks(const Dray__Op *op, uint32_t tasks, struct error *err)
{
    const Dray__Step *step = op->step[0];

    if (step->data != NULL) {
        return check_count("values", step->data->n_value, 1, tasks, err);
    }
    if (step->call != NULL) {
        return check_count("arguments", step->call->n_argument, 0, tasks, err);
    }
    if (step->command != NULL) {
        return check_count("parameters", step->command->n_param, 0, tasks, err);
    }
    return 0;
}
