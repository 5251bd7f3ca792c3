#include "client/lib/connection.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/lib/pool.h"
#include "proto/host.h"

enum {
    CONNECT_MS = 5000,
    FETCH_TICK_MS = 200,
    FREE_TICK_MS = 50,
    AWAY_TICK_MS = 50,
    CLOSE_MS = 500, // for what is unsent
};
// Results that the user has not taken yet hold at most so much of this process.
#define RESULT_BYTES_MAX ((uint64_t)64 << 20)

// ---- the file descriptor ---------------------------------------------------------------

// ZMQ_FD tells of edges only: whatever was looked at in passing (a send takes in
// what has arrived) would never be told of again.  So after each call `wake` is made to
// agree with what there is to do.  awaiting: for a call that waits inside, to which the
// user's events are nothing to do.
static void settle_for(dray_t *dray, bool awaiting)
{
    results_ask(dray->results);

    bool busy = (!awaiting && results_pending(dray->results)) || uplink_ready(dray->uplink) ||
                results_ready(dray->results) || dray->broken.code != 0;
    bool soon = results_fetching(dray->results) || pools_waiting(dray->pools);
    unsigned ms = uplink_heartbeat_ms(dray->uplink);
    uint64_t count = 1;

    if (busy && !dray->woken) {
        dray->woken = write(dray->wake, &count, sizeof(count)) == (ssize_t)sizeof(count);
    } else if (!busy && dray->woken) {
        dray->woken = read(dray->wake, &count, sizeof(count)) != (ssize_t)sizeof(count);
    }
    if (soon && FETCH_TICK_MS < ms) {
        ms = FETCH_TICK_MS;
    }
    if (!rejoin_stands(dray) && AWAY_TICK_MS < ms) {
        ms = AWAY_TICK_MS;
    }
    if (results_unflushed(dray->results) && FREE_TICK_MS < ms) {
        ms = FREE_TICK_MS;
    }
    // Later than it was to come only once it has come: else what comes and goes would put it off for ever.
    if (ms < dray->timer_ms || (ms > dray->timer_ms && (dray->timer_came || dray->timer_ms == 0))) {
        struct itimerspec spec = {0};

        spec.it_value.tv_sec = spec.it_interval.tv_sec = (time_t)(ms / 1000);
        spec.it_value.tv_nsec = spec.it_interval.tv_nsec = (long)(ms % 1000) * 1000000;
        dray->timer_us = monotonic_us() + (uint64_t)ms * 1000;
        dray->timer_ms = ms;
        dray->timer_came = false;
        timerfd_settime(dray->timer, 0, &spec, NULL);
    }
}

void connection_settle(dray_t *dray)
{
    settle_for(dray, false);
}

static int watch(int epoll, int fd, struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        return error_set(err, errno, "cannot watch a file descriptor: %s", strerror(errno));
    }
    return 0;
}

// ---- messages ----------------------------------------------------------------------------

static int handle_accepted(dray_t *dray, const Dray__Accepted *accepted, struct error *err)
{
    struct awaited *awaited = &dray->awaited;
    int rc = 0;

    if (awaited->kind != AWAIT_SUBMIT || awaited->here || accepted->key_hi != awaited->key_hi ||
        accepted->key_lo != awaited->key_lo) {
        return 0;
    }
    // Its results may be right behind, so the job must be known before the next message.
    if (!results_has_job(dray->results, accepted->job)) {
        rc = results_add_job(dray->results, accepted->job, awaited->graph, &awaited->options, err);
    }
    if (rc == 0) {
        awaited->job = accepted->job;
        awaited->here = true;
    }
    return rc;
}

static void handle_rejected(dray_t *dray, const Dray__Rejected *rejected)
{
    struct awaited *awaited = &dray->awaited;

    if (rejected->has_job) {
        results_refused(dray->results, rejected->job, rejected->why);
    } else if (awaited->kind == AWAIT_SUBMIT && !awaited->here && rejected->key_hi == awaited->key_hi &&
               rejected->key_lo == awaited->key_lo) {
        error_set(&awaited->refused, rejected->why->code > 0 ? rejected->why->code : EINVAL, "%s",
                  rejected->why->text);
        awaited->here = true;
    }
}

static int adopt(dray_t *dray, const Dray__Attached *attached, struct error *err)
{
    if (!dray->awaited.attach || attached->why != NULL || results_has_job(dray->results, attached->job)) {
        return 0;
    }
    return results_adopt_job(dray->results, attached, &dray->awaited.options, err);
}

// Answers to questions are unpacked a second time, into the asker's arena.
static int handle_answer(dray_t *dray, const struct frame *frame, uint32_t tag, const struct message *message,
                         struct error *err)
{
    struct awaited *awaited = &dray->awaited;

    if (awaited->kind != AWAIT_TAG || awaited->here || awaited->type != frame->info->type ||
        awaited->tag != tag) {
        return 0;
    }
    awaited->answer = protobuf_c_message_unpack(frame->info->descriptor, &awaited->arena->protobuf,
                                                message->frame[0].size - FRAME_HEADER,
                                                message->frame[0].data + FRAME_HEADER);
    if (awaited->answer == NULL) {
        return error_no_memory(err);
    }
    awaited->here = true;
    return frame->info->type == FRAME_ATTACHED ? adopt(dray, (const Dray__Attached *)awaited->answer, err)
                                               : 0;
}

static int handle(dray_t *dray, const struct frame *frame, struct message *message, struct error *err)
{
    const ProtobufCMessage *body = frame->message;

    switch (frame->info->type) {
    case FRAME_ACCEPTED:
        return handle_accepted(dray, (const Dray__Accepted *)body, err);
    case FRAME_REJECTED:
        handle_rejected(dray, (const Dray__Rejected *)body);
        return 0;
    case FRAME_EXTENDED:
        results_extended(dray->results, (const Dray__Extended *)body);
        return 0;
    case FRAME_CLUSTER:
        return handle_answer(dray, frame, ((const Dray__Cluster *)body)->tag, message, err);
    case FRAME_SOURCES:
        return handle_answer(dray, frame, ((const Dray__Sources *)body)->tag, message, err);
    case FRAME_JOBS:
        return handle_answer(dray, frame, ((const Dray__Jobs *)body)->tag, message, err);
    case FRAME_ATTACHED:
        results_returned(dray->results, (const Dray__Attached *)body);
        return handle_answer(dray, frame, ((const Dray__Attached *)body)->tag, message, err);
    case FRAME_REPLY:
        return handle_answer(dray, frame, ((const Dray__Reply *)body)->tag, message, err);
    default:
        return results_handle(dray->results, frame, message, err);
    }
}

static int receive_all(dray_t *dray, bool awaiting, struct error *err)
{
    struct arena arena;
    struct frame frame;
    struct message message;
    int rc = 0;

    arena_init(&arena, 0);
    for (;;) {
        if (!awaiting && results_full(dray->results)) {
            uplink_excuse(dray->uplink); // it is we who do not listen
            break;
        }
        rc = uplink_receive(dray->uplink, &arena, &frame, &message, err);
        if (rc != 1) {
            break;
        }
        rc = handle(dray, &frame, &message, err);
        message_fini(&message);
        arena_reset(&arena);
        if (rc != 0) {
            break;
        }
    }
    arena_fini(&arena);
    return rc;
}

int connection_take_in(dray_t *dray, bool awaiting, struct error *err)
{
    uint64_t expired;
    int rc;

    if (dray->broken.code != 0) {
        *err = dray->broken;
        return -err->code;
    }
    rc = pools_flush(dray->pools, err);
    if (rc == 0 && !rejoin_deaf(dray)) {
        rc = receive_all(dray, awaiting, err);
    }
    if (rc == 0) {
        results_process(dray->results);
        results_flush(dray->results, false);
        if (monotonic_us() >= dray->timer_us && read(dray->timer, &expired, sizeof(expired)) > 0) {
            // Not from now on: it comes by its own clock, and must not be readable before we look at it.
            dray->timer_us += expired * dray->timer_ms * 1000;
            dray->timer_came = true;
            results_tick(dray->results);
        }
        rc = rejoin_deaf(dray) ? 0 : uplink_tick(dray->uplink, err);
    }
    rc = rejoin_step(dray, rc, err);
    if (rc < 0) {
        dray->broken = *err;
    }
    return rc;
}

static int wait_readable(dray_t *dray, uint64_t deadline_us, bool stubborn, struct error *err)
{
    struct pollfd fd[] = {{.fd = dray->epoll, .events = POLLIN}, {.fd = dray->interrupt, .events = POLLIN}};
    int n;

    do {
        int timeout = -1;

        if (deadline_us != UINT64_MAX) {
            uint64_t now = monotonic_us();

            timeout = now >= deadline_us ? 0 : (int)((deadline_us - now + 999) / 1000);
        }
        n = poll(fd, 2, timeout);
    } while (n < 0 && errno == EINTR && stubborn);
    if (n < 0 && errno != EINTR) {
        return error_set(err, errno, "poll: %s", strerror(errno));
    }
    if (n < 0 || fd[1].revents != 0) {
        return error_set(err, EINTR, "interrupted");
    }
    return n;
}

int connection_wait(dray_t *dray, uint64_t deadline_us, bool stubborn, struct error *err)
{
    settle_for(dray, true);
    return wait_readable(dray, deadline_us, stubborn, err);
}

uint64_t connection_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : monotonic_us() + (uint64_t)timeout_ms * 1000;
}

// ---- connection ----------------------------------------------------------------------------

static int say_nobody_answered(const dray_t *dray, unsigned connect_ms, struct error *err)
{
    const char *endpoint = uplink_endpoint(dray->uplink);
    double seconds = (double)connect_ms / 1000;
    struct addrinfo *found = NULL;
    struct error why;

    if (strncmp(endpoint, "tcp://", 6) == 0 && host_look_up(endpoint, &found, &why) != 0) {
        return error_set(err, ETIMEDOUT, "no broker answered at %s within %g s: %s", endpoint, seconds,
                         why.text);
    }
    if (found != NULL) {
        freeaddrinfo(found);
    }
    return error_set(err, ETIMEDOUT, "no broker answered at %s within %g s: is dray-broker running there?",
                     endpoint, seconds);
}

static int await_welcome(dray_t *dray, unsigned connect_ms, struct error *err)
{
    uint64_t until = connection_deadline((int)connect_ms);

    for (;;) {
        int rc = connection_take_in(dray, false, err);
        uint64_t again;

        connection_settle(dray);
        if (rc != 0 || uplink_welcomed(dray->uplink)) {
            return rc;
        }
        again = rejoin_greet(dray);
        rc = wait_readable(dray, again < until ? again : until, true, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0 && monotonic_us() >= until) {
            return say_nobody_answered(dray, connect_ms, err);
        }
    }
}

int client_connect(const char *endpoint, const struct dray_options *given, int interrupt, dray_t **out,
                   struct error *err)
{
    struct dray_options options = {0};
    dray_t *dray = NULL;
    int rc;

    if (given != NULL) {
        memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
    }
    if (options.connect_ms == 0) {
        options.connect_ms = CONNECT_MS;
    }
    if (options.connect_ms > INT32_MAX) {
        options.connect_ms = INT32_MAX;
    }
    if (endpoint == NULL) {
        endpoint = getenv("DRAY_BROKER");
    }
    if (endpoint == NULL || endpoint[0] == '\0') {
        return error_set(err, EINVAL, "no broker's address was given, and DRAY_BROKER is not set");
    }
    dray = calloc(1, sizeof(*dray));
    if (dray == NULL) {
        return error_no_memory(err);
    }
    dray->interrupt = interrupt;
    dray->epoll = dray->timer = dray->wake = -1;
    rc = rejoin_init(&dray->rejoin, options.reconnect_ms, err);
    if (rc != 0) {
        goto out;
    }
    rc = uplink_create(endpoint, options.name, &dray->uplink, err);
    if (rc != 0) {
        goto out;
    }
    dray->epoll = epoll_create1(EPOLL_CLOEXEC);
    dray->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    dray->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (dray->epoll < 0 || dray->timer < 0 || dray->wake < 0) {
        rc = error_set(err, errno, "cannot make a file descriptor: %s", strerror(errno));
        goto out;
    }
    rc = results_create(dray->uplink, dray->epoll,
                        options.result_bytes_max > 0 ? options.result_bytes_max : RESULT_BYTES_MAX,
                        &dray->results, err);
    if (rc == 0) {
        rc = rejoin_watch(dray, err);
    }
    if (rc == 0) {
        rc = watch(dray->epoll, dray->timer, err);
    }
    if (rc == 0) {
        rc = watch(dray->epoll, dray->wake, err);
    }
    if (rc == 0) {
        rc = await_welcome(dray, options.connect_ms, err);
    }
    if (rc == 0) {
        *out = dray;
        dray = NULL;
    }
out:
    dray_close(dray);
    return rc;
}

int dray_connect(const char *endpoint, const struct dray_options *options, dray_t **out,
                 struct dray_error *error)
{
    struct error err = {0};

    return client_error(client_connect(endpoint, options, -1, out, &err), &err, error);
}

void client_on_lost(dray_t *dray, client_lost_function *function, void *arg)
{
    dray->rejoin.told = function;
    dray->rejoin.told_arg = arg;
}

int dray_connected(const dray_t *dray)
{
    return dray->broken.code != 0 ? -dray->broken.code : rejoin_stands(dray);
}

void dray_close(dray_t *dray)
{
    client_close(dray, CLOSE_MS);
}

void client_close(dray_t *dray, int linger_ms)
{
    if (dray == NULL) {
        return;
    }
    if (dray->results != NULL) {
        results_flush(dray->results, true); // of jobs that go on
    }
    pools_destroy(dray->pools);
    results_destroy(dray->results);
    uplink_destroy(dray->uplink, linger_ms);
    if (dray->wake >= 0) {
        close(dray->wake);
    }
    if (dray->timer >= 0) {
        close(dray->timer);
    }
    if (dray->epoll >= 0) {
        close(dray->epoll);
    }
    free(dray);
}

int dray_fd(const dray_t *dray)
{
    return dray->epoll;
}

int dray_process(dray_t *dray, struct dray_error *error)
{
    struct error err = {0};
    int rc = connection_take_in(dray, false, &err);

    connection_settle(dray);
    return client_error(rc, &err, error);
}

static int wait_for_event(dray_t *dray, int timeout_ms, bool stubborn, struct error *err)
{
    uint64_t until = connection_deadline(timeout_ms);

    for (;;) {
        int rc = connection_take_in(dray, false, err);

        connection_settle(dray);
        if (results_pending(dray->results)) {
            return 1;
        }
        if (rc == 0) {
            rc = wait_readable(dray, until, stubborn, err);
        }
        if (rc <= 0) {
            return rc;
        }
    }
}

int dray_wait(dray_t *dray, int timeout_ms, struct dray_error *error)
{
    struct error err = {0};

    return client_error(wait_for_event(dray, timeout_ms, false, &err), &err, error);
}

int client_wait(dray_t *dray, int timeout_ms, struct error *err)
{
    return wait_for_event(dray, timeout_ms, true, err);
}

int dray_next(dray_t *dray, struct dray_event *event, struct dray_error *error)
{
    int rc = results_next(dray->results, event);

    if (rc == 0 && dray->broken.code != 0) {
        rc = client_error(-dray->broken.code, &dray->broken, error);
    }
    connection_settle(dray);
    return rc;
}

struct buffer *client_event_buffer(dray_t *dray)
{
    return results_current(dray->results);
}

// ---- questions ---------------------------------------------------------------------------------

// Sends the question when the session stands, and again in each other one: until it was answered, nobody
// knows whether it was heard.  *until: for an answer, from then on.
static int put_question(dray_t *dray, enum frame_type type, const ProtobufCMessage *question, int timeout_ms,
                        uint64_t *until, struct error *err)
{
    struct awaited *awaited = &dray->awaited;
    unsigned session = uplink_sessions(dray->uplink);
    int rc;

    if (!rejoin_stands(dray)) {
        *until = connection_deadline(timeout_ms);
        return 0;
    }
    if (awaited->session == session) {
        return 0;
    }
    rc = uplink_send(dray->uplink, type, question, err);
    if (rc == 0) {
        awaited->again = awaited->session != 0;
        awaited->session = session;
        *until = connection_deadline(timeout_ms);
    }
    // Without another session to come it is said at once that the broker takes nothing.
    return rc == -EAGAIN && uplink_lost(dray->uplink) ? 0 : rc;
}

int connection_ask(dray_t *dray, enum frame_type type, const ProtobufCMessage *question, int timeout_ms,
                   const char *what, struct error *err)
{
    uint64_t until = connection_deadline(timeout_ms);

    if (dray->broken.code != 0) {
        *err = dray->broken;
        return -err->code;
    }
    for (;;) {
        int rc = put_question(dray, type, question, timeout_ms, &until, err);

        rc = rc == 0 ? connection_take_in(dray, true, err) : rc;
        if (rc < 0 || dray->awaited.here) {
            return rc;
        }
        rc = connection_wait(dray, until, true, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            return error_set(err, ETIMEDOUT, "the broker at %s has not answered %s within %g s",
                             uplink_endpoint(dray->uplink), what, timeout_ms / 1000.0);
        }
    }
}
