#include "client/print/format.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/number.h"

enum { PRECISION = 6 }; // pandas' display.precision

const char *format_dtype(enum type type, bool has_nulls)
{
    switch (type) {
    case TYPE_BOOL:
        return has_nulls ? "object" : "bool";
    case TYPE_INT64:
        return has_nulls ? "float64" : "int64";
    case TYPE_FLOAT64:
        return "float64";
    case TYPE_STRING:
    case TYPE_DICT:
    default:
        return "object";
    }
}

bool format_is_numeric(enum type type, bool has_nulls)
{
    return strcmp(format_dtype(type, has_nulls), "object") != 0;
}

// ---- floats --------------------------------------------------------------------------

static double float_at(const struct column *column, int64_t row)
{
    if (!column_is_valid(column, row)) {
        return (double)NAN;
    }
    return column->type == TYPE_INT64 ? (double)column_int64(column, row) : column_float64(column, row);
}

static bool has_point(struct text text)
{
    return memchr(text.data, '.', text.size) != NULL;
}

// Zeros behind the point that all have go, but one stays.
static void trim_zeros(struct sheet *sheet, struct strip *strip)
{
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < strip->count; i++) {
        struct text text = strip->line[i];
        size_t zeros = 0;

        if (has_point(text)) {
            while (text.data[text.size - 1 - zeros] == '0') {
                zeros++;
            }
            least = zeros < least ? zeros : least;
        }
    }
    for (size_t i = 0; i < strip->count; i++) {
        struct text *text = &strip->line[i];

        if (has_point(*text)) {
            *text = text_borrow(text->data, text->size - least);
            if (text->data[text->size - 1] == '.') {
                *text = text_print(sheet, "%.*s0", (int)text->size, text->data);
            }
        }
    }
}

static struct strip format_floats(struct sheet *sheet, const struct column *column, const char *missing)
{
    bool has_large = false, has_small = false;
    struct strip strip = {0};

    for (int64_t row = 0; row < column->length; row++) {
        double value = float_at(column, row), size = fabs(value);

        strip_add(sheet, &strip,
                  isnan(value) ? text_of(missing) : text_print(sheet, "% .*f", PRECISION, value));
        has_large |= size > 1e6;
        has_small |= size < 1e-6 && size > 0;
    }
    trim_zeros(sheet, &strip);
    if (!has_small && !(has_large && strip_width(&strip) > PRECISION + 6)) {
        return strip;
    }
    for (size_t row = 0; row < strip.count; row++) {
        double value = float_at(column, (int64_t)row);

        if (!isnan(value)) {
            strip.line[row] = text_print(sheet, "% .*e", PRECISION, value);
        }
    }
    return strip;
}

// ---- the rest --------------------------------------------------------------------------

static struct strip format_integers(struct sheet *sheet, const struct column *column)
{
    struct strip strip = {0};

    for (int64_t row = 0; row < column->length; row++) {
        strip_add(sheet, &strip, text_print(sheet, "% " PRId64, column_int64(column, row)));
    }
    return strip;
}

// Strings, and booleans as strings.
static struct strip format_objects(struct sheet *sheet, const struct column *column, const char *prefix)
{
    struct strip strip = {0};

    for (int64_t row = 0; row < column->length; row++) {
        struct text text;

        if (!column_is_valid(column, row)) {
            text = text_of("NaN");
        } else if (column->type == TYPE_BOOL) {
            text = text_of(column_bool(column, row) ? "True" : "False");
        } else {
            size_t size;
            const char *data = column_string(column, row, &size);

            text = text_escape(sheet, data, size);
        }
        strip_add(sheet, &strip, *prefix != '\0' ? text_join(sheet, prefix, text) : text);
    }
    return strip;
}

static struct strip format_array(struct sheet *sheet, const struct column *column, bool has_nulls,
                                 enum align align)
{
    struct strip strip;

    switch (column->type) {
    case TYPE_INT64:
        if (!has_nulls) {
            strip = format_integers(sheet, column);
            break;
        }
        // fall through
    case TYPE_FLOAT64:
        strip = format_floats(sheet, column, align == ALIGN_LEFT ? " NaN" : "NaN");
        break;
    case TYPE_BOOL:
    case TYPE_STRING:
    case TYPE_DICT:
    default:
        strip = format_objects(sheet, column, " ");
        break;
    }
    strip_fix_width(sheet, &strip, 0, align);
    return strip;
}

struct strip format_values(struct sheet *sheet, const struct column *column, bool has_nulls)
{
    return format_array(sheet, column, has_nulls, ALIGN_RIGHT);
}

// One float by itself among objects: pandas' GenericArrayFormatter.
static struct text format_float(struct sheet *sheet, const char *data, size_t size)
{
    char number[NUMBER_TEXT_MAX + 1];
    struct text text;

    if (size > NUMBER_TEXT_MAX || memchr(data, 'a', size) != NULL) {
        return text_of(" NaN");
    }
    memcpy(number, data, size);
    number[size] = '\0';
    text = text_print(sheet, "% .*f", PRECISION, strtod(number, NULL));
    if (has_point(text)) {
        while (text.data[text.size - 1] == '0' && text.data[text.size - 2] != '.') {
            text = text_borrow(text.data, text.size - 1);
        }
    }
    return text;
}

struct strip format_mixed(struct sheet *sheet, const struct column *column, const enum type *type)
{
    struct strip strip = format_objects(sheet, column, " ");

    for (int64_t row = 0; row < column->length && !sheet->no_memory; row++) {
        if (type[row] == TYPE_FLOAT64 && column_is_valid(column, row)) {
            size_t size;
            const char *data = column_string(column, row, &size);

            strip.line[row] = format_float(sheet, data, size);
        }
    }
    strip_fix_width(sheet, &strip, 0, ALIGN_RIGHT);
    return strip;
}

struct strip format_index(struct sheet *sheet, const struct column *column, bool has_nulls)
{
    if (!format_is_numeric(column->type, has_nulls)) {
        return format_objects(sheet, column, "");
    }
    struct strip strip = format_array(sheet, column, has_nulls, ALIGN_LEFT);

    strip_trim_front(&strip);
    return strip;
}

struct strip format_range(struct sheet *sheet, int64_t total, int64_t head, int64_t tail)
{
    struct strip strip = {0};

    for (int64_t i = 0; i < head; i++) {
        strip_add(sheet, &strip, text_print(sheet, "%" PRId64, i));
    }
    for (int64_t i = total - tail; i < total; i++) {
        strip_add(sheet, &strip, text_print(sheet, "%" PRId64, i));
    }
    strip_pad(sheet, &strip, strip_width(&strip), ALIGN_LEFT);
    return strip;
}
