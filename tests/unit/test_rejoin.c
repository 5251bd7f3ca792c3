// A connection that is lost and comes back (rejoin, extends, results_rejoin, uplink) against a broker that
// this program plays on a thread of its own, which writes down what it hears.
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

#include "tests/unit/cpu_time.h"
#include "client/include/dray.h"
#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rejoin.h"
#include "proto/frame.h"
#include "proto/payload.h"
#include "proto/socket.h"

enum { LOG_MAX = 4096, TASKS = 6, MANY = 500, VERY_MANY = 20000, VERY_MANY_US = 15000000 };
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

static void note(struct fake *fake, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct fake *fake, const char *format, ...)
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

static void say(struct fake *fake, enum frame_type type, const ProtobufCMessage *message,
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
static void tell_results(struct fake *fake)
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

static void play_hello(struct fake *fake)
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
    welcome.timeout_ms = 2000;
    say(fake, FRAME_WELCOME, &welcome.base, NULL);
    if (fake->stalls_next) {
        fake->stalls_next = false;
        fake->stalls = true;
    }
}

static void play_submit(struct fake *fake, const Dray__Submit *submit)
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

static void play_attach(struct fake *fake, const Dray__Attach *attach)
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

static void play_extend(struct fake *fake, const Dray__Extend *extend)
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
    say(fake, FRAME_EXTENDED, &extended.base, NULL);
}

static void note_runs(struct fake *fake, const char *what, uint32_t job, Dray__Run *const *run, size_t runs)
{
    note(fake, "%s:%u", what, job);
    for (size_t i = 0; i < runs; i++) {
        for (size_t k = 0; k < run[i]->n_first; k++) {
            note(fake, ",%u.%u+%u", run[i]->layer, run[i]->first[k], run[i]->count[k]);
        }
    }
    note(fake, " ");
}

static void count_freed(struct fake *fake, Dray__Run *const *run, size_t runs)
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

static void play(struct fake *fake, const struct frame *frame)
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

static void bind_router(struct fake *fake)
{
    fake->router =
        socket_create(SOCKET_ROUTER, &(struct socket_options){.receive_messages_max = fake->room}, NULL);
    assert_int_equal(socket_bind(fake->router, fake->endpoint, NULL), 0);
}

static void *fake_main(void *arg)
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

static int set_up_with(void **state, int room)
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

static int set_up(void **state)
{
    return set_up_with(state, 0);
}

static int set_up_narrow(void **state)
{
    return set_up_with(state, 8);
}

static int tear_down(void **state)
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

static dray_t *connected(const struct fake *fake, int reconnect_ms)
{
    const struct dray_options options = {.size = sizeof(options), .reconnect_ms = reconnect_ms};
    struct dray_error err = {0};
    dray_t *dray = NULL;

    if (dray_connect(fake->endpoint, &options, &dray, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return dray;
}

static size_t pack(uint8_t out[256])
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

static dray_job_t submit(dray_t *dray, bool open)
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

static void extend(dray_t *dray, dray_job_t job, bool last)
{
    struct dray_error err = {0};
    uint8_t graph[256];

    if (dray_extend_graph(dray, job, graph, pack(graph), last, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

// Until the broker has heard all of this, in this order, since the last time.
static void hears(struct fake *fake, dray_t *dray, const char *text)
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

// How many results come, at once or within a moment; *notes: beside them.
static unsigned take_all(dray_t *dray, unsigned *notes)
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

static void test_a_job_goes_on(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, false);
    struct dray_error err = {0};
    unsigned notes;

    assert_int_equal(take_all(dray, &notes), TASKS / 2);
    assert_int_equal(notes, 1);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    fake->lost = true;
    // What it may not have heard it hears again; what it tells again comes once.
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again ");
    assert_int_equal(take_all(dray, &notes), 0);
    assert_int_equal(notes, 0);
    assert_int_equal(dray_connected(dray), 1);
    assert_int_equal(dray_cancel(dray, job, &err), 0);
    hears(fake, dray, "CANCEL:1 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again CANCEL:1 ");
    assert_int_equal(dray_release(dray, job, &err), 0);
    hears(fake, dray, "FREE:1 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1 ");
    dray_close(dray);
}

// What was released in a layer that the broker may not have is freed behind it.
static void test_what_is_done_meanwhile(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, true);
    const struct dray_future future[] = {{job, 0, 4}, {job, 0, 5}};
    struct dray_error err = {0};
    unsigned notes;

    take_all(dray, &notes);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    fake->mute = fake->lost = true;
    hears(fake, dray, "HELLO ");
    assert_int_equal(dray_connected(dray), 0);
    extend(dray, job, false);
    assert_int_equal(dray_cancel_futures(dray, future, 1, &err), 0);
    assert_int_equal(dray_release_futures(dray, &future[1], 1, &err), 0);
    extend(dray, job, true);
    assert_int_equal(dray_wait(dray, 10, &err), 0);
    fake->mute = false;
    hears(fake, dray, "HELLO FREE:1,0.0+3,0.5+1 ATTACH:1,again EXTEND:1 EXTEND:2,last CANCEL:1,0.4+1 ");
    // Whether it has heard that these were the last is not known.
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3,0.5+1 ATTACH:1,again EXTEND:3,none,last CANCEL:1,0.4+1 ");
    dray_close(dray);
}

static void test_layers_that_were_not_confirmed(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, true);

    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    extend(dray, job, false);
    hears(fake, dray, "EXTEND:1 ");
    fake->confirms = false;
    extend(dray, job, false);
    hears(fake, dray, "EXTEND:2 ");
    fake->lost = fake->confirms = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again EXTEND:2 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3");
    dray_close(dray);
}

// A broker that reads nothing for a while: layers for which there was no room go when there is some.
static void test_layers_that_have_no_room(void **state)
{
    struct fake *fake = *state;
    struct dray_error err = {0};
    struct dray_future future = {0};
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    future.job = submit(dray, true);
    hears(fake, dray, "HELLO SUBMIT:abc ");
    fake->stalls = true;
    for (int full = 0; full < 20;) { // until nothing moves
        int rc = dray_cancel_futures(dray, &future, 1, &err);

        full = rc == -EAGAIN ? full + 1 : 0;
        poll(NULL, 0, rc == -EAGAIN ? 5 : 0);
    }
    extend(dray, future.job, true);
    fake->stalls = false;
    for (int i = 0; i < 500 && fake->extends == 0; i++) {
        dray_process(dray, &err);
        poll(NULL, 0, 10);
    }
    assert_int_equal(fake->extends, 1);
    assert_int_equal(fake->hellos, 1);
    dray_close(dray);
    uplink_limit(10000);
}

static void add_wide(dray_t *dray)
{
    const struct results_job_options options = {.detached = true};
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer layer = DRAY__LAYER__INIT, *layers[] = {&layer};

    layer.tasks = 2 * WIDE_RANGES;
    graph.n_layer = 1;
    graph.layer = layers;
    assert_int_equal(results_add_job(dray->results, WIDE, &graph, &options, NULL), 0);
}

static void free_wide(dray_t *dray, uint32_t from, uint32_t end)
{
    for (uint32_t i = from; i < end; i++) {
        results_release(dray->results, WIDE, 0, 2 * i, 1);
    }
}

// It hears of each that was freed, and of no other; of so many at most twice.
static void hears_of_wide(struct fake *fake, dray_t *dray, uint32_t twice)
{
    bool is = false;

    for (int i = 0; i < 1000 && !is; i++) {
        dray_process(dray, NULL);
        pthread_mutex_lock(&fake->lock);
        is = fake->freed_tasks >= WIDE_RANGES;
        pthread_mutex_unlock(&fake->lock);
        poll(NULL, 0, is ? 0 : 5);
    }
    pthread_mutex_lock(&fake->lock);
    assert_int_equal(fake->freed_tasks, WIDE_RANGES);
    assert_in_range(fake->freed_twice, 0, twice);
    for (uint32_t i = 0; i < 2 * WIDE_RANGES; i++) {
        assert_int_equal(fake->freed[i], i % 2 == 0);
    }
    fake->freed_tasks = fake->freed_twice = 0;
    memset(fake->freed, 0, sizeof(fake->freed));
    pthread_mutex_unlock(&fake->lock);
}

// More ranges than are kept for a broker that reads nothing for a while: it hears of all of them when it
// does.
static void test_what_is_freed_has_no_room(void **state)
{
    struct fake *fake = *state;
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    add_wide(dray);
    fake->stalls = true;
    free_wide(dray, WIDE_RANGES / 2, WIDE_RANGES);
    free_wide(dray, 0, WIDE_RANGES / 2 - 1);
    assert_true(results_unflushed(dray->results));
    fake->stalls = false;
    free_wide(dray, WIDE_RANGES / 2 - 1, WIDE_RANGES / 2);
    hears_of_wide(fake, dray, WIDE_RANGES); // what found room before lies among what did not
    assert_int_equal(fake->hellos, 1);
    dray_close(dray);
    uplink_limit(10000);
}

// All is told again on another connection, which has no room for all of it at once either.
static void test_what_is_freed_again_has_no_room(void **state)
{
    struct fake *fake = *state;
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    add_wide(dray);
    free_wide(dray, 0, WIDE_RANGES);
    hears_of_wide(fake, dray, 0);
    fake->stalls_next = fake->lost = true;
    for (int i = 0; i < 1000 && !fake->stalls; i++) {
        dray_process(dray, NULL);
        poll(NULL, 0, 5);
    }
    assert_true(fake->stalls);
    for (int i = 0; i < 40; i++) { // until nothing moves
        dray_process(dray, NULL);
        poll(NULL, 0, 5);
    }
    fake->stalls = false;
    hears_of_wide(fake, dray, 0);
    assert_int_equal(fake->hellos, 2);
    dray_close(dray);
    uplink_limit(10000);
}

static void test_a_submission_without_an_answer(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    unsigned notes;

    fake->ignores_submit = true;
    assert_int_equal(submit(dray, false), 1);
    assert_int_equal(take_all(dray, &notes), TASKS / 2);
    hears(fake, dray, "HELLO SUBMIT:abc HELLO SUBMIT:abc ");
    dray_close(dray);
}

// Results that are told of again are asked for together: one FETCH, not one each.
static void test_what_is_told_again_is_fetched_at_once(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);

    submit(dray, true);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    extend(dray, 1, false);
    hears(fake, dray, "EXTEND:1 ");
    fake->apart = fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again FETCH:1.0+1+2 ");
    dray_process(dray, NULL);
    pthread_mutex_lock(&fake->lock);
    assert_string_equal(fake->log, "");
    pthread_mutex_unlock(&fake->lock);
    dray_close(dray);
}

// More jobs than there is room for messages: the broker is asked for them in portions, in the one connection.
static void test_more_jobs_than_messages(void **state)
{
    struct fake *fake = *state;
    struct dray_error err = {0};
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    fake->counts = true;
    for (unsigned i = 0; i < MANY; i++) {
        const struct dray_submit_options options = {.size = sizeof(options), .open = 1};
        dray_job_t job = 0;

        assert_int_equal(dray_submit_graph(dray, NULL, 0, &options, &job, &err), 0);
        assert_int_equal(job, i + 1);
    }
    fake->lost = true;
    for (int i = 0; fake->attaches < MANY && i < 1000; i++) {
        assert_int_equal(dray_wait(dray, 10, &err), 0);
    }
    assert_int_equal(fake->attaches, MANY);
    for (int i = 0; dray_connected(dray) != 1 && i < 1000; i++) {
        assert_int_equal(dray_wait(dray, 10, &err), 0);
    }
    assert_int_equal(dray_connected(dray), 1);
    assert_int_equal(fake->hellos, 2);
    dray_close(dray);
    uplink_limit(10000);
}

static void hear(dray_t *dray, enum frame_type type, ProtobufCMessage *body)
{
    struct frame frame = {.info = frame_info(type), .message = body};
    struct message message = {.frames = 1};

    assert_int_equal(results_handle(dray->results, &frame, &message, NULL), 0);
}

static void gives(dray_t *dray, enum dray_event_type type, dray_job_t job)
{
    struct dray_event event;

    assert_true(results_pending(dray->results));
    assert_int_equal(results_next(dray->results, &event), 1);
    assert_int_equal(event.type, type);
    assert_int_equal(event.job, job);
    assert_int_equal(results_next(dray->results, &event), 0);
    assert_false(results_pending(dray->results));
}

// What comes for one of very many jobs costs nothing for the others.
static void test_very_many_jobs(void **state)
{
    const struct results_job_options options = {.detached = true};
    dray_t *dray = connected(*state, 0);
    uint64_t begun_us = cpu_us();

    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        assert_int_equal(results_add_job(dray->results, job, NULL, &options, NULL), 0);
    }
    assert_int_equal(results_add_job(dray->results, 7, NULL, &options, NULL), -EEXIST);
    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        Dray__Progress progress = DRAY__PROGRESS__INIT;
        Dray__JobEnded ended = DRAY__JOB_ENDED__INIT;

        progress.job = ended.job = job;
        ended.state = DRAY__JOB_STATE__DONE;
        hear(dray, FRAME_PROGRESS, &progress.base);
        gives(dray, DRAY_PROGRESS, job);
        hear(dray, FRAME_JOB_ENDED, &ended.base);
        gives(dray, DRAY_DONE, job);
        results_tick(dray->results);
    }
    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        results_drop_job(dray->results, job);
    }
    assert_false(results_has_job(dray->results, 7));
    assert_true(cpu_us() - begun_us < CPU_SLOW * VERY_MANY_US);
    dray_close(dray);
}

static void fails(dray_t *dray, const char *words)
{
    struct dray_event event = {0};
    struct dray_error err = {0};

    for (int i = 0; event.type != DRAY_FAILED && i < 100; i++) {
        dray_wait(dray, 50, &err);
        dray_next(dray, &event, &err);
    }
    assert_int_equal(event.type, DRAY_FAILED);
    assert_int_equal(event.error.code, ENOTCONN);
    assert_non_null(strstr(event.error.text, words));
}

static void test_a_broker_that_knows_nothing(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    struct dray_event event;
    struct dray_error err = {0};

    // Without a job there is nothing to be lost.
    fake->incarnation = 6;
    fake->lost = true;
    hears(fake, dray, "HELLO HELLO ");
    submit(dray, false);
    hears(fake, dray, "SUBMIT:abc FREE:1,0.0+3 ");
    fake->incarnation = 7;
    fake->lost = true;
    fails(dray, "was started anew without what it knew");
    assert_int_equal(dray_next(dray, &event, &err), -ENOTCONN);
    assert_int_equal(dray_wait(dray, 10, &err), -ENOTCONN);
    assert_int_equal(dray_connected(dray), -ENOTCONN);
    dray_close(dray);
}

static void test_a_job_that_is_gone(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);

    submit(dray, false);
    fake->forgets_job = fake->lost = true;
    fails(dray, "there is no such job");
    assert_int_equal(dray_connected(dray), 1);
    dray_close(dray);
}

static void count_told(void *arg, const struct client_lost *now)
{
    unsigned *told = arg;

    assert_int_equal(now->patience_ms, 300);
    assert_false(now->goes_on); // there is no job
    told[now->why == NULL]++;
}

static void test_patience_ends(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 300);
    struct dray_error err = {0};
    unsigned told[2] = {0};
    uint64_t start;

    client_on_lost(dray, count_told, told);
    fake->lost = true;
    hears(fake, dray, "HELLO HELLO ");
    assert_int_equal(dray_wait(dray, 50, &err), 0);
    assert_true(told[0] == 1 && told[1] == 1);
    fake->mute = fake->lost = true;
    start = monotonic_us();
    assert_int_equal(dray_wait(dray, 5000, &err), -ENOTCONN);
    assert_in_range(monotonic_us() - start, 250000, 3000000);
    assert_non_null(strstr(err.text, "did not answer again within 0.3 s"));
    assert_true(told[0] == 2 && told[1] == 1);
    dray_close(dray);
}

// What passes is waited for: a restart, silence, a journal that is slow, no memory.  What does not ends all.
static void test_a_broker_that_ends_the_session(void **state)
{
    static const int passing[] = {ERESTART, ETIMEDOUT, EBUSY, ENOMEM};
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    struct dray_error err = {0};
    unsigned notes;
    int rc = 0;

    submit(dray, true);
    take_all(dray, &notes);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        fake->ends = passing[i];
        hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again ");
    }
    fake->ends = ENOBUFS;
    for (int i = 0; i < 1000 && rc >= 0; i++) {
        rc = dray_wait(dray, 5, &err);
    }
    assert_int_equal(rc, -ENOTCONN);
    assert_non_null(strstr(err.text, "that is enough"));
    dray_close(dray);
}

// The first HELLO of all is lost with a broker that dies of it.
static void test_the_first_hello_is_said_again(void **state)
{
    struct fake *fake = *state;
    uint64_t start = monotonic_us();
    dray_t *dray;

    fake->dies = fake->mute = true;
    dray = connected(fake, 300);
    assert_in_range(monotonic_us() - start, 0, 4000000);
    assert_int_equal(fake->hellos, 2);
    dray_close(dray);
}

static void test_words_of_the_environment(void **state)
{
    const struct fake *fake = *state;
    struct dray_error err = {0};
    dray_t *dray = NULL;

    setenv("DRAY_RECONNECT", "soon", 1);
    assert_int_equal(dray_connect(fake->endpoint, NULL, &dray, &err), -EINVAL);
    assert_non_null(strstr(err.text, "soon"));
    setenv("DRAY_RECONNECT", "0", 1);
    dray = connected(fake, 0);
    ((struct fake *)(uintptr_t)fake)->lost = true;
    assert_int_equal(dray_wait(dray, 5000, &err), -ENOTCONN);
    dray_close(dray);
    unsetenv("DRAY_RECONNECT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_job_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_done_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers_that_were_not_confirmed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers_that_have_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_freed_has_no_room, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_freed_again_has_no_room, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(test_a_submission_without_an_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_told_again_is_fetched_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_jobs_than_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_very_many_jobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broker_that_knows_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_job_that_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broker_that_ends_the_session, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_first_hello_is_said_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_words_of_the_environment, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
