// The worker's memory, counted in bytes.  The one allocation that is expected to
// fail.  Thread-safe.
#ifndef DRAY_WORKER_STORE_BUDGET_H
#define DRAY_WORKER_STORE_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct budget;

struct budget *budget_create(uint64_t limit);  // 0: count only
void budget_destroy(struct budget *budget);
// -ENOMEM: would go beyond the limit; the text says how much was asked for, is in use, and the limit.
int budget_take(struct budget *budget, uint64_t bytes, const char *what, struct error *err);
void budget_give(struct budget *budget, uint64_t bytes);
uint64_t budget_used(const struct budget *budget);
uint64_t budget_peak(const struct budget *budget);
uint64_t budget_limit(const struct budget *budget);

#endif
