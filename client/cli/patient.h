// A stream whose reader may take its time (a pager, a terminal that was stopped): meanwhile something else is done
// every now and then, as a session's heartbeats, which a write that blocks would keep from going out.
#ifndef DRAY_CLIENT_CLI_PATIENT_H
#define DRAY_CLIENT_CLI_PATIENT_H

#include <stdio.h>

// Writes to `fd`, which it does not close.  idle(arg) is called at least every PATIENT_MS while nothing can be
// written; what it returns other than 0 is an error (negative errno) of the write.  NULL: no memory.
FILE *patient_open(int fd, int (*idle)(void *arg), void *arg);

enum { PATIENT_MS = 50 };

#endif
