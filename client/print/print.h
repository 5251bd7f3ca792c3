// Prints a query's value as it streams in: as pandas prints it, as CSV (pandas'
// to_csv), or as JSON.
#ifndef DRAY_CLIENT_PRINT_PRINT_H
#define DRAY_CLIENT_PRINT_PRINT_H

#include <stdio.h>

#include "client/plan/query.h"

enum print_format { PRINT_TABLE, PRINT_CSV, PRINT_JSON };
int print_format_parse(const char *name, enum print_format *out, struct error *err);

struct printer;
// columns: width of the terminal in characters, 0: 80 as pandas does when it is no terminal.
struct printer *printer_create(enum print_format format, const struct shape *shape, int columns, FILE *out);
// Tables in row order.  TABLE keeps only what an elided print needs (the first 30 and the last 30 rows).
int printer_table(struct printer *printer, const struct table *table, struct error *err);
// Writes what is left; an error of the stream (disk full, closed pipe) shows here at the latest.
int printer_finish(struct printer *printer, struct error *err);
void printer_destroy(struct printer *printer);

#endif
