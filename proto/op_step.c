#include "proto/op_step.h"

#include <errno.h>
#include <string.h>

#include "proto/graph.h"
#include "proto/op.pb-c.h"
#include "proto/table.h"

enum {
    NODES_MAX = 1000,
    STACK_MAX = 64,
    PATH_BYTES_MAX = 4096,
    LITERAL_BYTES_MAX = 1 << 20,
    NA_VALUES_MAX = 4096,
    SORT_KEYS_MAX = 4096,
    AGG_STATES = 4, // columns that one agg's partial state can take
};

static int check_column(const struct step_columns *columns, uint32_t column, const char *what,
                        struct error *err)
{
    uint32_t limit = columns->known ? columns->count : TABLE_COLUMNS_MAX;

    if (column >= limit) {
        return error_set(err, EBADMSG, "%s is column #%u of %u", what, column, limit);
    }
    return 0;
}

static int check_path(const char *path, const char *what, struct error *err)
{
    if (path[0] == '\0' || strlen(path) > PATH_BYTES_MAX) {
        return error_set(err, EBADMSG, "%s is empty or longer than %d bytes", what, PATH_BYTES_MAX);
    }
    return 0;
}

// ---- csv -------------------------------------------------------------------------------

static bool is_mark(uint32_t byte)
{
    return byte > 0 && byte < 256 && byte != '\n' && byte != '\r';
}

static int check_dialect(const Dray__CsvDialect *d, struct error *err)
{
    if (!is_mark(d->sep) || (d->has_quote && !is_mark(d->quote)) ||
        (d->has_comment && !is_mark(d->comment))) {
        return error_set(err, EBADMSG,
                         "separator %u, quote %u, comment %u: each must be one byte and no line end", d->sep,
                         d->quote, d->comment);
    }
    if ((d->has_quote && d->quote == d->sep) || (d->has_comment && d->comment == d->sep) ||
        (d->has_quote && d->has_comment && d->quote == d->comment)) {
        return error_set(err, EBADMSG, "two of separator, quote and comment are the same byte");
    }
    if (d->n_na_value > NA_VALUES_MAX) {
        return error_set(err, EBADMSG, "%zu spellings of a missing value", d->n_na_value);
    }
    for (size_t i = 0; i < d->n_na_value; i++) {
        if (d->na_value[i].len > PATH_BYTES_MAX) {
            return error_set(err, EBADMSG, "a spelling of a missing value has %zu bytes", d->na_value[i].len);
        }
    }
    return 0;
}

static uint64_t file_blocks(const Dray__CsvFile *file, uint64_t block_size)
{
    uint64_t bytes = file->size - file->data_start;

    if (file->codec != DRAY__CODEC__PLAIN || bytes == 0) {
        return 1;
    }
    return bytes / block_size + (bytes % block_size != 0);
}

static int check_file(const Dray__CsvFile *file, const Dray__ScanCsv *scan, struct error *err)
{
    int rc = check_path(file->path, "its path", err);

    if (rc == 0) {
        rc = check_path(file->name, "its name", err);
    }
    if (rc < 0) {
        return rc;
    }
    if (file->size > INT64_MAX || file->data_start > INT64_MAX ||
        (file->codec == DRAY__CODEC__PLAIN && file->data_start > file->size)) {
        return error_set(err, EBADMSG, "its data begin at byte %llu of %llu",
                         (unsigned long long)file->data_start, (unsigned long long)file->size);
    }
    if (file->blocks != file_blocks(file, scan->block_size)) {
        return error_set(err, EBADMSG, "it has %u blocks, not %llu of %llu bytes", file->blocks,
                         (unsigned long long)file_blocks(file, scan->block_size),
                         (unsigned long long)scan->block_size);
    }
    if (file->n_field != scan->n_column) {
        return error_set(err, EBADMSG, "%zu field numbers for %zu columns", file->n_field, scan->n_column);
    }
    for (size_t i = 0; i < file->n_field; i++) {
        if (file->field[i] >= file->fields) {
            return error_set(err, EBADMSG, "column #%zu is field %u of %u", i, file->field[i], file->fields);
        }
    }
    return 0;
}

static int check_scan(const Dray__ScanCsv *scan, struct error *err)
{
    uint64_t blocks = 0;
    int rc = check_dialect(scan->dialect, err);

    if (rc < 0) {
        return rc;
    }
    if (scan->block_size == 0 || scan->n_file == 0 || scan->n_column > TABLE_COLUMNS_MAX) {
        return error_set(err, EBADMSG, "%zu files in blocks of %llu bytes with %zu columns", scan->n_file,
                         (unsigned long long)scan->block_size, scan->n_column);
    }
    for (size_t i = 0; i < scan->n_file; i++) {
        rc = check_file(scan->file[i], scan, err);
        if (rc < 0) {
            error_prefix(err, "file %zu ('%.200s'): ", i, scan->file[i]->name);
            return rc;
        }
        blocks += scan->file[i]->blocks;
    }
    if (blocks > GRAPH_TASKS_MAX) {
        return error_set(err, EBADMSG, "%llu blocks are too many; use a larger blocksize",
                         (unsigned long long)blocks);
    }
    if (scan->n_starts_quoted > 0 && !scan->dialect->has_quote) {
        return error_set(err, EBADMSG, "blocks start inside quotes although quoting is off");
    }
    for (size_t i = 0; i < scan->n_starts_quoted; i++) {
        if (scan->starts_quoted[i] >= blocks ||
            (i > 0 && scan->starts_quoted[i] <= scan->starts_quoted[i - 1])) {
            return error_set(err, EBADMSG, "starts_quoted must ascend below %llu blocks, entry %zu is %u",
                             (unsigned long long)blocks, i, scan->starts_quoted[i]);
        }
    }
    return 0;
}

int step_check_scan_csv(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__ScanCsv *scan = step;
    int rc = check_scan(scan, err);

    if (rc == 0) {
        *columns = (struct step_columns){.known = true, .count = (uint32_t)scan->n_column};
    }
    return rc;
}

int step_check_probe_csv(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__ProbeCsv *probe = step;
    int rc = check_dialect(probe->dialect, err);

    if (rc == 0) {
        rc = check_path(probe->pattern, "its pattern", err);
    }
    if (rc == 0) {
        rc = check_path(probe->path, "its path", err);
    }
    if (rc == 0 && (probe->sample_bytes == 0 || probe->sample_bytes > (uint64_t)1 << 30)) {
        rc = error_set(err, EBADMSG, "a sample of %llu bytes", (unsigned long long)probe->sample_bytes);
    }
    columns->bytes = true;
    return rc;
}

int step_check_quote_csv(const void *step, struct step_columns *columns, struct error *err)
{
    columns->bytes = true;
    return check_scan(((const Dray__QuoteCsv *)step)->scan, err);
}

int step_check_take_inputs(const void *step, struct step_columns *columns, struct error *err)
{
    (void)step;
    (void)err;
    columns->known = false;
    return 0;
}

// ---- expressions -----------------------------------------------------------------------

static int check_literal(const Dray__Literal *literal, struct error *err)
{
    int set = (literal->has_b != 0) + (literal->has_i != 0) + (literal->has_f != 0) + (literal->has_s != 0);

    if (set > 1 || literal->s.len > LITERAL_BYTES_MAX) {
        return error_set(err, EBADMSG, "a literal has %d values and %zu bytes", set, literal->s.len);
    }
    return 0;
}

// Operands of a node; -1: unknown.
static int operands(Dray__ExprKind kind)
{
    switch (kind) {
    case DRAY__EXPR_KIND__COLUMN:
    case DRAY__EXPR_KIND__LITERAL:
        return 0;
    case DRAY__EXPR_KIND__NEG:
    case DRAY__EXPR_KIND__NOT:
    case DRAY__EXPR_KIND__ABS:
    case DRAY__EXPR_KIND__IS_NULL:
    case DRAY__EXPR_KIND__NOT_NULL:
    case DRAY__EXPR_KIND__CAST:
        return 1;
    case DRAY__EXPR_KIND__ADD:
    case DRAY__EXPR_KIND__SUB:
    case DRAY__EXPR_KIND__MUL:
    case DRAY__EXPR_KIND__DIV:
    case DRAY__EXPR_KIND__FLOORDIV:
    case DRAY__EXPR_KIND__MOD:
    case DRAY__EXPR_KIND__POW:
    case DRAY__EXPR_KIND__EQ:
    case DRAY__EXPR_KIND__NE:
    case DRAY__EXPR_KIND__LT:
    case DRAY__EXPR_KIND__LE:
    case DRAY__EXPR_KIND__GT:
    case DRAY__EXPR_KIND__GE:
    case DRAY__EXPR_KIND__AND:
    case DRAY__EXPR_KIND__OR:
    case DRAY__EXPR_KIND__XOR:
        return 2;
    case _DRAY__EXPR_KIND_IS_INT_SIZE:
        break;
    }
    return -1;
}

static int check_node(const Dray__ExprNode *node, const struct step_columns *columns, struct error *err)
{
    switch (node->kind) {
    case DRAY__EXPR_KIND__COLUMN:
        if (!node->has_column) {
            return error_set(err, EBADMSG, "a column has no number");
        }
        return check_column(columns, node->column, "an operand", err);
    case DRAY__EXPR_KIND__LITERAL:
        if (node->literal == NULL) {
            return error_set(err, EBADMSG, "a literal has no value");
        }
        return check_literal(node->literal, err);
    case DRAY__EXPR_KIND__CAST:
        return node->has_type ? 0 : error_set(err, EBADMSG, "a cast has no type");
    default:
        return 0;
    }
}

static int check_expr(const Dray__Expr *expr, const struct step_columns *columns, struct error *err)
{
    int depth = 0;

    if (expr->n_node < 1 || expr->n_node > NODES_MAX) {
        return error_set(err, EBADMSG, "an expression has %zu nodes, it can have 1 to %d", expr->n_node,
                         NODES_MAX);
    }
    for (size_t i = 0; i < expr->n_node; i++) {
        int takes = operands(expr->node[i]->kind);
        int rc = check_node(expr->node[i], columns, err);

        if (rc < 0) {
            error_prefix(err, "node %zu of an expression: ", i);
            return rc;
        }
        if (takes < 0 || takes > depth || depth - takes + 1 > STACK_MAX) {
            return error_set(err, EBADMSG,
                             "node %zu of an expression takes %d operands of %d; at most %d may wait", i,
                             takes, depth, STACK_MAX);
        }
        depth += 1 - takes;
    }
    if (depth != 1) {
        return error_set(err, EBADMSG, "an expression has %d results instead of one", depth);
    }
    return 0;
}

// ---- the other steps -------------------------------------------------------------------

int step_check_filter(const void *step, struct step_columns *columns, struct error *err)
{
    return check_expr(((const Dray__Filter *)step)->predicate, columns, err);
}

int step_check_project(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Project *project = step;

    if (project->n_column > TABLE_COLUMNS_MAX) {
        return error_set(err, EBADMSG, "%zu columns", project->n_column);
    }
    for (size_t i = 0; i < project->n_column; i++) {
        int rc = check_expr(project->column[i]->expr, columns, err);

        if (rc < 0) {
            error_prefix(err, "column #%zu ('%.100s'): ", i, project->column[i]->name);
            return rc;
        }
    }
    columns->known = true;
    columns->count = (uint32_t)project->n_column;
    return 0;
}

int step_check_head(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Head *head = step;

    (void)columns;
    return head->rows > INT64_MAX
               ? error_set(err, EBADMSG, "the first %llu rows", (unsigned long long)head->rows)
               : 0;
}

int step_check_sort(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__Sort *sort = step;
    int rc = 0;

    if (sort->n_key < 1 || sort->n_key > SORT_KEYS_MAX || sort->limit > INT64_MAX) {
        return error_set(err, EBADMSG, "%zu keys, at most %llu rows", sort->n_key,
                         (unsigned long long)sort->limit);
    }
    for (size_t i = 0; i < sort->n_key && rc == 0; i++) {
        rc = check_column(columns, sort->key[i]->column, "a key", err);
    }
    return rc;
}

int step_check_aggregate(const void *step, struct step_columns *columns, struct error *err)
{
    const Dray__AggregateStep *s = step;
    const Dray__Aggregate *a = s->aggregate;
    bool partial = s->stage == DRAY__AGG_STAGE__PARTIAL;
    bool final = s->stage == DRAY__AGG_STAGE__FINAL || s->stage == DRAY__AGG_STAGE__COMBINE_FINAL;
    int rc = 0;

    if (a->n_key_name != a->n_key || a->n_key_type != a->n_key || a->n_agg_type != a->n_agg) {
        return error_set(err, EBADMSG,
                         "%zu keys with %zu names and %zu types, %zu aggregations with %zu types", a->n_key,
                         a->n_key_name, a->n_key_type, a->n_agg, a->n_agg_type);
    }
    if (a->n_key > TABLE_COLUMNS_MAX || a->n_agg > TABLE_COLUMNS_MAX / AGG_STATES ||
        a->n_key + a->n_agg * AGG_STATES > TABLE_COLUMNS_MAX || a->n_key + a->n_agg == 0) {
        return error_set(err, EBADMSG, "%zu keys and %zu aggregations", a->n_key, a->n_agg);
    }
    for (size_t i = 0; i < a->n_key && partial && rc == 0; i++) {
        rc = check_column(columns, a->key[i], "a key", err);
    }
    for (size_t i = 0; i < a->n_agg && partial && rc == 0; i++) {
        if (a->agg[i]->fn != DRAY__AGG_FN__SIZE) {
            rc = check_column(columns, a->agg[i]->column, "an aggregated column", err);
        }
    }
    columns->known = final;
    columns->count = (uint32_t)(a->n_key + a->n_agg);
    return rc;
}
