#include "worker/kernel/csv_scan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kernel/csv_trace.h"

// Text is indexed and converted in pieces that stay in the fast caches.
enum { PIECE = 64 << 10 };

struct csv_scratch {
    struct csv_block block;
    uint32_t *place;
    size_t room; // places
};

void csv_scratch_destroy(struct csv_scratch *scratch)
{
    if (scratch != NULL) {
        csv_block_clear(&scratch->block);
        free(scratch->place);
        free(scratch);
    }
}

static int schema(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                  struct kernel_env *env, struct arena *arena, struct schema *out, struct error *err)
{
    const Dray__ScanCsv *op = step->scan_csv;
    struct schema made = {.columns = (uint32_t)op->n_column};

    (void)index;
    (void)inputs;
    (void)env;
    if (op->n_column > TABLE_COLUMNS_MAX) {
        return error_set(err, EINVAL, "scan_csv: %zu columns; at most %d are possible", op->n_column,
                         TABLE_COLUMNS_MAX);
    }
    made.name = arena_array(arena, op->n_column + 1, sizeof(*made.name));
    made.type = arena_array(arena, op->n_column + 1, sizeof(*made.type));
    if (made.name == NULL || made.type == NULL) {
        return error_no_memory(err);
    }
    for (size_t c = 0; c < op->n_column; c++) {
        made.name[c] = op->column[c]->name;
        made.type[c] = op->column[c]->type == DRAY__TYPE__DICT ? TYPE_STRING : (enum type)op->column[c]->type;
    }
    *out = made;
    return 0;
}

int csv_scan_fail(struct csv_scan *scan, uint32_t place, struct error *err, const char *format, ...)
{
    const Dray__CsvFile *file = scan->range.file;
    uint64_t at = scan->reader.offset + (place - (uint32_t)(scan->reader.data - scan->reader.base));
    enum csv_state state;
    uint64_t breaks;
    char what[512];
    va_list args;
    int rc = csv_trace(&scan->dialect, &scan->file, file->codec, file->name, file->data_start, at,
                       scan->env->budget, &state, &breaks, err);

    if (rc < 0) {
        return rc;
    }
    if (state == CSV_QUOTED || state == CSV_COMMENT) {
        scan->misguided = true;
        return 0;
    }
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return error_set(err, EBADMSG, "%s, line %llu (byte %llu): %s", file->name,
                     (unsigned long long)breaks + 1, (unsigned long long)at, what);
}

static int make_room(struct csv_scan *scan, struct csv_scratch *scratch, size_t more, struct error *err)
{
    struct csv_index *index = &scan->index;
    size_t need = index->count + more + CSV_INDEX_SLACK + 1;

    if (need <= scratch->room) {
        index->place = scratch->place;
        return 0;
    }
    size_t room = need + need / 2;
    uint64_t bytes = (room - scratch->room) * sizeof(*scratch->place);
    int rc = budget_take(scan->env->budget, bytes, "the index of a CSV file", err);

    if (rc < 0) {
        return rc;
    }
    scan->taken += bytes;
    uint32_t *place = realloc(scratch->place, room * sizeof(*place));

    if (place == NULL) {
        return error_no_memory(err);
    }
    scratch->place = place;
    scratch->room = room;
    index->place = place;
    return 0;
}

static uint32_t held_end(const struct csv_scan *scan)
{
    return (uint32_t)(scan->reader.end - scan->reader.base);
}

static int fill(struct csv_scan *scan, struct error *err)
{
    struct csv_index *index = &scan->index;
    uint32_t moved;
    int rc = kernel_cancelled(scan->env, err);

    if (rc == 0) {
        rc = csv_reader_fill(&scan->reader, scan->reader.base + index->place[0] + 1, &moved, err);
    }
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i <= index->count; i++) {
        index->place[i] += moved;
    }
    scan->indexed += moved;
    return 0;
}

// The text ended.  Makes the last line whole when it has no line break.
static int end_text(struct csv_scan *scan, struct error *err)
{
    uint32_t start = scan->index.place[0] + 1;

    if (scan->index.state == CSV_QUOTED) {
        return csv_scan_fail(scan, start, err,
                             "the text ends inside a quoted field that begins in this line");
    }
    if (start == scan->indexed) {
        return 0;
    }
    csv_index_end(scan->reader.base, scan->indexed, &scan->index);
    scan->indexed++;
    return csv_lines_push(scan, err);
}

// Goes on from the last byte of the range to the end of the line that it is in, and tells whether the border
// is inside quotes.
static int finish_line(struct csv_scan *scan, struct csv_scratch *scratch, uint32_t border, struct error *err)
{
    const struct csv_dialect *d = &scan->dialect;
    struct csv_index *index = &scan->index;
    bool whole = true;

    for (;;) {
        uint32_t end = held_end(scan);
        bool ended = scan->reader.ended;
        size_t breaks = index->count;

        // A CR that is the last byte held may be one of a pair.
        if (!ended && end > scan->indexed && scan->reader.base[end - 1] == '\r') {
            end--;
        }
        int rc = make_room(scan, scratch, end - scan->indexed, err);

        if (rc < 0) {
            return rc;
        }
        scan->indexed = csv_index_line(d, scan->reader.base, scan->indexed, end, index);
        if (index->count > breaks) {
            uint8_t last = scan->reader.base[index->place[index->count]];

            if ((last == '\n' || last == '\r') && index->place[index->count] + 1 == scan->indexed) {
                break;
            }
        }
        if (ended) {
            whole = false;
            break;
        }
        uint32_t before = index->place[0];

        rc = fill(scan, err);
        if (rc < 0) {
            return rc;
        }
        border += index->place[0] - before;
    }
    enum csv_state state = CSV_LINE;
    uint32_t at = index->place[0] + 1;

    for (; at < scan->indexed && (at < border || !csv_is_border(d, scan->reader.base[at - 1])); at++) {
        state = csv_next(d, state, scan->reader.base[at]);
    }
    scan->env->note.ends_quoted = state == CSV_QUOTED;
    scan->env->note.has_ends_quoted = state == CSV_QUOTED;
    return whole ? csv_lines_push(scan, err) : end_text(scan, err);
}

static int scan_lines(struct csv_scan *scan, struct csv_scratch *scratch, struct error *err)
{
    const struct csv_range *range = &scan->range;
    struct csv_index *index = &scan->index;
    csv_index_fn *index_fn = scan->dialect.has_comment ? csv_index_bytes : scan->isa->index;
    int rc = 0;

    while (rc == 0 && !scan->stopped && !scan->misguided) {
        uint64_t end_offset = scan->reader.offset + (uint64_t)(scan->reader.end - scan->reader.data);
        uint32_t end = held_end(scan);
        uint32_t to = end;
        bool meets_border = !range->last && end_offset >= range->end;

        if (!scan->reader.ended && end > scan->indexed && scan->reader.base[end - 1] == '\r') {
            to--;
        }
        if (meets_border) {
            // The line of the range's last byte is the last line.
            uint32_t last = end - (uint32_t)(end_offset - (range->end - 1));

            if (scan->indexed >= last) {
                return finish_line(scan, scratch, last + 1, err);
            }
            to = last < to ? last : to;
        }
        if (to - scan->indexed > PIECE) {
            to = scan->indexed + PIECE;
        }
        if (to > scan->indexed) {
            rc = make_room(scan, scratch, to - scan->indexed, err);
            if (rc == 0) {
                index_fn(&scan->dialect, scan->reader.base, scan->indexed, to, index);
                scan->indexed = to;
                rc = csv_lines_push(scan, err);
            }
        } else if (scan->reader.ended) {
            return end_text(scan, err);
        } else {
            rc = fill(scan, err);
        }
    }
    return rc;
}

static int start_state(struct csv_scan *scan, enum csv_state *state, struct error *err)
{
    bool in_comment = false;
    int rc = 0;

    *state = scan->range.starts_quoted ? CSV_QUOTED : CSV_LINE;
    if (!scan->range.starts_quoted) {
        rc = csv_range_in_comment(&scan->range, &scan->dialect, &scan->file, scan->env->budget, &in_comment,
                                  err);
    }
    if (in_comment) {
        *state = CSV_COMMENT;
    }
    return rc;
}

static int scan_range(struct csv_scan *scan, struct csv_scratch *scratch, struct error *err)
{
    const struct csv_range *range = &scan->range;
    struct kernel_env *env = scan->env;
    enum csv_state state;
    struct csv_walk walk;
    int rc = start_state(scan, &state, err);

    if (rc == 0) {
        rc = csv_reader_open(&scan->reader, &scan->file, range->file->codec, range->file->name,
                             range->first ? range->start : range->start - 1, range->end, env->budget,
                             &scratch->block, err);
    }
    if (rc == 0) {
        rc = csv_range_walk(range, &scan->dialect, &scan->reader, state, false, &walk, err);
    }
    if (rc < 0) {
        return rc;
    }
    env->source_bytes +=
        range->file->codec == DRAY__CODEC__PLAIN ? range->end - range->start : scan->file.size;
    if (!walk.found) {
        if (range->last && walk.end_state == CSV_QUOTED) {
            // Its first quote is in an earlier block, which has the line and the error.
            return 0;
        }
        env->note.ends_quoted = walk.end_state == CSV_QUOTED;
        env->note.has_ends_quoted = env->note.ends_quoted;
        return 0;
    }
    rc = make_room(scan, scratch, 0, err);
    if (rc < 0) {
        return rc;
    }
    csv_index_init(&scan->index, range->file->fields);
    scan->indexed = (uint32_t)(walk.line - scan->reader.base);
    scan->index.place[0] = scan->indexed - 1;
    rc = scan_lines(scan, scratch, err);
    if (rc == 0 && scan->discovering && !scan->misguided) {
        rc = csv_columns_note(scan, err);
    }
    return rc;
}

static int run(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
               struct kernel_env *env, struct arena *arena, struct stage *next, struct error *err)
{
    const Dray__ScanCsv *op = step->scan_csv;
    struct kernel_scratch *kept = env->scratch;
    struct csv_scratch *scratch = kept != NULL && kept->csv != NULL ? kept->csv : calloc(1, sizeof(*scratch));
    struct csv_scan scan = {.env = env, .next = next, .columns = (uint32_t)op->n_column, .file = {.fd = -1}};
    int rc;

    (void)inputs;
    if (scratch == NULL) {
        return error_no_memory(err);
    }
    if (kept != NULL) {
        kept->csv = scratch;
    }
    scan.isa = csv_isa_choose();
    // What the thread keeps counts while it works.
    rc = budget_take(env->budget, scratch->room * sizeof(*scratch->place), "the index of a CSV file", err);
    if (rc == 0) {
        scan.taken = scratch->room * sizeof(*scratch->place);
        rc = csv_range_find(op, index, &scan.range, err);
    }
    if (rc == 0) {
        rc = csv_dialect_init(&scan.dialect, op->dialect, err);
    }
    if (rc == 0) {
        rc = csv_missing_init(&scan.missing, op->dialect, arena, err);
    }
    if (rc == 0) {
        rc = csv_file_reopen(scan.range.file, env->data_dir, arena, &scan.file, err);
    }
    if (rc == 0) {
        rc = csv_columns_init(&scan, op, arena, err);
    }
    if (rc == 0) {
        rc = scan_range(&scan, scratch, err);
    }
    csv_columns_fini(&scan);
    csv_reader_close(&scan.reader);
    csv_file_close(&scan.file);
    if (kept == NULL) {
        csv_scratch_destroy(scratch);
    }
    return rc;
}

const struct source_class csv_scan_source = {"scan_csv", schema, run};
