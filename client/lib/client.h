// What Dray's own programs use of a connection beyond dray.h.
#ifndef DRAY_CLIENT_LIB_CLIENT_H
#define DRAY_CLIENT_LIB_CLIENT_H

#include <stdbool.h>

#include "client/include/dray.h"
#include "proto/arena.h"
#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/wire.pb-c.h"

#define CLIENT_ANSWER_MS 5000
// What a job waits for is said after so long: a worker that is about to come is not worth a word.
#define CLIENT_WORTH_A_WORD_US 2000000

// dray_connect, and its waiting (as that of all later calls) ends with -EINTR when `interrupt`
// becomes readable; -1: none.  The caller keeps the fd open until dray_close.
int client_connect(const char *endpoint, const struct dray_options *options, int interrupt, dray_t **out,
                   struct error *err);

// Called when the connection was lost and is looked for (why not NULL), and when it stands again and the
// broker has answered for all jobs. From within other calls: it may not call any itself.
struct client_lost {
    const struct error *why;
    unsigned patience_ms; // it is looked for so long
    unsigned away_ms;     // it was lost so long
    bool goes_on;         // a job that something is still to come of
    bool anew;            // it is another broker, which knows nothing of what was
};
typedef void client_lost_function(void *arg, const struct client_lost *now);
void client_on_lost(dray_t *dray, client_lost_function *function, void *arg);

// dray_close that leaves the goodbye at most linger_ms to get through (at the program's exit).
void client_close(dray_t *dray, int linger_ms);

// dray_wait that is not ended by signals, but by the interrupt only.
int client_wait(dray_t *dray, int timeout_ms, struct error *err);

// Both wait for the broker's answer, at most CLIENT_ANSWER_MS (-ETIMEDOUT); it lives in the arena.
int client_cluster(dray_t *dray, struct arena *arena, const Dray__Cluster **out, struct error *err);
int client_sources(dray_t *dray, const char *pattern, const char *path, bool glob, struct arena *arena,
                   const Dray__Sources **out, struct error *err);

// All jobs (job 0), or one with its layers and failures.  Waits as above.  -ENOENT: there is no such job.
int client_jobs(dray_t *dray, uint32_t job, struct arena *arena, const Dray__Jobs **out, struct error *err);
// One, without its layers and failures.
int client_job(dray_t *dray, uint32_t job, struct arena *arena, const Dray__JobInfo **out, struct error *err);

struct client_attach {
    uint32_t job;     // or
    const char *kept; // a name, not NULL
    bool look;        // only asks: nothing comes of the job
    bool ordered;     // its results come in index order of their layer
    bool unfetched;   // without their data, unless they came along: for dray_gather
    bool detach;      // from now on the job goes on when this client goes away
};
// dray_attach, with all that the broker says of the job: state, note, layers.
int client_attach(dray_t *dray, const struct client_attach *how, struct arena *arena,
                  const Dray__Attached **out, struct error *err);
// A job whose client was lost goes on by itself from now on, as if it had been submitted so.  Its results do
// not come here: another connection takes it over and leaves it.
int client_adopt(dray_t *dray, uint32_t job, struct error *err);
int client_keep(dray_t *dray, uint32_t job, const char *name, struct error *err);
int client_unkeep(dray_t *dray, const char *name, struct error *err);
// Asks all workers of these names to leave.  -ENOENT: no worker is called so, and none was asked.
int client_retire(dray_t *dray, char *const *name, size_t names, struct error *err);

// Tasks [first, first + count) of a layer.
struct client_range {
    uint32_t layer, first, count;
};
// The whole job when there are no ranges.  Sent, not waited for: the job's events tell what became of it.
int client_cancel(dray_t *dray, uint32_t job, const struct client_range *range, size_t ranges,
                  struct error *err);

// Waits until it is done, and safe where the broker has a journal.  For jobs of which this client has no
// results.
int client_cancel_safely(dray_t *dray, uint32_t job, const struct client_range *range, size_t ranges,
                         struct error *err);

// The bytes of the partition that dray_next gave last, as a new reference; NULL: it gave none.
struct buffer *client_event_buffer(dray_t *dray);

// Between dray.h's error and ours.
static inline int client_error(int rc, const struct error *from, struct dray_error *to)
{
    if (to != NULL && rc < 0) {
        to->code = from->code;
        __builtin_memcpy(to->text, from->text, sizeof(to->text));
    }
    return rc;
}
_Static_assert(sizeof(struct error) == sizeof(struct dray_error), "the two errors are one");

#endif
