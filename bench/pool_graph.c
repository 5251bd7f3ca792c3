#include "bench/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/job.h"
#include "bench/process.h"
#include "bench/shape.h"

enum { SEED = 42 };

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

// What the broker needs for the tasks while no worker is there.
static int measure_waiting(struct pool_cluster *cluster, struct plan *plan, struct pool_figures *figures,
                           struct error *err)
{
    struct cluster_use before, after;
    struct job_time time;
    dray_job_t job;
    int rc;

    cluster_use(cluster->cluster, &before);
    rc = job_push(cluster->dray, plan, &time, &job, err);
    if (rc != 0) {
        return rc;
    }
    cluster_use(cluster->cluster, &after);
    figures->broker_bytes = ((double)after.broker_rss - (double)before.broker_rss) / (double)plan->tasks;
    figures->pack_ms = ms(time.pack_ns);
    figures->push_ms = ms(time.push_ns);
    figures->broker_cpu_us = (double)(after.broker_ns - before.broker_ns) / 1e3 / (double)plan->tasks;
    figures->client_cpu_us = (double)(after.client_ns - before.client_ns) / 1e3 / (double)plan->tasks;
    figures->broker_peak_mb = (double)after.broker_peak / 1e6;
    figures->tasks = plan->tasks;
    figures->seconds = (double)(time.pack_ns + time.push_ns) / 1e9;
    return pool_connect(cluster, err); // anew: the job goes with the connection
}

static int run_plan(const struct pool_options *options, struct plan *plan, struct pool_figures *figures,
                    struct error *err)
{
    struct pool_cluster cluster;
    struct job_time time;
    int rc = pool_cluster_create(options, options->waiting ? 0 : options->workers, &cluster, err);

    if (rc != 0) {
        return rc;
    }
    if (options->waiting) {
        rc = measure_waiting(&cluster, plan, figures, err);
        if (rc != 0 || !options->running) {
            pool_cluster_destroy(&cluster);
            return rc;
        }
        if (rc == 0) {
            rc = cluster_add_workers(cluster.cluster, options->workers, err);
        }
        if (rc == 0) {
            rc = cluster_await_workers(cluster.cluster, cluster.dray, err);
        }
    }
    if (rc == 0) {
        pool_begin(&cluster);
        rc = job_run(cluster.dray, plan, &time, err);
    }
    if (rc == 0) {
        pool_end(&cluster, plan->tasks, figures);
        figures->tasks = plan->tasks;
        figures->seconds = (double)time.run_ns / 1e9;
        figures->first_ms = ms(time.first_ns);
        if (!options->waiting) {
            figures->pack_ms = ms(time.pack_ns);
            figures->push_ms = ms(time.push_ns);
        }
        rc = pool_count_runs(&cluster, plan->tasks, figures, err);
    }
    pool_cluster_destroy(&cluster);
    return rc;
}

typedef int (*shape_fn)(const struct pool_options *options, struct plan *plan, struct error *err);

static int run_shape(const struct pool_options *options, shape_fn shape, struct pool_figures *figures,
                     struct error *err)
{
    struct plan plan;
    int rc;

    plan_init(&plan);
    rc = shape(options, &plan, err);
    if (rc == 0) {
        rc = run_plan(options, &plan, figures, err);
    }
    plan_fini(&plan);
    return rc;
}

static int make_trivial(const struct pool_options *options, struct plan *plan, struct error *err)
{
    return shape_trivial(plan, options->tasks, err);
}

static int make_chain(const struct pool_options *options, struct plan *plan, struct error *err)
{
    return shape_chain(plan, options->tasks, err);
}

static int make_tree(const struct pool_options *options, struct plan *plan, struct error *err)
{
    return shape_tree(plan, options->tasks, err);
}

static int make_stencil(const struct pool_options *options, struct plan *plan, struct error *err)
{
    uint32_t steps = options->tasks / options->width;

    return shape_stencil(plan, options->width, steps > 0 ? steps : 1, err);
}

static int make_explicit(const struct pool_options *options, struct plan *plan, struct error *err)
{
    return shape_explicit(plan, options->tasks, SEED, err);
}

// A plugin's function that gives back 8 bytes: its index plus one, as Count does.
static int make_plugin(const struct pool_options *options, struct plan *plan, struct error *err)
{
    Dray__Call call = DRAY__CALL__INIT;
    Dray__Step step = DRAY__STEP__INIT;

    call.plugin = (char[]){"bench"};
    call.function = (char[]){"count"};
    step.call = &call;
    plan_step(plan, &step);
    return shape_trivial(plan, options->tasks, err);
}

static int make_command(const struct pool_options *options, struct plan *plan, struct error *err)
{
    ProtobufCBinaryData argv = {9, (uint8_t *)(char[]){"/bin/true"}};
    Dray__Command command = DRAY__COMMAND__INIT;
    Dray__Step step = DRAY__STEP__INIT;

    command.n_argv = 1;
    command.argv = &argv;
    step.command = &command;
    plan_step(plan, &step);
    plan->value_bytes = 0; // what true prints
    return shape_trivial(plan, options->tasks, err);
}

int pool_trivial(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_trivial, figures, err);
}

int pool_chain(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_chain, figures, err);
}

int pool_tree(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_tree, figures, err);
}

int pool_stencil(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_stencil, figures, err);
}

int pool_explicit(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_explicit, figures, err);
}

int pool_plugin(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_plugin, figures, err);
}

int pool_command(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return run_shape(options, make_command, figures, err);
}

// ---- clusters that only start ------------------------------------------------------------

int pool_start(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    uint64_t *ns = calloc(options->tasks, sizeof(*ns));
    uint64_t begun = monotonic_ns();
    int rc = ns == NULL ? error_no_memory(err) : 0;

    for (uint32_t i = 0; rc == 0 && i < options->tasks; i++) {
        struct pool_cluster cluster;

        rc = pool_cluster_create(options, options->workers, &cluster, err);
        if (rc == 0) {
            ns[i] = monotonic_ns() - cluster_born_ns(cluster.cluster);
            pool_cluster_destroy(&cluster);
        }
    }
    if (rc == 0) {
        qsort(ns, options->tasks, sizeof(*ns), pool_by_size);
        figures->tasks = options->tasks;
        figures->seconds = (double)(monotonic_ns() - begun) / 1e9;
        figures->start_ms = ms(ns[options->tasks / 2]);
    }
    free(ns);
    return rc;
}
