// What tasks outside of the worker cost: functions of a plugin through one children object a thread, and
// commands beside the bare loop of posix_spawn and waitpid.
#include "bench/bench.h"

#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "worker/child/children.h"
#include "worker/child/plugins.h"

enum { BATCH = 1024, THREADS_MAX = 64 };

extern char **environ;

// One thread with children of its own.
struct lane {
    pthread_t thread;
    const struct plugins *plugins;
    const Dray__Op *op;
    double seconds;
    uint64_t done;
    int rc;
    struct error err;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int run_batch(struct children *children, struct lane *lane, struct child_task *task, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        task[i].index = (uint32_t)i;
    }
    children_run(children, lane->op, 0, task, count);
    for (size_t i = 0; i < count; i++) {
        partition_unref(task[i].partition);
        if (task[i].rc != 0) {
            lane->err = task[i].err;
            return task[i].rc;
        }
    }
    return 0;
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    const struct children_options options = {.plugins = lane->plugins, .scratch = getenv("TMPDIR")};
    struct child_task *task = calloc(BATCH, sizeof(*task));
    struct children *children = NULL;
    size_t size = lane->op->step[0]->call != NULL ? BATCH : 16;
    double begin;

    lane->rc = task != NULL ? children_create(&options, &children, &lane->err) : error_no_memory(&lane->err);
    if (lane->rc == 0) {
        lane->rc = run_batch(children, lane, task, 1); // starts the process
    }
    begin = now();
    while (lane->rc == 0 && now() - begin < lane->seconds) {
        lane->rc = run_batch(children, lane, task, size);
        lane->done += size;
    }
    lane->seconds = now() - begin;
    children_destroy(children);
    free(task);
    return NULL;
}

// Tasks a second of all threads, or a negative errno.
static double measure(const char *name, const struct plugins *plugins, const Dray__Op *op, unsigned threads,
                      double seconds)
{
    struct lane lane[THREADS_MAX];
    double rate = 0;

    for (unsigned i = 0; i < threads; i++) {
        lane[i] = (struct lane){.plugins = plugins, .op = op, .seconds = seconds};
        if (pthread_create(&lane[i].thread, NULL, lane_main, &lane[i]) != 0) {
            fprintf(stderr, "dray-bench: no thread\n");
            exit(1);
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(lane[i].thread, NULL);
        if (lane[i].rc != 0) {
            fprintf(stderr, "dray-bench: %s\n", lane[i].err.text);
            exit(1);
        }
        rate += (double)lane[i].done / lane[i].seconds;
    }
    printf("%-28s %2u threads %12.0f a second  %9.2f us each\n", name, threads, rate, 1e6 * threads / rate);
    return rate;
}

static double bare_loop(double seconds)
{
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    double begin = now();
    uint64_t done = 0;
    double rate;

    while (now() - begin < seconds) {
        pid_t pid;

        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0 || waitpid(pid, NULL, 0) != pid) {
            fprintf(stderr, "dray-bench: cannot spawn %s\n", argv[0]);
            exit(1);
        }
        done++;
    }
    rate = (double)done / (now() - begin);
    printf("%-28s %2u threads %12.0f a second  %9.2f us each\n", "posix_spawn and waitpid", 1U, rate,
           1e6 / rate);
    return rate;
}

static void measure_commands(double seconds)
{
    ProtobufCBinaryData word = {.len = strlen("/bin/true"), .data = (uint8_t *)(uintptr_t) "/bin/true"};
    Dray__Command command;
    Dray__Step step, *steps[] = {&step};
    Dray__Op op;
    double rate, bare;

    dray__op__init(&op);
    dray__step__init(&step);
    dray__command__init(&command);
    command.argv = &word;
    command.n_argv = 1;
    step.command = &command;
    op.step = steps;
    op.n_step = 1;
    bare = bare_loop(seconds);
    rate = measure("commands (/bin/true)", NULL, &op, 1, seconds);
    printf("%-28s %.2f of the bare loop\n", "", rate / bare);
}

static void measure_calls(const char *path, const char *function, double seconds)
{
    const char *paths[] = {path, NULL};
    const struct plugins_options options = {.path = paths};
    struct plugins *plugins = NULL;
    struct error err = {0};
    Dray__Call call;
    Dray__Step step, *steps[] = {&step};
    Dray__Op op;

    if (plugins_create(&options, &plugins, &err) != 0) {
        fprintf(stderr, "dray-bench: %s\n", err.text);
        exit(1);
    }
    dray__op__init(&op);
    dray__step__init(&step);
    dray__call__init(&call);
    call.plugin = (char *)(uintptr_t)plugins->plugin[0].name;
    call.function = (char *)(uintptr_t)(function != NULL ? function : plugins->plugin[0].function[0].name);
    step.call = &call;
    op.step = steps;
    op.n_step = 1;
    measure(call.function, plugins, &op, 1, seconds);
    measure(call.function, plugins, &op, 2, seconds);
    plugins_destroy(plugins);
}

int bench_children(int argc, char **argv)
{
    const double seconds = 1;

    if (argc > 3 || (argc > 1 && argv[1][0] == '-')) {
        fputs("usage: dray-bench children [PLUGIN [FUNCTION]]\n", stderr);
        return 2;
    }
    measure_commands(seconds);
    if (argc > 1) {
        measure_calls(argv[1], argc > 2 ? argv[2] : NULL, seconds);
    }
    return 0;
}
