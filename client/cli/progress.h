// One line on a terminal that says how far a job is.
#ifndef DRAY_CLIENT_CLI_PROGRESS_H
#define DRAY_CLIENT_CLI_PROGRESS_H

#include <stdbool.h>

#include "client/lib/query_run.h"

enum progress_mode { PROGRESS_AUTO, PROGRESS_NEVER, PROGRESS_ALWAYS };

int progress_mode_parse(const char *name, enum progress_mode *out, struct error *err);

struct progress;

// On standard error.  AUTO: only when that is a terminal.  NULL: no memory (and
// then nothing is shown: the functions take NULL).
struct progress *progress_create(enum progress_mode mode);
bool progress_is_on(const struct progress *progress);
void progress_show(struct progress *progress, const struct query_progress *now);
// Takes the line away; before anything else is printed.
void progress_clear(struct progress *progress);
void progress_destroy(struct progress *progress);

// The line itself, of at most `columns` characters, for a job that is `seconds` old.
void progress_format(const struct query_progress *now, double seconds, unsigned columns, char *out,
                     size_t size);

#endif
