// A process that outlives this one by a moment, whatever ends it (kill -9 included): it kills
// the child processes that are still there and removes their folder.
#ifndef DRAY_CLIENT_CLI_REAPER_H
#define DRAY_CLIENT_CLI_REAPER_H

#include <sys/types.h>

#include "proto/error.h"

struct reaper;

// Forks: call before the process has threads.
int reaper_start(const char *directory, struct reaper **out, struct error *err);
int reaper_watch(struct reaper *reaper, pid_t child, struct error *err);
// The end has come: does its work now, and waits for that.
void reaper_finish(struct reaper *reaper);

#endif
