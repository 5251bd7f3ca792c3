// Many small tasks, end to end: a cluster of real processes over tcp for each run.
#include "bench/pool.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/journal_size.h"
#include "client/lib/client.h"

static const struct pool_pattern patterns[] = {
    {"trivial", 1000000, pool_trivial, "one graph of independent tasks, all results taken"},
    {"chain", 100000, pool_chain, "each needs the one before it"},
    {"tree", 65536, pool_tree, "so many leaves, then pairs, down to one"},
    {"stencil", 100000, pool_stencil, "rows of --width; each needs three of the row before"},
    {"explicit", 1000000, pool_explicit, "each needs three random earlier ones, all results taken"},
    {"map", 100000, pool_map, "submitted one by one, all results taken"},
    {"release", 1000000, pool_release, "the same, and then let go of in random order, in 11 s"},
    {"latency", 5000, pool_latency, "one at a time: submitted, its result taken"},
    {"plugin", 200000, pool_plugin, "a plugin's function in the workers' child processes"},
    {"command", 5000, pool_command, "/bin/true"},
    {"start", 9, pool_start, "so many clusters, started and ended"},
};
enum { PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

// ---- what all patterns need ---------------------------------------------------------------------

void pool_figures_init(struct pool_figures *figures)
{
    *figures = (struct pool_figures){.seconds = NAN,
                                     .p50_us = NAN,
                                     .p99_us = NAN,
                                     .first_ms = NAN,
                                     .pack_ms = NAN,
                                     .push_ms = NAN,
                                     .start_ms = NAN,
                                     .broker_bytes = NAN,
                                     .broker_cpu_us = NAN,
                                     .worker_cpu_us = NAN,
                                     .client_cpu_us = NAN,
                                     .broker_peak_mb = NAN,
                                     .workers_peak_mb = NAN,
                                     .ran_more = NAN,
                                     .journal_bytes = NAN,
                                     .written_bytes = NAN,
                                     .journal_most_bytes = NAN};
}

int pool_connect(struct pool_cluster *cluster, struct error *err)
{
    struct dray_error error = {0};
    int rc;

    dray_close(cluster->dray);
    cluster->dray = NULL;
    rc = dray_connect(cluster_endpoint(cluster->cluster), NULL, &cluster->dray, &error);
    return rc == 0 ? 0 : error_set(err, -rc, "%s", error.text);
}

int pool_cluster_create(const struct pool_options *options, uint32_t workers, struct pool_cluster *out,
                        struct error *err)
{
    struct cluster_options cluster_options = {
        .workers = workers, .option = out->option, .state = options->state};
    int rc;

    memset(out, 0, sizeof(*out));
    out->state = options->state;
    out->option[0] = options->plugin != NULL ? "--plugin" : NULL;
    out->option[1] = options->plugin;
    rc = cluster_create(&cluster_options, &out->cluster, err);
    if (rc != 0) {
        return rc;
    }
    rc = pool_connect(out, err);
    if (rc == 0 && workers > 0) {
        rc = cluster_await_workers(out->cluster, out->dray, err);
    }
    if (rc != 0) {
        pool_cluster_destroy(out);
    }
    return rc;
}

void pool_cluster_destroy(struct pool_cluster *cluster)
{
    dray_close(cluster->dray);
    cluster_destroy(cluster->cluster);
    memset(cluster, 0, sizeof(*cluster));
}

void pool_begin(struct pool_cluster *cluster)
{
    cluster->journal_before = cluster->state != NULL ? journal_size(cluster->state) : 0;
    cluster_use(cluster->cluster, &cluster->before);
}

void pool_end(const struct pool_cluster *cluster, uint64_t tasks, struct pool_figures *figures)
{
    struct cluster_use after;

    cluster_use(cluster->cluster, &after);
    figures->broker_cpu_us = (double)(after.broker_ns - cluster->before.broker_ns) / 1e3 / (double)tasks;
    figures->worker_cpu_us = (double)(after.workers_ns - cluster->before.workers_ns) / 1e3 / (double)tasks;
    figures->client_cpu_us = (double)(after.client_ns - cluster->before.client_ns) / 1e3 / (double)tasks;
    figures->broker_peak_mb = (double)after.broker_peak / 1e6;
    figures->workers_peak_mb = (double)after.workers_peak / 1e6;
}

int pool_count_runs(const struct pool_cluster *cluster, uint64_t runs, struct pool_figures *figures,
                    struct error *err)
{
    uint64_t ran;
    int rc = cluster_ran(cluster->dray, runs, &ran, err);

    if (rc != 0) {
        return rc;
    }
    if (ran < runs) {
        return error_set(err, EBADMSG, "the workers ran %llu tasks, %llu were to run",
                         (unsigned long long)ran, (unsigned long long)runs);
    }
    figures->ran_more = (double)(ran - runs);
    if (cluster->state != NULL) { // by now all of it is written
        struct cluster_use after;

        cluster_use(cluster->cluster, &after);
        figures->journal_bytes =
            ((double)journal_size(cluster->state) - (double)cluster->journal_before) / (double)runs;
        figures->written_bytes =
            (double)(after.broker_written - cluster->before.broker_written) / (double)runs;
    }
    return 0;
}

int pool_by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

// ---- print ------------------------------------------------------------------------------------

static void print_json(const struct pool_options *options, const struct pool_figures *f)
{
    const struct {
        const char *name;
        double value;
        int digits;
    } rest[] = {
        {"p50_us", f->p50_us, 1},
        {"p99_us", f->p99_us, 1},
        {"first_result_ms", f->first_ms, 2},
        {"pack_ms", f->pack_ms, 2},
        {"push_ms", f->push_ms, 2},
        {"start_ms", f->start_ms, 1},
        {"broker_bytes_per_task", f->broker_bytes, 1},
        {"broker_cpu_us_per_task", f->broker_cpu_us, 4},
        {"worker_cpu_us_per_task", f->worker_cpu_us, 4},
        {"client_cpu_us_per_task", f->client_cpu_us, 4},
        {"broker_peak_mb", f->broker_peak_mb, 1},
        {"workers_peak_mb", f->workers_peak_mb, 1},
        {"ran_more_than_once", f->ran_more, 0},
        {"journal_bytes_per_task", f->journal_bytes, 3},
        {"written_bytes_per_task", f->written_bytes, 3},
        {"journal_most_bytes_per_task", f->journal_most_bytes, 3},
    };

    printf("{\"pattern\": \"%s\", \"workers\": %u, \"tasks\": %llu, \"seconds\": %.6f, \"tasks_per_s\": %.1f",
           options->pattern, options->workers, (unsigned long long)f->tasks, f->seconds,
           (double)f->tasks / f->seconds);
    for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++) {
        if (!isnan(rest[i].value)) {
            printf(", \"%s\": %.*f", rest[i].name, rest[i].digits, rest[i].value);
        }
    }
    puts("}");
}

static void print_table(const struct pool_options *options, const struct pool_figures *f)
{
    const struct {
        const char *name;
        double value;
        const char *unit;
    } rest[] = {
        {"a task's result, median", f->p50_us, "us"},
        {"a task's result, 99 %", f->p99_us, "us"},
        {"first result", f->first_ms, "ms"},
        {"graph packed", f->pack_ms, "ms"},
        {"graph pushed and accepted", f->push_ms, "ms"},
        {"cluster started", f->start_ms, "ms"},
        {"broker's memory, a waiting task", f->broker_bytes, "bytes"},
        {"broker's processor time", f->broker_cpu_us, "us a task"},
        {"workers' processor time", f->worker_cpu_us, "us a task"},
        {"client's processor time", f->client_cpu_us, "us a task"},
        {"broker's peak memory", f->broker_peak_mb, "MB"},
        {"workers' peak memory", f->workers_peak_mb, "MB"},
        {"tasks that ran more than once", f->ran_more, ""},
        {"journal in the end", f->journal_bytes, "bytes a task"},
        {"journal at its largest", f->journal_most_bytes, "bytes a task"},
        {"written by the broker", f->written_bytes, "bytes a task"},
    };

    printf("%s: %llu tasks, %u workers of one thread\n", options->pattern, (unsigned long long)f->tasks,
           options->workers);
    printf("  %-32s %14.3f s\n  %-32s %14.0f a second\n", "time", f->seconds, "tasks",
           (double)f->tasks / f->seconds);
    for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++) {
        if (!isnan(rest[i].value)) {
            printf("  %-32s %14.3f %s\n", rest[i].name, rest[i].value, rest[i].unit);
        }
    }
}

// ---- options ------------------------------------------------------------------------------------

static void usage(FILE *out)
{
    fputs("usage: dray-bench pool --pattern PATTERN [OPTION...]\n"
          "Starts a broker and workers of one thread each over tcp, runs many small tasks, checks every "
          "result.\n\n"
          "  --tasks N       how many, by default:\n",
          out);
    for (size_t i = 0; i < PATTERNS; i++) {
        fprintf(out, "      %-10s %9u  %s\n", patterns[i].name, patterns[i].tasks, patterns[i].help);
    }
    fputs(
        "  --workers N     worker processes (2)\n"
        "  --width N       tasks of a row of the stencil (1000)\n"
        "  --plugin FILE   shared object with the function of the plugin pattern (bench.so beside this "
        "program)\n"
        "  --state DIR     the broker keeps a journal there\n"
        "  --durability N  what the journal costs: N runs without and N with one in turn, medians, and the\n"
        "                  medians of their ratios (folders are made below --state, $TMPDIR or /tmp)\n"
        "  --waiting-only  measure only what waiting tasks cost the broker, and the push\n"
        "  --no-waiting    leave out what waiting tasks cost the broker\n"
        "  --format F      json (one object, the default) or table\n",
        out);
}

static bool parse_number(const char *text, uint32_t most, uint32_t *out)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < 1 || value > most) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static const struct pool_pattern *find_pattern(const char *name)
{
    for (size_t i = 0; i < PATTERNS; i++) {
        if (name != NULL && strcmp(patterns[i].name, name) == 0) {
            return &patterns[i];
        }
    }
    return NULL;
}

static int wrong(const char *text)
{
    fprintf(stderr, "dray-bench pool: %s; see dray-bench pool --help\n", text);
    return 2;
}

static char plugin_path[PATH_MAX + 16];

static const char *default_plugin(void)
{
    ssize_t n = readlink("/proc/self/exe", plugin_path, PATH_MAX - 1);
    char *slash;

    plugin_path[n > 0 ? n : 0] = '\0';
    slash = strrchr(plugin_path, '/');
    if (slash == NULL) {
        return NULL;
    }
    memcpy(slash + 1, "bench.so", sizeof("bench.so"));
    return plugin_path;
}

int bench_pool(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"pattern", required_argument, NULL, 'p'}, {"tasks", required_argument, NULL, 'n'},
        {"workers", required_argument, NULL, 'w'}, {"width", required_argument, NULL, 'i'},
        {"plugin", required_argument, NULL, 'l'},  {"no-waiting", no_argument, NULL, 'o'},
        {"state", required_argument, NULL, 's'},   {"durability", required_argument, NULL, 'd'},
        {"waiting-only", no_argument, NULL, 'a'},  {"format", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    struct pool_options options = {.workers = 2, .width = 1000, .waiting = true, .running = true};
    struct pool_figures figures;
    const struct pool_pattern *pattern;
    struct error err = {0};
    bool as_table = false;
    uint32_t pairs = 0;
    int c, rc;

    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        bool fine = true;

        switch (c) {
        case 'p':
            options.pattern = optarg;
            break;
        case 'n':
            fine = parse_number(optarg, 100000000, &options.tasks);
            break;
        case 'w':
            fine = parse_number(optarg, 64, &options.workers);
            break;
        case 'i':
            fine = parse_number(optarg, 10000000, &options.width);
            break;
        case 'l':
            options.plugin = optarg;
            break;
        case 's':
            options.state = optarg;
            break;
        case 'd':
            fine = parse_number(optarg, 1000, &pairs);
            break;
        case 'o':
            options.waiting = false;
            break;
        case 'a':
            options.running = false;
            break;
        case 'f':
            as_table = strcmp(optarg, "table") == 0;
            fine = as_table || strcmp(optarg, "json") == 0;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            return wrong("no such option");
        }
        if (!fine) {
            return wrong("a number or a format cannot be");
        }
    }
    pattern = find_pattern(options.pattern);
    if (pattern == NULL || optind < argc) {
        return wrong(options.pattern == NULL ? "--pattern says what to run" : "there is no such pattern");
    }
    options.tasks = options.tasks > 0 ? options.tasks : pattern->tasks;
    if (pattern->run == pool_plugin && options.plugin == NULL) {
        options.plugin = default_plugin();
    }
    if (pattern->run != pool_plugin) {
        options.plugin = NULL;
    }
    if (pairs > 0) {
        options.waiting = false;
        rc = pool_durability(pattern, &options, pairs, as_table, &err);
    } else {
        pool_figures_init(&figures);
        rc = pattern->run(&options, &figures, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "dray-bench pool: %s: %s\n", pattern->name, err.text);
        return 1;
    }
    if (pairs > 0) {
        return 0;
    }
    if (as_table) {
        print_table(&options, &figures);
    } else {
        print_json(&options, &figures);
    }
    return 0;
}
