#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/job_wait.h"
#include "client/cli/listing.h"
#include "client/cli/options.h"
#include "client/cli/session.h"

struct arguments {
    const char *broker;
    enum listing_format format;
    int wanted; // arguments; none: it is a list
    char *argument[2];
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->broker;
        if (arguments->wanted == 0) {
            state->child_inputs[1] = &arguments->format;
        }
        return 0;
    case ARGP_KEY_ARG:
        if ((int)state->arg_num >= arguments->wanted) {
            argp_error(state, "\"%s\" is one argument too many", value);
        }
        arguments->argument[state->arg_num] = value;
        return 0;
    case ARGP_KEY_END:
        if ((int)state->arg_num < arguments->wanted) {
            argp_error(state, arguments->wanted == 2 ? "give a job, and the name to keep it under"
                                                     : "give the name under which a job is kept");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {{&session_required_argp, 0, NULL, 0}, {0}};
static const struct argp_child LIST_CHILDREN[] = {
    {&session_required_argp, 0, NULL, 0}, {&listing_format_argp, 0, NULL, 0}, {0}};

static int begin(const struct argp *argp, int argc, char **argv, struct arguments *arguments,
                 struct session *session, struct error *err)
{
    argp_parse(argp, argc, argv, 0, NULL, arguments);
    return session_open(session, arguments->broker, err);
}

// JOB elsewhere is a number or such a name.
static int check_name(const char *name, struct error *err)
{
    if (name[0] == '\0') {
        return error_set(err, EINVAL, "an empty name: give one to keep the job under");
    }
    if (name[strspn(name, "0123456789")] == '\0') {
        return error_set(err, EINVAL, "the name '%.100s' would be taken for the number of a job", name);
    }
    return 0;
}

int keep_main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_option,
        .children = CHILDREN,
        .args_doc = "JOB NAME",
        .doc = "Keep a job and its results under a name, for all clients, until `dray unkeep`."
               "\vThe job goes on, and its results stay, when its own client leaves. JOB may have several "
               "names.\n\n" STATUS_HELP,
    };
    struct arguments arguments = {.wanted = 2};
    struct session session;
    struct error err = {0};
    uint32_t job;
    int rc = begin(&argp, argc, argv, &arguments, &session, &err);

    rc = rc == 0 ? check_name(arguments.argument[1], &err) : rc;
    rc = rc == 0 ? session_job(&session, arguments.argument[0], &job, &err) : rc;
    rc = rc == 0 ? client_keep(session.dray, job, arguments.argument[1], &err) : rc;
    int status = session_status(rc, &err);

    session_close(&session);
    return status;
}

int unkeep_main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_option,
        .children = CHILDREN,
        .args_doc = "NAME",
        .doc =
            "Take back a name that a job is kept under."
            "\vWithout a name left, a job whose client has gone goes as well, unless it was submitted with "
            "--detach.\n\n" STATUS_HELP,
    };
    struct arguments arguments = {.wanted = 1};
    struct session session;
    struct error err = {0};
    int rc = begin(&argp, argc, argv, &arguments, &session, &err);

    rc = rc == 0 ? client_unkeep(session.dray, arguments.argument[0], &err) : rc;
    int status = session_status(rc, &err);

    session_close(&session);
    return status;
}

// ---- all names ------------------------------------------------------------------------------------

static const struct listing_column COLUMNS[] = {
    {"name", "name", false, true},   {"job", "job", true, false},     {"state", "state", false, false},
    {"tasks", "tasks", true, false}, {"done", "done", true, false},   {"results", "bytes", true, false},
    {"age", "age_s", true, false},   {"of", "job_name", false, true},
};

static int list(const Dray__Jobs *jobs, enum listing_format format, struct error *err)
{
    struct listing *listing = listing_create(COLUMNS, sizeof(COLUMNS) / sizeof(COLUMNS[0]));
    int rc;

    if (listing == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < jobs->n_job; i++) {
        const Dray__JobInfo *job = jobs->job[i];
        char size[24], age[24];

        listing_size(job->bytes, size);
        listing_age(job->age_us, age);
        for (size_t k = 0; k < job->n_kept; k++) {
            listing_text(listing, job->kept[k]);
            listing_number(listing, job->job, NULL);
            listing_text(listing, job_state_name(job->state));
            listing_number(listing, (double)job->tasks, NULL);
            listing_number(listing, (double)job->done, NULL);
            listing_number(listing, (double)job->bytes, size);
            listing_number(listing, (double)job->age_us / 1e6, age);
            listing_text(listing, job->name);
        }
    }
    rc = listing_print(listing, format, listing_terminal(stdout), stdout, err);
    if (rc == 0 && format == LISTING_JSON) {
        putchar('\n');
    }
    listing_destroy(listing);
    return rc;
}

int kept_main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse_option,
        .children = LIST_CHILDREN,
        .doc = "List the names under which jobs are kept.\v" STATUS_HELP,
    };
    struct arguments arguments = {0};
    struct session session;
    struct error err = {0};
    const Dray__Jobs *jobs;
    int rc = begin(&argp, argc, argv, &arguments, &session, &err);

    rc = rc == 0 ? client_jobs(session.dray, 0, &session.arena, &jobs, &err) : rc;
    rc = rc == 0 ? list(jobs, arguments.format, &err) : rc;
    int status = session_status(rc, &err);

    session_close(&session);
    return status != STATUS_OK ? status : session_finish_stdout();
}
