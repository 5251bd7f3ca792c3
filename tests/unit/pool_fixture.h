// A broker and a worker for tests of pools, played on a thread: it runs Count and Data tasks at once and
// tells the results in batches, in some order, along or at the worker.
#ifndef DRAY_TESTS_UNIT_POOL_FIXTURE_H
#define DRAY_TESTS_UNIT_POOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/graph.h"
#include "proto/op.h"
#include "proto/partition.h"
#include "proto/payload.h"
#include "proto/socket.h"

enum { JOBS = 8, LAYERS = 70000, SESSION = 99, INCARNATION = 4711, WORKER = 3 };

struct played_layer {
    uint32_t tasks;
    uint64_t *value;
    bool failed, remote;
};
struct played_job {
    struct played_layer *layer;
    uint32_t *tasks; // of each layer
    uint32_t layers;
    bool last, freed;
};

struct fake {
    char endpoint[108], worker_endpoint[108], directory[64];
    pthread_t thread;
    struct socket *router, *worker;
    uint8_t route[256];
    size_t route_size;
    uint64_t seq;
    struct played_job job[JOBS];
    uint32_t jobs;
    unsigned random;
    struct arena held; // layers whose results wait
    uint32_t held_layer[64][2];
    size_t holding;
    char attached_name[32];
    atomic_bool stop, hold, remote, scattered, twice, lose_worker, refuse_extend, nested;
    atomic_uint extends, freed, jobs_freed, cancelled, jobs_cancelled, lasts, fetches, heartbeats;
};

static void say(struct fake *fake, enum frame_type type, const ProtobufCMessage *message,
                struct buffer *const *payload, size_t payloads)
{
    uint8_t *bytes = malloc(frame_size(message));

    frame_encode(type, SESSION, fake->seq++, message, bytes);
    while (socket_send(fake->router, fake->route, fake->route_size, bytes, frame_size(message), payload,
                       payloads) == -EAGAIN) {
        poll(NULL, 0, 1);
    }
    free(bytes);
}

static size_t encode(uint64_t value, uint8_t out[24])
{
    memset(out, 0, PARTITION_HEADER);
    memcpy(out, "DPT1", 4);
    out[4] = PARTITION_BYTES;
    memcpy(out + PARTITION_HEADER, &value, sizeof(value));
    return 24;
}

static void tell(struct fake *fake, uint32_t job, uint32_t layer_number, const uint32_t *first,
                 const uint32_t *count, size_t ranges)
{
    const struct played_layer *layer = &fake->job[job].layer[layer_number];
    Dray__Results results = DRAY__RESULTS__INIT;
    Dray__ResultBatch batch = DRAY__RESULT_BATCH__INIT;
    Dray__ResultBatch *batches[] = {&batch, &batch};
    Dray__Failure why = DRAY__FAILURE__INIT;
    char *endpoint[] = {fake->worker_endpoint};
    struct buffer *payload[2] = {NULL, NULL};
    uint8_t *raw = malloc((size_t)layer->tasks * 48 + 1); // some may be named twice
    uint64_t *bytes = malloc((size_t)layer->tasks * 2 * sizeof(*bytes));
    uint32_t *sizes = malloc((size_t)layer->tasks * 2 * sizeof(*sizes));
    size_t at = 0, n = 0;

    for (size_t r = 0; r < ranges; r++) {
        for (uint32_t i = 0; i < count[r]; i++, n++) {
            sizes[n] = (uint32_t)encode(layer->value[first[r] + i], raw + at);
            at += sizes[n];
            bytes[n] = 8;
        }
    }
    batch.job = job;
    batch.layer = layer_number;
    batch.first = (uint32_t *)(uintptr_t)first;
    batch.count = (uint32_t *)(uintptr_t)count;
    batch.n_first = batch.n_count = ranges;
    if (layer->failed) {
        why.code = EDOM;
        why.text = (char *)(uintptr_t) "it is unhappy on worker w";
        batch.why = &why;
    } else {
        batch.bytes = bytes;
        batch.n_bytes = n;
        batch.has_worker = batch.has_incarnation = true;
        batch.worker = WORKER;
        batch.incarnation = INCARNATION;
        batch.endpoint = endpoint;
        batch.n_endpoint = 1;
        if (!layer->remote) {
            batch.inline_bytes = sizes;
            batch.n_inline_bytes = n;
            payload_encode(raw, at, PAYLOAD_AUTO, &payload[0], NULL);
            payload[1] = payload[0];
        }
    }
    results.batch = batches;
    results.n_batch = fake->twice ? 2 : 1;
    say(fake, FRAME_RESULTS, &results.base, payload, payload[0] == NULL ? 0 : results.n_batch);
    buffer_unref(payload[0]);
    free(raw);
    free(bytes);
    free(sizes);
}

// All in one batch, or in several of single tasks from both ends.
static void tell_layer(struct fake *fake, uint32_t job, uint32_t layer)
{
    uint32_t tasks = fake->job[job].layer[layer].tasks;
    uint32_t *firsts, *counts;
    size_t n = 0;

    if (fake->nested) {
        const uint32_t first[] = {2, 4, 0}, count[] = {1, 1, 10};

        tell(fake, job, layer, first, count, 3);
        return;
    }
    for (uint32_t first = 0; !fake->scattered && first < tasks; first += 50000) {
        uint32_t some = tasks - first < 50000 ? tasks - first : 50000;

        tell(fake, job, layer, &first, &some, 1);
    }
    if (!fake->scattered) {
        return;
    }
    firsts = malloc(tasks * sizeof(*firsts));
    counts = malloc(tasks * sizeof(*counts));
    for (uint32_t i = 0; i < tasks; i++) {
        firsts[n] = i % 2 == 0 ? i / 2 : tasks - 1 - i / 2;
        counts[n++] = 1;
        if (rand_r(&fake->random) % 16 == 0 || i + 1 == tasks) {
            tell(fake, job, layer, firsts, counts, n);
            n = 0;
        }
    }
    free(firsts);
    free(counts);
}

static uint64_t input_value(const struct fake *fake, uint32_t job, const Dray__Input *input, uint32_t index)
{
    return fake->job[input->has_job ? input->job : job].layer[input->layer].value[index];
}

static void run_layer(struct fake *fake, uint32_t job, const Dray__Layer *from, struct arena *arena)
{
    struct played_job *j = &fake->job[job];
    struct played_layer *layer = &j->layer[j->layers];
    const Dray__Op *op;

    assert_int_equal(op_decode(from->op.data, from->op.len, arena, &op, NULL), 0);
    assert_int_equal(op_check_tasks(op, from->tasks, NULL), 0);
    layer->tasks = j->tasks[j->layers] = from->tasks;
    layer->value = calloc(from->tasks, sizeof(uint64_t));
    layer->failed = from->name != NULL && strcmp(from->name, "fail") == 0;
    layer->remote = fake->remote;
    for (uint32_t i = 0; i < from->tasks; i++) {
        const Dray__Data *data = op->step[0]->data;

        layer->value[i] = 1 + i;
        if (data != NULL) {
            const ProtobufCBinaryData *value = &data->value[data->n_value > 1 ? i : 0];

            memcpy(&layer->value[i], value->data, value->len < 8 ? value->len : 8);
        }
        for (size_t k = 0; k < from->n_input; k++) {
            const Dray__Input *input = from->input[k];
            uint32_t source = input->has_job ? input->job_tasks : j->tasks[input->layer];
            struct span span = input_needs(input, from->tasks, source, i);

            if (input->has_job) { // what it is told it knows already
                assert_true(input->layer < fake->job[input->job].layers);
                assert_int_equal(source, fake->job[input->job].tasks[input->layer]);
            }

            for (uint32_t p = 0; p < span.count; p++) {
                layer->value[i] += input_value(fake, job, input, span_at(&span, p));
            }
        }
    }
    j->layers++;
    if (fake->hold) {
        fake->held_layer[fake->holding][0] = job;
        fake->held_layer[fake->holding++][1] = j->layers - 1;
    } else {
        tell_layer(fake, job, j->layers - 1);
    }
}

static void play_extend(struct fake *fake, const Dray__Extend *extend, struct arena *arena)
{
    struct played_job *j = &fake->job[extend->job];
    Dray__Extended extended = DRAY__EXTENDED__INIT;
    ProtobufCMessage *message;
    struct error err = {0};

    fake->extends++;
    if (fake->refuse_extend) {
        Dray__Rejected rejected = DRAY__REJECTED__INIT;
        Dray__Failure why = DRAY__FAILURE__INIT;

        why.code = ENOSPC;
        why.text = (char *)(uintptr_t) "the broker has no room for more tasks";
        rejected.why = &why;
        rejected.has_job = true;
        rejected.job = extend->job;
        say(fake, FRAME_REJECTED, &rejected.base, NULL, 0);
        return;
    }
    assert_int_equal(extend->first_layer, j->layers);
    if (extend->has_graph) {
        assert_non_null(message = protobuf_c_message_unpack(&dray__graph__descriptor, &arena->protobuf,
                                                            extend->graph.len, extend->graph.data));
        if (graph_check_more((Dray__Graph *)message, j->layers, j->tasks, &err) != 0) {
            fail_msg("%s", err.text);
        }
        for (size_t i = 0; i < ((Dray__Graph *)message)->n_layer; i++) {
            run_layer(fake, extend->job, ((Dray__Graph *)message)->layer[i], arena);
        }
    }
    extended.job = extend->job;
    extended.layers = j->layers;
    extended.has_last = extended.last = extend->last;
    say(fake, FRAME_EXTENDED, &extended.base, NULL, 0);
    if (extend->last) {
        Dray__JobEnded ended = DRAY__JOB_ENDED__INIT;

        fake->lasts++;
        j->last = true;
        ended.job = extend->job;
        ended.state = DRAY__JOB_STATE__DONE;
        say(fake, FRAME_JOB_ENDED, &ended.base, NULL, 0);
    }
}

static void play_submit(struct fake *fake, const Dray__Submit *submit)
{
    Dray__Accepted accepted = DRAY__ACCEPTED__INIT;
    struct played_job *j;

    assert_true(submit->open);
    assert_int_equal(submit->failures_max, UINT32_MAX);
    accepted.key_hi = submit->key_hi;
    accepted.key_lo = submit->key_lo;
    accepted.job = ++fake->jobs;
    j = &fake->job[accepted.job];
    j->layer = calloc(LAYERS, sizeof(*j->layer));
    j->tasks = calloc(LAYERS, sizeof(*j->tasks));
    say(fake, FRAME_ACCEPTED, &accepted.base, NULL, 0);
}

static void play_cancel(struct fake *fake, const Dray__Cancel *cancel)
{
    fake->jobs_cancelled += cancel->n_run == 0;
    for (size_t i = 0; i < cancel->n_run; i++) {
        const Dray__Run *run = cancel->run[i];
        Dray__Results results = DRAY__RESULTS__INIT;
        Dray__ResultBatch batch = DRAY__RESULT_BATCH__INIT;
        Dray__ResultBatch *batches[] = {&batch};
        Dray__Failure why = DRAY__FAILURE__INIT;

        batch.job = cancel->job;
        batch.layer = run->layer;
        batch.first = run->first;
        batch.count = run->count;
        batch.n_first = batch.n_count = run->n_first;
        why.code = ECANCELED;
        why.text = (char *)(uintptr_t) "cancelled by its client";
        batch.why = &why;
        results.n_batch = 1;
        results.batch = batches;
        for (size_t k = 0; k < run->n_first; k++) {
            fake->cancelled += run->count[k];
        }
        say(fake, FRAME_RESULTS, &results.base, NULL, 0);
    }
}

static void play_free(struct fake *fake, const Dray__Free *message)
{
    fake->jobs_freed += message->n_run == 0;
    for (size_t i = 0; i < message->n_run; i++) {
        for (size_t k = 0; k < message->run[i]->n_first; k++) {
            fake->freed += message->run[i]->count[k];
        }
    }
}

static void answer_fetch(struct fake *fake, const Dray__Fetch *fetch, const struct message *message)
{
    const struct played_layer *layer = &fake->job[fetch->job].layer[fetch->layer];
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;
    struct buffer *bytes = NULL;
    uint8_t raw[24], head[256];

    assert_true(fetch->index < layer->tasks);
    fake->fetches++;
    piece.tag = fetch->tag;
    piece.total = encode(layer->value[fetch->index], raw);
    if (fake->lose_worker) {
        why.code = ENOENT;
        why.text = (char *)(uintptr_t) "it is not here";
        piece.why = &why;
    } else {
        payload_encode(raw, sizeof(raw), PAYLOAD_RAW, &bytes, NULL);
    }
    if (message != NULL) {
        frame_encode(FRAME_PIECE, INCARNATION, 0, &piece.base, head);
        socket_send(fake->worker, message->frame[0].data, message->frame[0].size, head,
                    frame_size(&piece.base), &bytes, bytes != NULL ? 1 : 0);
    } else {
        say(fake, FRAME_PIECE, &piece.base, &bytes, bytes != NULL ? 1 : 0);
        if (fake->lose_worker) { // and it is made again
            uint32_t first = fetch->index, count = 1;

            fake->lose_worker = false;
            tell(fake, fetch->job, fetch->layer, &first, &count, 1);
        }
    }
    buffer_unref(bytes);
}

static void play_question(struct fake *fake, const struct frame *frame)
{
    Dray__Reply reply = DRAY__REPLY__INIT;
    Dray__Attached attached = DRAY__ATTACHED__INIT;
    Dray__AttachedLayer layer = DRAY__ATTACHED_LAYER__INIT;
    Dray__AttachedLayer *layers[] = {&layer};
    Dray__Jobs jobs = DRAY__JOBS__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;

    why.code = ENOENT;
    why.text = (char *)(uintptr_t) "there is no such job";
    if (frame->info->type == FRAME_KEEP) {
        const Dray__Keep *keep = (const Dray__Keep *)frame->message;

        reply.tag = keep->tag;
        snprintf(fake->attached_name, sizeof(fake->attached_name), "%s", keep->name);
        say(fake, FRAME_REPLY, &reply.base, NULL, 0);
    } else if (frame->info->type == FRAME_UNKEEP) {
        const Dray__Unkeep *unkeep = (const Dray__Unkeep *)frame->message;

        reply.tag = unkeep->tag;
        reply.why = strcmp(unkeep->name, fake->attached_name) == 0 ? NULL : &why;
        say(fake, FRAME_REPLY, &reply.base, NULL, 0);
    } else if (frame->info->type == FRAME_JOB_QUERY) {
        jobs.tag = ((const Dray__JobQuery *)frame->message)->tag;
        jobs.why = ((const Dray__JobQuery *)frame->message)->has_job ? &why : NULL;
        say(fake, FRAME_JOBS, &jobs.base, NULL, 0);
    } else {
        const Dray__Attach *attach = (const Dray__Attach *)frame->message;

        attached.tag = attach->tag;
        if (attach->kept == NULL || strcmp(attach->kept, fake->attached_name) != 0) {
            attached.why = &why;
            say(fake, FRAME_ATTACHED, &attached.base, NULL, 0);
            return;
        }
        attached.has_job = attached.has_state = true;
        attached.job = 1;
        attached.state = DRAY__JOB_STATE__DONE;
        attached.n_layer = 1;
        attached.layer = layers;
        layer.tasks = fake->job[1].layer[0].tasks;
        layer.has_wanted = layer.wanted = true;
        say(fake, FRAME_ATTACHED, &attached.base, NULL, 0);
        if (!attach->look) {
            tell_layer(fake, 1, 0); // right behind
        }
    }
}

static void play(struct fake *fake, const struct frame *frame, struct arena *arena)
{
    Dray__Welcome welcome = DRAY__WELCOME__INIT;

    switch (frame->info->type) {
    case FRAME_HELLO:
        welcome.session = SESSION;
        welcome.heartbeat_ms = 200;
        welcome.timeout_ms = 20000;
        say(fake, FRAME_WELCOME, &welcome.base, NULL, 0);
        break;
    case FRAME_SUBMIT:
        play_submit(fake, (const Dray__Submit *)frame->message);
        break;
    case FRAME_EXTEND:
        play_extend(fake, (const Dray__Extend *)frame->message, arena);
        break;
    case FRAME_CANCEL:
        play_cancel(fake, (const Dray__Cancel *)frame->message);
        break;
    case FRAME_FREE:
        play_free(fake, (const Dray__Free *)frame->message);
        break;
    case FRAME_FETCH:
        answer_fetch(fake, (const Dray__Fetch *)frame->message, NULL);
        break;
    case FRAME_KEEP:
    case FRAME_UNKEEP:
    case FRAME_ATTACH:
    case FRAME_JOB_QUERY:
        play_question(fake, frame);
        break;
    case FRAME_HEARTBEAT:
        fake->heartbeats++;
        break;
    default:
        break;
    }
}

static void serve(struct fake *fake, struct arena *arena)
{
    static _Thread_local struct message message;
    struct frame frame;

    while (socket_receive(fake->router, &message) == 1) {
        memcpy(fake->route, message.frame[0].data, message.frame[0].size);
        fake->route_size = message.frame[0].size;
        assert_int_equal(
            frame_decode(message.frame[1].data, message.frame[1].size, FROM_CLIENT, arena, &frame, NULL), 0);
        play(fake, &frame, arena);
        message_fini(&message);
        arena_reset(arena);
    }
    while (socket_receive(fake->worker, &message) == 1) {
        assert_int_equal(
            frame_decode(message.frame[1].data, message.frame[1].size, FROM_CLIENT, arena, &frame, NULL), 0);
        answer_fetch(fake, (const Dray__Fetch *)frame.message, &message);
        message_fini(&message);
        arena_reset(arena);
    }
}

static void *fake_main(void *arg)
{
    struct fake *fake = arg;
    struct arena arena;

    arena_init(&arena, 0);
    while (!fake->stop) {
        serve(fake, &arena);
        while (!fake->hold && fake->holding > 0) {
            fake->holding--;
            tell_layer(fake, fake->held_layer[fake->holding][0], fake->held_layer[fake->holding][1]);
        }
        struct pollfd fd[] = {{.fd = socket_fd(fake->router), .events = POLLIN},
                              {.fd = socket_fd(fake->worker), .events = POLLIN}};

        if (!socket_ready(fake->router) && !socket_ready(fake->worker)) {
            poll(fd, 2, 5);
        }
    }
    arena_fini(&arena);
    return NULL;
}

static int set_up(void **state)
{
    struct fake *fake = calloc(1, sizeof(*fake));

    snprintf(fake->directory, sizeof(fake->directory), "/tmp/dray-test-XXXXXX");
    assert_non_null(mkdtemp(fake->directory));
    snprintf(fake->endpoint, sizeof(fake->endpoint), "ipc://%s/broker", fake->directory);
    snprintf(fake->worker_endpoint, sizeof(fake->worker_endpoint), "ipc://%s/worker", fake->directory);
    fake->random = 7;
    sockets_init();
    fake->router = socket_create(SOCKET_ROUTER, &(struct socket_options){.send_messages_max = 100000}, NULL);
    fake->worker = socket_create(SOCKET_ROUTER, &(struct socket_options){0}, NULL);
    assert_int_equal(socket_bind(fake->router, fake->endpoint, NULL), 0);
    assert_int_equal(socket_bind(fake->worker, fake->worker_endpoint, NULL), 0);
    pthread_create(&fake->thread, NULL, fake_main, fake);
    *state = fake;
    return 0;
}

static int tear_down(void **state)
{
    struct fake *fake = *state;

    fake->stop = true;
    pthread_join(fake->thread, NULL);
    socket_destroy(fake->router, 0);
    socket_destroy(fake->worker, 0);
    rmdir(fake->directory);
    for (uint32_t j = 0; j < JOBS; j++) {
        for (uint32_t l = 0; l < fake->job[j].layers; l++) {
            free(fake->job[j].layer[l].value);
        }
        free(fake->job[j].layer);
        free(fake->job[j].tasks);
    }
    free(fake);
    return 0;
}

#endif
