// What the scheduler costs alone, without sockets, and how well it places tasks.
#include "bench/bench.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/core_drive.h"
#include "bench/core_world.h"

enum { OPTION_MAKESPAN = 256, OPTION_CHECK, WORKERS_MAX = 16 };

struct options {
    uint32_t tasks; // 0: as many as suit
    uint32_t workers[WORKERS_MAX];
    uint32_t worker_counts;
    uint32_t length_us;
    const char *name;
    bool makespan, json, check;
};

static const struct argp_option choices[] = {
    {"tasks", 't', "N", 0,
     "of each graph (1,000,000; with --makespan 200,000 or 100 a worker, whichever is more)", 0},
    {"workers", 'w', "N,...", 0, "simulated workers (10; with --makespan 1,10,100,1000,10000)", 0},
    {"pattern", 'p', "NAME", 0, "this one alone", 0},
    {"makespan", OPTION_MAKESPAN, NULL, 0,
     "on a made-up clock: how long jobs take against what they must take, and a task's cost by the number of "
     "workers",
     0},
    {"check", OPTION_CHECK, NULL, 0,
     "with --makespan: fail when one takes more than 1.1 of what it must (1.25 with stragglers), or longer "
     "than with random placement",
     0},
    {"length", 'l', "US", 0, "of a task with --makespan, on average (10,000)", 0},
    {"format", 'f', "table|json", 0, "json: one object", 0},
    {0},
};

static uint32_t number(struct argp_state *state, const char *text, char **end, unsigned long most)
{
    unsigned long value = strtoul(text, end, 10);

    if (*end == text || value < 1 || value > most || (**end != '\0' && **end != ',')) {
        argp_error(state, "'%s' is not a number from 1 to %lu", text, most);
    }
    return (uint32_t)value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    char *end = arg;

    switch (key) {
    case 't':
        options->tasks = number(state, arg, &end, 100 * 1000 * 1000);
        break;
    case 'w':
        options->worker_counts = 0;
        do {
            if (options->worker_counts == WORKERS_MAX) {
                argp_error(state, "more than %d numbers of workers", WORKERS_MAX);
            }
            options->workers[options->worker_counts++] = number(state, arg, &end, 60000);
            arg = end + 1;
        } while (*end == ',');
        break;
    case 'p':
        options->name = arg;
        break;
    case 'l':
        options->length_us = number(state, arg, &end, 100 * 1000 * 1000);
        break;
    case 'f':
        options->json = strcmp(arg, "json") == 0;
        if (!options->json && strcmp(arg, "table") != 0) {
            argp_error(state, "the format is table or json, not '%s'", arg);
        }
        break;
    case OPTION_CHECK:
        options->check = true;
        break;
    case OPTION_MAKESPAN:
        options->makespan = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "there is nothing to do with '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_patterns(const struct options *options)
{
    const char *comma = "";

    if (options->json) {
        printf("{\"patterns\": [");
    } else {
        printf("%-12s %10s %8s %9s %9s %11s %11s %7s\n", "pattern", "tasks", "workers", "submit", "run",
               "tasks", "transitions", "bytes");
        printf("%-12s %10s %8s %9s %9s %11s %11s %7s\n", "", "", "", "ns/task", "ns/task", "M/s", "M/s",
               "a task");
    }
    for (const struct core_shape *shape = core_patterns; shape->name != NULL; shape++) {
        for (uint32_t k = 0; k < options->worker_counts; k++) {
            struct core_figures out;
            double tasks;

            if (options->name != NULL && strcmp(options->name, shape->name) != 0) {
                continue;
            }
            core_drive(shape, options->tasks > 0 ? options->tasks : 1000 * 1000, options->workers[k], &out);
            tasks = (double)out.tasks;
            if (options->json) {
                printf("%s\n  {\"pattern\": \"%s\", \"tasks\": %llu, \"edges\": %llu, \"workers\": %u, "
                       "\"submit_ns\": %.1f, \"run_ns\": %.1f, \"tasks_per_s\": %.0f, "
                       "\"transitions_per_s\": %.0f, \"bytes_per_task\": %.1f, \"turns\": %llu}",
                       comma, shape->name, (unsigned long long)out.tasks, (unsigned long long)out.edges,
                       options->workers[k], out.submit_s * 1e9 / tasks, out.run_s * 1e9 / tasks,
                       tasks / out.run_s, (double)out.transitions / (out.submit_s + out.run_s), out.bytes,
                       (unsigned long long)out.turns);
                comma = ",";
            } else {
                printf("%-12s %10llu %8u %9.1f %9.1f %11.2f %11.2f %7.1f\n", shape->name,
                       (unsigned long long)out.tasks, options->workers[k], out.submit_s * 1e9 / tasks,
                       out.run_s * 1e9 / tasks, tasks / out.run_s / 1e6,
                       (double)out.transitions / (out.submit_s + out.run_s) / 1e6, out.bytes);
            }
            fflush(stdout);
        }
    }
    if (options->json) {
        printf("\n]}\n");
    }
}

struct comparison {
    struct core_outcome dray, random, robin;
};

static void print_job(const struct options *options, const struct core_setting *setting,
                      const struct comparison *out, const char *comma)
{
    const struct core_outcome *dray = &out->dray;
    double bound = (double)(dray->path_ns > dray->share_ns ? dray->path_ns : dray->share_ns);

    if (options->json) {
        printf(
            "%s\n  {\"graph\": \"%s\", \"stragglers\": %s, \"tasks\": %llu, \"workers\": %u, \"cost_ns\": "
            "%.1f, "
            "\"critical_path_s\": %.6f, \"work_per_worker_s\": %.6f, \"makespan_s\": %.6f, \"ratio\": %.4f, "
            "\"random_ratio\": %.4f, \"round_robin_ratio\": %.4f, \"moved\": %llu, \"random_moved\": %llu}",
            comma, setting->shape->name, setting->stragglers ? "true" : "false",
            (unsigned long long)dray->tasks, setting->workers, dray->cost_ns, (double)dray->path_ns / 1e9,
            (double)dray->share_ns / 1e9, (double)dray->makespan_ns / 1e9, (double)dray->makespan_ns / bound,
            (double)out->random.makespan_ns / bound, (double)out->robin.makespan_ns / bound,
            (unsigned long long)dray->moved, (unsigned long long)out->random.moved);
    } else {
        printf("%-12s %-10s %8u %10llu %8.0f %11.3f %7.3f %7.3f %7.3f %7.2f %7.2f\n", setting->shape->name,
               setting->stragglers ? "stragglers" : "", setting->workers, (unsigned long long)dray->tasks,
               dray->cost_ns, bound / 1e9, (double)dray->makespan_ns / bound,
               (double)out->random.makespan_ns / bound, (double)out->robin.makespan_ns / bound,
               (double)dray->moved / (double)dray->tasks, (double)out->random.moved / (double)dray->tasks);
    }
    fflush(stdout);
}

static uint32_t tasks_for(const struct options *options, uint32_t workers)
{
    uint32_t tasks = 100 * workers;

    if (options->tasks > 0) {
        return options->tasks;
    }
    return tasks > 200 * 1000 ? tasks : 200 * 1000;
}

// Within 1.1 of the bound, 1.25 where tasks and workers are far from one another; never worse than random
// placement.
static bool is_well_placed(const struct core_setting *setting, const struct comparison *out)
{
    const struct core_outcome *dray = &out->dray;
    uint64_t bound = dray->path_ns > dray->share_ns ? dray->path_ns : dray->share_ns;

    // With one worker there is nothing to choose.
    return dray->makespan_ns <= bound + bound / (setting->stragglers ? 4 : 10) &&
           (setting->workers == 1 || dray->makespan_ns <= out->random.makespan_ns);
}

// How many were placed worse than they should be.
static int print_jobs(const struct options *options)
{
    int worse = 0;
    const char *comma = "";

    if (options->json) {
        printf("{\"length_us\": %u, \"jobs\": [", options->length_us);
    } else {
        printf("%-12s %-10s %8s %10s %8s %11s %7s %7s %7s %7s %7s\n", "graph", "", "workers", "tasks", "cost",
               "bound", "Dray", "random", "robin", "moved", "random");
        printf("%-12s %-10s %8s %10s %8s %11s %7s %7s %7s %7s %7s\n", "", "", "", "", "ns/task", "s",
               "x bound", "x bound", "x bound", "a task", "a task");
    }
    for (const struct core_shape *shape = core_jobs; shape->name != NULL; shape++) {
        for (uint32_t k = 0; k < 2 * options->worker_counts; k++) {
            struct core_setting setting = {
                .shape = shape,
                .workers = options->workers[k / 2],
                .tasks = tasks_for(options, options->workers[k / 2]),
                .length_ns = (uint64_t)options->length_us * 1000,
                .stragglers = k % 2 != 0,
                .seed = 1,
            };
            struct comparison out;

            if (options->name != NULL && strcmp(options->name, shape->name) != 0) {
                continue;
            }
            core_world_run(&setting, &out.dray);
            setting.policy = CORE_RANDOM;
            core_world_run(&setting, &out.random);
            setting.policy = CORE_ROUND_ROBIN;
            core_world_run(&setting, &out.robin);
            print_job(options, &setting, &out, comma);
            worse += is_well_placed(&setting, &out) ? 0 : 1;
            comma = ",";
        }
    }
    if (options->json) {
        printf("\n]}\n");
    }
    return worse;
}

int bench_core(int argc, char **argv)
{
    static const uint32_t scale[] = {1, 10, 100, 1000, 10000};
    const struct argp argp = {
        .options = choices,
        .parser = parse,
        .doc = "What the scheduler costs alone, without sockets: CPU time and bytes a task, by pattern.",
    };
    struct options options = {.length_us = 10000};
    const struct core_shape *table;

    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return 2;
    }
    table = options.makespan ? core_jobs : core_patterns;
    if (options.name != NULL && core_shape_find(table, options.name) == NULL) {
        fprintf(stderr, "dray-bench core: there is no pattern '%s'; there are", options.name);
        for (; table->name != NULL; table++) {
            fprintf(stderr, " %s", table->name);
        }
        fputc('\n', stderr);
        return 2;
    }
    if (options.worker_counts == 0 && options.makespan) {
        memcpy(options.workers, scale, sizeof(scale));
        options.worker_counts = sizeof(scale) / sizeof(scale[0]);
    } else if (options.worker_counts == 0) {
        options.workers[options.worker_counts++] = 10;
    }
    if (options.makespan) {
        int worse = print_jobs(&options);

        if (options.check && worse > 0) {
            fprintf(stderr, "dray-bench core: %d jobs take longer than they should\n", worse);
            return 1;
        }
    } else {
        print_patterns(&options);
    }
    return 0;
}
