// What is too large for the database, graphs of many explicit edges: a file each, whole or not there.
#ifndef DRAY_BROKER_GRAPHFILE_H
#define DRAY_BROKER_GRAPHFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

// Of what a file has; the database has the same.
struct graphfile {
    int64_t seq;        // of its record, and its name
    uint64_t size, sum; // XXH3
};

struct graphfile graphfile_of(int64_t seq, const void *data, size_t size);
// Written, on the disk, and then renamed to its name.  `folder` is an open directory, `path` its name for
// people.
int graphfile_write(int folder, const char *path, const struct graphfile *file, const void *data,
                    struct error *err);
// The caller frees *out.  -EBADMSG: it is damaged; -ENOENT.
int graphfile_read(int folder, const char *path, const struct graphfile *file, uint8_t **out,
                   struct error *err);
void graphfile_remove(int folder, int64_t seq);
// Removes files for which `wanted` says no.
void graphfiles_sweep(int folder, bool (*wanted)(void *arg, int64_t seq), void *arg);

#endif
