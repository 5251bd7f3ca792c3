// A broker and workers of one machine as processes of their own, over tcp on free ports, for
// a measurement.  However this process ends, they end.
#ifndef DRAY_BENCH_CLUSTER_H
#define DRAY_BENCH_CLUSTER_H

#include <stdint.h>
#include <sys/types.h>

#include "client/include/dray.h"
#include "proto/error.h"

struct cluster;

struct cluster_options {
    uint32_t workers;   // to begin with; 0: none
    uint32_t threads;   // of each; 0: 1
    const char *memory; // of each, as dray-worker takes it; NULL: 512M
    const char *state;  // folder of the broker's journal; NULL: none
    const char *const
        *option; // more of them for each worker, NULL-terminated, as long as the cluster is; NULL: none
};

// The executables are those beside this one.  Returns when the broker listens.
int cluster_create(const struct cluster_options *options, struct cluster **out, struct error *err);
void cluster_destroy(struct cluster *cluster);
int cluster_add_workers(struct cluster *cluster, uint32_t count, struct error *err);
const char *cluster_endpoint(const struct cluster *cluster);
// Until the broker knows all workers, at most some seconds.
int cluster_await_workers(const struct cluster *cluster, dray_t *dray, struct error *err);
// Until the workers have told of what they ran up to now: tasks since they were started.  At least `expected`
// of them are waited for, some seconds.
int cluster_ran(dray_t *dray, uint64_t expected, uint64_t *ran, struct error *err);

// From the start of the first process until the broker listened.
uint64_t cluster_listen_ns(const struct cluster *cluster);
uint64_t cluster_born_ns(const struct cluster *cluster);

// Processor time and memory up to now.
struct cluster_use {
    uint64_t broker_ns, workers_ns, client_ns;
    uint64_t broker_rss, broker_peak, workers_peak;
    uint64_t broker_written; // bytes that are to go to a disk
};
void cluster_use(const struct cluster *cluster, struct cluster_use *use);

#endif
