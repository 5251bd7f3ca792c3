#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

enum {
    FILES_MAX = 100000, // that a worker may advertise
    FILE_NAME_MAX = 4096,
    PAYLOAD_SLACK = 4096, // of an encoding over the partition's own bytes
};

// ---- ranges -----------------------------------------------------------------------

struct ranges {
    struct task_range *range;
    size_t count;
};

// Appends (first[i], count[i]) of a layer; the array has room.  *tasks grows by their sum.
static int append(struct ranges *out, uint32_t job, uint32_t layer, size_t n_first, const uint32_t *first,
                  size_t n_count, const uint32_t *count, uint64_t *tasks, struct error *err)
{
    if (n_first != n_count) {
        return error_set(err, EBADMSG, "%zu ranges begin and %zu have a length", n_first, n_count);
    }
    for (size_t i = 0; i < n_first; i++) {
        if (count[i] == 0 || first[i] > GRAPH_TASKS_MAX || count[i] > GRAPH_TASKS_MAX - first[i]) {
            return error_set(err, EBADMSG, "the range of %" PRIu32 " tasks from %" PRIu32 " cannot be",
                             count[i], first[i]);
        }
        out->range[out->count++] = (struct task_range){job, layer, first[i], count[i]};
        *tasks += count[i];
    }
    return 0;
}

static int compare_ranges(const void *left, const void *right)
{
    const struct task_range *a = left, *b = right;

    if (a->job != b->job) {
        return a->job < b->job ? -1 : 1;
    }
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return (a->first > b->first) - (a->first < b->first);
}

// A few bytes can name the same million tasks again and again: nobody needs to.
static int refuse_repeats(struct ranges *ranges, struct error *err)
{
    if (ranges->count > 1) {
        qsort(ranges->range, ranges->count, sizeof(*ranges->range), compare_ranges);
    }
    for (size_t i = 1; i < ranges->count; i++) {
        const struct task_range *before = &ranges->range[i - 1], *range = &ranges->range[i];

        if (before->job == range->job && before->layer == range->layer &&
            range->first - before->first < before->count) {
            return error_set(err, EBADMSG, "task %" PRIu32 " of layer %" PRIu32 " is named twice",
                             range->first, range->layer);
        }
    }
    return 0;
}

static int runs_to_ranges(struct arena *arena, size_t n, Dray__Run *const *run, struct ranges *out,
                          struct error *err)
{
    size_t total = 0;
    uint64_t tasks = 0;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        total += run[i]->n_first;
    }
    *out = (struct ranges){arena_array(arena, total + 1, sizeof(struct task_range)), 0};
    if (out->range == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = append(out, run[i]->job, run[i]->layer, run[i]->n_first, run[i]->first, run[i]->n_count,
                    run[i]->count, &tasks, err);
    }
    return rc == 0 ? refuse_repeats(out, err) : rc;
}

// `bytes` (NULL: there must be none) gets one number a partition.
static int holdings_to_ranges(struct arena *arena, size_t n, Dray__Holding *const *holding,
                              struct ranges *out, uint64_t **bytes, struct error *err)
{
    size_t total = 0, sizes = 0, at = 0;

    for (size_t i = 0; i < n; i++) {
        total += holding[i]->n_first;
        sizes += holding[i]->n_bytes;
    }
    *out = (struct ranges){arena_array(arena, total + 1, sizeof(struct task_range)), 0};
    if (out->range == NULL) {
        return error_no_memory(err);
    }
    if (bytes != NULL && (*bytes = arena_array(arena, sizes + 1, sizeof(**bytes))) == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const Dray__Holding *h = holding[i];
        uint64_t tasks = 0;
        int rc = append(out, h->job, h->layer, h->n_first, h->first, h->n_count, h->count, &tasks, err);

        if (rc != 0) {
            return rc;
        }
        if (h->n_bytes != (bytes != NULL ? tasks : 0)) {
            return error_set(err, EBADMSG, "ADVERTISE has %zu sizes for %" PRIu64 " partitions", h->n_bytes,
                             tasks);
        }
        if (h->n_bytes > 0) {
            memcpy(*bytes + at, h->bytes, h->n_bytes * sizeof(**bytes));
            at += h->n_bytes;
        }
    }
    return 0;
}

// ---- workers ----------------------------------------------------------------------

static int on_heartbeat(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                        struct message *frames, struct error *err)
{
    const Dray__Heartbeat *beat = (const Dray__Heartbeat *)message;
    struct sched_event *event;

    (void)frames;
    if (peer->role != FROM_WORKER) {
        return 0;
    }
    peer->memory_used = beat->memory_used;
    peer->rss = beat->rss;
    peer->running = beat->running;
    peer->queued = beat->queued;
    event = turn_add(broker_turn(broker), EVENT_WORKER_STATUS);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.status.worker = peer->number;
    event->u.status.memory_used = peer->memory_used;
    event->u.status.running = peer->running;
    event->u.status.queued = peer->queued;
    return 0;
}

// The worker's own copy of the names, and the event that points to it.
static int take_files(struct broker *broker, struct peer *peer, const Dray__Advertise *advertise,
                      struct error *err)
{
    struct turn *turn = broker_turn(broker);
    size_t n = advertise->n_file;
    char **file = NULL;
    const char **name = arena_array(&turn->arena, n + 1, sizeof(*name));
    const char **path = arena_array(&turn->arena, n + 1, sizeof(*path));
    struct sched_event *event;

    if (n > FILES_MAX) {
        return error_set(err, EBADMSG, "ADVERTISE names %zu files; at most %d can be", n, FILES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (strlen(advertise->file[i]->name) > FILE_NAME_MAX ||
            strlen(advertise->file[i]->path) > FILE_NAME_MAX) {
            return error_set(err, EBADMSG, "ADVERTISE has a file name of more than %d bytes", FILE_NAME_MAX);
        }
    }
    if (name == NULL || path == NULL || (file = calloc(2 * n + 1, sizeof(*file))) == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        name[i] = advertise->file[i]->name;
        path[i] = advertise->file[i]->path;
        file[2 * i] = strdup(name[i]);
        file[2 * i + 1] = strdup(path[i]);
        if (file[2 * i] == NULL || file[2 * i + 1] == NULL) {
            goto no_memory;
        }
    }
    event = turn_add(turn, EVENT_SOURCES);
    if (event == NULL) {
        goto no_memory;
    }
    event->u.sources.worker = peer->number;
    event->u.sources.count = n;
    event->u.sources.name = name;
    event->u.sources.path = path;
    peer_set_files(peer, file, n);
    return 0;
no_memory:
    for (size_t i = 0; i < 2 * n; i++) {
        free(file[i]);
    }
    free(file);
    return error_no_memory(err);
}

static int on_advertise(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                        struct message *frames, struct error *err)
{
    const Dray__Advertise *advertise = (const Dray__Advertise *)message;
    struct turn *turn = broker_turn(broker);
    struct ranges add, gone;
    uint64_t *bytes = NULL;
    struct sched_event *event;
    int rc;

    (void)frames;
    rc = holdings_to_ranges(&turn->arena, advertise->n_add, advertise->add, &add, &bytes, err);
    if (rc == 0) {
        rc = holdings_to_ranges(&turn->arena, advertise->n_gone, advertise->gone, &gone, NULL, err);
    }
    if (rc == 0) {
        rc = refuse_repeats(&gone, err);
    }
    if (rc == 0 && advertise->files_full) {
        rc = take_files(broker, peer, advertise, err);
    }
    if (rc != 0 || (!advertise->full && add.count == 0 && gone.count == 0)) {
        return rc;
    }
    event = turn_add(turn, EVENT_HOLDING);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.holding.worker = peer->number;
    event->u.holding.full = advertise->full;
    event->u.holding.adds = add.count;
    event->u.holding.add = add.range;
    event->u.holding.bytes = bytes;
    event->u.holding.gones = gone.count;
    event->u.holding.gone = gone.range;
    return 0;
}

// Word for the job's clients, ahead of the RESULT or JOB_ENDED that it belongs to.
static void pass_notes(struct broker *broker, const Dray__Completed *completed)
{
    Dray__Notes notes = DRAY__NOTES__INIT;
    size_t count;
    const uint32_t *client = readers_of(broker, completed->job, &count);

    notes.job = completed->job;
    notes.layer = completed->layer;
    notes.n_note = completed->n_note;
    notes.note = completed->note;
    // From the end: a client that is lost on the way leaves the list.
    for (size_t i = count; i-- > 0;) {
        struct peer *peer = peers_by_number(&broker->peers, client[i]);

        if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_NOTES, &notes.base, NULL, 0);
            client = readers_of(broker, completed->job, &count);
            i = i < count ? i : count;
        }
    }
}

static int keep_payloads(struct broker *broker, const Dray__Completed *completed, struct message *frames,
                         size_t *at, struct error *err)
{
    for (size_t i = 0; i < completed->n_inline_index; i++, (*at)++) {
        struct buffer *payload;

        if (*at >= frames->frames) {
            return error_set(err, EBADMSG, "DONE lacks payload frames");
        }
        if (frames->frame[*at].size > INLINE_BYTES_MAX + PAYLOAD_SLACK) {
            return error_set(err, EBADMSG, "DONE has a payload of %zu bytes; at most %zu travel with it",
                             frames->frame[*at].size, INLINE_BYTES_MAX);
        }
        payload = message_take(frames, *at);
        if (payload == NULL || turn_keep(broker_turn(broker), completed->job, completed->layer,
                                         completed->inline_index[i], payload) != 0) {
            return error_no_memory(err);
        }
    }
    return 0;
}

static int on_completed(struct broker *broker, struct peer *peer, const Dray__Completed *completed,
                        struct error *err)
{
    struct turn *turn = broker_turn(broker);
    struct ranges done = {arena_array(&turn->arena, completed->n_first + 1, sizeof(struct task_range)), 0};
    struct sched_event *event;
    uint64_t tasks = 0;
    int rc;

    if (done.range == NULL) {
        return error_no_memory(err);
    }
    rc = append(&done, completed->job, completed->layer, completed->n_first, completed->first,
                completed->n_count, completed->count, &tasks, err);
    if (rc != 0) {
        return rc;
    }
    if (completed->n_bytes != tasks) {
        return error_set(err, EBADMSG, "DONE has %zu sizes for %" PRIu64 " partitions", completed->n_bytes,
                         tasks);
    }
    if (completed->n_note > 0) {
        pass_notes(broker, completed);
    }
    event = turn_add(turn, EVENT_TASKS_DONE);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.done.worker = peer->number;
    event->u.done.ranges = done.count;
    event->u.done.range = done.range;
    event->u.done.bytes = completed->bytes;
    event->u.done.job = completed->job;
    event->u.done.rows = completed->rows;
    event->u.done.source_bytes = completed->source_bytes;
    return 0;
}

static int on_done(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                   struct message *frames, struct error *err)
{
    const Dray__Done *done = (const Dray__Done *)message;
    size_t at = 2;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < done->n_completed; i++) {
        rc = keep_payloads(broker, done->completed[i], frames, &at, err);
        if (rc == 0) {
            rc = on_completed(broker, peer, done->completed[i], err);
        }
    }
    return rc;
}

static int on_task_failed(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                          struct message *frames, struct error *err)
{
    const Dray__TaskFailed *failed = (const Dray__TaskFailed *)message;
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_TASK_FAILED);

    (void)frames;
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.failed.worker = peer->number;
    event->u.failed.job = failed->job;
    event->u.failed.layer = failed->layer;
    event->u.failed.index = failed->index;
    event->u.failed.code = failed->why->code;
    event->u.failed.text = failed->why->text;
    event->u.failed.missing_input = failed->missing_input;
    event->u.failed.missing_layer = failed->missing_layer;
    event->u.failed.missing_index = failed->missing_index;
    event->u.failed.missing_worker = failed->missing_worker;
    log_write(broker->options.log, LEVEL_INFO, "job %" PRIu32 ": %s", failed->job, failed->why->text);
    return 0;
}

static int on_dropped(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                      struct message *frames, struct error *err)
{
    const Dray__Dropped *dropped = (const Dray__Dropped *)message;
    struct turn *turn = broker_turn(broker);
    struct ranges ranges;
    struct sched_event *event;
    int rc = runs_to_ranges(&turn->arena, dropped->n_run, dropped->run, &ranges, err);

    (void)frames;
    if (rc != 0) {
        return rc;
    }
    event = turn_add(turn, EVENT_TASKS_DROPPED);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.dropped.worker = peer->number;
    event->u.dropped.ranges = ranges.count;
    event->u.dropped.range = ranges.range;
    return 0;
}

// ---- clients ----------------------------------------------------------------------

static int on_submit(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                     struct message *frames, struct error *err)
{
    const Dray__Submit *submit = (const Dray__Submit *)message;
    struct turn *turn = broker_turn(broker);
    const Dray__Graph *graph;
    struct sched_event *event;
    struct error why = {0};

    (void)frames;
    if (graph_decode(submit->graph.data, submit->graph.len, &turn->arena, &graph, &why) != 0) {
        Dray__Rejected rejected = DRAY__REJECTED__INIT;
        Dray__Failure failure = DRAY__FAILURE__INIT;

        failure.code = why.code;
        failure.text = why.text;
        rejected.key_hi = submit->key_hi;
        rejected.key_lo = submit->key_lo;
        rejected.why = &failure;
        sessions_send(broker->sessions, peer, FRAME_REJECTED, &rejected.base, NULL, 0);
        return 0;
    }
    event = turn_add(turn, EVENT_SUBMIT);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.submit.client = peer->number;
    event->u.submit.key_hi = submit->key_hi;
    event->u.submit.key_lo = submit->key_lo;
    event->u.submit.graph = graph;
    event->u.submit.detached = submit->detached;
    event->u.submit.priority = submit->priority;
    return 0;
}

static int on_cancel(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                     struct message *frames, struct error *err)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_CANCEL);

    (void)frames;
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.job.client = peer->number;
    event->u.job.job = ((const Dray__Cancel *)message)->job;
    return 0;
}

static int on_free(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                   struct message *frames, struct error *err)
{
    const Dray__Free *freed = (const Dray__Free *)message;
    struct turn *turn = broker_turn(broker);
    struct ranges ranges;
    struct sched_event *event;
    int rc = runs_to_ranges(&turn->arena, freed->n_run, freed->run, &ranges, err);

    (void)frames;
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < ranges.count; i++) {
        if (ranges.range[i].job != freed->job) {
            return error_set(err, EBADMSG, "FREE of job %" PRIu32 " names partitions of job %" PRIu32,
                             freed->job, ranges.range[i].job);
        }
    }
    event = turn_add(turn, EVENT_FREE);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.job.client = peer->number;
    event->u.job.job = freed->job;
    event->u.job.ranges = ranges.count;
    event->u.job.range = ranges.range;
    return 0;
}

static int on_cluster_query(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                            struct message *frames, struct error *err)
{
    (void)frames;
    return query_cluster(broker, peer, (const Dray__ClusterQuery *)message, err);
}

static int on_source_query(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                           struct message *frames, struct error *err)
{
    (void)frames;
    return query_sources(broker, peer, (const Dray__SourceQuery *)message, err);
}

static int on_fetch(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    (void)frames;
    return relay_fetch(broker, peer, (const Dray__Fetch *)message, err);
}

static int on_piece(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    return relay_piece(broker, peer, (const Dray__Piece *)message, frames, err);
}

// ---- the table --------------------------------------------------------------------

// Who may send what stands in proto/frame.h and has been checked.  What begins and
// ends a session is session.c's.
static const struct handler {
    enum frame_type type;
    bool has_payload;
    int (*handle)(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                  struct message *frames, struct error *err);
} HANDLERS[] = {
    {FRAME_HEARTBEAT, false, on_heartbeat},
    {FRAME_ADVERTISE, false, on_advertise},
    {FRAME_DONE, true, on_done},
    {FRAME_TASK_FAILED, false, on_task_failed},
    {FRAME_DROPPED, false, on_dropped},
    {FRAME_SUBMIT, false, on_submit},
    {FRAME_CANCEL, false, on_cancel},
    {FRAME_FREE, false, on_free},
    {FRAME_CLUSTER_QUERY, false, on_cluster_query},
    {FRAME_SOURCE_QUERY, false, on_source_query},
    {FRAME_FETCH, false, on_fetch},
    {FRAME_PIECE, true, on_piece},
};

int dispatch_frame(struct broker *broker, struct peer *peer, const struct frame *frame,
                   struct message *message, struct error *err)
{
    for (size_t i = 0; i < sizeof(HANDLERS) / sizeof(HANDLERS[0]); i++) {
        if (HANDLERS[i].type == frame->info->type) {
            if (message->frames > 2 && !HANDLERS[i].has_payload) {
                return error_set(err, EBADMSG, "%s has no payload, but %zu frames follow it",
                                 frame->info->name, message->frames - 2);
            }
            return HANDLERS[i].handle(broker, peer, frame->message, message, err);
        }
    }
    return error_set(err, EBADMSG, "%s is not for a broker", frame->info->name);
}

int dispatch_joined(struct broker *broker, struct peer *peer, struct error *err)
{
    struct sched_event *event =
        turn_add(broker_turn(broker), peer->role == FROM_WORKER ? EVENT_WORKER_JOINED : EVENT_CLIENT_JOINED);

    if (event == NULL) {
        return error_no_memory(err);
    }
    if (peer->role == FROM_CLIENT) {
        event->u.client.client = peer->number;
        return 0;
    }
    event->u.joined.worker = peer->number;
    event->u.joined.threads = peer->threads;
    event->u.joined.memory = peer->memory;
    event->u.joined.shared_files = peer->shared_files;
    event->u.joined.name = peer->name; // it lives until the turn is over
    return 0;
}

void dispatch_left(struct broker *broker, struct peer *peer, bool alive, const char *why)
{
    struct turn *turn = broker_turn(broker);
    struct sched_event *event =
        turn_add(turn, peer->role == FROM_WORKER ? EVENT_WORKER_LEFT : EVENT_CLIENT_LEFT);

    relay_forget_peer(broker, peer->number);
    if (peer->role == FROM_CLIENT) {
        readers_forget_client(broker, peer->number);
    }
    if (event == NULL) {
        // The scheduler would believe in this peer for ever.
        log_write(broker->options.log, LEVEL_ERROR, "out of memory: stopping");
        loop_stop(broker->loop);
        return;
    }
    if (peer->role == FROM_CLIENT) {
        event->u.client.client = peer->number;
    } else {
        event->u.left.worker = peer->number;
        event->u.left.why = arena_strdup(&turn->arena, why);
        event->u.left.on_purpose = alive;
    }
}
