// The options of read_csv: what they say of the dialect and of blocks.
#ifndef DRAY_CLIENT_PLAN_CSV_OPTION_H
#define DRAY_CLIENT_PLAN_CSV_OPTION_H

#include "client/plan/csv.h"
#include "client/plan/method.h"

// Places in read_csv_parameters.
enum {
    PATH,
    SEP,
    DELIMITER,
    HEADER,
    NAMES,
    USECOLS,
    DTYPE,
    NA_VALUES,
    KEEP_DEFAULT_NA,
    NA_FILTER,
    SKIPROWS,
    COMMENT,
    BLOCKSIZE,
    QUOTECHAR,
    QUOTING,
    NROWS,
    ENCODING,
};

// One call of read_csv.
struct reader {
    struct binder *b;
    const struct call *call;
    Dray__CsvDialect *dialect;
    struct csv_source *source;
    bool given_names;
};

// Fills dialect, given_names and the source's block size; the rest of the options is for read_csv.
int csv_option_read(struct reader *r);

#endif
