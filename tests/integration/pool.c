// What test_pool.py runs: pools and futures of libdray against real processes.  Arguments: endpoint, what,
// tasks. Prints one line a fact, and says on standard error what is wrong.
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/include/dray.h"

static dray_t *dray;
static dray_pool_t *pool;
static size_t tasks;
static const struct dray_task count = {.size = sizeof(count), .kind = DRAY_TASK_COUNT};

static void require(bool is, const char *what, uint64_t found, uint64_t wanted)
{
    if (!is) {
        fprintf(stderr, "%s: %llu instead of %llu\n", what, (unsigned long long)found,
                (unsigned long long)wanted);
        exit(1);
    }
}

static void check(int rc, const char *what, const struct dray_error *error)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s (%d)\n", what, error->text, error->code);
        exit(1);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t number(struct dray_bytes bytes)
{
    uint64_t value = 0;

    require(bytes.size == sizeof(value), "bytes of a result", bytes.size, sizeof(value));
    memcpy(&value, bytes.data, sizeof(value));
    return value;
}

static struct dray_future submit(const struct dray_task *task, const struct dray_future *input, size_t inputs)
{
    struct dray_task copy = *task;
    struct dray_future out;
    struct dray_error err;

    copy.input = input;
    copy.inputs = inputs;
    check(dray_submit(pool, &copy, &out, &err), "submit", &err);
    return out;
}

static uint64_t gather_one(struct dray_future future)
{
    struct dray_gathered all;
    struct dray_error err;
    uint64_t value;

    check(dray_gather(dray, &future, 1, 60000, &all, &err), "gather", &err);
    value = number(all.value[0]);
    dray_gathered_free(&all);
    return value;
}

// Each exactly once, of `expected` results; the value is 1 + index.
static void complete(size_t expected)
{
    struct dray_error err;
    struct dray_event event;
    size_t done = 0;

    while (done < expected) {
        int rc = dray_wait(dray, 60000, &err);

        check(rc, "wait", &err);
        require(rc == 1, "results in time", done, expected);
        while (dray_next(dray, &event, &err) == 1) {
            if (event.type == DRAY_PARTITION) {
                uint64_t value = number(event.value);

                require(value == 1 + (uint64_t)event.index, "value", value, 1 + (uint64_t)event.index);
                done++;
            } else if (event.type != DRAY_PROGRESS && event.type != DRAY_DONE) {
                check(-1, "event", &event.error);
            }
        }
    }
    done = pool != NULL ? dray_pool_unfinished(pool) : 0;
    require(done == 0, "unfinished", done, 0);
}

static void release_layer(struct dray_future first, size_t n)
{
    struct dray_future *all = malloc(n * sizeof(*all));
    struct dray_error err;

    for (size_t i = 0; i < n; i++) {
        all[i] = (struct dray_future){first.job, first.layer, first.index + (uint32_t)i};
    }
    check(dray_release_futures(dray, all, n, &err), "release", &err);
    free(all);
}

static void report(const char *what, uint64_t started, uint64_t cpu)
{
    uint64_t took = now_ns() - started;

    printf("%s: %zu tasks, %.0f tasks/s, client %.0f ns a task\n", what, tasks,
           (double)tasks * 1e9 / (double)took, (double)(cpu_ns() - cpu) / (double)tasks);
}

static void run_map(void)
{
    uint64_t started = now_ns(), cpu = cpu_ns();
    struct dray_future first;
    struct dray_error err;

    check(dray_map(pool, &count, NULL, tasks, &first, &err), "map", &err);
    complete(tasks);
    report("map", started, cpu);
    release_layer(first, tasks);
}

// The same as a graph, which is all there when it begins.
static void run_graph(void)
{
    // Graph { layer { tasks op { step { count { } } } wanted } }
    uint8_t graph[] = {0x0a, 15, 0x08, 0x80, 0x80, 0x80, 0x80, 0, 0x12, 4, 0x0a, 2, 0x52, 0, 0x30, 1, 0};
    uint64_t started = now_ns(), cpu = cpu_ns();
    struct dray_error err;
    dray_job_t job;

    graph[1] = sizeof(graph) - 3;
    for (int i = 0; i < 5; i++) {
        graph[3 + i] = (uint8_t)(tasks >> 7 * i & 127) | (i < 4 ? 128 : 0);
    }
    check(dray_submit_graph(dray, graph, sizeof(graph) - 1, NULL, &job, &err), "graph", &err);
    complete(tasks);
    report("graph", started, cpu);
    check(dray_release(dray, job, &err), "release", &err);
}

static void run_submit(void)
{
    struct dray_future *all = malloc(tasks * sizeof(*all));
    uint64_t started = now_ns(), cpu = cpu_ns();
    struct dray_error err;

    for (size_t i = 0; i < tasks; i++) {
        all[i] = submit(&count, NULL, 0);
    }
    complete(tasks);
    report("submit", started, cpu);
    check(dray_release_futures(dray, all, tasks, &err), "release", &err);
    free(all);
}

// A value that wraps through a chain: the sum of (1 + index) up to its place.
static void run_chain(void)
{
    struct dray_future *all = malloc(tasks * sizeof(*all));
    uint64_t started = now_ns(), cpu = cpu_ns(), wanted = 0;

    for (size_t i = 0; i < tasks; i++) {
        all[i] = submit(&count, i > 0 ? &all[i - 1] : NULL, i > 0);
        wanted += 1 + (uint64_t)all[i].index;
    }
    require(gather_one(all[tasks - 1]) == wanted, "end of the chain", gather_one(all[tasks - 1]), wanted);
    report("chain", started, cpu);
    free(all);
}

// Pairs, of leaves that come from here.
static void run_tree(void)
{
    struct dray_future *node = malloc(2 * tasks * sizeof(*node));
    uint64_t started = now_ns(), cpu = cpu_ns(), wanted = 0, found;
    struct dray_error err;
    size_t nodes = 0;

    for (uint64_t i = 0; i < tasks; i++) {
        check(dray_scatter(pool, &i, sizeof(i), &node[nodes++], &err), "scatter", &err);
        wanted += i;
    }
    for (size_t next = 0; next + 1 < nodes; next += 2) {
        node[nodes] = submit(&count, &node[next], 2);
        wanted += 1 + (uint64_t)node[nodes].index;
        nodes++;
    }
    found = gather_one(node[nodes - 1]);
    require(found == wanted, "sum of the tree", found, wanted);
    report("tree", started, cpu);
    free(node);
}

// What a loop over files makes: three kinds of tasks by turns, each of what was before it.
static void run_kinds(void)
{
    static const char *const kind[] = {"load", "clean", "count"};
    uint64_t started = now_ns(), cpu = cpu_ns();
    struct dray_future *all = malloc(tasks * sizeof(*all));
    struct dray_gathered got;
    struct dray_error err;
    uint64_t wanted = 0;

    for (size_t i = 0; i < tasks; i++) {
        struct dray_task task = count;

        task.name = kind[i % 3];
        all[i] = submit(&task, i % 3 > 0 ? &all[i - 1] : NULL, i % 3 > 0);
    }
    check(dray_gather(dray, all, tasks, 60000, &got, &err), "gather", &err);
    for (size_t i = 0; i < tasks; i++) {
        wanted = 1 + (uint64_t)all[i].index + (i % 3 > 0 ? wanted : 0);
        require(number(got.value[i]) == wanted, "value", number(got.value[i]), wanted);
    }
    dray_gathered_free(&got);
    report("kinds", started, cpu);
    free(all);
}

// Random earlier tasks, several of them, of one or two pools.
static void random_tasks(size_t several)
{
    struct dray_future *all = malloc(tasks * sizeof(*all));
    uint64_t *value = calloc(tasks, sizeof(*value)), random = 88172645463325252U;
    dray_pool_t *pools[2] = {pool, NULL};
    struct dray_gathered got;
    struct dray_error err;

    check(dray_pool_open(dray, NULL, &pools[1], &err), "second pool", &err);
    for (size_t i = 0; i < tasks; i++) {
        struct dray_future input[3];
        size_t inputs = 0;

        for (; inputs < 3 && i > 0; inputs++) {
            size_t from;

            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            from = random % i;
            if (random >> 60 == 0) {
                break;
            }
            input[inputs] = all[from];
            value[i] += value[from];
        }
        pool = pools[(random >> 40) % several];
        all[i] = submit(&count, input, inputs);
        value[i] += 1 + (uint64_t)all[i].index;
    }
    check(dray_gather(dray, all, tasks, 60000, &got, &err), "gather", &err);
    for (size_t i = 0; i < tasks; i++) {
        require(number(got.value[i]) == value[i], "value", number(got.value[i]), value[i]);
    }
    dray_gathered_free(&got);
    dray_pool_close(pools[1]);
    pool = pools[0];
    free(all);
    free(value);
    printf("random: %zu tasks\n", tasks);
}

static void run_random(void)
{
    random_tasks(1);
}

static void run_pools(void)
{
    random_tasks(2);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void run_latency(void)
{
    uint64_t *took = malloc(tasks * sizeof(*took)), cpu = cpu_ns();

    for (size_t i = 0; i < tasks; i++) {
        uint64_t started = now_ns();
        struct dray_future future = submit(&count, NULL, 0);
        struct dray_error err;

        gather_one(future);
        took[i] = now_ns() - started;
        check(dray_release_futures(dray, &future, 1, &err), "release", &err);
    }
    cpu = cpu_ns() - cpu;
    qsort(took, tasks, sizeof(*took), compare);
    printf("latency: p50 %.0f us, p99 %.0f us, client %.0f us\n", (double)took[tasks / 2] / 1e3,
           (double)took[tasks * 99 / 100] / 1e3, (double)cpu / 1e3 / (double)tasks);
    free(took);
}

// Long tasks, some cancelled while they run; what depends on them fails with them.
static void run_cancel(void)
{
    const struct dray_task sleepy = {
        .size = sizeof(sleepy), .kind = DRAY_TASK_BUSY, .nanoseconds = 30000000000U};
    struct dray_future first, last, after;
    struct dray_future all[20];
    struct dray_gathered got;
    struct dray_error err;
    uint64_t started;

    check(dray_map(pool, &sleepy, NULL, 20, &first, &err), "map", &err);
    last = first;
    last.index = 19;
    after = submit(&count, &last, 1);
    for (uint32_t i = 0; i < 20; i++) {
        all[i] = (struct dray_future){first.job, first.layer, i};
    }
    check(dray_pool_flush(pool, &err), "flush", &err);
    for (started = now_ns(); now_ns() - started < 300000000;) { // let some begin
        struct dray_event event;

        check(dray_wait(dray, 10, &err), "wait", &err);
        while (dray_next(dray, &event, &err) == 1) {
        }
    }
    started = now_ns();
    check(dray_cancel_futures(dray, all, 20, &err), "cancel", &err);
    require(dray_gather(dray, &after, 1, 10000, &got, &err) == -ECANCELED, err.text, (uint64_t)err.code,
            ECANCELED);
    require(dray_gather(dray, all, 1, 10000, &got, &err) == -ECANCELED, err.text, (uint64_t)err.code,
            ECANCELED);
    // The pool goes on.
    require(gather_one(submit(&count, NULL, 0)) > 0, "value", 0, 1);
    printf("cancel: %.0f ms\n", (double)(now_ns() - started) / 1e6);
}

// A function that the plugin has not: an error a task, and of what depends on it; the pool goes on.
static void run_fail(void)
{
    const struct dray_task call = {
        .size = sizeof(call), .kind = DRAY_TASK_CALL, .plugin = "hostile", .function = "nothing"};
    struct dray_future first, after;
    struct dray_error err;
    struct dray_event event;
    size_t failed = 0;

    check(dray_map(pool, &call, NULL, tasks, &first, &err), "map", &err);
    after = submit(&count, &first, 1);
    while (failed < tasks + 1) {
        int rc = dray_wait(dray, 60000, &err);

        check(rc, "wait", &err);
        require(rc == 1, "failures in time", failed, tasks + 1);
        while (dray_next(dray, &event, &err) == 1) {
            failed += event.type == DRAY_TASK_FAILED;
            if (event.type == DRAY_TASK_FAILED && event.layer == first.layer && event.index == 0) {
                printf("error: %s\n", event.error.text);
            }
        }
    }
    require(dray_future_done(dray, &after) == 1, "done", 0, 1);
    require(gather_one(submit(&count, NULL, 0)) > 0, "value", 0, 1);
    printf("fail: %zu tasks\n", failed);
}

// Kept under a name; read by a second process (run_kept).
static void run_keep(void)
{
    struct dray_future first;
    struct dray_error err;

    check(dray_map(pool, &count, NULL, tasks, &first, &err), "map", &err);
    complete(tasks);
    check(dray_keep(dray, first.job, "numbers", &err), "keep", &err);
    printf("keep: layer %u\n", first.layer);
}

static void run_kept(void)
{
    struct dray_future *all = malloc(tasks * sizeof(*all)), sum;
    uint64_t wanted = 0;
    struct dray_gathered got;
    struct dray_error err;
    dray_job_t job;

    check(dray_attach(dray, 0, "numbers", &job, &err), "attach", &err);
    for (uint32_t i = 0; i < tasks; i++) {
        all[i] = (struct dray_future){job, 0, i};
        wanted += 1 + (uint64_t)i;
    }
    check(dray_gather(dray, all, tasks, 60000, &got, &err), "gather", &err);
    for (size_t i = 0; i < tasks; i++) {
        require(number(got.value[i]) == 1 + i, "value", number(got.value[i]), 1 + i);
    }
    dray_gathered_free(&got);
    sum = submit(&count, all, tasks); // inputs of another job
    wanted += 1 + (uint64_t)sum.index;
    require(gather_one(sum) == wanted, "sum", gather_one(sum), wanted);
    check(dray_unkeep(dray, "numbers", &err), "unkeep", &err);
    check(dray_release(dray, job, &err), "release", &err);
    require(dray_attach(dray, 0, "numbers", &job, &err) == -ENOENT, "attach after unkeep", 0, ENOENT);
    printf("kept: %zu tasks\n", tasks);
    free(all);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"map", run_map},     {"submit", run_submit},   {"chain", run_chain},
               {"tree", run_tree},   {"random", run_random},   {"kinds", run_kinds},
               {"pools", run_pools}, {"cancel", run_cancel},   {"fail", run_fail},
               {"keep", run_keep},   {"latency", run_latency}, {"kept", run_kept},
               {"graph", run_graph}};
    const struct dray_pool_options options = {
        .size = sizeof(options), .name = "test", .unfinished_max = 4000000};
    struct dray_error err;

    if (argc < 4) {
        return 2;
    }
    check(dray_connect(argv[1], NULL, &dray, &err), "connect", &err);
    for (int arg = 2; arg + 1 < argc; arg += 2) {
        tasks = strtoul(argv[arg + 1], NULL, 10);
        if (strcmp(argv[arg], "graph") != 0) {
            check(dray_pool_open(dray, &options, &pool, &err), "pool", &err);
        }
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            if (strcmp(argv[arg], all[i].name) == 0) {
                all[i].run();
                fflush(stdout);
            }
        }
        dray_pool_close(pool);
        pool = NULL;
    }
    dray_close(dray);
    return 0;
}
