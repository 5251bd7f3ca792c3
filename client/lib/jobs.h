// Submitting a job, for dray_submit_graph and pools.
#ifndef DRAY_CLIENT_LIB_JOBS_H
#define DRAY_CLIENT_LIB_JOBS_H

#include "client/include/dray.h"
#include "proto/error.h"
#include "proto/graph.pb-c.h"

// Sends SUBMIT and waits for the broker's word.  `graph` is `packed` as a message, checked; NULL: none yet.
// unfinished: the job belongs to a pool, which counts there (results.h); NULL: it does not.
int jobs_submit(dray_t *dray, const Dray__Graph *graph, struct dray_bytes packed,
                const struct dray_submit_options *options, size_t *unfinished, uint32_t *job,
                struct error *err);

#endif
