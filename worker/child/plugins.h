// The plugins that this worker was started with: name, version, functions, as a process of each has said. The
// worker itself never loads them.  Read-only once made: shared by all threads.
#ifndef DRAY_WORKER_CHILD_PLUGINS_H
#define DRAY_WORKER_CHILD_PLUGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "worker/child/process.h"

struct plugin_function {
    const char *name;
    uint32_t flags; // of dray_task.h
};

struct plugin {
    char *path; // absolute
    const char *name, *version;
    struct plugin_function *function;
    size_t functions;
    char *said; // what name, version and functions point into
};

struct plugins_options {
    const char *const *path; // NULL-terminated
    const char *helper;      // as in process.h
    uint64_t memory;         // that each of their processes may take; 0: no limit
};

struct plugins {
    struct plugin *plugin;
    size_t count;
    const char *helper;
    uint64_t memory;
};

// Starts a process of each once, which says what it is and ends.  Errors name the file.
int plugins_create(const struct plugins_options *options, struct plugins **out, struct error *err);
void plugins_destroy(struct plugins *plugins);
// -ENOENT, with what there is instead.  plugins NULL: there are none.
int plugins_find(const struct plugins *plugins, const char *plugin, const char *function, size_t *plugin_at,
                 size_t *function_at, struct error *err);

// A process of a plugin that waits for its HELLO, which `word` is.  0: it is ready.
int plugins_hello(const struct process *process, const struct channel_word *word, struct error *err);

#endif
