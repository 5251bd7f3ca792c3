// What a journal costs: a pattern without one and with one in turn, in one run.
#include "bench/pool.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, OPEN_FOLDERS = 8 };

static int remove_one(const char *path, const struct stat *of, int kind, struct FTW *walk)
{
    (void)of;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int run_one(const struct pool_pattern *pattern, const struct pool_options *options, const char *parent,
                   bool journal, struct pool_figures *figures, struct error *err)
{
    struct pool_options own = *options;
    char folder[PATH_BYTES];
    int rc;

    own.state = NULL;
    if (journal) {
        snprintf(folder, sizeof(folder), "%s/dray-bench-XXXXXX", parent);
        own.state = mkdtemp(folder);
        if (own.state == NULL) {
            return error_set(err, errno, "cannot make a folder in %s: %s", parent, strerror(errno));
        }
    }
    pool_figures_init(figures);
    rc = pattern->run(&own, figures, err);
    if (journal) {
        nftw(folder, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
    }
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *value, uint32_t count)
{
    qsort(value, count, sizeof(*value), by_value);
    return count % 2 == 1 ? value[count / 2] : (value[count / 2 - 1] + value[count / 2]) / 2;
}

static double cpu_us(const struct pool_figures *figures)
{
    return figures->broker_cpu_us + figures->worker_cpu_us + figures->client_cpu_us;
}

// What is shown, of a run.
static double value_of(const struct pool_figures *figures, unsigned which)
{
    switch (which) {
    case 0:
        return figures->seconds;
    case 1:
        return figures->broker_cpu_us;
    case 2:
        return cpu_us(figures);
    case 3:
        return figures->p50_us;
    case 4:
        return figures->journal_bytes;
    default:
        return figures->written_bytes;
    }
}
static const struct {
    const char *name, *text;
    bool both; // also without a journal
} SHOWN[] = {
    {"seconds", "time, s", true},
    {"broker_cpu_us_per_task", "broker's processor time, us a task", true},
    {"cpu_us_per_task", "all processor time, us a task", true},
    {"p50_us", "a task's result, median, us", true},
    {"journal_bytes_per_task", "journal in the end, bytes a task", false},
    {"written_bytes_per_task", "written to the disk, bytes a task", false},
};

static void print(const struct pool_options *options, const struct pool_figures *without,
                  const struct pool_figures *with, uint32_t pairs, bool as_table, double *scratch)
{
    printf(
        as_table
            ? "%s: %llu tasks, %u workers, medians of %u pairs of runs\n"
              "                                             without         with  ratio (median of pairs)\n"
            : "{\"pattern\": \"%s\", \"tasks\": %llu, \"workers\": %u, \"pairs\": %u",
        options->pattern, (unsigned long long)with->tasks, options->workers, pairs);
    for (unsigned i = 0; i < sizeof(SHOWN) / sizeof(SHOWN[0]); i++) {
        double of_without, of_with;

        if (isnan(value_of(&with[0], i))) {
            continue;
        }
        for (uint32_t k = 0; k < pairs; k++) {
            scratch[k] = value_of(&with[k], i);
        }
        of_with = median(scratch, pairs);
        if (!SHOWN[i].both) {
            printf(as_table ? "  %-36s %12s %12.3f\n" : ", \"%s\": %s%.3f",
                   as_table ? SHOWN[i].text : SHOWN[i].name, as_table ? "-" : "", of_with);
            continue;
        }
        for (uint32_t k = 0; k < pairs; k++) {
            scratch[k] = value_of(&without[k], i);
        }
        of_without = median(scratch, pairs);
        for (uint32_t k = 0; k < pairs; k++) {
            scratch[k] = value_of(&with[k], i) / value_of(&without[k], i);
        }
        if (as_table) {
            printf("  %-36s %12.4f %12.4f  %.3f\n", SHOWN[i].text, of_without, of_with,
                   median(scratch, pairs));
        } else {
            printf(", \"%s\": %.4f, \"%s_with\": %.4f, \"%s_ratio\": %.4f", SHOWN[i].name, of_without,
                   SHOWN[i].name, of_with, SHOWN[i].name, median(scratch, pairs));
        }
    }
    puts(as_table ? "" : "}");
}

int pool_durability(const struct pool_pattern *pattern, const struct pool_options *options, uint32_t pairs,
                    bool as_table, struct error *err)
{
    const char *temporary = getenv("TMPDIR");
    const char *parent = options->state != NULL ? options->state : temporary != NULL ? temporary : "/tmp";
    struct pool_figures *figures = calloc(2 * (size_t)pairs, sizeof(*figures));
    double *scratch = calloc(pairs, sizeof(*scratch));
    int rc = figures == NULL || scratch == NULL ? error_no_memory(err) : 0;

    for (uint32_t i = 0; rc == 0 && i < 2 * pairs; i++) {
        // Which one is first changes from pair to pair.
        bool journal = (i % 2 == 1) != (i / 2 % 2 == 1);

        rc = run_one(pattern, options, parent, journal, &figures[(journal ? pairs : 0) + i / 2], err);
    }
    if (rc == 0) {
        print(options, figures, figures + pairs, pairs, as_table, scratch);
    }
    free(scratch);
    free(figures);
    return rc;
}
