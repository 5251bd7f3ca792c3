// A broker that this program plays on a thread of its own, which writes down what it hears, and what its
// client says to it.  Include after cmocka.h.
#ifndef DRAY_TESTS_UNIT_REJOIN_BROKER_H
#define DRAY_TESTS_UNIT_REJOIN_BROKER_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/include/dray.h"
#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rejoin.h"
#include "proto/frame.h"
#include "proto/payload.h"
#include "proto/socket.h"

enum { LOG_MAX = 4096, TASKS = 6 };
// A job with results of which every other one is freed: many more ranges than a message has.
enum { WIDE = 77, WIDE_RANGES = 80 * 4096 };

struct fake {
    char endpoint[108], directory[64];
    pthread_t thread;
    struct socket *router;
    uint8_t route[256];
    size_t route_size;
    uint64_t session, seq;
    _Atomic uint64_t incarnation;
    pthread_mutex_t lock;
    char log[LOG_MAX]; // under the lock
    uint32_t layers;   // that the job has, each of TASKS tasks
    atomic_bool stop, lost, mute, forgets_job, confirms, ignores_submit, dies;
    atomic_int ends;                 // with this code, when it hears something; 0: it does not
    atomic_bool stalls, stalls_next; // reads nothing; from the next WELCOME on
    int room;                        // messages that its socket takes meanwhile; 0: many
    uint8_t freed[2 * WIDE_RANGES];  // of WIDE, it was told so; under the lock
    uint32_t freed_tasks, freed_twice;
    atomic_uint hellos, submits, attaches; // heard
    atomic_uint extends;
    atomic_bool apart;  // results come without their bytes
    atomic_bool counts; // its jobs have numbers of their own, and no layers
};

static inline void note(struct fake *fake, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void note(struct fake *fake, const char *format, ...)
{
    va_list arguments;
    size_t size;

    pthread_mutex_lock(&fake->lock);
    size = strlen(fake->log);
    va_start(arguments, format);
    vsnprintf(fake->log + size, LOG_MAX - size, format, arguments);
    va_end(arguments);
    pthread_mutex_unlock(&fake->lock);
}

static inline void say(struct fake *fake, enum frame_type type, const ProtobufCMessage *message,
                       struct buffer *payload)
{
    uint8_t bytes[1024];
    bool outside = type == FRAME_REFUSE;

    assert_true(frame_size(message) <= sizeof(bytes));
    frame_encode(type, outside ? 0 : fake->session, outside ? 0 : fake->seq++, message, bytes);
    socket_send(fake->router, fake->route, fake->route_size, bytes, frame_size(message), &payload,
                payload != NULL ? 1 : 0);
}

// The first half of the last layer's results, as texts; a note of its first task before them.
static inline void tell_results(struct fake *fake)
{
    Dray__Notes notes = DRAY__NOTES__INIT;
    Dray__TaskNote one = DRAY__TASK_NOTE__INIT, *ones[] = {&one};
    Dray__Results results = DRAY__RESULTS__INIT;
    Dray__ResultBatch batch = DRAY__RESULT_BATCH__INIT, *batches[] = {&batch};
    uint32_t first = 0, count = TASKS / 2, inline_bytes[TASKS / 2];
    uint64_t bytes[TASKS / 2];
    uint8_t raw[TASKS / 2 * 16] = {0}, word[] = {7};
    struct buffer *payload = NULL;

    notes.job = batch.job = 1;
    notes.layer = batch.layer = fake->layers - 1;
    notes.n_note = 1;
    notes.note = ones;
    one.note.data = word;
    one.note.len = 1;
    say(fake, FRAME_NOTES, &notes.base, NULL);
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = inline_bytes[i] = 16;
    }
    payload_encode(raw, sizeof(raw), PAYLOAD_RAW, &payload, NULL);
    results.n_batch = 1;
    results.batch = batches;
    batch.n_first = batch.n_count = 1;
    batch.first = &first;
    batch.count = &count;
    batch.n_bytes = batch.n_inline_bytes = count;
    batch.bytes = bytes;
    batch.inline_bytes = inline_bytes;
    if (fake->apart) {
        batch.n_inline_bytes = 0;
        batch.has_worker = batch.has_incarnation = true;
        batch.worker = 9;
        say(fake, FRAME_RESULTS, &results.base, NULL);
        buffer_unref(payload);
        return;
    }
    say(fake, FRAME_RESULTS, &results.base, payload);
    buffer_unref(payload);
}

static inline void play_hello(struct fake *fake)
{
    Dray__Welcome welcome = DRAY__WELCOME__INIT;

    note(fake, "HELLO ");
    fake->hellos++;
    if (fake->mute) {
        return;
    }
    fake->lost = false;
    welcome.session = fake->session = 100 + fake->hellos;
    fake->seq = 0;
    welcome.incarnation = fake->incarnation;
    welcome.heartbeat_ms = 20;
    welcome.timeout_ms = 20000;
    say(fake, FRAME_WELCOME, &welcome.base, NULL);
    if (fake->stalls_next) {
        fake->stalls_next = false;
        fake->stalls = true;
    }
}

static inline void play_submit(struct fake *fake, const Dray__Submit *submit)
{
    Dray__Accepted accepted = DRAY__ACCEPTED__INIT;

    note(fake, "SUBMIT:%llx ", (unsigned long long)submit->key_lo);
    if (fake->ignores_submit) {
        fake->ignores_submit = false;
        fake->lost = true;
        return;
    }
    accepted.key_hi = submit->key_hi;
    accepted.key_lo = submit->key_lo;
    accepted.job = fake->counts ? ++fake->submits : 1;
    say(fake, FRAME_ACCEPTED, &accepted.base, NULL);
    fake->layers = submit->graph.len > 0 && !fake->counts;
    if (fake->layers > 0) {
        tell_results(fake);
    }
}

static inline void play_attach(struct fake *fake, const Dray__Attach *attach)
{
    Dray__Attached attached = DRAY__ATTACHED__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;
    Dray__AttachedLayer layer[16], *layers[16];

    note(fake, "ATTACH:%u%s ", attach->job, attach->again ? ",again" : "");
    fake->attaches++;
    attached.tag = attach->tag;
    if (fake->forgets_job) {
        why.code = ENOENT;
        why.text = (char *)(uintptr_t) "there is no such job";
        attached.why = &why;
        say(fake, FRAME_ATTACHED, &attached.base, NULL);
        return;
    }
    attached.has_job = attached.has_state = true;
    attached.job = attach->job;
    attached.state = DRAY__JOB_STATE__RUNNING;
    attached.n_layer = fake->layers;
    attached.layer = layers;
    for (uint32_t i = 0; i < fake->layers; i++) {
        dray__attached_layer__init(&layer[i]);
        layer[i].tasks = TASKS;
        layer[i].has_wanted = layer[i].wanted = true;
        layers[i] = &layer[i];
    }
    say(fake, FRAME_ATTACHED, &attached.base, NULL);
    if (fake->layers > 0) {
        tell_results(fake);
    }
}

static inline void play_extend(struct fake *fake, const Dray__Extend *extend)
{
    Dray__Extended extended = DRAY__EXTENDED__INIT;

    note(fake, "EXTEND:%u%s%s ", extend->first_layer, extend->has_graph ? "" : ",none",
         extend->last ? ",last" : "");
    assert_int_equal(extend->first_layer, fake->layers);
    fake->extends++;
    if (!fake->confirms) {
        return; // nor does it remember
    }
    fake->layers += extend->has_graph ? 1 : 0;
    extended.job = 1;
    extended.layers = fake->layers;
    extended.has_last = extended.last = extend->last;
    say(fake, FRAME_EXTENDED, &extended.base, NULL);
}

static inline void note_runs(struct fake *fake, const char *what, uint32_t job, Dray__Run *const *run,
                             size_t runs)
{
    note(fake, "%s:%u", what, job);
    for (size_t i = 0; i < runs; i++) {
        for (size_t k = 0; k < run[i]->n_first; k++) {
            note(fake, ",%u.%u+%u", run[i]->layer, run[i]->first[k], run[i]->count[k]);
        }
    }
    note(fake, " ");
}

static inline void count_freed(struct fake *fake, Dray__Run *const *run, size_t runs)
{
    pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < runs; i++) {
        assert_int_equal(run[i]->layer, 0);
        for (size_t k = 0; k < run[i]->n_first; k++) {
            for (uint32_t index = run[i]->first[k], n = run[i]->count[k]; n > 0; index++, n--) {
                fake->freed_tasks += fake->freed[index] == 0;
                fake->freed_twice += fake->freed[index] != 0;
                fake->freed[index] = 1;
            }
        }
    }
    pthread_mutex_unlock(&fake->lock);
}

static inline void play(struct fake *fake, const struct frame *frame)
{
    Dray__Refuse refuse = DRAY__REFUSE__INIT;
    Dray__Bye bye = DRAY__BYE__INIT;
    Dray__Failure why = DRAY__FAILURE__INIT;

    if (frame->info->type == FRAME_HELLO) {
        play_hello(fake);
        return;
    }
    if (fake->lost || frame->session != fake->session) {
        why.code = ENOTCONN;
        why.text = (char *)(uintptr_t) "no such session";
        refuse.why = &why;
        say(fake, FRAME_REFUSE, &refuse.base, NULL);
        return;
    }
    why.code = atomic_exchange(&fake->ends, 0);
    if (why.code != 0) {
        why.text = (char *)(uintptr_t) "that is enough";
        bye.why = &why;
        say(fake, FRAME_BYE, &bye.base, NULL);
        fake->lost = true;
        return;
    }
    switch (frame->info->type) {
    case FRAME_SUBMIT:
        play_submit(fake, (const Dray__Submit *)frame->message);
        break;
    case FRAME_ATTACH:
        play_attach(fake, (const Dray__Attach *)frame->message);
        break;
    case FRAME_EXTEND:
        play_extend(fake, (const Dray__Extend *)frame->message);
        break;
    case FRAME_FREE: {
        const Dray__Free *freed = (const Dray__Free *)frame->message;

        if (freed->job == WIDE) {
            count_freed(fake, freed->run, freed->n_run);
        } else {
            note_runs(fake, "FREE", freed->job, freed->run, freed->n_run);
        }
        break;
    }
    case FRAME_FETCH: {
        const Dray__Fetch *fetch = (const Dray__Fetch *)frame->message;

        note(fake, "FETCH:%u.%u", fetch->layer, fetch->index);
        for (size_t i = 0; i < fetch->n_also; i++) {
            note(fake, "+%u", fetch->also[i]);
        }
        note(fake, " ");
        break;
    }
    case FRAME_CANCEL: {
        const Dray__Cancel *cancel = (const Dray__Cancel *)frame->message;

        note_runs(fake, "CANCEL", cancel->job, cancel->run, cancel->n_run);
        break;
    }
    default:
        break;
    }
}

static inline void bind_router(struct fake *fake)
{
    fake->router =
        socket_create(SOCKET_ROUTER, &(struct socket_options){.receive_messages_max = fake->room}, NULL);
    assert_int_equal(socket_bind(fake->router, fake->endpoint, NULL), 0);
}

static inline void *fake_main(void *arg)
{
    struct fake *fake = arg;
    static _Thread_local struct message message;
    struct arena arena;
    struct frame frame;

    arena_init(&arena, 0);
    while (!fake->stop) {
        struct pollfd fd = {.fd = socket_fd(fake->router), .events = POLLIN};

        while (!fake->stalls && socket_receive(fake->router, &message) == 1) {
            memcpy(fake->route, message.frame[0].data, message.frame[0].size);
            fake->route_size = message.frame[0].size;
            assert_int_equal(
                frame_decode(message.frame[1].data, message.frame[1].size, FROM_CLIENT, &arena, &frame, NULL),
                0);
            play(fake, &frame);
            message_fini(&message);
            arena_reset(&arena);
        }
        if (fake->dies && fake->hellos > 0) { // and is started again
            fake->dies = fake->mute = false;
            socket_destroy(fake->router, 0);
            bind_router(fake);
            continue;
        }
        if (fake->stalls || !socket_ready(fake->router)) {
            poll(&fd, 1, 5);
        }
    }
    arena_fini(&arena);
    return NULL;
}

static inline int set_up_with(void **state, int room)
{
    struct fake *fake = calloc(1, sizeof(*fake));

    fake->room = room;
    snprintf(fake->directory, sizeof(fake->directory), "/tmp/dray-test-XXXXXX");
    assert_non_null(mkdtemp(fake->directory));
    snprintf(fake->endpoint, sizeof(fake->endpoint), "ipc://%s/broker", fake->directory);
    sockets_init();
    bind_router(fake);
    pthread_mutex_init(&fake->lock, NULL);
    fake->incarnation = 5;
    fake->confirms = true;
    pthread_create(&fake->thread, NULL, fake_main, fake);
    *state = fake;
    return 0;
}

static inline int set_up(void **state)
{
    return set_up_with(state, 0);
}

static inline int set_up_narrow(void **state)
{
    return set_up_with(state, 8);
}

static inline int tear_down(void **state)
{
    struct fake *fake = *state;

    fake->stop = true;
    pthread_join(fake->thread, NULL);
    socket_destroy(fake->router, 0);
    rmdir(fake->directory);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
    return 0;
}

// ---- the client ------------------------------------------------------------------------------------

static inline dray_t *connected(const struct fake *fake, int reconnect_ms)
{
    const struct dray_options options = {.size = sizeof(options), .reconnect_ms = reconnect_ms};
    struct dray_error err = {0};
    dray_t *dray = NULL;

    if (dray_connect(fake->endpoint, &options, &dray, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return dray;
}

static inline size_t pack(uint8_t out[256])
{
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer layer = DRAY__LAYER__INIT, *layers[] = {&layer};
    uint8_t op[] = {0};

    layer.tasks = TASKS;
    layer.op.data = op;
    layer.op.len = sizeof(op);
    layer.has_wanted = layer.wanted = true;
    graph.n_layer = 1;
    graph.layer = layers;
    return dray__graph__pack(&graph, out);
}

static inline dray_job_t submit(dray_t *dray, bool open)
{
    const struct dray_submit_options options = {.size = sizeof(options), .open = open, .key = {3, 0xabc}};
    struct dray_error err = {0};
    uint8_t graph[256];
    dray_job_t job = 0;

    if (dray_submit_graph(dray, graph, pack(graph), &options, &job, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return job;
}

static inline void extend(dray_t *dray, dray_job_t job, bool last)
{
    struct dray_error err = {0};
    uint8_t graph[256];

    if (dray_extend_graph(dray, job, graph, pack(graph), last, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

// Until the broker has heard all of this, in this order, since the last time.
static inline void hears(struct fake *fake, dray_t *dray, const char *text)
{
    struct dray_error err = {0};
    bool is = false;

    for (int i = 0; i < 1000 && !is; i++) {
        dray_process(dray, &err);
        poll(NULL, 0, 5);
        pthread_mutex_lock(&fake->lock);
        is = strncmp(fake->log, text, strlen(text)) == 0;
        if (is) {
            memmove(fake->log, fake->log + strlen(text), strlen(fake->log + strlen(text)) + 1);
        } else if (i == 999) {
            print_error("heard: %s, not: %s\n", fake->log, text);
        }
        pthread_mutex_unlock(&fake->lock);
    }
    assert_true(is);
}

// Until it knows that the broker has all layers of the job.
static inline void confirmed(dray_t *dray, dray_job_t job)
{
    struct dray_error err = {0};

    for (int i = 0; i < 4000 && results_unconfirmed(dray->results, job); i++) {
        dray_process(dray, &err);
        poll(NULL, 0, 5);
    }
    assert_false(results_unconfirmed(dray->results, job));
}

// How many results come, at once or within a moment; *notes: beside them.
static inline unsigned take_all(dray_t *dray, unsigned *notes)
{
    struct dray_event event;
    struct dray_error err = {0};
    unsigned results = 0;

    *notes = 0;
    while (dray_wait(dray, 100, &err) == 1) {
        while (dray_next(dray, &event, &err) == 1) {
            results += event.type == DRAY_PARTITION;
            *notes += event.type == DRAY_NOTE;
        }
    }
    return results;
}

#endif
