// One record at a time, byte by byte: for headers and samples.
#ifndef DRAY_WORKER_KERNEL_CSV_RECORD_H
#define DRAY_WORKER_KERNEL_CSV_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "worker/kernel/batch.h"
#include "worker/kernel/csv_dialect.h"

struct csv_record {
    struct string_view *field;  // without quotes
    size_t fields;              // 0: a blank line or a comment
    size_t next;                // where the next line starts
};

// The record at text[at .. size), which begins a line.  0: its line ends in the text, or the text is `whole` and ends
// there outside quotes; 1: more text is needed; -ENOMEM.
int csv_record_read(const struct csv_dialect *dialect, const uint8_t *text, size_t at, size_t size, bool whole,
                    struct arena *arena, struct csv_record *out, struct error *err);

#endif
