// How large the journal in a state folder is, also while a broker writes it.
#ifndef DRAY_BENCH_JOURNAL_SIZE_H
#define DRAY_BENCH_JOURNAL_SIZE_H

#include <stdint.h>

// The database with what its write-ahead log has for it, and the graphs beside it; 0: there is none.
// The log's own size says little: it has the same pages many times, and is used again.
uint64_t journal_size(const char *folder);

#endif
