#include "worker/kernel/csv_range.h"

#include <errno.h>
#include <unistd.h>

#include "worker/kernel/csv_trace.h"

int csv_range_find(const Dray__ScanCsv *scan, uint32_t index, struct csv_range *out, struct error *err)
{
    uint64_t first = 0;

    for (size_t f = 0; f < scan->n_file; f++) {
        const Dray__CsvFile *file = scan->file[f];

        if (index - first >= file->blocks) {
            first += file->blocks;
            continue;
        }
        uint64_t block = index - first;
        struct csv_range r = {.file = file,
                              .number = (uint32_t)f,
                              .start = file->data_start,
                              .end = UINT64_MAX,
                              .first = block == 0,
                              .last = block + 1 == file->blocks};
        uint64_t skip;

        if (file->fields == 0 || file->n_field != scan->n_column || scan->block_size == 0 ||
            (file->codec != DRAY__CODEC__PLAIN && file->blocks != 1)) {
            return error_set(err, EINVAL, "scan_csv: %s: fields, columns and blocks contradict one another", file->name);
        }
        for (size_t c = 0; c < file->n_field; c++) {
            if (file->field[c] >= file->fields) {
                return error_set(err, EINVAL, "scan_csv: %s: field %u of %u", file->name, file->field[c], file->fields);
            }
        }
        if (file->codec == DRAY__CODEC__PLAIN) {
            if (__builtin_mul_overflow(block, scan->block_size, &skip) ||
                __builtin_add_overflow(r.start, skip, &r.start) || r.start > file->size) {
                if (!r.first) {
                    return error_set(err, EINVAL, "scan_csv: %s: block %llu is beyond its end", file->name,
                                     (unsigned long long)block);
                }
                r.start = file->size;
            }
            r.end = r.last || file->size - r.start < scan->block_size ? file->size : r.start + scan->block_size;
        }
        for (size_t i = 0; i < scan->n_starts_quoted; i++) {
            r.starts_quoted |= scan->starts_quoted[i] == index && !r.first;
        }
        *out = r;
        return 0;
    }
    return error_set(err, EINVAL, "scan_csv: task %u of %llu blocks", index, (unsigned long long)first);
}

// Reads on until byte `at` of the text is there, or the text has ended.
static int reach(struct csv_reader *r, uint64_t at, const uint8_t **out, struct error *err)
{
    uint32_t moved;
    int rc = csv_reader_fill(r, r->data, &moved, err);

    while (rc == 0 && !r->ended && at - r->offset > (uint64_t)(r->end - r->data)) {
        rc = csv_reader_fill(r, r->end, &moved, err);
    }
    uint64_t ahead = at - r->offset;
    uint64_t held = (uint64_t)(r->end - r->data);

    *out = r->data + (ahead < held ? ahead : held);
    return rc;
}

int csv_range_walk(const struct csv_range *range, const struct csv_dialect *d, struct csv_reader *r,
                   enum csv_state start, bool to_end, struct csv_walk *out, struct error *err)
{
    struct csv_walk walk = {0};
    enum csv_state state = start == CSV_COMMENT ? CSV_COMMENT : CSV_LINE;
    uint64_t at = range->start;
    bool bordered = range->first || start == CSV_COMMENT;
    const uint8_t *p;
    uint32_t moved;
    int rc = reach(r, at, &p, err);

    if (rc < 0) {
        return rc;
    }
    uint8_t before = range->first || p == r->data ? '\n' : p[-1];

    for (;; p++, at++) {
        if (p == r->end && !r->ended) {
            rc = csv_reader_fill(r, p, &moved, err);
            if (rc < 0) {
                return rc;
            }
            p = r->data;
        }
        bool over = p == r->end;

        if (!bordered && (over || csv_is_border(d, before))) {
            bordered = true;
            state = start == CSV_QUOTED ? CSV_QUOTED : csv_state_after(d, before);
        }
        if (bordered && state == CSV_LINE && at < range->end && !over && !to_end) {
            walk.found = true;
            walk.line = p;
            break;
        }
        if (over || (at >= range->end && bordered && csv_is_border(d, before))) {
            walk.end_state = state;
            break;
        }
        before = *p;
        if (bordered) {
            state = csv_next(d, state, before);
        }
    }
    *out = walk;
    return 0;
}

int csv_range_in_comment(const struct csv_range *range, const struct csv_dialect *d, const struct csv_file *file,
                         struct budget *budget, bool *in_comment, struct error *err)
{
    uint8_t chunk[4096];
    uint64_t at = range->start;
    enum csv_state state;
    uint64_t breaks;

    *in_comment = false;
    if (!d->has_comment || !d->has_quote || range->first) {
        return 0;
    }
    // A comment ends with its line: without a comment byte since the last line break there is none.
    while (at > range->file->data_start) {
        uint64_t from = at - range->file->data_start > sizeof(chunk) ? at - sizeof(chunk) : range->file->data_start;
        ssize_t n = pread(file->fd, chunk, (size_t)(at - from), (off_t)from);

        if (n < 0 || (uint64_t)n != at - from) {
            return csv_file_error(n < 0 ? errno : EIO, range->file->name, err);
        }
        while (n > 0) {
            uint8_t class = d->class_of[chunk[--n]];

            if (class == CSV_BREAK) {
                return 0;
            }
            if (class == CSV_HASH) {
                int rc = csv_trace(d, file, range->file->codec, range->file->name, range->file->data_start,
                                   range->start, budget, &state, &breaks, err);

                *in_comment = rc == 0 && state == CSV_COMMENT;
                return rc;
            }
        }
        at = from;
    }
    return 0;
}
