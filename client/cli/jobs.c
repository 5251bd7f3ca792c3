#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/job_report.h"
#include "client/cli/job_view.h"
#include "client/cli/listing.h"
#include "client/cli/options.h"
#include "client/cli/session.h"

struct arguments {
    const char *broker;
    enum listing_format format;
    bool one;
    const char *job;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->broker;
        state->child_inputs[1] = &arguments->format;
        return 0;
    case ARGP_KEY_ARG:
        if (!arguments->one || arguments->job != NULL) {
            argp_error(state, "\"%s\" is one argument too many%s", value,
                       arguments->one ? "" : ": `dray job JOB` tells of one");
        }
        arguments->job = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->one && arguments->job == NULL) {
            argp_error(state, "which job? Give its number, or the name under which it is kept");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {
    {&session_required_argp, 0, NULL, 0}, {&listing_format_argp, 0, NULL, 0}, {0}};

int jobs_main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_option,
        .children = CHILDREN,
        .doc = "List the jobs that the broker knows, the newest last.\v" STATUS_HELP,
    };
    struct arguments arguments = {0};
    struct session session;
    struct error err = {0};
    const Dray__Jobs *jobs;
    int rc;

    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    rc = session_open(&session, arguments.broker, &err);
    rc = rc == 0 ? client_jobs(session.dray, 0, &session.arena, &jobs, &err) : rc;
    rc = rc == 0 ? job_report_all(jobs, arguments.format, listing_terminal(stdout), stdout, &err) : rc;
    int status = session_status(rc, &err);

    session_close(&session);
    return status != STATUS_OK ? status : session_finish_stdout();
}

int job_main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_option,
        .children = CHILDREN,
        .args_doc = "JOB",
        .doc = "Tell of a job: how far it is, what its tasks do or wait for, and which failed and why."
               "\vJOB is its number, or the name under which it is kept.\n\n" STATUS_HELP,
    };
    struct arguments arguments = {.one = true};
    struct client_attach how = {.look = true};
    const Dray__Attached *attached;
    struct job_view view;
    struct session session;
    struct error err = {0};
    const Dray__Jobs *jobs;
    int rc;

    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    rc = session_open(&session, arguments.broker, &err);
    rc = rc == 0 ? session_job(&session, arguments.job, &how.job, &err) : rc;
    rc = rc == 0 ? client_attach(session.dray, &how, &session.arena, &attached, &err) : rc;
    rc = rc == 0 ? job_view_from_attached(attached, &session.arena, &view, &err) : rc;
    rc = rc == 0 ? client_jobs(session.dray, how.job, &session.arena, &jobs, &err) : rc;
    if (rc == 0 && jobs->n_job == 1) {
        rc = job_report_one(jobs->job[0], &view, arguments.format, listing_terminal(stdout), stdout, &err);
    }
    int status = session_status(rc, &err);

    session_close(&session);
    return status != STATUS_OK ? status : session_finish_stdout();
}
