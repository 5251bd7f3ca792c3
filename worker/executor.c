#include "worker/executor.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "worker/thread.h"

enum { STACK_BYTES = 1 << 20, STOP_SECONDS = 2 };

struct thread {
    struct executor *executor;
    pthread_t thread;
    struct runner *runner;
    struct bundle *bundle; // that it runs
};

struct executor {
    struct executor_options options;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    struct bundle *queue, **queue_end;
    struct outcomes *done, **done_end;
    int done_fd;
    uint32_t threads;
    struct thread *thread;
    bool signalled; // done_fd was written to
    // Of the owner's thread.
    struct runner *home;
    struct outcomes *here, **here_end;
};

// ---- threads ----------------------------------------------------------------------

// Under the lock.
static void push_done(struct executor *executor, struct outcomes *outcomes)
{
    const uint64_t one = 1;

    outcomes->next = NULL;
    *executor->done_end = outcomes;
    executor->done_end = &outcomes->next;
    if (!executor->signalled) {
        executor->signalled = true;

        ssize_t written = write(executor->done_fd, &one, sizeof(one));

        (void)written; // only full when nobody has read 2^64 - 2 of them
    }
}

static void on_outcomes(void *arg, struct outcomes *outcomes)
{
    struct thread *thread = arg;
    struct executor *executor = thread->executor;

    pthread_mutex_lock(&executor->lock);
    if (outcomes->over) {
        thread->bundle = NULL; // from now on nothing can be taken back from it
    }
    push_done(executor, outcomes);
    pthread_mutex_unlock(&executor->lock);
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    struct executor *executor = thread->executor;

    pthread_mutex_lock(&executor->lock);
    while (!executor->stopping) {
        struct bundle *bundle = executor->queue;

        if (bundle == NULL) {
            pthread_cond_wait(&executor->wake, &executor->lock);
            continue;
        }
        executor->queue = bundle->next;
        if (executor->queue == NULL) {
            executor->queue_end = &executor->queue;
        }
        bundle->next = NULL;
        thread->bundle = bundle;
        pthread_mutex_unlock(&executor->lock);
        runner_run(thread->runner, bundle, on_outcomes, thread);
        pthread_mutex_lock(&executor->lock);
    }
    pthread_mutex_unlock(&executor->lock);
    // Here, while the thread is there that has started its processes.
    runner_close(thread->runner);
    return NULL;
}

static int start_thread(struct executor *executor, struct thread *thread, struct error *err)
{
    int rc;

    thread->executor = executor;
    rc = runner_create(&executor->options.runner, &thread->runner, err);
    if (rc < 0) {
        return rc;
    }
    rc = thread_start(&thread->thread, STACK_BYTES, thread_main, thread);
    if (rc != 0) {
        runner_destroy(thread->runner);
        return error_set(err, -rc, "cannot start a thread: %s", strerror(-rc));
    }
    return 0;
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
    executor->here_end = &executor->here;
    pthread_mutex_init(&executor->lock, NULL);
    pthread_cond_init(&executor->wake, NULL);
    executor->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    executor->thread = calloc(options->threads, sizeof(*executor->thread));
    if (executor->done_fd < 0 || executor->thread == NULL) {
        rc = error_no_memory(err);
    }
    if (rc == 0) {
        rc = runner_create(&options->runner, &executor->home, err);
    }
    while (rc == 0 && executor->threads < options->threads) {
        rc = start_thread(executor, &executor->thread[executor->threads], err);
        executor->threads += rc == 0;
    }
    if (rc != 0) {
        executor_destroy(executor);
        return rc;
    }
    *out = executor;
    return 0;
}

static void destroy_outcomes(struct outcomes *outcomes)
{
    while (outcomes != NULL) {
        struct outcomes *next = outcomes->next;

        outcomes_destroy(outcomes);
        outcomes = next;
    }
}

static void destroy_all(struct executor *executor)
{
    while (executor->queue != NULL) {
        struct bundle *next = executor->queue->next;

        bundle_destroy(executor->queue);
        executor->queue = next;
    }
    destroy_outcomes(executor->done);
    destroy_outcomes(executor->here);
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
    for (uint32_t i = 0; i < executor->threads; i++) {
        if (pthread_timedjoin_np(executor->thread[i].thread, NULL, &deadline) != 0) {
            return false;
        }
    }
    for (uint32_t i = 0; i < executor->threads; i++) {
        runner_destroy(executor->thread[i].runner);
    }
    runner_destroy(executor->home);
    destroy_all(executor);
    if (executor->done_fd >= 0) {
        close(executor->done_fd);
    }
    pthread_cond_destroy(&executor->wake);
    pthread_mutex_destroy(&executor->lock);
    free(executor->thread);
    free(executor);
    return true;
}

// ---- the owner's side -------------------------------------------------------------

int executor_fd(const struct executor *executor)
{
    return executor->done_fd;
}

void executor_run(struct executor *executor, struct bundle *bundle)
{
    bundle->next = NULL;
    pthread_mutex_lock(&executor->lock);
    *executor->queue_end = bundle;
    executor->queue_end = &bundle->next;
    pthread_cond_signal(&executor->wake);
    pthread_mutex_unlock(&executor->lock);
}

static void on_own_outcomes(void *arg, struct outcomes *outcomes)
{
    struct executor *executor = arg;

    outcomes->next = NULL;
    *executor->here_end = outcomes;
    executor->here_end = &outcomes->next;
}

void executor_run_here(struct executor *executor, struct bundle *bundle)
{
    runner_run(executor->home, bundle, on_own_outcomes, executor);
}

// What has not started of a range's tasks [from, from + count) goes into outcomes.
static void withdraw(struct bundle *bundle, const struct bundle_range *range, uint32_t from, uint32_t count,
                     bool stop, struct outcomes *outcomes)
{
    for (uint32_t i = from; i < from + count; i++) {
        const struct outcome skipped = {
            .kind = OUTCOME_SKIPPED, .layer = range->layer, .first = range->first + i, .count = 1};

        if (bundle_withdraw(bundle, range->at + i)) {
            outcomes_add(outcomes, &skipped);
        } else if (stop) {
            atomic_store(&bundle->cancelled[range->at + i], true);
        }
    }
}

// Which tasks: those of a layer in a range, or all of a bundle.
struct wanted {
    uint64_t epoch;
    bool whole, stop;
    uint32_t bundle;
    uint32_t job, layer, first, count;
};

static void withdraw_from(struct executor *executor, struct bundle *bundle, const struct wanted *wanted)
{
    struct outcomes *outcomes;

    if (bundle == NULL || bundle->epoch != wanted->epoch ||
        (wanted->whole && bundle->number != wanted->bundle)) {
        return;
    }
    outcomes = outcomes_create(bundle);
    if (outcomes == NULL) {
        return; // it goes on; who asked will see
    }
    for (size_t r = 0; r < bundle->ranges; r++) {
        const struct bundle_range *range = &bundle->range[r];
        uint64_t first = range->first;
        uint64_t end = first + range->count;

        if (wanted->whole) {
            withdraw(bundle, range, 0, range->count, wanted->stop, outcomes);
            continue;
        }
        if (range->layer->job != wanted->job || range->layer->layer != wanted->layer) {
            continue;
        }
        first = first > wanted->first ? first : wanted->first;
        end = end < (uint64_t)wanted->first + wanted->count ? end : (uint64_t)wanted->first + wanted->count;
        if (first < end) {
            withdraw(bundle, range, (uint32_t)(first - range->first), (uint32_t)(end - first), wanted->stop,
                     outcomes);
        }
    }
    if (outcomes->count > 0 || outcomes->lost) {
        push_done(executor, outcomes);
    } else {
        outcomes_destroy(outcomes);
    }
}

static void withdraw_wanted(struct executor *executor, const struct wanted *wanted)
{
    pthread_mutex_lock(&executor->lock);
    for (struct bundle *bundle = executor->queue; bundle != NULL; bundle = bundle->next) {
        withdraw_from(executor, bundle, wanted);
    }
    for (uint32_t i = 0; i < executor->threads; i++) {
        withdraw_from(executor, executor->thread[i].bundle, wanted);
        if (wanted->stop && executor->thread[i].bundle != NULL) {
            runner_wake(executor->thread[i].runner);
        }
    }
    pthread_mutex_unlock(&executor->lock);
}

void executor_withdraw(struct executor *executor, uint64_t epoch, uint32_t job, uint32_t layer,
                       uint32_t first, uint32_t count, bool stop)
{
    const struct wanted wanted = {
        .epoch = epoch, .stop = stop, .job = job, .layer = layer, .first = first, .count = count};

    withdraw_wanted(executor, &wanted);
}

void executor_cut(struct executor *executor, uint64_t epoch, uint32_t bundle)
{
    const struct wanted wanted = {.epoch = epoch, .whole = true, .bundle = bundle};

    // Those of its tasks that have ended do not wait for the one that runs.  Publishing takes our lock.
    for (uint32_t i = 0; i < executor->threads; i++) {
        bool is_it;

        pthread_mutex_lock(&executor->lock);
        is_it = executor->thread[i].bundle != NULL && executor->thread[i].bundle->number == bundle;
        pthread_mutex_unlock(&executor->lock);
        if (is_it) {
            runner_publish_now(executor->thread[i].runner);
        }
    }
    withdraw_wanted(executor, &wanted);
}

static void cancel_bundle(struct bundle *bundle)
{
    for (uint32_t i = 0; bundle != NULL && i < bundle->tasks; i++) {
        bundle_withdraw(bundle, i);
        atomic_store(&bundle->cancelled[i], true);
    }
}

void executor_cancel_all(struct executor *executor)
{
    pthread_mutex_lock(&executor->lock);
    for (struct bundle *bundle = executor->queue; bundle != NULL; bundle = bundle->next) {
        cancel_bundle(bundle);
    }
    for (uint32_t i = 0; i < executor->threads; i++) {
        cancel_bundle(executor->thread[i].bundle);
        runner_wake(executor->thread[i].runner);
    }
    pthread_mutex_unlock(&executor->lock);
}

uint64_t executor_ran(const struct executor *executor)
{
    uint64_t ran = runner_ran(executor->home);

    for (uint32_t i = 0; i < executor->threads; i++) {
        ran += runner_ran(executor->thread[i].runner);
    }
    return ran;
}

static struct outcomes *take_own(struct executor *executor)
{
    struct outcomes *outcomes = executor->here;

    executor->here = outcomes->next;
    if (executor->here == NULL) {
        executor->here_end = &executor->here;
    }
    outcomes->next = NULL;
    return outcomes;
}

struct outcomes *executor_take(struct executor *executor)
{
    struct outcomes *outcomes;
    uint64_t count;

    if (executor->here != NULL) {
        return take_own(executor);
    }
    pthread_mutex_lock(&executor->lock);
    outcomes = executor->done;
    if (outcomes != NULL) {
        executor->done = outcomes->next;
        outcomes->next = NULL;
    }
    if (executor->done == NULL) {
        executor->done_end = &executor->done;
        if (executor->signalled) {
            executor->signalled = false;

            ssize_t got = read(executor->done_fd, &count, sizeof(count));

            (void)got; // nothing there is fine
        }
    }
    pthread_mutex_unlock(&executor->lock);
    return outcomes;
}
