// Planning without a cluster: a made-up answer to every probe.
#ifndef DRAY_TESTS_UNIT_PLAN_FIXTURE_H
#define DRAY_TESTS_UNIT_PLAN_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/plan/query.h"

struct fake_files {
    uint64_t size;       // of each file, 100 bytes of it header
    uint32_t count;      // files that a pattern finds
    unsigned probes;     // how often it was asked
    Dray__ProbeCsv last; // what was asked last: strings are the asker's
};

static inline int fake_probe(void *context, const Dray__ProbeCsv *const *probes, size_t count,
                             struct arena *arena, Dray__CsvProbeResult **out, struct error *err)
{
    static const char *const names[] = {"category", "price", "quantity", "flag", "count"};
    static const Dray__Type types[] = {DRAY__TYPE__STRING, DRAY__TYPE__FLOAT64, DRAY__TYPE__INT64,
                                       DRAY__TYPE__BOOL, DRAY__TYPE__INT64};
    struct fake_files *files = context;

    files->probes++;
    for (size_t i = 0; i < count; i++) {
        Dray__CsvProbeResult *result = arena_alloc(arena, sizeof(*result));

        files->last = *probes[i];
        if (strstr(probes[i]->pattern, "missing") != NULL) {
            return error_set(err, ENOENT, "%s: no such file", probes[i]->pattern);
        }
        dray__csv_probe_result__init(result);
        result->n_file = files->count;
        result->file = arena_array(arena, files->count, sizeof(*result->file));
        for (uint32_t f = 0; f < files->count; f++) {
            Dray__CsvProbeFile *file = arena_alloc(arena, sizeof(*file));

            dray__csv_probe_file__init(file);
            file->name = arena_printf(arena, "%s", probes[i]->pattern);
            file->path = arena_printf(arena, "%s", probes[i]->path);
            file->size = files->size;
            file->codec = strstr(probes[i]->pattern, ".gz") != NULL ? DRAY__CODEC__GZIP : DRAY__CODEC__PLAIN;
            file->data_start = 100;
            file->n_column = file->n_type = 5;
            file->column = arena_array(arena, 5, sizeof(char *));
            file->type = arena_array(arena, 5, sizeof(Dray__Type));
            for (int c = 0; c < 5; c++) {
                file->column[c] = arena_strdup(arena, names[c]);
                file->type[c] = types[c];
            }
            result->file[f] = file;
        }
        out[i] = result;
    }
    return 0;
}

static inline int fake_create(struct fake_files *files, const char *script, struct query **out,
                              struct error *err)
{
    const struct query_host host = {files, fake_probe, "/data"};

    return query_create(script, strlen(script), "s", &host, out, err);
}

#endif
