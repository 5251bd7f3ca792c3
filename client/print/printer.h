// What the formats of client/print share.
#ifndef DRAY_CLIENT_PRINT_PRINTER_H
#define DRAY_CLIENT_PRINT_PRINTER_H

#include "client/print/print.h"

struct print_ops {
    size_t state_size;
    // table has at least one column.
    int (*table)(struct printer *printer, const struct table *table, struct error *err);
    int (*finish)(struct printer *printer, struct error *err);
    void (*clear)(struct printer *printer); // may be NULL
};

struct printer {
    const struct print_ops *ops;
    struct shape shape;
    int columns;
    FILE *out;
    void *state;  // ops->state_size bytes, zeroed at first
    int64_t rows; // of the tables before the one at hand
    uint32_t tables;
};

extern const struct print_ops print_table_ops; // SERIES and FRAME as pandas prints them
extern const struct print_ops print_csv_ops;
extern const struct print_ops print_json_ops;
extern const struct print_ops print_value_ops; // SCALAR, LIST and TUPLE as Python prints them

bool print_is_list(const struct shape *shape);  // LIST or TUPLE
bool print_is_value(const struct shape *shape); // these or SCALAR
// A scalar or a string as Python's str() gives it, a missing value as `missing`.
void print_cell(FILE *out, const struct column *column, int64_t row, const char *missing);
static inline void print_bytes(FILE *out, const char *text, size_t size)
{
    fwrite_unlocked(text, 1, size, out);
}
// The name that column i shows, by the printer's shape; NULL: it has none.
const char *print_column_name(const struct printer *printer, const struct table *table, uint32_t i);

#endif
