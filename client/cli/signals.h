// Signals as a file descriptor, and the deaths of child processes.  A process has one set of
// signal handlers, so this module is one of a kind.
#ifndef DRAY_CLIENT_CLI_SIGNALS_H
#define DRAY_CLIENT_CLI_SIGNALS_H

#include <stddef.h>
#include <sys/types.h>

#include "proto/error.h"

// SIGINT, SIGTERM and SIGHUP make the fd readable for good; a second one ends the
// process at once.  SIGPIPE is ignored.
int signals_init(struct error *err);
int signals_fd(void);
int signals_caught(void); // number, 0: none

// The fd also becomes readable when the process `vital` or the last of `others` ends.  `others`
// must live until signals_unwatch.  The group of `vital` is stopped and continued together with this process.
void signals_watch(pid_t vital, const pid_t *others, size_t count);
void signals_unwatch(void);
// What ended, as waitpid tells; 0: nothing that matters.
pid_t signals_child(int *status);

#endif
