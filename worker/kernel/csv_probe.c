// Looks at files before they are scanned: which there are, how they begin, and what types their columns seem
// to have.
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/kernel/csv_file.h"
#include "worker/kernel/csv_names.h"
#include "worker/kernel/csv_reader.h"
#include "worker/kernel/csv_value.h"
#include "worker/kernel/step.h"

enum {
    HEADER_MAX = 64 << 20, // bytes in which the header must end
    FURTHER = 8,           // samples behind the head
    FURTHER_BYTES = 64 << 10,
    FILES_MAX = 1 << 20,
};

struct probe {
    const Dray__ProbeCsv *op;
    struct kernel_env *env;
    struct arena *arena;    // the result
    struct arena temporary; // reset for each record
    struct csv_dialect dialect;
    struct csv_missing missing;
};

struct types {
    struct csv_seen *seen;
    size_t fields;
};

static void see_record(struct probe *p, struct types *types, const struct csv_record *record)
{
    for (size_t i = 0; i < record->fields; i++) {
        csv_seen_add(&types->seen[i], &p->missing, (const uint8_t *)record->field[i].data,
                     record->field[i].size);
    }
}

// All whole records from `at` on.  1: a line has another number of fields.
static int see_records(struct probe *p, struct types *types, const uint8_t *text, size_t at, size_t size,
                       bool whole, bool check_only, struct error *err)
{
    struct csv_record record;

    while (at < size) {
        arena_reset(&p->temporary);
        int rc = csv_record_read(&p->dialect, text, at, size, whole, &p->temporary, &record, err);

        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
        if (record.fields != 0 && record.fields != types->fields) {
            return 1;
        }
        if (!check_only) {
            see_record(p, types, &record);
        }
        at = record.next;
    }
    return 0;
}

// Where a line starts for sure: behind the place where all states that the text may begin in have become one.
// `size` when there is none.  text[0] is the byte before the text.
static size_t find_line(const struct csv_dialect *d, const uint8_t *text, size_t size)
{
    size_t at = 1;

    while (at < size && !csv_is_border(d, text[at - 1])) {
        at++;
    }
    // Text without a single quote is taken to lie outside of them; the caller looks whether its lines fit.
    bool quoted = d->has_quote && memchr(text, d->quote, size) != NULL;
    enum csv_state outside = csv_state_after(d, text[at - 1]);
    enum csv_state inside = quoted ? CSV_QUOTED : outside;
    enum csv_state comment = d->has_comment ? CSV_COMMENT : outside;

    for (; at < size; at++) {
        if (outside == CSV_LINE && inside == CSV_LINE && comment == CSV_LINE) {
            return at;
        }
        outside = csv_next(d, outside, text[at]);
        inside = csv_next(d, inside, text[at]);
        comment = csv_next(d, comment, text[at]);
    }
    return size;
}

// A sample from the middle of the file.  A type too narrow costs another round, one too wide is wrong for
// ever: what is in doubt is left out.
static int see_middle(struct probe *p, struct types *types, const uint8_t *text, size_t size, bool whole,
                      struct error *err)
{
    size_t at = find_line(&p->dialect, text, size);
    int rc = see_records(p, types, text, at, size, whole, true, err);

    if (rc == 0) {
        rc = see_records(p, types, text, at, size, whole, false, err);
    }
    return rc < 0 ? rc : 0;
}

static int see_further(struct probe *p, struct types *types, const struct csv_file *file, const char *name,
                       uint64_t from, struct error *err)
{
    if (file->size <= from + FURTHER_BYTES) {
        return 0;
    }
    int rc = budget_take(p->env->budget, FURTHER_BYTES, "a sample of a CSV file", err);

    if (rc < 0) {
        return rc;
    }
    uint8_t *text = malloc(FURTHER_BYTES);

    rc = text != NULL ? 0 : error_no_memory(err);
    // Evenly spread; the last one is the end of the file.
    for (uint64_t i = 1; i <= FURTHER && rc == 0; i++) {
        uint64_t at = from + (file->size - FURTHER_BYTES - from) / FURTHER * i;

        if (i == FURTHER) {
            at = file->size - FURTHER_BYTES;
        }
        ssize_t n = pread(file->fd, text, FURTHER_BYTES, (off_t)at);

        if (n < 0) {
            rc = csv_file_error(errno, name, err);
        } else if (n > 1) {
            rc = see_middle(p, types, text, (size_t)n, at + (uint64_t)n == file->size, err);
        }
    }
    free(text);
    budget_give(p->env->budget, FURTHER_BYTES);
    return rc;
}

// Behind a byte order mark and the lines to skip; `size` when there is nothing left.
static size_t skip_lines(const uint8_t *text, size_t size, uint64_t lines)
{
    size_t at = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    while (lines > 0 && at < size) {
        if (text[at] == '\n' || text[at] == '\r') {
            at += text[at] == '\r' && at + 1 < size && text[at + 1] == '\n';
            lines--;
        }
        at++;
    }
    return at;
}

// The first record that is not blank: where it starts and ends.  1: more text is needed.
static int first_record(struct probe *p, const uint8_t *text, size_t size, bool whole, struct csv_record *out,
                        size_t *start, struct error *err)
{
    size_t at = skip_lines(text, size, p->op->dialect->skip_lines);

    *out = (struct csv_record){0};
    *start = at;
    while (at < size) {
        arena_reset(&p->temporary);
        int rc = csv_record_read(&p->dialect, text, at, size, whole, &p->temporary, out, err);

        if (rc != 0 || out->fields != 0) {
            return rc;
        }
        at = out->next;
    }
    return whole ? 0 : 1;
}

static int hold(struct csv_reader *reader, uint64_t bytes, struct error *err)
{
    uint32_t moved;
    int rc = 0;

    while (rc == 0 && !reader->ended && (uint64_t)(reader->end - reader->data) < bytes) {
        rc = csv_reader_fill(reader, reader->data, &moved, err);
    }
    return rc;
}

static int see_head(struct probe *p, struct csv_reader *reader, const char *name, struct types *types,
                    struct csv_record *first, size_t *data_start, struct error *err)
{
    uint64_t want = p->op->sample_bytes;
    size_t start = 0;
    int rc;

    for (;;) {
        rc = hold(reader, want, err);
        if (rc < 0) {
            return rc;
        }
        rc = first_record(p, reader->data, (size_t)(reader->end - reader->data), reader->ended, first, &start,
                          err);
        if (rc <= 0) {
            break;
        }
        if (reader->ended) {
            return error_set(err, EBADMSG, "%s: the text ends inside a quoted field of the first line", name);
        }
        if ((uint64_t)(reader->end - reader->data) > HEADER_MAX) {
            return error_set(err, EBADMSG,
                             "%s: the first line does not end within %d bytes; is a quote left open?", name,
                             HEADER_MAX);
        }
        want = (uint64_t)(reader->end - reader->data) * 2;
    }
    if (rc < 0) {
        return rc;
    }
    if (first->fields == 0) {
        return error_set(err, ENODATA, "%s: no columns to parse from the file: it is empty", name);
    }
    if (first->fields > TABLE_COLUMNS_MAX) {
        return error_set(err, EINVAL, "%s: the first line has %zu fields; at most %d are possible", name,
                         first->fields, TABLE_COLUMNS_MAX);
    }
    *data_start = p->op->dialect->header ? first->next : start;
    types->fields = first->fields;
    types->seen = arena_zalloc(p->arena, types->fields * sizeof(*types->seen));
    return types->seen != NULL ? 0 : error_no_memory(err);
}

static int probe_codec(const struct csv_file *file, const char *name, Dray__Codec *codec, struct error *err)
{
    uint8_t magic[4] = {0};

    if (pread(file->fd, magic, sizeof(magic), 0) < 0) {
        return csv_file_error(errno, name, err);
    }
    *codec = DRAY__CODEC__PLAIN;
    if (magic[0] == 0x1f && magic[1] == 0x8b) {
        *codec = DRAY__CODEC__GZIP;
    } else if (memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0) {
        *codec = DRAY__CODEC__ZSTD;
    }
    return 0;
}

static int fill_columns(struct probe *p, const struct csv_record *first, Dray__CsvProbeFile *out,
                        struct error *err)
{
    out->n_column = out->n_type = first->fields;
    out->column = arena_array(p->arena, first->fields, sizeof(*out->column));
    out->type = arena_array(p->arena, first->fields, sizeof(*out->type));
    if (out->column == NULL || out->type == NULL) {
        return error_no_memory(err);
    }
    if (p->op->dialect->header) {
        return csv_names_make(first, p->arena, out->column, err);
    }
    for (size_t i = 0; i < first->fields; i++) {
        out->column[i] = (char *)"";
    }
    return 0;
}

static int probe_open(struct probe *p, const struct csv_file *file, Dray__CsvProbeFile *out,
                      struct error *err)
{
    struct csv_block block = {0};
    struct csv_reader reader = {.fd = -1};
    struct csv_record first;
    struct types types = {0};
    size_t data_start = 0;
    int rc = probe_codec(file, out->name, &out->codec, err);

    if (rc == 0) {
        rc = csv_reader_open(&reader, file, out->codec, out->name, 0,
                             p->op->sample_bytes < file->size ? p->op->sample_bytes : file->size,
                             p->env->budget, &block, err);
    }
    if (rc == 0) {
        rc = see_head(p, &reader, out->name, &types, &first, &data_start, err);
    }
    if (rc == 0) {
        rc = fill_columns(p, &first, out, err);
    }
    if (rc == 0) {
        rc = see_records(p, &types, reader.data, data_start, (size_t)(reader.end - reader.data), reader.ended,
                         false, err);
    }
    if (rc >= 0) {
        out->data_start = data_start;
        rc = out->codec == DRAY__CODEC__PLAIN
                 ? see_further(p, &types, file, out->name, (uint64_t)(reader.end - reader.data), err)
                 : 0;
    }
    for (size_t i = 0; rc == 0 && i < types.fields; i++) {
        out->type[i] = (Dray__Type)csv_seen_type(&types.seen[i]);
    }
    csv_reader_close(&reader);
    csv_block_clear(&block);
    return rc;
}

static int probe_file(struct probe *p, const char *path, const char *name, Dray__CsvProbeFile **result,
                      struct error *err)
{
    struct csv_file file = {.fd = -1};
    Dray__CsvProbeFile *out = arena_alloc(p->arena, sizeof(*out));
    int rc;

    if (out == NULL) {
        return error_no_memory(err);
    }
    rc = kernel_cancelled(p->env, err);
    if (rc < 0) {
        return rc;
    }
    dray__csv_probe_file__init(out);
    out->path = arena_strdup(p->arena, path);
    out->name = arena_strdup(p->arena, name);
    if (out->path == NULL || out->name == NULL) {
        return error_no_memory(err);
    }
    rc = csv_file_open(path, name, p->env->data_dir, p->arena, &file, err);
    if (rc == 0) {
        out->size = file.size;
        out->mtime_ns = file.mtime_ns;
        rc = probe_open(p, &file, out, err);
    }
    csv_file_close(&file);
    *result = out;
    return rc;
}

// ---- patterns ----------------------------------------------------------------------

struct found {
    const char *path; // as the client sees it, or as this worker does below a data directory
    const char *name;
};

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->path, ((const struct found *)b)->path);
}

struct matches {
    struct found *found;
    size_t count, room;
};

static int add_match(struct probe *p, struct matches *m, const char *path, const char *name,
                     struct error *err)
{
    if (m->count == FILES_MAX) {
        return error_set(err, E2BIG, "%s: more than %d files match", p->op->pattern, FILES_MAX);
    }
    if (m->count == m->room) {
        size_t room = m->room == 0 ? 64 : m->room * 2;
        struct found *found = arena_array(p->arena, room, sizeof(*found));

        if (found == NULL) {
            return error_no_memory(err);
        }
        if (m->count > 0) {
            memcpy(found, m->found, m->count * sizeof(*found));
        }
        m->found = found;
        m->room = room;
    }
    struct found f = {arena_strdup(p->arena, path), arena_strdup(p->arena, name)};

    if (f.path == NULL || f.name == NULL) {
        return error_no_memory(err);
    }
    m->found[m->count++] = f;
    return 0;
}

// Matches of one pattern; the name of each is its path without `prefix` bytes.
static int expand(struct probe *p, const char *pattern, size_t prefix, struct matches *m, struct error *err)
{
    glob_t g = {0};
    int code = glob(pattern, GLOB_NOSORT | GLOB_MARK, NULL, &g);
    int rc = 0;

    if (code == GLOB_NOSPACE) {
        rc = error_no_memory(err);
    }
    for (size_t i = 0; code == 0 && rc == 0 && i < g.gl_pathc; i++) {
        const char *path = g.gl_pathv[i];
        size_t size = strlen(path);

        if (size > prefix && path[size - 1] != '/') {
            rc = add_match(p, m, path, path + prefix, err);
        }
    }
    globfree(&g);
    // A file whose name merely looks like a pattern.
    if (code == GLOB_NOMATCH && access(pattern, F_OK) == 0) {
        rc = add_match(p, m, pattern, pattern + prefix, err);
    }
    return rc;
}

static int find_files(struct probe *p, struct matches *m, struct error *err)
{
    const char *path = p->op->path;
    const char *pattern = p->op->pattern;
    size_t path_size = strlen(path);
    size_t pattern_size = strlen(pattern);
    // A relative pattern's matches are named relative too.
    size_t prefix = path_size > pattern_size && strcmp(path + path_size - pattern_size, pattern) == 0
                        ? path_size - pattern_size
                        : 0;
    int rc;

    if (!p->op->has_glob || !p->op->glob) {
        return add_match(p, m, path, pattern, err);
    }
    rc = expand(p, path, prefix, m, err);
    for (size_t i = 0; rc == 0 && m->count == 0 && p->env->data_dir != NULL && p->env->data_dir[i] != NULL;
         i++) {
        const char *below = arena_printf(p->arena, "%s/%s", p->env->data_dir[i], pattern);

        rc = below != NULL ? expand(p, below, strlen(below) - pattern_size, m, err) : error_no_memory(err);
    }
    if (rc == 0 && m->count == 0) {
        rc = error_set(err, ENOENT, "%s: no file matches", pattern);
    }
    if (rc == 0) {
        qsort(m->found, m->count, sizeof(*m->found), compare_found);
    }
    return rc;
}

static int make(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err)
{
    struct probe p = {.op = step->probe_csv, .env = env, .arena = arena};
    Dray__CsvProbeResult result = DRAY__CSV_PROBE_RESULT__INIT;
    struct matches m = {0};
    struct buffer *bytes = NULL;
    uint8_t *data;
    int rc;

    (void)index;
    (void)inputs;
    arena_init(&p.temporary, 0);
    rc = csv_dialect_init(&p.dialect, p.op->dialect, err);
    if (rc == 0) {
        rc = csv_missing_init(&p.missing, p.op->dialect, arena, err);
    }
    if (rc == 0) {
        rc = find_files(&p, &m, err);
    }
    if (rc == 0) {
        result.file = arena_array(arena, m.count, sizeof(*result.file));
        rc = result.file != NULL ? 0 : error_no_memory(err);
    }
    for (size_t i = 0; rc == 0 && i < m.count; i++) {
        rc = probe_file(&p, m.found[i].path, m.found[i].name, &result.file[i], err);
        result.n_file = i + 1;
    }
    if (rc < 0) {
        goto out;
    }
    bytes = buffer_create(dray__csv_probe_result__get_packed_size(&result), &data);
    if (bytes == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    dray__csv_probe_result__pack(&result, data);
    *out = partition_from_bytes(bytes);
    rc = *out != NULL ? 0 : error_no_memory(err);
out:
    arena_fini(&p.temporary);
    return rc;
}

const struct maker_class csv_probe_maker = {"probe_csv", make};
