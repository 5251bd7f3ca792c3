#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/job_follow.h"
#include "client/cli/job_source.h"
#include "client/cli/job_view.h"
#include "client/cli/job_wait.h"
#include "client/cli/options.h"
#include "client/cli/result_sink.h"
#include "client/cli/session.h"
#include "client/cli/signals.h"
#include "client/lib/client.h"
#include "client/submit/job_describe.h"
#include "client/submit/job_file.h"

enum {
    OPTION_WAIT = 0x100,
    OPTION_DETACH,
    OPTION_DRY_RUN,
    OPTION_NAME,
    OPTION_PLUGIN,
    OPTION_RESOURCES,
};

struct arguments {
    struct cluster_choice cluster;
    const char *plugin[LOCAL_PLUGINS_MAX + 1];
    size_t plugins;
    struct result_sink_options results;
    bool wait, detach, dry_run;
    bool has_priority;
    int32_t priority;
    const char *name;
    struct remarks remarks;
    const char *file;
};

struct submit {
    const struct arguments *arguments;
    struct arena arena;
    struct job_file job;
    struct dray_bytes graph, note;
    struct local_cluster *cluster;
    dray_t *dray;
    struct job_view view;
    struct result_sink *sink;
    struct progress *progress;
    struct lost lost;
};

// ---- options --------------------------------------------------------------------------------------

static const struct argp_option OPTIONS[] = {
    {"plugin", OPTION_PLUGIN, "FILE", 0,
     "Shared object with functions that the tasks call, for each of its workers (may be given several times)",
     1},
    {"resources", OPTION_RESOURCES, "NAME=N,...", 0,
     "What each of its workers has for the tasks' resources, as gpu=2,licence=1", 1},
    {"wait", OPTION_WAIT, NULL, 0,
     "Print the job's number, wait for its end and say how it went; its results stay, as with --detach. On a "
     "local cluster: only say how it went",
     2},
    {"detach", OPTION_DETACH, NULL, 0,
     "Print the job's number and leave: it goes on, and its results stay for `dray result` until "
     "`dray cancel` or the broker's end",
     2},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "Check the file, print its layers of tasks, and run nothing", 2},
    {"name", OPTION_NAME, "NAME", 0, "Name of the job, instead of the file's", 3},
    {"priority", 'p', "N", 0, "Before jobs of lower priority, instead of the file's (0)", 3},
    {0},
};

static void check_together(struct arguments *arguments, struct argp_state *state)
{
    bool output = arguments->results.output != NULL || arguments->results.directory != NULL;

    if (arguments->file == NULL) {
        argp_error(state, "nothing to submit: give a file, or - for standard input");
    }
    if (arguments->wait && arguments->detach) {
        argp_error(state, "--wait and --detach are opposites");
    }
    if ((arguments->wait || arguments->detach) && output) {
        argp_error(state, "--output and --directory are for results, which --wait and --detach do not print");
    }
    cluster_choice_finish(&arguments->cluster, arguments->remarks.quiet, state);
    if (arguments->detach && arguments->cluster.broker == NULL) {
        argp_error(state, "--detach needs a cluster that stays: give --broker, or set DRAY_BROKER");
    }
}

static void parse_priority(struct arguments *arguments, struct argp_state *state, const char *value)
{
    char *end = NULL;
    long number = strtol(value, &end, 10);

    if (end == value || *end != '\0' || number < INT32_MIN || number > INT32_MAX) {
        argp_error(state, "--priority: \"%s\" is not a whole number from %d to %d", value, INT32_MIN,
                   INT32_MAX);
    }
    arguments->has_priority = true;
    arguments->priority = (int32_t)number;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->cluster;
        state->child_inputs[1] = &arguments->results;
        state->child_inputs[2] = &arguments->remarks;
        return 0;
    case OPTION_PLUGIN:
        if (arguments->plugins == LOCAL_PLUGINS_MAX) {
            argp_error(state, "--plugin may be given %d times at most", LOCAL_PLUGINS_MAX);
        }
        if (access(value, R_OK) != 0) {
            argp_error(state, "--plugin: %s: %s", value, strerror(errno));
        }
        arguments->plugin[arguments->plugins++] = value;
        arguments->cluster.local.plugin = arguments->plugin;
        cluster_choice_ask(&arguments->cluster, "--plugin");
        return 0;
    case OPTION_RESOURCES:
        if (arguments->cluster.local.resources != NULL) {
            argp_error(state, "--resources is given once: NAME=N,NAME=N");
        }
        arguments->cluster.local.resources = value;
        cluster_choice_ask(&arguments->cluster, "--resources");
        return 0;
    case OPTION_WAIT:
        arguments->wait = true;
        return 0;
    case OPTION_DETACH:
        arguments->detach = true;
        return 0;
    case OPTION_DRY_RUN:
        arguments->dry_run = true;
        return 0;
    case OPTION_NAME:
        if (value[0] == '\0' || strlen(value) > JOB_NAME_MAX) {
            argp_error(state, "--name: from 1 to %d bytes", JOB_NAME_MAX);
        }
        arguments->name = value;
        return 0;
    case 'p':
        parse_priority(arguments, state, value);
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->file != NULL) {
            argp_error(state, "\"%s\" is one argument too many", value);
        }
        arguments->file = value;
        return 0;
    case ARGP_KEY_END:
        check_together(arguments, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {
    {&cluster_choice_argp, 0, NULL, 0}, {&result_sink_argp, 0, NULL, 0}, {&remarks_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "FILE | -",
    .doc =
        "Run the tasks of a file (YAML or JSON) and print their results."
        "\vThe file says what there is to do and what needs what:\n\n"
        "  tasks:\n"
        "    count:\n"
        "      params: {log: {glob: \"logs/*.log\"}}\n"
        "      command: [grep, -c, ERROR, \"{log}\"]\n"
        "      directory: .\n"
        "    sum:\n"
        "      inputs: {task: count, stdin: true}\n"
        "      shell: awk '{n += $1} END {print n}'\n\n"
        "dray-submit(1) has the whole format.  Results are those of tasks whose output no other task takes. "
        "Ctrl-C cancels the job, unless it is detached.\n\n" STATUS_HELP,
};

// ---- the file --------------------------------------------------------------------------------------

static int convert(struct submit *submit, struct error *err)
{
    const struct arguments *arguments = submit->arguments;
    struct job_file_host host;
    struct job_source source;
    int rc = job_source_read(arguments->file, &submit->arena, &source, err);

    rc = rc == 0 ? job_source_host(&submit->arena, &host, err) : rc;
    if (rc == 0) {
        rc = job_file_read(source.name, source.text, source.size,
                           document_format_of(source.name, source.text, source.size), &host, &submit->arena,
                           &submit->job, err);
    }
    if (rc == 0 && arguments->name != NULL) {
        submit->job.name = arguments->name;
    }
    if (rc == 0 && arguments->has_priority) {
        submit->job.priority = arguments->priority;
    }
    return rc;
}

// The job does not need this client, and its results are for others.
static bool stays(const struct arguments *arguments)
{
    return arguments->cluster.broker != NULL && (arguments->detach || arguments->wait);
}

static int pack(struct submit *submit, struct error *err)
{
    const Dray__Graph *graph = submit->job.graph;
    uint8_t *bytes;

    // Results that nobody is to read are not sent here.
    for (uint32_t i = 0; submit->arguments->wait && !stays(submit->arguments) && i < submit->job.tasks; i++) {
        graph->layer[i]->has_wanted = graph->layer[i]->wanted = false;
        submit->job.task[i].wanted = false;
    }
    submit->graph.size = dray__graph__get_packed_size(graph);
    bytes = arena_alloc(&submit->arena, submit->graph.size + 1);
    if (bytes == NULL) {
        return error_no_memory(err);
    }
    dray__graph__pack(graph, bytes);
    submit->graph.data = bytes;
    return job_view_note(&submit->job, &submit->arena, &submit->note, err);
}

static int dry_run(struct submit *submit)
{
    struct error err = {0};

    if (job_describe(&submit->job, stdout, &err) != 0) {
        complain(&err);
        return STATUS_USAGE;
    }
    return session_finish_stdout();
}

// ---- the job -----------------------------------------------------------------------------------------

static int connect(struct submit *submit, struct error *err)
{
    const char *endpoint = submit->arguments->cluster.broker;
    // A cluster of its own that dies is not waited for.
    const struct dray_options options = {.size = sizeof(options), .reconnect_ms = endpoint == NULL ? -1 : 0};
    int rc = 0;

    if (endpoint == NULL) {
        rc = local_cluster_start(&submit->arguments->cluster.local, &submit->cluster, err);
        endpoint = rc == 0 ? local_cluster_endpoint(submit->cluster) : NULL;
    }
    rc = rc == 0 ? client_connect(endpoint, &options, signals_fd(), &submit->dray, err) : rc;
    if (rc == 0) {
        submit->lost = (struct lost){.progress = submit->progress, .quiet = submit->arguments->remarks.quiet};
        lost_listen(&submit->lost, submit->dray);
    }
    return rc;
}

static int push(struct submit *submit, uint32_t *job, struct error *err)
{
    const struct dray_submit_options options = {
        .size = sizeof(options),
        .priority = submit->job.priority,
        .detached = stays(submit->arguments),
        .ordered = 1,
        .failures_max = submit->job.failures_max,
        .name = submit->job.name,
        .note = submit->note,
    };
    struct dray_error error = {0};
    int rc = dray_submit_graph(submit->dray, submit->graph.data, submit->graph.size, &options, job, &error);

    return rc == 0 ? 0 : error_set(err, error.code, "%s", error.text);
}

// All that is a result, in order.
static int open_sink(struct submit *submit, struct error *err)
{
    struct result_sink_options options = submit->arguments->results;
    struct job_ranges *ranges = arena_zalloc(&submit->arena, sizeof(*ranges));
    int rc = 0;

    if (ranges == NULL ||
        (ranges->range = arena_array(&submit->arena, submit->view.layers, sizeof(*ranges->range))) == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < submit->view.layers; i++) {
        if (submit->view.layer[i].wanted) {
            ranges->range[ranges->count++] =
                (struct client_range){.layer = i, .count = submit->view.layer[i].tasks};
        }
    }
    options.discard = submit->arguments->wait;
    rc = result_sink_create(&options, &submit->view, ranges, &submit->sink, err);
    return rc;
}

static int broker_status(const struct submit *submit, struct error *err)
{
    // The fd also tells of the end of what we started.
    if (signals_caught() == 0 && submit->cluster != NULL) {
        local_cluster_check(submit->cluster, LOCAL_CLUSTER_END_MS, err);
    }
    lost_tell_job(&submit->lost, submit->dray, submit->view.job != 0 ? LOST_ATTACHED : LOST_UNANSWERED,
                  submit->view.job);
    if (signals_caught() != 0) {
        return STATUS_SIGNAL + signals_caught();
    }
    complain(err);
    return STATUS_BROKER;
}

static int output_status(const struct error *err)
{
    if (err->code == EPIPE) {
        return STATUS_SIGNAL + SIGPIPE;
    }
    complain(err);
    return STATUS_OUTPUT;
}

static void say_done(const struct submit *submit, const struct job_follow *follow)
{
    uint64_t tasks = 0;

    for (uint32_t i = 0; i < submit->job.tasks; i++) {
        tasks += submit->job.graph->layer[i]->tasks;
    }
    if (!submit->arguments->remarks.quiet && submit->arguments->wait) {
        complain_text("job %u: %" PRIu64 " task%s done, %" PRIu64 " failed", submit->view.job,
                      tasks - follow->failed, tasks - follow->failed == 1 ? "" : "s", follow->failed);
    }
}

static int follow_job(struct submit *submit)
{
    struct job_follow follow = {.dray = submit->dray,
                                .view = &submit->view,
                                .sink = submit->sink,
                                .progress = submit->progress,
                                .quiet = submit->arguments->remarks.quiet,
                                .closed = submit->cluster != NULL};
    struct error err = {0}, more = {0};
    enum job_outcome outcome = job_follow_run(&follow, &err);

    if (outcome == JOB_BROKER) {
        return broker_status(submit, &err);
    }
    if (outcome == JOB_OUTPUT) {
        return output_status(&err);
    }
    // What is there of a job with failures is of use, but a file appears whole or not at all.
    if (outcome == JOB_DONE || submit->arguments->results.output == NULL) {
        if (result_sink_finish(submit->sink, &more) != 0) {
            return output_status(&more);
        }
    }
    if (err.code != 0) {
        complain(&err);
    } else {
        say_done(submit, &follow);
    }
    return outcome == JOB_DONE ? STATUS_OK : STATUS_JOB;
}

// Its results stay where they are: another connection looks how it goes.
static int wait_for_job(struct submit *submit, uint32_t job)
{
    struct session session;
    struct job_wait wait = {
        .session = &session, .progress = submit->progress, .quiet = submit->arguments->remarks.quiet};
    struct error err = {0};
    bool good = false;
    int status;
    int rc;

    dray_close(submit->dray);
    submit->dray = NULL;
    rc = session_open(&session, submit->arguments->cluster.broker, &err);
    session.lost = submit->lost;
    rc = rc == 0 ? job_wait_run(&wait, job, &good, &err) : rc;
    status = session_status(rc, &err);
    if (status > STATUS_SIGNAL && !submit->arguments->remarks.quiet) {
        complain_text("job %u goes on; `dray cancel %u` ends it", job, job);
    }
    session_close(&session);
    return status != STATUS_OK ? status : good ? STATUS_OK : STATUS_JOB;
}

static int leave_job(struct submit *submit, uint32_t job)
{
    int status;

    printf("%u\n", job);
    status = session_finish_stdout();
    return status == STATUS_OK && submit->arguments->wait ? wait_for_job(submit, job) : status;
}

static int run_job(struct submit *submit)
{
    struct error err = {0};
    uint32_t job = 0;
    int rc = pack(submit, &err);

    rc = rc == 0 ? job_view_from_file(&submit->job, 0, &submit->arena, &submit->view, &err) : rc;
    if (rc != 0) {
        complain(&err);
        return STATUS_JOB;
    }
    // What cannot be written is found out before anything runs.
    if (!stays(submit->arguments) && open_sink(submit, &err) != 0) {
        return output_status(&err);
    }
    rc = signals_init(&err);
    rc = rc == 0 ? connect(submit, &err) : rc;
    if (rc != 0) {
        return broker_status(submit, &err);
    }
    rc = push(submit, &job, &err);
    if (rc == -EINVAL) { // refused
        complain(&err);
        return STATUS_USAGE;
    }
    if (rc != 0) {
        return broker_status(submit, &err);
    }
    submit->view.job = job;
    return stays(submit->arguments) ? leave_job(submit, job) : follow_job(submit);
}

int submit_main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct submit submit = {.arguments = &arguments};
    struct error err = {0};
    int status;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    arena_init(&submit.arena, 0);
    submit.progress = progress_create(arguments.remarks.quiet ? PROGRESS_NEVER : arguments.remarks.progress);
    if (convert(&submit, &err) != 0) {
        complain(&err);
        status = STATUS_USAGE;
    } else {
        status = arguments.dry_run ? dry_run(&submit) : run_job(&submit);
    }
    progress_destroy(submit.progress);
    result_sink_destroy(submit.sink);
    if (submit.cluster != NULL) {
        client_close(submit.dray, 0);
    } else {
        dray_close(submit.dray);
    }
    local_cluster_stop(submit.cluster);
    arena_fini(&submit.arena);
    return status;
}
