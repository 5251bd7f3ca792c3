// CSV as pandas' to_csv writes it: fields quoted where they must be, lines end in \n,
// floats in their shortest form, a missing value empty.
#include <string.h>

#include "client/print/printer.h"

struct csv_state {
    bool alone; // one field a line: an empty one is quoted, lest the line be blank
};

static void put_text(FILE *out, const char *text, size_t size, bool alone)
{
    bool quoted = size == 0 && alone;

    for (size_t i = 0; i < size && !quoted; i++) {
        quoted = text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r';
    }
    if (!quoted) {
        print_bytes(out, text, size);
        return;
    }
    putc_unlocked('"', out);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') {
            putc_unlocked('"', out);
        }
        putc_unlocked(text[i], out);
    }
    putc_unlocked('"', out);
}

static void put_header(struct printer *printer, const struct table *table, bool alone)
{
    for (uint32_t i = 0; i < table->columns; i++) {
        const char *name = print_column_name(printer, table, i);

        if (name == NULL) {
            // pandas calls the values of a nameless series 0, and an index without a name nothing.
            name = i < printer->shape.index_columns ? "" : "0";
        }
        if (i > 0) {
            putc_unlocked(',', printer->out);
        }
        put_text(printer->out, name, strlen(name), alone);
    }
    putc_unlocked('\n', printer->out);
}

static int csv_table(struct printer *printer, const struct table *table, struct error *err)
{
    struct csv_state *state = printer->state;
    bool in_list = print_is_list(&printer->shape);
    bool is_value = print_is_value(&printer->shape);

    (void)err;
    if (printer->tables == 0) {
        state->alone = in_list || table->columns == 1;
        if (!is_value) {
            put_header(printer, table, state->alone);
        }
    }
    for (int64_t row = 0; row < table->rows; row++) {
        for (uint32_t i = 0; i < table->columns; i++) {
            const struct column *column = &table->column[i];

            if (i > 0) {
                putc_unlocked(in_list ? '\n' : ',', printer->out);
            }
            if ((column->type == TYPE_STRING || column->type == TYPE_DICT) && column_is_valid(column, row)) {
                size_t size;
                const char *text = column_string(column, row, &size);

                put_text(printer->out, text, size, state->alone);
            } else {
                print_cell(printer->out, column, row, state->alone ? "\"\"" : "");
            }
        }
        putc_unlocked('\n', printer->out);
    }
    return 0;
}

static int csv_finish(struct printer *printer, struct error *err)
{
    (void)printer;
    (void)err;
    return 0;
}

const struct print_ops print_csv_ops = {sizeof(struct csv_state), csv_table, csv_finish, NULL};
