// One task of ScanCsv while it runs: shared by the parts of the scanner (csv_scan.c: files, blocks and
// pieces; csv_lines.c: which fields a row has; csv_columns.c: fields to vectors).
#ifndef DRAY_WORKER_KERNEL_CSV_SCAN_H
#define DRAY_WORKER_KERNEL_CSV_SCAN_H

#include "worker/kernel/csv_cells.h"
#include "worker/kernel/csv_isa.h"
#include "worker/kernel/csv_range.h"
#include "worker/kernel/step.h"

struct csv_column {
    const Dray__CsvColumn *proto;
    uint32_t field;
    uint32_t owner;   // the first column of the same field: its spans serve both
    enum type type;   // now; wider than proto->type once a value did not fit
    bool has_dict;
    struct csv_dict dict;
    uint64_t *validity;
    void *values;
    // Spans of a batch where the index itself does not serve: before the first byte, behind the last.
    uint32_t *before, *end;
};

struct csv_scan {
    struct kernel_env *env;
    struct stage *next;
    struct csv_range range;
    struct csv_file file;
    struct csv_dialect dialect;
    struct csv_missing missing;
    const struct csv_isa *isa;
    struct csv_reader reader;
    struct csv_index index;
    struct csv_column *column;
    uint32_t columns;
    uint32_t batch_rows;
    struct vector *vector;
    uint32_t *line;    // where each row of a batch with own spans begins
    uint64_t taken;    // from the budget, for columns and places
    uint32_t indexed;  // place up to which the index goes
    bool discovering;  // a value did not fit: rows are only looked at for their types
    bool stopped;      // the next step wants no more
    bool misguided;    // what the block was told about its start is wrong: another round will come
};

int csv_columns_init(struct csv_scan *scan, const Dray__ScanCsv *op, struct arena *arena, struct error *err);
void csv_columns_fini(struct csv_scan *scan);
// A batch: row r's field c ends at end[r * fields + c] ...: see csv_lines.c.  own_spans: each column's before and
// end are filled in; otherwise first points at the place before the first row.
int csv_columns_push(struct csv_scan *scan, const uint32_t *first, bool own_spans, uint32_t rows, struct error *err);
// Says in the note which columns need a wider type.
int csv_columns_note(struct csv_scan *scan, struct error *err);

// All whole lines of the index.  What is left of it are the places of the unfinished line.
int csv_lines_push(struct csv_scan *scan, struct error *err);

// An error in the line that starts at `place`, unless the line does not start there: then scan->misguided and 0.
// `field`: UINT32_MAX when it is the whole line.
int csv_scan_fail(struct csv_scan *scan, uint32_t place, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
