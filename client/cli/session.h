// A command's connection to a broker that is there: the --broker option, signals, the exit status.
#ifndef DRAY_CLIENT_CLI_SESSION_H
#define DRAY_CLIENT_CLI_SESSION_H

#include <argp.h>

#include "client/cli/lost.h"
#include "client/lib/client.h"

// The option as an argp child; its input is a const char **, NULL before.  session_required_argp fails
// without an address from --broker or DRAY_BROKER.
extern const struct argp session_required_argp;

struct session {
    dray_t *dray;
    struct arena arena; // of answers
    struct lost lost;   // what it says of a lost broker; a command with a progress line puts it in there
};

// Signals as client/cli/signals.h has them.  0, or an error that session_status knows.
int session_open(struct session *session, const char *broker, struct error *err);
void session_close(struct session *session);
// Of a call that failed: complains unless a signal ended it.  -ENOENT (no such job, name): STATUS_USAGE.
int session_status(int rc, const struct error *err);
// Standard output is written to its end: STATUS_OK, or complains.
int session_finish_stdout(void);

// A job by its number or by the name under which it is kept.
int session_job(struct session *session, const char *argument, uint32_t *job, struct error *err);

#endif
