#include "broker/broker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/state.h"

enum {
    TICK_MS = 50,
    TURN_MESSAGES_MAX = 2000, // then the scheduler has its say
    TURN_BYTES_MAX = 64 << 20,
    STEPS_MAX = 16,       // of the scheduler in one turn of the loop
    QUEUE_MESSAGES = 200, // ZeroMQ's, to one peer; the backlog is behind it
    READ_AHEAD = 16,      // ... and from one peer, of up to FRAME_BODY_MAX (each half of it costs a wake-up)
    LINGER_MS = 200,
    // A HELLO is small; libzmq needs 64 bytes for a frame of none, so this may be 8 MiB of its memory.
    STRANGER_BYTES_MAX = 256 << 10,
    MESSAGE_BYTES_MAX = 256 << 20, // the body, and payloads
    BACKLOG_FACTOR = 4,            // a peer with so many times the mark unread is disconnected
    EXACT_FROM = 16 << 10,         // bytes that events of a turn point to
    TRIM_FREE_BYTES = 4 << 20,     // of the heap, worth giving back
    TRIM_QUIET_US = 200000,        // when nothing happens ...
    TRIM_US = 10000000,            // ... or so long after the last time
};

static int on_joined(void *arg, struct peer *peer, const Dray__Hello *hello, struct error *err)
{
    (void)hello;
    return dispatch_joined(arg, peer, err);
}

static int on_received(void *arg, struct peer *peer, const struct frame *frame, struct message *message,
                       struct error *err)
{
    return dispatch_frame(arg, peer, frame, message, err);
}

static void on_left(void *arg, struct peer *peer, bool alive, const char *why)
{
    dispatch_left(arg, peer, alive, why);
}

static void on_full(void *arg, struct peer *peer, bool full)
{
    dispatch_full(arg, peer, full);
}

// Gives memory back when much of it has become free.
static void trim(struct broker *broker)
{
    uint64_t now = monotonic_us();

    if (!broker->has_freed ||
        (now - broker->stepped_us < TRIM_QUIET_US && now - broker->trimmed_us < TRIM_US)) {
        return;
    }
    broker->has_freed = false;
    broker->trimmed_us = now;
    if (mallinfo2().fordblks > TRIM_FREE_BYTES) {
        malloc_trim(0);
    }
}

// A batch that is worth the two system calls is measured by the thread's own clock.
static uint64_t core_clock_ns(bool exact)
{
    struct timespec now;

    clock_gettime(exact ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int run_core(struct broker *broker, struct turn *turn)
{
    bool exact = turn->arena.used > EXACT_FROM;
    uint64_t start = core_clock_ns(exact);
    int rc = sched_step(broker->sched, turn->event, turn->events, &broker->actions);

    broker->core_ns += core_clock_ns(exact) - start;
    if (turn->event[0].type != EVENT_TICK) {
        broker->stepped_us = turn->event[0].now_us;
    }
    return rc;
}

// Steps the scheduler through what has come in, and again when delivering ended sessions.
static void step(struct broker *broker)
{
    for (int i = 0; i < STEPS_MAX && broker_turn(broker)->events > 0; i++) {
        struct turn *turn = broker_turn(broker);
        int rc = run_core(broker, turn);

        if (rc != 0) {
            log_write(broker->options.log, LEVEL_ERROR, "the scheduler: %s", strerror(-rc));
        }
        broker->current ^= 1;
        deliver_actions(broker, turn);
        turn_reset(turn);
    }
    if (broker_turn(broker)->events == 0) {
        turn_reset(broker_turn(broker));
        peers_sweep(&broker->peers);
    }
}

static void on_readable(void *arg)
{
    struct broker *broker = arg;

    for (int i = 0; i < TURN_MESSAGES_MAX; i++) {
        struct turn *turn = broker_turn(broker);

        if (!sessions_receive(broker->sessions, &turn->arena) || turn_bytes(turn) > TURN_BYTES_MAX) {
            break;
        }
    }
}

static void on_watch(void *arg, short revents)
{
    struct broker *broker = arg;

    (void)revents;
    sessions_watch(broker->sessions);
}

static void on_tick(void *arg)
{
    struct broker *broker = arg;

    sessions_tick(broker->sessions);
    turn_add(broker_turn(broker), EVENT_TICK);
    trim(broker);
}

static void on_turn(void *arg)
{
    struct broker *broker = arg;

    step(broker);
    sessions_flush(broker->sessions);
}

static int listen_all(struct broker *broker, char **endpoints, struct error *err)
{
    size_t size = 0;

    for (size_t i = 0; i < broker->options.listens; i++) {
        int rc = socket_bind(broker->socket, broker->options.listen[i], err);
        const char *bound = socket_endpoint(broker->socket);
        char *longer;

        if (rc != 0) {
            return rc;
        }
        longer = realloc(*endpoints, size + strlen(bound) + 2);
        if (longer == NULL) {
            return error_no_memory(err);
        }
        *endpoints = longer;
        if (size > 0) {
            longer[size++] = ' ';
        }
        memcpy(longer + size, bound, strlen(bound) + 1);
        size += strlen(bound);
    }
    return 0;
}

static int open_parts(struct broker *broker, char **endpoints, struct error *err)
{
    const struct socket_options socket_options = {
        .frame_bytes_max = FRAME_HEADER + FRAME_BODY_MAX,
        .send_messages_max = QUEUE_MESSAGES,
        .receive_messages_max = READ_AHEAD,
        .unfinished_bytes_max = STRANGER_BYTES_MAX,
        .unfinished_trusted_max = MESSAGE_BYTES_MAX,
        .watch = true,
    };
    const struct session_options session_options = {
        .heartbeat_ms = broker->options.heartbeat_ms,
        .timeout_ms = broker->options.timeout_ms,
        .worker_timeout_ms = broker->options.worker_timeout_ms,
        .backlog_mark = broker->options.backlog_mark,
        .backlog_max = broker->options.backlog_mark * BACKLOG_FACTOR,
        .stalled_ms = broker->options.stalled_ms,
        .log = broker->options.log,
    };
    const struct session_handler handler = {broker, on_joined, on_received, on_left, on_full};
    int rc;

    broker->sched = sched_create(&broker->options.sched);
    if (broker->sched == NULL) {
        return error_no_memory(err);
    }
    broker->socket = socket_create(SOCKET_ROUTER, &socket_options, err);
    if (broker->socket == NULL) {
        return -err->code;
    }
    rc = sessions_create(broker->socket, &broker->peers, &session_options, &handler, &broker->sessions, err);
    if (rc == 0) {
        rc = listen_all(broker, endpoints, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (loop_add_socket(broker->loop, broker->socket, on_readable, broker) != 0 ||
        loop_add_fd(broker->loop, socket_watch_fd(broker->socket), POLLIN, on_watch, broker) != 0 ||
        loop_add_timer(broker->loop, TICK_MS, on_tick, broker) != 0) {
        return error_no_memory(err);
    }
    loop_set_turn(broker->loop, on_turn, broker);
    return 0;
}

int broker_create(const struct broker_options *options, struct loop *loop, struct broker **out,
                  char **endpoints, struct error *err)
{
    struct broker *broker = calloc(1, sizeof(*broker));
    char *bound = NULL;
    int rc;

    if (broker == NULL) {
        return error_no_memory(err);
    }
    broker->options = *options;
    broker->loop = loop;
    broker->last_addressee = &broker->addressee;
    peers_init(&broker->peers);
    kept_init(&broker->kept);
    turn_init(&broker->turn[0]);
    turn_init(&broker->turn[1]);
    sched_actions_init(&broker->actions);
    rc = open_parts(broker, &bound, err);
    if (rc != 0) {
        free(bound);
        broker_destroy(broker, "it could not start");
        return rc;
    }
    *out = broker;
    *endpoints = bound;
    return 0;
}

void broker_destroy(struct broker *broker, const char *why)
{
    if (broker == NULL) {
        return;
    }
    if (broker->sessions != NULL && why != NULL) {
        sessions_close(broker->sessions, why);
    }
    if (broker->socket != NULL) {
        loop_remove_socket(broker->loop, broker->socket);
        loop_remove_fd(broker->loop, socket_watch_fd(broker->socket));
        socket_destroy(broker->socket, why != NULL ? LINGER_MS : 0);
    }
    sessions_destroy(broker->sessions);
    peers_fini(&broker->peers);
    readers_fini(broker);
    kept_fini(&broker->kept);
    sched_actions_fini(&broker->actions);
    sched_destroy(broker->sched);
    turn_fini(&broker->turn[0]);
    turn_fini(&broker->turn[1]);
    free(broker->relay);
    free(broker);
}
