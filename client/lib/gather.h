// A call that waits for the results of many tasks at once and takes them as they come.
#ifndef DRAY_CLIENT_LIB_GATHER_H
#define DRAY_CLIENT_LIB_GATHER_H

#include <stdbool.h>
#include <stddef.h>

#include "client/include/dray.h"
#include "client/lib/results.h"

struct gather;

// What is here already is taken at once.  Until gather_destroy, results that come are offered to it; there is
// one at a time.  -ENOENT: a future is unknown or released.
int gather_create(struct results *results, const struct dray_future *future, size_t count,
                  struct gather **out, struct error *err);
void gather_destroy(struct gather *gather);

// Begins to fetch what does not come along.  1: all are here; 0: not yet; or the error of one that failed.
int gather_advance(struct gather *gather, struct error *err);
// Tasks that have neither a result nor failed.
size_t gather_left(const struct gather *gather);
// Moves what was gathered into *out; all are here.
void gather_finish(struct gather *gather, struct dray_gathered *out);

#endif
