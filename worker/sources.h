// The files below --data-dir, walked again every few seconds on a thread of its own (a
// slow file system must not hold up heartbeats).
#ifndef DRAY_WORKER_SOURCES_H
#define DRAY_WORKER_SOURCES_H

#include <stddef.h>

#include "proto/error.h"

#define SOURCES_FILES_MAX 100000 // more are left out

struct source_files {
    size_t count;
    char **name; // below its data dir, sorted
    char **path; // absolute
};

// One walk.  Regular files, behind symbolic links too; what cannot be read is left out.
int source_files_walk(const char *const *data_dir, struct source_files **out, struct error *err);
void source_files_destroy(struct source_files *files);

struct sources;

// The first walk is done when it returns.  -ENOENT, -ENOTDIR...: a data dir that is none.
int sources_create(const char *const *data_dir, unsigned interval_ms, struct sources **out,
                   struct error *err);
void sources_destroy(struct sources *sources);
int sources_fd(const struct sources *sources); // readable when the files have changed
// The files, if they have changed since the last call (or it is the first); otherwise NULL.
struct source_files *sources_take(struct sources *sources);

#endif
