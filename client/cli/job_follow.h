// Follows a job to its end: progress, results into a sink, failures to be told at the end.
#ifndef DRAY_CLIENT_CLI_JOB_FOLLOW_H
#define DRAY_CLIENT_CLI_JOB_FOLLOW_H

#include "client/cli/job_view.h"
#include "client/cli/progress.h"
#include "client/cli/result_sink.h"

enum job_outcome {
    JOB_DONE,   // all came
    JOB_FAILED, // it, or some of its tasks
    JOB_CANCELLED,
    JOB_BROKER, // lost, or interrupted
    JOB_OUTPUT, // the sink could not take it
};

struct job_follow {
    dray_t *dray;
    const struct job_view *view;
    struct result_sink *sink;
    struct progress *progress;
    bool quiet;       // no remarks
    bool closed;      // no workers come but those that are there: fails when these cannot go on
    bool until_there; // ends with the last result that was asked for, whatever becomes of the job
    // outcome
    uint64_t tasks, done, failed;
};

// Complains about failed tasks as it goes (the first ten) and about all in one line at the end; *err is about
// the job, the connection or the sink.
enum job_outcome job_follow_run(struct job_follow *follow, struct error *err);
// The same for these ranges alone, when they are few of a job that was attached to as `unfetched`: nothing
// else is fetched.
enum job_outcome job_follow_gather(struct job_follow *follow, const struct job_ranges *ranges,
                                   struct error *err);

#endif
