// Column names as pandas makes them from a header.
#ifndef DRAY_WORKER_KERNEL_CSV_NAMES_H
#define DRAY_WORKER_KERNEL_CSV_NAMES_H

#include "proto/arena.h"
#include "proto/error.h"
#include "worker/kernel/csv_record.h"

// An empty name becomes "Unnamed: 2" (its position), the second "a" becomes "a.1".  names[header->fields].
int csv_names_make(const struct csv_record *header, struct arena *arena, char **names, struct error *err);

#endif
