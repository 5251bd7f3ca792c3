// What dray.h and client.h say of whole jobs, and questions to the broker.
#include "client/lib/jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "client/lib/connection.h"
#include "proto/graph.h"
#include "proto/schema.h"

enum {
    SUBMIT_MS = 30000,  // a broker that takes a large graph apart may need a while
    WRITTEN_MS = 30000, // and so may its disk
};

static int choose_key(const uint64_t given[2], struct awaited *awaited, struct error *err)
{
    uint64_t key[2] = {given[0], given[1]};

    if (key[0] == 0 && key[1] == 0 && getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
        return error_set(err, errno, "cannot get random bytes: %s", strerror(errno));
    }
    awaited->key_hi = key[0];
    awaited->key_lo = key[1];
    return 0;
}

int jobs_submit(dray_t *dray, const Dray__Graph *graph, struct dray_bytes packed,
                const struct dray_submit_options *options, size_t *unfinished, uint32_t *job,
                struct error *err)
{
    struct awaited *awaited = &dray->awaited;
    Dray__Submit submit = DRAY__SUBMIT__INIT;
    int rc;

    memset(awaited, 0, sizeof(*awaited));
    rc = choose_key(options->key, awaited, err);
    if (rc != 0) {
        return rc;
    }
    awaited->kind = AWAIT_SUBMIT;
    awaited->graph = graph;
    awaited->options.detached = options->detached != 0;
    awaited->options.ordered = options->ordered != 0;
    awaited->options.open = options->open != 0;
    awaited->options.unfinished = unfinished;
    submit.has_priority = options->priority != 0;
    submit.priority = options->priority;
    submit.has_detached = submit.detached = options->detached != 0;
    submit.has_failures_max = options->failures_max != 0;
    submit.failures_max = options->failures_max;
    submit.has_open = submit.open = options->open != 0;
    submit.name = (char *)(uintptr_t)options->name; // only read
    submit.has_note = options->note.size > 0;
    submit.note.data = (uint8_t *)(uintptr_t)options->note.data;
    submit.note.len = options->note.size;
    submit.key_hi = awaited->key_hi;
    submit.key_lo = awaited->key_lo;
    submit.graph.data = (uint8_t *)(uintptr_t)packed.data;
    submit.graph.len = packed.size;
    rc = connection_ask(dray, FRAME_SUBMIT, &submit.base, SUBMIT_MS, "a job", err);
    if (rc == 0 && awaited->refused.code != 0) {
        if (err != NULL) {
            *err = awaited->refused;
        }
        rc = -awaited->refused.code;
    }
    if (rc == 0) {
        *job = awaited->job;
    }
    memset(awaited, 0, sizeof(*awaited));
    return rc;
}

int dray_submit_graph(dray_t *dray, const void *graph, size_t size, const struct dray_submit_options *given,
                      dray_job_t *job, struct dray_error *error)
{
    struct dray_submit_options options = {0};
    const Dray__Graph *decoded = NULL;
    struct error err = {0};
    struct arena arena;
    int rc = 0;

    if (given != NULL) {
        memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
    }
    arena_init(&arena, 0);
    if (graph != NULL || !options.open) {
        rc = graph_decode(graph, size, &arena, &decoded, &err);
    }
    if (rc == 0) {
        rc = jobs_submit(dray, decoded, (struct dray_bytes){graph, graph != NULL ? size : 0}, &options, NULL,
                         job, &err);
    }
    arena_fini(&arena);
    connection_settle(dray);
    return client_error(rc, &err, error);
}

int dray_extend_graph(dray_t *dray, dray_job_t job, const void *graph, size_t size, int last,
                      struct dray_error *error)
{
    const Dray__Graph *decoded = NULL;
    struct error err = {0};
    struct arena arena;
    uint8_t *copy = NULL;
    uint32_t layers = 0;
    int rc;

    arena_init(&arena, 0);
    rc = results_open_layers(dray->results, job, &layers, &err);
    if (rc == 0 && graph != NULL) {
        copy = malloc(size + 1);
        rc = copy == NULL ? error_no_memory(&err) : 0;
    }
    if (rc == 0 && graph != NULL) {
        ProtobufCMessage *message;

        memcpy(copy, graph, size);
        rc = schema_unpack(&dray__graph__descriptor, graph, size, &arena, &message, &err);
        if (rc == 0) {
            decoded = (const Dray__Graph *)message;
            rc = results_add_layers(dray->results, job, decoded, &err); // checks it
        }
    }
    if (rc == 0) {
        rc = results_extend(dray->results, job, layers, decoded != NULL ? (uint32_t)decoded->n_layer : 0,
                            &copy, copy != NULL ? size : 0, last != 0, true, &err);
        if (rc != 0) {
            results_cut_layers(dray->results, job, layers);
        } else if (last) {
            results_close_job(dray->results, job);
        }
    }
    free(copy);
    arena_fini(&arena);
    connection_settle(dray);
    return client_error(rc, &err, error);
}

int dray_cancel(dray_t *dray, dray_job_t job, struct dray_error *error)
{
    struct error err = {0};

    return client_error(client_cancel(dray, job, NULL, 0, &err), &err, error);
}

int client_cancel(dray_t *dray, uint32_t job, const struct client_range *range, size_t ranges,
                  struct error *err)
{
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    struct arena arena;
    int rc = -ENOMEM;

    arena_init(&arena, 0);
    cancel.job = job;
    cancel.run = results_runs(job, range, ranges, &arena, &cancel.n_run);
    if (cancel.run != NULL) {
        results_cancelled(dray->results, job, range, ranges);
        rc = uplink_send(dray->uplink, FRAME_CANCEL, &cancel.base, err);
        if (rc == -EAGAIN && results_away(dray->results) && results_has_job(dray->results, job)) {
            rc = 0; // when the connection is there again
        }
    } else {
        error_no_memory(err);
    }
    arena_fini(&arena);
    connection_settle(dray);
    return rc;
}

int dray_release(dray_t *dray, dray_job_t job, struct dray_error *error)
{
    Dray__Free message = DRAY__FREE__INIT;
    struct error err = {0};
    int rc;

    results_farewell(dray->results, job);
    results_drop_job(dray->results, job);
    message.job = job;
    rc = uplink_send(dray->uplink, FRAME_FREE, &message.base, &err);
    if (rc == -EAGAIN && results_away(dray->results)) {
        rc = 0; // when the connection is there again
    }
    connection_settle(dray);
    return client_error(rc, &err, error);
}

// ---- questions -----------------------------------------------------------------------------------

// The question carries dray->tag already.
static int inquire(dray_t *dray, enum frame_type question, const ProtobufCMessage *message,
                   enum frame_type answer, struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    struct awaited *awaited = &dray->awaited;
    bool written = question == FRAME_KEEP || question == FRAME_UNKEEP || question == FRAME_ATTACH ||
                   question == FRAME_CANCEL;
    int rc;

    awaited->kind = AWAIT_TAG;
    awaited->type = answer;
    awaited->tag = dray->tag;
    awaited->arena = arena;
    rc = connection_ask(dray, question, message, written ? WRITTEN_MS : CLIENT_ANSWER_MS,
                        written ? "what its disk is to have first" : "a question", err);
    if (rc == 0) {
        *out = awaited->answer;
    }
    dray->repeated = awaited->again;
    memset(awaited, 0, sizeof(*awaited));
    connection_settle(dray);
    return rc;
}

// The answer's `why`, when it has one.
static int refused(const Dray__Failure *why, struct error *err)
{
    return why == NULL ? 0 : error_set(err, why->code > 0 ? why->code : EINVAL, "%s", why->text);
}

int client_cluster(dray_t *dray, struct arena *arena, const Dray__Cluster **out, struct error *err)
{
    Dray__ClusterQuery query = DRAY__CLUSTER_QUERY__INIT;
    ProtobufCMessage *answer;
    int rc;

    query.tag = ++dray->tag;
    rc = inquire(dray, FRAME_CLUSTER_QUERY, &query.base, FRAME_CLUSTER, arena, &answer, err);
    if (rc == 0) {
        *out = (const Dray__Cluster *)answer;
    }
    return rc;
}

int client_sources(dray_t *dray, const char *pattern, const char *path, bool glob, struct arena *arena,
                   const Dray__Sources **out, struct error *err)
{
    Dray__SourceQuery query = DRAY__SOURCE_QUERY__INIT;
    ProtobufCMessage *answer;
    int rc;

    query.tag = ++dray->tag;
    query.pattern = (char *)(uintptr_t)pattern;
    query.path = (char *)(uintptr_t)path;
    query.has_glob = true;
    query.glob = glob;
    rc = inquire(dray, FRAME_SOURCE_QUERY, &query.base, FRAME_SOURCES, arena, &answer, err);
    if (rc == 0) {
        *out = (const Dray__Sources *)answer;
    }
    return rc;
}

static int ask_for_jobs(dray_t *dray, uint32_t job, bool brief, struct arena *arena, const Dray__Jobs **out,
                        struct error *err)
{
    Dray__JobQuery query = DRAY__JOB_QUERY__INIT;
    ProtobufCMessage *answer;
    int rc;

    query.tag = ++dray->tag;
    query.has_job = job != 0;
    query.job = job;
    query.has_brief = query.brief = brief;
    rc = inquire(dray, FRAME_JOB_QUERY, &query.base, FRAME_JOBS, arena, &answer, err);
    if (rc == 0) {
        rc = refused(((const Dray__Jobs *)answer)->why, err);
    }
    if (rc == 0) {
        *out = (const Dray__Jobs *)answer;
    }
    return rc;
}

int client_jobs(dray_t *dray, uint32_t job, struct arena *arena, const Dray__Jobs **out, struct error *err)
{
    return ask_for_jobs(dray, job, false, arena, out, err);
}

int client_job(dray_t *dray, uint32_t job, struct arena *arena, const Dray__JobInfo **out, struct error *err)
{
    const Dray__Jobs *jobs;
    int rc = ask_for_jobs(dray, job, true, arena, &jobs, err);

    if (rc == 0 && jobs->n_job != 1) {
        rc = error_set(err, EPROTO, "the broker answered the question about job %u with %zu", job,
                       jobs->n_job);
    }
    if (rc == 0) {
        *out = jobs->job[0];
    }
    return rc;
}

// ---- kept and attached jobs ----------------------------------------------------------------------

int client_keep(dray_t *dray, uint32_t job, const char *name, struct error *err)
{
    Dray__Keep keep = DRAY__KEEP__INIT;
    ProtobufCMessage *answer;
    struct arena arena;
    int rc;

    results_flush(dray->results, true); // what was released before is not kept
    arena_init(&arena, 0);
    keep.tag = ++dray->tag;
    keep.job = job;
    keep.name = (char *)(uintptr_t)name;
    rc = inquire(dray, FRAME_KEEP, &keep.base, FRAME_REPLY, &arena, &answer, err);
    if (rc == 0) {
        rc = refused(((const Dray__Reply *)answer)->why, err);
    }
    if (rc == 0) {
        results_keep_job(dray->results, job, name);
    }
    arena_fini(&arena);
    return rc;
}

int client_cancel_safely(dray_t *dray, uint32_t job, const struct client_range *range, size_t ranges,
                         struct error *err)
{
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    ProtobufCMessage *answer = NULL;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    cancel.job = job;
    cancel.run = results_runs(job, range, ranges, &arena, &cancel.n_run);
    cancel.has_tag = true;
    cancel.tag = ++dray->tag;
    rc = cancel.run != NULL ? inquire(dray, FRAME_CANCEL, &cancel.base, FRAME_REPLY, &arena, &answer, err)
                            : error_no_memory(err);
    if (rc == 0) {
        rc = refused(((const Dray__Reply *)answer)->why, err);
    }
    arena_fini(&arena);
    return rc;
}

int client_unkeep(dray_t *dray, const char *name, struct error *err)
{
    Dray__Unkeep unkeep = DRAY__UNKEEP__INIT;
    ProtobufCMessage *answer;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    unkeep.tag = ++dray->tag;
    unkeep.name = (char *)(uintptr_t)name;
    rc = inquire(dray, FRAME_UNKEEP, &unkeep.base, FRAME_REPLY, &arena, &answer, err);
    if (rc == 0) {
        rc = refused(((const Dray__Reply *)answer)->why, err);
        rc = rc == -ENOENT && dray->repeated ? 0 : rc; // the first time it was there
    }
    if (rc == 0) {
        results_unkeep(dray->results, name);
    }
    arena_fini(&arena);
    return rc;
}

int client_retire(dray_t *dray, char *const *name, size_t names, struct error *err)
{
    Dray__Retire retire = DRAY__RETIRE__INIT;
    ProtobufCMessage *answer;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    retire.tag = ++dray->tag;
    retire.n_name = names;
    retire.name = (char **)(uintptr_t)name; // only read
    rc = inquire(dray, FRAME_RETIRE, &retire.base, FRAME_REPLY, &arena, &answer, err);
    if (rc == 0) {
        rc = refused(((const Dray__Reply *)answer)->why, err);
    }
    arena_fini(&arena);
    return rc;
}

int client_attach(dray_t *dray, const struct client_attach *how, struct arena *arena,
                  const Dray__Attached **out, struct error *err)
{
    Dray__Attach attach = DRAY__ATTACH__INIT;
    const Dray__Attached *attached;
    ProtobufCMessage *answer;
    int rc;

    attach.tag = ++dray->tag;
    attach.has_job = how->kept == NULL;
    attach.job = how->job;
    attach.kept = (char *)(uintptr_t)how->kept;
    attach.has_look = attach.look = how->look;
    attach.has_detach = attach.detach = how->detach;
    dray->awaited.attach = !how->look;
    dray->awaited.options.detached = true; // others may want its results
    dray->awaited.options.ordered = how->ordered;
    dray->awaited.options.unfetched = how->unfetched;
    rc = inquire(dray, FRAME_ATTACH, &attach.base, FRAME_ATTACHED, arena, &answer, err);
    if (rc == 0) {
        attached = (const Dray__Attached *)answer;
        rc = refused(attached->why, err);
        if (rc == 0) {
            *out = attached;
        }
    }
    return rc;
}

int client_adopt(dray_t *dray, uint32_t job, struct error *err)
{
    const struct dray_options options = {.size = sizeof(options)};
    const struct client_attach how = {.job = job, .unfetched = true, .detach = true};
    const Dray__Attached *attached;
    struct arena arena;
    dray_t *other = NULL;
    int rc = client_connect(uplink_endpoint(dray->uplink), &options, dray->interrupt, &other, err);

    if (rc == 0) {
        arena_init(&arena, 0);
        rc = client_attach(other, &how, &arena, &attached, err);
        arena_fini(&arena);
    }
    dray_close(other);
    return rc;
}

int dray_keep(dray_t *dray, dray_job_t job, const char *name, struct dray_error *error)
{
    struct error err = {0};

    return client_error(client_keep(dray, job, name, &err), &err, error);
}

int dray_unkeep(dray_t *dray, const char *name, struct dray_error *error)
{
    struct error err = {0};

    return client_error(client_unkeep(dray, name, &err), &err, error);
}

int dray_attach(dray_t *dray, dray_job_t job, const char *kept, dray_job_t *out, struct dray_error *error)
{
    const struct client_attach how = {.job = job, .kept = kept};
    const Dray__Attached *attached;
    struct error err = {0};
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    rc = client_attach(dray, &how, &arena, &attached, &err);
    if (rc == 0) {
        *out = attached->job;
    }
    arena_fini(&arena);
    return client_error(rc, &err, error);
}
