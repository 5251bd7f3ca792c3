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
    QUERY_BROKER,     // could not be reached, or was lost
    QUERY_NO_WORKERS, // none came in time
    QUERY_INTERRUPTED,
    QUERY_OUTPUT, // the host could not take the value
};

#define WORKERS_UNKNOWN UINT32_MAX

struct query_progress {
    uint64_t tasks, done, failed, rows, source_bytes;
    uint32_t workers; // or WORKERS_UNKNOWN
    const char *waiting; // why nothing runs, or NULL
};

struct query_run_host {
    void *context;
    // Called once, when the cluster is first needed.  The connection stays the host's.
    int (*connect)(void *context, dray_t **out, struct error *err);
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
void query_run_destroy(struct query_run *run);
struct query *query_run_query(struct query_run *run);
// To the end of the value.
int query_run_value(struct query_run *run, enum query_outcome *outcome, struct error *err);

#endif
