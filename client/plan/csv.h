// A table that read_csv names: dialect, files, columns; what the scan is made from.
#ifndef DRAY_CLIENT_PLAN_CSV_H
#define DRAY_CLIENT_PLAN_CSV_H

#include "client/lang/script.h"
#include "proto/arena.h"
#include "proto/op.pb-c.h"
#include "proto/table.h"

#define CSV_BLOCK_DEFAULT                                                                                    \
    ((uint64_t)16 << 20) // hangs on nothing, so that the same input is always cut the same
#define CSV_TASKS_MAX 0x7fffffffU

struct csv_column {
    const char *name;
    enum type type;  // never DICT
    bool forced;     // dtype= was given
    bool category;   // dtype="category"
    uint32_t *field; // for each file: which field of its lines
};

struct csv_file {
    const Dray__CsvProbeFile *probe;
    uint32_t fields;
    uint32_t first; // of its blocks
    uint32_t blocks;
};

struct csv_source {
    uint32_t ordinal;  // read_csv calls are numbered in the order of the script
    struct place at;   // of the call
    const char *label; // as typed: "sales.csv", "sales-*.csv, 3 files"
    const Dray__CsvDialect *dialect;
    uint64_t block_size;
    struct csv_file *file;
    uint32_t files;
    struct csv_column *column; // all that the table has
    uint32_t columns;
    uint32_t blocks;
};

// The least type that holds values of both.
enum type type_join(enum type a, enum type b);

// Cuts files into blocks.  -EFBIG in words when there are too many.
int csv_cut(struct csv_source *source, struct error *err);

// The scan of these columns; group_key[i] is a hint.  NULL: no memory.
Dray__ScanCsv *csv_scan(const struct csv_source *source, const uint32_t *column, const enum type *type,
                        const bool *group_key, uint32_t columns, const uint32_t *starts_quoted, size_t starts,
                        struct arena *arena);

#endif
