#include "client/lib/client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/lib/results.h"
#include "client/lib/uplink.h"
#include "proto/graph.h"

enum {
    CONNECT_MS = 5000,
    SUBMIT_MS = 30000, // a broker that takes a large graph apart may need a while
    FETCH_TICK_MS = 200,
    CLOSE_MS = 500, // for what is unsent
};
// Results that the user has not taken yet hold at most so much of this process.
#define RESULT_BYTES_MAX ((uint64_t)64 << 20)

// The answer that a call is waiting for.
struct awaited {
    enum { AWAIT_NOTHING, AWAIT_SUBMIT, AWAIT_TAG } kind;
    bool here;
    uint64_t key_hi, key_lo; // SUBMIT
    const Dray__Graph *graph;
    struct results_job_options options;
    uint32_t job;
    struct error refused; // code 0: accepted
    enum frame_type type; // TAG
    uint32_t tag;
    struct arena *arena;
    ProtobufCMessage *answer;
};

struct dray {
    struct uplink *uplink;
    struct results *results;
    int epoll;
    int timer;
    int interrupt; // borrowed; -1: none
    int wake;      // readable while something is to be done that no fd would tell of
    bool woken;
    unsigned timer_ms;
    uint32_t tag;
    struct awaited awaited;
    struct error broken; // code 0: the connection stands
};

// ---- the file descriptor ---------------------------------------------------------------

// ZMQ_FD tells of edges only: whatever was looked at in passing (a send takes in
// what has arrived) would never be told of again.  So after each call `wake` is made to
// agree with what there is to do.  awaiting: for a call that waits inside, to which the
// user's events are nothing to do.
static void settle_for(dray_t *dray, bool awaiting)
{
    bool busy = (!awaiting && results_pending(dray->results)) || uplink_ready(dray->uplink) ||
                results_ready(dray->results) || dray->broken.code != 0;
    unsigned ms = results_fetching(dray->results) ? FETCH_TICK_MS : uplink_heartbeat_ms(dray->uplink);
    uint64_t count = 1;

    if (busy && !dray->woken) {
        dray->woken = write(dray->wake, &count, sizeof(count)) == (ssize_t)sizeof(count);
    } else if (!busy && dray->woken) {
        dray->woken = read(dray->wake, &count, sizeof(count)) != (ssize_t)sizeof(count);
    }
    if (ms > uplink_heartbeat_ms(dray->uplink)) {
        ms = uplink_heartbeat_ms(dray->uplink);
    }
    if (ms != dray->timer_ms) {
        struct itimerspec spec = {0};

        spec.it_value.tv_sec = spec.it_interval.tv_sec = (time_t)(ms / 1000);
        spec.it_value.tv_nsec = spec.it_interval.tv_nsec = (long)(ms % 1000) * 1000000;
        timerfd_settime(dray->timer, 0, &spec, NULL);
        dray->timer_ms = ms;
    }
}

static void settle(dray_t *dray)
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

    if (awaited->kind == AWAIT_SUBMIT && !awaited->here && rejected->key_hi == awaited->key_hi &&
        rejected->key_lo == awaited->key_lo) {
        error_set(&awaited->refused, rejected->why->code > 0 ? rejected->why->code : EINVAL, "%s",
                  rejected->why->text);
        awaited->here = true;
    }
}

// Answers to queries are unpacked a second time, into the asker's arena.
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
    return 0;
}

static int handle(dray_t *dray, const struct frame *frame, struct message *message, struct error *err)
{
    switch (frame->info->type) {
    case FRAME_ACCEPTED:
        return handle_accepted(dray, (const Dray__Accepted *)frame->message, err);
    case FRAME_REJECTED:
        handle_rejected(dray, (const Dray__Rejected *)frame->message);
        return 0;
    case FRAME_CLUSTER:
        return handle_answer(dray, frame, ((const Dray__Cluster *)frame->message)->tag, message, err);
    case FRAME_SOURCES:
        return handle_answer(dray, frame, ((const Dray__Sources *)frame->message)->tag, message, err);
    default:
        return results_handle(dray->results, frame, message, err);
    }
}

static int take_in(dray_t *dray, struct error *err)
{
    struct arena arena;
    struct frame frame;
    struct message message;
    uint64_t expired;
    int rc = 0;

    if (dray->broken.code != 0) {
        *err = dray->broken;
        return -err->code;
    }
    arena_init(&arena, 0);
    while ((rc = uplink_receive(dray->uplink, &arena, &frame, &message, err)) == 1) {
        rc = handle(dray, &frame, &message, err);
        message_fini(&message);
        arena_reset(&arena);
        if (rc != 0) {
            break;
        }
    }
    arena_fini(&arena);
    if (rc == 0) {
        results_process(dray->results);
        results_flush(dray->results);
        if (read(dray->timer, &expired, sizeof(expired)) > 0) {
            results_tick(dray->results);
        }
        rc = uplink_tick(dray->uplink, err);
    }
    if (rc < 0) {
        dray->broken = *err;
    }
    return rc;
}

// 1: the dray's fd is readable; 0: time is up; -EINTR: the interrupt fd says so, or
// (unless stubborn) a signal came.
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

static uint64_t deadline(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : monotonic_us() + (uint64_t)timeout_ms * 1000;
}

// ---- connection ----------------------------------------------------------------------------

static int await_welcome(dray_t *dray, unsigned connect_ms, struct error *err)
{
    uint64_t until = deadline((int)connect_ms);

    for (;;) {
        int rc = take_in(dray, err);

        settle(dray);
        if (rc != 0 || uplink_welcomed(dray->uplink)) {
            return rc;
        }
        rc = wait_readable(dray, until, true, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            return error_set(err, ETIMEDOUT,
                             "no broker answered at %s within %g s: is dray-broker running there?",
                             uplink_endpoint(dray->uplink), (double)connect_ms / 1000);
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
    rc = results_create(dray->uplink, dray->epoll, RESULT_BYTES_MAX, &dray->results, err);
    if (rc == 0) {
        rc = watch(dray->epoll, uplink_fd(dray->uplink), err);
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

void dray_close(dray_t *dray)
{
    client_close(dray, CLOSE_MS);
}

void client_close(dray_t *dray, int linger_ms)
{
    if (dray == NULL) {
        return;
    }
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
    int rc = take_in(dray, &err);

    settle(dray);
    return client_error(rc, &err, error);
}

static int wait_for_event(dray_t *dray, int timeout_ms, bool stubborn, struct error *err)
{
    uint64_t until = deadline(timeout_ms);

    for (;;) {
        int rc = take_in(dray, err);

        settle(dray);
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
    settle(dray);
    return rc;
}

struct buffer *client_event_buffer(dray_t *dray)
{
    return results_current(dray->results);
}

// ---- jobs --------------------------------------------------------------------------------------

// Until the awaited answer is here.
static int await(dray_t *dray, int timeout_ms, const char *what, struct error *err)
{
    uint64_t until = deadline(timeout_ms);

    for (;;) {
        int rc = take_in(dray, err);

        if (rc < 0 || dray->awaited.here) {
            return rc;
        }
        settle_for(dray, true);
        rc = wait_readable(dray, until, true, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            return error_set(err, ETIMEDOUT, "the broker at %s has not answered %s within %g s",
                             uplink_endpoint(dray->uplink), what, timeout_ms / 1000.0);
        }
    }
}

static int choose_key(const struct dray_submit_options *options, struct awaited *awaited, struct error *err)
{
    if (options->key[0] != 0 || options->key[1] != 0) {
        awaited->key_hi = options->key[0];
        awaited->key_lo = options->key[1];
        return 0;
    }

    uint64_t key[2];

    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
        return error_set(err, errno, "cannot get random bytes: %s", strerror(errno));
    }
    awaited->key_hi = key[0];
    awaited->key_lo = key[1];
    return 0;
}

int dray_submit_graph(dray_t *dray, const void *graph, size_t size, const struct dray_submit_options *given,
                      dray_job_t *job, struct dray_error *error)
{
    struct dray_submit_options options = {0};
    struct awaited *awaited = &dray->awaited;
    Dray__Submit submit = DRAY__SUBMIT__INIT;
    struct error err = {0};
    struct arena arena;
    int rc;

    if (given != NULL) {
        memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
    }
    arena_init(&arena, 0);
    memset(awaited, 0, sizeof(*awaited));
    rc = graph_decode(graph, size, &arena, &awaited->graph, &err);
    if (rc == 0) {
        rc = choose_key(&options, awaited, &err);
    }
    if (rc != 0) {
        goto out;
    }
    awaited->options.detached = options.detached != 0;
    awaited->options.ordered = options.ordered != 0;
    submit.has_priority = options.priority != 0;
    submit.priority = options.priority;
    submit.has_detached = submit.detached = options.detached != 0;
    submit.key_hi = awaited->key_hi;
    submit.key_lo = awaited->key_lo;
    submit.graph.data = (uint8_t *)(uintptr_t)graph;
    submit.graph.len = size;
    awaited->kind = AWAIT_SUBMIT;
    rc = uplink_send(dray->uplink, FRAME_SUBMIT, &submit.base, &err);
    if (rc == 0) {
        rc = await(dray, SUBMIT_MS, "a job", &err);
    }
    if (rc == 0 && awaited->refused.code != 0) {
        err = awaited->refused;
        rc = -err.code;
    }
    if (rc == 0) {
        *job = awaited->job;
    }
out:
    memset(awaited, 0, sizeof(*awaited));
    arena_fini(&arena);
    settle(dray);
    return client_error(rc, &err, error);
}

int dray_cancel(dray_t *dray, dray_job_t job, struct dray_error *error)
{
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    struct error err = {0};
    int rc;

    cancel.job = job;
    rc = uplink_send(dray->uplink, FRAME_CANCEL, &cancel.base, &err);
    settle(dray);
    return client_error(rc, &err, error);
}

int dray_release(dray_t *dray, dray_job_t job, struct dray_error *error)
{
    Dray__Free message = DRAY__FREE__INIT;
    struct error err = {0};
    int rc;

    results_drop_job(dray->results, job);
    message.job = job;
    rc = uplink_send(dray->uplink, FRAME_FREE, &message.base, &err);
    settle(dray);
    return client_error(rc, &err, error);
}

// ---- questions -----------------------------------------------------------------------------------

static int inquire(dray_t *dray, enum frame_type question, const ProtobufCMessage *message,
                   enum frame_type answer, struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    struct awaited *awaited = &dray->awaited;
    int rc;

    memset(awaited, 0, sizeof(*awaited));
    awaited->kind = AWAIT_TAG;
    awaited->type = answer;
    awaited->tag = dray->tag;
    awaited->arena = arena;
    rc = uplink_send(dray->uplink, question, message, err);
    if (rc == 0) {
        rc = await(dray, CLIENT_ANSWER_MS, "a question", err);
    }
    if (rc == 0) {
        *out = awaited->answer;
    }
    memset(awaited, 0, sizeof(*awaited));
    settle(dray);
    return rc;
}

int client_cluster(dray_t *dray, struct arena *arena, const Dray__Cluster **out, struct error *err)
{
    Dray__ClusterQuery query = DRAY__CLUSTER_QUERY__INIT;
    ProtobufCMessage *answer;
    int rc;

    query.tag = ++dray->tag;
    rc = inquire(dray, FRAME_CLUSTER_QUERY, &query.base, FRAME_CLUSTER, arena, &answer, err);
    if (rc == 0) {
        *out = (const Dray__Cluster *)answer;
    }
    return rc;
}

int client_sources(dray_t *dray, const char *pattern, const char *path, bool glob, struct arena *arena,
                   const Dray__Sources **out, struct error *err)
{
    Dray__SourceQuery query = DRAY__SOURCE_QUERY__INIT;
    ProtobufCMessage *answer;
    int rc;

    query.tag = ++dray->tag;
    query.pattern = (char *)(uintptr_t)pattern;
    query.path = (char *)(uintptr_t)path;
    query.has_glob = true;
    query.glob = glob;
    rc = inquire(dray, FRAME_SOURCE_QUERY, &query.base, FRAME_SOURCES, arena, &answer, err);
    if (rc == 0) {
        *out = (const Dray__Sources *)answer;
    }
    return rc;
}
