// Where a result goes: a file that appears whole or not at all, or standard
// output, which gets nothing before the result is complete.
#ifndef DRAY_CLIENT_CLI_OUTPUT_H
#define DRAY_CLIENT_CLI_OUTPUT_H

#include <stdio.h>

#include "proto/error.h"

struct output;

// path NULL or "-": standard output.  What cannot be written is found out now where it can be.
int output_create(const char *path, struct output **out, struct error *err);
// An empty stream; what was written before is gone.  The stream is the output's.
int output_begin(struct output *output, FILE **stream, struct error *err);
// The result is complete: now it appears.  -EPIPE: nobody reads it.
int output_commit(struct output *output, struct error *err);
// Without a commit before, nothing is left.
void output_destroy(struct output *output);

#endif
