// What the broker does with FETCHes and PIECEs (broker/relay.c), without sockets: what it sends is noted
// here.
#include "broker/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The linker sends these here (--wrap).
void __wrap_sessions_send(struct sessions *sessions, struct peer *peer, enum frame_type type,
                          const ProtobufCMessage *message, struct buffer *const *buffers, size_t count);
struct buffer *__wrap_message_take(struct message *message, size_t frame);

enum { NOTED_MAX = 512 };

static struct {
    uint32_t to;
    enum frame_type type;
    uint32_t tag, client;
    int code; // of a PIECE that is none
    bool has_client;
    size_t payload;
} sent[NOTED_MAX];
static size_t sent_count;
static bool no_memory;
static struct peer *ends; // its session, with the next that is sent to anybody
static struct broker broker;

void __wrap_sessions_send(struct sessions *sessions, struct peer *peer, enum frame_type type,
                          const ProtobufCMessage *message, struct buffer *const *buffers, size_t count)
{
    const Dray__Fetch *fetch = (const Dray__Fetch *)message;
    const Dray__Piece *piece = (const Dray__Piece *)message;
    struct peer *end = ends;

    (void)sessions;
    assert_true(sent_count < NOTED_MAX);
    assert_false(peer->gone);
    sent[sent_count].to = peer->number;
    sent[sent_count].type = type;
    sent[sent_count].tag = type == FRAME_FETCH ? fetch->tag : piece->tag;
    sent[sent_count].client = type == FRAME_FETCH ? fetch->client : 0;
    sent[sent_count].has_client = type == FRAME_FETCH ? fetch->has_client : piece->has_client;
    sent[sent_count].code = type == FRAME_PIECE && piece->why != NULL ? piece->why->code : 0;
    sent[sent_count++].payload = count > 0 ? buffers[0]->size : 0;
    if (end != NULL && !end->gone) {
        ends = NULL;
        peers_remove(&broker.peers, end);
        relay_forget_peer(&broker, end);
    }
}

struct buffer *__wrap_message_take(struct message *message, size_t frame)
{
    uint8_t *data;
    struct buffer *buffer = no_memory ? NULL : buffer_create(message->frame[frame].size, &data);

    if (buffer != NULL) {
        memcpy(data, message->frame[frame].data, message->frame[frame].size);
    }
    return buffer;
}

static int set_up(void **state)
{
    (void)state;
    memset(&broker, 0, sizeof(broker));
    peers_init(&broker.peers);
    turn_init(&broker.turn[0]);
    broker.into = &broker.turn[0];
    sent_count = 0;
    no_memory = false;
    ends = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    relay_fini(&broker);
    peers_fini(&broker.peers);
    turn_fini(&broker.turn[0]);
    return broker.relays.waiting + broker.relays.under_way > 0;
}

static struct peer *add_peer(enum frame_sender role)
{
    static uint32_t serial;
    struct peer *peer;

    serial++;
    peer = peers_add(&broker.peers, role, &serial, sizeof(serial), 1 << 20);
    assert_non_null(peer);
    peer->incarnation = serial;
    return peer;
}

static void leave(struct peer *peer)
{
    peers_remove(&broker.peers, peer);
    relay_forget_peer(&broker, peer);
}

static void fetch(struct peer *reader, const struct peer *worker, uint32_t tag)
{
    Dray__Fetch message = DRAY__FETCH__INIT;
    struct error err = {0};

    message.tag = tag;
    message.job = 3;
    message.layer = 2;
    message.index = 1;
    message.length = 1000;
    message.has_worker = true;
    message.worker = worker->number;
    assert_int_equal(relay_fetch(&broker, reader, &message, &err), 0);
}

// code 0: with bytes.
static void piece(struct peer *worker, uint32_t reader, uint32_t tag, int code)
{
    static const uint8_t bytes[] = "bytes";
    struct message *message = calloc(1, sizeof(*message));
    Dray__Piece answer = DRAY__PIECE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;
    struct error err = {0};

    assert_non_null(message);
    failure.code = code;
    failure.text = (char *)(uintptr_t) "why";
    answer.tag = tag;
    answer.has_client = true;
    answer.client = reader;
    answer.why = code != 0 ? &failure : NULL;
    message->frames = code != 0 ? 2 : 3;
    message->frame[2] = (struct message_frame){bytes, sizeof(bytes)};
    assert_int_equal(relay_piece(&broker, worker, &answer, message, &err), 0);
    free(message);
}

static void expect_sent(size_t at, const struct peer *to, enum frame_type type, uint32_t tag, int code)
{
    assert_true(at < sent_count);
    assert_int_equal(sent[at].to, to->number);
    assert_int_equal(sent[at].type, type);
    assert_int_equal(sent[at].tag, tag);
    assert_int_equal(sent[at].code, code);
}

static void test_there_and_back(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *reader = add_peer(FROM_WORKER);

    (void)state;
    fetch(reader, worker, 7);
    expect_sent(0, worker, FRAME_FETCH, 7, 0);
    assert_int_equal(sent[0].client, reader->number);
    piece(worker, reader->number, 8, 0); // nobody asked for that
    assert_int_equal(sent_count, 1);
    piece(worker, reader->number, 7, 0);
    expect_sent(1, reader, FRAME_PIECE, 7, 0);
    assert_false(sent[1].has_client);
    assert_int_equal(sent[1].payload, 6);
    assert_int_equal(broker.relayed_bytes, 6);
    piece(worker, reader->number, 7, 0); // twice
    assert_int_equal(sent_count, 2);
    // Who is not there.
    leave(worker);
    fetch(reader, worker, 9);
    expect_sent(2, reader, FRAME_PIECE, 9, ENOENT);
}

// The reader hears of it; the worker, which did as it was told, stays.
static void test_no_memory_for_a_piece(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *reader = add_peer(FROM_WORKER);

    (void)state;
    fetch(reader, worker, 7);
    no_memory = true;
    piece(worker, reader->number, 7, 0);
    expect_sent(1, reader, FRAME_PIECE, 7, ENOMEM);
    assert_int_equal(sent[1].payload, 0);
    assert_int_equal(broker.relayed_bytes, 0);
    // It asks again.
    no_memory = false;
    fetch(reader, worker, 8);
    piece(worker, reader->number, 8, 0);
    expect_sent(3, reader, FRAME_PIECE, 8, 0);
}

static void test_results_that_are_lost(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *reader = add_peer(FROM_WORKER);
    struct peer *client = add_peer(FROM_CLIENT);

    (void)state;
    fetch(reader, worker, 1);
    piece(worker, reader->number, 1, ENOENT);
    expect_sent(1, reader, FRAME_PIECE, 1, ENOENT);
    assert_int_equal(broker.turn[0].events, 0); // says so itself
    fetch(client, worker, 1);
    piece(worker, client->number, 1, ENOENT);
    assert_int_equal(broker.turn[0].events, 1);
    assert_int_equal(broker.turn[0].event[0].type, EVENT_RESULT_LOST);
    assert_int_equal(broker.turn[0].event[0].u.lost.worker, worker->number);
    assert_int_equal(broker.turn[0].event[0].u.lost.range.layer, 2);
}

// A reader that comes and goes queues no more at the worker than one that stays.
static void test_who_comes_and_goes(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *reader = NULL;
    uint32_t first = 0;

    (void)state;
    for (int n = 0; n < 20; n++) {
        reader = add_peer(FROM_CLIENT);
        first = first == 0 ? reader->number : first;
        for (uint32_t tag = 1; tag <= RELAYS_OF_READER_MAX; tag++) {
            fetch(reader, worker, tag);
        }
        leave(reader);
    }
    assert_int_equal(sent_count, RELAYS_TO_WORKER_MAX);
    reader = add_peer(FROM_CLIENT);
    fetch(reader, worker, 5);
    assert_int_equal(sent_count, RELAYS_TO_WORKER_MAX);
    piece(worker, first, 1, 0); // for nobody any more
    assert_int_equal(sent_count, RELAYS_TO_WORKER_MAX + 1);
    expect_sent(RELAYS_TO_WORKER_MAX, worker, FRAME_FETCH, 5, 0);
    // It goes, and who is still there hears of it.
    leave(worker);
    assert_int_equal(sent_count, RELAYS_TO_WORKER_MAX + 2);
    expect_sent(RELAYS_TO_WORKER_MAX + 1, reader, FRAME_PIECE, 5, ENOENT);
}

static void test_one_reader_asks_for_too_much(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *reader = add_peer(FROM_CLIENT);

    (void)state;
    for (uint32_t tag = 1; tag <= RELAYS_OF_READER_MAX; tag++) {
        fetch(reader, worker, tag);
    }
    assert_int_equal(sent_count, RELAYS_TO_WORKER_MAX);
    fetch(reader, worker, 99);
    expect_sent(RELAYS_TO_WORKER_MAX, reader, FRAME_PIECE, 99, EAGAIN);
}

// To tell a reader that a worker was lost may end that one's session, and so on.
static void test_one_after_another(void **state)
{
    struct peer *worker = add_peer(FROM_WORKER), *other = add_peer(FROM_WORKER);
    struct peer *reader[3];

    (void)state;
    for (int r = 0; r < 3; r++) {
        reader[r] = r == 2 ? other : add_peer(FROM_CLIENT);
        for (uint32_t tag = 1; tag <= 20; tag++) {
            fetch(reader[r], worker, tag);
        }
    }
    fetch(reader[1], other, 77);
    ends = other; // reads from one, holds for another
    leave(worker);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(reader[r]->relay.asks, 0);
    }
    assert_int_equal(broker.relays.waiting + broker.relays.under_way, 0);
    // Each FETCH of the two that stayed has its answer.
    assert_int_equal(sent_count, (size_t)RELAYS_TO_WORKER_MAX + 1 + 20 + 20 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory_for_a_piece, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_results_that_are_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_comes_and_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_reader_asks_for_too_much, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_after_another, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
