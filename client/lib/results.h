// The jobs of one connection as the client sees them: results that were announced, those
// being fetched, those that wait for the user, and the order in which dray_next gives them.
// What is fetched and not yet taken stays under a limit of bytes.
#ifndef DRAY_CLIENT_LIB_RESULTS_H
#define DRAY_CLIENT_LIB_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/include/dray.h"
#include "client/lib/transfer.h"
#include "client/lib/uplink.h"
#include "proto/graph.pb-c.h"

struct results;

// bytes_max: of results held at once; a single larger one is still let in, alone.
int results_create(struct uplink *uplink, int epoll, uint64_t bytes_max, struct results **out,
                   struct error *err);
void results_destroy(struct results *results);

struct results_job_options {
    bool detached; // others may want the results: do not free them once read
    bool ordered;  // in index order of their layer
};
// -EEXIST: known already.  The graph is checked, and read during the call only.
int results_add_job(struct results *results, uint32_t job, const Dray__Graph *graph,
                    const struct results_job_options *options, struct error *err);
bool results_has_job(const struct results *results, uint32_t job);
// Forgets it and all that belongs to it; unknown is fine.
void results_drop_job(struct results *results, uint32_t job);

// One message of the broker about a job.  Unknown jobs are ignored (their last
// messages may cross our FREE); -EPROTO: it names what the job cannot have.
int results_handle(struct results *results, const struct frame *frame, struct message *message,
                   struct error *err);

void results_process(struct results *results); // receives from workers
void results_tick(struct results *results);
bool results_ready(struct results *results);          // results_process would find something
bool results_fetching(const struct results *results); // results_tick is needed a few times a second

// dray_next has something.
bool results_pending(const struct results *results);
// 1 and *event, or 0.  event->data stays until the next call or results_destroy.
int results_next(struct results *results, struct dray_event *event);
// What event->data of the last PARTITION points into, as a new reference; NULL after other events.
struct buffer *results_current(struct results *results);
// Tells the broker which results were read; call when a batch is through.
void results_flush(struct results *results);

#endif
