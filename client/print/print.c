#include "client/print/print.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/print/printer.h"
#include "proto/number.h"
#include "proto/utf8.h"

enum { WIDTH_DEFAULT = 80 };

int print_format_parse(const char *name, enum print_format *out, struct error *err)
{
    static const char *const names[] = {[PRINT_TABLE] = "table", [PRINT_CSV] = "csv", [PRINT_JSON] = "json"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum print_format)i;
            return 0;
        }
    }
    return error_set(err, EINVAL, "there is no output format \"%s\": choose table, csv or json", name);
}

bool print_is_value(const struct shape *shape)
{
    return shape->kind == SHAPE_SCALAR || print_is_list(shape);
}

bool print_is_list(const struct shape *shape)
{
    return shape->kind == SHAPE_LIST || shape->kind == SHAPE_TUPLE;
}

static const struct print_ops *choose_ops(enum print_format format, const struct shape *shape)
{

    switch (format) {
    case PRINT_CSV:
        return &print_csv_ops;
    case PRINT_JSON:
        return &print_json_ops;
    case PRINT_TABLE:
    default:
        return print_is_value(shape) ? &print_value_ops : &print_table_ops;
    }
}

struct printer *printer_create(enum print_format format, const struct shape *shape, int columns, FILE *out)
{
    struct printer *printer = calloc(1, sizeof(*printer));

    if (printer == NULL) {
        return NULL;
    }
    printer->ops = choose_ops(format, shape);
    printer->shape = *shape;
    printer->columns = columns > 0 ? columns : WIDTH_DEFAULT;
    printer->out = out;
    printer->state = calloc(1, printer->ops->state_size);
    if (printer->state == NULL) {
        free(printer);
        return NULL;
    }
    return printer;
}

static int check_stream(struct printer *printer, int rc, struct error *err)
{
    int code;

    if (rc == 0 && ferror(printer->out)) {
        code = errno != 0 ? errno : EIO;
        return error_set(err, code, "cannot write the result: %s",
                         code == EPIPE ? "its reader has gone away" : strerror(code));
    }
    return rc;
}

int printer_table(struct printer *printer, const struct table *table, struct error *err)
{
    int rc;

    if (printer->shape.kind == SHAPE_NONE || table->columns == 0) {
        return 0;
    }
    if (printer->shape.index_columns > table->columns) {
        return error_set(err, EINVAL, "a result of %u columns with an index of %u", table->columns,
                         printer->shape.index_columns);
    }
    rc = printer->ops->table(printer, table, err);
    if (rc == 0) {
        printer->rows += table->rows;
        printer->tables++;
    }
    return check_stream(printer, rc, err);
}

int printer_finish(struct printer *printer, struct error *err)
{
    int rc = 0;

    if (printer->shape.kind != SHAPE_NONE) {
        rc = printer->ops->finish(printer, err);
    }
    if (rc == 0 && fflush(printer->out) != 0) {
        rc = check_stream(printer, 0, err);
    }
    return rc;
}

void printer_destroy(struct printer *printer)
{
    if (printer != NULL) {
        if (printer->ops->clear != NULL) {
            printer->ops->clear(printer);
        }
        free(printer->state);
        free(printer);
    }
}

const char *print_column_name(const struct printer *printer, const struct table *table, uint32_t i)
{
    const struct shape *shape = &printer->shape;

    if (i < shape->index_columns) {
        return shape->index_is_names ? NULL : table->column[i].name;
    }
    return shape->kind == SHAPE_SERIES ? shape->series_name : table->column[i].name;
}

void print_cell(FILE *out, const struct column *column, int64_t row, const char *missing)
{
    char text[NUMBER_TEXT_MAX];
    const char *string;
    size_t size;

    if (!column_is_valid(column, row)) {
        fputs_unlocked(missing, out);
        return;
    }
    switch (column->type) {
    case TYPE_BOOL:
        fputs_unlocked(column_bool(column, row) ? "True" : "False", out);
        break;
    case TYPE_INT64:
        print_bytes(out, text, number_print_int64(column_int64(column, row), text));
        break;
    case TYPE_FLOAT64:
        if (isnan(column_float64(column, row))) {
            fputs_unlocked(missing, out);
        } else {
            print_bytes(out, text, number_print_float64(column_float64(column, row), text));
        }
        break;
    case TYPE_STRING:
    case TYPE_DICT:
        string = column_string(column, row, &size);
        print_bytes(out, string, size);
        break;
    }
}

// ---- scalars and lists ---------------------------------------------------------------

struct value_state {
    uint32_t items; // printed
};

// As Python's repr() of a str, for the characters that terminals care about.
static void print_quoted(FILE *out, const char *text, size_t size)
{
    bool has_single = memchr(text, '\'', size) != NULL;
    char quote = has_single && memchr(text, '"', size) == NULL ? '"' : '\'';
    size_t length;
    uint32_t code;

    putc_unlocked(quote, out);
    for (size_t at = 0; at < size; at += length) {
        length = utf8_next(text + at, size - at, &code);
        if (code == '\\' || code == (uint32_t)quote) {
            putc_unlocked('\\', out);
            putc_unlocked((int)code, out);
        } else if (code == '\n' || code == '\r' || code == '\t') {
            putc_unlocked('\\', out);
            putc_unlocked(code == '\n' ? 'n' : code == '\r' ? 'r' : 't', out);
        } else if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0xad || code == UTF8_INVALID) {
            fprintf(out, "\\x%02x", code == UTF8_INVALID ? (unsigned)(uint8_t)text[at] : (unsigned)code);
        } else {
            print_bytes(out, text + at, length);
        }
    }
    putc_unlocked(quote, out);
}

static int value_table(struct printer *printer, const struct table *table, struct error *err)
{
    struct value_state *state = printer->state;
    bool in_list = print_is_list(&printer->shape);

    (void)err;
    if (state->items > 0 || table->rows == 0) {
        return 0;
    }
    state->items = table->columns;
    if (!in_list) {
        print_cell(printer->out, &table->column[table->columns - 1], 0, "nan");
        putc_unlocked('\n', printer->out);
        return 0;
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        const struct column *column = &table->column[i];
        bool is_text = column->type == TYPE_STRING || column->type == TYPE_DICT;

        fputs_unlocked(i > 0 ? ", " : printer->shape.kind == SHAPE_TUPLE ? "(" : "[", printer->out);
        if (is_text && column_is_valid(column, 0)) {
            size_t size;
            const char *text = column_string(column, 0, &size);

            print_quoted(printer->out, text, size);
        } else {
            print_cell(printer->out, column, 0, "nan");
        }
    }
    return 0;
}

static int value_finish(struct printer *printer, struct error *err)
{
    const struct value_state *state = printer->state;

    (void)err;
    if (printer->shape.kind == SHAPE_TUPLE) {
        fputs_unlocked(state->items == 0 ? "()\n" : state->items == 1 ? ",)\n" : ")\n", printer->out);
    } else if (printer->shape.kind == SHAPE_LIST) {
        fputs_unlocked(state->items == 0 ? "[]\n" : "]\n", printer->out);
    }
    return 0;
}

const struct print_ops print_value_ops = {sizeof(struct value_state), value_table, value_finish, NULL};
