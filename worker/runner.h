// Runs the tasks of a bundle, one after another: takes their inputs from the store, puts their
// partitions there.  One for each thread.
#ifndef DRAY_WORKER_RUNNER_H
#define DRAY_WORKER_RUNNER_H

#include "proto/error.h"
#include "worker/bundle.h"
#include "worker/child/plugins.h"
#include "worker/store/budget.h"
#include "worker/store/store.h"

struct runner;

struct runner_options {
    struct budget *budget;
    struct store *store;
    const char *const *data_dir;   // NULL-terminated; NULL: the shared file system
    const struct plugins *plugins; // NULL: none
    const char *scratch;           // where commands get their folders; NULL: /tmp
};

int runner_create(const struct runner_options *options, struct runner **out, struct error *err);
void runner_destroy(struct runner *runner); // NULL is fine

// Ends the processes that its tasks ran in; by the thread that used it, and then there are no more tasks for
// it.
void runner_close(struct runner *runner);
// From any thread: look at what is cancelled now.
void runner_wake(struct runner *runner);

// publish(arg, outcomes) takes over outcomes: every two milliseconds or so what there is, and at the end the last
// ones, which own the bundle.
typedef void (*runner_publish)(void *arg, struct outcomes *outcomes);
void runner_run(struct runner *runner, struct bundle *bundle, runner_publish publish, void *arg);
// From any thread: what has ended goes out now, whatever the task takes that runs.
void runner_publish_now(struct runner *runner);
// Tasks that it has run up to now, each invocation of an operation counted where it is made; from any thread.
uint64_t runner_ran(const struct runner *runner);

#endif
