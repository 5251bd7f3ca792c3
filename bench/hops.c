// What four ZeroMQ messages take that do nothing: client, relay, echo, relay, client, each a process with the
// sockets and the loop that all of Dray uses.  A single task's latency cannot be less; how much more it is,
// is what Dray costs.
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/process.h"
#include "proto/socket.h"

enum { ROUNDS_DEFAULT = 5000, BYTES = 64, ENDPOINT_BYTES = 64 };
enum who { ECHO = 'e', CLIENT = 'c' };

struct end {
    struct loop *loop;
    struct socket *socket;
    // client
    size_t rounds, done;
    uint64_t begun_ns;
    uint64_t *ns;
    // relay
    uint8_t route[2][SOCKET_ROUTING_ID_MAX];
    size_t route_size[2];
};

static void give_up(const char *what, const struct error *err)
{
    fprintf(stderr, "dray-bench hops: %s: %s\n", what, err->text);
    _exit(1);
}

static void send_word(struct end *end, const void *word, size_t size)
{
    struct error err = {0};

    if (socket_send(end->socket, NULL, 0, word, size, NULL, 0) != 0) {
        error_set(&err, 1, "not taken");
        give_up("a message", &err);
    }
}

static void on_parent_gone(void *arg, short revents)
{
    (void)revents;
    loop_stop(((struct end *)arg)->loop);
}

// From each to the other one; the first word of each says which it is, and goes nowhere.
static void on_relay(void *arg)
{
    struct end *end = arg;
    struct message message;

    while (socket_receive(end->socket, &message) == 1) {
        uint8_t who = message.frames == 2 && message.frame[1].size > 0 ? message.frame[1].data[0] : 0;
        unsigned from = who == ECHO ? 1 : 0;

        if (message.frames == 2 && message.frame[1].size == 1) {
            memcpy(end->route[from], message.frame[0].data, message.frame[0].size);
            end->route_size[from] = message.frame[0].size;
        } else if (message.frames == 2) {
            from = message.frame[0].size == end->route_size[1] &&
                   memcmp(message.frame[0].data, end->route[1], end->route_size[1]) == 0;
            socket_send(end->socket, end->route[!from], end->route_size[!from], message.frame[1].data,
                        message.frame[1].size, NULL, 0);
        }
        message_fini(&message);
    }
}

static void on_echo(void *arg)
{
    struct end *end = arg;
    struct message message;

    while (socket_receive(end->socket, &message) == 1) {
        send_word(end, message.frame[0].data, message.frame[0].size);
        message_fini(&message);
    }
}

static void next_round(struct end *end)
{
    const uint8_t word[BYTES] = {0};

    end->begun_ns = monotonic_ns();
    send_word(end, word, sizeof(word));
}

static void on_client(void *arg)
{
    struct end *end = arg;
    struct message message;

    while (socket_receive(end->socket, &message) == 1) {
        message_fini(&message);
        end->ns[end->done++] = monotonic_ns() - end->begun_ns;
        if (end->done == end->rounds) {
            loop_stop(end->loop);
            return;
        }
        next_round(end);
    }
}

static void open_end(struct end *end, enum socket_kind kind, const char *endpoint, void (*ready)(void *arg))
{
    const struct socket_options options = {0};
    struct error err = {0};
    int rc;

    sockets_init();
    end->loop = loop_create();
    end->socket = socket_create(kind, &options, &err);
    if (end->loop == NULL || end->socket == NULL) {
        give_up("a socket", &err);
    }
    rc = kind == SOCKET_ROUTER ? socket_bind(end->socket, endpoint, &err)
                               : socket_connect(end->socket, endpoint, &err);
    if (rc != 0 || loop_add_socket(end->loop, end->socket, ready, end) != 0) {
        give_up(endpoint, &err);
    }
}

static void close_end(struct end *end)
{
    loop_remove_socket(end->loop, end->socket);
    socket_destroy(end->socket, 0);
    loop_destroy(end->loop);
    sockets_fini();
}

// A child, until its standard input says that its parent is gone.
static int serve(struct end *end)
{
    loop_add_fd(end->loop, STDIN_FILENO, POLLIN, on_parent_gone, end);
    loop_run(end->loop);
    loop_remove_fd(end->loop, STDIN_FILENO);
    close_end(end);
    return 0;
}

static int run_relay(void)
{
    struct end end = {0};
    char endpoint[ENDPOINT_BYTES] = {0};

    open_end(&end, SOCKET_ROUTER, "tcp://127.0.0.1:*", on_relay);
    snprintf(endpoint, sizeof(endpoint), "%s", socket_endpoint(end.socket));
    if (write(STDOUT_FILENO, endpoint, sizeof(endpoint)) != (ssize_t)sizeof(endpoint)) {
        return 1;
    }
    return serve(&end);
}

static int run_echo(const char *endpoint)
{
    struct end end = {0};
    const uint8_t who = ECHO;

    open_end(&end, SOCKET_DEALER, endpoint, on_echo);
    send_word(&end, &who, 1);
    return serve(&end);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void run_client(const char *endpoint, size_t rounds)
{
    struct end end = {.rounds = rounds, .ns = calloc(rounds, sizeof(uint64_t))};
    const uint8_t who = CLIENT;

    if (end.ns == NULL) {
        exit(1);
    }
    open_end(&end, SOCKET_DEALER, endpoint, on_client);
    send_word(&end, &who, 1);
    poll(NULL, 0, 200); // until both are known
    next_round(&end);
    loop_run(end.loop);
    qsort(end.ns, rounds, sizeof(*end.ns), by_size);
    printf("{\"pattern\": \"hops\", \"rounds\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", rounds,
           (double)end.ns[rounds / 2] / 1e3, (double)end.ns[rounds * 99 / 100] / 1e3);
    free(end.ns);
    close_end(&end);
}

// This program once more, with the lifeline as its standard input.
static pid_t start(const char *what, const char *endpoint, int lifeline, int out)
{
    char *argv[] = {"dray-bench", "hops", (char *)(uintptr_t)what, (char *)(uintptr_t)endpoint, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, lifeline, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    rc = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        fprintf(stderr, "dray-bench hops: cannot start a process: %s\n", strerror(rc));
        return -1;
    }
    return pid;
}

static int measure(size_t rounds)
{
    char endpoint[ENDPOINT_BYTES];
    int lifeline[2], told[2];
    int rc = 1;

    if (pipe2(lifeline, O_CLOEXEC) != 0 || pipe2(told, O_CLOEXEC) != 0) {
        fprintf(stderr, "dray-bench hops: no pipe: %s\n", strerror(errno));
        return 1;
    }
    if (start("--relay", NULL, lifeline[0], told[1]) > 0) {
        close(told[1]);
        if (read(told[0], endpoint, sizeof(endpoint)) == (ssize_t)sizeof(endpoint) &&
            start("--echo", endpoint, lifeline[0], STDERR_FILENO) > 0) {
            run_client(endpoint, rounds);
            rc = 0;
        }
    }
    close(lifeline[1]);
    while (wait(NULL) > 0) {
    }
    return rc;
}

int bench_hops(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : ROUNDS_DEFAULT;

    if (argc == 2 && strcmp(argv[1], "--relay") == 0) {
        return run_relay();
    }
    if (argc == 3 && strcmp(argv[1], "--echo") == 0) {
        return run_echo(argv[2]);
    }
    if (argc > 2 || rounds == 0 || rounds > 10000000) {
        fputs("usage: dray-bench hops [ROUNDS]\n", stderr);
        return 2;
    }
    return measure(rounds);
}
