// METG, the minimum effective task granularity (Slaughter et al., SC20): the same graph of Task Bench with
// ever shorter tasks, until less than half of the peak is left.  With tasks of `iterations` of the compute
// kernel each,
//   rate        = tasks x iterations / time of the whole graph,
//   efficiency  = rate / peak, the highest rate of all runs, long tasks without dependencies among them,
//   granularity = time x cores / tasks,
// and METG(50%) is the granularity where the efficiency falls below 0.5, between two measured points
// interpolated linearly in the logarithm of the granularity.
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/job.h"
#include "bench/pool.h"
#include "bench/taskbench.h"

enum {
    POINTS_MAX = 64,
    PEAK_ITERATIONS = 1 << 18, // some milliseconds
    PEAK_STEPS = 8,
    STEPS_LEAST = 16,
    REFINE = 3 // halvings of the interval, after the sweep
};

#define FLOPS_PER_ITERATION 128.0 // 64 multiply-adds
#define HALF 0.5
#define FIRST_SECONDS 1e-4

struct metg_options {
    int kind; // or TASKBENCH_KINDS: all
    uint32_t width, workers, repeats, tasks_max;
    uint64_t output_bytes, iterations; // iterations 0: sweep
    double seconds;                    // about so long a run
    bool table, verbose;
};

struct point {
    uint64_t iterations;
    uint32_t steps;
    uint64_t tasks;
    double seconds;     // median of the repeats
    double rate;        // iterations a second
    double granularity; // seconds
};

struct sweep {
    const struct metg_options *options;
    struct pool_cluster cluster;
    struct taskbench bench;
    struct point point[POINTS_MAX]; // as measured
    size_t points;
    double peak; // iterations a second
    uint64_t ran;
};

// ---- one point ----------------------------------------------------------------------------------

static int by_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int run_once(struct sweep *sweep, struct plan *plan, double *seconds, struct error *err)
{
    struct job_time time;
    int rc = job_run(sweep->cluster.dray, plan, &time, err);

    *seconds = (double)time.run_ns / 1e9;
    sweep->ran += plan->tasks;
    return rc;
}

static int run_point(struct sweep *sweep, struct point *point, struct error *err)
{
    const struct metg_options *options = sweep->options;
    double *seconds = calloc(options->repeats, sizeof(*seconds));
    struct plan plan;
    int rc;

    if (seconds == NULL) {
        return error_no_memory(err);
    }
    plan_init(&plan);
    sweep->bench.iterations = point->iterations;
    sweep->bench.steps = point->steps;
    rc = taskbench_plan(&sweep->bench, &plan, err);
    point->tasks = plan.tasks;
    for (uint32_t i = 0; rc == 0 && i < options->repeats; i++) {
        rc = run_once(sweep, &plan, &seconds[i], err);
    }
    plan_fini(&plan);
    if (rc == 0) {
        qsort(seconds, options->repeats, sizeof(*seconds), by_seconds);
        point->seconds = seconds[options->repeats / 2];
        point->rate = (double)point->tasks * (double)point->iterations / point->seconds;
        point->granularity = point->seconds * options->workers / (double)point->tasks;
        sweep->peak = point->rate > sweep->peak ? point->rate : sweep->peak;
    }
    free(seconds);
    return rc;
}

// So many that a run takes about the time that is allowed, a task as long as the last one was.
static uint32_t steps_for(const struct sweep *sweep, uint64_t iterations)
{
    const struct metg_options *options = sweep->options;
    double most = (double)options->tasks_max / options->width, steps;
    double kernel = options->workers / sweep->peak, task = kernel * (double)iterations;

    if (sweep->points > 0) {
        const struct point *last = &sweep->point[sweep->points - 1];

        // What a task costs beside the kernel stays.
        task += fmax(0, last->granularity - kernel * (double)last->iterations);
    }
    steps = options->seconds * options->workers / (task * options->width);
    steps = fmin(steps, fmin(most, TASKBENCH_STEPS_MAX));
    return (uint32_t)fmax(steps, STEPS_LEAST);
}

static int measure(struct sweep *sweep, uint64_t iterations, const struct point **out, struct error *err)
{
    struct point *point = &sweep->point[sweep->points];
    int rc;

    if (sweep->points == POINTS_MAX) {
        return error_set(err, ERANGE, "half of the peak is not found within %d points", POINTS_MAX);
    }
    *point = (struct point){.iterations = iterations, .steps = steps_for(sweep, iterations)};
    rc = run_point(sweep, point, err);
    if (rc == 0) {
        sweep->points++;
        *out = point;
    }
    return rc;
}

// ---- the sweep ----------------------------------------------------------------------------------

static double efficiency(const struct sweep *sweep, const struct point *point)
{
    return point->rate / sweep->peak;
}

// The peak: long tasks that need nothing of each other.
static int find_peak(struct sweep *sweep, struct error *err)
{
    const struct taskbench bench = sweep->bench;
    struct point point = {.iterations = PEAK_ITERATIONS, .steps = PEAK_STEPS};
    int rc;

    sweep->bench.kind = TASKBENCH_TRIVIAL;
    sweep->bench.width = 4 * sweep->options->workers;
    sweep->bench.output_bytes = 8;
    rc = run_point(sweep, &point, err);
    sweep->bench = bench;
    return rc;
}

// Measures, and moves one end of the interval.
static int narrow(struct sweep *sweep, uint64_t iterations, uint64_t *good, uint64_t *bad, struct error *err)
{
    const struct point *point = NULL;
    int rc = measure(sweep, iterations, &point, err);

    if (rc == 0 && sweep->options->verbose) {
        fprintf(stderr, "%llu iterations, %u steps, %.3f s: %.2f us, efficiency %.3f\n",
                (unsigned long long)iterations, point->steps, point->seconds, point->granularity * 1e6,
                efficiency(sweep, point));
    }
    if (rc == 0) {
        *(efficiency(sweep, point) >= HALF ? good : bad) = iterations;
    }
    return rc;
}

// From tasks of about 100 us up or down, until half of the peak lies between two points; then closer.
static int sweep_run(struct sweep *sweep, struct error *err)
{
    uint64_t good = 0, bad = 0, first;
    int rc = find_peak(sweep, err);

    if (rc == 0 && sweep->options->iterations > 0) {
        return narrow(sweep, sweep->options->iterations, &good, &bad, err);
    }
    first = (uint64_t)(FIRST_SECONDS * sweep->peak / sweep->options->workers) + 1;
    for (uint64_t i = first; rc == 0 && i > 0 && bad == 0; i /= 2) {
        rc = narrow(sweep, i, &good, &bad, err);
    }
    for (uint64_t i = 2 * first; rc == 0 && good == 0; i *= 2) {
        if (i > PEAK_ITERATIONS * 16) {
            return error_set(err, ERANGE,
                             "half of the peak is not reached with tasks of %.3g s: is the machine busy?",
                             (double)i / sweep->peak * sweep->options->workers);
        }
        rc = narrow(sweep, i, &good, &bad, err);
    }
    for (int i = 0; rc == 0 && bad > 0 && i < REFINE && good - bad > 1; i++) {
        uint64_t middle = (uint64_t)sqrt((double)good * (double)bad);

        rc = narrow(sweep, middle > bad ? middle : bad + 1, &good, &bad, err);
    }
    return rc == 0 ? pool_count_runs(&sweep->cluster, sweep->ran, &(struct pool_figures){0}, err) : rc;
}

static int by_iterations(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    return x->iterations < y->iterations ? 1 : x->iterations > y->iterations ? -1 : 0;
}

// Where the curve crosses, from the longest tasks down; NaN: it stays above.
static double metg(struct sweep *sweep)
{
    qsort(sweep->point, sweep->points, sizeof(sweep->point[0]), by_iterations);
    for (size_t i = 1; i < sweep->points; i++) {
        const struct point *above = &sweep->point[i - 1], *below = &sweep->point[i];
        double high = efficiency(sweep, above), low = efficiency(sweep, below), part;

        if (high >= HALF && low < HALF) {
            part = (high - HALF) / (high - low);
            return exp(log(above->granularity) + part * (log(below->granularity) - log(above->granularity)));
        }
    }
    return NAN;
}

// ---- print --------------------------------------------------------------------------------------

static void print_json(const struct sweep *sweep, double found)
{
    const struct metg_options *options = sweep->options;

    printf("{\"pattern\": \"%s\", \"width\": %u, \"cores\": %u, \"output_bytes\": %llu, ",
           taskbench_name[sweep->bench.kind], options->width, options->workers,
           (unsigned long long)options->output_bytes);
    if (isnan(found)) {
        printf("\"metg_us\": null, ");
    } else {
        printf("\"metg_us\": %.3f, ", found * 1e6);
    }
    printf("\"peak_gflops\": %.3f, \"points\": [", sweep->peak * FLOPS_PER_ITERATION / 1e9);
    for (size_t i = 0; i < sweep->points; i++) {
        const struct point *point = &sweep->point[i];

        printf("%s{\"iterations\": %llu, \"steps\": %u, \"tasks\": %llu, \"seconds\": %.6f, "
               "\"granularity_us\": %.3f, \"efficiency\": %.4f}",
               i > 0 ? ", " : "", (unsigned long long)point->iterations, point->steps,
               (unsigned long long)point->tasks, point->seconds, point->granularity * 1e6,
               efficiency(sweep, point));
    }
    puts("]}");
}

static void print_table(const struct sweep *sweep, double found)
{
    const struct metg_options *options = sweep->options;

    printf("%s: %u wide, %u cores, %llu bytes a result, peak %.2f GFLOP/s: ",
           taskbench_name[sweep->bench.kind], options->width, options->workers,
           (unsigned long long)options->output_bytes, sweep->peak * FLOPS_PER_ITERATION / 1e9);
    if (isnan(found)) {
        puts("METG(50%) is below what was measured");
    } else {
        printf("METG(50%%) %.1f us\n", found * 1e6);
    }
    printf("  %12s %8s %10s %14s %10s\n", "iterations", "steps", "seconds", "granularity us", "efficiency");
    for (size_t i = 0; i < sweep->points; i++) {
        const struct point *point = &sweep->point[i];

        printf("  %12llu %8u %10.4f %14.2f %10.3f\n", (unsigned long long)point->iterations, point->steps,
               point->seconds, point->granularity * 1e6, efficiency(sweep, point));
    }
}

// ---- options ------------------------------------------------------------------------------------

enum {
    KEY_PATTERN = 'p',
    KEY_WIDTH = 'w',
    KEY_WORKERS = 'n',
    KEY_OUTPUT = 'o',
    KEY_ITERATIONS = 'i',
    KEY_REPEATS = 'r',
    KEY_SECONDS = 's',
    KEY_TASKS = 't',
    KEY_FORMAT = 'f',
    KEY_VERBOSE = 'v'
};

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    unsigned long long value;
    char *end;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least || value > most) {
        return false;
    }
    *out = value;
    return true;
}

static int find_kind(const char *name)
{
    int kind = 0;

    while (kind < TASKBENCH_KINDS && strcmp(name, taskbench_name[kind]) != 0) {
        kind++;
    }
    return kind == TASKBENCH_KINDS && strcmp(name, "all") != 0 ? -1 : kind;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct metg_options *options = state->input;
    uint64_t number = 0;
    char *end;

    switch (key) {
    case KEY_PATTERN:
        options->kind = find_kind(arg);
        if (options->kind < 0) {
            argp_error(state, "there is no pattern '%s'", arg);
        }
        break;
    case KEY_WIDTH:
        if (!parse_number(arg, 1, 100000, &number)) {
            argp_error(state, "--width takes a number of points, 1 to 100000, not '%s'", arg);
        }
        options->width = (uint32_t)number;
        break;
    case KEY_WORKERS:
        if (!parse_number(arg, 1, 64, &number)) {
            argp_error(state, "--workers takes a number of processes, 1 to 64, not '%s'", arg);
        }
        options->workers = (uint32_t)number;
        break;
    case KEY_OUTPUT:
        if (!parse_number(arg, 8, 1 << 26, &number) || number % 8 != 0) {
            argp_error(state, "--output-bytes takes a multiple of 8 up to 64 MiB, not '%s'", arg);
        }
        options->output_bytes = number;
        break;
    case KEY_ITERATIONS:
        if (!parse_number(arg, 1, 1000000000, &options->iterations)) {
            argp_error(state, "--iterations takes a number of them, not '%s'", arg);
        }
        break;
    case KEY_REPEATS:
        if (!parse_number(arg, 1, 1000, &number)) {
            argp_error(state, "--repeats takes a number of runs, not '%s'", arg);
        }
        options->repeats = (uint32_t)number;
        break;
    case KEY_TASKS:
        if (!parse_number(arg, 1, 100000000, &number)) {
            argp_error(state, "--tasks-max takes a number of tasks, not '%s'", arg);
        }
        options->tasks_max = (uint32_t)number;
        break;
    case KEY_SECONDS:
        options->seconds = strtod(arg, &end);
        if (end == arg || *end != '\0' || !(options->seconds >= 0.001 && options->seconds <= 60)) {
            argp_error(state, "--seconds takes a number of seconds, 0.001 to 60, not '%s'", arg);
        }
        break;
    case KEY_FORMAT:
        options->table = strcmp(arg, "table") == 0;
        if (!options->table && strcmp(arg, "json") != 0) {
            argp_error(state, "--format is json or table, not '%s'", arg);
        }
        break;
    case KEY_VERBOSE:
        options->verbose = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int run_kind(const struct metg_options *options, enum taskbench_kind kind)
{
    const struct pool_options pool = {.pattern = "metg", .workers = options->workers};
    struct error err = {0};
    struct sweep *sweep = calloc(1, sizeof(*sweep));
    int rc;

    if (sweep == NULL) {
        fputs("dray-bench metg: out of memory\n", stderr);
        return 1;
    }
    sweep->options = options;
    sweep->bench =
        (struct taskbench){.kind = kind, .width = options->width, .output_bytes = options->output_bytes};
    rc = pool_cluster_create(&pool, options->workers, &sweep->cluster, &err);
    if (rc == 0) {
        rc = sweep_run(sweep, &err);
        pool_cluster_destroy(&sweep->cluster);
    }
    if (rc != 0) {
        fprintf(stderr, "dray-bench metg: %s: %s\n", taskbench_name[kind], err.text);
    } else if (options->table) {
        print_table(sweep, metg(sweep));
    } else {
        print_json(sweep, metg(sweep));
    }
    fflush(stdout);
    free(sweep);
    return rc == 0 ? 0 : 1;
}

int bench_metg(int argc, char **argv)
{
    static const struct argp_option rows[] = {
        {"pattern", KEY_PATTERN, "NAME", 0,
         "trivial, no_comm, stencil_1d, fft, tree, random_nearest, all_to_all, or all (the default)", 0},
        {"width", KEY_WIDTH, "N", 0, "points of a step (100)", 0},
        {"workers", KEY_WORKERS, "N", 0, "processes of one thread each: the cores (2)", 0},
        {"output-bytes", KEY_OUTPUT, "N", 0, "of each task's result (8)", 0},
        {"iterations", KEY_ITERATIONS, "N", 0, "of the kernel: tasks of this length alone, no search", 0},
        {"repeats", KEY_REPEATS, "N", 0, "runs of each point, of which the median counts (5)", 0},
        {"seconds", KEY_SECONDS, "S", 0, "about so long a run (0.2)", 0},
        {"tasks-max", KEY_TASKS, "N", 0, "of a run (200000)", 0},
        {"format", KEY_FORMAT, "F", 0, "json (one object a pattern and line, the default) or table", 0},
        {"verbose", KEY_VERBOSE, NULL, 0, "each point as it is measured, on standard error", 0},
        {0},
    };
    static const struct argp argp = {
        .options = rows,
        .parser = parse,
        .doc =
            "METG(50%), the smallest length of tasks at which half of the peak is reached, for the patterns "
            "of Task "
            "Bench (Slaughter et al., SC20), on a broker and workers over tcp.  Every last step's values are "
            "checked, and that each task ran.",
    };
    struct metg_options options = {.kind = TASKBENCH_KINDS,
                                   .width = 100,
                                   .workers = 2,
                                   .output_bytes = 8,
                                   .repeats = 5,
                                   .seconds = 0.2,
                                   .tasks_max = 200000};
    int code = 0;

    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return 2;
    }
    for (int kind = 0; kind < TASKBENCH_KINDS; kind++) {
        if (options.kind == TASKBENCH_KINDS || options.kind == kind) {
            code |= run_kind(&options, (enum taskbench_kind)kind);
        }
    }
    return code;
}
