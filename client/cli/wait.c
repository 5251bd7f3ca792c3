#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "client/cli/job_wait.h"
#include "client/cli/options.h"
#include "client/cli/session.h"

struct arguments {
    const char *broker;
    struct remarks remarks;
    char **job;
    int jobs;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    (void)value;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->broker;
        state->child_inputs[1] = &arguments->remarks;
        return 0;
    case ARGP_KEY_ARGS:
        arguments->job = state->argv + state->next;
        arguments->jobs = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which job? Give its number, or the name under which it is kept");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {
    {&session_required_argp, 0, NULL, 0}, {&remarks_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "JOB...",
    .doc = "Wait for the end of jobs, and say how they went.  One whose client is lost is taken over: it "
           "goes on, and its "
           "results stay for dray result.\vJOB is its number, or the name under which it "
           "is kept. "
           "The exit status is 1 when a task of one of them failed.\n\n" STATUS_HELP,
};

int wait_main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct session session;
    struct error err = {0};
    bool all_good = true;
    int rc;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    struct job_wait wait = {
        .session = &session,
        .progress = progress_create(arguments.remarks.quiet ? PROGRESS_NEVER : arguments.remarks.progress),
        .quiet = arguments.remarks.quiet};

    rc = session_open(&session, arguments.broker, &err);
    session.lost = (struct lost){.progress = wait.progress, .quiet = arguments.remarks.quiet};
    for (int i = 0; rc == 0 && i < arguments.jobs; i++) {
        bool good = false;
        uint32_t job = 0;

        rc = session_job(&session, arguments.job[i], &job, &err);
        rc = rc == 0 ? job_wait_run(&wait, job, &good, &err) : rc;
        all_good = all_good && good;
        if (rc != 0 && job != 0) {
            lost_tell_job(&session.lost, session.dray, LOST_DETACHED, job);
        }
    }
    int status = session_status(rc, &err);

    progress_destroy(wait.progress);
    session_close(&session);
    return status != STATUS_OK ? status : all_good ? STATUS_OK : STATUS_JOB;
}
