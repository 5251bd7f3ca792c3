// A cluster of child processes for one command: a broker and workers over ipc, in a
// folder of their own.  However this process ends, they end and the folder goes.
#ifndef DRAY_CLIENT_CLI_LOCAL_CLUSTER_H
#define DRAY_CLIENT_CLI_LOCAL_CLUSTER_H

#include <stdint.h>

#include "proto/error.h"

enum { LOCAL_PLUGINS_MAX = 64 };

struct local_cluster;

struct local_cluster_options {
    uint32_t workers; // 0: 1
    uint32_t threads; // of each worker; 0: the processors over the workers
    uint64_t memory;  // of each worker, in bytes; 0: half of the machine's over the workers
    const char *const
        *plugin; // --plugin of each worker, LOCAL_PLUGINS_MAX at most, NULL-terminated; NULL: none
    const char *resources; // --resources of each worker; NULL: none
};

// Processors that this process may run on.
uint32_t local_cluster_processors(void);

// Call before the process has threads.  Returns as soon as the broker listens.
int local_cluster_start(const struct local_cluster_options *options, struct local_cluster **out,
                        struct error *err);
void local_cluster_stop(struct local_cluster *cluster);
const char *local_cluster_endpoint(const struct local_cluster *cluster);
// After signals_fd told of it, or to tell of it within wait_ms: which process ended and how.  0: none that matters.
#define LOCAL_CLUSTER_END_MS 300 // for who lost the connection
int local_cluster_check(const struct local_cluster *cluster, int wait_ms, struct error *err);

#endif
