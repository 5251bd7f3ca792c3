// Threads that run bundles.  Bundles go in from one thread, the owner's; outcomes come
// back to it through a file descriptor that becomes readable.
#ifndef DRAY_WORKER_EXECUTOR_H
#define DRAY_WORKER_EXECUTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"
#include "worker/bundle.h"
#include "worker/runner.h"

struct executor;

struct executor_options {
    uint32_t threads;
    struct runner_options runner;
};

int executor_create(const struct executor_options *options, struct executor **out, struct error *err);
// Asks all that runs to stop and waits for the threads up to two seconds.  False: one is
// stuck (in a read of a dead file system, say); then nothing is freed.
bool executor_destroy(struct executor *executor);

int executor_fd(const struct executor *executor);
// Takes over the bundle.
void executor_run(struct executor *executor, struct bundle *bundle);
// The same on the owner's own thread: its outcomes are there when this returns.
void executor_run_here(struct executor *executor, struct bundle *bundle);
// Tasks [first, first + count) of a layer, of this epoch, that have not started come back as skipped: that
// outcome is there when this returns.  `stop`: those that run are asked to stop as well, and come back soon,
// with -ECANCELED or their outcome.
void executor_withdraw(struct executor *executor, uint64_t epoch, uint32_t job, uint32_t layer,
                       uint32_t first, uint32_t count, bool stop);
// The same for all that a bundle has not started; what it has done is told as well.
void executor_cut(struct executor *executor, uint64_t epoch, uint32_t bundle);
// All of it: nothing starts any more, what runs is asked to stop.
void executor_cancel_all(struct executor *executor);
// Tasks that its threads have run up to now (runner_ran).
uint64_t executor_ran(const struct executor *executor);
// The next outcomes, or NULL; the caller's to destroy.
struct outcomes *executor_take(struct executor *executor);

#endif
