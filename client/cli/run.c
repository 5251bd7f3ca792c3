#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/lost.h"
#include "client/cli/options.h"
#include "client/cli/script_value.h"
#include "client/cli/signals.h"
#include "client/cli/source_text.h"
#include "client/lib/client.h"
#include "client/lib/query_run.h"

enum {
    OPTION_EXPLAIN = 0x100,
    OPTION_DETACH,
    OPTION_WAIT,
    OPTION_PROGRESS,
    WAIT_MS = 30000,
    JOB_NAME_MAX = 64,
};

struct arguments {
    struct cluster_choice cluster;
    enum print_format format;
    const char *output;
    bool explain;
    bool detach;
    bool printed; // an option that is about what is printed
    uint32_t wait_ms;
    struct remarks remarks;
    const char *script;
};

struct run {
    const struct arguments *arguments;
    struct local_cluster *cluster;
    dray_t *dray;
    struct script_value value;
    struct progress *progress;
    struct lost lost;
};

// ---- options ------------------------------------------------------------------------------

static const struct argp_option OPTIONS[] = {
    {"format", 'f', "FORMAT", 0, "table (as pandas prints it, the default), csv or json", 2},
    {"output", 'o', "FILE", 0, "Write the result there, whole or not at all; - is standard output", 2},
    {"explain", OPTION_EXPLAIN, NULL, 0,
     "Print the plan before and after optimisation and the layers of tasks, and run nothing", 2},
    {"detach", OPTION_DETACH, NULL, 0,
     "Print the number of the job and leave: it goes on by itself (dray wait JOB), and dray result JOB "
     "prints "
     "the value",
     2},
    {"wait", OPTION_WAIT, "SECONDS", 0, "Wait so long for a worker when none is connected (30)", 3},
    {0},
};

static void check_together(struct arguments *arguments, struct argp_state *state)
{
    if (arguments->script == NULL) {
        argp_error(state, "nothing to run: give an expression, a file or -");
    }
    cluster_choice_finish(&arguments->cluster, arguments->remarks.quiet, state);
    if (arguments->detach && arguments->cluster.broker == NULL) {
        argp_error(state, "--detach: a cluster for this command alone ends with it: give --broker");
    }
    if (arguments->detach && (arguments->printed || arguments->explain)) {
        argp_error(state,
                   "--detach prints the number of the job only: give --output and --format to dray result");
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    struct error err = {0};

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->cluster;
        state->child_inputs[1] = &arguments->remarks;
        return 0;
    case 'f':
        if (print_format_parse(value, &arguments->format, &err) != 0) {
            argp_error(state, "--format: %s", err.text);
        }
        arguments->printed = true;
        return 0;
    case 'o':
        if (value[0] == '\0') {
            argp_error(state, "--output is the name of a file, or - for standard output");
        }
        arguments->output = value;
        arguments->printed = true;
        return 0;
    case OPTION_DETACH:
        arguments->detach = true;
        return 0;
    case OPTION_EXPLAIN:
        arguments->explain = true;
        return 0;
    case OPTION_WAIT:
        if (seconds_parse(value, &arguments->wait_ms, &err) != 0) {
            argp_error(state, "--wait: %s", err.text);
        }
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->script != NULL) {
            argp_error(state, "\"%s\" is one argument too many: put the expression in quotes", value);
        }
        arguments->script = value;
        return 0;
    case ARGP_KEY_END:
        check_together(arguments, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {
    {&cluster_choice_argp, 0, NULL, 0}, {&remarks_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "EXPRESSION | FILE | -",
    .doc =
        "Run a script and print its value."
        "\vAn argument that ends in .dray or is the path of a file is read as a script, - is standard input, "
        "anything else is an expression:\n\n"
        "  dray run 'read_csv(\"sales.csv\").groupby(\"category\")[\"price\"].mean()'\n\n" STATUS_HELP,
};

// ---- what the query needs from outside -------------------------------------------------------

static int start(void *context, dray_t **out, struct error *err)
{
    struct run *run = context;
    const struct arguments *arguments = run->arguments;
    const char *endpoint = arguments->cluster.broker;
    // A cluster of its own that dies is not waited for.
    const struct dray_options options = {.size = sizeof(options), .reconnect_ms = endpoint == NULL ? -1 : 0};
    int rc = 0;

    if (endpoint == NULL) {
        rc = local_cluster_start(&arguments->cluster.local, &run->cluster, err);
        endpoint = rc == 0 ? local_cluster_endpoint(run->cluster) : NULL;
    }
    if (rc == 0) {
        rc = client_connect(endpoint, &options, signals_fd(), &run->dray, err);
    }
    if (rc == 0) {
        run->lost = (struct lost){.progress = run->progress, .quiet = arguments->remarks.quiet};
        lost_listen(&run->lost, run->dray);
    }
    *out = run->dray;
    return rc;
}

// ---- the whole ---------------------------------------------------------------------------------

// The first line of it, for `dray jobs`.
static void name_job(const char *script, const struct source_text *text, char out[JOB_NAME_MAX])
{
    const char *from = strcmp(script, "-") == 0 || access(script, F_OK) == 0 ? text->name : text->text;
    size_t size = strcspn(from, "\n");

    snprintf(out, JOB_NAME_MAX, "%.*s%s", (int)(size < JOB_NAME_MAX - 4 ? size : JOB_NAME_MAX - 4), from,
             size < JOB_NAME_MAX - 4 ? "" : "...");
}

// Its first round goes on without us.
static int leave(struct run *run, struct query_run *query, enum query_outcome *outcome, struct error *err)
{
    uint32_t job;
    int rc;

    if (!query_needs_graph(query_run_query(query))) {
        *outcome = QUERY_SCRIPT;
        return error_set(
            err, EINVAL,
            "--detach: the value of this script is known without a job: run it without --detach");
    }
    rc = query_run_leave(query, &job, outcome, err);
    progress_clear(run->progress);
    if (rc == 0 && (printf("%" PRIu32 "\n", job) < 0 || fflush(stdout) != 0)) {
        *outcome = QUERY_OUTPUT;
        rc = error_set(err, errno, "cannot write standard output: %s", strerror(errno));
    }
    return rc;
}

static int execute(struct run *run, const struct source_text *text, enum query_outcome *outcome,
                   struct error *err)
{
    const struct arguments *arguments = run->arguments;
    struct query_run_host host = script_value_host(&run->value);
    struct query_run *query = NULL;
    char name[JOB_NAME_MAX];
    int rc;

    name_job(arguments->script, text, name);
    host.shared_files = arguments->cluster.broker == NULL;
    host.job_name = name;
    if (arguments->cluster.broker == NULL) {
        host.waiting = NULL; // workers of its own are on their way
    }
    rc = query_run_create(text->text, text->size, text->name, &host, &query, outcome, err);
    if (rc == 0 && arguments->explain) {
        *outcome = QUERY_OUTPUT;
        rc = script_value_explain(&run->value, query, err);
    } else if (rc == 0 && arguments->detach) {
        rc = leave(run, query, outcome, err);
    } else if (rc == 0) {
        rc = script_value_print(&run->value, query, outcome, err);
    }
    *outcome = rc == 0 ? QUERY_OK : *outcome;
    if (rc != 0) {
        uint32_t job = query != NULL ? query_run_job(query) : 0;

        lost_tell_job(&run->lost, run->dray,
                      query == NULL ? LOST_NONE
                      : job != 0    ? LOST_ATTACHED
                                    : LOST_UNANSWERED,
                      job);
    }
    query_run_destroy(query);
    return rc;
}

static int status_of(const struct run *run, enum query_outcome outcome, struct error *err)
{
    // The fd also tells of the end of what we started.
    if ((outcome == QUERY_BROKER || outcome == QUERY_INTERRUPTED) && signals_caught() == 0 &&
        run->cluster != NULL) {
        local_cluster_check(run->cluster, LOCAL_CLUSTER_END_MS, err);
    }
    return script_value_status(outcome, err);
}

static int run_script(struct run *run, const struct source_text *text)
{
    enum query_outcome outcome = QUERY_OUTPUT;
    struct error err = {0};
    int rc = signals_init(&err);
    int status;

    if (rc == 0) {
        rc = script_value_init(&run->value, &err);
    }
    if (rc == 0) {
        rc = execute(run, text, &outcome, &err);
    }
    status = rc == 0 ? STATUS_OK : status_of(run, outcome, &err);
    progress_destroy(run->progress);
    // Signals are said by the status, a closed pipe was meant so.
    if (rc != 0 && status < STATUS_SIGNAL) {
        complain(&err);
    }
    script_value_fini(&run->value);
    if (run->cluster != NULL) {
        client_close(run->dray, 0); // its broker goes as well
    } else {
        dray_close(run->dray);
    }
    local_cluster_stop(run->cluster);
    return status;
}

int run_main(int argc, char **argv)
{
    struct arguments arguments = {.wait_ms = WAIT_MS, .format = PRINT_TABLE};
    struct run run = {.arguments = &arguments};
    struct source_text text = {0};
    struct error err = {0};
    int status;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    if (source_text_read(arguments.script, &text, &err) != 0) {
        complain(&err);
        return STATUS_USAGE;
    }
    run.progress = progress_create(arguments.remarks.quiet ? PROGRESS_NEVER : arguments.remarks.progress);
    run.value = (struct script_value){.format = arguments.format,
                                      .path = arguments.output,
                                      .quiet = arguments.remarks.quiet,
                                      .wait_ms = arguments.wait_ms,
                                      .progress = run.progress,
                                      .owner = &run,
                                      .connect = start};
    status = run_script(&run, &text);
    source_text_fini(&text);
    return status;
}
