// broker/backlog.h and broker/peer.h: what waits for a slow peer is bounded, and comes in order when it reads
// again.
#include "broker/backlog.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/peer.h"
#include "broker/stranger.h"
#include "proto/log.h"

enum { MESSAGES = 200, PAYLOAD = 1 << 20, BACKLOG = 32 << 20 };

static char folder[] = "/tmp/dray-backlog-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    sockets_init();
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    sockets_fini();
    return rmdir(folder);
}

static void wait_for(struct socket *socket)
{
    struct pollfd fd = {.fd = socket_fd(socket), .events = POLLIN};

    for (int i = 0; i < 1000 && !socket_ready(socket); i++) {
        poll(&fd, 1, 10);
    }
    assert_true(socket_ready(socket));
}

static void test_slow_reader(void **state)
{
    const struct socket_options options = {.send_messages_max = 1000, .receive_messages_max = 1};
    struct socket *router = socket_create(SOCKET_ROUTER, &options, NULL);
    struct socket *dealer = socket_create(SOCKET_DEALER, &options, NULL);
    struct backlog *backlog = backlog_create(BACKLOG);
    static struct message message;
    char endpoint[128];
    uint8_t route[SOCKET_ROUTING_ID_MAX], *data;
    size_t route_size;
    struct buffer *payload = buffer_create(PAYLOAD, &data);
    uint32_t accepted = 0;
    uint64_t passed;
    int rc = 0;

    (void)state;
    memset(data, 3, PAYLOAD);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/slow", folder);
    assert_int_equal(socket_bind(router, endpoint, NULL), 0);
    assert_int_equal(socket_connect(dealer, endpoint, NULL), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "hello", 5, NULL, 0), 0);
    wait_for(router);
    assert_int_equal(socket_receive(router, &message), 1);
    route_size = message.frame[0].size;
    memcpy(route, message.frame[0].data, route_size);
    message_fini(&message);

    // It does not read: at some point it is too slow, long before all is in memory.
    while (accepted < MESSAGES && rc == 0) {
        rc = backlog_post(backlog, router, route, route_size, &accepted, sizeof(accepted), &payload, 1);
        accepted += rc == 0;
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_in_range(accepted, BACKLOG / PAYLOAD, 100);
    assert_in_range(backlog_bytes(backlog), BACKLOG / 2, (size_t)3 * BACKLOG);
    passed = backlog_passed(backlog);
    assert_int_equal(backlog_flush(backlog, router, route, route_size), 0);
    assert_int_equal(backlog_passed(backlog), passed);

    // It reads again: all that was taken comes, in order.
    for (uint32_t i = 0; i < accepted; i++) {
        uint32_t number;

        for (int wait = 0; wait < 1000 && !socket_ready(dealer); wait++) {
            struct pollfd fd = {.fd = socket_fd(dealer), .events = POLLIN};

            assert_int_equal(backlog_flush(backlog, router, route, route_size), 0);
            poll(&fd, 1, 5);
        }
        assert_int_equal(socket_receive(dealer, &message), 1);
        assert_int_equal(message.frames, 2);
        assert_int_equal(message.frame[1].size, PAYLOAD);
        memcpy(&number, message.frame[0].data, sizeof(number));
        assert_int_equal(number, i);
        message_fini(&message);
    }
    assert_true(backlog_passed(backlog) >= passed + (size_t)BACKLOG / 2);
    socket_destroy(dealer, 0);
    buffer_unref(payload);
    // Gone is gone.
    for (int i = 0; i < 1000 && rc != -EHOSTUNREACH; i++) {
        rc = backlog_post(backlog, router, route, route_size, "x", 1, NULL, 0);
        poll(NULL, 0, 2);
    }
    assert_int_equal(rc, -EHOSTUNREACH);
    backlog_destroy(backlog);
    socket_destroy(router, 0);
}

// Peers by number and by routing id against a list, with routes that are alike.
static void test_peers(void **state)
{
    struct peers peers;
    struct peer *alive[64] = {0};
    uint32_t last = 0;
    uint64_t seed = 3;

    (void)state;
    peers_init(&peers);
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t k = (seed >> 33) % 64;
        char route[8];
        int size = snprintf(route, sizeof(route), "r%zu", k);

        if (alive[k] == NULL) {
            enum frame_sender role = k % 2 == 0 ? FROM_WORKER : FROM_CLIENT;

            assert_null(peers_by_route(&peers, route, (size_t)size));
            alive[k] = peers_add(&peers, role, route, (size_t)size, 1000);
            assert_non_null(alive[k]);
            assert_int_equal(alive[k]->number >= PEER_FIRST_CLIENT, role == FROM_CLIENT);
            if (role == FROM_WORKER) {
                assert_true(alive[k]->number > last);
                last = alive[k]->number;
                assert_false(peer_was_told(alive[k], 70000));
                assert_true(peer_was_told(alive[k], 70000));
                assert_false(peer_was_told(alive[k], 70001));
            }
        } else {
            uint32_t number = alive[k]->number;

            assert_ptr_equal(peers_by_route(&peers, route, (size_t)size), alive[k]);
            assert_ptr_equal(peers_by_number(&peers, number), alive[k]);
            peers_remove(&peers, alive[k]);
            assert_true(alive[k]->gone);
            assert_null(peers_by_number(&peers, number));
            alive[k] = NULL;
        }
        if (step % 10 == 0) {
            uint32_t count = 0, listed = 0;

            for (size_t i = 0; i < 64; i++) {
                count += alive[i] != NULL;
            }
            for (const struct peer *peer = peers.first; peer != NULL; peer = peer->next) {
                listed++;
            }
            assert_int_equal(count, peers.count);
            assert_int_equal(listed, count);
            peers_sweep(&peers, UINT64_MAX);
        }
    }
    peers_fini(&peers);
}

static void test_strangers_are_told_once(void **state)
{
    struct strangers strangers = {0};
    unsigned told = 0;
    uint64_t unsaid = 0, total = 0;

    (void)state;
    for (uint32_t i = 0; i < 10000; i++) {
        told += strangers_tell(&strangers, &i, sizeof(i), 1000 + i, &unsaid);
        told += strangers_tell(&strangers, &i, sizeof(i), 1000 + i, &unsaid);
    }
    assert_int_equal(told, STRANGERS_LINES);
    assert_true(strangers_tell(&strangers, "later", 5, 20000000, &total));
    assert_int_equal(total, 10000 - STRANGERS_LINES);
}

// Log lines come whole and without what would fool a terminal.
static void test_log(void **state)
{
    const struct log log = {.program = "test", .level = LEVEL_INFO};
    char line[4096];
    int pipes[2], before = dup(STDERR_FILENO);

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    log_write(&log, LEVEL_DEBUG, "not this");
    log_write(&log, LEVEL_WARNING, "a\x1b[31m\nb %0*d", 3000, 7);
    dup2(before, STDERR_FILENO);
    close(before);
    close(pipes[1]);

    ssize_t size = read(pipes[0], line, sizeof(line));

    close(pipes[0]);
    assert_true(size > 1000);
    assert_int_equal(line[size - 1], '\n');
    assert_null(memchr(line, '\n', (size_t)size - 1));
    assert_null(memchr(line, '\x1b', (size_t)size));
    line[size - 1] = '\0';
    assert_non_null(strstr(line, "test warning: a?[31m b "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_strangers_are_told_once),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
