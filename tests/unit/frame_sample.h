// One sound message of each type, every field of it in use.
#ifndef DRAY_TESTS_UNIT_FRAME_SAMPLE_H
#define DRAY_TESTS_UNIT_FRAME_SAMPLE_H

#include "proto/frame.h"
#include "proto/graph.h"
#include "proto/payload.h"
#include "proto/schema.h"

#define NEW(arena, lower, Type)                                                                              \
    __extension__({                                                                                          \
        Type *made = arena_zalloc(arena, sizeof(Type));                                                      \
        dray__##lower##__init(made);                                                                         \
        made;                                                                                                \
    })
#define LIST(arena, ...) arena_copy(arena, (uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}))

static inline char **one_text(struct arena *a, const char *text)
{
    char **list = arena_array(a, 1, sizeof(*list));

    list[0] = arena_strdup(a, text);
    return list;
}

static inline Dray__Failure *failure(struct arena *a)
{
    Dray__Failure *why = NEW(a, failure, Dray__Failure);

    why->code = EIO;
    why->text = arena_strdup(a, "the disk of host7 is full");
    return why;
}

static inline void *list_of(struct arena *a, void *one)
{
    return arena_copy(a, &one, sizeof(one));
}

static inline Dray__Run **runs(struct arena *a)
{
    Dray__Run *run = NEW(a, run, Dray__Run);

    run->job = 3;
    run->layer = 2;
    run->n_first = run->n_count = 2;
    run->first = LIST(a, 5, 0);
    run->count = LIST(a, 2, 3);
    return list_of(a, run);
}

static inline Dray__Holding *holding(struct arena *a, bool sizes)
{
    Dray__Holding *h = NEW(a, holding, Dray__Holding);

    h->job = 1;
    h->layer = 65535;
    h->n_first = h->n_count = 2;
    h->first = LIST(a, 0, GRAPH_TASKS_MAX - 1);
    h->count = LIST(a, 2, 1);
    if (sizes) {
        h->n_bytes = 3;
        h->bytes = arena_copy(a, (uint64_t[]){100, 0, UINT64_MAX}, 24);
    }
    return h;
}

static inline Dray__Input *input(struct arena *a)
{
    Dray__Input *in = NEW(a, input, Dray__Input);

    in->layer = 1;
    in->pattern = DRAY__PATTERN__FAN_IN;
    in->has_width = true;
    in->width = 4;
    return in;
}

static inline Dray__LayerOp *layer_op(struct arena *a)
{
    Dray__LayerOp *l = NEW(a, layer_op, Dray__LayerOp);

    l->job = 1;
    l->layer = 2;
    l->op.data = arena_copy(a, "op", 2);
    l->op.len = 2;
    l->name = arena_strdup(a, "combine");
    l->tasks = 2;
    l->n_input = l->n_input_tasks = 1;
    l->input = list_of(a, input(a));
    l->input_tasks = LIST(a, 8);
    return l;
}

static inline Dray__TaskNote *task_note(struct arena *a, uint32_t index)
{
    Dray__TaskNote *note = NEW(a, task_note, Dray__TaskNote);

    note->index = index;
    note->note.data = arena_copy(a, "note", 4);
    note->note.len = 4;
    return note;
}

static inline Dray__Completed *completed(struct arena *a)
{
    Dray__Completed *c = NEW(a, completed, Dray__Completed);

    c->job = 1;
    c->layer = 2;
    c->n_first = c->n_count = 3;
    c->first = LIST(a, 20, 4, 10);
    c->count = LIST(a, 1, 2, 3);
    c->n_bytes = 6;
    c->bytes = arena_copy(a, (uint64_t[]){1, 2, 3, 4, 5, 6}, 48);
    c->n_inline_index = 3;
    c->inline_index = LIST(a, 20, 5, 12);
    c->n_note = 1;
    c->note = list_of(a, task_note(a, 4));
    return c;
}

static inline Dray__SourceFile **files(struct arena *a)
{
    Dray__SourceFile *file = NEW(a, source_file, Dray__SourceFile);

    file->name = arena_strdup(a, "sales.csv");
    file->path = arena_strdup(a, "/data/sales.csv");
    return list_of(a, file);
}

static inline Dray__Assign *assign(struct arena *a)
{
    Dray__Assign *m = NEW(a, assign, Dray__Assign);
    Dray__Location *where = NEW(a, location, Dray__Location);
    Dray__Peer *peer = NEW(a, peer, Dray__Peer);

    where->job = 1;
    where->layer = 1;
    where->n_first = where->n_count = where->n_worker = 2;
    where->first = LIST(a, 0, 8);
    where->count = LIST(a, 8, 1);
    where->worker = LIST(a, 4, 5);
    peer->worker = 4;
    peer->n_endpoint = 1;
    peer->endpoint = one_text(a, "tcp://10.0.0.7:4444");
    m->n_run = m->n_location = m->n_peer = 1;
    m->run = runs(a);
    m->location = list_of(a, where);
    m->peer = list_of(a, peer);
    return m;
}

static inline ProtobufCMessage *sample(enum frame_type type, struct arena *a)
{
    switch (type) {
    case FRAME_HELLO: {
        Dray__Hello *m = NEW(a, hello, Dray__Hello);

        m->role = DRAY__ROLE__WORKER;
        m->protocol = FRAME_PROTOCOL;
        m->version = arena_strdup(a, "0.1.0");
        m->incarnation = 77;
        m->has_threads = m->has_memory = true;
        m->threads = 2;
        m->memory = 256 << 20;
        m->n_endpoint = m->n_data_dir = 1;
        m->endpoint = one_text(a, "tcp://10.0.0.7:4444");
        m->data_dir = one_text(a, "/data");
        return &m->base;
    }
    case FRAME_WELCOME: {
        Dray__Welcome *m = NEW(a, welcome, Dray__Welcome);

        m->session = 1;
        m->heartbeat_ms = 500;
        m->timeout_ms = 5000;
        return &m->base;
    }
    case FRAME_REFUSE: {
        Dray__Refuse *m = NEW(a, refuse, Dray__Refuse);

        m->why = failure(a);
        return &m->base;
    }
    case FRAME_HEARTBEAT:
        return &NEW(a, heartbeat, Dray__Heartbeat)->base;
    case FRAME_BYE: {
        Dray__Bye *m = NEW(a, bye, Dray__Bye);

        m->why = failure(a);
        return &m->base;
    }
    case FRAME_ADVERTISE: {
        Dray__Advertise *m = NEW(a, advertise, Dray__Advertise);

        m->n_add = m->n_gone = m->n_file = 1;
        m->add = list_of(a, holding(a, true));
        m->gone = list_of(a, holding(a, false));
        m->file = files(a);
        m->n_has = 1;
        m->has = runs(a);
        return &m->base;
    }
    case FRAME_COPY: {
        Dray__Copy *m = NEW(a, copy, Dray__Copy);
        Dray__Assign *like = assign(a);

        m->n_location = m->n_peer = 1;
        m->location = like->location;
        m->peer = like->peer;
        return &m->base;
    }
    case FRAME_RETIRE: {
        Dray__Retire *m = NEW(a, retire, Dray__Retire);

        m->n_name = 1;
        m->name = one_text(a, "ant");
        return &m->base;
    }
    case FRAME_LAYERS: {
        Dray__Layers *m = NEW(a, layers, Dray__Layers);

        m->n_layer = 1;
        m->layer = list_of(a, layer_op(a));
        return &m->base;
    }
    case FRAME_ASSIGN:
        return &assign(a)->base;
    case FRAME_DROP: {
        Dray__Drop *m = NEW(a, drop, Dray__Drop);

        m->n_run = 1;
        m->run = runs(a);
        return &m->base;
    }
    case FRAME_DROPPED: {
        Dray__Dropped *m = NEW(a, dropped, Dray__Dropped);

        m->n_run = 1;
        m->run = runs(a);
        return &m->base;
    }
    case FRAME_RELEASE: {
        Dray__Release *m = NEW(a, release, Dray__Release);

        m->n_run = m->n_job = 1;
        m->run = runs(a);
        m->job = LIST(a, 9);
        return &m->base;
    }
    case FRAME_DONE: {
        Dray__Done *m = NEW(a, done, Dray__Done);

        m->n_completed = 1;
        m->completed = list_of(a, completed(a));
        return &m->base;
    }
    case FRAME_TASK_FAILED: {
        Dray__TaskFailed *m = NEW(a, task_failed, Dray__TaskFailed);

        m->why = failure(a);
        m->has_missing_input = m->has_missing_layer = m->has_missing_index = true;
        m->missing_input = true;
        return &m->base;
    }
    case FRAME_SUBMIT: {
        Dray__Submit *m = NEW(a, submit, Dray__Submit);

        m->graph.data = arena_copy(a, "graph", 5);
        m->graph.len = 5;
        return &m->base;
    }
    case FRAME_ACCEPTED:
        return &NEW(a, accepted, Dray__Accepted)->base;
    case FRAME_REJECTED: {
        Dray__Rejected *m = NEW(a, rejected, Dray__Rejected);

        m->why = failure(a);
        return &m->base;
    }
    case FRAME_CANCEL:
        return &NEW(a, cancel, Dray__Cancel)->base;
    case FRAME_TASKS_FAILED: {
        Dray__TasksFailed *m = NEW(a, tasks_failed, Dray__TasksFailed);
        Dray__TaskFailed *one = NEW(a, task_failed, Dray__TaskFailed);

        one->why = failure(a);
        m->n_failed = 1;
        m->failed = list_of(a, one);
        return &m->base;
    }
    case FRAME_LEAVING:
        return &NEW(a, leaving, Dray__Leaving)->base;
    case FRAME_EXTEND: {
        Dray__Extend *m = NEW(a, extend, Dray__Extend);

        m->first_layer = 3;
        m->has_last = m->last = true;
        return &m->base;
    }
    case FRAME_ATTACH: {
        Dray__Attach *m = NEW(a, attach, Dray__Attach);

        m->kept = arena_strdup(a, "prices");
        return &m->base;
    }
    case FRAME_ATTACHED: {
        Dray__Attached *m = NEW(a, attached, Dray__Attached);

        m->has_job = m->has_state = true;
        m->job = 4;
        m->state = DRAY__JOB_STATE__RUNNING;
        return &m->base;
    }
    case FRAME_KEEP: {
        Dray__Keep *m = NEW(a, keep, Dray__Keep);

        m->name = arena_strdup(a, "prices");
        return &m->base;
    }
    case FRAME_UNKEEP: {
        Dray__Unkeep *m = NEW(a, unkeep, Dray__Unkeep);

        m->name = arena_strdup(a, "prices");
        return &m->base;
    }
    case FRAME_REPLY: {
        Dray__Reply *m = NEW(a, reply, Dray__Reply);

        m->why = failure(a);
        return &m->base;
    }
    case FRAME_JOB_QUERY:
        return &NEW(a, job_query, Dray__JobQuery)->base;
    case FRAME_JOBS: {
        Dray__Jobs *m = NEW(a, jobs, Dray__Jobs);
        Dray__JobInfo *one = NEW(a, job_info, Dray__JobInfo);

        one->job = 4;
        one->state = DRAY__JOB_STATE__FAILED;
        one->why = failure(a);
        one->n_kept = 1;
        one->kept = one_text(a, "prices");
        m->n_job = 1;
        m->job = list_of(a, one);
        return &m->base;
    }
    case FRAME_RESULTS: {
        Dray__Results *m = NEW(a, results, Dray__Results);
        Dray__ResultBatch *one = NEW(a, result_batch, Dray__ResultBatch);

        one->n_first = one->n_count = 1;
        one->first = LIST(a, 7);
        one->count = LIST(a, 2);
        one->n_bytes = 2;
        one->bytes = arena_copy(a, (uint64_t[]){8, 9}, 16);
        one->n_inline_bytes = 2;
        one->inline_bytes = LIST(a, 24, 25);
        m->n_batch = 1;
        m->batch = list_of(a, one);
        return &m->base;
    }
    case FRAME_FREE: {
        Dray__Free *m = NEW(a, free, Dray__Free);

        m->n_run = 1;
        m->run = runs(a);
        return &m->base;
    }
    case FRAME_PROGRESS: {
        Dray__Progress *m = NEW(a, progress, Dray__Progress);

        m->tasks = 10;
        m->done = 10;
        m->waiting = arena_strdup(a, "no worker is connected");
        return &m->base;
    }
    case FRAME_RESULT: {
        Dray__Result *m = NEW(a, result, Dray__Result);

        m->n_endpoint = 1;
        m->endpoint = one_text(a, "tcp://10.0.0.7:4444");
        return &m->base;
    }
    case FRAME_NOTES: {
        Dray__Notes *m = NEW(a, notes, Dray__Notes);

        m->n_note = 1;
        m->note = list_of(a, task_note(a, 1));
        return &m->base;
    }
    case FRAME_JOB_ENDED: {
        Dray__JobEnded *m = NEW(a, job_ended, Dray__JobEnded);

        m->state = DRAY__JOB_STATE__FAILED;
        m->why = failure(a);
        m->worker = arena_strdup(a, "host-17");
        return &m->base;
    }
    case FRAME_EXTENDED:
        return &NEW(a, extended, Dray__Extended)->base;
    case FRAME_CLUSTER_QUERY:
        return &NEW(a, cluster_query, Dray__ClusterQuery)->base;
    case FRAME_CLUSTER: {
        Dray__Cluster *m = NEW(a, cluster, Dray__Cluster);
        Dray__WorkerInfo *info = NEW(a, worker_info, Dray__WorkerInfo);

        info->name = arena_strdup(a, "host-17");
        m->n_worker = 1;
        m->worker = list_of(a, info);
        return &m->base;
    }
    case FRAME_SOURCE_QUERY: {
        Dray__SourceQuery *m = NEW(a, source_query, Dray__SourceQuery);

        m->pattern = arena_strdup(a, "*.csv");
        m->path = arena_strdup(a, "/home/me/*.csv");
        return &m->base;
    }
    case FRAME_SOURCES: {
        Dray__Sources *m = NEW(a, sources, Dray__Sources);

        m->n_file = m->n_worker = 1;
        m->file = files(a);
        m->worker = one_text(a, "host-17");
        return &m->base;
    }
    case FRAME_FETCH: {
        Dray__Fetch *m = NEW(a, fetch, Dray__Fetch);

        m->length = FRAME_PAYLOAD_MAX;
        m->offset = UINT64_MAX - FRAME_PAYLOAD_MAX;
        return &m->base;
    }
    case FRAME_PIECE: {
        Dray__Piece *m = NEW(a, piece, Dray__Piece);

        m->why = failure(a);
        return &m->base;
    }
    }
    fail_msg("no sample of type %d", (int)type);
    return NULL;
}

#endif
