// One JSON document (RFC 8259):
//   table   {"columns": [names], "index_columns": n, "data": [[row], ...]}
//           the first n columns are the index; a name may be null
//   scalar  the value
//   list    [values]
// NaN, infinities and missing values are null; what is no UTF-8 becomes U+FFFD.
#include <math.h>
#include <string.h>

#include "client/print/printer.h"
#include "proto/utf8.h"

struct json_state {
    bool begun;
};

static void put_string(FILE *out, const char *text, size_t size)
{
    size_t length;
    uint32_t code;

    putc_unlocked('"', out);
    for (size_t at = 0; at < size; at += length) {
        length = utf8_next(text + at, size - at, &code);
        if (code == '"' || code == '\\') {
            putc_unlocked('\\', out);
            putc_unlocked((int)code, out);
        } else if (code == '\n' || code == '\r' || code == '\t') {
            putc_unlocked('\\', out);
            putc_unlocked(code == '\n' ? 'n' : code == '\r' ? 'r' : 't', out);
        } else if (code < 0x20) {
            fprintf(out, "\\u%04x", (unsigned)code);
        } else if (code == UTF8_INVALID) {
            fputs_unlocked("\\ufffd", out);
        } else {
            print_bytes(out, text + at, length);
        }
    }
    putc_unlocked('"', out);
}

static void put_value(FILE *out, const struct column *column, int64_t row)
{
    bool valid = column_is_valid(column, row);

    if (valid && (column->type == TYPE_STRING || column->type == TYPE_DICT)) {
        size_t size;
        const char *text = column_string(column, row, &size);

        put_string(out, text, size);
    } else if (valid && column->type == TYPE_BOOL) {
        fputs_unlocked(column_bool(column, row) ? "true" : "false", out);
    } else if (valid && column->type == TYPE_FLOAT64 && !isfinite(column_float64(column, row))) {
        fputs_unlocked("null", out);
    } else {
        print_cell(out, column, row, "null");
    }
}

// A row of a series of mixed types: a text that says what it is.
static void put_text_of(FILE *out, enum type type, const struct column *column, int64_t row)
{
    size_t size;
    const char *text = column_is_valid(column, row) ? column_string(column, row, &size) : NULL;

    if (text == NULL || type == TYPE_STRING) {
        put_value(out, column, row);
    } else if (type == TYPE_BOOL) {
        fputs_unlocked(size > 0 && text[0] == 'T' ? "true" : "false", out);
    } else if (type == TYPE_FLOAT64 && memchr(text, 'n', size) != NULL) { // nan, inf
        fputs_unlocked("null", out);
    } else {
        print_bytes(out, text, size);
    }
}

static void put_head(struct printer *printer, const struct table *table)
{
    FILE *out = printer->out;

    fputs_unlocked("{\"columns\":[", out);
    for (uint32_t i = 0; i < table->columns; i++) {
        const char *name = print_column_name(printer, table, i);

        if (i > 0) {
            putc_unlocked(',', out);
        }
        if (name != NULL) {
            put_string(out, name, strlen(name));
        } else {
            fputs_unlocked("null", out);
        }
    }
    fprintf(out, "],\"index_columns\":%u,\"data\":[", printer->shape.index_columns);
}

static int json_table(struct printer *printer, const struct table *table, struct error *err)
{
    struct json_state *state = printer->state;
    FILE *out = printer->out;
    bool in_list = print_is_list(&printer->shape);

    (void)err;
    if (printer->shape.kind == SHAPE_SCALAR) {
        if (!state->begun && table->rows > 0) {
            state->begun = true;
            put_value(out, &table->column[table->columns - 1], 0);
        }
        return 0;
    }
    if (printer->tables == 0 && in_list) {
        putc_unlocked('[', out);
    } else if (printer->tables == 0) {
        put_head(printer, table);
    }
    for (int64_t row = 0; row < table->rows; row++) {
        if (state->begun) {
            putc_unlocked(',', out);
        }
        state->begun = true;
        if (!in_list) {
            fputs_unlocked("\n[", out);
        }
        for (uint32_t i = 0; i < table->columns; i++) {
            if (i > 0) {
                putc_unlocked(',', out);
            }
            if (printer->shape.row_type != NULL && i == table->columns - 1) {
                put_text_of(out, printer->shape.row_type[printer->rows + row], &table->column[i], row);
            } else {
                put_value(out, &table->column[i], row);
            }
        }
        if (!in_list) {
            putc_unlocked(']', out);
        }
    }
    return 0;
}

static int json_finish(struct printer *printer, struct error *err)
{
    const struct json_state *state = printer->state;
    const char *end;

    (void)err;
    switch (printer->shape.kind) {
    case SHAPE_SCALAR:
        end = state->begun ? "\n" : "null\n";
        break;
    case SHAPE_LIST:
    case SHAPE_TUPLE:
        end = printer->tables == 0 ? "[]\n" : "]\n";
        break;
    case SHAPE_SERIES:
    case SHAPE_FRAME:
    case SHAPE_NONE:
    default:
        if (printer->tables == 0) {
            end = "{\"columns\":[],\"index_columns\":0,\"data\":[]}\n";
        } else {
            end = state->begun ? "\n]}\n" : "]}\n";
        }
    }
    fputs_unlocked(end, printer->out);
    return 0;
}

const struct print_ops print_json_ops = {sizeof(struct json_state), json_table, json_finish, NULL};
