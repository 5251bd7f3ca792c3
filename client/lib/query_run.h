// Runs a script on a cluster: looks into its files, sends its rounds as jobs, hands on
// the tables of its value in row order.
#ifndef DRAY_CLIENT_LIB_QUERY_RUN_H
#define DRAY_CLIENT_LIB_QUERY_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "client/include/dray.h"
#include "client/plan/query.h"
#include "proto/table.h"

// What went wrong, beside the error's code: decides on the program's exit status.
enum query_outcome {
    QUERY_OK,
    QUERY_SCRIPT,     // the script asks for what cannot be
    QUERY_JOB,        // a task failed
    QUERY_BROKER,     // could not be reached, was lost, or takes no jobs
    QUERY_NO_WORKERS, // none came in time
    QUERY_INTERRUPTED,
    QUERY_OUTPUT, // the host could not take the value
};

#define WORKERS_UNKNOWN UINT32_MAX

struct query_progress {
    uint64_t tasks, done, failed, rows, source_bytes;
    uint32_t workers;    // or WORKERS_UNKNOWN
    const char *waiting; // why nothing runs, or NULL
};

struct query_run_host {
    void *context;
    // Called once, when the cluster is first needed.  The connection stays the host's.
    int (*connect)(void *context, dray_t **out, struct error *err);
    const char *job_name;                            // for people; NULL: none
    bool shared_files;                               // it is known that all workers see the client's files
    unsigned wait_ms;                                // for workers, when there are none
    void (*waiting)(void *context, const char *why); // NULL: not told
    void (*progress)(void *context, const struct query_progress *progress); // NULL: not told
    // A round begins: tables that were handed on before are void.
    int (*begin)(void *context, const struct shape *shape, struct error *err);
    int (*table)(void *context, struct table *table, struct error *err); // borrowed for the call
};

struct query_run;

// Reads and checks the script, and looks into its files.
int query_run_create(const char *script, size_t size, const char *script_name,
                     const struct query_run_host *host, struct query_run **out, enum query_outcome *outcome,
                     struct error *err);
// The script of a job that somebody has submitted (query_run_leave, or a client that went away), from its
// note; its value begins with the results of that job, which stay where they are.  -ENOMSG: it is no script's
// job.
int query_run_adopt(uint32_t job, const void *note, size_t size, const struct query_run_host *host,
                    struct query_run **out, enum query_outcome *outcome, struct error *err);
// Whether that job goes on when this client leaves, whoever had it.
void query_run_keeps(struct query_run *run, bool keeps);
void query_run_destroy(struct query_run *run);
struct query *query_run_query(struct query_run *run);
// The job that it submitted last, or takes over; 0: none has been accepted.
uint32_t query_run_job(const struct query_run *run);
// Submits the first round, which goes on without this client.  For a script that needs a graph.
int query_run_leave(struct query_run *run, uint32_t *job, enum query_outcome *outcome, struct error *err);
// To the end of the value.
int query_run_value(struct query_run *run, enum query_outcome *outcome, struct error *err);

#endif
