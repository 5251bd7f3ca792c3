#include "client/lib/query_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/lib/client.h"
#include "client/lib/probe.h"
#include "proto/graph.h"
#include "proto/partition.h"
#include "proto/socket.h"

enum {
    LOOK_MS = 500, // without an event for so long, ask whether there are workers at all
};

struct query_run {
    struct query_run_host host;
    struct query *query;
    char *directory;
    dray_t *dray;
    enum query_outcome outcome; // of what failed first
    uint64_t no_workers_us;     // since when there are none; 0: there are
    bool told_waiting;
    bool keeps;                 // the adopted job, alive
    uint32_t job;               // that was submitted last; 0: it waits for an answer, or there was none
    uint32_t adopted;           // the job that has the next round's results; 0: none
    uint64_t expected;          // results of it,
    uint64_t received;          // that have come
    struct error cluster_error; // of the broker or for want of workers, without a place in the script
};

static int fail(struct query_run *run, enum query_outcome outcome, int rc)
{
    if (rc < 0 && run->outcome == QUERY_OK) {
        run->outcome = rc == -EINTR ? QUERY_INTERRUPTED : outcome;
    }
    return rc;
}

static int from_dray(struct error *err, const struct dray_error *from)
{
    return error_set(err, from->code, "%s", from->text);
}

static int connect_once(struct query_run *run, struct error *err)
{
    if (run->dray != NULL) {
        return 0;
    }
    return fail(run, QUERY_BROKER, run->host.connect(run->host.context, &run->dray, err));
}

// ---- waiting for workers --------------------------------------------------------------------

static void tell_waiting(struct query_run *run, const char *why)
{
    if (run->host.waiting != NULL && !run->told_waiting) {
        run->host.waiting(run->host.context, why);
    }
    run->told_waiting = true;
}

// Called with what is known of the number of workers.
static int note_workers(struct query_run *run, uint32_t workers, struct error *err)
{
    uint64_t now = monotonic_us();

    if (workers > 0) {
        run->no_workers_us = 0;
        run->told_waiting = false;
        return 0;
    }
    if (run->no_workers_us == 0) {
        run->no_workers_us = now;
    }
    if (now - run->no_workers_us >= (uint64_t)run->host.wait_ms * 1000) {
        error_set(err, EHOSTDOWN, "no workers are connected to the broker, and none came within %g s",
                  (double)run->host.wait_ms / 1000);
        return fail(run, QUERY_NO_WORKERS, -EHOSTDOWN);
    }
    if (now - run->no_workers_us > CLIENT_WORTH_A_WORD_US) {
        tell_waiting(run, "no workers are connected to the broker");
    }
    return 0;
}

// That the broker is lost is the caller's to say: the job may have ended before.
static int look_for_workers(struct query_run *run, struct error *err)
{
    const Dray__Cluster *cluster;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    rc = client_cluster(run->dray, &arena, &cluster, err);
    if (rc == 0) {
        rc =
            note_workers(run, cluster->n_worker > UINT32_MAX ? UINT32_MAX : (uint32_t)cluster->n_worker, err);
    }
    arena_fini(&arena);
    return rc;
}

// ---- one job ----------------------------------------------------------------------------------

typedef int (*take_partition)(void *context, uint32_t layer, uint32_t index,
                              const struct partition *partition, struct error *err);
typedef int (*take_note)(void *context, const struct dray_event *event, struct error *err);

struct job_taker {
    void *context;
    take_partition partition;
    take_note note; // NULL: of no interest
    bool progress;  // worth telling the host
};

static int take_event_partition(struct query_run *run, const struct dray_event *event,
                                const struct job_taker *taker, struct error *err)
{
    struct buffer *bytes = client_event_buffer(run->dray);
    struct partition *partition = NULL;
    int rc = partition_decode(bytes, &partition, err);

    if (rc != 0) {
        error_prefix(err, "result %u of layer %u: ", event->index, event->layer);
        fail(run, QUERY_JOB, rc);
    } else {
        rc = taker->partition(taker->context, event->layer, event->index, partition, err);
    }
    partition_unref(partition);
    buffer_unref(bytes);
    return rc;
}

static int take_progress(struct query_run *run, const struct dray_event *event, const struct job_taker *taker,
                         struct error *err)
{
    if (taker->progress && run->host.progress != NULL) {
        const struct query_progress progress = {
            .tasks = event->tasks,
            .done = event->done,
            .rows = event->rows,
            .source_bytes = event->source_bytes,
            .workers = event->workers,
            .waiting = event->waiting,
        };

        run->host.progress(run->host.context, &progress);
    }
    return note_workers(run, event->workers, err);
}

// 1: the job is over.
static int take_event(struct query_run *run, const struct dray_event *event, const struct job_taker *taker,
                      struct error *err)
{
    switch (event->type) {
    case DRAY_PARTITION:
        return take_event_partition(run, event, taker, err);
    case DRAY_NOTE:
        return taker->note != NULL ? taker->note(taker->context, event, err) : 0;
    case DRAY_PROGRESS:
        return take_progress(run, event, taker, err);
    case DRAY_DONE:
        return 1;
    case DRAY_FAILED:
    case DRAY_CANCELLED:
    default:
        from_dray(err, &event->error);
        // The broker lost the job, no task has failed.
        return fail(run,
                    event->error.code == ENOTCONN && event->layer == UINT32_MAX ? QUERY_BROKER : QUERY_JOB,
                    event->error.code > 0 ? -event->error.code : -EIO);
    }
}

// What has come of the job.  1: it has ended.
static int take_events(struct query_run *run, dray_job_t job, const struct job_taker *taker,
                       struct error *err)
{
    struct dray_error error = {0};
    struct dray_event event;
    int rc;

    while ((rc = dray_next(run->dray, &event, &error)) == 1) {
        if (event.job != job) {
            continue; // of the embedding program; it should not share the connection meanwhile
        }
        rc = take_event(run, &event, taker, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (rc < 0) {
        from_dray(err, &error);
        fail(run, QUERY_BROKER, rc);
    }
    return rc;
}

static int follow(struct query_run *run, dray_job_t job, const struct job_taker *taker, struct error *err)
{
    for (;;) {
        int rc = client_wait(run->dray, LOOK_MS, err), taken;

        if (rc == 0) {
            rc = look_for_workers(run, err);
            if (rc == 0) {
                continue;
            }
        }
        // When the broker is lost, what became of the job says more.
        taken = rc > 0 || rc == -ENOTCONN ? take_events(run, job, taker, err) : 0;
        if (taken != 0) {
            return taken < 0 ? taken : 0;
        }
        if (rc < 0) {
            return fail(run, QUERY_BROKER, rc);
        }
    }
}

// What is wrong with the job itself; all else is about the broker: lost, or it takes nothing more.
static bool is_job_fault(int rc)
{
    return rc == -EINVAL || rc == -EMSGSIZE || rc == -ENOENT || rc == -EEXIST || rc == -EPROTO;
}

static int submit(struct query_run *run, const struct dray_submit_options *options, const void *graph,
                  size_t size, dray_job_t *job, struct error *err)
{
    struct dray_error error = {0};
    int rc;

    run->job = 0;
    rc = dray_submit_graph(run->dray, graph, size, options, job, &error);
    if (rc == 0) {
        run->job = *job;
    } else {
        from_dray(err, &error);
        return fail(run, is_job_fault(rc) ? QUERY_JOB : QUERY_BROKER, rc);
    }
    return 0;
}

static int run_job(struct query_run *run, const struct dray_submit_options *options, const void *graph,
                   size_t size, const struct job_taker *taker, struct error *err)
{
    dray_job_t job;
    int rc = submit(run, options, graph, size, &job, err);

    if (rc != 0) {
        return rc;
    }
    rc = follow(run, job, taker, err);
    if (rc != 0) {
        dray_cancel(run->dray, job, NULL);
    }
    dray_release(run->dray, job, NULL);
    return rc;
}

// ---- probes --------------------------------------------------------------------------------------

static int take_probed(void *context, uint32_t layer, uint32_t index, const struct partition *partition,
                       struct error *err)
{
    (void)index;
    return probe_plan_take(context, layer, partition, err);
}

// Which files of each pattern workers have below their --data-dir folders.
static int find_sources(struct query_run *run, struct probe_plan *plan, const Dray__ProbeCsv *probe,
                        struct arena *arena, struct error *err)
{
    for (;;) {
        const Dray__Sources *sources;
        int rc = client_sources(run->dray, probe->pattern, probe->path, probe->glob, arena, &sources, err);

        if (rc != 0) {
            return fail(run, QUERY_BROKER, rc);
        }
        if (sources->n_file > 0 || sources->shared) {
            return fail(run, QUERY_JOB, probe_plan_add(plan, probe, sources, err));
        }
        rc = look_for_workers(run, err);
        if (rc != 0) {
            return fail(run, QUERY_BROKER, rc);
        }
        // Nobody was there when it was answered, perhaps, and somebody has come since: then it is asked
        // again.
        if (run->no_workers_us == 0 && sources->n_worker > 0) {
            return fail(run, QUERY_JOB, probe_not_found(probe, sources, err));
        }
        rc = client_wait(run->dray, 50, err);
        if (rc < 0) {
            return fail(run, QUERY_BROKER, rc);
        }
    }
}

static int probe(void *context, const Dray__ProbeCsv *const *probes, size_t count, struct arena *arena,
                 Dray__CsvProbeResult **out, struct error *err)
{
    struct query_run *run = context;
    struct probe_plan *plan = NULL;
    void *graph;
    size_t size;
    int rc = connect_once(run, err);

    if (rc == 0) {
        rc = probe_plan_create(arena, &plan, err);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = run->host.shared_files ? probe_plan_add(plan, probes[i], NULL, err)
                                    : find_sources(run, plan, probes[i], arena, err);
    }
    if (rc == 0) {
        rc = probe_plan_graph(plan, &graph, &size, err);
    }
    if (rc == 0) {
        const struct job_taker taker = {.context = plan, .partition = take_probed};
        const struct dray_submit_options options = {.size = sizeof(options), .ordered = 1, .name = "probe"};

        rc = run_job(run, &options, graph, size, &taker, err);
    }
    if (rc == 0) {
        rc = probe_plan_result(plan, out, err);
    }
    fail(run, QUERY_JOB, rc);
    if (rc != 0 && err != NULL && (run->outcome == QUERY_BROKER || run->outcome == QUERY_NO_WORKERS)) {
        run->cluster_error = *err;
    }
    return rc;
}

// ---- the query -------------------------------------------------------------------------------------

int query_run_create(const char *script, size_t size, const char *script_name,
                     const struct query_run_host *host, struct query_run **out, enum query_outcome *outcome,
                     struct error *err)
{
    struct query_run *run = calloc(1, sizeof(*run));
    int rc;

    if (run == NULL || (run->directory = getcwd(NULL, 0)) == NULL) {
        rc = error_set(err, errno, "cannot find the current folder: %s", strerror(errno));
        *outcome = QUERY_SCRIPT;
        query_run_destroy(run);
        return rc;
    }
    run->host = *host;

    const struct query_host query_host = {
        .context = run,
        .probe = probe,
        .working_directory = run->directory,
    };

    rc = query_create(script, size, script_name, &query_host, &run->query, err);
    if (rc != 0) {
        fail(run, QUERY_SCRIPT, rc);
        *outcome = run->outcome;
        if (err != NULL && run->cluster_error.code != 0) {
            *err = run->cluster_error; // no line of the script is to blame
        }
        query_run_destroy(run);
        return rc;
    }
    *outcome = QUERY_OK;
    *out = run;
    return 0;
}

void query_run_destroy(struct query_run *run)
{
    if (run != NULL) {
        query_destroy(run->query);
        free(run->directory);
        free(run);
    }
}

struct query *query_run_query(struct query_run *run)
{
    return run->query;
}

uint32_t query_run_job(const struct query_run *run)
{
    return run->adopted != 0 ? run->adopted : run->job;
}

static int hand_on(struct query_run *run, struct table *table, struct error *err)
{
    int rc = table == NULL ? 0 : fail(run, QUERY_OUTPUT, run->host.table(run->host.context, table, err));

    table_unref(table);
    return rc;
}

static int take_result(void *context, uint32_t layer, uint32_t index, const struct partition *partition,
                       struct error *err)
{
    struct query_run *run = context;
    struct table *table = NULL;
    int rc = query_table(run->query, layer, index, partition, &table, err);

    return rc != 0 ? fail(run, QUERY_JOB, rc) : hand_on(run, table, err);
}

static int take_query_note(void *context, const struct dray_event *event, struct error *err)
{
    struct query_run *run = context;

    return fail(run, QUERY_JOB,
                query_note(run->query, event->layer, event->index, event->data, event->size, err));
}

// Its job shall tell whoever takes it over what it is.  One that is too large for that is told by nobody
// else.
static int save(struct query_run *run, struct arena *arena, struct dray_bytes *note, struct error *err)
{
    void *bytes;
    int rc = query_save(run->query, arena, &bytes, &note->size, err);

    if (rc == 0) {
        note->data = bytes;
    } else {
        *note = (struct dray_bytes){0};
    }
    return rc;
}

static int run_round(struct query_run *run, struct error *err)
{
    const struct job_taker taker = {run, take_result, take_query_note, true};
    struct dray_submit_options options = {.size = sizeof(options), .ordered = 1, .name = run->host.job_name};
    struct arena arena;
    void *graph;
    size_t size;
    int rc;

    arena_init(&arena, 0);
    rc = fail(run, QUERY_SCRIPT, query_graph(run->query, &arena, &graph, &size, err));
    if (rc == 0) {
        rc = fail(run, QUERY_OUTPUT, run->host.begin(run->host.context, query_shape(run->query), err));
    }
    if (rc == 0) {
        save(run, &arena, &options.note, NULL);
        rc = run_job(run, &options, graph, size, &taker, err);
    }
    arena_fini(&arena);
    return rc;
}

int query_run_leave(struct query_run *run, uint32_t *job, enum query_outcome *outcome, struct error *err)
{
    struct dray_submit_options options = {
        .size = sizeof(options), .detached = 1, .ordered = 1, .name = run->host.job_name};
    struct arena arena;
    void *graph;
    size_t size;
    int rc;

    arena_init(&arena, 0);
    rc = connect_once(run, err);
    rc = rc == 0 ? fail(run, QUERY_SCRIPT, query_graph(run->query, &arena, &graph, &size, err)) : rc;
    rc = rc == 0 ? fail(run, QUERY_SCRIPT, save(run, &arena, &options.note, err)) : rc;
    rc = rc == 0 ? submit(run, &options, graph, size, job, err) : rc;
    arena_fini(&arena);
    *outcome = run->outcome;
    return rc;
}

// ---- the job of somebody else ---------------------------------------------------------------------------

// The job must be the one that its note tells of.
static int check_adopted(struct query_run *run, const Dray__Attached *attached, const Dray__Graph *graph,
                         struct error *err)
{
    bool same = attached->n_layer == graph->n_layer;

    if (attached->n_layer == 0 && attached->state != DRAY__JOB_STATE__DONE) {
        return 0; // how it ended comes
    }
    if (attached->n_layer == 0) {
        return error_set(err, ENODATA, "the results of job %u are no longer there", run->adopted);
    }
    run->expected = run->received = 0;
    for (size_t i = 0; same && i < graph->n_layer; i++) {
        same = graph->layer[i]->tasks == attached->layer[i]->tasks &&
               graph->layer[i]->wanted == attached->layer[i]->wanted;
        run->expected += graph->layer[i]->wanted ? graph->layer[i]->tasks : 0;
    }
    return same ? 0
                : error_set(err, EPROTO,
                            "job %u has other tasks than its script: it was submitted by another version",
                            run->adopted);
}

static int take_adopted(void *context, uint32_t layer, uint32_t index, const struct partition *partition,
                        struct error *err)
{
    struct query_run *run = context;

    run->received++;
    return take_result(run, layer, index, partition, err);
}

static int adopt_round(struct query_run *run, struct error *err)
{
    const struct client_attach how = {.job = run->adopted, .ordered = true, .detach = run->keeps};
    const struct job_taker taker = {run, take_adopted, take_query_note, true};
    const Dray__Attached *attached;
    const Dray__Graph *decoded;
    struct arena arena;
    void *graph;
    size_t size;
    int rc;

    arena_init(&arena, 0);
    rc = fail(run, QUERY_SCRIPT, query_graph(run->query, &arena, &graph, &size, err));
    rc = rc == 0 ? fail(run, QUERY_SCRIPT, graph_decode(graph, size, &arena, &decoded, err)) : rc;
    rc = rc == 0 ? fail(run, QUERY_OUTPUT, run->host.begin(run->host.context, query_shape(run->query), err))
                 : rc;
    rc = rc == 0 ? fail(run, QUERY_BROKER, client_attach(run->dray, &how, &arena, &attached, err)) : rc;
    rc = rc == 0 ? fail(run, QUERY_JOB, check_adopted(run, attached, decoded, err)) : rc;
    rc = rc == 0 ? follow(run, run->adopted, &taker, err) : rc;
    if (rc == 0 && run->received < run->expected) {
        error_set(err, ENODATA,
                  "%llu of %llu results of job %u are no longer there: the client that had it has read them",
                  (unsigned long long)(run->expected - run->received), (unsigned long long)run->expected,
                  run->adopted);
        rc = fail(run, QUERY_JOB, -ENODATA);
    }
    run->job = run->adopted;
    run->adopted = 0;
    arena_fini(&arena);
    return rc;
}

void query_run_keeps(struct query_run *run, bool keeps)
{
    run->keeps = keeps;
}

int query_run_adopt(uint32_t job, const void *note, size_t size, const struct query_run_host *host,
                    struct query_run **out, enum query_outcome *outcome, struct error *err)
{
    struct query_run *run = calloc(1, sizeof(*run));
    int rc;

    if (run == NULL) {
        *outcome = QUERY_JOB;
        return error_no_memory(err);
    }
    run->host = *host;
    run->adopted = job;
    rc = query_restore(note, size, &run->query, err);
    if (rc != 0) {
        *outcome = QUERY_JOB;
        query_run_destroy(run);
        return rc;
    }
    *outcome = QUERY_OK;
    *out = run;
    return 0;
}

static int known_value(struct query_run *run, struct error *err)
{
    struct table *table = NULL;
    int rc = fail(run, QUERY_SCRIPT, query_value(run->query, &table, err));

    if (rc == 0) {
        rc = fail(run, QUERY_OUTPUT, run->host.begin(run->host.context, query_shape(run->query), err));
    }
    if (rc != 0) {
        table_unref(table);
        return rc;
    }
    return hand_on(run, table, err);
}

int query_run_value(struct query_run *run, enum query_outcome *outcome, struct error *err)
{
    int rc;

    if (!query_needs_graph(run->query)) {
        rc = known_value(run, err);
    } else {
        rc = connect_once(run, err);
        while (rc == 0) {
            rc = run->adopted != 0 ? adopt_round(run, err) : run_round(run, err);
            if (rc == 0) {
                rc = query_round_end(run->query, err);
                if (rc == 0) {
                    break;
                }
                rc = rc == 1 ? 0 : fail(run, QUERY_JOB, rc);
            }
        }
    }
    *outcome = run->outcome;
    return rc;
}
