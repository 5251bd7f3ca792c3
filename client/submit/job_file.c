#include "client/submit/job_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/lang/spell.h"
#include "client/submit/job_state.h"
#include "proto/graph.h"
#include "proto/op.h"

enum { JOB_NAME, JOB_PRIORITY, JOB_ALLOW_FAILURES, JOB_DEFAULTS, JOB_TASKS, JOB_FIELDS };
static const struct key JOB_KEYS[] = {{"name", JOB_NAME},
                                      {"priority", JOB_PRIORITY},
                                      {"allow_failures", JOB_ALLOW_FAILURES},
                                      {"defaults", JOB_DEFAULTS},
                                      {"tasks", JOB_TASKS}};

enum { MARK_NEW, MARK_OPEN, MARK_DONE };

// ---- names --------------------------------------------------------------------------------------

static int check_name(const struct job_state *state, const struct node *node, struct error *err)
{
    bool bad = node->count == 0 || node->count > JOB_NAME_MAX || node->text[0] == '.' || node->text[0] == '-';

    for (uint32_t i = 0; i < node->count && !bad; i++) {
        unsigned char c = (unsigned char)node->text[i];

        bad = c <= ' ' || c == 0x7f || strchr("/{}\"'\\", c) != NULL;
    }
    return !bad ? 0
                : STATE_ERROR(state, node, err,
                              "'%.60s' cannot be the name of a task: up to %d characters without spaces, / { "
                              "} \" ' \\, and no . or "
                              "- in front",
                              node->text, JOB_NAME_MAX);
}

// qsort has no context of its own kind for a search, so both compare through this.
static int compare_names(const void *a, const void *b, void *context)
{
    const struct job_state *state = context;

    return strcmp(state->task[*(const uint32_t *)a].name, state->task[*(const uint32_t *)b].name);
}

struct task *job_find_task(const struct job_state *state, const char *name)
{
    uint32_t low = 0, high = state->tasks;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(state->task[state->by_name[middle]].name, name);

        if (order == 0) {
            return &state->task[state->by_name[middle]];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static int sort_names(struct job_state *state, struct error *err)
{
    state->by_name = arena_array(state->arena, (size_t)state->tasks + 1, sizeof(*state->by_name));
    if (state->by_name == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < state->tasks; i++) {
        state->by_name[i] = i;
    }
    qsort_r(state->by_name, state->tasks, sizeof(*state->by_name), compare_names, state);
    for (uint32_t i = 1; i < state->tasks; i++) {
        const struct task *one = &state->task[state->by_name[i - 1]],
                          *other = &state->task[state->by_name[i]];

        if (strcmp(one->name, other->name) == 0) {
            return STATE_ERROR(state, one < other ? other->at : one->at, err,
                               "a second task with the name '%s'", one->name);
        }
    }
    return 0;
}

// ---- tasks --------------------------------------------------------------------------------------

static void apply_defaults(const struct job_state *state, struct task *task)
{
    for (int i = 0; i < FIELDS; i++) {
        if (i == FIELD_ENV) {
            task->default_env = state->defaults[i];
        } else if (task->field[i] == NULL) {
            task->field[i] = state->defaults[i];
        }
    }
}

// tasks: {NAME: {...}}, or a list of maps that have a `name`.
static int begin_task(const struct job_state *state, const struct node *tasks, uint32_t i, struct task *task,
                      struct error *err)
{
    int rc;

    task->body = tasks->kind == NODE_MAP ? map_value(tasks, i) : tasks->item[i];
    task->at = tasks->kind == NODE_MAP ? map_key(tasks, i) : task->body;
    rc = schema_task(state, task->body, task->field, err);
    if (rc != 0) {
        return rc;
    }
    if (tasks->kind == NODE_MAP && task->field[FIELD_NAME] != NULL) {
        return STATE_ERROR(state, task->field[FIELD_NAME], err,
                           "the task '%.60s' has a name already, as its key", task->at->text);
    }
    if (tasks->kind == NODE_LIST) {
        if (task->field[FIELD_NAME] == NULL) {
            return STATE_ERROR(state, task->body, err, "a task without a 'name'");
        }
        rc = read_text(state, task->field[FIELD_NAME], "name", &task->name, err);
        task->at = task->field[FIELD_NAME];
    }
    rc = rc == 0 ? check_name(state, task->at, err) : rc;
    task->name = task->at->text;
    apply_defaults(state, task);
    return rc;
}

// "a.1" beside an array "a": whose would the result be?
static int check_element(const struct job_state *state, const struct task *task, struct error *err)
{
    const char *dot = strrchr(task->name, '.');
    const struct task *array;
    char *name;

    if (dot == NULL || dot[1] == '\0' || dot[1 + strspn(dot + 1, "-0123456789")] != '\0') {
        return 0;
    }
    name = arena_printf(state->arena, "%.*s", (int)(dot - task->name), task->name);
    if (name == NULL) {
        return error_no_memory(err);
    }
    array = job_find_task(state, name);
    return array == NULL || !array->is_array
               ? 0
               : STATE_ERROR(state, task->at, err,
                             "the task '%.60s' could be taken for an element of '%.60s'", task->name, name);
}

static int read_tasks(struct job_state *state, const struct node *node, struct error *err)
{
    int rc = 0;

    if (node->kind == NODE_SCALAR || node->count == 0) {
        return STATE_ERROR(state, node, err,
                           "'tasks' is a map of names and tasks, or a list of tasks with names");
    }
    if (node->count > GRAPH_LAYERS_MAX) {
        return STATE_ERROR(state, node, err,
                           "%u tasks, more than %u: tasks that are alike make one with an array or params",
                           node->count, GRAPH_LAYERS_MAX);
    }
    state->task = arena_zalloc(state->arena, node->count * sizeof(*state->task));
    if (state->task == NULL) {
        return error_no_memory(err);
    }
    state->tasks = node->count;
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = begin_task(state, node, i, &state->task[i], err);
    }
    rc = rc == 0 ? sort_names(state, err) : rc;
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = job_task_read(state, &state->task[i], err);
    }
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = check_element(state, &state->task[i], err);
    }
    for (uint32_t i = 0; i < node->count && rc == 0; i++) {
        rc = job_inputs_resolve(state, &state->task[i], err);
    }
    return rc;
}

// ---- order ---------------------------------------------------------------------------------------

struct visit {
    uint32_t task;
    uint32_t next; // of its needs
};

// visit[from ..] and back to its first: "a -> b -> a".
static int report_cycle(const struct job_state *state, const struct visit *visit, uint32_t depth,
                        uint32_t target, struct error *err)
{
    enum { SHOWN_MAX = 10 };
    const struct need *last = &state->task[visit[depth].task].need[visit[depth].next - 1];
    const char *path = state->task[target].name;
    uint32_t from = depth;

    while (visit[from].task != target) {
        from--;
    }
    for (uint32_t i = from; i <= depth && path != NULL; i++) {
        const struct task *task = &state->task[visit[i].task];
        const char *next = state->task[task->need[visit[i].next - 1].target].name;

        if (i - from >= SHOWN_MAX && i < depth) {
            path = i - from == SHOWN_MAX ? arena_printf(state->arena, "%s -> ...", path) : path;
        } else {
            path = arena_printf(state->arena, "%s -> %s", path, next);
        }
    }
    if (path == NULL) {
        return error_no_memory(err);
    }
    return STATE_ERROR(state, last->at, err, "tasks wait for one another in a circle: %s (\"->\": needs)",
                       path);
}

static int visit_from(struct job_state *state, uint32_t root, struct visit *visit, struct task **order,
                      uint32_t *ordered, struct error *err)
{
    uint32_t depth = 0;

    visit[0] = (struct visit){.task = root};
    state->task[root].mark = MARK_OPEN;
    for (;;) {
        struct task *task = &state->task[visit[depth].task];
        uint32_t target;

        if (visit[depth].next == task->needs) {
            task->mark = MARK_DONE;
            task->number = *ordered;
            order[(*ordered)++] = task;
            if (depth-- == 0) {
                return 0;
            }
            continue;
        }
        target = task->need[visit[depth].next++].target;
        if (&state->task[target] == task || state->task[target].mark == MARK_DONE) {
            continue;
        }
        if (state->task[target].mark == MARK_OPEN) {
            return report_cycle(state, visit, depth, target, err);
        }
        state->task[target].mark = MARK_OPEN;
        visit[++depth] = (struct visit){.task = target};
    }
}

// What a task needs comes before it; otherwise as in the file.
static int sort_tasks(struct job_state *state, struct task **order, struct error *err)
{
    struct visit *visit = malloc((size_t)state->tasks * sizeof(*visit));
    uint32_t ordered = 0;
    int rc = visit == NULL ? error_no_memory(err) : 0;

    for (uint32_t i = 0; i < state->tasks && rc == 0; i++) {
        if (state->task[i].mark == MARK_NEW) {
            rc = visit_from(state, i, visit, order, &ordered, err);
        }
    }
    free(visit);
    return rc;
}

// ---- the graph -----------------------------------------------------------------------------------

static int finish_layer(struct job_state *state, struct task *task, struct error *err)
{
    struct error why = {0};
    int rc = job_inputs_edges(state, task, err);

    if (rc != 0) {
        return rc;
    }
    if (!task->layer->has_wanted && !task->used) {
        task->layer->has_wanted = task->layer->wanted = true;
    }
    // What the broker and the workers would refuse shall be said with a place in the file.
    if (op_check(task->op, &why) != 0 || op_check_tasks(task->op, task->count, &why) != 0) {
        return STATE_ERROR(state, task->at, err, "task '%s': %s", task->name, why.text);
    }
    task->layer->op.len = dray__op__get_packed_size(task->op);
    task->layer->op.data = arena_alloc(state->arena, task->layer->op.len + 1);
    if (task->layer->op.data == NULL) {
        return error_no_memory(err);
    }
    dray__op__pack(task->op, task->layer->op.data);
    return 0;
}

static int check_sizes(const struct job_state *state, const Dray__Graph *graph, struct error *err)
{
    struct error why = {0};
    uint64_t tasks = 0;
    size_t bytes = 0;

    for (uint32_t i = 0; i < state->tasks; i++) {
        tasks += state->task[i].count;
        if (tasks > GRAPH_TASKS_MAX) {
            return STATE_ERROR(state, state->task[i].at, err, "with task '%s' there are more than %u tasks",
                               state->task[i].name, GRAPH_TASKS_MAX);
        }
        bytes += dray__layer__get_packed_size(state->task[i].layer) + 8;
        if (bytes > JOB_GRAPH_BYTES_MAX) {
            return STATE_ERROR(state, state->task[i].at, err,
                               "with task '%s' the job is larger than %zu MB: use ranges and patterns "
                               "instead of lists, or part "
                               "it into several jobs",
                               state->task[i].name, JOB_GRAPH_BYTES_MAX >> 20);
        }
    }
    if (graph_check(graph, &why) != 0) {
        return STATE_ERROR(state, state->document.root, err, "%s", why.text);
    }
    return 0;
}

static int make_graph(struct job_state *state, struct error *err)
{
    Dray__Graph *graph = arena_zalloc(state->arena, sizeof(*graph));
    struct task **order = arena_array(state->arena, state->tasks, sizeof(struct task *));
    struct job_file *job = state->job;
    int rc = 0;

    job->task = arena_zalloc(state->arena, state->tasks * sizeof(*job->task));
    if (graph == NULL || order == NULL || job->task == NULL) {
        return error_no_memory(err);
    }
    dray__graph__init(graph);
    graph->layer = arena_array(state->arena, state->tasks, sizeof(*graph->layer));
    if (graph->layer == NULL) {
        return error_no_memory(err);
    }
    rc = sort_tasks(state, order, err);
    for (uint32_t i = 0; i < state->tasks && rc == 0; i++) {
        rc = finish_layer(state, order[i], err);
        graph->layer[i] = order[i]->layer;
        job->task[i] = (struct job_file_task){.name = order[i]->name,
                                              .is_array = order[i]->is_array,
                                              .indices = order[i]->indices,
                                              .wanted = order[i]->layer->wanted};
    }
    graph->n_layer = state->tasks;
    job->tasks = state->tasks;
    job->graph = graph;
    return rc == 0 ? check_sizes(state, graph, err) : rc;
}

// ---- the job ---------------------------------------------------------------------------------------

static int read_failures(const struct job_state *state, const struct node *node, uint32_t *out,
                         struct error *err)
{
    int64_t number;
    int rc;

    if (node->kind == NODE_SCALAR && strcmp(node->text, "all") == 0) {
        *out = UINT32_MAX;
        return 0;
    }
    rc = read_integer(state, node, "allow_failures", 0, GRAPH_TASKS_MAX, &number, NULL);
    if (rc != 0) {
        return STATE_ERROR(state, node, err, "'allow_failures' is a number of tasks, or 'all'");
    }
    *out = (uint32_t)number;
    return 0;
}

static int read_job(struct job_state *state, struct error *err)
{
    const struct node *field[JOB_FIELDS] = {NULL};
    struct job_file *job = state->job;
    int64_t number = 0;
    int rc = schema_read(state, state->document.root, "a job", JOB_KEYS, JOB_FIELDS, field, err);

    if (rc == 0 && field[JOB_NAME] != NULL) {
        rc = read_text(state, field[JOB_NAME], "name", &job->name, err);
        if (rc == 0 && (field[JOB_NAME]->count == 0 || field[JOB_NAME]->count > JOB_NAME_MAX)) {
            rc =
                STATE_ERROR(state, field[JOB_NAME], err, "a job's name has from 1 to %d bytes", JOB_NAME_MAX);
        }
    }
    if (rc == 0 && field[JOB_PRIORITY] != NULL) {
        rc = read_integer(state, field[JOB_PRIORITY], "priority", INT32_MIN, INT32_MAX, &number, err);
        job->priority = (int32_t)number;
    }
    if (rc == 0 && field[JOB_ALLOW_FAILURES] != NULL) {
        rc = read_failures(state, field[JOB_ALLOW_FAILURES], &job->failures_max, err);
    }
    if (rc == 0 && field[JOB_DEFAULTS] != NULL) {
        rc = schema_defaults(state, field[JOB_DEFAULTS], state->defaults, err);
    }
    if (rc == 0 && field[JOB_TASKS] == NULL) {
        rc = STATE_ERROR(state, state->document.root, err, "a job has 'tasks'");
    }
    return rc == 0 ? read_tasks(state, field[JOB_TASKS], err) : rc;
}

int job_file_read(const char *name, const char *text, size_t size, enum document_format format,
                  const struct job_file_host *host, struct arena *arena, struct job_file *out,
                  struct error *err)
{
    struct job_file job = {0};
    struct job_state state = {.host = host, .arena = arena, .job = &job};
    int rc = document_read(name, text, size, format, arena, &state.document, err);

    rc = rc == 0 ? read_job(&state, err) : rc;
    rc = rc == 0 ? make_graph(&state, err) : rc;
    if (rc == 0) {
        *out = job;
    }
    return rc;
}
