// Frames, and what each message promises beyond its schema (proto/frame_check.h, proto/checker.h).
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "proto/frame_check.h"
#include "proto/graph.h"
#include "proto/payload.h"
#include "proto/schema.h"
#include "tests/unit/frame_sample.h"
#include "tests/unit/generate.h"

enum { ANYBODY = FROM_CLIENT | FROM_WORKER | FROM_BROKER };

static const enum frame_type types[] = {
#define X(NAME, number, Message, lower, senders) FRAME_##NAME,
    FRAME_TYPES(X)
#undef X
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

static size_t encode(enum frame_type type, const ProtobufCMessage *message, struct arena *a, uint8_t **out)
{
    size_t size = frame_size(message);

    *out = arena_alloc(a, size);
    frame_encode(type, 0x1122334455667788, 99, message, *out);
    return size;
}

// ---- tests ---------------------------------------------------------------------------------

static void test_round_trip(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);
    for (int i = 0; i < TYPES; i++) {
        uint8_t *bytes;
        uint8_t *again;
        size_t size = encode(types[i], sample(types[i], &a), &a, &bytes);
        struct frame frame = {0};
        struct error err = {0};

        if (frame_decode(bytes, size, (enum frame_sender)ANYBODY, &a, &frame, &err) != 0) {
            fail_msg("%s: %s", frame_info(types[i])->name, err.text);
        }
        assert_int_equal(frame.info->type, types[i]);
        assert_true(frame.session == 0x1122334455667788);
        assert_int_equal(frame.seq, 99);
        assert_ptr_equal(frame.message->descriptor, frame.info->descriptor);
        assert_int_equal(encode(types[i], frame.message, &a, &again), size);
        assert_memory_equal(bytes, again, size);
    }
    arena_fini(&a);
}

static void test_header(void **state)
{
    (void)state;
    struct arena a;
    struct frame frame = {0};
    struct error err = {0};
    uint8_t *bytes;
    const uint8_t known[24] = {'D',  'R',  'A',  'Y',  FRAME_PROTOCOL, 33,   0,  0, 0x88, 0x77,
                               0x66, 0x55, 0x44, 0x33, 0x22,           0x11, 99, 0, 0,    0,
                               0,    0,    0,    0};

    arena_init(&a, 0);

    size_t size = encode(FRAME_CANCEL, sample(FRAME_CANCEL, &a), &a, &bytes);

    assert_memory_equal(bytes, known, sizeof(known));
    for (size_t n = 0; n < size; n++) {
        assert_int_equal(frame_decode(bytes, n, FROM_CLIENT, &a, &frame, &err), -EBADMSG);
    }
    assert_int_equal(frame_decode(bytes, size, FROM_WORKER, &a, &frame, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "CANCEL"));
    assert_int_equal(frame_decode(bytes, size, FROM_CLIENT, &a, &frame, &err), 0);
    frame = (struct frame){0};
    bytes[7] = 1;
    assert_int_equal(frame_decode(bytes, size, FROM_CLIENT, &a, &frame, &err), -EBADMSG);
    assert_null(frame.info);
    bytes[4] = 99; // another version of the protocol: who sent what is still known
    assert_int_equal(frame_decode(bytes, size, FROM_CLIENT, &a, &frame, &err), -EPROTO);
    assert_int_equal(frame.info->type, FRAME_CANCEL);
    assert_int_equal(frame.seq, 99);
    assert_null(frame.message);
    bytes[4] = FRAME_PROTOCOL;
    bytes[7] = 0;
    bytes[5] = 60;
    assert_int_equal(frame_decode(bytes, size, FROM_CLIENT, &a, &frame, &err), -EBADMSG);
    bytes[5] = 255;
    assert_int_equal(frame_decode(bytes, size, FROM_CLIENT, &a, &frame, &err), -EBADMSG);
    assert_null(frame_info(0));
    assert_null(frame_info(255));
    assert_string_equal(frame_info(FRAME_TASK_FAILED)->name, "TASK_FAILED");
    arena_fini(&a);
}

// A message that its schema takes and its check does not.
static void refused(enum frame_type type, const void *message, const char *why)
{
    struct arena a;
    uint8_t *bytes;
    struct frame frame = {0};
    struct error err = {0};

    arena_init(&a, 0);

    size_t size = encode(type, message, &a, &bytes);

    assert_int_equal(frame_decode(bytes, size, (enum frame_sender)ANYBODY, &a, &frame, &err), -EBADMSG);
    if (strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
    assert_null(frame.message);
    arena_fini(&a);
}

static void taken(enum frame_type type, const void *message)
{
    struct arena a;
    uint8_t *bytes;
    struct frame frame;

    arena_init(&a, 0);

    size_t size = encode(type, message, &a, &bytes);

    assert_int_equal(frame_decode(bytes, size, (enum frame_sender)ANYBODY, &a, &frame, NULL), 0);
    arena_fini(&a);
}

static void test_strangers(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);

    char *name = arena_zalloc(&a, FRAME_NAME_MAX + 2);
    char **endpoint = arena_array(&a, 17, sizeof(*endpoint));
    Dray__Hello *hello;
    Dray__Welcome *welcome;

#define HELLO (hello = (Dray__Hello *)(void *)sample(FRAME_HELLO, &a), hello)
#define WELCOME (welcome = (Dray__Welcome *)(void *)sample(FRAME_WELCOME, &a), welcome)
    HELLO->role = (Dray__Role)9;
    refused(FRAME_HELLO, hello, "role has the unknown value 9");
    HELLO->threads = 0;
    refused(FRAME_HELLO, hello, "0 threads");
    memset(name, 'x', FRAME_NAME_MAX + 1);
    HELLO->name = name;
    refused(FRAME_HELLO, hello, "name is longer");
    for (int i = 0; i < 17; i++) {
        endpoint[i] = arena_strdup(&a, "tcp://x:1");
    }
    HELLO->endpoint = endpoint;
    hello->n_endpoint = 17;
    refused(FRAME_HELLO, hello, "17 endpoints");
    HELLO->name = arena_zalloc(&a, SCHEMA_STRING_MAX + 2);
    memset(hello->name, 'x', SCHEMA_STRING_MAX + 1);
    refused(FRAME_HELLO, hello, "longer than 65536");
    HELLO->name = arena_zalloc(&a, 300001);
    memset(hello->name, 'x', 300000);
    refused(FRAME_HELLO, hello, "too long");
    WELCOME->timeout_ms = 499;
    refused(FRAME_WELCOME, welcome, "timeout of 499");
    WELCOME->heartbeat_ms = 0;
    refused(FRAME_WELCOME, welcome, "every 0 ms");
#undef HELLO
#undef WELCOME
    arena_fini(&a);
}

static void test_ranges(void **state)
{
    (void)state;
    struct arena a;
    Dray__Drop *drop;

    arena_init(&a, 0);
#define DROP (drop = (Dray__Drop *)(void *)sample(FRAME_DROP, &a), drop->run[0])
    DROP->n_first = 1;
    refused(FRAME_DROP, drop, "1 range starts and 2 range lengths");
    DROP->count[1] = 0;
    refused(FRAME_DROP, drop, "cannot have 0 tasks");
    DROP->first[1] = UINT32_MAX;
    refused(FRAME_DROP, drop, "cannot have 3 tasks from 4294967295");
    DROP->first[1] = GRAPH_TASKS_MAX - 2;
    refused(FRAME_DROP, drop, "cannot have 3 tasks");
    DROP->count[1] = UINT32_MAX;
    refused(FRAME_DROP, drop, "cannot have 4294967295");
    DROP->layer = GRAPH_LAYERS_MAX;
    refused(FRAME_DROP, drop, "no layer 65536");
    DROP->first[0] = 0;
    drop->run[0]->count[0] = GRAPH_TASKS_MAX;
    refused(FRAME_DROP, drop, "names 2147483650 tasks");
#undef DROP
    arena_fini(&a);
}

static void test_worker_messages(void **state)
{
    (void)state;
    struct arena a;
    Dray__Advertise *advertise;
    Dray__Done *done;
    Dray__TaskFailed *failed;

    arena_init(&a, 0);
#define ADVERTISE (advertise = (Dray__Advertise *)(void *)sample(FRAME_ADVERTISE, &a), advertise)
    ADVERTISE->add[0]->n_bytes = 2;
    refused(FRAME_ADVERTISE, advertise, "2 sizes for 3 partitions");
    (void)ADVERTISE;
    advertise->gone[0] = advertise->add[0];
    refused(FRAME_ADVERTISE, advertise, "3 sizes for 3 partitions");
#undef ADVERTISE
#define DONE (done = (Dray__Done *)(void *)sample(FRAME_DONE, &a), done->completed[0])
    DONE->n_bytes = 5;
    refused(FRAME_DONE, done, "5 sizes for 6 tasks");
    DONE->inline_index[1] = 6;
    refused(FRAME_DONE, done, "partition 6 of layer 2, which it did not complete");
    DONE->inline_index[1] = 3;
    refused(FRAME_DONE, done, "partition 3");
    DONE->inline_index[1] = 21;
    refused(FRAME_DONE, done, "partition 21");
    DONE->note[0]->index = 0;
    refused(FRAME_DONE, done, "note on task 0");
    DONE->first[1] = 9;
    refused(FRAME_DONE, done, "task 10 of layer 2 is completed twice");

    Dray__Completed *c = DONE;

    c->n_inline_index = FRAME_COUNT_MAX;
    c->inline_index = arena_zalloc(&a, FRAME_COUNT_MAX * sizeof(uint32_t));
    refused(FRAME_DONE, done, "1024 partitions");
#undef DONE
#define FAILED (failed = (Dray__TaskFailed *)(void *)sample(FRAME_TASK_FAILED, &a), failed)
    FAILED->has_missing_index = false;
    refused(FRAME_TASK_FAILED, failed, "which input");
    FAILED->index = GRAPH_TASKS_MAX;
    refused(FRAME_TASK_FAILED, failed, "no task 2147483647");
    FAILED->missing_layer = GRAPH_LAYERS_MAX;
    refused(FRAME_TASK_FAILED, failed, "layer 65536");
    FAILED->why->code = -5;
    refused(FRAME_TASK_FAILED, failed, "code -5");
#undef FAILED
    arena_fini(&a);
}

static void test_broker_messages(void **state)
{
    (void)state;
    struct arena a;
    Dray__Layers *layers;
    Dray__Assign *m;
    Dray__Progress *progress;
    Dray__JobEnded *ended;

    arena_init(&a, 0);
#define LAYER (layers = (Dray__Layers *)(void *)sample(FRAME_LAYERS, &a), layers->layer[0])
    LAYER->tasks = 3;
    refused(FRAME_LAYERS, layers, "fan-in of width 4 from 8 to 3");
    LAYER->tasks = 0;
    refused(FRAME_LAYERS, layers, "0 tasks");
    LAYER->n_input_tasks = 0;
    refused(FRAME_LAYERS, layers, "1 inputs, 0 of known size");
    LAYER->op.len = 0;
    refused(FRAME_LAYERS, layers, "0 bytes of op");
    LAYER->layer = 0;
    refused(FRAME_LAYERS, layers, "not before it");
    // Two of its own layer, by a pattern that is for earlier ones.
    LAYER->layer = 1;
    layers->layer[0]->input[0]->pattern = DRAY__PATTERN__WINDOW;
    layers->layer[0]->input_tasks[0] = 2;
    refused(FRAME_LAYERS, layers, "a cycle");
    LAYER->input[0]->pattern = (Dray__Pattern)17;
    refused(FRAME_LAYERS, layers, "layer.input.pattern has the unknown value 17");
#undef LAYER
    m = assign(&a);
    m->location[0]->n_worker = 1;
    refused(FRAME_ASSIGN, m, "1 workers for 2 ranges");
    m = assign(&a);
    m->location[0]->count[0] = 0;
    refused(FRAME_ASSIGN, m, "0 tasks");
    m = assign(&a);
    m->peer[0]->n_endpoint = 17;
    m->peer[0]->endpoint = arena_array(&a, 17, sizeof(char *));
    for (int i = 0; i < 17; i++) {
        m->peer[0]->endpoint[i] = arena_strdup(&a, "x");
    }
    refused(FRAME_ASSIGN, m, "17 endpoints");
    progress = (Dray__Progress *)(void *)sample(FRAME_PROGRESS, &a);
    progress->done = 11;
    refused(FRAME_PROGRESS, progress, "11 of 10");
    ended = (Dray__JobEnded *)(void *)sample(FRAME_JOB_ENDED, &a);
    ended->state = (Dray__JobState)0;
    refused(FRAME_JOB_ENDED, ended, "unknown value 0");
    arena_fini(&a);
}

static void test_client_messages(void **state)
{
    (void)state;
    struct arena a;
    Dray__Fetch *fetch;
    Dray__Submit *submit;
    uint32_t also[FRAME_FETCH_MAX] = {0};

    arena_init(&a, 0);
#define FETCH (fetch = (Dray__Fetch *)(void *)sample(FRAME_FETCH, &a), fetch)
    FETCH->offset++;
    refused(FRAME_FETCH, fetch, "it asks for");
    FETCH->length++;
    refused(FRAME_FETCH, fetch, "it asks for");
    FETCH->layer = GRAPH_LAYERS_MAX;
    refused(FRAME_FETCH, fetch, "layer 65536");
    FETCH->also = also; // of whole ones there is no offset
    fetch->n_also = 1;
    refused(FRAME_FETCH, fetch, "2 partitions at once");
    fetch->offset = 0;
    fetch->n_also = FRAME_FETCH_MAX - 1;
    taken(FRAME_FETCH, fetch);
    fetch->n_also = FRAME_FETCH_MAX;
    refused(FRAME_FETCH, fetch, "257 partitions at once");
    fetch->n_also = 3;
    also[2] = GRAPH_TASKS_MAX;
    refused(FRAME_FETCH, fetch, "task 2147483647");
#undef FETCH
    submit = (Dray__Submit *)(void *)sample(FRAME_SUBMIT, &a);
    submit->graph.len = 0;
    refused(FRAME_SUBMIT, submit, "graph is empty");
    arena_fini(&a);
}

// Small messages cannot make large allocations: a list of many empty parts.
static void test_amplification(void **state)
{
    (void)state;
    enum { SIZE = 4 << 20 };
    struct arena a;
    struct frame frame = {0};
    struct error err = {0};
    uint8_t *bytes = malloc(FRAME_HEADER + SIZE);
    Dray__Cancel cancel = DRAY__CANCEL__INIT;

    arena_init(&a, 0);
    frame_encode(FRAME_ADVERTISE, 0, 0, &cancel.base, bytes);
    for (size_t i = 0; i < SIZE; i += 6) { // add { job: 0, layer: 0 }
        memcpy(bytes + FRAME_HEADER + i, (uint8_t[]){0x12, 4, 0x08, 0, 0x10, 0}, SIZE - i < 6 ? SIZE - i : 6);
    }
    frame_decode(bytes, FRAME_HEADER + SIZE, FROM_WORKER, &a, &frame, &err);
    assert_true(a.used <= ((size_t)33 << 20) + 4 * SIZE);
    assert_int_equal(a.limit, 0); // as it was
    arena_fini(&a);
    free(bytes);
}

static void test_damage(void **state)
{
    (void)state;
    struct arena a;
    int accepted = 0;

    arena_init(&a, 0);
    for (uint64_t seed = 0; seed < 100000; seed++) {
        uint64_t r = seed;
        uint8_t *bytes;
        uint8_t *again;
        struct frame frame = {0};
        struct error err = {0};
        enum frame_type type = types[seed % TYPES];

        arena_reset(&a);

        size_t size = encode(type, sample(type, &a), &a, &bytes);
        // Mostly behind the header, where the damage is harder to see.
        size_t skip = random_below(&r, 8) == 0 ? 0 : FRAME_HEADER;
        size_t n = skip + random_damage(&r, bytes + skip, size - skip);
        uint8_t *exact = malloc(n);

        memcpy(exact, bytes, n);

        int rc = frame_decode(exact, n, (enum frame_sender)ANYBODY, &a, &frame, &err);

        free(exact);
        if (rc != 0) {
            assert_true(rc == -EBADMSG || rc == -EPROTO);
            assert_null(frame.message);
            assert_true(err.text[0] != '\0');
            continue;
        }
        accepted++;
        // What was taken once is taken again.
        size = encode(frame.info->type, frame.message, &a, &again);
        if (frame_decode(again, size, (enum frame_sender)ANYBODY, &a, &frame, &err) != 0) {
            fail_msg("seed %d: %s", (int)seed, err.text);
        }
    }
    assert_true(accepted > 5000);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_header),
        cmocka_unit_test(test_strangers),       cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_worker_messages), cmocka_unit_test(test_broker_messages),
        cmocka_unit_test(test_client_messages), cmocka_unit_test(test_amplification),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
