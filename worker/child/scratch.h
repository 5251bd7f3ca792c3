// Folders that are made for a task and removed with all that is in them.
#ifndef DRAY_WORKER_CHILD_SCRATCH_H
#define DRAY_WORKER_CHILD_SCRATCH_H

#include <stdbool.h>

#include "proto/error.h"

// Makes an empty folder "dray-XXXXXX" below `base`; the path is the caller's to free.
int scratch_create(const char *base, char **path, struct error *err);
// Removes it, following no links, whatever the modes inside.  -errno of what could not be removed.
int scratch_remove(const char *path);
// Its file system has no room to speak of (16 KiB, or a file): who wrote there has most likely failed for
// that.
bool scratch_is_full(const char *path);
// It is empty and as it was made.  A new folder costs many times as much as asking this.
bool scratch_is_untouched(const char *path);

#endif
