// From places to rows: lines with the right number of fields, blank ones and comments left out.
#include "worker/kernel/csv_scan.h"

#include <errno.h>
#include <string.h>

// Nothing but white space (a CR before LF included) between two places: pandas skips such lines.
static bool is_blank(const struct csv_scan *scan, uint32_t start, uint32_t end)
{
    const uint8_t *base = scan->reader.base;

    for (uint32_t i = start; i < end; i++) {
        if (base[i] != ' ' && base[i] != '\t' && base[i] != '\r') {
            return false;
        }
    }
    return true;
}

static int fail_fields(struct csv_scan *scan, uint32_t start, size_t fields, struct error *err)
{
    return csv_scan_fail(scan, start, err, "%zu %s where %u %s expected", fields, fields == 1 ? "field" : "fields",
                         scan->index.fields, scan->index.fields == 1 ? "is" : "are");
}

// Puts the places of one line (fields of them) into the columns' spans.
static void add_row(struct csv_scan *scan, const uint32_t *before, uint32_t row)
{
    for (uint32_t c = 0; c < scan->columns; c++) {
        struct csv_column *column = &scan->column[c];

        column->before[row] = before[column->field];
        column->end[row] = before[column->field + 1];
    }
}

static int push_irregular(struct csv_scan *scan, size_t *left, struct error *err)
{
    struct csv_index *index = &scan->index;
    const uint8_t *base = scan->reader.base;
    const uint32_t *place = index->place;
    size_t first = 0;  // place[first] is the byte before the line
    uint32_t rows = 0;
    int rc = 0;

    for (size_t i = 1; i <= index->count && rc == 0 && !scan->stopped && !scan->misguided; i++) {
        uint8_t byte = base[place[i]];

        if (byte != '\n' && byte != '\r') {
            continue;
        }
        size_t fields = i - first;

        if (scan->dialect.has_comment && fields > 1 && base[place[i - 1]] == scan->dialect.comment) {
            fields--;
        }
        uint32_t start = place[first] + 1;

        if (fields == 1 && is_blank(scan, start, place[first + 1])) {
            // not a row
        } else if (fields != index->fields) {
            // Rows before it first: an error must not depend on where pieces end, but a head may never get here.
            if (rows > 0) {
                rc = csv_columns_push(scan, NULL, true, rows, err);
                rows = 0;
            }
            if (rc == 0 && !scan->stopped && !scan->misguided) {
                rc = fail_fields(scan, start, fields, err);
            }
        } else {
            scan->line[rows] = start;
            add_row(scan, place + first, rows++);
            if (rows == scan->batch_rows) {
                rc = csv_columns_push(scan, NULL, true, rows, err);
                rows = 0;
            }
        }
        first = i;
    }
    if (rc == 0 && rows > 0 && !scan->stopped && !scan->misguided) {
        rc = csv_columns_push(scan, NULL, true, rows, err);
    }
    *left = index->count - first;
    return rc;
}

static int push_regular(struct csv_scan *scan, size_t *left, struct error *err)
{
    struct csv_index *index = &scan->index;
    size_t rows = index->count / index->fields;
    int rc = 0;

    for (size_t row = 0; row < rows && rc == 0 && !scan->stopped && !scan->misguided;) {
        uint32_t n = rows - row < scan->batch_rows ? (uint32_t)(rows - row) : scan->batch_rows;

        rc = csv_columns_push(scan, index->place + row * index->fields, false, n, err);
        row += n;
    }
    *left = index->count - rows * index->fields;
    return rc;
}

int csv_lines_push(struct csv_scan *scan, struct error *err)
{
    struct csv_index *index = &scan->index;
    size_t left;
    int rc;

    // A line of one field may be blank: only its text tells.
    if (index->irregular || index->fields == 1) {
        rc = push_irregular(scan, &left, err);
    } else {
        rc = push_regular(scan, &left, err);
    }
    if (rc < 0) {
        return rc;
    }
    memmove(index->place, index->place + (index->count - left), (left + 1) * sizeof(*index->place));
    bool whole = left == 0 && index->place[0] + 1 == scan->indexed;

    index->count = left;
    // What was seen in the unfinished line still counts for it.
    index->irregular = left >= index->fields || (index->irregular && scan->dialect.has_comment && !whole);
    index->phase = index->irregular ? 0 : (uint32_t)left;
    if (whole) {
        index->quotes = false;
        index->returns = false;
        index->high = false;
    }
    return 0;
}
