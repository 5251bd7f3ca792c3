#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/signals.h"
#include "client/lib/client.h"

struct arguments {
    const char *broker;
};

static const struct argp_option OPTIONS[] = {
    {"broker", 'b', "ENDPOINT", 0, "The broker at tcp://HOST:PORT or ipc://PATH (default: $DRAY_BROKER)", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    struct error err = {0};

    switch (key) {
    case 'b':
        arguments->broker = value;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is one argument too many", value);
        return 0;
    case ARGP_KEY_END:
        if (arguments->broker == NULL) {
            arguments->broker = getenv("DRAY_BROKER");
        }
        if (arguments->broker == NULL || arguments->broker[0] == '\0') {
            argp_error(state, "which cluster? Give --broker, or set DRAY_BROKER");
        }
        if (endpoint_check(arguments->broker, &err) != 0) {
            argp_error(state, "%s", err.text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .doc = "List the workers of a cluster.\v" STATUS_HELP,
};

static void print_size(uint64_t bytes, char out[24])
{
    static const char *const unit[] = {"B", "K", "M", "G", "T"};
    double value = (double)bytes;
    size_t i = 0;

    while (value >= 1023.5 && i + 1 < sizeof(unit) / sizeof(unit[0])) {
        value /= 1024;
        i++;
    }
    snprintf(out, 24, i == 0 || value >= 99.95 ? "%.0f%s" : "%.1f%s", value, unit[i]);
}

static int print_cluster(const Dray__Cluster *cluster)
{
    int width = (int)strlen("name");

    for (size_t i = 0; i < cluster->n_worker; i++) {
        int size = (int)strnlen(cluster->worker[i]->name, 60);

        width = size > width ? size : width;
    }
    printf("%-*s  threads    memory  in use       rss  running  queued  partitions  files\n", width, "name");
    for (size_t i = 0; i < cluster->n_worker; i++) {
        const Dray__WorkerInfo *worker = cluster->worker[i];
        char memory[24], used[24], rss[24];

        print_size(worker->memory, memory);
        print_size(worker->memory_used, used);
        print_size(worker->rss, rss);
        printf("%-*s  %7u  %8s  %6s  %8s  %7u  %6u  %10" PRIu64 "  %s\n", width, worker->name,
               worker->threads, memory, used, rss, worker->running, worker->queued, worker->partitions,
               worker->data_dirs ? "its own" : "shared");
    }
    printf("%zu worker%s, %u job%s, %u client%s\n", cluster->n_worker, cluster->n_worker == 1 ? "" : "s",
           cluster->jobs, cluster->jobs == 1 ? "" : "s", cluster->clients, cluster->clients == 1 ? "" : "s");
    return fflush(stdout) != 0 || stdout_was_closed() ? STATUS_OUTPUT : STATUS_OK;
}

int workers_main(int argc, char **argv)
{
    const struct dray_options options = {.size = sizeof(options)};
    struct arguments arguments = {0};
    const Dray__Cluster *cluster;
    struct error err = {0};
    struct arena arena;
    dray_t *dray = NULL;
    int status = STATUS_BROKER;
    int rc;

    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    arena_init(&arena, 0);
    rc = signals_init(&err);
    if (rc == 0) {
        rc = client_connect(arguments.broker, &options, signals_fd(), &dray, &err);
    }
    if (rc == 0) {
        rc = client_cluster(dray, &arena, &cluster, &err);
    }
    if (rc == 0) {
        status = print_cluster(cluster);
    } else if (signals_caught() != 0) {
        status = STATUS_SIGNAL + signals_caught();
    } else {
        complain(&err);
    }
    dray_close(dray);
    arena_fini(&arena);
    return status;
}
