#include "client/lib/probe.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/graph.pb-c.h"

enum {
    TASKS_MAX = 65536, // layers of a graph
    NAMES_BYTES = 400, // of workers in an error
};

struct task {
    Dray__ProbeCsv *probe;
    const Dray__ProbeCsv *asked; // the one that it is part of
    Dray__CsvProbeResult *answer;
};

struct probe_plan {
    struct arena *arena;
    struct task *task;
    size_t tasks;
    size_t capacity;
};

int probe_plan_create(struct arena *arena, struct probe_plan **out, struct error *err)
{
    struct probe_plan *plan = arena_zalloc(arena, sizeof(*plan));

    if (plan == NULL) {
        return error_no_memory(err);
    }
    plan->arena = arena;
    *out = plan;
    return 0;
}

static int add_task(struct probe_plan *plan, const Dray__ProbeCsv *probe, char *name, char *path, bool glob,
                    struct error *err)
{
    Dray__ProbeCsv *own;

    if (plan->tasks == plan->capacity) {
        size_t capacity = plan->capacity == 0 ? 16 : 2 * plan->capacity;
        struct task *task = arena_array(plan->arena, capacity, sizeof(*task));

        if (task == NULL) {
            return error_no_memory(err);
        }
        if (plan->tasks > 0) {
            memcpy(task, plan->task, plan->tasks * sizeof(*task));
        }
        plan->task = task;
        plan->capacity = capacity;
    }
    if (plan->tasks == TASKS_MAX) {
        return error_set(err, E2BIG, "%s: more than %d files on workers", probe->pattern, TASKS_MAX);
    }
    own = arena_copy(plan->arena, probe, sizeof(*probe));
    if (own == NULL) {
        return error_no_memory(err);
    }
    own->pattern = name;
    own->path = path;
    own->has_glob = true;
    own->glob = glob;
    plan->task[plan->tasks++] = (struct task){.probe = own, .asked = probe};
    return 0;
}

int probe_plan_add(struct probe_plan *plan, const Dray__ProbeCsv *probe, const Dray__Sources *sources,
                   struct error *err)
{
    int rc = 0;

    for (size_t i = 0; sources != NULL && i < sources->n_file && rc == 0; i++) {
        rc = add_task(plan, probe, sources->file[i]->name, sources->file[i]->path, false, err);
    }
    // A literal that some worker has is that file; a pattern may match more on the shared file system.
    if (rc == 0 && (sources == NULL || (sources->shared && (sources->n_file == 0 || probe->glob)))) {
        rc = add_task(plan, probe, probe->pattern, probe->path, probe->glob, err);
    }
    return rc;
}

static int make_layer(struct probe_plan *plan, Dray__ProbeCsv *probe, Dray__Layer *layer, struct error *err)
{
    Dray__Step step = DRAY__STEP__INIT;
    Dray__Step *steps[] = {&step};
    Dray__Op op = DRAY__OP__INIT;
    Dray__Source *source = arena_alloc(plan->arena, sizeof(*source));
    Dray__Source **sources = arena_alloc(plan->arena, sizeof(Dray__Source *));

    step.probe_csv = probe;
    op.n_step = 1;
    op.step = steps;
    layer->op.len = dray__op__get_packed_size(&op);
    layer->op.data = arena_alloc(plan->arena, layer->op.len);
    layer->name = arena_printf(plan->arena, "probe %s", probe->pattern);
    if (source == NULL || sources == NULL || layer->op.data == NULL || layer->name == NULL) {
        return error_no_memory(err);
    }
    dray__op__pack(&op, layer->op.data);
    dray__source__init(source);
    source->name = probe->pattern;
    source->path = probe->path;
    source->first = 0;
    source->count = 1;
    sources[0] = source;
    layer->tasks = 1;
    layer->has_wanted = layer->wanted = true;
    layer->n_source = 1;
    layer->source = sources;
    return 0;
}

int probe_plan_graph(struct probe_plan *plan, void **out, size_t *size, struct error *err)
{
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer *layer = arena_array(plan->arena, plan->tasks, sizeof(*layer));
    Dray__Layer **layers = arena_array(plan->arena, plan->tasks, sizeof(*layers));
    void *packed;

    if (layer == NULL || layers == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < plan->tasks; i++) {
        int rc;

        dray__layer__init(&layer[i]);
        layers[i] = &layer[i];
        rc = make_layer(plan, plan->task[i].probe, &layer[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    graph.n_layer = plan->tasks;
    graph.layer = layers;
    packed = arena_alloc(plan->arena, dray__graph__get_packed_size(&graph));
    if (packed == NULL) {
        return error_no_memory(err);
    }
    *size = dray__graph__pack(&graph, packed);
    *out = packed;
    return 0;
}

int probe_plan_take(struct probe_plan *plan, uint32_t layer, const struct partition *partition,
                    struct error *err)
{
    if (layer >= plan->tasks || partition->kind != PARTITION_BYTES) {
        return error_set(err, EBADMSG, "the answer of probe %u is not one", layer);
    }
    plan->task[layer].answer = dray__csv_probe_result__unpack(&plan->arena->protobuf, partition->bytes->size,
                                                              partition->bytes->data);
    if (plan->task[layer].answer == NULL) {
        return error_set(err, EBADMSG, "the answer of probe %u (%s) cannot be read", layer,
                         plan->task[layer].probe->pattern);
    }
    return 0;
}

static bool seen(Dray__CsvProbeFile *const *file, size_t first, size_t end, const char *path)
{
    for (size_t i = first; i < end; i++) {
        if (strcmp(file[i]->path, path) == 0) {
            return true;
        }
    }
    return false;
}

int probe_plan_result(struct probe_plan *plan, Dray__CsvProbeResult **out, struct error *err)
{
    Dray__CsvProbeResult *result = arena_alloc(plan->arena, sizeof(*result));
    size_t files = 0;

    for (size_t i = 0; i < plan->tasks; i++) {
        if (plan->task[i].answer == NULL) {
            return error_set(err, EBADMSG, "the probe of %s gave no answer", plan->task[i].probe->pattern);
        }
        files += plan->task[i].answer->n_file;
    }
    if (result == NULL) {
        return error_no_memory(err);
    }
    dray__csv_probe_result__init(result);
    result->file = arena_array(plan->arena, files, sizeof(*result->file));
    if (result->file == NULL && files > 0) {
        return error_no_memory(err);
    }
    for (size_t i = 0, first = 0; i < plan->tasks; i++) {
        const struct task *task = &plan->task[i];
        size_t end;

        if (i == 0 || task->asked != plan->task[i - 1].asked) {
            first = result->n_file;
        }
        // The shared file system may show what a worker's own folder showed before.
        end = task->probe->glob ? result->n_file : first;
        for (size_t j = 0; j < task->answer->n_file; j++) {
            if (!seen(result->file, first, end, task->answer->file[j]->path)) {
                result->file[result->n_file++] = task->answer->file[j];
            }
        }
    }
    *out = result;
    return 0;
}

int probe_not_found(const Dray__ProbeCsv *probe, const Dray__Sources *sources, struct error *err)
{
    char names[NAMES_BYTES] = "";
    size_t used = 0;

    for (size_t i = 0; i < sources->n_worker; i++) {
        int n = snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "", sources->worker[i]);

        if (n < 0 || (size_t)n >= sizeof(names) - used) {
            memcpy(names + sizeof(names) - 4, "...", 4);
            break;
        }
        used += (size_t)n;
    }
    return error_set(err, ENOENT,
                     "no worker can read %s: it was not below the --data-dir of %s when they last looked",
                     probe->path, used > 0 ? names : "any of them");
}
