// A plan on a cluster: pushes its graph, takes the results, checks each.
#ifndef DRAY_BENCH_JOB_H
#define DRAY_BENCH_JOB_H

#include "bench/plan.h"
#include "client/include/dray.h"

struct job_time {
    uint64_t pack_ns;  // the graph into one message
    uint64_t push_ns;  // sent, until the broker has said that it is accepted
    uint64_t first_ns; // from before the packing until the first result was taken
    uint64_t run_ns;   // from before the packing until the last result was taken and the job was over
    size_t graph_bytes;
};

// Pushes only: for a cluster without workers.
int job_push(dray_t *dray, struct plan *plan, struct job_time *time, dray_job_t *job, struct error *err);
// -EBADMSG: a result is missing, came twice, or is wrong: which and how.
int job_run(dray_t *dray, struct plan *plan, struct job_time *time, struct error *err);

// The bytes of a result, whether or not libdray has taken off the encoding.
int job_result_bytes(const struct dray_event *event, struct dray_bytes *out, struct error *err);
// That a result is what Count and Busy make of `value`.
int job_check_value(const struct dray_event *event, uint64_t value, size_t bytes, struct error *err);

#endif
