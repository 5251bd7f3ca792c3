#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "client/cli/job_view.h"
#include "client/cli/job_wait.h"
#include "client/cli/session.h"

enum { CHECK_MS = 20, CHECKS_MAX = 250 };

struct arguments {
    const char *broker;
    const char *job;
    char **task;
    int tasks;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    (void)value;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->broker;
        return 0;
    case ARGP_KEY_ARGS:
        arguments->job = state->argv[state->next];
        arguments->task = state->argv + state->next + 1;
        arguments->tasks = state->argc - state->next - 1;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which job? Give its number, or the name under which it is kept");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {{&session_required_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "JOB [TASK...]",
    .doc = "Cancel a job, or tasks of it; what runs is stopped at once."
           "\vTASK is NAME, NAME.INDEX or NAME.FIRST..LAST. Tasks that are cancelled fail, and so do those "
           "that need "
           "their results: the job goes on with the others. A job that is over lets go of its "
           "results.\n\n" STATUS_HELP,
};

// The broker has done it, when this returns.
static int cancel_job(struct session *session, const Dray__JobInfo *info, struct error *err)
{
    const Dray__JobInfo *now = info;
    int rc = client_cancel_safely(session->dray, info->job, NULL, 0, err);

    for (int i = 0; rc == 0 && now->state <= DRAY__JOB_STATE__RUNNING; i++) {
        rc = client_job(session->dray, info->job, &session->arena, &now, err);
        if (rc == 0 && i == CHECKS_MAX) {
            return error_set(err, ETIMEDOUT, "job %u is still running", info->job);
        }
        if (rc == 0 && now->state <= DRAY__JOB_STATE__RUNNING) {
            rc = client_wait(session->dray, CHECK_MS, err);
            rc = rc > 0 ? 0 : rc;
        }
    }
    return rc == -ENOENT ? 0 : rc; // its client has read of its end
}

// It is over: its results go.
static int release_job(struct session *session, const Dray__JobInfo *info, struct error *err)
{
    struct dray_error error = {0};
    const Dray__JobInfo *still;

    if (info->n_kept > 0) {
        return error_set(err, EINVAL, "job %u is over, and kept as \"%s\": `dray unkeep %s` lets go of it",
                         info->job, info->kept[0], info->kept[0]);
    }
    if (info->client != NULL) {
        return error_set(err, EINVAL, "job %u is over, and its results belong to client %s", info->job,
                         info->client);
    }
    if (dray_release(session->dray, info->job, &error) != 0) {
        return error_set(err, error.code, "%s", error.text);
    }
    for (int i = 0; i < CHECKS_MAX; i++) {
        int rc = client_job(session->dray, info->job, &session->arena, &still, err);

        if (rc == -ENOENT) { // it may have been cancelled, or over, for a moment only: that is to be safe
            return client_cancel_safely(session->dray, info->job, NULL, 0, err);
        }
        rc = rc == 0 ? client_wait(session->dray, CHECK_MS, err) : rc;
        if (rc < 0) {
            return rc;
        }
    }
    return error_set(err, ETIMEDOUT, "job %u is still there", info->job);
}

static int say_over(uint32_t job, Dray__JobState state, struct error *err)
{
    return error_set(err, EINVAL, "job %u is over (%s)", job, job_state_name(state));
}

static int cancel_tasks(struct session *session, const Dray__JobInfo *info, char **task, int tasks,
                        struct error *err)
{
    const struct client_attach how = {.job = info->job, .look = true};
    const Dray__Attached *attached;
    struct job_ranges ranges = {0};
    struct job_view view;
    int rc;

    if (info->state > DRAY__JOB_STATE__RUNNING) {
        return say_over(info->job, info->state, err);
    }
    rc = client_attach(session->dray, &how, &session->arena, &attached, err);
    if (rc == 0 && attached->state > DRAY__JOB_STATE__RUNNING) { // meanwhile: there may be nothing left of it
        return say_over(info->job, attached->state, err);
    }
    rc = rc == 0 ? job_view_from_attached(attached, &session->arena, &view, err) : rc;
    for (int i = 0; rc == 0 && i < tasks; i++) {
        rc = job_view_select(&view, task[i], &session->arena, &ranges, err);
    }
    if (rc == 0) {
        rc = client_cancel_safely(session->dray, info->job, ranges.range, ranges.count, err);
    }
    return rc;
}

int cancel_main(int argc, char **argv)
{
    struct arguments arguments = {0};
    const Dray__JobInfo *info;
    struct session session;
    struct error err = {0};
    uint32_t job;
    int rc;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    rc = session_open(&session, arguments.broker, &err);
    rc = rc == 0 ? session_job(&session, arguments.job, &job, &err) : rc;
    rc = rc == 0 ? client_job(session.dray, job, &session.arena, &info, &err) : rc;
    if (rc == 0 && arguments.tasks > 0) {
        rc = cancel_tasks(&session, info, arguments.task, arguments.tasks, &err);
    } else if (rc == 0) {
        rc = info->state <= DRAY__JOB_STATE__RUNNING ? cancel_job(&session, info, &err)
                                                     : release_job(&session, info, &err);
    }
    int status = session_status(rc, &err);

    session_close(&session);
    return status;
}
