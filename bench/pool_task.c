#include "bench/pool.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/job.h"
#include "bench/journal_size.h"
#include "bench/process.h"
#include "bench/random.h"

enum { WARM = 100 };

static int from_dray(const struct dray_error *from, int rc, struct error *err)
{
    return error_set(err, -rc, "%s", from->text);
}

// A task's result, as Count makes it of its index alone.
static int check(const struct dray_event *event, struct error *err)
{
    if (event->type == DRAY_TASK_FAILED || event->type == DRAY_FAILED || event->type == DRAY_CANCELLED) {
        return error_set(err, event->error.code != 0 ? event->error.code : ECANCELED, "%s",
                         event->error.text);
    }
    return job_check_value(event, 1 + (uint64_t)event->index, sizeof(uint64_t), err);
}

// 1: a result came; 0: nothing of interest.
static int take(dray_t *dray, struct dray_event *event, struct error *err)
{
    struct dray_error error = {0};
    int rc = dray_next(dray, event, &error);

    if (rc < 0) {
        return from_dray(&error, rc, err);
    }
    if (rc == 0 || event->type == DRAY_NOTE || event->type == DRAY_PROGRESS || event->type == DRAY_DONE) {
        return rc == 0 ? 0 : take(dray, event, err);
    }
    rc = check(event, err);
    return rc == 0 ? 1 : rc;
}

// ---- one at a time -------------------------------------------------------------------------

static int round_trip(dray_t *dray, dray_pool_t *pool, uint64_t *ns, struct error *err)
{
    const struct dray_task task = {.size = sizeof(task), .kind = DRAY_TASK_COUNT};
    struct dray_error error = {0};
    struct dray_event event;
    struct dray_future future;
    uint64_t begun = monotonic_ns();
    int rc = dray_submit(pool, &task, &future, &error);

    if (rc == 0) {
        rc = dray_pool_flush(pool, &error);
    }
    while (rc >= 0) {
        rc = dray_wait(dray, -1, &error);
        if (rc < 0) {
            break;
        }
        rc = take(dray, &event, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 1) {
            *ns = monotonic_ns() - begun;
            if (event.job != future.job || event.layer != future.layer || event.index != future.index) {
                return error_set(err, EBADMSG, "another task's result came");
            }
            rc = dray_release_futures(dray, &future, 1, &error);
            break;
        }
    }
    return rc < 0 ? from_dray(&error, rc, err) : 0;
}

static int open_pool(const struct pool_options *options, struct pool_cluster *cluster, dray_pool_t **pool,
                     struct error *err)
{
    const struct dray_pool_options pool_options = {.size = sizeof(pool_options), .name = "bench"};
    struct dray_error error = {0};
    int rc = pool_cluster_create(options, options->workers, cluster, err);

    if (rc != 0) {
        return rc;
    }
    rc = dray_pool_open(cluster->dray, &pool_options, pool, &error);
    if (rc != 0) {
        pool_cluster_destroy(cluster);
        return from_dray(&error, rc, err);
    }
    return 0;
}

int pool_latency(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    uint64_t *ns = calloc(options->tasks, sizeof(*ns)), begun = 0, warm;
    struct pool_cluster cluster;
    dray_pool_t *pool;
    int rc = ns == NULL ? error_no_memory(err) : open_pool(options, &cluster, &pool, err);

    if (rc != 0) {
        free(ns);
        return rc;
    }
    for (uint32_t i = 0; rc == 0 && i < WARM; i++) {
        rc = round_trip(cluster.dray, pool, &warm, err);
    }
    if (rc == 0) {
        pool_begin(&cluster);
        begun = monotonic_ns();
    }
    for (uint32_t i = 0; rc == 0 && i < options->tasks; i++) {
        rc = round_trip(cluster.dray, pool, &ns[i], err);
    }
    if (rc == 0) {
        figures->seconds = (double)(monotonic_ns() - begun) / 1e9;
        figures->tasks = options->tasks;
        pool_end(&cluster, options->tasks, figures);
        qsort(ns, options->tasks, sizeof(*ns), pool_by_size);
        figures->p50_us = (double)ns[options->tasks / 2] / 1e3;
        figures->p99_us = (double)ns[(size_t)((double)options->tasks * 0.99)] / 1e3;
        rc = pool_count_runs(&cluster, (uint64_t)options->tasks + WARM, figures, err);
    }
    dray_pool_close(pool);
    pool_cluster_destroy(&cluster);
    free(ns);
    return rc;
}

// ---- many single ones ------------------------------------------------------------------------

struct flight {
    struct dray_future *future; // in the order submitted
    uint8_t *seen;              // a byte a future
    uint32_t submitted, taken;
};

static int by_future(const void *a, const void *b)
{
    const struct dray_future *x = a, *y = b;

    if (x->job != y->job) {
        return x->job < y->job ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

// Futures of one pool ascend, so a result finds its own by bisection.
static int note(struct flight *flight, const struct dray_event *event, struct error *err)
{
    const struct dray_future key = {event->job, event->layer, event->index};
    const struct dray_future *found =
        bsearch(&key, flight->future, flight->submitted, sizeof(key), by_future);

    if (found == NULL || flight->seen[found - flight->future]) {
        return error_set(err, EBADMSG, "result %u of layer %u %s", event->index, event->layer,
                         found == NULL ? "was never asked for" : "came twice");
    }
    flight->seen[found - flight->future] = 1;
    flight->taken++;
    return 0;
}

static int drain(dray_t *dray, struct flight *flight, struct error *err)
{
    struct dray_event event;
    int rc;

    while ((rc = take(dray, &event, err)) == 1) {
        rc = note(flight, &event, err);
        if (rc < 0) {
            return rc;
        }
    }
    return rc;
}

static int fly(dray_t *dray, dray_pool_t *pool, uint32_t tasks, struct flight *flight, struct error *err)
{
    const struct dray_task task = {.size = sizeof(task), .kind = DRAY_TASK_COUNT};
    struct dray_error error = {0};
    int rc;

    for (uint32_t i = 0; i < tasks; i++) {
        rc = dray_submit(pool, &task, &flight->future[i], &error);
        if (rc < 0) {
            return from_dray(&error, rc, err);
        }
        if (i > 0 && by_future(&flight->future[i - 1], &flight->future[i]) >= 0) {
            return error_set(err, EBADMSG, "future %u does not come after the one before it", i);
        }
        flight->submitted++;
    }
    rc = dray_pool_flush(pool, &error);
    while (rc >= 0 && flight->taken < tasks) {
        rc = dray_wait(dray, -1, &error);
        if (rc >= 0) {
            int drained = drain(dray, flight, err);

            if (drained < 0) {
                return drained;
            }
        }
    }
    return rc < 0 ? from_dray(&error, rc, err) : 0;
}

// ---- in any order ------------------------------------------------------------------------------

enum { PIECES = 100, PIECE_MS = 110 }; // the broker writes what nobody waits for every 100 ms

static void shuffle(struct dray_future *future, uint32_t count)
{
    uint64_t state = 1;

    for (uint32_t i = count; i > 1; i--) {
        uint32_t k = random_below(&state, i);
        struct dray_future other = future[k];

        future[k] = future[i - 1];
        future[i - 1] = other;
    }
}

// What the journal is told of a task, that it is over, comes when its result is released.
static int release_all(const struct pool_cluster *cluster, const struct flight *flight,
                       struct pool_figures *figures, struct error *err)
{
    figures->journal_most_bytes = 0;
    for (uint32_t piece = 0, from = 0; piece < PIECES; piece++) {
        uint32_t to = (uint32_t)((uint64_t)flight->submitted * (piece + 1) / PIECES);
        struct dray_error error = {0};
        uint64_t until = monotonic_ns() + (uint64_t)PIECE_MS * 1000000;
        int rc = dray_release_futures(cluster->dray, &flight->future[from], to - from, &error);

        while (rc >= 0 && monotonic_ns() < until) {
            rc = dray_wait(cluster->dray, PIECE_MS / 10, &error);
        }
        if (rc < 0) {
            return from_dray(&error, rc, err);
        }
        from = to;
        if (cluster->state != NULL) {
            double bytes = ((double)journal_size(cluster->state) - (double)cluster->journal_before) /
                           (double)flight->submitted;

            figures->journal_most_bytes =
                bytes > figures->journal_most_bytes ? bytes : figures->journal_most_bytes;
        }
    }
    return 0;
}

static int measure_map(const struct pool_options *options, bool in_any_order, struct pool_figures *figures,
                       struct error *err)
{
    struct flight flight = {.future = calloc(options->tasks, sizeof(*flight.future)),
                            .seen = calloc(options->tasks, 1)};
    struct pool_cluster cluster;
    dray_pool_t *pool;
    int rc = flight.future == NULL || flight.seen == NULL ? error_no_memory(err)
                                                          : open_pool(options, &cluster, &pool, err);

    if (rc == 0) {
        uint64_t begun = monotonic_ns();

        pool_begin(&cluster);
        rc = fly(cluster.dray, pool, options->tasks, &flight, err);
        if (rc == 0 && in_any_order) {
            shuffle(flight.future, flight.submitted);
            rc = release_all(&cluster, &flight, figures, err);
        }
        if (rc == 0) {
            figures->seconds = (double)(monotonic_ns() - begun) / 1e9;
            figures->tasks = options->tasks;
            pool_end(&cluster, options->tasks, figures);
            rc = pool_count_runs(&cluster, options->tasks, figures, err);
        }
        dray_pool_close(pool);
        pool_cluster_destroy(&cluster);
    }
    free(flight.future);
    free(flight.seen);
    return rc;
}

int pool_map(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return measure_map(options, false, figures, err);
}

int pool_release(const struct pool_options *options, struct pool_figures *figures, struct error *err)
{
    return measure_map(options, true, figures, err);
}
