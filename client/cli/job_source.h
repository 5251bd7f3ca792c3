// The files that a job is made of: its own text, lists of parameters, folders that patterns look into.
#ifndef DRAY_CLIENT_CLI_JOB_SOURCE_H
#define DRAY_CLIENT_CLI_JOB_SOURCE_H

#include "client/submit/job_file.h"

// "-": standard input.  The text is the arena's.
struct job_source {
    const char *name;
    const char *text;
    size_t size;
};
int job_source_read(const char *path, struct arena *arena, struct job_source *out, struct error *err);

// A host of job_file_read that reads files; `directory` is the working directory, in the arena.
int job_source_host(struct arena *arena, struct job_file_host *out, struct error *err);

#endif
