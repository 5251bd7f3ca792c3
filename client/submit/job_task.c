// What a task does and what it asks for: its operation and its layer.
#include "client/submit/job_state.h"

#include <errno.h>
#include <string.h>

#include "client/lang/quantity.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "proto/template.h"

static const enum field KINDS[] = {FIELD_COMMAND, FIELD_SHELL, FIELD_CALL,
                                   FIELD_COUNT,   FIELD_BUSY,  FIELD_DATA};
static const char *const KIND_NAMES[] = {"command", "shell", "call", "count", "busy", "data"};

// Keys that only a process has.
static const struct {
    enum field field;
    const char *name;
} PROCESS_FIELDS[] = {
    {FIELD_STDIN, "stdin"},   {FIELD_CLEAR_ENV, "clear_env"}, {FIELD_DIRECTORY, "directory"},
    {FIELD_OUTPUT, "output"}, {FIELD_MEMORY, "memory"},       {FIELD_ENV, "env"},
};

enum { CALL_PLUGIN, CALL_FUNCTION, CALL_ARGUMENT, CALL_FIELDS };
static const struct key CALL_KEYS[] = {
    {"plugin", CALL_PLUGIN}, {"function", CALL_FUNCTION}, {"argument", CALL_ARGUMENT}};

enum { BUSY_TIME, BUSY_ITERATIONS, BUSY_OUTPUT, BUSY_FIELDS };
static const struct key BUSY_KEYS[] = {
    {"time", BUSY_TIME}, {"iterations", BUSY_ITERATIONS}, {"output", BUSY_OUTPUT}};

#define NEW(state, type, Type)                                                                               \
    __extension__({                                                                                          \
        Type *made = arena_zalloc((state)->arena, sizeof(Type));                                             \
        if (made != NULL) {                                                                                  \
            dray__##type##__init(made);                                                                      \
        }                                                                                                    \
        made;                                                                                                \
    })

// ---- commands -----------------------------------------------------------------------------------

static int read_words(const struct job_state *state, const struct task *task, Dray__Command *command,
                      struct error *err)
{
    const struct node *node = task->field[FIELD_COMMAND];
    int rc = 0;

    if (node->kind == NODE_SCALAR) {
        return STATE_ERROR(
            state, node, err,
            "'command' is a list of words, as in [sort, -n, data]; text for a shell is 'shell'");
    }
    if (node->kind != NODE_LIST || node->count == 0) {
        return STATE_ERROR(state, node, err,
                           "'command' is a list of words, the first of which names a program");
    }
    command->argv = arena_array(state->arena, node->count, sizeof(*command->argv));
    if (command->argv == NULL) {
        return error_no_memory(err);
    }
    command->n_argv = node->count;
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = job_text(state, task, node->item[i], "", false, &command->argv[i], err);
    }
    if (rc == 0 && command->argv[0].len == 0) {
        rc = STATE_ERROR(state, node->item[0], err, "the name of the program is empty");
    }
    return rc;
}

static int read_shell(const struct job_state *state, const struct task *task, Dray__Command *command,
                      struct error *err)
{
    command->argv = arena_array(state->arena, 1, sizeof(*command->argv));
    if (command->argv == NULL) {
        return error_no_memory(err);
    }
    command->n_argv = 1;
    command->has_shell = command->shell = true;
    if (task->field[FIELD_SHELL]->kind == NODE_SCALAR && task->field[FIELD_SHELL]->count == 0) {
        return STATE_ERROR(state, task->field[FIELD_SHELL], err, "the text for the shell is empty");
    }
    return job_text(state, task, task->field[FIELD_SHELL], "", false, &command->argv[0], err);
}

static int add_env_map(const struct job_state *state, const struct task *task, const struct node *map,
                       const struct node *without, Dray__Command *command, struct error *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < map->count && rc == 0; i++) {
        const struct node *key = map_key(map, i);
        char *prefix;
        bool hidden = false;

        for (uint32_t k = 0; without != NULL && without->kind == NODE_MAP && k < without->count && !hidden;
             k++) {
            hidden = strcmp(map_key(without, k)->text, key->text) == 0;
        }
        if (hidden) {
            continue;
        }
        if (key->count == 0 || strchr(key->text, '=') != NULL) {
            return STATE_ERROR(state, key, err, "'%.80s' cannot be the name of a variable", key->text);
        }
        // A brace in the name is itself.
        if (strchr(key->text, '{') != NULL) {
            return STATE_ERROR(state, key, err, "a brace in the name of a variable");
        }
        prefix = arena_printf(state->arena, "%s=", key->text);
        rc = prefix == NULL ? error_no_memory(err)
                            : job_text(state, task, map_value(map, i), prefix, false,
                                       &command->env[command->n_env++], err);
    }
    return rc;
}

static int add_env_list(const struct job_state *state, const struct task *task, const struct node *list,
                        Dray__Command *command, struct error *err)
{
    struct items items;
    int rc = read_items(state, list, "env", &items, err);

    for (uint32_t i = 0; rc == 0 && i < items.count; i++) {
        const struct node *item = items_at(&items, i);
        const char *equals = strchr(item->text, '=');

        if (equals == NULL || equals == item->text) {
            return STATE_ERROR(state, item, err,
                               "'env' is a map of names and values, or a list of NAME=value");
        }
        rc = job_text(state, task, item, "", false, &command->env[command->n_env++], err);
    }
    return rc;
}

static uint32_t entries(const struct node *node)
{
    return node == NULL ? 0 : node->kind == NODE_SCALAR ? 1 : node->count;
}

static int read_env(const struct job_state *state, const struct task *task, Dray__Command *command,
                    struct error *err)
{
    const struct node *own = task->field[FIELD_ENV], *base = task->default_env;
    int rc = 0;

    command->env = arena_array(state->arena, (size_t)entries(own) + entries(base) + 1, sizeof(*command->env));
    if (command->env == NULL) {
        return error_no_memory(err);
    }
    if (base != NULL) {
        rc = base->kind == NODE_MAP ? add_env_map(state, task, base, own, command, err)
                                    : add_env_list(state, task, base, command, err);
    }
    if (rc == 0 && own != NULL) {
        rc = own->kind == NODE_MAP ? add_env_map(state, task, own, NULL, command, err)
                                   : add_env_list(state, task, own, command, err);
    }
    return rc;
}

static const char *escape_braces(const struct job_state *state, const char *text)
{
    size_t size = strlen(text), used = 0;
    char *out = arena_alloc(state->arena, 2 * size + 1);

    for (size_t i = 0; i <= size && out != NULL; i++) {
        if (text[i] == '{') {
            out[used++] = '{';
        }
        out[used++] = text[i];
    }
    return out;
}

static int read_directory(const struct job_state *state, const struct task *task, Dray__Command *command,
                          struct error *err)
{
    char *text;
    int rc = job_text_string(state, task, task->field[FIELD_DIRECTORY], false, &text, err);

    if (rc != 0) {
        return rc;
    }
    if (text[0] == '\0') {
        return STATE_ERROR(state, task->field[FIELD_DIRECTORY], err, "'directory' is empty");
    }
    if (text[0] != '/') {
        const char *above = escape_braces(state, state->host->directory);

        text = above == NULL            ? NULL
               : strcmp(text, ".") == 0 ? (char *)(uintptr_t)above
                                        : arena_printf(state->arena, "%s/%s", above, text);
        if (text == NULL) {
            return error_no_memory(err);
        }
    }
    command->directory = text;
    return 0;
}

// A path that stays below the working directory, as proto/op_task.c wants it.
static int check_path(const struct job_state *state, const struct node *node, const char *path,
                      const char *name, struct error *err)
{
    const char *at = path;

    if (path[0] == '\0' || path[0] == '/') {
        return STATE_ERROR(state, node, err, "'%s' is a path below the working directory", name);
    }
    for (; at != NULL; at = strchr(at, '/') != NULL ? strchr(at, '/') + 1 : NULL) {
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0')) {
            return STATE_ERROR(state, node, err, "'%s' leaves the working directory", name);
        }
    }
    return 0;
}

static int read_process(const struct job_state *state, const struct task *task, Dray__Command *command,
                        struct error *err)
{
    const struct node *const *field = task->field;
    int rc = read_env(state, task, command, err);

    if (rc == 0 && field[FIELD_CLEAR_ENV] != NULL) {
        bool clear = false;

        rc = read_bool(state, field[FIELD_CLEAR_ENV], "clear_env", &clear, err);
        command->has_clear_env = command->clear_env = clear;
    }
    if (rc == 0 && field[FIELD_DIRECTORY] != NULL) {
        rc = read_directory(state, task, command, err);
    }
    if (rc == 0 && field[FIELD_STDIN] != NULL) {
        rc = job_text(state, task, field[FIELD_STDIN], "", false, &command->stdin, err);
        command->has_stdin = command->has_stdin_template = command->stdin_template = rc == 0;
    }
    if (rc == 0 && field[FIELD_OUTPUT] != NULL) {
        rc = job_text_string(state, task, field[FIELD_OUTPUT], false, &command->output, err);
        rc = rc == 0 ? check_path(state, field[FIELD_OUTPUT], command->output, "output", err) : rc;
    }
    if (rc == 0 && field[FIELD_MEMORY] != NULL) {
        rc = read_size(state, field[FIELD_MEMORY], "memory", &command->memory, err);
        command->has_memory = rc == 0;
    }
    return rc;
}

static int read_command(const struct job_state *state, struct task *task, Dray__Step *step, struct error *err)
{
    Dray__Command *command = NEW(state, command, Dray__Command);
    int rc;

    if (command == NULL) {
        return error_no_memory(err);
    }
    step->command = task->command = command;
    command->column = task->column;
    command->n_column = task->columns;
    rc = task->field[FIELD_SHELL] != NULL ? read_shell(state, task, command, err)
                                          : read_words(state, task, command, err);
    return rc == 0 ? read_process(state, task, command, err) : rc;
}

// ---- calls and what is built in -----------------------------------------------------------------------

static int set_arguments(const struct job_state *state, const struct task *task, const struct node *node,
                         Dray__Call *call, struct error *err)
{
    Dray__Command names = DRAY__COMMAND__INIT;
    ProtobufCBinaryData text;
    size_t total = 0;
    int rc = job_text(state, task, node, "", false, &text, err);

    if (rc != 0) {
        return rc;
    }
    names.column = task->column;
    names.n_column = task->columns;
    // One for all, unless a name stands in it.
    call->n_argument = memchr(node->text, '{', node->count) == NULL ? 1 : task->count;
    call->argument = arena_array(state->arena, call->n_argument, sizeof(*call->argument));
    if (call->argument == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < call->n_argument; i++) {
        char *out;
        size_t size;

        rc = template_expand(&names, i, NULL, text.data, text.len, state->arena, &out, &size, err);
        if (rc != 0) {
            return rc;
        }
        total += size + 8;
        if (total > JOB_GRAPH_BYTES_MAX) {
            return STATE_ERROR(state, node, err, "the arguments of %u tasks are more than %zu MB",
                               task->count, JOB_GRAPH_BYTES_MAX >> 20);
        }
        call->argument[i] = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)out};
    }
    return 0;
}

static int read_call(const struct job_state *state, struct task *task, Dray__Step *step, struct error *err)
{
    const struct node *field[CALL_FIELDS] = {NULL};
    Dray__Call *call = NEW(state, call, Dray__Call);
    const char *text = NULL;
    int rc = schema_read(state, task->field[FIELD_CALL], "a call", CALL_KEYS, CALL_FIELDS, field, err);

    if (rc != 0 || call == NULL) {
        return rc != 0 ? rc : error_no_memory(err);
    }
    step->call = call;
    if (field[CALL_PLUGIN] == NULL || field[CALL_FUNCTION] == NULL) {
        return STATE_ERROR(state, task->field[FIELD_CALL], err,
                           "a call names a 'plugin' and a 'function' of it");
    }
    rc = read_text(state, field[CALL_PLUGIN], "plugin", &text, err);
    call->plugin = (char *)(uintptr_t)text;
    task->plugin = text;
    rc = rc == 0 ? read_text(state, field[CALL_FUNCTION], "function", &text, err) : rc;
    call->function = (char *)(uintptr_t)text;
    if (rc == 0 && field[CALL_ARGUMENT] != NULL) {
        rc = set_arguments(state, task, field[CALL_ARGUMENT], call, err);
    }
    return rc;
}

static int read_busy(const struct job_state *state, struct task *task, Dray__Step *step, struct error *err)
{
    const struct node *field[BUSY_FIELDS] = {NULL};
    Dray__Busy *busy = NEW(state, busy, Dray__Busy);
    struct error why = {0};
    int64_t number;
    int rc = schema_read(state, task->field[FIELD_BUSY], "'busy'", BUSY_KEYS, BUSY_FIELDS, field, err);

    if (rc != 0 || busy == NULL) {
        return rc != 0 ? rc : error_no_memory(err);
    }
    step->busy = busy;
    if ((field[BUSY_TIME] != NULL) == (field[BUSY_ITERATIONS] != NULL)) {
        return STATE_ERROR(state, task->field[FIELD_BUSY], err,
                           "'busy' has a 'time' or a number of 'iterations'");
    }
    if (field[BUSY_TIME] != NULL) {
        const char *text;

        rc = read_text(state, field[BUSY_TIME], "time", &text, err);
        if (rc == 0 && duration_parse(text, &busy->nanoseconds, &why) != 0) {
            rc = STATE_ERROR(state, field[BUSY_TIME], err, "'time': %s", why.text);
        }
        busy->has_nanoseconds = rc == 0;
    } else {
        rc = read_integer(state, field[BUSY_ITERATIONS], "iterations", 0, NUMBER_MAX, &number, err);
        busy->iterations = rc == 0 ? (uint64_t)number : 0;
        busy->has_iterations = rc == 0;
    }
    if (rc == 0 && field[BUSY_OUTPUT] != NULL) {
        rc = read_size(state, field[BUSY_OUTPUT], "output", &busy->output_bytes, err);
        busy->has_output_bytes = rc == 0;
    }
    return rc;
}

static int read_data(const struct job_state *state, struct task *task, Dray__Step *step, struct error *err)
{
    Dray__Data *data = NEW(state, data, Dray__Data);
    const char *text = NULL;
    int rc = read_text(state, task->field[FIELD_DATA], "data", &text, err);

    if (rc != 0 || data == NULL ||
        (data->value = arena_array(state->arena, 1, sizeof(*data->value))) == NULL) {
        return rc != 0 ? rc : error_no_memory(err);
    }
    step->data = data;
    data->n_value = 1;
    data->value[0] =
        (ProtobufCBinaryData){.len = task->field[FIELD_DATA]->count, .data = (uint8_t *)(uintptr_t)text};
    return 0;
}

static int find_kind(const struct job_state *state, const struct task *task, enum field *out,
                     struct error *err)
{
    int found = -1;

    for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
        if (task->field[KINDS[i]] == NULL) {
            continue;
        }
        if (found >= 0) {
            return STATE_ERROR(state, task->field[KINDS[i]], err, "task '%s' has both '%s' and '%s'",
                               task->name, KIND_NAMES[found], KIND_NAMES[i]);
        }
        found = (int)i;
    }
    if (found < 0) {
        return STATE_ERROR(state, task->at, err,
                           "task '%s' does nothing: it needs 'command', 'shell', 'call', 'data', "
                           "'count' or 'busy'",
                           task->name);
    }
    *out = KINDS[found];
    for (size_t i = 0; i < sizeof(PROCESS_FIELDS) / sizeof(PROCESS_FIELDS[0]); i++) {
        const struct node *node = task->field[PROCESS_FIELDS[i].field];

        if (node != NULL && node != state->defaults[PROCESS_FIELDS[i].field] && *out != FIELD_COMMAND &&
            *out != FIELD_SHELL) {
            return STATE_ERROR(state, node, err, "'%s' is for 'command' and 'shell', and task '%s' has '%s'",
                               PROCESS_FIELDS[i].name, task->name, KIND_NAMES[found]);
        }
    }
    return 0;
}

static int read_op(const struct job_state *state, struct task *task, struct error *err)
{
    Dray__Step *step = NEW(state, step, Dray__Step);
    enum field kind = FIELD_COUNT;
    int rc = find_kind(state, task, &kind, err);

    if (rc != 0) {
        return rc;
    }
    task->op = NEW(state, op, Dray__Op);
    if (step == NULL || task->op == NULL ||
        (task->op->step = arena_array(state->arena, 1, sizeof(step))) == NULL) {
        return error_no_memory(err);
    }
    task->op->step[0] = step;
    task->op->n_step = 1;
    switch (kind) {
    case FIELD_CALL:
        return read_call(state, task, step, err);
    case FIELD_BUSY:
        return read_busy(state, task, step, err);
    case FIELD_DATA:
        return read_data(state, task, step, err);
    case FIELD_COUNT:
        step->count = NEW(state, count, Dray__Count);
        return step->count != NULL ? 0 : error_no_memory(err);
    default:
        return read_command(state, task, step, err);
    }
}

// ---- demands ------------------------------------------------------------------------------------------

static int read_resources(const struct job_state *state, const struct task *task, struct error *err)
{
    const struct node *map = task->field[FIELD_RESOURCES];
    Dray__Layer *layer = task->layer;
    int rc = 0;

    if (map->kind != NODE_MAP || map->count > GRAPH_RESOURCES_MAX) {
        return STATE_ERROR(state, map, err,
                           "'resources' is a map of at most %d names and amounts, as in {gpu: 1}",
                           GRAPH_RESOURCES_MAX);
    }
    layer->resource = arena_array(state->arena, map->count + 1, sizeof(*layer->resource));
    if (layer->resource == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < map->count && rc == 0; i++) {
        Dray__Resource *resource = NEW(state, resource, Dray__Resource);
        int64_t amount = 0;

        if (resource == NULL) {
            return error_no_memory(err);
        }
        rc = read_integer(state, map_value(map, i), map_key(map, i)->text, 1, UINT32_MAX, &amount, err);
        if (rc == 0 && map_key(map, i)->count == 0) {
            rc = STATE_ERROR(state, map_key(map, i), err, "a resource without a name");
        }
        resource->name = (char *)(uintptr_t)map_key(map, i)->text;
        resource->amount = (uint32_t)amount;
        layer->resource[layer->n_resource++] = resource;
    }
    return rc;
}

static int read_workers(const struct job_state *state, const struct task *task, struct error *err)
{
    Dray__Layer *layer = task->layer;
    struct items items;
    int rc = read_items(state, task->field[FIELD_WORKERS], "workers", &items, err);

    if (rc == 0 && (items.count == 0 || items.count > GRAPH_WORKERS_MAX)) {
        rc = STATE_ERROR(state, task->field[FIELD_WORKERS], err, "'workers' are from 1 to %d names or labels",
                         GRAPH_WORKERS_MAX);
    }
    if (rc != 0) {
        return rc;
    }
    layer->worker = arena_array(state->arena, items.count, sizeof(*layer->worker));
    if (layer->worker == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < items.count; i++) {
        if (items_at(&items, i)->count == 0) {
            return STATE_ERROR(state, items_at(&items, i), err, "a worker without a name");
        }
        layer->worker[layer->n_worker++] = (char *)(uintptr_t)items_at(&items, i)->text;
    }
    return 0;
}

static int read_demands(const struct job_state *state, struct task *task, struct error *err)
{
    const struct node *const *field = task->field;
    Dray__Layer *layer = task->layer;
    int64_t number;
    int rc = 0;

    if (field[FIELD_RESOURCES] != NULL) {
        rc = read_resources(state, task, err);
    }
    if (rc == 0 && field[FIELD_WORKERS] != NULL) {
        rc = read_workers(state, task, err);
    }
    if (rc == 0 && field[FIELD_PRIORITY] != NULL) {
        rc = read_integer(state, field[FIELD_PRIORITY], "priority", INT32_MIN, INT32_MAX, &number, err);
        layer->has_priority = rc == 0;
        layer->priority = rc == 0 ? (int32_t)number : 0;
    }
    if (rc == 0 && field[FIELD_RETRIES] != NULL) {
        rc = read_integer(state, field[FIELD_RETRIES], "retries", 0, 1000000, &number, err);
        layer->has_retries = rc == 0;
        layer->retries = rc == 0 ? (uint32_t)number : 0;
    }
    if (rc == 0 && field[FIELD_RETRY_DELAY] != NULL) {
        rc = read_duration_ms(state, field[FIELD_RETRY_DELAY], "retry_delay", &layer->retry_delay_ms, err);
        layer->has_retry_delay_ms = rc == 0;
    }
    if (rc == 0 && field[FIELD_TIMEOUT] != NULL) {
        rc = read_duration_ms(state, field[FIELD_TIMEOUT], "timeout", &layer->timeout_ms, err);
        layer->has_timeout_ms = rc == 0 && layer->timeout_ms > 0;
    }
    // What is built in has no effect but its result.
    layer->speculate =
        field[FIELD_CALL] == NULL && field[FIELD_COMMAND] == NULL && field[FIELD_SHELL] == NULL;
    if (rc == 0 && field[FIELD_SPECULATE] != NULL) {
        bool speculate = false;

        rc = read_bool(state, field[FIELD_SPECULATE], "speculate", &speculate, err);
        layer->speculate = speculate;
    }
    layer->has_speculate = layer->speculate;
    if (rc == 0 && field[FIELD_RESULT] != NULL) {
        bool wanted = false;

        rc = read_bool(state, field[FIELD_RESULT], "result", &wanted, err);
        layer->has_wanted = rc == 0;
        layer->wanted = wanted;
    }
    return rc;
}

// A call needs a worker with its plugin, whichever else it asks for.
static int need_plugin(const struct job_state *state, struct task *task, const char *plugin,
                       struct error *err)
{
    Dray__Layer *layer = task->layer;
    char **worker = arena_array(state->arena, layer->n_worker + 1, sizeof(*worker));
    char *label = arena_printf(state->arena, "plugin:%s", plugin);

    if (worker == NULL || label == NULL) {
        return error_no_memory(err);
    }
    if (layer->n_worker == GRAPH_WORKERS_MAX) {
        return STATE_ERROR(state, task->field[FIELD_WORKERS], err,
                           "'workers' of a call are at most %d names or labels", GRAPH_WORKERS_MAX - 1);
    }
    for (size_t i = 0; i < layer->n_worker; i++) {
        worker[i] = layer->worker[i];
    }
    worker[layer->n_worker++] = label;
    layer->worker = worker;
    return 0;
}

int job_task_read(struct job_state *state, struct task *task, struct error *err)
{
    int rc = job_params_read(state, task, err);

    if (rc != 0) {
        return rc;
    }
    task->layer = NEW(state, layer, Dray__Layer);
    if (task->layer == NULL) {
        return error_no_memory(err);
    }
    task->layer->tasks = task->count;
    task->layer->name = (char *)(uintptr_t)task->name;
    rc = read_op(state, task, err);
    rc = rc == 0 ? read_demands(state, task, err) : rc;
    if (rc == 0 && task->plugin != NULL) {
        rc = need_plugin(state, task, task->plugin, err);
    }
    return rc == 0 ? job_inputs_read(state, task, err) : rc;
}
