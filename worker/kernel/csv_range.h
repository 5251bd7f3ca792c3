// Which bytes of which file a task reads, and where its first line begins.
#ifndef DRAY_WORKER_KERNEL_CSV_RANGE_H
#define DRAY_WORKER_KERNEL_CSV_RANGE_H

#include "worker/kernel/csv_dialect.h"
#include "worker/kernel/csv_reader.h"

struct csv_range {
    const Dray__CsvFile *file;
    uint32_t number;  // of the file
    uint64_t start, end;  // end: UINT64_MAX for a compressed file
    bool first, last;     // block of its file
    bool starts_quoted;
};

// -EINVAL: no such task, or numbers that contradict one another.
int csv_range_find(const Dray__ScanCsv *scan, uint32_t index, struct csv_range *out, struct error *err);

// A walk from the start of a range, in one state, to the border behind its end.
struct csv_walk {
    bool found;          // *line is the start of the range's first line
    const uint8_t *line;  // in the reader's buffer
    enum csv_state end_state;  // at the border behind the end, when no line starts in the range
};

// The reader was opened at start - 1 (or start for the first block) and holds nothing yet.  to_end: goes on to the
// end past all lines, for end_state.  start: CSV_QUOTED, CSV_COMMENT, or anything else for outside of both.
int csv_range_walk(const struct csv_range *range, const struct csv_dialect *dialect, struct csv_reader *reader,
                   enum csv_state start, bool to_end, struct csv_walk *out, struct error *err);

// With comments, a start that is taken to be outside quotes may lie in a comment, where quotes mean nothing.
// Then reads the file up to there to know.
int csv_range_in_comment(const struct csv_range *range, const struct csv_dialect *dialect,
                         const struct csv_file *file, struct budget *budget, bool *in_comment, struct error *err);

#endif
