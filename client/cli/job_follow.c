#include "client/cli/job_follow.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/signals.h"
#include "proto/partition.h"
#include "proto/socket.h"

enum { FAILURES_SHOWN = 10, GATHER_MAX = 32, FIRST_MS = 5, LONGEST_MS = 250 };

struct state {
    struct job_follow *follow;
    uint64_t shown;      // failures
    uint64_t waiting_us; // since when the job waits for something; 0: it does not
    bool told_waiting;
    bool ended;
    enum job_outcome outcome;
};

// ---- telling -------------------------------------------------------------------------------------

static void tell_failure(struct state *state, uint32_t layer, uint32_t index, const char *text)
{
    const struct job_view *view = state->follow->view;
    const char *reason = job_view_reason(view, layer, index, text);
    char label[JOB_LABEL_MAX];
    struct arena arena;

    state->follow->failed++;
    if (state->shown++ >= FAILURES_SHOWN) {
        return;
    }
    arena_init(&arena, 0);
    progress_clear(state->follow->progress);
    job_view_label(view, layer, index, label);
    complain_text(reason != NULL ? "%s failed %s" : "%s failed: %s", label,
                  job_view_text(view, reason != NULL ? reason : text, &arena));
    arena_fini(&arena);
}

static void tell_progress(struct state *state, const struct dray_event *event)
{
    struct job_follow *follow = state->follow;
    const struct query_progress now = {.tasks = event->tasks,
                                       .done = event->done,
                                       .failed = event->failed,
                                       .rows = event->rows,
                                       .source_bytes = event->source_bytes,
                                       .workers = event->workers,
                                       .waiting = event->waiting};

    follow->tasks = event->tasks;
    follow->done = event->done;
    progress_show(follow->progress, &now);
    // Workers of a local cluster are on their way.
    if (event->waiting == NULL || event->waiting[0] == '\0' || (follow->closed && event->workers == 0)) {
        state->waiting_us = 0;
        return;
    }
    state->waiting_us = state->waiting_us != 0 ? state->waiting_us : monotonic_us();
    // Somebody who sees no progress shall know why nothing happens.
    if (!state->told_waiting && !follow->quiet && !progress_is_on(follow->progress) &&
        monotonic_us() - state->waiting_us > CLIENT_WORTH_A_WORD_US) {
        complain_text("waiting: %s", event->waiting);
        state->told_waiting = true;
    }
}

// ---- events --------------------------------------------------------------------------------------

static int take_result(struct state *state, const struct dray_event *event, struct error *err)
{
    struct buffer *bytes = client_event_buffer(state->follow->dray);
    int rc;

    if (bytes == NULL) {
        return error_no_memory(err);
    }
    progress_clear(state->follow->progress);
    rc = result_sink_put(state->follow->sink, event->layer, event->index, bytes, err);
    buffer_unref(bytes);
    return rc;
}

static int take_failure(struct state *state, const struct dray_event *event, struct error *err)
{
    struct job_follow *follow = state->follow;

    if (!follow->until_there || result_sink_selected(follow->sink, event->layer, event->index)) {
        tell_failure(state, event->layer, event->index, event->error.text);
    }
    return result_sink_missing(follow->sink, event->layer, event->index, err);
}

static void end(struct state *state, enum job_outcome outcome, const struct dray_event *event,
                struct error *err)
{
    struct arena arena;

    state->ended = true;
    state->outcome = outcome;
    arena_init(&arena, 0);
    if (outcome != JOB_DONE) {
        error_set(err, event->error.code != 0 ? event->error.code : EIO, "job %u %s: %s", event->job,
                  outcome == JOB_CANCELLED ? "was cancelled" : "failed",
                  job_view_text(state->follow->view, event->error.text, &arena));
    }
    arena_fini(&arena);
}

// Of a cluster that no other worker joins.
static void give_up(struct state *state, const struct dray_event *event, struct error *err)
{
    state->ended = true;
    state->outcome = JOB_FAILED;
    error_set(
        err, ENOENT,
        "job %u cannot go on: %s; --plugin and --resources are for the workers that this command starts, "
        "--broker is for a cluster that has others",
        event->job, event->waiting);
}

static int handle(struct state *state, const struct dray_event *event, struct error *err)
{
    switch (event->type) {
    case DRAY_PARTITION:
        return take_result(state, event, err);
    case DRAY_TASK_FAILED:
        return take_failure(state, event, err);
    case DRAY_PROGRESS:
        tell_progress(state, event);
        if (state->follow->closed && event->stuck && event->waiting != NULL) {
            give_up(state, event, err);
        }
        return 0;
    case DRAY_DONE:
        end(state, JOB_DONE, event, err);
        return 0;
    case DRAY_FAILED:
        if (event->error.code == ENOTCONN && event->layer == UINT32_MAX) { // the broker lost it
            state->outcome = JOB_BROKER;
            return error_set(err, ENOTCONN, "%s", event->error.text);
        }
        end(state, JOB_FAILED, event, err);
        return 0;
    case DRAY_CANCELLED:
        end(state, JOB_CANCELLED, event, err);
        return 0;
    case DRAY_NOTE:
    default:
        return 0;
    }
}

// All that has come.  1: the end; -errno: of the connection when *outcome is set to that.
static int take_events(struct state *state, struct error *err)
{
    struct job_follow *follow = state->follow;
    struct dray_event event;
    struct dray_error error = {0};
    int rc;

    while (!state->ended && (rc = dray_next(follow->dray, &event, &error)) == 1) {
        if (event.job != follow->view->job) {
            continue;
        }
        rc = handle(state, &event, err);
        if (rc != 0) {
            state->outcome = signals_caught() != 0 || state->outcome == JOB_BROKER ? JOB_BROKER : JOB_OUTPUT;
            return rc;
        }
        if (follow->until_there && !state->ended && result_sink_left(follow->sink) == 0) {
            state->ended = true;
        }
    }
    if (!state->ended && rc < 0) {
        state->outcome = JOB_BROKER;
        return error_set(err, error.code, "%s", error.text);
    }
    return state->ended ? 1 : 0;
}

// While somebody reads what was printed: heartbeats.  What is wrong with the connection is found out later.
static int stay(void *arg)
{
    const struct job_follow *follow = arg;
    struct error err;

    return client_wait(follow->dray, 0, &err) == -EINTR || signals_caught() != 0 ? -ECANCELED : 0;
}

enum job_outcome job_follow_run(struct job_follow *follow, struct error *err)
{
    struct state state = {.follow = follow, .outcome = JOB_DONE};
    int rc = follow->until_there && result_sink_left(follow->sink) == 0 ? 1 : 0;

    result_sink_while_waiting(follow->sink, stay, follow);
    while (rc == 0) {
        // Who reads it need not wait for more.  (Results are freed as they arrive, whether they are printed
        // or not.)
        if (result_sink_flush(follow->sink, err) != 0) {
            rc = -EIO;
            state.outcome = signals_caught() != 0 ? JOB_BROKER : JOB_OUTPUT;
            break;
        }
        rc = client_wait(follow->dray, -1, err);
        if (rc < 0) {
            state.outcome = JOB_BROKER;
            break;
        }
        rc = take_events(&state, err);
    }
    progress_clear(follow->progress);
    if (follow->failed > FAILURES_SHOWN) {
        complain_text("%" PRIu64 " tasks failed in all", follow->failed);
    }
    if (rc == 1 && state.outcome == JOB_DONE && follow->failed > 0) {
        state.outcome = JOB_FAILED;
    }
    return state.outcome;
}

// ---- only some ---------------------------------------------------------------------------------------

// As it was encoded: dray_gather gives bytes without their header.
static struct buffer *encode(const struct dray_bytes *value)
{
    struct partition *partition;
    struct buffer *bytes, *encoded = NULL;
    uint8_t *data;

    bytes = buffer_create(value->size, &data);
    if (bytes == NULL) {
        return NULL;
    }
    memcpy(data, value->data, value->size);
    if (value->size >= PARTITION_HEADER && memcmp(data, "DPT1", 4) == 0 && data[4] == PARTITION_TABLE) {
        return bytes;
    }
    partition = partition_from_bytes(bytes);
    if (partition != NULL && partition_encode(partition, &encoded, NULL) != 0) {
        encoded = NULL;
    }
    partition_unref(partition);
    return encoded;
}

static int put_gathered(struct state *state, const struct dray_future *future,
                        const struct dray_gathered *gathered, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; i < gathered->count && rc == 0; i++) {
        struct buffer *encoded = encode(&gathered->value[i]);

        rc = encoded == NULL
                 ? error_no_memory(err)
                 : result_sink_put(state->follow->sink, future[i].layer, future[i].index, encoded, err);
        buffer_unref(encoded);
    }
    state->outcome = rc != 0 ? JOB_OUTPUT : state->outcome;
    return rc;
}

// dray_gather names the task by its numbers first.
static const char *reason_of(const struct dray_future *future, const char *text)
{
    char begin[96];
    size_t size =
        (size_t)snprintf(begin, sizeof(begin), "task %u of layer %u of job %u failed: ", future->index,
                         future->layer, future->job);

    return strncmp(text, begin, size) == 0 ? text + size : text;
}

// Several at once; when one of them failed, each by itself.
static int gather(struct state *state, const struct dray_future *future, size_t count, struct error *err)
{
    struct job_follow *follow = state->follow;
    struct dray_gathered gathered = {0};
    struct dray_error error = {0};
    int rc = dray_gather(follow->dray, future, count, -1, &gathered, &error);

    if (rc == 0) {
        rc = put_gathered(state, future, &gathered, err);
        dray_gathered_free(&gathered);
        return rc;
    }
    if (rc == -EINTR || rc == -ENOTCONN || rc == -ETIMEDOUT) {
        state->outcome = JOB_BROKER;
        return error_set(err, error.code, "%s", error.text);
    }
    if (count > 1) {
        rc = 0;
        for (size_t i = 0; i < count && rc == 0; i++) {
            rc = gather(state, &future[i], 1, err);
        }
        return rc;
    }
    tell_failure(state, future->layer, future->index,
                 rc == -ENOENT || rc == -ENODATA
                     ? "its result is no longer there: it was read and freed by the client that had the job"
                     : reason_of(future, error.text));
    rc = result_sink_missing(follow->sink, future->layer, future->index, err);
    state->outcome = rc != 0 ? JOB_OUTPUT : state->outcome;
    return rc;
}

static bool all_done(dray_t *dray, const struct dray_future *future, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (dray_future_done(dray, &future[i]) == 0) {
            return false;
        }
    }
    return true; // or wrong, as dray_gather will say
}

static void show_waiting(struct state *state, const Dray__JobInfo *info)
{
    struct job_follow *follow = state->follow;
    const struct query_progress now = {.tasks = info->tasks,
                                       .done = info->done,
                                       .failed = info->failed,
                                       .workers = WORKERS_UNKNOWN,
                                       .waiting = info->waiting};

    progress_show(follow->progress, &now);
    if (info->waiting != NULL && !progress_is_on(follow->progress)) {
        complain_text("waiting: %s", info->waiting);
        state->told_waiting = true;
    }
}

// dray_gather says nothing until all are there: until then it is asked why they are not, and told once.
static int look_at_waiting(struct state *state, const struct dray_future *future, size_t count,
                           struct error *err)
{
    struct job_follow *follow = state->follow;
    struct arena arena;
    int rc = 0;

    arena_init(&arena, 0);
    for (int ms = FIRST_MS; rc == 0 && !follow->quiet && !state->told_waiting;
         ms = ms < LONGEST_MS ? ms * 2 : ms) {
        struct pollfd signals = {.fd = signals_fd(), .events = POLLIN};
        const Dray__JobInfo *info;

        if (all_done(follow->dray, future, count)) {
            break;
        }
        arena_reset(&arena);
        rc = client_job(follow->dray, follow->view->job, &arena, &info, err);
        if (rc == 0 && !all_done(follow->dray, future, count)) {
            show_waiting(state, info);
            poll(&signals, 1, ms);
        }
    }
    progress_clear(follow->progress);
    arena_fini(&arena);
    // Whatever else is wrong, dray_gather finds it out.
    rc = signals_caught() != 0 || rc == -ENOTCONN || rc == -ETIMEDOUT ? rc : 0;
    state->outcome = rc != 0 ? JOB_BROKER : state->outcome;
    return rc;
}

enum job_outcome job_follow_gather(struct job_follow *follow, const struct job_ranges *ranges,
                                   struct error *err)
{
    struct state state = {.follow = follow, .outcome = JOB_DONE};
    struct dray_future future[GATHER_MAX];
    size_t count = 0;
    int rc = 0;

    for (size_t i = 0; i < ranges->count && rc == 0; i++) {
        for (uint32_t k = 0; k < ranges->range[i].count && rc == 0; k++) {
            future[count++] = (struct dray_future){.job = follow->view->job,
                                                   .layer = ranges->range[i].layer,
                                                   .index = ranges->range[i].first + k};
            if (count == GATHER_MAX) {
                rc = look_at_waiting(&state, future, count, err);
                rc = rc == 0 ? gather(&state, future, count, err) : rc;
                count = 0;
            }
        }
    }
    rc = rc == 0 && count > 0 ? look_at_waiting(&state, future, count, err) : rc;
    rc = rc == 0 && count > 0 ? gather(&state, future, count, err) : rc;
    if (follow->failed > FAILURES_SHOWN) {
        complain_text("%" PRIu64 " tasks failed in all", follow->failed);
    }
    return rc == 0 && follow->failed > 0 ? JOB_FAILED : state.outcome;
}
