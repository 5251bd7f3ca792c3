#include "client/plan/read_csv.h"

#include <errno.h>
#include <string.h>

#include "client/plan/csv_option.h"
#include "client/plan/expr.h"

// ---- files -------------------------------------------------------------------------------

static bool is_glob(const char *path)
{
    return strpbrk(path, "*?[") != NULL;
}

static int check_path(struct reader *r, const struct value *v)
{
    if (v->kind != VALUE_STRING) {
        return bind_fail(r->b, v->at, "a path is a text, this is %s", value_words(v));
    }
    if (v->size == 0 || strlen(v->text) != v->size) {
        return bind_fail(r->b, v->at, "this is no path");
    }
    if (strstr(v->text, "://") != NULL && strncmp(v->text, "file://", 7) != 0) {
        return bind_fail(
            r->b, v->at,
            "files from the network are not there yet: a path of this machine or of the workers");
    }
    return 0;
}

static Dray__ProbeCsv *make_probe(struct reader *r, const char *path)
{
    struct arena *arena = r->b->arena;
    Dray__ProbeCsv *probe = arena_alloc(arena, sizeof(*probe));

    if (probe == NULL) {
        return NULL;
    }
    dray__probe_csv__init(probe);
    if (strncmp(path, "file://", 7) == 0) {
        path += 7;
    }
    probe->dialect = r->dialect;
    probe->pattern = arena_strdup(arena, path);
    probe->path = path[0] == '/' || r->b->host->working_directory == NULL
                      ? probe->pattern
                      : arena_printf(arena, "%s/%s", r->b->host->working_directory, path);
    probe->has_glob = true;
    probe->glob = is_glob(path);
    return probe->pattern == NULL || probe->path == NULL ? NULL : probe;
}

// The files behind the paths: asked once, remembered for binding anew.
static int find_files(struct reader *r, Dray__CsvProbeResult ***out, uint32_t *count)
{
    struct binder *b = r->b;
    struct learnt *learnt = b->learnt;
    const struct value *path = r->call->arg[PATH];
    bool many = path->kind == VALUE_LIST || path->kind == VALUE_TUPLE;
    uint32_t paths = many ? path->items : 1;
    uint32_t ordinal = b->sources++;
    int rc = 0;

    *count = paths;
    r->source->ordinal = ordinal;
    for (uint32_t i = 0; i < paths && rc == 0; i++) {
        rc = check_path(r, many ? path->item[i] : path);
    }
    if (rc < 0) {
        return rc;
    }
    if (paths == 0) {
        return bind_fail(b, path->at, "an empty list: at least one path");
    }
    r->source->label =
        many ? arena_printf(b->arena, "%s and %u more", path->item[0]->text, paths - 1) : path->text;
    if (many && paths == 1) {
        r->source->label = path->item[0]->text;
    }
    if (ordinal < learnt->probes) {
        if (paths != learnt->paths[ordinal]) { // of a note that was made up
            return bind_fail(b, path->at, "%u paths, of which something is known of %u", paths,
                             learnt->paths[ordinal]);
        }
        *out = learnt->probe[ordinal];
        return 0;
    }
    Dray__ProbeCsv **probe = arena_array(b->arena, paths, sizeof(*probe));
    Dray__CsvProbeResult **result = arena_zalloc(learnt->arena, paths * sizeof(*result));
    Dray__CsvProbeResult ***all = arena_array(learnt->arena, (size_t)ordinal + 1, sizeof(*all));
    uint32_t *counts = arena_array(learnt->arena, (size_t)ordinal + 1, sizeof(*counts));

    if (probe == NULL || result == NULL || all == NULL || counts == NULL || r->source->label == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < paths; i++) {
        probe[i] = make_probe(r, many ? path->item[i]->text : path->text);
        if (probe[i] == NULL) {
            return bind_no_memory(b);
        }
    }
    rc = b->host->probe(b->host->context, (const Dray__ProbeCsv *const *)probe, paths, learnt->arena, result,
                        b->err);
    if (rc < 0) {
        // The host's words name the file; the caret shows where it was asked for.
        struct error why = {0};

        if (b->err != NULL && rc != -ENOMEM) {
            why = *b->err;
            bind_fail(b, path->at, "%s", why.text);
            b->err->code = why.code;
        }
        return rc;
    }
    if (ordinal > 0) {
        memcpy(all, learnt->probe, ordinal * sizeof(*all));
        memcpy(counts, learnt->paths, ordinal * sizeof(*counts));
    }
    all[ordinal] = result;
    counts[ordinal] = paths;
    learnt->probe = all;
    learnt->paths = counts;
    learnt->probes = ordinal + 1;
    *out = result;
    return 0;
}

// ---- columns --------------------------------------------------------------------------------

static const char *file_column(const struct reader *r, const struct csv_file *file, uint32_t field)
{
    const char *name = file->probe->column[field];

    if (r->given_names) {
        return NULL;
    }
    return r->dialect->header ? name : arena_printf(r->b->arena, "%u", field);
}

static int collect_files(struct reader *r, Dray__CsvProbeResult *const *result, uint32_t results)
{
    struct csv_source *source = r->source;
    const struct value *path = r->call->arg[PATH];
    size_t total = 0;

    for (uint32_t i = 0; i < results; i++) {
        total += result[i] == NULL ? 0 : result[i]->n_file;
    }
    if (total == 0) {
        return bind_fail(r->b, path->at, "no file matches this");
    }
    if (total > UINT32_MAX / 2) {
        return bind_fail(r->b, path->at, "too many files");
    }
    source->file = arena_array(r->b->arena, total, sizeof(*source->file));
    if (source->file == NULL) {
        return bind_no_memory(r->b);
    }
    for (uint32_t i = 0; i < results; i++) {
        for (size_t k = 0; result[i] != NULL && k < result[i]->n_file; k++) {
            const Dray__CsvProbeFile *file = result[i]->file[k];

            if (file->n_column != file->n_type || file->n_column > TABLE_COLUMNS_MAX) {
                return bind_fail(r->b, path->at, "the answer about %s makes no sense: %zu columns, %zu types",
                                 file->name, file->n_column, file->n_type);
            }
            source->file[source->files++] = (struct csv_file){file, (uint32_t)file->n_column, 0, 0};
        }
    }
    if (source->files > 1 && results == 1) {
        source->label = arena_printf(r->b->arena, "%s, %u files", source->label, source->files);
    }
    return source->label == NULL ? bind_no_memory(r->b) : 0;
}

static int given_name(struct reader *r, uint32_t field, const char **out)
{
    const struct value *names = r->call->arg[NAMES];
    bool many = names->kind == VALUE_LIST || names->kind == VALUE_TUPLE;

    return bind_name(r->b, many ? names->item[field] : names, out);
}

// What the probe says of a field; ANY for a file without rows.
static enum type file_type(const struct csv_file *file, uint32_t field)
{
    enum type type = (enum type)file->probe->type[field];

    if (file->probe->codec == DRAY__CODEC__PLAIN && file->probe->size <= file->probe->data_start) {
        return TYPE_ANY;
    }
    return type < TYPE_BOOL || type >= TYPE_DICT ? TYPE_STRING : type;
}

// The table's columns are those of the first file, by its order.
static int name_columns(struct reader *r)
{
    struct csv_source *source = r->source;
    const struct value *names = r->call->arg[NAMES];
    const struct csv_file *first = &source->file[0];
    bool many = names != NULL && (names->kind == VALUE_LIST || names->kind == VALUE_TUPLE);
    uint32_t given = names == NULL ? 0 : many ? names->items : 1;

    if (first->fields == 0) {
        return bind_fail(r->b, r->call->arg[PATH]->at, "%s is empty: there are no columns",
                         first->probe->name);
    }
    if (names != NULL && given != first->fields) {
        return bind_fail(r->b, names->at, "%u names, but the lines of %s have %u fields", given,
                         first->probe->name, first->fields);
    }
    source->columns = names != NULL ? given : first->fields;
    source->column = arena_zalloc(r->b->arena, (source->columns + (size_t)1) * sizeof(*source->column));
    if (source->column == NULL) {
        return bind_no_memory(r->b);
    }
    for (uint32_t c = 0; c < source->columns; c++) {
        struct csv_column *column = &source->column[c];
        int rc = 0;

        if (names != NULL) {
            rc = given_name(r, c, &column->name);
        } else {
            column->name = file_column(r, first, c);
        }
        column->field = arena_array(r->b->arena, source->files, sizeof(*column->field));
        if (rc == 0 && (column->name == NULL || column->field == NULL)) {
            rc = bind_no_memory(r->b);
        }
        for (uint32_t k = 0; rc == 0 && names != NULL && k < c; k++) {
            if (strcmp(source->column[k].name, column->name) == 0) {
                rc = bind_fail(r->b, names->at, "'%s' is named twice", column->name);
            }
        }
        if (rc < 0) {
            return rc;
        }
        column->field[0] = c;
        column->type = file_type(first, c);
    }
    return 0;
}

static int keep_columns(struct reader *r)
{
    struct csv_source *source = r->source;
    const struct value *use = r->call->arg[USECOLS];
    bool many = use != NULL && (use->kind == VALUE_LIST || use->kind == VALUE_TUPLE);
    bool *keep = arena_zalloc(r->b->arena, source->columns);
    uint32_t kept = 0;

    if (keep == NULL) {
        return bind_no_memory(r->b);
    }
    if (use == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < (many ? use->items : 1); i++) {
        const struct value *one = many ? use->item[i] : use;
        const struct field none = {0};
        struct field *field = arena_array(r->b->arena, source->columns, sizeof(*field));
        struct node node = {.columns = source->columns, .field = field};
        uint32_t column;
        int rc;

        if (one->kind == VALUE_INT && one->i >= 0 && one->i < source->columns) {
            keep[one->i] = true;
            continue;
        }
        if (one->kind == VALUE_INT) {
            return bind_fail(r->b, one->at, "there are %u columns, counted from 0", source->columns);
        }
        if (field == NULL) {
            return bind_no_memory(r->b);
        }
        for (uint32_t c = 0; c < source->columns; c++) {
            field[c] = none;
            field[c].name = source->column[c].name;
        }
        if (one->kind != VALUE_STRING) {
            return bind_fail(r->b, one->at, "'usecols' takes names or numbers of columns, this is %s",
                             value_words(one));
        }
        rc = bind_column(r->b, &node, 0, one->text, one->at, &column);
        if (rc < 0) {
            return rc;
        }
        keep[column] = true;
    }
    for (uint32_t c = 0; c < source->columns; c++) {
        if (keep[c]) {
            source->column[kept++] = source->column[c];
        }
    }
    source->columns = kept;
    return kept > 0 ? 0 : bind_fail(r->b, use->at, "an empty list: at least one column");
}

// Matches the columns of a further file by name, or by place where there are no names.
static int match_file(struct reader *r, uint32_t index)
{
    struct csv_source *source = r->source;
    struct place at = r->call->arg[PATH]->at;
    const struct csv_file *file = &source->file[index];
    const struct csv_file *first = &source->file[0];
    bool by_name = r->dialect->header && !r->given_names;

    if (!by_name && file->fields != first->fields) {
        return bind_fail(r->b, at, "the lines of %s have %u fields, those of %s %u", file->probe->name,
                         file->fields, first->probe->name, first->fields);
    }
    if (by_name && r->call->arg[USECOLS] == NULL && file->fields > source->columns) {
        for (uint32_t f = 0; f < file->fields; f++) {
            uint32_t c = 0;

            while (c < source->columns && strcmp(source->column[c].name, file->probe->column[f]) != 0) {
                c++;
            }
            if (c == source->columns) {
                return bind_fail(r->b, at,
                                 "%s has a column '%s' that %s has not: usecols=[...] chooses those to read",
                                 file->probe->name, file->probe->column[f], first->probe->name);
            }
        }
    }
    for (uint32_t c = 0; c < source->columns; c++) {
        struct csv_column *column = &source->column[c];
        uint32_t f = column->field[0];

        if (by_name) {
            // Mostly at the same place.
            if (f >= file->fields || strcmp(file->probe->column[f], column->name) != 0) {
                f = 0;
                while (f < file->fields && strcmp(file->probe->column[f], column->name) != 0) {
                    f++;
                }
            }
            if (f == file->fields) {
                return bind_fail(r->b, at, "%s has no column '%s', which %s has", file->probe->name,
                                 column->name, first->probe->name);
            }
        }
        column->field[index] = f;
        column->type = type_join(column->type, file_type(file, f));
    }
    return 0;
}

static int force_type(struct reader *r, struct csv_column *column, const struct value *v)
{
    enum type type = TYPE_STRING;

    if (v->kind == VALUE_TYPE) {
        type = v->type;
    } else if (v->kind != VALUE_STRING || !bind_type_name(v->text, &type)) {
        return bind_fail(r->b, v->at,
                         "a type is one of \"int64\", \"float64\", \"str\", \"bool\", \"category\"");
    }
    column->forced = true;
    column->category = type == TYPE_DICT;
    column->type = type == TYPE_DICT ? TYPE_STRING : type;
    return 0;
}

static int force_types(struct reader *r)
{
    const struct value *dtype = r->call->arg[DTYPE];
    struct csv_source *source = r->source;
    int rc = 0;

    if (dtype == NULL || dtype->kind == VALUE_NONE) {
        return 0;
    }
    if (dtype->kind != VALUE_DICT) {
        for (uint32_t c = 0; c < source->columns && rc == 0; c++) {
            rc = force_type(r, &source->column[c], dtype);
        }
        return rc;
    }
    for (uint32_t i = 0; i < dtype->items && rc == 0; i += 2) {
        const char *name;
        bool found = false;

        rc = bind_name(r->b, dtype->item[i], &name);
        for (uint32_t c = 0; c < source->columns && rc == 0; c++) {
            if (strcmp(source->column[c].name, name) == 0) {
                found = true;
                rc = force_type(r, &source->column[c], dtype->item[i + 1]);
            }
        }
        if (rc == 0 && !found) {
            rc = bind_fail(r->b, dtype->item[i]->at, "there is no column '%s' to give a type", name);
        }
    }
    return rc;
}

// Types only go up: what earlier rounds found out.
static void apply_learnt(struct reader *r)
{
    const struct learnt *learnt = r->b->learnt;

    for (uint32_t i = 0; i < learnt->types; i++) {
        const struct learnt_type *t = &learnt->type[i];

        for (uint32_t c = 0; c < r->source->columns && t->ordinal == r->source->ordinal; c++) {
            if (strcmp(r->source->column[c].name, t->column) == 0 && !r->source->column[c].forced) {
                r->source->column[c].type = type_join(r->source->column[c].type, t->type);
            }
        }
    }
}

static int limit_rows(struct reader *r, const struct node *scan, const struct value **out)
{
    const struct value *v = r->call->arg[NROWS];

    if (v == NULL || v->kind == VALUE_NONE) {
        return bind_frame(r->b, scan, 0, r->call->at, out);
    }
    if (v->kind != VALUE_INT || v->i < 0) {
        return bind_fail(r->b, v->at, "'nrows' takes a number of rows");
    }
    return bind_frame(r->b, scan == NULL ? NULL : node_head(r->b->arena, scan, (uint64_t)v->i), 0,
                      r->call->at, out);
}

int read_csv(struct binder *b, const struct call *call, const struct value **out)
{
    struct reader r = {.b = b, .call = call};
    Dray__CsvProbeResult **result;
    uint32_t results;
    uint32_t *all;
    int rc;

    r.dialect = arena_alloc(b->arena, sizeof(*r.dialect));
    r.source = arena_zalloc(b->arena, sizeof(*r.source));
    if (r.dialect == NULL || r.source == NULL) {
        return bind_no_memory(b);
    }
    dray__csv_dialect__init(r.dialect);
    r.source->at = call->at;
    r.source->dialect = r.dialect;
    rc = csv_option_read(&r);
    if (rc == 0) {
        rc = find_files(&r, &result, &results);
    }
    if (rc == 0) {
        rc = collect_files(&r, result, results);
    }
    if (rc == 0) {
        rc = name_columns(&r);
    }
    if (rc == 0) {
        rc = keep_columns(&r);
    }
    for (uint32_t i = 1; rc == 0 && i < r.source->files; i++) {
        rc = match_file(&r, i);
    }
    if (rc == 0) {
        rc = force_types(&r);
    }
    if (rc < 0) {
        return rc;
    }
    apply_learnt(&r);
    rc = csv_cut(r.source, b->err);
    if (rc < 0) {
        return bind_fail(b, call->at, "this makes more than %u blocks: blocksize=... takes a larger size",
                         CSV_TASKS_MAX);
    }
    all = arena_array(b->arena, r.source->columns, sizeof(*all));
    if (all == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t c = 0; c < r.source->columns; c++) {
        all[c] = c;
    }
    return limit_rows(&r, node_scan(b->arena, r.source, all, r.source->columns), out);
}
