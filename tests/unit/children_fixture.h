// A children object with the test's plugin, and tasks for it.
#ifndef DRAY_TESTS_CHILDREN_FIXTURE_H
#define DRAY_TESTS_CHILDREN_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/child/children.h"
#include "worker/child/plugins.h"
#include "worker/store/budget.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

enum { TASKS_MAX = 4096 };

struct fixture {
    struct budget *budget;
    struct plugins *plugins;
    struct children *children;
    struct child_task *task;
    atomic_bool *cancelled;
    int fds; // open before
};

static inline int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

// Processes whose parent is this one.
static inline int count_processes(void)
{
    char path[64], name[32];
    FILE *file;
    int count = 0, pid;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    while (fscanf(file, "%d", &pid) == 1) {
        count++;
    }
    (void)name;
    fclose(file);
    return count;
}

static inline uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void pause_ms(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

static inline void fixture_open(struct fixture *f, uint64_t budget, uint64_t memory)
{
    const char *paths[] = {DRAY_TEST_PLUGIN, NULL};
    const struct plugins_options plugins = {.path = paths, .helper = DRAY_CHILD, .memory = memory};
    struct children_options options = {.scratch = "/tmp", .helper = DRAY_CHILD};
    struct error err = {0};

    f->fds = count_fds();
    f->budget = budget_create(budget);
    if (plugins_create(&plugins, &f->plugins, &err) != 0) {
        fail_msg("%s", err.text);
    }
    options.plugins = f->plugins;
    options.budget = f->budget;
    assert_int_equal(children_create(&options, &f->children, &err), 0);
    f->task = calloc(TASKS_MAX, sizeof(*f->task));
    f->cancelled = calloc(TASKS_MAX, sizeof(*f->cancelled));
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        f->task[i].index = i;
        f->task[i].cancelled = &f->cancelled[i];
    }
}

static inline void fixture_drop(struct fixture *f, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        partition_unref(f->task[i].partition);
        f->task[i].partition = NULL;
        atomic_store(&f->cancelled[i], false);
    }
}

// Nothing is left: no process, no descriptor, nothing of the budget.
static inline void fixture_close(struct fixture *f)
{
    children_destroy(f->children);
    plugins_destroy(f->plugins);
    assert_int_equal(budget_used(f->budget), 0);
    budget_destroy(f->budget);
    free(f->task);
    free((void *)f->cancelled);
    assert_int_equal(count_processes(), 0);
    assert_int_equal(count_fds(), f->fds);
}

struct call_op {
    Dray__Op op;
    Dray__Step step, *steps[1];
    Dray__Call call;
};

// All tasks have the same argument (size 0: none).
static inline void call_op_init(struct call_op *o, const char *function, ProtobufCBinaryData *argument,
                                size_t count)
{
    dray__op__init(&o->op);
    dray__step__init(&o->step);
    dray__call__init(&o->call);
    o->call.plugin = (char *)(uintptr_t) "hostile";
    o->call.function = (char *)(uintptr_t)function;
    o->call.argument = argument;
    o->call.n_argument = count;
    o->step.call = &o->call;
    o->steps[0] = &o->step;
    o->op.step = o->steps;
    o->op.n_step = 1;
}

static inline void run_calls(struct fixture *f, const char *function, const char *argument,
                             uint32_t timeout_ms, size_t count)
{
    struct call_op o;
    ProtobufCBinaryData bytes = {.len = argument != NULL ? strlen(argument) : 0,
                                 .data = (uint8_t *)(uintptr_t)argument};

    call_op_init(&o, function, &bytes, argument != NULL);
    children_run(f->children, &o.op, timeout_ms, f->task, count);
}

static inline uint64_t result_number(const struct child_task *task)
{
    uint64_t value;

    if (task->rc != 0) {
        fail_msg("task %u: %s", task->index, task->err.text);
    }
    assert_int_equal(task->partition->kind, PARTITION_BYTES);
    assert_int_equal(task->partition->bytes->size, 8);
    memcpy(&value, task->partition->bytes->data, 8);
    return value;
}

static inline void assert_error(const struct child_task *task, int code, const char *text)
{
    if (task->rc != -code || strstr(task->err.text, text) == NULL) {
        fail_msg("%d, \"%s\" instead of %d, \"%s\"", task->rc, task->err.text, -code, text);
    }
    assert_null(task->partition);
}

static inline struct partition *bytes_partition(const void *data, size_t size)
{
    uint8_t *to;
    struct buffer *buffer = buffer_create(size, &to);

    if (size > 0) {
        memcpy(to, data, size);
    }
    return partition_from_bytes(buffer);
}

// Within which something has begun, or a child answers: where others had the machine, the next one is tried.
static const unsigned LONG_ENOUGH_MS[] = {100, 1000, 4000};
enum { LONG_ENOUGH = sizeof(LONG_ENOUGH_MS) / sizeof(LONG_ENOUGH_MS[0]) };

static inline bool is_error(const struct child_task *task, int code, const char *text)
{
    return task->rc == -code && strstr(task->err.text, text) != NULL;
}

// Cancels tasks, `count` of them from `at` on downwards, after a while, from another thread.
struct canceller {
    struct fixture *f;
    size_t at, count;
    unsigned after_ms;
    pthread_t thread;
};

static inline void *canceller_main(void *arg)
{
    struct canceller *c = arg;

    pause_ms(c->after_ms);
    for (size_t i = 0; i < c->count; i++) {
        atomic_store(&c->f->cancelled[c->at - i], true);
        children_wake(c->f->children);
        pause_ms(i + 1 < c->count ? 20 : 0);
    }
    return NULL;
}

static inline void canceller_start(struct canceller *c)
{
    assert_int_equal(pthread_create(&c->thread, NULL, canceller_main, c), 0);
}

#endif
