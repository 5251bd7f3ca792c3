// What only the whole text before a place can tell: the state there, and its line number.  Reads the
// file from its start, so for errors and rare doubts only.
#ifndef DRAY_WORKER_KERNEL_CSV_TRACE_H
#define DRAY_WORKER_KERNEL_CSV_TRACE_H

#include "worker/kernel/csv_dialect.h"
#include "worker/kernel/csv_reader.h"

// State before byte `to` of the (decompressed) text when the byte data_start begins a line, and how many line
// breaks lie before it, quoted ones too.
int csv_trace(const struct csv_dialect *dialect, const struct csv_file *file, Dray__Codec codec, const char *name,
              uint64_t data_start, uint64_t to, struct budget *budget, enum csv_state *state, uint64_t *breaks,
              struct error *err);

#endif
