#include "client/plan/csv.h"

#include <errno.h>

#include "client/plan/expr.h"

enum type type_join(enum type a, enum type b)
{
    if (a == b || b == TYPE_ANY) {
        return a;
    }
    if (a == TYPE_ANY) {
        return b;
    }
    if ((a == TYPE_INT64 && b == TYPE_FLOAT64) || (a == TYPE_FLOAT64 && b == TYPE_INT64)) {
        return TYPE_FLOAT64;
    }
    return TYPE_STRING;
}

int csv_cut(struct csv_source *source, struct error *err)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < source->files; i++) {
        struct csv_file *file = &source->file[i];
        const Dray__CsvProbeFile *probe = file->probe;
        uint64_t blocks = 1;

        if (probe->codec == DRAY__CODEC__PLAIN && probe->size > probe->data_start) {
            uint64_t bytes = probe->size - probe->data_start;

            blocks = bytes / source->block_size + (bytes % source->block_size != 0);
        }
        if (blocks > CSV_TASKS_MAX - total) {
            return error_set(
                err, EFBIG,
                "%s: blocks of %llu bytes are more than %u tasks; read_csv(blocksize=...) takes a larger one",
                source->label, (unsigned long long)source->block_size, CSV_TASKS_MAX);
        }
        file->first = (uint32_t)total;
        file->blocks = (uint32_t)blocks;
        total += blocks;
    }
    source->blocks = (uint32_t)total;
    return 0;
}

static Dray__CsvFile *scan_file(const struct csv_source *source, uint32_t index, const uint32_t *column,
                                uint32_t columns, struct arena *arena)
{
    const struct csv_file *file = &source->file[index];
    Dray__CsvFile *out = arena_alloc(arena, sizeof(*out));

    if (out == NULL) {
        return NULL;
    }
    dray__csv_file__init(out);
    out->path = file->probe->path;
    out->name = file->probe->name;
    out->size = file->probe->size;
    out->mtime_ns = file->probe->mtime_ns;
    out->codec = file->probe->codec;
    out->data_start = file->probe->data_start;
    out->fields = file->fields;
    out->blocks = file->blocks;
    out->field = arena_array(arena, columns, sizeof(*out->field));
    if (out->field == NULL) {
        return NULL;
    }
    for (uint32_t c = 0; c < columns; c++) {
        out->field[c] = source->column[column[c]].field[index];
    }
    out->n_field = columns;
    return out;
}

Dray__ScanCsv *csv_scan(const struct csv_source *source, const uint32_t *column, const enum type *type,
                        const bool *group_key, uint32_t columns, const uint32_t *starts_quoted, size_t starts,
                        struct arena *arena)
{
    Dray__ScanCsv *out = arena_alloc(arena, sizeof(*out));

    if (out == NULL) {
        return NULL;
    }
    dray__scan_csv__init(out);
    out->dialect = (Dray__CsvDialect *)(uintptr_t)source->dialect;
    out->block_size = source->block_size;
    out->file = arena_array(arena, source->files, sizeof(Dray__CsvFile *));
    out->column = arena_array(arena, columns, sizeof(Dray__CsvColumn *));
    out->starts_quoted = (uint32_t *)(uintptr_t)starts_quoted;
    out->n_starts_quoted = starts;
    if (out->file == NULL || out->column == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < source->files; i++) {
        out->file[i] = scan_file(source, i, column, columns, arena);
        if (out->file[i] == NULL) {
            return NULL;
        }
    }
    out->n_file = source->files;
    for (uint32_t c = 0; c < columns; c++) {
        const struct csv_column *from = &source->column[column[c]];
        Dray__CsvColumn *to = arena_alloc(arena, sizeof(*to));

        if (to == NULL) {
            return NULL;
        }
        dray__csv_column__init(to);
        to->name = (char *)(uintptr_t)from->name;
        to->type = (Dray__Type)type[c];
        to->has_forced = to->forced = from->forced;
        to->has_group_key = to->group_key = group_key[c] || (from->category && type[c] == TYPE_STRING);
        out->column[c] = to;
    }
    out->n_column = columns;
    return out;
}
