// Prints the tables that test_print.py describes on standard input, one after another,
// each preceded by its length in bytes.  Numbers and texts are separated by white space; texts are
// hexadecimal behind an x.
//   FORMAT KIND WIDTH INDEX_COLUMNS INDEX_IS_NAMES SERIES_NAME|- DTYPE|- PARTS COLUMNS ROWS
//   for each column: NAME TYPE, then its values, - for a missing one
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/print/print.h"
#include "proto/number.h"

static char word[1 << 20];

static const char *read_word(void)
{
    if (scanf("%1048575s", word) != 1) {
        fprintf(stderr, "the description ends early\n");
        exit(1);
    }
    return word;
}

static int64_t read_int(void)
{
    return strtoll(read_word(), NULL, 10);
}

static char *decode(const char *hex)
{
    size_t size = strlen(hex + 1) / 2;
    char *text = malloc(size + 1);

    for (size_t i = 0; i < size; i++) {
        char two[3] = {hex[1 + 2 * i], hex[2 + 2 * i], '\0'};

        text[i] = (char)strtol(two, NULL, 16);
    }
    text[size] = '\0';
    return text;
}

static char *read_text(void)
{
    const char *hex = read_word();

    return strcmp(hex, "-") == 0 ? NULL : decode(hex);
}

static int add_value(struct column_builder *builder, enum type type, const char *text)
{
    double number;
    char *string;
    int rc;

    if (strcmp(text, "-") == 0) {
        return column_builder_null(builder);
    }
    switch (type) {
    case TYPE_BOOL:
        return column_builder_bool(builder, text[0] == '1');
    case TYPE_INT64:
        return column_builder_int64(builder, strtoll(text, NULL, 10));
    case TYPE_FLOAT64:
        return number_parse_float64(text, strlen(text), &number) ? column_builder_float64(builder, number)
                                                                 : -1;
    case TYPE_STRING:
    case TYPE_DICT:
    default:
        string = decode(text);
        rc = column_builder_string(builder, string, strlen(text + 1) / 2);
        free(string);
        return rc;
    }
}

static struct table *read_table(void)
{
    uint32_t columns = (uint32_t)read_int();
    int64_t rows = read_int();
    struct table *table = table_create(columns, rows);

    for (uint32_t i = 0; i < columns; i++) {
        char *name = read_text();
        enum type type = (enum type)read_int();
        struct column_builder *builder = column_builder_create(type);

        for (int64_t row = 0; row < rows; row++) {
            if (add_value(builder, type, read_word()) != 0) {
                fprintf(stderr, "bad value %s\n", word);
                exit(1);
            }
        }
        column_builder_finish(builder, name, &table->column[i]);
        column_builder_destroy(builder);
        free(name);
    }
    return table;
}

// The table in `parts` pieces, as a cluster's results come in.
static int print_parts(struct printer *printer, const struct table *table, int64_t parts, struct error *err)
{
    int64_t done = 0;
    int rc = 0;

    for (int64_t part = 0; part < parts && rc == 0; part++) {
        int64_t end = part + 1 == parts ? table->rows : table->rows * (part + 1) / parts;
        int64_t *rows = calloc((size_t)(end - done) + 1, sizeof(*rows));
        struct table *piece = NULL;

        for (int64_t i = done; i < end; i++) {
            rows[i - done] = i;
        }
        rc = table_take(table, rows, end - done, &piece, err);
        if (rc == 0) {
            rc = printer_table(printer, piece, err);
        }
        table_unref(piece);
        free(rows);
        done = end;
    }
    return rc != 0 ? rc : printer_finish(printer, err);
}

int main(void)
{
    int format;

    while (scanf("%d", &format) == 1) {
        struct shape shape = {0};
        struct error err = {0};
        char *text = NULL, *name, *dtype;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        shape.kind = (enum shape_kind)read_int();
        int width = (int)read_int();

        shape.index_columns = (uint32_t)read_int();
        shape.index_is_names = read_int() != 0;
        shape.series_name = name = read_text();
        shape.dtype = dtype = read_text();
        int64_t parts = read_int();
        struct table *table = read_table();
        struct printer *printer = printer_create((enum print_format)format, &shape, width, out);

        if (print_parts(printer, table, parts, &err) != 0) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        printer_destroy(printer);
        table_unref(table);
        fclose(out);
        printf("%zu\n", size);
        fwrite(text, 1, size, stdout);
        free(text);
        free(name);
        free(dtype);
    }
    return 0;
}
