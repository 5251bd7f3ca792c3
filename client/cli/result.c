#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/command.h"
#include "client/cli/job_follow.h"
#include "client/cli/job_view.h"
#include "client/cli/options.h"
#include "client/cli/result_sink.h"
#include "client/cli/script_value.h"
#include "client/cli/session.h"
#include "client/cli/signals.h"

enum { CHECK_MS = 50, CHECKS_MAX = 20, WAIT_MS = 30000 };

struct arguments {
    const char *broker;
    struct result_sink_options results;
    struct remarks remarks;
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
        state->child_inputs[1] = &arguments->results;
        state->child_inputs[2] = &arguments->remarks;
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

static const struct argp_child CHILDREN[] = {
    {&session_required_argp, 0, NULL, 0}, {&result_sink_argp, 0, NULL, 0}, {&remarks_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "JOB [TASK...]",
    .doc =
        "Print the results of a job, or of some of its tasks, waiting for those that are not there yet; of a "
        "script that `dray run` submitted, what that would have printed."
        "\vTASK is NAME, NAME.INDEX or NAME.FIRST..LAST. Results come in the order of the tasks and their "
        "indices, and stay on the cluster. JOB was submitted with --detach or --wait, or is "
        "kept.\n\n" STATUS_HELP,
};

struct request {
    const struct arguments *arguments;
    struct session session;
    uint32_t job; // 0: its number is not known yet
    struct job_view view;
    struct job_ranges ranges;
    bool few; // of all results
    struct result_sink *sink;
    struct progress *progress;
};

// A job's results go to one client.  One that is just leaving is given the time for it.
static int check_free(struct request *request, uint32_t job, bool *kept, struct error *err)
{
    for (int i = 0;; i++) {
        const Dray__JobInfo *info;
        int rc = client_job(request->session.dray, job, &request->session.arena, &info, err);

        if (rc != 0) {
            return rc;
        }
        *kept = info->n_kept > 0;
        if (info->client == NULL || *kept) {
            return 0;
        }
        if (i == CHECKS_MAX) {
            return error_set(err, EINVAL, "the results of job %u go to client %s as long as that is there%s",
                             job, info->client,
                             info->detached ? "" : ": submit it with --detach, or keep it (dray keep)");
        }
        rc = client_wait(request->session.dray, CHECK_MS, err);
        if (rc < 0) {
            return rc;
        }
    }
}

static int select_tasks(struct request *request, struct error *err)
{
    const struct arguments *arguments = request->arguments;
    struct arena *arena = &request->session.arena;
    const struct job_view *view = &request->view;
    int rc = 0;

    for (int i = 0; i < arguments->tasks && rc == 0; i++) {
        rc = job_view_select(view, arguments->task[i], arena, &request->ranges, err);
    }
    for (uint32_t l = 0; l < view->layers && rc == 0 && arguments->tasks == 0; l++) {
        rc = view->layer[l].wanted ? job_view_add_layer(view, l, arena, &request->ranges, err) : 0;
    }
    for (size_t i = 0; i < request->ranges.count && rc == 0; i++) {
        const struct job_view_layer *layer = &view->layer[request->ranges.range[i].layer];

        if (!layer->wanted) {
            return error_set(err, EINVAL,
                             "'%s' is no result of job %u: what it made went to the tasks that need it "
                             "(result: true in the file makes it one)",
                             layer->name != NULL ? layer->name : "this task", view->job);
        }
    }
    return rc;
}

// Less than half of what there is.
static bool is_few(const struct request *request)
{
    uint64_t all = 0, wanted = 0;

    for (uint32_t l = 0; l < request->view.layers; l++) {
        all += request->view.layer[l].wanted ? request->view.layer[l].tasks : 0;
    }
    for (size_t i = 0; i < request->ranges.count; i++) {
        wanted += request->ranges.range[i].count;
    }
    return wanted > 0 && wanted < all / 2;
}

// What is wrong with the question is found out before the job is taken over.
static int look(struct request *request, const Dray__Attached **out, struct error *err)
{
    struct client_attach how = {.look = true};
    int rc = session_job(&request->session, request->arguments->job, &how.job, err);

    request->job = rc == 0 ? how.job : 0;
    return rc == 0 ? client_attach(request->session.dray, &how, &request->session.arena, out, err) : rc;
}

static int attach(struct request *request, const Dray__Attached *attached, struct error *err)
{
    struct client_attach how = {.job = attached->job};
    bool kept = false;
    struct arena *arena = &request->session.arena;
    int rc = job_view_from_attached(attached, arena, &request->view, err);

    if (rc == 0 && (attached->n_layer > 0 || attached->state <= DRAY__JOB_STATE__DONE)) {
        rc = select_tasks(request, err);
    }
    rc = rc == 0 ? check_free(request, how.job, &kept, err) : rc;
    how.detach = !kept; // one whose client is lost would be given up when this one leaves
    request->few = how.unfetched = rc == 0 && is_few(request);
    how.ordered = !request->few;
    return rc == 0 ? client_attach(request->session.dray, &how, arena, &attached, err) : rc;
}

// ---- a script's job ------------------------------------------------------------------------------------

static int give_connection(void *owner, dray_t **out, struct error *err)
{
    const struct request *request = owner;

    (void)err;
    *out = request->session.dray;
    return 0;
}

// As `dray run` would have.  -ENOMSG: it is no script's job.
static int print_script(struct request *request, const Dray__Attached *attached, int *status)
{
    const struct arguments *arguments = request->arguments;
    struct script_value value = {.format = arguments->results.format,
                                 .path = arguments->results.output,
                                 .quiet = arguments->remarks.quiet,
                                 .wait_ms = WAIT_MS,
                                 .tells_waiting = true,
                                 .progress = request->progress,
                                 .owner = request,
                                 .connect = give_connection};
    const struct query_run_host host = script_value_host(&value);
    enum query_outcome outcome = QUERY_OUTPUT;
    struct query_run *run = NULL;
    struct error err = {0};
    bool kept = false;
    int rc = query_run_adopt(attached->job, attached->note.data, attached->has_note ? attached->note.len : 0,
                             &host, &run, &outcome, &err);

    if (rc == -ENOMSG) {
        return rc;
    }
    if (rc == 0 && (arguments->tasks > 0 || arguments->results.directory != NULL)) {
        outcome = QUERY_SCRIPT;
        rc =
            error_set(&err, EINVAL, "job %u is a script's, which has one value: without TASK and --directory",
                      attached->job);
    }
    if (rc == 0) {
        outcome = QUERY_BROKER;
        rc = check_free(request, attached->job, &kept, &err);
        outcome = rc == -EINVAL || rc == -ENOENT ? QUERY_SCRIPT : outcome;
    }
    if (rc == 0) {
        query_run_keeps(run, !kept);
        outcome = QUERY_OUTPUT;
        rc = script_value_init(&value, &err);
    }
    rc = rc == 0 ? script_value_print(&value, run, &outcome, &err) : rc;
    progress_clear(request->progress);
    *status = rc == 0 ? STATUS_OK : script_value_status(outcome, &err);
    if (rc != 0 && *status < STATUS_SIGNAL) {
        complain(&err);
    }
    script_value_fini(&value);
    query_run_destroy(run);
    return 0;
}

// ---- tasks of a file -------------------------------------------------------------------------------------

static int output_status(const struct error *err)
{
    if (err->code == EPIPE) {
        return STATUS_SIGNAL + SIGPIPE;
    }
    complain(err);
    return STATUS_OUTPUT;
}

static int follow(struct request *request)
{
    struct job_follow follow = {.dray = request->session.dray,
                                .view = &request->view,
                                .sink = request->sink,
                                .progress = request->progress,
                                .quiet = request->arguments->remarks.quiet,
                                .until_there = request->ranges.count > 0};
    struct error err = {0}, more = {0};
    enum job_outcome outcome =
        request->few ? job_follow_gather(&follow, &request->ranges, &err) : job_follow_run(&follow, &err);
    uint64_t left = result_sink_left(request->sink);

    if (outcome == JOB_BROKER) {
        return session_status(-EIO, &err);
    }
    if (outcome == JOB_OUTPUT) {
        return output_status(&err);
    }
    if (outcome == JOB_DONE && left > 0) {
        outcome = JOB_FAILED;
        error_set(&err, ENODATA,
                  "%" PRIu64 " of the results are no longer there: they were read and freed, or given up",
                  left);
    }
    // What is there of a job with failures is of use, but a file appears whole or not at all.
    if ((outcome == JOB_DONE || request->arguments->results.output == NULL) &&
        result_sink_finish(request->sink, &more) != 0) {
        return output_status(&more);
    }
    if (err.code != 0) {
        complain(&err);
    }
    return outcome == JOB_DONE ? STATUS_OK : STATUS_JOB;
}

int result_main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct request request = {.arguments = &arguments};
    const Dray__Attached *attached = NULL;
    struct error err = {0};
    int status;
    int rc;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    request.progress = progress_create(arguments.remarks.quiet ? PROGRESS_NEVER : arguments.remarks.progress);
    rc = session_open(&request.session, arguments.broker, &err);
    request.session.lost = (struct lost){.progress = request.progress, .quiet = arguments.remarks.quiet};
    rc = rc == 0 ? look(&request, &attached, &err) : rc;
    if (rc != 0 || print_script(&request, attached, &status) != 0) {
        rc = rc == 0 ? attach(&request, attached, &err) : rc;
        status = session_status(rc, &err);
    } else {
        rc = 1; // it is printed
    }
    if (rc == 0) {
        status =
            result_sink_create(&arguments.results, &request.view, &request.ranges, &request.sink, &err) != 0
                ? output_status(&err)
                : follow(&request);
    }
    if (request.job != 0) {
        lost_tell_job(&request.session.lost, request.session.dray, LOST_READ, request.job);
    }
    progress_destroy(request.progress);
    result_sink_destroy(request.sink);
    session_close(&request.session);
    return status;
}
