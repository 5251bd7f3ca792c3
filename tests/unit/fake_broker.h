// A broker and a worker in one thread, played by the test: what libdray is answered, and on which way.
// Include after cmocka.h.
#ifndef DRAY_TESTS_UNIT_FAKE_BROKER_H
#define DRAY_TESTS_UNIT_FAKE_BROKER_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/include/dray.h"
#include "proto/frame.h"
#include "proto/payload.h"
#include "proto/socket.h"

enum {
    JOB = 7,
    RESULTS_MAX = 256,
    INCARNATION = 4711,
    SESSION = 99,
};

// How a result gets to the client.
enum way {
    WAY_INLINE,
    WAY_WORKER,
    WAY_BROKER,      // no endpoint is stated
    WAY_DEAD_WORKER, // its endpoint does not answer: by way of the broker
    WAY_LOST,        // nobody has it when first asked; announced anew after that
    WAYS
};

struct fake {
    // set before the start
    unsigned heartbeat_ms, timeout_ms;
    uint32_t results;
    enum way way[RESULTS_MAX];
    size_t size[RESULTS_MAX];
    uint32_t order[RESULTS_MAX];
    bool silent; // after WELCOME
    bool refuse;
    bool other_protocol;
    bool bad_checksum;   // pieces of the worker
    bool foreign_result; // announces a partition that the job does not have
    bool gap;            // skips a sequence number
    bool fail;           // the job fails in the end
    bool once;           // the client does not look for it again
    // during
    char endpoint[108], worker_endpoint[108], directory[64];
    pthread_t thread;
    atomic_bool stop;
    struct socket *router, *worker;
    uint8_t route[256];
    size_t route_size;
    uint64_t seq;
    bool lost_told[RESULTS_MAX];
    atomic_uint freed, fetches_worker, fetches_broker, cancelled;
};

static inline uint8_t byte_at(uint32_t index, size_t at)
{
    return (uint8_t)((at * 2654435761U + index * 40503U) >> 7);
}

static inline void say(struct fake *fake, enum frame_type type, const ProtobufCMessage *message,
                       struct buffer *payload)
{
    uint8_t *bytes = malloc(frame_size(message));
    bool outside = type == FRAME_REFUSE;

    frame_encode(type, outside ? 0 : SESSION, outside ? 0 : fake->seq++, message, bytes);
    if (fake->other_protocol) {
        bytes[4] = 99;
    }
    socket_send(fake->router, fake->route, fake->route_size, bytes, frame_size(message), &payload,
                payload != NULL ? 1 : 0);
    free(bytes);
}

static inline struct buffer *payload(const struct fake *fake, uint32_t index, size_t offset, size_t length)
{
    struct buffer *out = NULL;
    uint8_t *raw = malloc(length + 1);

    (void)fake;
    for (size_t i = 0; i < length; i++) {
        raw[i] = byte_at(index, offset + i);
    }
    payload_encode(raw, length, PAYLOAD_AUTO, &out, NULL);
    free(raw);
    return out;
}

static inline void announce(struct fake *fake, uint32_t index, bool anew)
{
    Dray__Result result = DRAY__RESULT__INIT;
    char *endpoints[1];
    struct buffer *bytes = NULL;
    enum way way = fake->way[index];
    static char dead[128];

    snprintf(dead, sizeof(dead), "tcp://127.0.0.1:9");
    result.job = JOB;
    result.layer = 1;
    result.index = index;
    result.bytes = fake->size[index];
    result.has_worker = true;
    result.worker = 3;
    result.has_incarnation = true;
    result.incarnation = INCARNATION;
    result.endpoint = endpoints;
    if (way == WAY_INLINE) {
        result.has_inlined = result.inlined = true;
        bytes = payload(fake, index, 0, fake->size[index]);
    } else if (way == WAY_WORKER || (way == WAY_LOST && anew)) {
        result.n_endpoint = 1;
        endpoints[0] = fake->worker_endpoint;
    } else if (way == WAY_DEAD_WORKER) {
        result.n_endpoint = 1;
        endpoints[0] = dead;
    }
    say(fake, FRAME_RESULT, &result.base, bytes);
    buffer_unref(bytes);
}

static inline void play_job(struct fake *fake, const Dray__Submit *submit)
{
    Dray__Accepted accepted = DRAY__ACCEPTED__INIT;
    Dray__Notes notes = DRAY__NOTES__INIT;
    Dray__TaskNote note = DRAY__TASK_NOTE__INIT;
    Dray__TaskNote *all_notes[] = {&note};
    Dray__Progress progress = DRAY__PROGRESS__INIT;
    Dray__JobEnded ended = DRAY__JOB_ENDED__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;
    uint8_t word[] = {1, 2, 3};

    accepted.key_hi = submit->key_hi;
    accepted.key_lo = submit->key_lo;
    accepted.job = JOB;
    say(fake, FRAME_ACCEPTED, &accepted.base, NULL);
    if (fake->gap) {
        fake->seq++;
    }
    notes.job = JOB;
    notes.layer = 0;
    notes.n_note = 1;
    notes.note = all_notes;
    note.note.data = word;
    note.note.len = sizeof(word);
    say(fake, FRAME_NOTES, &notes.base, NULL);
    say(fake, FRAME_NOTES, &notes.base, NULL); // the task ran twice
    for (uint32_t i = 0; i < fake->results; i++) {
        announce(fake, fake->order[i], false);
    }
    if (fake->foreign_result) {
        Dray__Result result = DRAY__RESULT__INIT;

        result.job = JOB;
        result.layer = 1;
        result.index = 1u << 31;
        say(fake, FRAME_RESULT, &result.base, NULL);
    }
    progress.job = JOB;
    progress.tasks = 10;
    progress.done = 4;
    progress.has_workers = true;
    progress.workers = 2;
    progress.waiting = (char *)(uintptr_t) "nothing";
    say(fake, FRAME_PROGRESS, &progress.base, NULL);
    ended.job = JOB;
    ended.state = DRAY__JOB_STATE__DONE;
    if (fake->fail) {
        ended.state = DRAY__JOB_STATE__FAILED;
        why.code = EDOM;
        why.text = (char *)(uintptr_t) "task 3 is unhappy";
        ended.why = &why;
        ended.has_layer = ended.has_index = true;
        ended.index = 3;
    }
    say(fake, FRAME_JOB_ENDED, &ended.base, NULL);
}

static inline void answer_fetch(struct fake *fake, const Dray__Fetch *fetch, bool direct,
                                const struct message *message)
{
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;
    uint32_t index = fetch->index;
    struct buffer *bytes = NULL;
    uint8_t head[256];

    assert_in_range(index, 0, fake->results - 1);
    piece.tag = fetch->tag;
    piece.total = fake->size[index];
    if (fake->way[index] == WAY_LOST && !direct) {
        why.code = ENOENT;
        why.text = (char *)(uintptr_t) "it is not here";
        piece.why = &why;
    } else {
        size_t length = fake->size[index] - fetch->offset;

        assert_true(fetch->offset < fake->size[index]);
        length = length < fetch->length ? length : fetch->length;
        bytes = payload(fake, index, fetch->offset, length);
    }
    if (direct) {
        fake->fetches_worker++;
        if (fake->bad_checksum && bytes != NULL) {
            struct buffer *good = bytes;
            uint8_t *copy;

            bytes = buffer_create(good->size, &copy);
            memcpy(copy, good->data, good->size);
            copy[good->size - 1] ^= 1;
            buffer_unref(good);
        }
        frame_encode(FRAME_PIECE, INCARNATION, 0, &piece.base, head);
        socket_send(fake->worker, message->frame[0].data, message->frame[0].size, head,
                    frame_size(&piece.base), &bytes, bytes != NULL ? 1 : 0);
    } else {
        fake->fetches_broker++;
        assert_true(fetch->has_worker && fetch->worker == 3);
        say(fake, FRAME_PIECE, &piece.base, bytes);
        if (piece.why != NULL && !fake->lost_told[index]) {
            fake->lost_told[index] = true;
            announce(fake, index, true);
        }
    }
    buffer_unref(bytes);
}

static inline void play_hello(struct fake *fake)
{
    Dray__Welcome welcome = DRAY__WELCOME__INIT;

    if (fake->refuse) {
        Dray__Refuse refuse = DRAY__REFUSE__INIT;
        Dray__Failure why = DRAY__FAILURE__INIT;

        why.code = EPROTO;
        why.text = (char *)(uintptr_t) "wrong version";
        refuse.why = &why;
        say(fake, FRAME_REFUSE, &refuse.base, NULL);
        return;
    }
    welcome.session = SESSION;
    welcome.heartbeat_ms = fake->heartbeat_ms;
    welcome.timeout_ms = fake->timeout_ms;
    say(fake, FRAME_WELCOME, &welcome.base, NULL);
}

static inline void play(struct fake *fake, const struct frame *frame)
{
    switch (frame->info->type) {
    case FRAME_HELLO:
        play_hello(fake);
        break;
    case FRAME_SUBMIT:
        play_job(fake, (const Dray__Submit *)frame->message);
        break;
    case FRAME_FETCH:
        answer_fetch(fake, (const Dray__Fetch *)frame->message, false, NULL);
        break;
    case FRAME_CANCEL:
        fake->cancelled++;
        break;
    case FRAME_FREE: {
        const Dray__Free *message = (const Dray__Free *)frame->message;

        for (size_t i = 0; i < message->n_run; i++) {
            for (size_t j = 0; j < message->run[i]->n_count; j++) {
                fake->freed += message->run[i]->count[j];
            }
        }
        break;
    }
    case FRAME_CLUSTER_QUERY: {
        Dray__Cluster cluster = DRAY__CLUSTER__INIT;
        Dray__WorkerInfo worker = DRAY__WORKER_INFO__INIT;
        Dray__WorkerInfo *workers[] = {&worker};

        worker.name = (char *)(uintptr_t) "w";
        cluster.tag = ((const Dray__ClusterQuery *)frame->message)->tag;
        cluster.n_worker = 1;
        cluster.worker = workers;
        say(fake, FRAME_CLUSTER, &cluster.base, NULL);
        break;
    }
    default:
        break;
    }
}

static inline void serve(struct fake *fake, struct arena *arena)
{
    static _Thread_local struct message message;
    struct frame frame;

    while (socket_receive(fake->router, &message) == 1) {
        memcpy(fake->route, message.frame[0].data, message.frame[0].size);
        fake->route_size = message.frame[0].size;
        assert_int_equal(
            frame_decode(message.frame[1].data, message.frame[1].size, FROM_CLIENT, arena, &frame, NULL), 0);
        if (!fake->silent || frame.info->type == FRAME_HELLO) {
            play(fake, &frame);
        }
        message_fini(&message);
        arena_reset(arena);
    }
    while (socket_receive(fake->worker, &message) == 1) {
        assert_int_equal(
            frame_decode(message.frame[1].data, message.frame[1].size, FROM_CLIENT, arena, &frame, NULL), 0);
        assert_int_equal(frame.session, INCARNATION);
        answer_fetch(fake, (const Dray__Fetch *)frame.message, true, &message);
        message_fini(&message);
        arena_reset(arena);
    }
}

static inline void *fake_main(void *arg)
{
    struct fake *fake = arg;
    uint64_t beat_us = monotonic_us();
    struct arena arena;

    arena_init(&arena, 0);
    fake->router = socket_create(SOCKET_ROUTER, &(struct socket_options){0}, NULL);
    fake->worker = socket_create(SOCKET_ROUTER, &(struct socket_options){0}, NULL);
    assert_int_equal(socket_bind(fake->router, fake->endpoint, NULL), 0);
    assert_int_equal(socket_bind(fake->worker, fake->worker_endpoint, NULL), 0);
    while (!fake->stop) {
        serve(fake, &arena);
        if (!fake->silent && fake->seq > 0 && !fake->refuse &&
            monotonic_us() - beat_us > fake->heartbeat_ms * 1000ULL) {
            Dray__Heartbeat beat = DRAY__HEARTBEAT__INIT;

            say(fake, FRAME_HEARTBEAT, &beat.base, NULL);
            beat_us = monotonic_us();
        }
        poll(NULL, 0, 1);
    }
    socket_destroy(fake->router, 0);
    socket_destroy(fake->worker, 0);
    arena_fini(&arena);
    return NULL;
}

static inline struct fake *fake_create(void)
{
    struct fake *fake = calloc(1, sizeof(*fake));

    snprintf(fake->directory, sizeof(fake->directory), "/tmp/dray-test-XXXXXX");
    assert_non_null(mkdtemp(fake->directory));
    snprintf(fake->endpoint, sizeof(fake->endpoint), "ipc://%s/broker", fake->directory);
    snprintf(fake->worker_endpoint, sizeof(fake->worker_endpoint), "ipc://%s/worker", fake->directory);
    fake->heartbeat_ms = 200;
    fake->timeout_ms = 20000;
    for (uint32_t i = 0; i < RESULTS_MAX; i++) {
        fake->order[i] = i;
        fake->size[i] = 100;
    }
    return fake;
}

static inline void fake_start(struct fake *fake)
{
    sockets_init();
    pthread_create(&fake->thread, NULL, fake_main, fake);
}

static inline void fake_destroy(struct fake *fake)
{
    char path[128];

    fake->stop = true;
    pthread_join(fake->thread, NULL);
    snprintf(path, sizeof(path), "%s/broker", fake->directory);
    unlink(path);
    snprintf(path, sizeof(path), "%s/worker", fake->directory);
    unlink(path);
    rmdir(fake->directory);
    free(fake);
}

// Two layers: one that is not wanted, and one of `results` tasks that is.
static inline int submit(dray_t *dray, const struct fake *fake, bool ordered, dray_job_t *job,
                         struct dray_error *err)
{
    const struct dray_submit_options options = {.size = sizeof(options), .ordered = ordered};
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer layer[2] = {DRAY__LAYER__INIT, DRAY__LAYER__INIT};
    Dray__Layer *layers[] = {&layer[0], &layer[1]};
    uint8_t packed[512], op[] = {0};
    size_t size;

    for (int i = 0; i < 2; i++) {
        layer[i].tasks = i == 0 ? 5 : fake->results > 0 ? fake->results : 1;
        layer[i].op.data = op;
        layer[i].op.len = sizeof(op);
        layer[i].has_wanted = true;
        layer[i].wanted = i == 1;
    }
    graph.n_layer = 2;
    graph.layer = layers;
    size = dray__graph__pack(&graph, packed);
    return dray_submit_graph(dray, packed, size, &options, job, err);
}

static inline dray_t *connected(const struct fake *fake)
{
    const struct dray_options once = {.size = sizeof(once), .reconnect_ms = -1};
    struct dray_error err = {0};
    dray_t *dray = NULL;

    if (dray_connect(fake->endpoint, fake->once ? &once : NULL, &dray, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return dray;
}

#endif
