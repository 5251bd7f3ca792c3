// Waits for the end of jobs without taking their results.
#ifndef DRAY_CLIENT_CLI_JOB_WAIT_H
#define DRAY_CLIENT_CLI_JOB_WAIT_H

#include "client/cli/progress.h"
#include "client/cli/session.h"

struct job_wait {
    struct session *session;
    struct progress *progress; // or NULL
    bool quiet;                // no remarks
};

// "queued", "running", "done", ...
const char *job_state_name(Dray__JobState state);

// Complains about what failed, in words; *good: all of its tasks were done.  -ENOENT: there is no such job,
// or its client has gone and it with it.
int job_wait_run(const struct job_wait *wait, uint32_t job, bool *good, struct error *err);

#endif
