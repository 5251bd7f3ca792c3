// From the fields of a batch to vectors.
#include "worker/kernel/csv_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 4 << 20 };  // all vectors of a batch together: wide tables get fewer rows at a time

int csv_columns_init(struct csv_scan *scan, const Dray__ScanCsv *op, struct arena *arena, struct error *err)
{
    uint32_t n = scan->columns;
    // Any column may widen to text.
    size_t row_bytes = (sizeof(struct string_view) + 2 * sizeof(uint32_t)) * (n + (size_t)1);
    size_t rows = BATCH_BYTES / row_bytes / 64 * 64;

    rows = rows < 64 ? 64 : rows > BATCH_ROWS ? BATCH_ROWS : rows;
    scan->batch_rows = (uint32_t)rows;
    scan->column = arena_zalloc(arena, (n + (size_t)1) * sizeof(*scan->column));
    scan->vector = arena_zalloc(arena, (n + (size_t)1) * sizeof(*scan->vector));
    scan->line = arena_alloc(arena, rows * sizeof(*scan->line));
    if (scan->column == NULL || scan->vector == NULL || scan->line == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t c = 0; c < n; c++) {
        struct csv_column *column = &scan->column[c];
        size_t bytes = rows / 8 + rows * sizeof(struct string_view) + 2 * rows * sizeof(uint32_t) + 4 * 64;
        int rc = budget_take(scan->env->budget, bytes, "the columns of a CSV file", err);

        if (rc < 0) {
            return rc;
        }
        scan->taken += bytes;
        // One piece: values, spans, validity, each with room for a vector store behind it.
        uint8_t *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

        if (memory == NULL) {
            return error_no_memory(err);
        }
        column->values = memory;
        memory += rows * sizeof(struct string_view) + 64;
        column->before = (uint32_t *)(void *)memory;
        memory += rows * sizeof(uint32_t) + 64;
        column->end = (uint32_t *)(void *)memory;
        memory += rows * sizeof(uint32_t) + 64;
        column->validity = (uint64_t *)(void *)memory;

        column->proto = op->column[c];
        column->field = scan->range.file->field[c];
        column->type = (enum type)column->proto->type;
        if (column->type == TYPE_DICT) {
            column->type = TYPE_STRING;
        }
        column->owner = c;
        for (uint32_t other = 0; other < c; other++) {
            if (scan->column[other].field == column->field) {
                column->owner = other;
                break;
            }
        }
        if (column->type == TYPE_STRING && column->proto->group_key) {
            rc = csv_dict_init(&column->dict, &scan->missing, scan->env->budget, err);
            column->has_dict = true;
            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

void csv_columns_fini(struct csv_scan *scan)
{
    for (uint32_t c = 0; scan->column != NULL && c < scan->columns; c++) {
        free(scan->column[c].values);
        csv_dict_fini(&scan->column[c].dict);
    }
    budget_give(scan->env->budget, scan->taken);
    scan->taken = 0;
}

// Removes the quotes of the field [start, *end) in place, doubled ones become one; the text begins behind `start`.
static void unquote(const struct csv_dialect *d, uint8_t *base, uint32_t start, uint32_t *end)
{
    uint32_t size = *end - start;

    if (size >= 2 && base[*end - 1] == d->quote && memchr(base + start + 1, d->quote, size - 2) == NULL) {
        *end -= 1;
        return;
    }
    enum csv_state state = CSV_QUOTED;
    uint32_t to = start + 1;

    for (uint32_t i = start + 1; i < *end; i++) {
        uint8_t byte = base[i];

        if (state == CSV_QUOTED && byte == d->quote) {
            state = CSV_CLOSED;
            continue;
        }
        if (state == CSV_CLOSED) {
            state = byte == d->quote ? CSV_QUOTED : CSV_PLAIN;
        }
        base[to++] = byte;
    }
    *end = to;
}

// Fills the column's spans with what is left of each field without a CR before LF and without quotes.
static void trim(struct csv_scan *scan, struct csv_column *column, struct csv_cells *cells)
{
    const struct csv_dialect *d = &scan->dialect;
    uint8_t *base = scan->reader.base;
    bool returns = scan->index.returns && column->field + 1 == scan->index.fields;
    bool quotes = scan->index.quotes && d->has_quote;

    for (uint32_t row = 0; row < cells->rows; row++) {
        uint32_t start = csv_cell_start(cells, row);
        uint32_t end = csv_cell_end(cells, row);

        if (returns && base[end] == '\n' && end > start && base[end - 1] == '\r') {
            end--;
        }
        if (quotes && end > start && base[start] == d->quote) {
            unquote(d, base, start, &end);
            start++;
        }
        column->before[row] = start - 1;
        column->end[row] = end;
    }
    cells->before = column->before;
    cells->end = column->end;
    cells->stride = 1;
}

static void find_cells(struct csv_scan *scan, struct csv_column *column, const uint32_t *first, bool own_spans,
                       uint32_t rows, struct csv_cells *cells)
{
    struct csv_column *owner = &scan->column[column->owner];
    const struct csv_index *index = &scan->index;
    bool trimmed = (index->quotes && scan->dialect.has_quote) ||
                   (index->returns && column->field + 1 == index->fields);

    *cells = (struct csv_cells){scan->reader.base, owner->before, owner->end, 1, rows};
    if (column != owner && (own_spans || trimmed)) {
        return;
    }
    if (!own_spans) {
        cells->before = first + column->field;
        cells->end = cells->before + 1;
        cells->stride = index->fields;
    }
    if (trimmed) {
        trim(scan, column, cells);
    }
}

static int misfit(struct csv_scan *scan, const struct csv_column *column, const struct csv_cells *cells,
                  const uint32_t *first, bool own_spans, uint32_t row, struct error *err)
{
    uint32_t start = csv_cell_start(cells, row);
    uint32_t size = csv_cell_end(cells, row) - start;
    uint32_t place = own_spans ? scan->line[row] : first[(size_t)row * scan->index.fields] + 1;

    if (csv_is_missing(&scan->missing, cells->base + start, size)) {
        return csv_scan_fail(scan, place, err, "column %s: a missing value, but dtype= says %s", column->proto->name,
                             type_name(column->type));
    }
    return csv_scan_fail(scan, place, err, "column %s: '%.*s%s' is not %s, which dtype= says", column->proto->name,
                         (int)(size < 60 ? size : 60), (const char *)cells->base + start, size > 60 ? "..." : "",
                         type_name(column->type));
}

static uint64_t count_invalid(const struct csv_column *column, const struct csv_cells *cells,
                              const struct vector *vector)
{
    uint64_t count = 0;

    if (vector->type == TYPE_DICT && !column->dict.any_invalid) {
        return 0;
    }
    for (uint32_t row = 0; row < cells->rows; row++) {
        if (vector->validity != NULL && (vector->validity[row >> 6] >> (row & 63) & 1) == 0) {
            continue;
        }
        if (vector->type == TYPE_DICT) {
            count += csv_dict_is_invalid(&column->dict, ((const uint32_t *)vector->values)[row]);
        } else {
            const struct string_view *s = (const struct string_view *)vector->values + row;

            count += !csv_utf8_valid((const uint8_t *)s->data, s->size);
        }
    }
    return count;
}

static uint32_t convert(struct csv_scan *scan, struct csv_column *column, const struct csv_cells *cells,
                   struct csv_vector *out)
{
    csv_convert_fn *fn = csv_cells_string;

    switch (column->type) {
    case TYPE_BOOL:
        fn = csv_cells_bool;
        break;
    case TYPE_INT64:
        fn = scan->isa->int64;
        break;
    case TYPE_FLOAT64:
        fn = scan->isa->float64;
        break;
    default:
        break;
    }
    return fn(cells, &scan->missing, out);
}

static int make_vector(struct csv_scan *scan, uint32_t c, const uint32_t *first, bool own_spans, uint32_t rows,
                       struct error *err)
{
    struct csv_column *column = &scan->column[c];
    struct vector *vector = &scan->vector[c];
    struct csv_vector out = {column->values, column->validity, false};
    struct csv_cells cells;

    find_cells(scan, column, first, own_spans, rows, &cells);
    *vector = (struct vector){.values = column->values};
    if (column->has_dict) {
        int rc = scan->isa->encode(&cells, &column->dict, &out, err);

        if (rc < 0) {
            return rc;
        }
        // Batches that were pushed keep their codes; from here on the column is plain strings.
        column->has_dict = rc == 0;
        vector->type = TYPE_DICT;
        vector->dictionary = &column->dict.dictionary;
    }
    while (!column->has_dict) {
        uint32_t fitted = convert(scan, column, &cells, &out);

        if (fitted == rows) {
            vector->type = column->type;
            vector->dictionary = NULL;
            break;
        }
        if (column->proto->forced) {
            return misfit(scan, column, &cells, first, own_spans, fitted, err);
        }
        column->type = csv_type_wider(column->type);
        scan->discovering = true;
    }
    vector->validity = out.nulls ? column->validity : NULL;
    if (scan->index.high && column->type == TYPE_STRING) {
        uint64_t invalid = count_invalid(column, &cells, vector);

        scan->env->note.invalid_utf8 += invalid;
        scan->env->note.has_invalid_utf8 |= invalid != 0;
    }
    return 0;
}

int csv_columns_push(struct csv_scan *scan, const uint32_t *first, bool own_spans, uint32_t rows, struct error *err)
{
    for (uint32_t c = 0; c < scan->columns; c++) {
        int rc = make_vector(scan, c, first, own_spans, rows, err);

        if (rc < 0 || scan->misguided) {
            return rc;
        }
    }
    scan->env->rows += rows;
    if (scan->discovering) {
        return 0;
    }
    struct batch batch = {.rows = rows, .columns = scan->columns, .column = scan->vector, .selected = rows};
    int rc = stage_push(scan->next, &batch, err);

    scan->stopped = rc > 0;
    return rc < 0 ? rc : 0;
}

int csv_columns_note(struct csv_scan *scan, struct error *err)
{
    Dray__Note *note = &scan->env->note;
    struct arena *arena = scan->env->arena;

    note->widen = arena_array(arena, scan->columns + (size_t)1, sizeof(*note->widen));
    if (note->widen == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t c = 0; c < scan->columns; c++) {
        enum type was = (enum type)scan->column[c].proto->type;

        if (scan->column[c].type == was || (was == TYPE_DICT && scan->column[c].type == TYPE_STRING)) {
            continue;
        }
        Dray__Widen *widen = arena_alloc(arena, sizeof(*widen));

        if (widen == NULL) {
            return error_no_memory(err);
        }
        dray__widen__init(widen);
        widen->column = c;
        widen->type = (Dray__Type)scan->column[c].type;
        note->widen[note->n_widen++] = widen;
    }
    return 0;
}
