// Where the results of a job go: one after another, in order of tasks and indices, to standard output or a
// file; or each into a file of its own.  Bytes as they are; tables as `dray run` prints them.
#ifndef DRAY_CLIENT_CLI_RESULT_SINK_H
#define DRAY_CLIENT_CLI_RESULT_SINK_H

#include "client/cli/job_view.h"
#include "client/print/print.h"
#include "proto/buffer.h"

struct result_sink;

struct result_sink_options {
    const char *output; // file that appears whole or not at all; NULL or "-": standard output, as they come
    const char *directory; // or a folder, made when it is not there, for files TASK and TASK.INDEX
    enum print_format format;
    bool discard; // they are counted only
};

// Of these ranges of `view`, which both outlive the sink.
int result_sink_create(const struct result_sink_options *options, const struct job_view *view,
                       const struct job_ranges *ranges, struct result_sink **out, struct error *err);
void result_sink_destroy(struct result_sink *sink);
// idle(arg) is called while standard output takes nothing (client/cli/patient.h).
void result_sink_while_waiting(struct result_sink *sink, int (*idle)(void *arg), void *arg);
// Within a layer they come in order.  Those that were not selected are dropped.
int result_sink_put(struct result_sink *sink, uint32_t layer, uint32_t index, struct buffer *encoded,
                    struct error *err);
// There is none of this one.
int result_sink_missing(struct result_sink *sink, uint32_t layer, uint32_t index, struct error *err);
bool result_sink_selected(const struct result_sink *sink, uint32_t layer, uint32_t index);
// Selected tasks that neither came nor are missing.
uint64_t result_sink_left(const struct result_sink *sink);
// What was put so far is with who reads standard output.  Files appear whole.
int result_sink_flush(struct result_sink *sink, struct error *err);
// What is there is written, also when something is missing.
int result_sink_finish(struct result_sink *sink, struct error *err);

#endif
