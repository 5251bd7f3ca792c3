// The ways of a message when memory is short: each allocation in turn fails, what is asked for answers
// -ENOMEM (or does without), nothing is left half done, and the next attempt succeeds.  The sanitizers see
// what would leak.  tests/sim --memory does this for the cores.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/backlog.h"
#include "broker/batch.h"
#include "broker/peer.h"
#include "broker/results.h"
#include "broker/turn.h"
#include "proto/frame.h"
#include "proto/partition.h"
#include "proto/payload.h"
#include "proto/socket.h"
#include "tests/starve.h"

// attempt() does it all, from nothing to nothing: 0, or -ENOMEM.  Without a failed allocation it must go
// well; `may_do_without`: with one, too.
static void starve(int (*attempt)(void), unsigned least, bool may_do_without)
{
    unsigned n = 0;

    for (;; n++) {
        int rc;

        allocator.left = n;
        allocator.failed = false;
        allocator.armed = true;
        rc = attempt();
        allocator.armed = false;
        if (!allocator.failed) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != -ENOMEM && !(may_do_without && rc == 0)) {
            fail_msg("allocation %u failed, and the answer is %d", n, rc);
        }
    }
    if (n < least) {
        fail_msg("only %u allocations: it does not do what it should", n);
    }
}

// ---- proto ----------------------------------------------------------------------------

static int decode_done(void)
{
    uint32_t first[] = {0, 10}, count[] = {3, 1};
    uint64_t bytes[] = {8, 8, 8, 8};
    Dray__Completed completed = DRAY__COMPLETED__INIT, *list[] = {&completed};
    Dray__Done done = DRAY__DONE__INIT;
    uint8_t wire[1024];
    struct arena arena;
    struct frame frame;
    struct error err = {0};
    int rc;

    completed.job = 1;
    completed.layer = 2;
    completed.first = first;
    completed.count = count;
    completed.n_first = completed.n_count = 2;
    completed.bytes = bytes;
    completed.n_bytes = 4;
    done.completed = list;
    done.n_completed = 1;
    assert_true(frame_size(&done.base) <= sizeof(wire));
    frame_encode(FRAME_DONE, 7, 1, &done.base, wire);
    arena_init(&arena, 1 << 20);
    rc = frame_decode(wire, frame_size(&done.base), FROM_WORKER, &arena, &frame, &err);
    if (rc == 0) {
        assert_int_equal(((Dray__Done *)frame.message)->completed[0]->first[1], 10);
    } else {
        assert_int_equal(err.code, ENOMEM);
        assert_true(err.text[0] != '\0');
    }
    arena_fini(&arena);
    return rc;
}

static void test_frames(void **state)
{
    (void)state;
    starve(decode_done, 1, false);
}

static int payload_there_and_back(enum payload_codec codec)
{
    static uint8_t data[100000];
    struct buffer *frame = NULL, *raw = NULL;
    struct error err = {0};
    int rc = payload_encode(data, sizeof(data), codec, &frame, &err);

    if (rc == 0) {
        rc = payload_decode(frame->data, frame->size, &raw, &err);
    }
    if (rc == 0) {
        assert_int_equal(raw->size, sizeof(data));
    } else {
        assert_null(raw);
        assert_int_equal(err.code, ENOMEM);
    }
    buffer_unref(frame);
    buffer_unref(raw);
    return rc;
}

static int payload_lz4(void)
{
    return payload_there_and_back(PAYLOAD_LZ4);
}

static int payload_raw(void)
{
    return payload_there_and_back(PAYLOAD_RAW);
}

static void test_payloads(void **state)
{
    (void)state;
    starve(payload_lz4, 2, true); // without room to compress it goes as it is
    starve(payload_raw, 2, false);
}

static int partition_there_and_back(void)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(5000, &data), *encoded = NULL;
    struct partition *partition, *back = NULL;
    struct error err = {0};
    int rc;

    if (bytes == NULL) {
        return -ENOMEM;
    }
    memset(data, 3, 5000);
    partition = partition_from_bytes(bytes);
    if (partition == NULL) {
        return -ENOMEM;
    }
    rc = partition_encode(partition, &encoded, &err);
    if (rc == 0) {
        rc = partition_decode(encoded, &back, &err);
    }
    if (rc == 0) {
        assert_int_equal(back->bytes->size, 5000);
    }
    buffer_unref(encoded);
    partition_unref(back);
    partition_unref(partition);
    return rc;
}

static void test_partitions(void **state)
{
    (void)state;
    starve(partition_there_and_back, 4, false);
}

// ---- broker -----------------------------------------------------------------------------

static void count_message(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    (void)type;
    (void)message;
    ++*(unsigned *)arg;
}

static int batch_of_a_turn(void)
{
    struct batch *batch = batch_create();
    struct arena arena;
    unsigned messages = 0;
    int rc = 0;

    if (batch == NULL) {
        return -ENOMEM;
    }
    arena_init(&arena, 1 << 20);
    for (uint32_t i = 0; rc == 0 && i < 200; i++) {
        // Apart from one another, so that ranges do not join.
        struct sched_action action = {.type = i % 3 == 0   ? ACTION_RUN
                                              : i % 3 == 1 ? ACTION_DROP
                                                           : ACTION_RELEASE,
                                      .range = {1 + i % 5, i % 4, 10 * i, 2}};

        rc = batch_add(batch, &action);
    }
    if (rc == 0) {
        rc = batch_emit(batch, &arena, count_message, &messages);
    }
    if (rc == 0) {
        assert_int_equal(messages, 3);
    } else {
        // It is of use afterwards, and has nothing of before in it.
        struct sched_action action = {.type = ACTION_DROP, .range = {1, 0, 0, 1}};

        allocator.armed = false;
        batch_emit(batch, &arena, count_message, &messages);
        messages = 0;
        assert_int_equal(batch_add(batch, &action), 0);
        assert_int_equal(batch_emit(batch, &arena, count_message, &messages), 0);
        assert_int_equal(messages, 1);
    }
    batch_destroy(batch);
    arena_fini(&arena);
    return rc;
}

static void test_batches(void **state)
{
    (void)state;
    starve(batch_of_a_turn, 5, false);
}

static const struct peer *no_worker(void *arg, uint32_t number)
{
    (void)arg;
    (void)number;
    return NULL;
}

static void take_results(void *arg, Dray__Results *message, struct buffer *const *frames, size_t count)
{
    (void)message;
    (void)frames;
    *(size_t *)arg += count;
}

static void none_is_damaged(void *arg, uint32_t worker, const struct error *why)
{
    (void)arg;
    (void)worker;
    assert_int_equal(why->code, ENOMEM);
}

static int results_of_a_turn(void)
{
    static const uint8_t data[64 * 16];
    static uint32_t sizes[64];
    static uint64_t bytes[64];
    struct sched_action action[12];
    struct results *results = results_create();
    struct parcels parcels = {0};
    struct arena arena;
    struct buffer *frame = NULL;
    struct error err = {0};
    size_t frames = 0;
    const struct results_handler handler = {&frames, take_results, no_worker, none_is_damaged};
    int rc = results == NULL ? -ENOMEM : 0;

    arena_init(&arena, 1 << 20);
    for (uint32_t i = 0; i < 64; i++) {
        sizes[i] = 16;
        bytes[i] = 16;
    }
    for (uint32_t k = 0; rc == 0 && k < 12; k++) {
        rc = payload_encode(data, sizeof(data), PAYLOAD_RAW, &frame, &err);
        if (rc == 0) {
            rc = parcels_add(&parcels, 1 + k % 3, frame, 64, sizes, &err);
        }
        if (rc == 0) {
            rc = parcels_name(&parcels, &(struct task_range){1, 0, 64 * k, 64});
        }
        if (rc == 0) { // a part of it: copied out
            action[k] = (struct sched_action){.type = ACTION_RESULT,
                                              .range = {1, 0, 64 * k, k % 2 == 0 ? 64 : 30},
                                              .worker = 1 + k % 3,
                                              .sizes = bytes};
            rc = results_add(results, &action[k]);
        }
    }
    if (rc == 0) {
        rc = results_emit(results, &parcels, &arena, &handler);
    }
    results_destroy(results);
    parcels_fini(&parcels);
    arena_fini(&arena);
    return rc;
}

static void test_results(void **state)
{
    (void)state;
    starve(results_of_a_turn, 20, true); // what cannot be copied is told without its bytes
}

static int events_of_a_turn(void)
{
    struct turn turn;
    int rc = 0;

    turn_init(&turn);
    for (uint32_t i = 0; rc == 0 && i < 100; i++) {
        struct sched_event *event = turn_add(&turn, EVENT_TICK);

        rc = event == NULL ? -ENOMEM : turn_answer(&turn, 1, i, NULL);
        if (rc == 0) {
            rc = turn_extended(&turn, 1, i);
        }
        if (rc == 0) {
            rc = turn_reply(&turn, 1, i, "name", i, 1);
        }
        if (rc == 0 && i % 10 == 0) {
            rc = turn_arena(&turn) == NULL ? -ENOMEM : 0;
        }
    }
    assert_true(rc != 0 || turn.events == 100);
    turn_reset(&turn);
    assert_int_equal(turn.events, 0);
    turn_fini(&turn);
    return rc;
}

static void test_turns(void **state)
{
    (void)state;
    starve(events_of_a_turn, 3, false);
}

static int peers_come_and_go(void)
{
    static char *const names[] = {(char *)"a", (char *)"plugin:b", (char *)"c"};
    struct peers peers;
    int rc = 0;

    peers_init(&peers);
    for (uint32_t i = 0; rc == 0 && i < 40; i++) {
        struct peer *peer =
            peers_add(&peers, i % 2 == 0 ? FROM_WORKER : FROM_CLIENT, &i, sizeof(i), (size_t)1 << 20);

        if (peer == NULL) {
            rc = -ENOMEM;
            assert_int_equal(peers.count, i);
            assert_null(peers_by_route(&peers, &i, sizeof(i)));
            break;
        }
        assert_ptr_equal(peers_by_route(&peers, &i, sizeof(i)), peer);
        rc = peer_set_endpoints(peer, names, 3);
        rc = rc == 0 ? peer_set_labels(peer, names, 3) : rc;
    }
    while (peers.first != NULL) {
        peers_remove(&peers, peers.first);
    }
    peers_sweep(&peers, UINT64_MAX);
    assert_int_equal(peers.count, 0);
    peers_fini(&peers);
    return rc;
}

static void test_peers(void **state)
{
    (void)state;
    starve(peers_come_and_go, 40, true); // a map that cannot grow goes on as it is
}

// ---- sockets ----------------------------------------------------------------------------

static char folder[] = "/tmp/dray-test-starved-XXXXXX";
static struct socket *router, *dealer;
static uint8_t route[SOCKET_ROUTING_ID_MAX];
static size_t route_size;

static void wait_for(struct socket *socket)
{
    struct pollfd fd = {.fd = socket_fd(socket), .events = POLLIN};

    for (int i = 0; i < 1000 && !socket_ready(socket); i++) {
        poll(&fd, 1, 10);
    }
    assert_true(socket_ready(socket));
}

// A message that was taken is read; one that was refused is not, and the next one comes whole.
static int message_goes_and_comes(void)
{
    static struct message message;
    struct backlog *backlog = backlog_create((size_t)1 << 20);
    uint8_t *data;
    struct buffer *payload = NULL, *taken = NULL;
    bool sent;
    int rc;

    if (backlog == NULL) {
        return -ENOMEM;
    }
    payload = buffer_create(20000, &data);
    rc =
        payload == NULL ? -ENOMEM : backlog_post(backlog, router, route, route_size, "frame", 5, &payload, 1);
    sent = rc == 0;
    if (sent) {
        wait_for(dealer);
        rc = socket_receive(dealer, &message);
        assert_true(rc == 1 || rc == -ENOMEM);
        if (rc == 1) {
            assert_int_equal(message.frames, 2);
            assert_int_equal(message.frame[1].size, 20000);
            taken = message_take(&message, 1);
            rc = taken == NULL ? -ENOMEM : 0;
            message_fini(&message);
        } else {
            // It is there still, or gone as a whole.
            allocator.armed = false;
            if (socket_receive(dealer, &message) == 1) {
                assert_int_equal(message.frames, 2);
                message_fini(&message);
            }
        }
    }
    buffer_unref(taken);
    buffer_unref(payload);
    backlog_destroy(backlog);
    return rc;
}

static void test_sockets(void **state)
{
    static struct message message;
    const struct socket_options options = {.watch = true};
    char endpoint[128];

    (void)state;
    router = socket_create(SOCKET_ROUTER, &options, NULL);
    dealer = socket_create(SOCKET_DEALER, &options, NULL);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/s", folder);
    assert_int_equal(socket_bind(router, endpoint, NULL), 0);
    assert_int_equal(socket_connect(dealer, endpoint, NULL), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "hello", 5, NULL, 0), 0);
    wait_for(router);
    assert_int_equal(socket_receive(router, &message), 1);
    route_size = message.frame[0].size;
    memcpy(route, message.frame[0].data, route_size);
    message_fini(&message);
    starve(message_goes_and_comes, 5, false);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static int set_up(void **state)
{
    (void)state;
    sockets_init();
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    sockets_fini();
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),  cmocka_unit_test(test_payloads), cmocka_unit_test(test_partitions),
        cmocka_unit_test(test_batches), cmocka_unit_test(test_results),  cmocka_unit_test(test_turns),
        cmocka_unit_test(test_peers),   cmocka_unit_test(test_sockets),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
