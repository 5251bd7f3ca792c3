#include "proto/frame_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/checker.h"
#include "proto/graph.h"
#include "proto/payload.h"

enum { HELLO_BODY_MAX = 256 << 10, SMALL_BODY_MAX = 64 << 10 };
// A partition of INLINE_BYTES_MAX with its header.
#define PARTITION_INLINE_MAX (INLINE_BYTES_MAX + 4096)
#define PARTITION_INLINE_MIN 16 // the header

static int check_hello(struct checker *k, const Dray__Hello *m)
{
    int rc = checker_name(k, "its name", m->name);

    if (rc == 0) {
        rc = checker_name(k, "its version", m->version);
    }
    if (rc == 0) {
        rc = checker_endpoints(k, m->endpoint, m->n_endpoint);
    }
    for (size_t i = 0; i < m->n_data_dir && rc == 0; i++) {
        rc = checker_name(k, "a data directory", m->data_dir[i]);
    }
    if (rc == 0) {
        rc = checker_strings(k, "a label", m->label, m->n_label);
    }
    if (rc == 0) {
        rc = checker_resources(k, m->resource, m->n_resource);
    }
    if (rc == 0 && m->role == DRAY__ROLE__WORKER && (m->threads < 1 || m->threads > FRAME_THREADS_MAX)) {
        rc = error_set(k->err, EBADMSG, "a worker of %u threads", m->threads);
    }
    return rc;
}

static int check_welcome(struct checker *k, const Dray__Welcome *m)
{
    if (m->heartbeat_ms == 0 || m->timeout_ms < m->heartbeat_ms) {
        return error_set(k->err, EBADMSG, "heartbeats every %u ms with a timeout of %u ms", m->heartbeat_ms,
                         m->timeout_ms);
    }
    return 0;
}

static int check_refuse(struct checker *k, const Dray__Refuse *m)
{
    return checker_failure(k, m->why);
}

static int check_bye(struct checker *k, const Dray__Bye *m)
{
    return checker_failure(k, m->why);
}

static int check_holdings(struct checker *k, Dray__Holding *const *holding, size_t count, bool gone)
{
    for (size_t i = 0; i < count; i++) {
        const Dray__Holding *h = holding[i];
        uint64_t tasks = 0;
        int rc = checker_ranges(k, h->layer, h->n_first, h->first, h->n_count, h->count, &tasks);

        if (rc < 0) {
            return rc;
        }
        if (h->n_bytes != (gone ? 0 : tasks)) {
            return error_set(k->err, EBADMSG, "%zu sizes for %llu partitions of layer %u", h->n_bytes,
                             (unsigned long long)tasks, h->layer);
        }
    }
    return 0;
}

static int check_advertise(struct checker *k, const Dray__Advertise *m)
{
    int rc = check_holdings(k, m->add, m->n_add, false);

    if (rc == 0) {
        rc = check_holdings(k, m->gone, m->n_gone, true);
    }
    if (rc == 0) {
        rc = checker_files(k, m->file, m->n_file);
    }
    k->tasks = 0;
    return rc == 0 ? checker_runs(k, m->has, m->n_has) : rc;
}

static int check_layer_op(struct checker *k, const Dray__LayerOp *m)
{
    int rc = checker_task(k, m->layer, 0);

    if (rc == 0) {
        rc = checker_name(k, "the name of a layer", m->name);
    }
    if (rc < 0) {
        return rc;
    }
    if (m->tasks < 1 || m->tasks > GRAPH_TASKS_MAX || m->op.len == 0 || m->n_input > GRAPH_INPUTS_MAX ||
        m->n_input != m->n_input_tasks) {
        return error_set(k->err, EBADMSG,
                         "layer %u has %u tasks, %zu inputs, %zu of known size, %zu bytes of op", m->layer,
                         m->tasks, m->n_input, m->n_input_tasks, m->op.len);
    }
    rc = checker_resources(k, m->resource, m->n_resource);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < m->n_input; i++) {
        if (m->input[i]->layer > m->layer && !m->input[i]->has_job) {
            return error_set(k->err, EBADMSG, "layer %u reads layer %u, which is not before it", m->layer,
                             m->input[i]->layer);
        }
        rc = input_check(m->input[i], m->tasks, m->input_tasks[i], k->err);
        if (rc == 0 && input_is_own(m->input[i], m->layer)) {
            rc = input_check_own(m->input[i], m->tasks, k->err);
        }
        if (rc < 0) {
            error_prefix(k->err, "layer %u, input %zu: ", m->layer, i);
            return rc;
        }
    }
    return 0;
}

static int check_layers(struct checker *k, const Dray__Layers *m)
{
    int rc = 0;

    for (size_t i = 0; i < m->n_layer && rc == 0; i++) {
        rc = check_layer_op(k, m->layer[i]);
    }
    return rc;
}

static int check_locations(struct checker *k, Dray__Location *const *location, size_t count)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        const Dray__Location *l = location[i];

        rc = checker_ranges(k, l->layer, l->n_first, l->first, l->n_count, l->count, NULL);
        if (rc == 0 && l->n_worker != l->n_first) {
            rc = error_set(k->err, EBADMSG, "%zu workers for %zu ranges of layer %u", l->n_worker, l->n_first,
                           l->layer);
        }
    }
    return rc;
}

static int check_peers(const struct checker *k, Dray__Peer *const *peer, size_t count)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = checker_endpoints(k, peer[i]->endpoint, peer[i]->n_endpoint);
    }
    return rc;
}

static int check_assign(struct checker *k, const Dray__Assign *m)
{
    int rc = checker_runs(k, m->run, m->n_run);

    k->tasks = 0;
    if (rc == 0) {
        rc = check_locations(k, m->location, m->n_location);
    }
    return rc == 0 ? check_peers(k, m->peer, m->n_peer) : rc;
}

static int check_copy(struct checker *k, const Dray__Copy *m)
{
    int rc = check_locations(k, m->location, m->n_location);

    return rc == 0 ? check_peers(k, m->peer, m->n_peer) : rc;
}

static int check_drop(struct checker *k, const Dray__Drop *m)
{
    return checker_runs(k, m->run, m->n_run);
}

static int check_dropped(struct checker *k, const Dray__Dropped *m)
{
    return checker_runs(k, m->run, m->n_run);
}

static int check_release(struct checker *k, const Dray__Release *m)
{
    return checker_runs(k, m->run, m->n_run);
}

struct range {
    uint32_t first;
    uint32_t count;
};

static int range_compare(const void *a, const void *b)
{
    uint32_t x = ((const struct range *)a)->first;
    uint32_t y = ((const struct range *)b)->first;

    return x < y ? -1 : x > y;
}

// Completed ranges by their first task; also finds a task that is completed twice.
static int sort_ranges(const struct checker *k, const Dray__Completed *m, struct range **out)
{
    struct range *range = arena_array(k->arena, m->n_first, sizeof(*range));
    bool sorted = true;

    if (range == NULL) {
        return error_no_memory(k->err);
    }
    for (size_t i = 0; i < m->n_first; i++) {
        range[i] = (struct range){.first = m->first[i], .count = m->count[i]};
        sorted = sorted && (i == 0 || range[i].first >= range[i - 1].first);
    }
    if (!sorted) {
        qsort(range, m->n_first, sizeof(*range), range_compare);
    }
    for (size_t i = 1; i < m->n_first; i++) {
        if (range[i].first - range[i - 1].first < range[i - 1].count) {
            return error_set(k->err, EBADMSG, "task %u of layer %u is completed twice", range[i].first,
                             m->layer);
        }
    }
    *out = range;
    return 0;
}

static bool range_has(const struct range *range, size_t count, uint32_t index)
{
    size_t low = 0;

    while (count > 0) { // the last range that begins at or before index
        size_t half = count / 2;

        if (range[low + half].first <= index) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low > 0 && index - range[low - 1].first < range[low - 1].count;
}

static int check_inline_bytes(const struct checker *k, const uint32_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] < PARTITION_INLINE_MIN || bytes[i] > PARTITION_INLINE_MAX) {
            return error_set(k->err, EBADMSG, "it comes with a partition of %u bytes", bytes[i]);
        }
    }
    return 0;
}

static int check_completed(struct checker *k, const Dray__Completed *m, size_t *inlined)
{
    struct range *range = NULL;
    uint64_t tasks;
    int rc = checker_ranges(k, m->layer, m->n_first, m->first, m->n_count, m->count, &tasks);

    if (rc < 0) {
        return rc;
    }
    if (m->n_bytes != tasks) {
        return error_set(k->err, EBADMSG, "%zu sizes for %llu tasks of layer %u", m->n_bytes,
                         (unsigned long long)tasks, m->layer);
    }
    if (m->n_inline_bytes != 0 && m->n_inline_bytes != (m->n_inline_index > 0 ? m->n_inline_index : tasks)) {
        return error_set(k->err, EBADMSG, "%zu sizes for %llu partitions of layer %u that it comes with",
                         m->n_inline_bytes,
                         (unsigned long long)(m->n_inline_index > 0 ? m->n_inline_index : tasks), m->layer);
    }
    rc = check_inline_bytes(k, m->inline_bytes, m->n_inline_bytes);
    if (rc < 0) {
        return rc;
    }
    *inlined += m->n_inline_bytes != 0 ? 1 : m->n_inline_index;
    if (*inlined >= FRAME_COUNT_MAX) {
        return error_set(k->err, EBADMSG, "it comes with %zu partitions", *inlined);
    }
    rc = sort_ranges(k, m, &range);
    for (size_t i = 0; i < m->n_inline_index && rc == 0; i++) {
        if (!range_has(range, m->n_first, m->inline_index[i])) {
            rc = error_set(k->err, EBADMSG,
                           "it comes with partition %u of layer %u, which it did not complete",
                           m->inline_index[i], m->layer);
        }
    }
    for (size_t i = 0; i < m->n_note && rc == 0; i++) {
        if (m->n_first == 0) {
            rc = checker_task(k, m->layer, m->note[i]->index);
        } else if (!range_has(range, m->n_first, m->note[i]->index)) {
            rc = error_set(k->err, EBADMSG, "it has a note on task %u of layer %u, which it did not complete",
                           m->note[i]->index, m->layer);
        }
    }
    return rc;
}

static int check_done(struct checker *k, const Dray__Done *m)
{
    size_t inlined = 0;
    int rc = 0;

    for (size_t i = 0; i < m->n_completed && rc == 0; i++) {
        rc = check_completed(k, m->completed[i], &inlined);
    }
    return rc;
}

static int check_task_failed(struct checker *k, const Dray__TaskFailed *m)
{
    int rc = checker_task(k, m->layer, m->index);

    if (rc == 0) {
        rc = checker_failure(k, m->why);
    }
    if (rc == 0 && m->missing_input) {
        if (!m->has_missing_layer || !m->has_missing_index) {
            return error_set(k->err, EBADMSG, "it does not say which input was missing");
        }
        rc = checker_task(k, m->missing_layer, m->missing_index);
    }
    return rc;
}

static int check_tasks_failed(struct checker *k, const Dray__TasksFailed *m)
{
    int rc = 0;

    for (size_t i = 0; i < m->n_failed && rc == 0; i++) {
        rc = check_task_failed(k, m->failed[i]);
    }
    return rc;
}

static int check_submit(struct checker *k, const Dray__Submit *m)
{
    int rc = checker_name(k, "its name", m->name);

    // An open job may begin without a layer.
    if (rc == 0 && m->graph.len == 0 && !m->open) {
        rc = error_set(k->err, EBADMSG, "its graph is empty");
    }
    return rc;
}

static int check_extend(struct checker *k, const Dray__Extend *m)
{
    if (!m->has_graph && !m->last) {
        return error_set(k->err, EBADMSG, "it brings no layers and does not end the job");
    }
    return checker_task(k, m->first_layer, 0);
}

static int check_cancel(struct checker *k, const Dray__Cancel *m)
{
    return checker_runs(k, m->run, m->n_run);
}

static int check_rejected(struct checker *k, const Dray__Rejected *m)
{
    return checker_failure(k, m->why);
}

static int check_free(struct checker *k, const Dray__Free *m)
{
    return checker_runs(k, m->run, m->n_run);
}

static int check_progress(struct checker *k, const Dray__Progress *m)
{
    if (m->done > m->tasks) {
        return error_set(k->err, EBADMSG, "%llu of %llu tasks are done", (unsigned long long)m->done,
                         (unsigned long long)m->tasks);
    }
    return checker_name(k, "what it waits for", m->waiting);
}

static int check_result(struct checker *k, const Dray__Result *m)
{
    int rc = checker_task(k, m->layer, m->index);

    return rc == 0 ? checker_endpoints(k, m->endpoint, m->n_endpoint) : rc;
}

static int check_result_batch(struct checker *k, const Dray__ResultBatch *m)
{
    uint64_t tasks = 0;
    int rc = checker_ranges(k, m->layer, m->n_first, m->first, m->n_count, m->count, &tasks);

    if (rc == 0) {
        rc = checker_endpoints(k, m->endpoint, m->n_endpoint);
    }
    if (rc == 0) {
        rc = checker_failure(k, m->why);
    }
    if (rc < 0) {
        return rc;
    }
    if (m->n_bytes != (m->why != NULL ? 0 : tasks) ||
        (m->n_inline_bytes != 0 && m->n_inline_bytes != m->n_bytes)) {
        return error_set(k->err, EBADMSG, "%zu sizes and %zu inline sizes for %llu results of layer %u",
                         m->n_bytes, m->n_inline_bytes, (unsigned long long)tasks, m->layer);
    }
    return check_inline_bytes(k, m->inline_bytes, m->n_inline_bytes);
}

static int check_results(struct checker *k, const Dray__Results *m)
{
    int rc = 0;

    for (size_t i = 0; i < m->n_batch && rc == 0; i++) {
        rc = check_result_batch(k, m->batch[i]);
    }
    return rc;
}

static int check_notes(struct checker *k, const Dray__Notes *m)
{
    int rc = checker_task(k, m->layer, 0);

    for (size_t i = 0; i < m->n_note && rc == 0; i++) {
        rc = checker_task(k, m->layer, m->note[i]->index);
    }
    return rc;
}

static int check_job_ended(struct checker *k, const Dray__JobEnded *m)
{
    int rc = checker_failure(k, m->why);

    return rc == 0 ? checker_name(k, "the name of the worker", m->worker) : rc;
}

static int check_attach(struct checker *k, const Dray__Attach *m)
{
    if (m->has_job == (m->kept != NULL)) {
        return error_set(k->err, EBADMSG, "it must name a job by number or by kept name");
    }
    return checker_name(k, "the name of a kept job", m->kept);
}

static int check_attached(struct checker *k, const Dray__Attached *m)
{
    int rc = checker_failure(k, m->why);

    if (rc == 0 && m->why == NULL && (!m->has_job || !m->has_state)) {
        rc = error_set(k->err, EBADMSG, "it names no job");
    }
    for (size_t i = 0; i < m->n_layer && rc == 0; i++) {
        rc = checker_name(k, "the name of a layer", m->layer[i]->name);
    }
    return rc;
}

static int check_kept_name(const struct checker *k, const char *name)
{
    return name[0] == '\0' ? error_set(k->err, EBADMSG, "the name to keep is empty")
                           : checker_name(k, "the name to keep", name);
}

static int check_keep(struct checker *k, const Dray__Keep *m)
{
    return check_kept_name(k, m->name);
}

static int check_unkeep(struct checker *k, const Dray__Unkeep *m)
{
    return check_kept_name(k, m->name);
}

static int check_retire(struct checker *k, const Dray__Retire *m)
{
    return checker_strings(k, "the name of a worker", m->name, m->n_name);
}

static int check_reply(struct checker *k, const Dray__Reply *m)
{
    return checker_failure(k, m->why);
}

static int check_job_info(const struct checker *k, const Dray__JobInfo *m)
{
    int rc = checker_name(k, "the name of a job", m->name);

    if (rc == 0) {
        rc = checker_name(k, "the name of a client", m->client);
    }
    if (rc == 0) {
        rc = checker_name(k, "what it waits for", m->waiting);
    }
    if (rc == 0) {
        rc = checker_failure(k, m->why);
    }
    if (rc == 0) {
        rc = checker_strings(k, "a kept name", m->kept, m->n_kept);
    }
    for (size_t i = 0; i < m->n_layer && rc == 0; i++) {
        rc = checker_name(k, "the name of a layer", m->layer[i]->name);
    }
    for (size_t i = 0; i < m->n_failure && rc == 0; i++) {
        rc = checker_failure(k, m->failure[i]->why);
        if (rc == 0) {
            rc = checker_name(k, "the name of a worker", m->failure[i]->worker);
        }
    }
    return rc;
}

static int check_jobs(struct checker *k, const Dray__Jobs *m)
{
    int rc = checker_failure(k, m->why);

    for (size_t i = 0; i < m->n_job && rc == 0; i++) {
        rc = check_job_info(k, m->job[i]);
    }
    return rc;
}

static int check_cluster(struct checker *k, const Dray__Cluster *m)
{
    int rc = 0;

    for (size_t i = 0; i < m->n_worker && rc == 0; i++) {
        rc = checker_name(k, "the name of a worker", m->worker[i]->name);
        if (rc == 0) {
            rc = checker_strings(k, "a label", m->worker[i]->label, m->worker[i]->n_label);
        }
        if (rc == 0) {
            rc = checker_resources(k, m->worker[i]->resource, m->worker[i]->n_resource);
        }
    }
    return rc;
}

static int check_source_query(struct checker *k, const Dray__SourceQuery *m)
{
    int rc = checker_name(k, "its pattern", m->pattern);

    return rc == 0 ? checker_name(k, "its path", m->path) : rc;
}

static int check_sources(struct checker *k, const Dray__Sources *m)
{
    int rc = checker_files(k, m->file, m->n_file);

    for (size_t i = 0; i < m->n_worker && rc == 0; i++) {
        rc = checker_name(k, "the name of a worker", m->worker[i]);
    }
    return rc;
}

static int check_fetch(struct checker *k, const Dray__Fetch *m)
{
    if (m->length > FRAME_PAYLOAD_MAX || m->offset > UINT64_MAX - m->length) {
        return error_set(k->err, EBADMSG, "it asks for %u bytes from byte %llu on", m->length,
                         (unsigned long long)m->offset);
    }
    if (m->n_also > 0 && (m->n_also >= FRAME_FETCH_MAX || m->offset != 0)) {
        return error_set(k->err, EBADMSG, "it asks for %zu partitions at once", m->n_also + 1);
    }
    for (size_t i = 0; i < m->n_also; i++) {
        int rc = checker_task(k, m->layer, m->also[i]);

        if (rc != 0) {
            return rc;
        }
    }
    return checker_task(k, m->layer, m->index);
}

static int check_piece(struct checker *k, const Dray__Piece *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->n_size; i++) {
        sum += m->size[i];
    }
    if (m->n_size > FRAME_FETCH_MAX || sum > FRAME_PAYLOAD_MAX || (m->n_size > 0 && m->why != NULL)) {
        return error_set(k->err, EBADMSG, "it says that it brings %zu partitions of %llu bytes", m->n_size,
                         (unsigned long long)sum);
    }
    return checker_failure(k, m->why);
}

// ---- messages whose fields are plain numbers that may be anything -------------------------

static int check_heartbeat(struct checker *k, const Dray__Heartbeat *m)
{
    (void)k;
    (void)m;
    return 0;
}

static int check_accepted(struct checker *k, const Dray__Accepted *m)
{
    (void)k;
    (void)m;
    return 0;
}

static int check_extended(struct checker *k, const Dray__Extended *m)
{
    (void)k;
    (void)m;
    return 0;
}

static int check_leaving(struct checker *k, const Dray__Leaving *m)
{
    (void)k;
    (void)m;
    return 0;
}

static int check_job_query(struct checker *k, const Dray__JobQuery *m)
{
    (void)k;
    (void)m;
    return 0;
}

static int check_cluster_query(struct checker *k, const Dray__ClusterQuery *m)
{
    (void)k;
    (void)m;
    return 0;
}

size_t frame_body_max(enum frame_type type)
{
    switch (type) {
    case FRAME_HELLO: // from strangers
        return HELLO_BODY_MAX;
    case FRAME_WELCOME:
    case FRAME_REFUSE:
    case FRAME_HEARTBEAT:
    case FRAME_BYE:
    case FRAME_TASK_FAILED:
    case FRAME_ACCEPTED:
    case FRAME_REJECTED:
    case FRAME_EXTENDED:
    case FRAME_LEAVING:
    case FRAME_ATTACH:
    case FRAME_KEEP:
    case FRAME_UNKEEP:
    case FRAME_REPLY:
    case FRAME_JOB_QUERY:
    case FRAME_CLUSTER_QUERY:
    case FRAME_SOURCE_QUERY:
    case FRAME_FETCH:
    case FRAME_PIECE:
        return SMALL_BODY_MAX;
    default:
        return FRAME_BODY_MAX;
    }
}

int frame_check(enum frame_type type, const ProtobufCMessage *message, struct arena *arena, struct error *err)
{
    struct checker k = {.arena = arena, .err = err};

    // A message without its check does not compile.
    switch (type) {
#define X(NAME, number, Message, lower, senders)                                                             \
    case FRAME_##NAME:                                                                                       \
        return check_##lower(&k, (const Dray__##Message *)message);
        FRAME_TYPES(X)
#undef X
    }
    return error_set(err, EBADMSG, "it has the unknown type %d", (int)type);
}
