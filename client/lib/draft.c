#include "client/lib/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/draft_inputs.h"
#include "proto/arena.h"
#include "proto/graph.h"
#include "proto/op.h"

enum {
    TASKS_MAX = 65536, // of a layer that single tasks make
    ARGUMENT_BYTES_MAX = 4 << 20,
    VARINT_MAX = 10,
    REST_AT = 4,
};

// ---- bytes ------------------------------------------------------------------------------------------

int bytes_reserve(struct bytes *bytes, size_t more)
{
    size_t room = bytes->room == 0 ? 256 : bytes->room;
    uint8_t *grown;

    if (bytes->room - bytes->size >= more) {
        return 0;
    }
    while (room - bytes->size < more) {
        room *= 2;
    }
    grown = realloc(bytes->data, room);
    if (grown == NULL) {
        return -ENOMEM;
    }
    bytes->data = grown;
    bytes->room = room;
    return 0;
}

void bytes_fini(struct bytes *bytes)
{
    free(bytes->data);
    memset(bytes, 0, sizeof(*bytes));
}

static int bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    int rc = bytes_reserve(bytes, size);

    if (rc == 0 && size > 0) {
        memcpy(bytes->data + bytes->size, data, size);
        bytes->size += size;
    }
    return rc;
}

static size_t varint_size(uint64_t value)
{
    size_t size = 1;

    while (value >= 128) {
        value >>= 7;
        size++;
    }
    return size;
}

// Room for it is there.
static void put_varint(struct bytes *bytes, uint64_t value)
{
    while (value >= 128) {
        bytes->data[bytes->size++] = (uint8_t)(value | 128);
        value >>= 7;
    }
    bytes->data[bytes->size++] = (uint8_t)value;
}

static int append_message(struct bytes *bytes, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    int rc = bytes_reserve(bytes, size);

    if (rc == 0) {
        bytes->size += protobuf_c_message_pack(message, bytes->data + bytes->size);
    }
    return rc;
}

// ---- what makes tasks alike --------------------------------------------------------------------------

// Everything of a task but its argument and inputs, as bytes: made for the first, compared for the next ones.
struct walker {
    struct bytes *out;      // or
    const struct bytes *is; // compared from `at` on
    size_t at;
    bool differs;
    bool no_memory;
};

static void walk(struct walker *w, const void *data, size_t size)
{
    if (w->out != NULL) {
        w->no_memory = w->no_memory || bytes_append(w->out, data, size) != 0;
    } else if (w->differs || w->is->size - w->at < size || memcmp(w->is->data + w->at, data, size) != 0) {
        w->differs = true;
    } else {
        w->at += size;
    }
}

static void walk_text(struct walker *w, const char *text)
{
    uint8_t there = text != NULL;

    walk(w, &there, 1);
    if (text != NULL) {
        walk(w, text, strlen(text) + 1);
    }
}

static void walk_texts(struct walker *w, const char *const *text)
{
    for (; text != NULL && *text != NULL && !w->differs; text++) {
        walk_text(w, *text);
    }
    walk_text(w, NULL);
}

static bool is_positional(const struct dray_task *task)
{
    return task->kind == DRAY_TASK_COMMAND && (task->input_as_stdin || task->input_file != NULL);
}

static void walk_command(struct walker *w, const struct dray_task *task)
{
    uint64_t stdin_size = task->standard_input.size;

    walk_texts(w, task->argv);
    walk_text(w, task->shell);
    walk_texts(w, task->env);
    walk_text(w, task->directory);
    walk_text(w, task->output);
    walk(w, &stdin_size, sizeof(stdin_size));
    walk(w, task->standard_input.data, task->standard_input.size);
    for (size_t i = 0; task->input_file != NULL && i < task->inputs; i++) {
        walk_text(w, task->input_file[i]);
    }
}

static void walk_task(struct walker *w, const struct dray_task *task, bool listed)
{
    // Without padding, for memcmp.
    const struct {
        uint64_t nanoseconds, iterations, output_bytes, memory, resources, inputs;
        uint32_t kind, flags, priority, retries, retry_delay_ms, timeout_ms;
    } head = {
        .nanoseconds = task->nanoseconds,
        .iterations = task->iterations,
        .output_bytes = task->output_bytes,
        .memory = task->memory,
        .resources = task->resources,
        .inputs = is_positional(task) ? task->inputs : 0,
        .kind = (uint32_t)task->kind,
        .flags = (listed ? 1U : 0) | (task->clear_env ? 2U : 0) | (task->input_as_stdin ? 4U : 0) |
                 (task->input_file != NULL ? 8U : 0) | (task->standard_input.data != NULL ? 16U : 0) |
                 (task->speculate ? 32U : 0),
        .priority = (uint32_t)task->priority,
        .retries = task->retries,
        .retry_delay_ms = task->retry_delay_ms,
        .timeout_ms = task->timeout_ms,
    };

    walk(w, &head, sizeof(head));
    walk_text(w, task->name);
    if (task->kind == DRAY_TASK_CALL) {
        walk_text(w, task->plugin);
        walk_text(w, task->function);
    } else if (task->kind == DRAY_TASK_COMMAND) {
        walk_command(w, task);
    }
    for (size_t i = 0; i < task->resources; i++) {
        walk_text(w, task->resource[i].name);
        walk(w, &task->resource[i].amount, sizeof(task->resource[i].amount));
    }
    walk_texts(w, task->worker);
}

static bool has_argument(const struct dray_task *task)
{
    return task->kind == DRAY_TASK_DATA || task->argument.data != NULL;
}

bool draft_takes(const struct draft *draft, const struct dray_task *task)
{
    struct walker w = {.is = &draft->shape};

    if (draft->tasks >= TASKS_MAX || draft->argument.size >= ARGUMENT_BYTES_MAX) {
        return false;
    }
    walk_task(&w, task, has_argument(task));
    return !w.differs && w.at == draft->shape.size;
}

// ---- the operation -----------------------------------------------------------------------------------

static ProtobufCBinaryData binary(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data}; // only read
}

static ProtobufCBinaryData *binaries(const char *const *text, struct arena *arena, size_t *count)
{
    ProtobufCBinaryData *out;
    size_t n = 0;

    while (text != NULL && text[n] != NULL) {
        n++;
    }
    out = arena_array(arena, n + 1, sizeof(*out));
    for (size_t i = 0; out != NULL && i < n; i++) {
        out[i] = binary(text[i], strlen(text[i]));
    }
    *count = n;
    return out;
}

static int make_files(const struct dray_task *task, Dray__Command *command, struct arena *arena)
{
    command->file = arena_array(arena, task->inputs + 1, sizeof(*command->file));
    if (command->file == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; task->input_file != NULL && i < task->inputs; i++) {
        Dray__CommandFile *file;

        if (task->input_file[i] == NULL) {
            continue;
        }
        file = arena_alloc(arena, sizeof(*file));
        if (file == NULL) {
            return -ENOMEM;
        }
        dray__command_file__init(file);
        file->path = (char *)(uintptr_t)task->input_file[i];
        file->input = (uint32_t)i;
        command->file[command->n_file++] = file;
    }
    return 0;
}

static int make_command(const struct dray_task *task, Dray__Command *command, struct arena *arena)
{
    int rc = make_files(task, command, arena);

    if (task->shell != NULL) {
        const char *const text[] = {task->shell, NULL};

        command->argv = binaries(text, arena, &command->n_argv);
        command->has_shell = command->shell = true;
    } else {
        command->argv = binaries(task->argv, arena, &command->n_argv);
    }
    command->env = binaries(task->env, arena, &command->n_env);
    command->has_clear_env = command->clear_env = task->clear_env != 0;
    command->directory = (char *)(uintptr_t)task->directory;
    command->output = (char *)(uintptr_t)task->output;
    command->has_stdin = task->standard_input.data != NULL;
    command->stdin = binary(task->standard_input.data, task->standard_input.size);
    command->has_stdin_input = task->input_as_stdin != 0;
    command->has_memory = task->memory > 0;
    command->memory = task->memory;
    return rc != 0 || command->argv == NULL || command->env == NULL ? -ENOMEM : 0;
}

struct operation {
    Dray__Count count;
    Dray__Busy busy;
    Dray__Data data;
    Dray__Call call;
    Dray__Command command;
    ProtobufCBinaryData nothing; // a Data's value, for the check
};

// The step's message; checked by the worker's own rules.
static int make_operation(const struct dray_task *task, struct operation *o, struct arena *arena,
                          Dray__Step *step, const ProtobufCMessage **message)
{
    int rc = 0;

    dray__count__init(&o->count);
    dray__busy__init(&o->busy);
    dray__data__init(&o->data);
    dray__call__init(&o->call);
    dray__command__init(&o->command);
    switch (task->kind) {
    case DRAY_TASK_COUNT:
        step->count = &o->count;
        *message = &o->count.base;
        return 0;
    case DRAY_TASK_BUSY:
        o->busy.has_iterations = task->iterations > 0;
        o->busy.iterations = task->iterations;
        o->busy.has_nanoseconds = task->nanoseconds > 0;
        o->busy.nanoseconds = task->nanoseconds;
        o->busy.has_output_bytes = task->output_bytes > 0;
        o->busy.output_bytes = task->output_bytes > 0 ? task->output_bytes : o->busy.output_bytes;
        step->busy = &o->busy;
        *message = &o->busy.base;
        return 0;
    case DRAY_TASK_DATA:
        o->data.value = &o->nothing;
        o->data.n_value = 1;
        step->data = &o->data;
        *message = &o->data.base;
        return 0;
    case DRAY_TASK_CALL:
        o->call.plugin = (char *)(uintptr_t)(task->plugin != NULL ? task->plugin : "");
        o->call.function = (char *)(uintptr_t)(task->function != NULL ? task->function : "");
        step->call = &o->call;
        *message = &o->call.base;
        return 0;
    case DRAY_TASK_COMMAND:
        rc = make_command(task, &o->command, arena);
        step->command = &o->command;
        *message = &o->command.base;
        return rc;
    }
    return -EINVAL;
}

// A call needs a worker with its plugin, whichever else it asks for.
static int set_workers(const struct dray_task *task, Dray__Layer *layer, struct arena *arena)
{
    size_t count = 0;

    while (task->worker != NULL && task->worker[count] != NULL) {
        count++;
    }
    layer->worker = arena_array(arena, count + 1, sizeof(*layer->worker));
    if (layer->worker == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        layer->worker[layer->n_worker++] = (char *)(uintptr_t)task->worker[i]; // only read
    }
    if (task->kind == DRAY_TASK_CALL && task->plugin != NULL) {
        char *label = arena_printf(arena, "plugin:%s", task->plugin);

        if (label == NULL) {
            return -ENOMEM;
        }
        layer->worker[layer->n_worker++] = label;
    }
    return 0;
}

// What the layer asks for; without tasks, operation and inputs, which are written apart.
static int make_layer(const struct dray_task *task, Dray__Layer *layer, struct arena *arena)
{
    Dray__Resource *resource = arena_array(arena, task->resources + 1, sizeof(*resource));

    layer->resource = arena_array(arena, task->resources + 1, sizeof(*layer->resource));
    if (resource == NULL || layer->resource == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < task->resources; i++) {
        dray__resource__init(&resource[i]);
        resource[i].name = (char *)(uintptr_t)task->resource[i].name;
        resource[i].amount = task->resource[i].amount;
        layer->resource[layer->n_resource++] = &resource[i];
    }
    if (set_workers(task, layer, arena) < 0) {
        return -ENOMEM;
    }
    layer->name = (char *)(uintptr_t)task->name;
    layer->has_wanted = layer->wanted = true;
    layer->has_priority = task->priority != 0;
    layer->priority = task->priority;
    layer->has_retries = task->retries > 0;
    layer->retries = task->retries;
    layer->has_retry_delay_ms = task->retry_delay_ms > 0;
    layer->retry_delay_ms = task->retry_delay_ms;
    layer->has_timeout_ms = task->timeout_ms > 0;
    layer->timeout_ms = task->timeout_ms;
    layer->speculate = task->speculate || (task->kind != DRAY_TASK_CALL && task->kind != DRAY_TASK_COMMAND);
    layer->has_speculate = layer->speculate;
    return 0;
}

static int refuse(int rc, struct error *err)
{
    if (rc == -EBADMSG) {
        if (err != NULL) {
            err->code = EINVAL;
        }
        error_prefix(err, "a task that cannot be: ");
        return -EINVAL;
    }
    return rc;
}

static int check(const Dray__Op *op, Dray__Layer *layer, struct error *err)
{
    Dray__Graph graph = DRAY__GRAPH__INIT;
    uint8_t some[] = {0};
    int rc = op_check(op, err);

    if (rc == 0) {
        layer->tasks = 1;
        layer->op = binary(some, sizeof(some));
        graph.n_layer = 1;
        graph.layer = &layer;
        rc = graph_check(&graph, err);
        layer->tasks = 0;
        layer->op = binary(NULL, 0);
    }
    return refuse(rc, err);
}

int draft_begin(struct draft *draft, uint32_t number, const struct dray_task *task, bool listed,
                struct error *err)
{
    struct walker w = {.out = &draft->shape};
    const ProtobufCMessage *message = NULL;
    Dray__Layer layer = DRAY__LAYER__INIT;
    Dray__Step step = DRAY__STEP__INIT;
    Dray__Step *steps[] = {&step};
    Dray__Op op = DRAY__OP__INIT;
    struct operation operation = {0};
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    op.n_step = 1;
    op.step = steps;
    rc = make_operation(task, &operation, &arena, &step, &message);
    if (rc == -EINVAL) {
        error_set(err, EINVAL, "there is no kind %d of tasks", (int)task->kind);
        goto out;
    }
    if (rc == 0) {
        rc = make_layer(task, &layer, &arena);
    }
    if (rc == 0) {
        rc = check(&op, &layer, err);
        if (rc != 0) {
            goto out;
        }
    }
    draft->shape.size = draft->op.size = draft->rest.size = draft->argument.size = 0;
    walk_task(&w, task, listed);
    operation.data.n_value = 0;
    if (rc == 0 && !w.no_memory) {
        rc = append_message(&draft->op, message);
    }
    if (rc == 0) {
        rc = append_message(&draft->rest, &layer.base);
    }
    if (rc == 0) { // without its first two fields, tasks and op, empty so far
        draft->rest.size -= REST_AT;
        memmove(draft->rest.data, draft->rest.data + REST_AT, draft->rest.size);
    }
    if (rc != 0 || w.no_memory) {
        rc = error_no_memory(err);
        goto out;
    }
    draft->layer = number;
    draft->tasks = 0;
    draft->listed = listed;
    draft->positional = is_positional(task);
    draft->kind = task->kind;
    draft->slots = 0;
    draft->edges = 0;
out:
    arena_fini(&arena);
    return rc;
}

void draft_init(struct draft *draft)
{
    memset(draft, 0, sizeof(*draft));
}

void draft_fini(struct draft *draft)
{
    for (size_t i = 0; i < draft->slots_room; i++) {
        free(draft->slot[i].offset);
        free(draft->slot[i].target);
    }
    free(draft->slot);
    bytes_fini(&draft->shape);
    bytes_fini(&draft->op);
    bytes_fini(&draft->rest);
    bytes_fini(&draft->argument);
}

// ---- arguments ---------------------------------------------------------------------------------------

int draft_argument(struct draft *draft, const struct dray_bytes *argument, struct error *err)
{
    // Call.argument, Command.param, Data.value: length-delimited.
    uint64_t number = draft->kind == DRAY_TASK_CALL ? 3 : draft->kind == DRAY_TASK_COMMAND ? 10 : 1;

    if (bytes_reserve(&draft->argument, 2 * VARINT_MAX + argument->size) != 0) {
        return error_no_memory(err);
    }
    put_varint(&draft->argument, number << 3 | 2);
    put_varint(&draft->argument, argument->size);
    if (argument->size > 0) {
        memcpy(draft->argument.data + draft->argument.size, argument->data, argument->size);
        draft->argument.size += argument->size;
    }
    return 0;
}

// ---- the layer as a message ------------------------------------------------------------------------------

static int field(enum dray_task_kind kind)
{
    switch (kind) {
    case DRAY_TASK_COUNT:
        return 10;
    case DRAY_TASK_BUSY:
        return 11;
    case DRAY_TASK_DATA:
        return 12;
    case DRAY_TASK_CALL:
        return 13;
    case DRAY_TASK_COMMAND:
    default:
        return 14;
    }
}

size_t draft_size(const struct draft *draft)
{
    return draft->op.size + draft->rest.size + draft->argument.size + draft->edges * sizeof(uint32_t) +
           draft->slots * 64 + 128;
}

static size_t inputs_size(const Dray__Input *input, size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++) {
        size_t one = dray__input__get_packed_size(&input[i]);

        size += 1 + varint_size(one) + one;
    }
    return size;
}

static void put_field(struct bytes *to, int number, uint64_t size)
{
    put_varint(to, (uint64_t)number << 3 | 2);
    put_varint(to, size);
}

static void put_bytes(struct bytes *to, const struct bytes *from)
{
    if (from->size > 0) {
        memcpy(to->data + to->size, from->data, from->size);
        to->size += from->size;
    }
}

int draft_close(struct draft *draft, struct bytes *graph, struct error *err)
{
    Dray__Input *input = malloc((draft->slots + 1) * sizeof(*input));
    uint32_t *lists = malloc(draft_lists_room(draft) * sizeof(*lists));
    int rc = input != NULL && lists != NULL ? draft_make_inputs(draft, input, lists) : -ENOMEM;

    // Graph.layer { tasks op { step { command { ... } } } rest input* }
    size_t inner = draft->op.size + draft->argument.size;
    size_t step = 1 + varint_size(inner) + inner;
    size_t op = 1 + varint_size(step) + step;
    size_t layer = 1 + varint_size(draft->tasks) + 1 + varint_size(op) + op + draft->rest.size +
                   (rc == 0 ? inputs_size(input, draft->slots) : 0);

    if (rc == 0) {
        rc = bytes_reserve(graph, layer + 2 * VARINT_MAX);
    }
    if (rc == 0) {
        put_field(graph, 1, layer);
        put_varint(graph, 1 << 3);
        put_varint(graph, draft->tasks);
        put_field(graph, 2, op);
        put_field(graph, 1, step);
        put_field(graph, field(draft->kind), inner);
        put_bytes(graph, &draft->op);
        put_bytes(graph, &draft->argument);
        put_bytes(graph, &draft->rest);
        for (size_t i = 0; i < draft->slots; i++) {
            put_field(graph, 4, dray__input__get_packed_size(&input[i]));
            graph->size += dray__input__pack(&input[i], graph->data + graph->size);
        }
    }
    free(input);
    free(lists);
    return rc == 0 ? 0 : error_no_memory(err);
}
