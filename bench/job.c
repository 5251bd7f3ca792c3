#include "bench/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/process.h"
#include "client/lib/client.h"

#define JOB_NS_MAX 120000000000ULL // a job that takes longer hangs

enum { ENCODED_HEADER = 16 }; // proto/partition.h

static int from_dray(const struct dray_error *from, int rc, struct error *err)
{
    return error_set(err, -rc, "%s", from->text);
}

static int send_part(dray_t *dray, const void *graph, size_t size, size_t first, bool last, dray_job_t *job,
                     struct dray_error *error)
{
    struct dray_submit_options options = {.size = sizeof(options), .name = "bench", .open = !last};
    int rc;

    if (first == 0) {
        return dray_submit_graph(dray, graph, size, &options, job, error);
    }
    while ((rc = dray_extend_graph(dray, *job, graph, size, last, error)) == -EAGAIN) {
        rc = dray_wait(dray, 1, error); // the broker is busy
        if (rc < 0) {
            break;
        }
    }
    return rc;
}

int job_push(dray_t *dray, struct plan *plan, struct job_time *time, dray_job_t *job, struct error *err)
{
    struct dray_error error = {0};
    size_t first = 0, layers;
    int rc = 0;

    *time = (struct job_time){0};
    while (rc == 0 && first < plan->graph.n_layer) {
        uint64_t begun = monotonic_ns(), packed;
        void *graph;
        size_t size;

        rc = plan_pack(plan, first, &layers, &graph, &size, err);
        if (rc != 0) {
            return rc;
        }
        packed = monotonic_ns();
        rc = send_part(dray, graph, size, first, first + layers == plan->graph.n_layer, job, &error);
        free(graph);
        first += layers;
        time->pack_ns += packed - begun;
        time->push_ns += monotonic_ns() - packed;
        time->graph_bytes += size;
    }
    if (rc != 0) {
        return from_dray(&error, rc, err);
    }
    // Nobody waits for the broker's word on layers that come after; an answer to what was asked after them
    // does.
    if (layers < plan->graph.n_layer) {
        const Dray__Cluster *cluster;
        struct arena arena;
        uint64_t begun = monotonic_ns();

        arena_init(&arena, 0);
        rc = client_cluster(dray, &arena, &cluster, err);
        arena_fini(&arena);
        time->push_ns += monotonic_ns() - begun;
    }
    return rc;
}

int job_result_bytes(const struct dray_event *event, struct dray_bytes *out, struct error *err)
{
    const char *data = event->data;

    if (event->value.data != NULL || (event->data != NULL && event->size == ENCODED_HEADER)) {
        *out = event->value;
        return 0;
    }
    if (data == NULL || event->size < ENCODED_HEADER || memcmp(data, "DPT1\2", 5) != 0) {
        return error_set(err, EBADMSG, "result %u of layer %u is no bytes", event->index, event->layer);
    }
    *out = (struct dray_bytes){data + ENCODED_HEADER, event->size - ENCODED_HEADER};
    return 0;
}

int job_check_value(const struct dray_event *event, uint64_t value, size_t bytes, struct error *err)
{
    struct dray_bytes got = {NULL, 0};
    uint64_t found = 0;
    int rc = job_result_bytes(event, &got, err);

    if (rc != 0) {
        return rc;
    }
    if (got.size != bytes) {
        return error_set(err, EBADMSG, "result %u of layer %u has %zu bytes instead of %zu", event->index,
                         event->layer, got.size, bytes);
    }
    for (size_t at = 0; at < got.size; at += sizeof(found)) {
        size_t n = got.size - at < sizeof(found) ? got.size - at : sizeof(found);

        memcpy(&found, (const char *)got.data + at, n);
        if (memcmp(&found, &value, n) != 0) {
            return error_set(err, EBADMSG, "result %u of layer %u is %llu instead of %llu (byte %zu of %zu)",
                             event->index, event->layer, (unsigned long long)found, (unsigned long long)value,
                             at, got.size);
        }
    }
    return 0;
}

struct taker {
    const struct plan *plan;
    uint8_t *seen; // a byte a result
    uint32_t taken;
    uint64_t first_ns; // when the first one came
};

static int take_result(struct taker *taker, const struct dray_event *event, struct error *err)
{
    const struct plan *plan = taker->plan;
    uint32_t place = plan_place(plan, event->layer, event->index);

    if (place == UINT32_MAX) {
        return error_set(err, EBADMSG, "result %u of layer %u was not asked for", event->index, event->layer);
    }
    if (taker->seen[place]) {
        return error_set(err, EBADMSG, "result %u of layer %u came twice", event->index, event->layer);
    }
    taker->seen[place] = 1;
    if (taker->taken++ == 0) {
        taker->first_ns = monotonic_ns();
    }
    return job_check_value(event, plan->expected[place], plan->value_bytes, err);
}

// 1: the job is over.
static int take_event(struct taker *taker, const struct dray_event *event, struct error *err)
{
    switch (event->type) {
    case DRAY_PARTITION:
        return take_result(taker, event, err);
    case DRAY_DONE:
        if (taker->taken != taker->plan->results) {
            return error_set(err, EBADMSG, "the job is over after %u of %u results", taker->taken,
                             taker->plan->results);
        }
        return 1;
    case DRAY_FAILED:
    case DRAY_CANCELLED:
    case DRAY_TASK_FAILED:
        return error_set(err, event->error.code != 0 ? event->error.code : ECANCELED, "the job failed: %s",
                         event->error.text);
    case DRAY_NOTE:
    case DRAY_PROGRESS:
    default:
        return 0;
    }
}

static int take_all(dray_t *dray, dray_job_t job, struct taker *taker, struct error *err)
{
    uint64_t deadline = monotonic_ns() + JOB_NS_MAX;
    struct dray_error error = {0};
    struct dray_event event;

    for (;;) {
        int rc = dray_wait(dray, 1000, &error);

        if (rc >= 0 && monotonic_ns() > deadline) {
            return error_set(err, ETIMEDOUT, "not over after %llu s: %u of %u results came",
                             JOB_NS_MAX / 1000000000U, taker->taken, taker->plan->results);
        }
        while (rc >= 0 && (rc = dray_next(dray, &event, &error)) == 1) {
            int over = event.job == job ? take_event(taker, &event, err) : 0;

            if (over != 0) {
                return over < 0 ? over : 0;
            }
        }
        if (rc < 0) {
            return from_dray(&error, rc, err);
        }
    }
}

int job_run(dray_t *dray, struct plan *plan, struct job_time *time, struct error *err)
{
    uint64_t begun = monotonic_ns();
    struct taker taker = {.plan = plan, .seen = calloc(plan->results, 1)};
    dray_job_t job;
    int rc = taker.seen == NULL ? error_no_memory(err) : job_push(dray, plan, time, &job, err);

    if (rc == 0) {
        rc = take_all(dray, job, &taker, err);
        time->run_ns = monotonic_ns() - begun;
        time->first_ns = taker.first_ns - begun;
    }
    free(taker.seen);
    return rc;
}
