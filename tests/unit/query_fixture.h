// Runs a script in one process: the graph of each round layer by layer with the kernels, no
// broker, no workers.  What the cluster computes must be the same bits.
#ifndef DRAY_TESTS_UNIT_QUERY_FIXTURE_H
#define DRAY_TESTS_UNIT_QUERY_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/plan/query.h"
#include "client/print/print.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "worker/kernel/kernel.h"

struct local_layer {
    const Dray__Layer *layer;
    const Dray__Op *op;
    struct partition **partition;
};

struct local {
    struct budget *budget;
    void *scratch;
    struct query *query;
    unsigned rounds;
};

// One task alone, for probes.
static int local_task(struct local *local, const Dray__Op *op, uint32_t index,
                      const struct kernel_inputs *inputs, struct arena *arena, Dray__Note **note,
                      struct partition **out, struct error *err)
{
    struct kernel_env env = {.budget = local->budget, .arena = arena, .scratch = local->scratch};

    dray__note__init(&env.note);
    int rc = kernel_run(op, index, inputs, &env, out, err);

    if (rc == 0 && note != NULL) {
        *note = NULL;
        if (env.note.has_ends_quoted || env.note.has_invalid_utf8 || env.note.n_widen > 0) {
            *note = arena_copy(arena, &env.note, sizeof(env.note));
        }
    }
    return rc;
}

static int local_probe(void *context, const Dray__ProbeCsv *const *probes, size_t count, struct arena *arena,
                       Dray__CsvProbeResult **out, struct error *err)
{
    struct local *local = context;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        Dray__Step step = DRAY__STEP__INIT;
        Dray__Step *steps[] = {&step};
        Dray__Op op = DRAY__OP__INIT;
        const uint32_t start[] = {0};
        const struct kernel_inputs none = {.start = start};
        struct partition *partition = NULL;

        step.probe_csv = (Dray__ProbeCsv *)(uintptr_t)probes[i];
        op.step = steps;
        op.n_step = 1;
        rc = op_check(&op, err);
        if (rc == 0) {
            rc = local_task(local, &op, 0, &none, arena, NULL, &partition, err);
        }
        if (rc == 0) {
            out[i] = dray__csv_probe_result__unpack(&arena->protobuf, partition->bytes->size,
                                                    partition->bytes->data);
            rc = out[i] == NULL ? error_set(err, EBADMSG, "the probe's answer cannot be read") : 0;
        }
        partition_unref(partition);
    }
    return rc;
}

static int local_create(struct local *local, const char *script, const char *directory, struct error *err)
{
    const struct query_host host = {local, local_probe, directory};

    *local = (struct local){.budget = budget_create(0), .scratch = kernel_scratch_create()};
    return query_create(script, strlen(script), "script", &host, &local->query, err);
}

static void local_fini(struct local *local)
{
    query_destroy(local->query);
    kernel_scratch_destroy(local->scratch);
    budget_destroy(local->budget);
}

static int local_say(struct local *local, uint32_t layer, uint32_t index, const Dray__Note *note,
                     struct error *err)
{
    size_t size = dray__note__get_packed_size(note);
    uint8_t *bytes = malloc(size + 1);
    int rc;

    dray__note__pack(note, bytes);
    rc = query_note(local->query, layer, index, bytes, size, err);
    free(bytes);
    return rc;
}

static int local_layer(struct local *local, struct local_layer *layers, uint32_t at, struct error *err)
{
    struct local_layer *l = &layers[at];
    int rc = 0;

    l->partition = calloc(l->layer->tasks, sizeof(struct partition *));
    for (uint32_t task = 0; task < l->layer->tasks && rc == 0; task++) {
        uint32_t start[2] = {0, 0};
        struct partition **inputs = NULL;
        struct arena arena;
        Dray__Note *note = NULL;

        arena_init(&arena, 0);
        if (l->layer->n_input > 0) {
            const Dray__Input *input = l->layer->input[0];
            const struct local_layer *from = &layers[input->layer];
            struct span needs = input_needs(input, l->layer->tasks, from->layer->tasks, task);

            inputs = arena_array(&arena, needs.count, sizeof(struct partition *));
            for (uint32_t i = 0; i < needs.count; i++) {
                inputs[i] = from->partition[span_at(&needs, i)];
            }
            start[1] = needs.count;
        }
        const struct kernel_inputs given = {inputs, start, l->layer->n_input};

        rc = local_task(local, l->op, task, &given, &arena, &note, &l->partition[task], err);
        if (rc == 0 && note != NULL) {
            rc = local_say(local, at, task, note, err);
        }
        arena_fini(&arena);
    }
    return rc;
}

// The query goes on as somebody else's, from the note of its job: with the same graph.
static int local_pass_on(struct local *local, struct error *err)
{
    struct query *other = NULL;
    void *note, *graph[2];
    size_t size, bytes[2];
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    rc = query_save(local->query, &arena, &note, &size, err);
    rc = rc == 0 ? query_restore(note, size, &other, err) : rc;
    rc = rc == 0 ? query_graph(local->query, &arena, &graph[0], &bytes[0], err) : rc;
    rc = rc == 0 ? query_graph(other, &arena, &graph[1], &bytes[1], err) : rc;
    if (rc == 0 && (bytes[0] != bytes[1] || memcmp(graph[0], graph[1], bytes[0]) != 0)) {
        rc = error_set(err, EPROTO, "the graph of round %u is another one from its note", local->rounds);
    }
    arena_fini(&arena);
    if (rc != 0) {
        query_destroy(other);
        return rc;
    }
    query_destroy(local->query);
    local->query = other;
    return 0;
}

// One round; tables of the result go to a fresh printer.
static int local_round(struct local *local, enum print_format format, FILE *out, struct error *err)
{
    struct printer *printer = printer_create(format, query_shape(local->query), 0, out);
    struct local_layer *layers = NULL;
    const Dray__Graph *graph = NULL;
    struct arena arena;
    void *bytes;
    size_t size;
    int rc;

    arena_init(&arena, 0);
    rc = query_graph(local->query, &arena, &bytes, &size, err);
    if (rc == 0) {
        rc = graph_decode(bytes, size, &arena, &graph, err);
    }
    layers = rc == 0 ? calloc(graph->n_layer, sizeof(*layers)) : NULL;
    for (uint32_t i = 0; rc == 0 && i < graph->n_layer; i++) {
        layers[i].layer = graph->layer[i];
        rc = op_decode(graph->layer[i]->op.data, graph->layer[i]->op.len, &arena, &layers[i].op, err);
        if (rc == 0) {
            rc = local_layer(local, layers, i, err);
        }
        for (uint32_t task = 0; rc == 0 && graph->layer[i]->wanted && task < graph->layer[i]->tasks; task++) {
            struct table *table = NULL;

            rc = query_table(local->query, i, task, layers[i].partition[task], &table, err);
            if (rc == 0 && table != NULL) {
                rc = printer_table(printer, table, err);
            }
            table_unref(table);
        }
    }
    if (rc == 0) {
        rc = query_round_end(local->query, err);
    }
    if (rc == 0) {
        rc = printer_finish(printer, err);
    }
    for (uint32_t i = 0; layers != NULL && i < graph->n_layer; i++) {
        for (uint32_t task = 0; layers[i].partition != NULL && task < graph->layer[i]->tasks; task++) {
            partition_unref(layers[i].partition[task]);
        }
        free(layers[i].partition);
    }
    free(layers);
    printer_destroy(printer);
    arena_fini(&arena);
    return rc;
}

// The value as text; the caller frees it.  Void rounds print nothing.
static int local_run(struct local *local, enum print_format format, char **text, struct error *err)
{
    int rc = 1;

    *text = NULL;
    while (rc == 1 && local->rounds < 100) {
        size_t size;
        FILE *out;

        free(*text);
        *text = NULL;
        out = open_memstream(text, &size);
        local->rounds++;
        if (query_needs_graph(local->query)) {
            rc = local_pass_on(local, err);
            rc = rc == 0 ? local_round(local, format, out, err) : rc;
        } else {
            struct printer *printer = printer_create(format, query_shape(local->query), 0, out);
            struct table *table = NULL;

            rc = query_value(local->query, &table, err);
            if (rc == 0 && table != NULL) {
                rc = printer_table(printer, table, err);
            }
            if (rc == 0) {
                rc = printer_finish(printer, err);
            }
            table_unref(table);
            printer_destroy(printer);
        }
        fclose(out);
    }
    return rc == 1 ? error_set(err, EPROTO, "more than 100 rounds") : rc;
}

#endif
