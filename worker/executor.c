#include "worker/executor.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/arena.h"
#include "worker/kernel/kernel.h"
#include "worker/thread.h"

enum { STACK_BYTES = 1 << 20, STOP_SECONDS = 2 };

struct runner {
    struct executor *executor;
    pthread_t thread;
    struct work *work; // that it runs
    void *scratch;
    struct arena arena;
    struct children *children;
};

struct executor {
    struct executor_options options;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    struct work *queue, **queue_end;
    struct work *done, **done_end;
    int done_fd;
    uint32_t runners;
    struct runner *runner;
};

// ---- work -------------------------------------------------------------------------

struct work *work_create(struct layer *layer, uint32_t index, size_t inputs, size_t input_lists)
{
    struct work *work = calloc(1, sizeof(*work));

    if (work == NULL) {
        return NULL;
    }
    work->layer = layer_ref(layer);
    work->index = index;
    work->inputs = inputs;
    work->input_lists = input_lists;
    work->input = calloc(inputs + 1, sizeof(*work->input));
    work->input_start = calloc(input_lists + 1, sizeof(*work->input_start));
    if (work->input == NULL || work->input_start == NULL) {
        work_destroy(work);
        return NULL;
    }
    return work;
}

static void drop_inputs(struct work *work)
{
    for (size_t i = 0; work->input != NULL && i < work->inputs; i++) {
        partition_unref(work->input[i]);
    }
    free(work->input);
    work->input = NULL;
}

void work_destroy(struct work *work)
{
    if (work != NULL) {
        drop_inputs(work);
        free(work->input_start);
        partition_unref(work->partition);
        buffer_unref(work->note);
        layer_unref(work->layer);
        free(work);
    }
}

// ---- threads ----------------------------------------------------------------------

static bool has_note(const Dray__Note *note)
{
    return note->has_ends_quoted || note->n_widen > 0 || note->has_invalid_utf8 || note->use != NULL;
}

static int pack_note(const Dray__Note *note, struct buffer **out, struct error *err)
{
    uint8_t *bytes;
    struct buffer *buffer;

    if (!has_note(note)) {
        return 0;
    }
    buffer = buffer_create(dray__note__get_packed_size(note), &bytes);
    if (buffer == NULL) {
        return error_no_memory(err);
    }
    dray__note__pack(note, bytes);
    *out = buffer;
    return 0;
}

static bool is_outside(const Dray__Op *op)
{
    return op->step[0]->call != NULL || op->step[0]->command != NULL;
}

// A plugin's function or a command: in a process of its own.
static int run_outside(struct runner *runner, struct work *work, const struct kernel_inputs *inputs,
                       struct child_task *task)
{
    task->index = work->index;
    task->inputs = *inputs;
    task->cancelled = &work->cancelled;
    children_run(runner->children, work->layer->op, work->layer->timeout_ms, task, 1);
    if (task->rc != 0) {
        work->err = task->err;
    }
    work->partition = task->partition;
    return task->rc;
}

static void run(struct runner *runner, struct work *work)
{
    struct executor *executor = runner->executor;
    const struct kernel_inputs inputs = {
        .partition = work->input, .start = work->input_start, .lists = work->input_lists};
    struct kernel_env env = {
        .budget = executor->options.budget,
        .data_dir = executor->options.data_dir,
        .cancelled = &work->cancelled,
        .arena = &runner->arena,
        .scratch = runner->scratch,
    };
    struct child_task outside;

    dray__note__init(&env.note);
    if (atomic_load(&work->cancelled)) {
        work->rc = error_set(&work->err, ECANCELED, "cancelled");
    } else if (work->layer->op == NULL) {
        work->err = work->layer->why;
        work->rc = -work->err.code;
    } else if (is_outside(work->layer->op)) {
        work->rc = run_outside(runner, work, &inputs, &outside);
        env.note.use = outside.has_use ? &outside.use : NULL;
    } else {
        work->rc = kernel_run(work->layer->op, work->index, &inputs, &env, &work->partition, &work->err);
    }
    if (work->rc == 0) {
        work->rc = pack_note(&env.note, &work->note, &work->err);
    }
    work->rows = env.rows;
    work->source_bytes = env.source_bytes;
    arena_reset(&runner->arena);
    drop_inputs(work);
}

static void *runner_main(void *arg)
{
    struct runner *runner = arg;
    struct executor *executor = runner->executor;
    const uint64_t one = 1;

    pthread_mutex_lock(&executor->lock);
    while (!executor->stopping) {
        struct work *work = executor->queue;

        if (work == NULL) {
            pthread_cond_wait(&executor->wake, &executor->lock);
            continue;
        }
        executor->queue = work->next;
        if (executor->queue == NULL) {
            executor->queue_end = &executor->queue;
        }
        work->next = NULL;
        runner->work = work;
        pthread_mutex_unlock(&executor->lock);
        run(runner, work);
        pthread_mutex_lock(&executor->lock);
        runner->work = NULL;
        *executor->done_end = work;
        executor->done_end = &work->next;

        ssize_t written = write(executor->done_fd, &one, sizeof(one));

        (void)written; // only full when nobody has read 2^64 - 2 of them
    }
    pthread_mutex_unlock(&executor->lock);
    // Here, while the thread is there that has started them.
    children_destroy(runner->children);
    runner->children = NULL;
    return NULL;
}

static void close_runner(struct runner *runner)
{
    children_destroy(runner->children);
    kernel_scratch_destroy(runner->scratch);
    arena_fini(&runner->arena);
}

static int start_runner(struct executor *executor, struct runner *runner)
{
    const struct children_options children = {.plugins = executor->options.plugins,
                                              .scratch = executor->options.scratch,
                                              .budget = executor->options.budget};
    int rc;

    runner->executor = executor;
    runner->scratch = kernel_scratch_create();
    arena_init(&runner->arena, 0);
    rc = runner->scratch != NULL ? children_create(&children, &runner->children, NULL) : -ENOMEM;
    if (rc == 0) {
        rc = thread_start(&runner->thread, STACK_BYTES, runner_main, runner);
    }
    if (rc != 0) {
        close_runner(runner);
    }
    return rc;
}

int executor_create(const struct executor_options *options, struct executor **out, struct error *err)
{
    struct executor *executor = calloc(1, sizeof(*executor));
    int rc = 0;

    if (executor == NULL) {
        return error_no_memory(err);
    }
    executor->options = *options;
    executor->queue_end = &executor->queue;
    executor->done_end = &executor->done;
    pthread_mutex_init(&executor->lock, NULL);
    pthread_cond_init(&executor->wake, NULL);
    executor->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    executor->runner = calloc(options->threads, sizeof(*executor->runner));
    if (executor->done_fd < 0 || executor->runner == NULL) {
        rc = -ENOMEM;
    }
    while (rc == 0 && executor->runners < options->threads) {
        rc = start_runner(executor, &executor->runner[executor->runners]);
        executor->runners += rc == 0;
    }
    if (rc != 0) {
        executor_destroy(executor);
        return error_set(err, -rc, "cannot start %u threads: %s", options->threads, strerror(-rc));
    }
    *out = executor;
    return 0;
}

static void destroy_list(struct work *work)
{
    while (work != NULL) {
        struct work *next = work->next;

        work_destroy(work);
        work = next;
    }
}

bool executor_destroy(struct executor *executor)
{
    struct timespec deadline;

    if (executor == NULL) {
        return true;
    }
    executor_cancel_all(executor);
    pthread_mutex_lock(&executor->lock);
    executor->stopping = true;
    pthread_cond_broadcast(&executor->wake);
    pthread_mutex_unlock(&executor->lock);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += STOP_SECONDS;
    for (uint32_t i = 0; i < executor->runners; i++) {
        if (pthread_timedjoin_np(executor->runner[i].thread, NULL, &deadline) != 0) {
            return false;
        }
    }
    for (uint32_t i = 0; i < executor->runners; i++) {
        close_runner(&executor->runner[i]);
    }
    destroy_list(executor->queue);
    destroy_list(executor->done);
    if (executor->done_fd >= 0) {
        close(executor->done_fd);
    }
    pthread_cond_destroy(&executor->wake);
    pthread_mutex_destroy(&executor->lock);
    free(executor->runner);
    free(executor);
    return true;
}

// ---- the owner's side -------------------------------------------------------------

int executor_fd(const struct executor *executor)
{
    return executor->done_fd;
}

void executor_run(struct executor *executor, struct work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&executor->lock);
    *executor->queue_end = work;
    executor->queue_end = &work->next;
    pthread_cond_signal(&executor->wake);
    pthread_mutex_unlock(&executor->lock);
}

static bool is_task(const struct work *work, uint64_t epoch, uint32_t job, uint32_t layer, uint32_t index)
{
    return work != NULL && work->epoch == epoch && work->layer->job == job && work->layer->layer == layer &&
           work->index == index;
}

void executor_cancel(struct executor *executor, uint64_t epoch, uint32_t job, uint32_t layer, uint32_t index)
{
    pthread_mutex_lock(&executor->lock);
    for (struct work *work = executor->queue; work != NULL; work = work->next) {
        if (is_task(work, epoch, job, layer, index)) {
            atomic_store(&work->cancelled, true);
        }
    }
    for (uint32_t i = 0; i < executor->runners; i++) {
        if (is_task(executor->runner[i].work, epoch, job, layer, index)) {
            atomic_store(&executor->runner[i].work->cancelled, true);
            children_wake(executor->runner[i].children);
        }
    }
    pthread_mutex_unlock(&executor->lock);
}

void executor_cancel_all(struct executor *executor)
{
    pthread_mutex_lock(&executor->lock);
    for (struct work *work = executor->queue; work != NULL; work = work->next) {
        atomic_store(&work->cancelled, true);
    }
    for (uint32_t i = 0; i < executor->runners; i++) {
        if (executor->runner[i].work != NULL) {
            atomic_store(&executor->runner[i].work->cancelled, true);
            children_wake(executor->runner[i].children);
        }
    }
    pthread_mutex_unlock(&executor->lock);
}

struct work *executor_take(struct executor *executor)
{
    struct work *work;
    uint64_t count;

    pthread_mutex_lock(&executor->lock);
    work = executor->done;
    if (work != NULL) {
        executor->done = work->next;
        work->next = NULL;
    }
    if (executor->done == NULL) {
        executor->done_end = &executor->done;

        ssize_t got = read(executor->done_fd, &count, sizeof(count));

        (void)got; // nothing there is fine
    }
    pthread_mutex_unlock(&executor->lock);
    return work;
}
