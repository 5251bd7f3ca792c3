#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/listing.h"
#include "client/cli/options.h"
#include "client/cli/session.h"

struct arguments {
    const char *broker;
    enum listing_format format;
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
        argp_error(state, "\"%s\" is one argument too many", value);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {
    {&session_required_argp, 0, NULL, 0}, {&listing_format_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .parser = parse_option,
    .children = CHILDREN,
    .doc = "List the workers of a cluster. See also `dray workers retire --help`.\v" STATUS_HELP,
};

static const struct listing_column COLUMNS[] = {
    {"name", "name", false, true},
    {"threads", "threads", true, false},
    {"memory", "memory", true, false},
    {"in use", "memory_used", true, false},
    {"rss", "rss", true, false},
    {"running", "running", true, false},
    {"queued", "queued", true, false},
    {"partitions", "partitions", true, false},
    {"damaged", "damaged", true, false},
    {"files", "own_files", false, false},
    {"resources", "resources", false, true},
    {"labels", "labels", false, true},
    {"state", "leaving", false, false},
};

static void add_size(struct listing *listing, uint64_t bytes)
{
    char shown[24];

    listing_size(bytes, shown);
    listing_number(listing, (double)bytes, shown);
}

static int add_resources(struct listing *listing, const Dray__WorkerInfo *worker, struct arena *arena)
{
    char **text = arena_array(arena, worker->n_resource + 1, sizeof(*text));

    for (size_t i = 0; text != NULL && i < worker->n_resource; i++) {
        text[i] = arena_printf(arena, "%s=%u", worker->resource[i]->name, worker->resource[i]->amount);
        if (text[i] == NULL) {
            text = NULL;
        }
    }
    if (text == NULL) {
        return -ENOMEM;
    }
    listing_texts(listing, text, worker->n_resource);
    return 0;
}

static int add_worker(struct listing *listing, const Dray__WorkerInfo *worker, struct arena *arena)
{
    int rc;

    listing_text(listing, worker->name);
    listing_number(listing, worker->threads, NULL);
    add_size(listing, worker->memory);
    add_size(listing, worker->memory_used);
    add_size(listing, worker->rss);
    listing_number(listing, worker->running, NULL);
    listing_number(listing, worker->queued, NULL);
    listing_number(listing, (double)worker->partitions, NULL);
    listing_number(listing, (double)worker->damaged, NULL);
    listing_bool(listing, worker->data_dirs, worker->data_dirs ? "its own" : "shared");
    rc = add_resources(listing, worker, arena);
    listing_texts(listing, worker->label, worker->n_label);
    listing_bool(listing, worker->leaving, worker->leaving ? "leaving" : "");
    return rc;
}

static void print_totals(const Dray__Cluster *cluster)
{
    char shown[24];

    printf("%zu worker%s, %u job%s, %u client%s", cluster->n_worker, cluster->n_worker == 1 ? "" : "s",
           cluster->jobs, cluster->jobs == 1 ? "" : "s", cluster->clients, cluster->clients == 1 ? "" : "s");
    if (cluster->recomputed > 0) {
        printf(", %" PRIu64 " task%s run again for what was lost", cluster->recomputed,
               cluster->recomputed == 1 ? "" : "s");
    }
    if (cluster->handed_over > 0) {
        printf(", %" PRIu64 " partition%s handed over by workers that left", cluster->handed_over,
               cluster->handed_over == 1 ? "" : "s");
    }
    if (cluster->second_runs > 0) {
        printf(", %" PRIu64 " run twice since %s took long", cluster->second_runs,
               cluster->second_runs == 1 ? "it" : "they");
    }
    if (cluster->relayed > 0) {
        listing_size(cluster->relayed, shown);
        printf(", %s passed on by the broker between those that cannot reach one another", shown);
    }
    putchar('\n');
}

static void print_totals_json(const Dray__Cluster *cluster)
{
    printf(",\n\"totals\": {\"workers\": %zu, \"jobs\": %u, \"clients\": %u, \"recomputed\": %" PRIu64
           ", \"handed_over\": %" PRIu64 ", \"second_runs\": %" PRIu64 ", \"relayed\": %" PRIu64
           ", \"broker_cpu_us\": %" PRIu64 ", \"broker_core_us\": %" PRIu64 "}}\n",
           cluster->n_worker, cluster->jobs, cluster->clients, cluster->recomputed, cluster->handed_over,
           cluster->second_runs, cluster->relayed, cluster->cpu_us, cluster->core_us);
}

static int print_cluster(const Dray__Cluster *cluster, enum listing_format format, struct arena *arena,
                         struct error *err)
{
    struct listing *listing = listing_create(COLUMNS, sizeof(COLUMNS) / sizeof(COLUMNS[0]));
    int rc = listing == NULL ? -ENOMEM : 0;

    for (size_t i = 0; rc == 0 && i < cluster->n_worker; i++) {
        rc = add_worker(listing, cluster->worker[i], arena);
    }
    if (rc == 0 && format == LISTING_JSON) {
        fputs("{\"workers\": ", stdout);
    }
    rc = rc == 0 ? listing_print(listing, format, listing_terminal(stdout), stdout, err)
                 : error_no_memory(err);
    listing_destroy(listing);
    if (rc == 0 && format == LISTING_JSON) {
        print_totals_json(cluster);
    } else if (rc == 0) {
        print_totals(cluster);
    }
    return rc;
}

int workers_main(int argc, char **argv)
{
    struct arguments arguments = {0};
    const Dray__Cluster *cluster;
    struct session session;
    struct error err = {0};
    int status;
    int rc;

    if (argc > 1 && strcmp(argv[1], "retire") == 0) {
        return retire_main(argc - 1, argv + 1);
    }
    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    rc = session_open(&session, arguments.broker, &err);
    rc = rc == 0 ? client_cluster(session.dray, &session.arena, &cluster, &err) : rc;
    rc = rc == 0 ? print_cluster(cluster, arguments.format, &session.arena, &err) : rc;
    status = session_status(rc, &err);
    session_close(&session);
    return status != STATUS_OK ? status : session_finish_stdout();
}
