// A column as pandas shows it, value by value (pandas/io/formats/format.py:
// format_array and the formatters behind it; Index.format).
#ifndef DRAY_CLIENT_PRINT_FORMAT_H
#define DRAY_CLIENT_PRINT_FORMAT_H

#include "client/print/sheet.h"
#include "proto/table.h"

// has_nulls: somewhere in the column, be it in rows that are not shown; integers are
// floats then, and booleans objects.
struct strip format_values(struct sheet *sheet, const struct column *column, bool has_nulls);
// Texts of values of different types, type[row] each.
struct strip format_mixed(struct sheet *sheet, const struct column *column, const enum type *type);
struct strip format_index(struct sheet *sheet, const struct column *column, bool has_nulls);
// The index 0, 1, 2, ... of `total` rows, of which the first `head` and the last `tail` are shown.
struct strip format_range(struct sheet *sheet, int64_t total, int64_t head, int64_t tail);

const char *format_dtype(enum type type, bool has_nulls);
// pandas' is_numeric_dtype.
bool format_is_numeric(enum type type, bool has_nulls);

#endif
