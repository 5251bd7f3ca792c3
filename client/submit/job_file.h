// A file of tasks (README.md of this folder) becomes a graph: one layer a task of the file, however long its
// array. No I/O beyond what the caller lends.
#ifndef DRAY_CLIENT_SUBMIT_JOB_FILE_H
#define DRAY_CLIENT_SUBMIT_JOB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/submit/document.h"
#include "client/submit/numbers.h"
#include "proto/arena.h"
#include "proto/error.h"
#include "proto/graph.pb-c.h"

#define JOB_NAME_MAX 100
// What a packed graph may have: it travels in one frame.
#define JOB_GRAPH_BYTES_MAX ((size_t)60 << 20)

// Texts in the arena.
struct lines {
    const char **line;
    size_t count;
};

struct job_file_host {
    void *context;
    const char *directory; // absolute: relative working directories are below it
    // Lines of a file, and paths that match a pattern in ascending order; NULL: refused.
    int (*lines)(void *context, const char *path, struct arena *arena, struct lines *out, struct error *err);
    int (*glob)(void *context, const char *pattern, struct arena *arena, struct lines *out,
                struct error *err);
};

// Of the layer of the same number.
struct job_file_task {
    const char *name;
    bool is_array;          // has array or params, even if of one
    struct numbers indices; // that people see; as many as the layer has tasks
    bool wanted;            // a result
};

struct job_file {
    const char *name; // NULL: none
    int32_t priority;
    uint32_t failures_max;
    const Dray__Graph *graph;
    struct job_file_task *task;
    uint32_t tasks;
};

// Everything lives in the arena.  -EINVAL: what is wrong, with file, line and column.
int job_file_read(const char *name, const char *text, size_t size, enum document_format format,
                  const struct job_file_host *host, struct arena *arena, struct job_file *out,
                  struct error *err);

#endif
