#include "proto/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/schema.h"

enum { NAME_MAX_BYTES = 4096 };

// ---- one input -----------------------------------------------------------------------

// Tasks that FAN_IN makes of `n` partitions.
static uint64_t fan_in_tasks(uint64_t n, uint64_t width)
{
    return (n + width - 1) / width;
}

// ---- rows of explicit edges ------------------------------------------------------------

// Rows that have offsets.
static uint32_t listed_rows(const Dray__Input *input)
{
    return input->n_offset > 0 ? (uint32_t)(input->n_offset - 1) : 0;
}

// Where the row of a task begins; of the task after the last one: where it ends.
static inline uint64_t row_at(const Dray__Input *input, uint32_t task)
{
    uint32_t listed = listed_rows(input);

    if (task <= listed && input->n_offset > 0) {
        return input->offset[task];
    }
    return (input->n_offset > 0 ? input->offset[listed] : 0) + (uint64_t)(task - listed) * input->width;
}

// Rows but for those at the end that are empty by their width: as many as a message has bytes for.
static uint32_t rows_end(const Dray__Input *input, uint32_t tasks)
{
    uint32_t rows = input_rows(input, tasks);
    uint32_t listed = listed_rows(input);

    return input->width == 0 && listed < rows ? listed : rows;
}

void input_trim_rows(Dray__Input *input)
{
    uint32_t rows = listed_rows(input);
    uint32_t width = rows > 0 ? input->offset[rows] - input->offset[rows - 1] : 0;

    if (input->pattern != DRAY__PATTERN__EXPLICIT || rows == 0 || input->has_width) {
        return;
    }
    while (rows > 0 && input->offset[rows] - input->offset[rows - 1] == width) {
        rows--;
    }
    input->n_offset = rows > 0 ? (size_t)rows + 1 : 0;
    input->has_width = 1;
    input->width = width;
}

void input_list_rows(Dray__Input *input, uint32_t tasks, uint32_t *room)
{
    uint32_t rows = 0;

    if (input->pattern != DRAY__PATTERN__EXPLICIT || input->n_task > 0 ||
        input->n_offset != (size_t)tasks + 1) {
        return;
    }
    for (uint32_t i = 0; i < tasks; i++) {
        rows += input->offset[i + 1] > input->offset[i] ? 1 : 0;
    }
    if (rows == 0 || rows > tasks / 2) {
        return;
    }
    uint32_t *offset = room + rows;

    offset[0] = 0;
    rows = 0;
    for (uint32_t i = 0; i < tasks; i++) {
        if (input->offset[i + 1] > input->offset[i]) {
            room[rows++] = i;
            offset[rows] = input->offset[i + 1];
        }
    }
    input->task = room;
    input->n_task = rows;
    input->offset = offset;
    input->n_offset = (size_t)rows + 1;
}

struct span input_row(const Dray__Input *input, uint32_t row)
{
    uint64_t at = row_at(input, row);

    return (struct span){.list = input->target + at, .count = (uint32_t)(row_at(input, row + 1) - at)};
}

// The row of a task, or UINT32_MAX.
static uint32_t find_row(const Dray__Input *input, uint32_t task)
{
    size_t low = 0;
    size_t high = input->n_task;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (input->task[middle] < task) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < input->n_task && input->task[low] == task ? (uint32_t)low : UINT32_MAX;
}

static int check_rows(const Dray__Input *input, uint32_t tasks, struct error *err)
{
    uint32_t rows = input_rows(input, tasks);
    uint32_t listed = listed_rows(input);

    for (size_t r = 0; r < input->n_task; r++) {
        if (input->task[r] >= tasks || (r > 0 && input->task[r] <= input->task[r - 1])) {
            return error_set(err, EBADMSG,
                             "the tasks with explicit edges do not ascend below %u at place %zu", tasks, r);
        }
    }
    if (input->n_offset > (size_t)rows + 1 || (input->n_offset < (size_t)rows + 1 && !input->has_width)) {
        return error_set(err, EBADMSG,
                         "explicit edges for %u tasks need %zu offsets, or fewer and a width, there are %zu",
                         rows, (size_t)rows + 1, input->n_offset);
    }
    if (input->n_offset > 0 && input->offset[0] != 0) {
        return error_set(err, EBADMSG, "offsets begin at %u", input->offset[0]);
    }
    for (uint32_t r = 0; r < listed; r++) {
        if (input->offset[r] > input->offset[r + 1]) {
            return error_set(err, EBADMSG, "offsets descend at task %u", input_row_task(input, r));
        }
    }
    if (row_at(input, rows) != input->n_target || input->n_target > UINT32_MAX) {
        return error_set(err, EBADMSG, "rows go to %llu with %zu targets",
                         (unsigned long long)row_at(input, rows), input->n_target);
    }
    return 0;
}

static int check_explicit(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks, struct error *err)
{
    int rc = input->n_task <= tasks
                 ? check_rows(input, tasks, err)
                 : error_set(err, EBADMSG, "explicit edges for %zu of %u tasks", input->n_task, tasks);

    for (size_t i = 0; rc == 0 && i < input->n_target; i++) {
        if (input->target[i] >= source_tasks) {
            uint32_t row = 0;

            while (row_at(input, row + 1) <= i) {
                row++;
            }
            return error_set(err, EBADMSG, "task %u needs partition %u of a layer of %u tasks",
                             input_row_task(input, row), input->target[i], source_tasks);
        }
    }
    return rc;
}

int input_check(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks, struct error *err)
{
    if (tasks < 1 || tasks > GRAPH_TASKS_MAX || source_tasks < 1 || source_tasks > GRAPH_TASKS_MAX) {
        return error_set(err, EBADMSG, "layers of %u and %u tasks cannot be joined", tasks, source_tasks);
    }
    if (input->pattern != DRAY__PATTERN__EXPLICIT &&
        (input->n_offset > 0 || input->n_target > 0 || input->n_task > 0)) {
        return error_set(err, EBADMSG, "explicit edges are given with a pattern that computes them");
    }
    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        if (tasks != source_tasks) {
            return error_set(err, EBADMSG, "one-to-one from %u to %u tasks", source_tasks, tasks);
        }
        return 0;
    case DRAY__PATTERN__FAN_IN:
        if (input->width < 2 || tasks != fan_in_tasks(source_tasks, input->width)) {
            return error_set(err, EBADMSG, "fan-in of width %u from %u to %u tasks", input->width,
                             source_tasks, tasks);
        }
        return 0;
    case DRAY__PATTERN__ALL:
        return 0;
    case DRAY__PATTERN__BROADCAST:
        if (source_tasks != 1) {
            return error_set(err, EBADMSG, "broadcast of a layer of %u tasks, not of one", source_tasks);
        }
        return 0;
    case DRAY__PATTERN__WINDOW:
        if (input->width < 1 || tasks != source_tasks) {
            return error_set(err, EBADMSG, "window of width %u from %u to %u tasks", input->width,
                             source_tasks, tasks);
        }
        return 0;
    case DRAY__PATTERN__EXPLICIT:
        return check_explicit(input, tasks, source_tasks, err);
    case DRAY__PATTERN__LAG:
        if (input->width < 1 || tasks != source_tasks) {
            return error_set(err, EBADMSG, "lag of width %u from %u to %u tasks", input->width, source_tasks,
                             tasks);
        }
        return 0;
    case _DRAY__PATTERN_IS_INT_SIZE:
        break;
    }
    return error_set(err, EBADMSG, "unknown pattern %d", (int)input->pattern);
}

int input_check_own(const Dray__Input *input, uint32_t tasks, struct error *err)
{
    if (input->pattern == DRAY__PATTERN__LAG) {
        return 0;
    }
    if (input->pattern != DRAY__PATTERN__EXPLICIT) {
        return error_set(err, EBADMSG,
                         "it reads its own layer by a pattern that is not LAG or EXPLICIT: a cycle");
    }
    for (uint32_t r = 0; r < rows_end(input, tasks); r++) {
        struct span row = input_row(input, r);
        uint32_t i = input_row_task(input, r);

        for (uint32_t n = 0; n < row.count; n++) {
            if (row.list[n] >= i) {
                return error_set(
                    err, EBADMSG,
                    "task %u needs partition %u of its own layer, which does not come before it: "
                    "a cycle, or tasks out of order",
                    i, row.list[n]);
            }
        }
    }
    return 0;
}

static struct span cut(uint64_t first, uint64_t end, uint64_t limit)
{
    end = end < limit ? end : limit;
    return (struct span){.first = (uint32_t)first, .count = (uint32_t)(end - first)};
}

struct span input_needs(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks, uint32_t task)
{
    uint64_t i = task;
    uint64_t width = input->width;

    (void)tasks;
    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        return cut(i, i + 1, source_tasks);
    case DRAY__PATTERN__FAN_IN:
        return cut(i * width, (i + 1) * width, source_tasks);
    case DRAY__PATTERN__ALL:
        return cut(0, source_tasks, source_tasks);
    case DRAY__PATTERN__BROADCAST:
        return cut(0, 1, source_tasks);
    case DRAY__PATTERN__WINDOW:
        return cut(i > width ? i - width : 0, i + width + 1, source_tasks);
    case DRAY__PATTERN__EXPLICIT:
        if (input->n_task > 0) {
            task = find_row(input, task);
        }
        return task != UINT32_MAX ? input_row(input, task) : (struct span){0};
    case DRAY__PATTERN__LAG:
        return i < width ? (struct span){0} : cut(i - width, i - width + 1, source_tasks);
    case _DRAY__PATTERN_IS_INT_SIZE:
        break;
    }
    return (struct span){0};
}

// ---- reverse edges ---------------------------------------------------------------------

struct edge_index {
    uint32_t *task;    // by partition, ascending within each
    uint32_t most;     // of one partition
    uint32_t offset[]; // of each partition's tasks, and the end
};

struct edge_index *edge_index_create(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks)
{
    struct edge_index *index = calloc(1, sizeof(*index) + ((size_t)source_tasks + 2) * sizeof(uint32_t));

    if (index == NULL) {
        return NULL;
    }
    index->task = malloc((input->n_target > 0 ? input->n_target : 1) * sizeof(uint32_t));
    if (index->task == NULL) {
        free(index);
        return NULL;
    }
    // Counted two places up, so that filling moves each start to where it belongs.
    for (size_t i = 0; i < input->n_target; i++) {
        index->offset[input->target[i] + 2]++;
    }
    for (size_t p = 2; p < (size_t)source_tasks + 2; p++) {
        index->most = index->offset[p] > index->most ? index->offset[p] : index->most;
        index->offset[p] += index->offset[p - 1];
    }
    for (uint32_t r = 0; r < rows_end(input, tasks); r++) {
        uint64_t end = row_at(input, r + 1);

        for (uint64_t i = row_at(input, r); i < end; i++) {
            index->task[index->offset[input->target[i] + 1]++] = input_row_task(input, r);
        }
    }
    return index;
}

uint32_t edge_index_most(const struct edge_index *index)
{
    return index->most;
}

void edge_index_destroy(struct edge_index *index)
{
    if (index != NULL) {
        free(index->task);
        free(index);
    }
}

struct span input_dependents(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks,
                             const struct edge_index *reverse, uint32_t partition)
{
    uint64_t p = partition;
    uint64_t width = input->width;

    (void)source_tasks;
    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        return cut(p, p + 1, tasks);
    case DRAY__PATTERN__FAN_IN:
        return cut(p / width, p / width + 1, tasks);
    case DRAY__PATTERN__ALL:
    case DRAY__PATTERN__BROADCAST:
        return cut(0, tasks, tasks);
    case DRAY__PATTERN__WINDOW:
        return cut(p > width ? p - width : 0, p + width + 1, tasks);
    case DRAY__PATTERN__EXPLICIT:
        return (struct span){.list = reverse->task + reverse->offset[partition],
                             .count = reverse->offset[partition + 1] - reverse->offset[partition]};
    case DRAY__PATTERN__LAG:
        return p + width < tasks ? cut(p + width, p + width + 1, tasks) : (struct span){0};
    case _DRAY__PATTERN_IS_INT_SIZE:
        break;
    }
    return (struct span){0};
}

// ---- the whole graph -------------------------------------------------------------------

// An upper bound of the partitions that one task needs.
static uint64_t needs_max(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks)
{
    uint64_t most = 0;
    uint64_t window = 2 * (uint64_t)input->width + 1;

    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
    case DRAY__PATTERN__BROADCAST:
    case DRAY__PATTERN__LAG:
        return 1;
    case DRAY__PATTERN__FAN_IN:
        return input->width < source_tasks ? input->width : source_tasks;
    case DRAY__PATTERN__ALL:
        return source_tasks;
    case DRAY__PATTERN__WINDOW:
        return window < source_tasks ? window : source_tasks;
    case DRAY__PATTERN__EXPLICIT:
        most = listed_rows(input) < input_rows(input, tasks) ? input->width : 0;
        for (uint32_t i = 0; i < listed_rows(input); i++) {
            uint64_t n = row_at(input, i + 1) - row_at(input, i);

            most = n > most ? n : most;
        }
        return most;
    case _DRAY__PATTERN_IS_INT_SIZE:
        break;
    }
    return most;
}

// Below 2^62 for every pattern.
static uint64_t edges_max(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks)
{
    switch (input->pattern) {
    case DRAY__PATTERN__FAN_IN:
        return source_tasks;
    case DRAY__PATTERN__EXPLICIT:
        return input->n_target;
    default:
        return tasks * needs_max(input, tasks, source_tasks);
    }
}

// Layers that the graph's own ones are numbered on from.
struct before {
    uint32_t count;
    const uint32_t *tasks;
};

// Tasks of the layer that an input names; *own: that is the layer itself.
static int source_of_input(const Dray__Graph *graph, size_t at, const struct before *before,
                           const Dray__Input *input, uint32_t *tasks, bool *own, struct error *err)
{
    uint64_t number = before->count + (uint64_t)at;

    *own = false;
    if (input->has_job) {
        if (input->pattern == DRAY__PATTERN__LAG || input->job == 0) {
            return error_set(err, EBADMSG, "it reads job %u by a pattern that is for its own layer",
                             input->job);
        }
        *tasks = input->job_tasks;
        return 0;
    }
    if (input->layer > number) {
        return error_set(err, EBADMSG,
                         "it is layer %u, which does not come before layer %llu: a cycle, or out of order",
                         input->layer, (unsigned long long)number);
    }
    if (input->layer < number && input->pattern == DRAY__PATTERN__LAG) {
        return error_set(err, EBADMSG, "LAG is for a layer's own partitions, not for those of layer %u",
                         input->layer);
    }
    *own = input->layer == number;
    *tasks = input->layer < before->count ? before->tasks[input->layer]
                                          : graph->layer[input->layer - before->count]->tasks;
    return 0;
}

static int check_inputs(const Dray__Graph *graph, size_t at, const struct before *before, uint64_t *edges,
                        struct error *err)
{
    const Dray__Layer *layer = graph->layer[at];
    uint64_t needs = 0;

    if (layer->n_input > GRAPH_INPUTS_MAX) {
        return error_set(err, EBADMSG, "it has %zu inputs, more than %d", layer->n_input, GRAPH_INPUTS_MAX);
    }
    for (size_t i = 0; i < layer->n_input; i++) {
        const Dray__Input *input = layer->input[i];
        uint32_t source_tasks = 0;
        bool own = false;
        int rc = source_of_input(graph, at, before, input, &source_tasks, &own, err);

        if (rc == 0) {
            rc = input_check(input, layer->tasks, source_tasks, err);
        }
        if (rc == 0 && own) {
            rc = input_check_own(input, layer->tasks, err);
        }
        if (rc < 0) {
            error_prefix(err, "input %zu (layer %u): ", i, input->layer);
            return rc;
        }
        needs += needs_max(input, layer->tasks, source_tasks);
        *edges += edges_max(input, layer->tasks, source_tasks);
        if (needs > GRAPH_NEEDS_MAX || *edges > GRAPH_EDGES_MAX) {
            return error_set(
                err, EBADMSG,
                "with input %zu (layer %u) a task needs %llu partitions and the graph has %llu edges: "
                "too many",
                i, input->layer, (unsigned long long)needs, (unsigned long long)*edges);
        }
    }
    return 0;
}

// What a layer asks of its workers.
static int check_demands(const Dray__Layer *layer, struct error *err)
{
    if (layer->n_resource > GRAPH_RESOURCES_MAX || layer->n_worker > GRAPH_WORKERS_MAX) {
        return error_set(err, EBADMSG,
                         "it asks for %zu resources and %zu workers by name, more than %d and %d",
                         layer->n_resource, layer->n_worker, GRAPH_RESOURCES_MAX, GRAPH_WORKERS_MAX);
    }
    for (size_t i = 0; i < layer->n_resource; i++) {
        const Dray__Resource *resource = layer->resource[i];

        if (resource->name[0] == '\0' || strlen(resource->name) > NAME_MAX_BYTES || resource->amount == 0) {
            return error_set(err, EBADMSG, "it asks for %u of the resource '%.200s'", resource->amount,
                             resource->name);
        }
    }
    for (size_t i = 0; i < layer->n_worker; i++) {
        if (layer->worker[i][0] == '\0' || strlen(layer->worker[i]) > NAME_MAX_BYTES) {
            return error_set(err, EBADMSG, "the name of worker %zu is empty or longer than %d bytes", i,
                             NAME_MAX_BYTES);
        }
    }
    return 0;
}

static int check_sources(const Dray__Layer *layer, struct error *err)
{
    uint64_t next = 0;

    if (layer->n_source == 0) {
        return 0;
    }
    for (size_t i = 0; i < layer->n_source; i++) {
        const Dray__Source *s = layer->source[i];

        if (s->name[0] == '\0' || strlen(s->name) > NAME_MAX_BYTES ||
            (s->path != NULL && strlen(s->path) > NAME_MAX_BYTES)) {
            return error_set(err, EBADMSG, "the name of source %zu is empty or longer than %d bytes", i,
                             NAME_MAX_BYTES);
        }
        if (s->first != next || s->count == 0) {
            return error_set(err, EBADMSG,
                             "source %zu ('%.200s') has %u tasks from task %u on, expected from %llu", i,
                             s->name, s->count, s->first, (unsigned long long)next);
        }
        next += s->count;
        if (next > layer->tasks) {
            break;
        }
    }
    if (next != layer->tasks) {
        return error_set(err, EBADMSG, "its sources do not cover it: they end at task %llu of %u",
                         (unsigned long long)next, layer->tasks);
    }
    return 0;
}

static int check_layer(const Dray__Graph *graph, size_t at, const struct before *before, uint64_t *tasks,
                       uint64_t *edges, struct error *err)
{
    const Dray__Layer *layer = graph->layer[at];
    int rc;

    if (layer->tasks < 1 || layer->tasks > GRAPH_TASKS_MAX - *tasks) {
        return error_set(err, EBADMSG, "it has %u tasks, there can be 1 to %llu", layer->tasks,
                         (unsigned long long)(GRAPH_TASKS_MAX - *tasks));
    }
    *tasks += layer->tasks;
    if (layer->op.len == 0) {
        return error_set(err, EBADMSG, "it has no operation");
    }
    if (layer->name != NULL && strlen(layer->name) > NAME_MAX_BYTES) {
        return error_set(err, EBADMSG, "its name is longer than %d bytes", NAME_MAX_BYTES);
    }
    rc = check_inputs(graph, at, before, edges, err);
    if (rc == 0) {
        rc = check_sources(layer, err);
    }
    return rc == 0 ? check_demands(layer, err) : rc;
}

int graph_check_more(const Dray__Graph *graph, uint32_t first, const uint32_t *before_tasks,
                     struct error *err)
{
    const struct before before = {first, before_tasks};
    uint64_t tasks = 0;
    uint64_t edges = 0;

    for (uint32_t l = 0; l < first; l++) {
        tasks += before_tasks[l];
    }
    if (graph->n_layer < 1 || graph->n_layer > GRAPH_LAYERS_MAX ||
        first > GRAPH_LAYERS_MAX - graph->n_layer) {
        return error_set(err, EBADMSG, "a graph has %zu layers, it can have 1 to %d", first + graph->n_layer,
                         GRAPH_LAYERS_MAX);
    }
    for (size_t i = 0; i < graph->n_layer; i++) {
        int rc = check_layer(graph, i, &before, &tasks, &edges, err);

        if (rc < 0) {
            const char *name = graph->layer[i]->name;

            error_prefix(err, "layer %zu ('%.100s') of a graph: ", first + i, name != NULL ? name : "");
            return rc;
        }
    }
    return 0;
}

int graph_check(const Dray__Graph *graph, struct error *err)
{
    return graph_check_more(graph, 0, NULL, err);
}

int graph_decode(const void *data, size_t size, struct arena *arena, const Dray__Graph **out,
                 struct error *err)
{
    ProtobufCMessage *message;
    int rc = schema_unpack(&dray__graph__descriptor, data, size, arena, &message, err);

    if (rc < 0) {
        return rc;
    }
    const Dray__Graph *graph = (const Dray__Graph *)message;

    rc = graph_check(graph, err);
    if (rc < 0) {
        return rc;
    }
    *out = graph;
    return 0;
}
