// Prints the value of a script as it comes, whole or not at all: for whoever runs it, and for whoever takes
// over the job of one.
#ifndef DRAY_CLIENT_CLI_SCRIPT_VALUE_H
#define DRAY_CLIENT_CLI_SCRIPT_VALUE_H

#include <stdbool.h>

#include "client/cli/progress.h"
#include "client/lib/query_run.h"
#include "client/print/print.h"

struct output;

struct script_value {
    enum print_format format;
    const char *path; // NULL or "-": standard output
    bool quiet;
    unsigned wait_ms;   // for workers
    bool tells_waiting; // says once why the job does not go on
    struct progress *progress;
    void *owner;
    int (*connect)(void *owner, dray_t **out, struct error *err);
    // its own
    struct output *output;
    struct printer *printer;
};

// The output is looked at: what cannot be written is found out now.
int script_value_init(struct script_value *value, struct error *err);
void script_value_fini(struct script_value *value);
// For query_run_create and query_run_adopt; `value` stays where it is.
struct query_run_host script_value_host(struct script_value *value);
int script_value_explain(struct script_value *value, struct query_run *run, struct error *err);
// Runs it to its end and prints its value, and what there is to remark.
int script_value_print(struct script_value *value, struct query_run *run, enum query_outcome *outcome,
                       struct error *err);
// The exit status, but for what depends on the cluster: QUERY_BROKER is STATUS_BROKER, or a signal's.
int script_value_status(enum query_outcome outcome, const struct error *err);

#endif
