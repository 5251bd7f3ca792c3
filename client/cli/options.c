#include "client/cli/options.h"

#include <stdlib.h>

#include "client/cli/command.h"
#include "client/cli/listing.h"
#include "client/cli/result_sink.h"
#include "client/lang/quantity.h"

enum {
    OPTION_PROGRESS = 0x1000,
    // What dray-worker takes: nothing is started that would refuse.
    WORKERS_MAX = 1024,
    THREADS_MAX = 1024,
    MEMORY_MIN = 16 << 20,
};

// ---- which cluster ---------------------------------------------------------------------------

static const struct argp_option CLUSTER_OPTIONS[] = {
    {"broker", 'b', "ENDPOINT", 0,
     "Use the cluster of the broker at tcp://HOST:PORT or ipc://PATH (default: $DRAY_BROKER; when "
     "that is not set either, a cluster of child processes for this command alone)",
     GROUP_CLUSTER},
    {"workers", 'w', "N", 0, "Worker processes of a local cluster (1)", GROUP_LOCAL},
    {"threads", 't', "N", 0, "Threads of each of its workers (the processors over the workers)", GROUP_LOCAL},
    {"memory", 'm', "SIZE", 0,
     "Memory of each of its workers: 256M, 1.5G, 64MB, 16MiB (half of the machine's over the workers)",
     GROUP_LOCAL},
    {0},
};

void cluster_choice_ask(struct cluster_choice *choice, const char *option)
{
    if (choice->asked == NULL) {
        choice->asked = option;
    }
}

static error_t parse_cluster(int key, char *value, struct argp_state *state)
{
    struct cluster_choice *choice = state->input;
    struct error err = {0};
    const char *option;
    int rc;

    switch (key) {
    case 'b':
        choice->broker = value;
        return 0;
    case 'w':
        option = "--workers";
        rc = count_parse(value, WORKERS_MAX, &choice->local.workers, &err);
        break;
    case 't':
        option = "--threads";
        rc = count_parse(value, THREADS_MAX, &choice->local.threads, &err);
        break;
    case 'm':
        option = "--memory";
        rc = size_parse(value, &choice->local.memory, &err);
        if (rc == 0 && choice->local.memory < MEMORY_MIN) {
            rc = error_set(&err, EINVAL, "%s is too little: a worker needs %d MB at least", value,
                           MEMORY_MIN >> 20);
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (rc != 0) {
        argp_error(state, "%s: %s", option, err.text);
    }
    cluster_choice_ask(choice, option);
    return 0;
}

const struct argp cluster_choice_argp = {.options = CLUSTER_OPTIONS, .parser = parse_cluster};

void cluster_choice_finish(struct cluster_choice *choice, bool quiet, struct argp_state *state)
{
    const char *environment = getenv("DRAY_BROKER");
    const char *from = "--broker";
    struct error err = {0};

    if (choice->broker != NULL && choice->asked != NULL) {
        argp_error(state,
                   "%s is for a local cluster: not together with --broker, whose workers have their own",
                   choice->asked);
    }
    if (choice->broker == NULL && environment != NULL && environment[0] != '\0') {
        if (choice->asked == NULL) {
            choice->broker = environment;
            from = "DRAY_BROKER";
        } else if (!quiet) {
            complain_text("a cluster for this command alone, as %s says, not that of DRAY_BROKER (%.200s)",
                          choice->asked, environment);
        }
    }
    if (choice->broker != NULL && endpoint_check(choice->broker, &err) != 0) {
        argp_error(state, "%s: %s", from, err.text);
    }
}

// ---- what is printed, and how ----------------------------------------------------------------

static const struct argp_option LISTING_OPTIONS[] = {
    {"format", 'f', "FORMAT", 0, "table (the default) or json", GROUP_LOCAL},
    {0},
};

static error_t parse_listing(int key, char *value, struct argp_state *state)
{
    struct error err = {0};

    if (key != 'f') {
        return ARGP_ERR_UNKNOWN;
    }
    if (listing_format_parse(value, state->input, &err) != 0) {
        argp_error(state, "--format: %s", err.text);
    }
    return 0;
}

const struct argp listing_format_argp = {.options = LISTING_OPTIONS, .parser = parse_listing};

static const struct argp_option RESULT_OPTIONS[] = {
    {"output", 'o', "FILE", 0, "Write the results there, one after another, whole or not at all",
     GROUP_RESULTS},
    {"directory", 'd', "DIR", 0, "Write each result into a file of its own there: DIR/TASK or DIR/TASK.INDEX",
     GROUP_RESULTS},
    {"format", 'f', "FORMAT", 0, "Of results that are tables: table (the default), csv or json",
     GROUP_RESULTS},
    {0},
};

static error_t parse_result(int key, char *value, struct argp_state *state)
{
    struct result_sink_options *results = state->input;
    struct error err = {0};

    switch (key) {
    case 'o':
        if (value[0] == '\0') {
            argp_error(state, "--output is the name of a file, or - for standard output");
        }
        results->output = value;
        return 0;
    case 'd':
        if (value[0] == '\0') {
            argp_error(state, "--directory is the name of a folder");
        }
        results->directory = value;
        return 0;
    case 'f':
        if (print_format_parse(value, &results->format, &err) != 0) {
            argp_error(state, "--format: %s", err.text);
        }
        return 0;
    case ARGP_KEY_END:
        if (results->output != NULL && results->directory != NULL) {
            argp_error(state, "--output or --directory, not both");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp result_sink_argp = {.options = RESULT_OPTIONS, .parser = parse_result};

static const struct argp_option REMARK_OPTIONS[] = {
    {"progress", OPTION_PROGRESS, "WHEN", 0, "auto (on a terminal, the default), never or always",
     GROUP_REMARKS},
    {"quiet", 'q', NULL, 0, "No progress and no remarks on standard error, errors only", GROUP_REMARKS},
    {0},
};

static error_t parse_remark(int key, char *value, struct argp_state *state)
{
    struct remarks *remarks = state->input;
    struct error err = {0};

    switch (key) {
    case OPTION_PROGRESS:
        if (progress_mode_parse(value, &remarks->progress, &err) != 0) {
            argp_error(state, "--progress: %s", err.text);
        }
        return 0;
    case 'q':
        remarks->quiet = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp remarks_argp = {.options = REMARK_OPTIONS, .parser = parse_remark};
