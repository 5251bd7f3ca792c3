#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "proto/socket.h"

enum { PINGS = 3000 };

static const struct socket_options options = {.frame_bytes_max = 1 << 20};

// ---- ping-pong: both ends in one loop ----------------------------------------------

struct pair {
    struct loop *loop;
    struct socket *router, *dealer;
    int pings, pongs;
    int turns;
};

static void router_ready(void *arg)
{
    struct pair *pair = arg;
    struct message message;

    // One a call only: the loop must come back without a new edge.
    if (socket_receive(pair->router, &message) == 1) {
        assert_int_equal(
            socket_send(pair->router, message.frame[0].data, message.frame[0].size, "pong", 4, NULL, 0), 0);
        message_fini(&message);
    }
}

static void dealer_ready(void *arg)
{
    struct pair *pair = arg;
    struct message message;

    if (socket_receive(pair->dealer, &message) != 1) {
        return;
    }
    message_fini(&message);
    if (++pair->pongs == PINGS) {
        loop_stop(pair->loop);
    }
}

// Sends bursts from the turn, where a send may swallow the edge of what arrived.
static void pair_turn(void *arg)
{
    struct pair *pair = arg;

    pair->turns++;
    while (pair->pings < PINGS && pair->pings - pair->pongs < 20) {
        assert_int_equal(socket_send(pair->dealer, NULL, 0, "ping", 4, NULL, 0), 0);
        pair->pings++;
    }
}

static void hang(void *arg)
{
    (void)arg;
    fail_msg("the loop hangs");
}

static void test_ping_pong(void **state)
{
    char local[64];
    const char *const endpoints[] = {"tcp://127.0.0.1:*", local};

    (void)state;
    snprintf(local, sizeof(local), "ipc://@dray-test-loop-%d", (int)getpid());
    for (size_t e = 0; e < 2; e++) {
        struct pair pair = {.loop = loop_create()};
        struct error err;

        pair.router = socket_create(SOCKET_ROUTER, &options, &err);
        pair.dealer = socket_create(SOCKET_DEALER, &options, &err);
        assert_int_equal(socket_bind(pair.router, endpoints[e], &err), 0);
        assert_int_equal(socket_connect(pair.dealer, socket_endpoint(pair.router), &err), 0);
        assert_int_equal(loop_add_socket(pair.loop, pair.router, router_ready, &pair), 0);
        assert_int_equal(loop_add_socket(pair.loop, pair.dealer, dealer_ready, &pair), 0);
        assert_int_equal(loop_add_timer(pair.loop, 120000, hang, NULL), 0);
        loop_set_turn(pair.loop, pair_turn, &pair);
        pair_turn(&pair);
        assert_int_equal(loop_run(pair.loop), 0);
        assert_int_equal(pair.pongs, PINGS);
        // It waits instead of spinning.
        assert_true(pair.turns < 4 * PINGS + 100);
        loop_remove_socket(pair.loop, pair.router);
        loop_remove_socket(pair.loop, pair.dealer);
        loop_destroy(pair.loop);
        socket_destroy(pair.dealer, 0);
        socket_destroy(pair.router, 0);
    }
}

// ---- timers --------------------------------------------------------------------------

struct ticks {
    struct loop *loop;
    int fast, slow, turns;
};

static void tick_fast(void *arg)
{
    ((struct ticks *)arg)->fast++;
}

static void tick_slow(void *arg)
{
    struct ticks *ticks = arg;

    if (++ticks->slow == 3) {
        loop_stop(ticks->loop);
    }
}

static void count_turn(void *arg)
{
    ((struct ticks *)arg)->turns++;
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void test_timers_through_signals(void **state)
{
    struct ticks ticks = {.loop = loop_create()};
    struct sigaction action = {.sa_handler = on_alarm}, old;
    struct itimerval often = {.it_interval = {0, 3000}, .it_value = {0, 3000}}, off = {0};
    uint64_t start = monotonic_us();

    (void)state;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_int_equal(loop_add_timer(ticks.loop, 5, tick_fast, &ticks), 0);
    assert_int_equal(loop_add_timer(ticks.loop, 50, tick_slow, &ticks), 0);
    loop_set_turn(ticks.loop, count_turn, &ticks);
    assert_int_equal(loop_run(ticks.loop), 0);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);

    uint64_t took = monotonic_us() - start;

    assert_true(took >= 150000);
    assert_int_equal(ticks.slow, 3);
    assert_true(ticks.fast >= 3 && (uint64_t)ticks.fast <= took / 5000);
    assert_true((uint64_t)ticks.turns < took / 1000 + 100);
    loop_destroy(ticks.loop);
}

// ---- file descriptors that come and go -------------------------------------------------

struct pipes {
    struct loop *loop;
    int fd[8][2];
    int reads;
    int added;
};

static void pipe_ready(void *arg, short revents);

static void add_pipe(struct pipes *pipes)
{
    int i = pipes->added++;

    assert_int_equal(pipe(pipes->fd[i]), 0);
    assert_int_equal(write(pipes->fd[i][1], "x", 1), 1);
    assert_int_equal(loop_add_fd(pipes->loop, pipes->fd[i][0], POLLIN, pipe_ready, pipes), 0);
}

static void pipe_ready(void *arg, short revents)
{
    struct pipes *pipes = arg;

    assert_true((revents & POLLIN) != 0);
    // The callback does not say whose turn it is: take all that are readable.
    for (int i = 0; i < pipes->added; i++) {
        struct pollfd p = {.fd = pipes->fd[i][0], .events = POLLIN};
        char byte;

        if (p.fd >= 0 && poll(&p, 1, 0) == 1) {
            assert_int_equal(read(p.fd, &byte, 1), 1);
            pipes->reads++;
            loop_remove_fd(pipes->loop, p.fd);
            close(p.fd);
            close(pipes->fd[i][1]);
            pipes->fd[i][0] = -1;
            break;
        }
    }
    if (pipes->added < 8) {
        add_pipe(pipes);
    }
    if (pipes->reads == 8) {
        loop_stop(pipes->loop);
    }
}

static void test_descriptors_come_and_go(void **state)
{
    struct pipes pipes = {.loop = loop_create()};

    (void)state;
    assert_int_equal(loop_add_timer(pipes.loop, 60000, hang, NULL), 0);
    add_pipe(&pipes);
    add_pipe(&pipes);
    assert_int_equal(loop_run(pipes.loop), 0);
    assert_int_equal(pipes.reads, 8);
    assert_int_equal(loop_add_fd(pipes.loop, -1, POLLIN, pipe_ready, &pipes), -EBADF);
    loop_destroy(pipes.loop);
}

static int setup(void **state)
{
    (void)state;
    sockets_init();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sockets_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_timers_through_signals),
        cmocka_unit_test(test_descriptors_come_and_go),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
