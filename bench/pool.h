// What `dray-bench pool` measures.
#ifndef DRAY_BENCH_POOL_H
#define DRAY_BENCH_POOL_H

#include <math.h>
#include <stdbool.h>

#include "bench/cluster.h"

struct pool_options {
    const char *pattern;
    uint32_t tasks; // as the pattern takes them
    uint32_t workers;
    uint32_t width;     // stencil
    const char *plugin; // its path
    const char *state;  // folder of the broker's journal, or NULL
    bool waiting;       // measure what waiting tasks take as well
    bool running;       // run them
};

// NaN where it does not apply.
struct pool_figures {
    uint64_t tasks;
    double seconds;
    double p50_us, p99_us;   // of a task, from its submission until its result is here
    double pack_ms, push_ms; // of a graph
    double first_ms;         // from before it was packed until its first result was here
    double start_ms;         // the cluster, until the broker knows all workers
    double broker_bytes;     // a waiting task, no worker connected
    double broker_cpu_us, worker_cpu_us, client_cpu_us; // a task
    double broker_peak_mb, workers_peak_mb;
    double ran_more; // tasks that ran beyond once each
    // With a journal, a task: what it has in the end, and what was written in all.
    double journal_bytes, written_bytes;
    double journal_most_bytes; // what it had at any moment, where that is looked for
};
void pool_figures_init(struct pool_figures *figures); // to NaN

struct pool_pattern {
    const char *name;
    uint32_t tasks; // by default
    int (*run)(const struct pool_options *options, struct pool_figures *figures, struct error *err);
    const char *help;
};

// The pattern in turn without and with a journal (options->state: where its folders are made), and prints the
// medians and the medians of the ratios.
int pool_durability(const struct pool_pattern *pattern, const struct pool_options *options, uint32_t pairs,
                    bool as_table, struct error *err);

// Graphs that are pushed whole (pool_graph.c), and tasks that are submitted (pool_task.c).
int pool_trivial(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_chain(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_tree(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_stencil(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_explicit(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_plugin(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_command(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_start(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_map(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_release(const struct pool_options *options, struct pool_figures *figures, struct error *err);
int pool_latency(const struct pool_options *options, struct pool_figures *figures, struct error *err);

// A cluster with a connection to it.
struct pool_cluster {
    struct cluster *cluster;
    dray_t *dray;
    const char *option[3]; // of its workers
    const char *state;
    uint64_t journal_before; // bytes
    struct cluster_use before;
};
int pool_cluster_create(const struct pool_options *options, uint32_t workers, struct pool_cluster *out,
                        struct error *err);
void pool_cluster_destroy(struct pool_cluster *cluster);
int pool_connect(struct pool_cluster *cluster, struct error *err);
// Around what is measured: the use of processor time a task, the peaks, and how many ran beyond `runs`.
void pool_begin(struct pool_cluster *cluster);
void pool_end(const struct pool_cluster *cluster, uint64_t tasks, struct pool_figures *figures);
int pool_count_runs(const struct pool_cluster *cluster, uint64_t runs, struct pool_figures *figures,
                    struct error *err);

int pool_by_size(const void *a, const void *b); // of uint64_t, for qsort

#endif
