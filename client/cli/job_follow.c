#include "client/cli/job_follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"

enum { FAILURES_SHOWN = 10 };

struct state {
    struct job_follow *follow;
    uint64_t shown; // failures
    bool told_waiting;
    bool ended;
    enum job_outcome outcome;
};

// ---- telling -------------------------------------------------------------------------------------

static void tell_failure(struct state *state, const struct dray_event *event)
{
    const struct job_view *view = state->follow->view;
    const char *reason = job_view_reason(view, event->layer, event->index, event->error.text);
    char label[JOB_LABEL_MAX];

    state->follow->failed++;
    if (state->shown++ >= FAILURES_SHOWN) {
        return;
    }
    progress_clear(state->follow->progress);
    job_view_label(view, event->layer, event->index, label);
    if (reason != NULL) {
        complain_text("%s failed %s", label, reason);
    } else {
        complain_text("%s failed: %s", label, event->error.text);
    }
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
    // Somebody who sees no progress shall know why nothing happens.
    if (event->waiting != NULL && event->waiting[0] != '\0' && !state->told_waiting && !follow->quiet &&
        !progress_is_on(follow->progress)) {
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
        tell_failure(state, event);
    }
    return result_sink_missing(follow->sink, event->layer, event->index, err);
}

static void end(struct state *state, enum job_outcome outcome, const struct dray_event *event,
                struct error *err)
{
    state->ended = true;
    state->outcome = outcome;
    if (outcome != JOB_DONE) {
        error_set(err, event->error.code != 0 ? event->error.code : EIO, "job %u %s: %s", event->job,
                  outcome == JOB_CANCELLED ? "was cancelled" : "failed", event->error.text);
    }
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
        return 0;
    case DRAY_DONE:
        end(state, JOB_DONE, event, err);
        return 0;
    case DRAY_FAILED:
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
            state->outcome = JOB_OUTPUT;
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

enum job_outcome job_follow_run(struct job_follow *follow, struct error *err)
{
    struct state state = {.follow = follow, .outcome = JOB_DONE};
    int rc = follow->until_there && result_sink_left(follow->sink) == 0 ? 1 : 0;

    while (rc == 0) {
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
