// The jobs of one connection as the client sees them: results that were announced, those
// being fetched, those that wait for the user, and the order in which dray_next gives them.
// What has come and was not taken yet stays under a limit of bytes.
//
// Results come in batches: ranges of one layer with their bytes in one buffer.  A task costs four bits
// and a number of two bytes here, and no allocation.
#ifndef DRAY_CLIENT_LIB_RESULTS_H
#define DRAY_CLIENT_LIB_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/include/dray.h"
#include "client/lib/client.h"
#include "client/lib/transfer.h"
#include "client/lib/uplink.h"
#include "proto/graph.pb-c.h"

struct results;
struct job;

// bytes_max: of results held at once; a single larger one is still let in, alone.
int results_create(struct uplink *uplink, int epoll, uint64_t bytes_max, struct results **out,
                   struct error *err);
void results_destroy(struct results *results);

// ---- jobs ----------------------------------------------------------------------------------

struct results_job_options {
    bool detached;  // others may want the results: do not free them once read
    bool ordered;   // in index order of their layer
    bool open;      // more layers come
    bool unfetched; // large results are not fetched unasked
    // Of a pool: results stay on the cluster until they are released, large ones are not fetched unasked, and
    // this counts the tasks that have neither a result nor failed.
    size_t *unfinished;
};
// -EEXIST: known already.  The graph (NULL: without layers) is checked, and read during the call only.
int results_add_job(struct results *results, uint32_t job, const Dray__Graph *graph,
                    const struct results_job_options *options, struct error *err);
// The same from what the broker says of a job that exists.
int results_adopt_job(struct results *results, const Dray__Attached *attached,
                      const struct results_job_options *options, struct error *err);
bool results_has_job(const struct results *results, uint32_t job);
// Forgets it and all that belongs to it; unknown is fine.
void results_drop_job(struct results *results, uint32_t job);
// Stays under this name, so it is not for the client to end it.
void results_keep_job(struct results *results, uint32_t job, const char *name);
void results_unkeep(struct results *results, const char *name);
// The broker refused an extension: the job has failed.
void results_refused(struct results *results, uint32_t job, const Dray__Failure *why);

// How many layers an open job has; -ENOENT: none of ours, -EPIPE: not open, or the code with which it ended.
int results_open_layers(const struct results *results, uint32_t job, uint32_t *layers, struct error *err);
// Checks them too.
int results_add_layers(struct results *results, uint32_t job, const Dray__Graph *graph, struct error *err);
void results_cut_layers(struct results *results, uint32_t job, uint32_t layers); // takes it back
void results_close_job(struct results *results, uint32_t job);                   // its last layers were sent

// Of a pool: a layer that grows by tasks until it is sent; its number is one more than the last's.
struct job *results_find_job(const struct results *results, uint32_t id);
// Any job of the pool that counts there; NULL: there is none.
struct job *results_pool_job(const struct results *results, const size_t *unfinished, uint32_t *id);
int results_begin_layer(struct job *job, struct error *err);
void results_grow_layer(struct job *job, uint32_t layer, uint32_t tasks);
bool results_job_ended(const struct job *job, struct error *why); // failed or cancelled
bool results_job_kept(const struct job *job);
size_t results_job_unfinished(const struct job *job);
void results_sent(struct job *job, uint32_t layers); // the broker knows the layers below

// ---- futures -------------------------------------------------------------------------------

// Tasks of the layer that the future is of.  -ENOENT: unknown or released.
int results_layer_tasks(const struct results *results, const struct dray_future *future, uint32_t *tasks,
                        struct error *err);
// Of a pool, and not sent yet.
bool results_unsent(const struct results *results, const struct dray_future *future);
// 1: has a result or failed; 0: not yet; -ENOENT.
int results_done(const struct results *results, const struct dray_future *future, struct error *err);
// Of no more interest; the broker is told with the next flush.  Unknown ones are skipped.
void results_release(struct results *results, uint32_t job, uint32_t layer, uint32_t first, uint32_t count);

// Ranges of a job's tasks, neighbours joined, as messages have them; NULL: no memory.
Dray__Run **results_runs(uint32_t job, const struct client_range *range, size_t ranges, struct arena *arena,
                         size_t *count);

// ---- layers for open jobs ------------------------------------------------------------------

// Layers [first_layer, + layers), known already, go to the broker, which gets them again after a lost
// connection until it has said that they are safe.  Takes the packed graph (malloc'd; NULL: none, only
// `last`) on success. -EAGAIN: not now (and nothing is taken), unless `must`: then as soon as it can be.
int results_extend(struct results *results, uint32_t job, uint32_t first_layer, uint32_t layers,
                   uint8_t **graph, size_t size, bool last, bool must, struct error *err);
void results_extended(struct results *results, const Dray__Extended *extended);
// The broker may not have all of its layers.
bool results_unconfirmed(const struct results *results, uint32_t job);

// ---- a lost connection ------------------------------------------------------------------------

// Until results_return the broker hears nothing of jobs.
void results_lost(struct results *results);
// Another connection stands: the broker is asked for each job, with tags from *tag on, as far as there is
// room for messages.  -ENOMEM.
int results_return(struct results *results, uint32_t *tag);
void results_returned(struct results *results, const Dray__Attached *attached);
// To be called again and again: asks for the others; when the broker has answered for all, what it does not
// know is said again.  Errors as above.
int results_go_on(struct results *results, uint32_t *tag);
bool results_away(const struct results *results); // results_go_on was not through since results_lost
// There is a job of which something would be lost with the broker.
bool results_stake(const struct results *results);
void results_fail_all(struct results *results, int code, const char *why);
// These were cancelled (no ranges: the job), which the broker may not hear.
void results_cancelled(struct results *results, uint32_t job, const struct client_range *range,
                       size_t ranges);
// The whole job is freed, which it may not hear.  To be called before it is dropped.
void results_farewell(struct results *results, uint32_t job);
void results_forget_farewells(struct results *results); // it is another broker

// ---- what comes -----------------------------------------------------------------------------

// One message of the broker about a job.  Unknown jobs are ignored (their last
// messages may cross our FREE); -EPROTO: it names what the job cannot have.
int results_handle(struct results *results, const struct frame *frame, struct message *message,
                   struct error *err);

void results_process(struct results *results); // receives from workers
void results_tick(struct results *results);
void results_ask(struct results *results);            // for what is to be fetched; before waiting
bool results_ready(struct results *results);          // results_process would find something
bool results_fetching(const struct results *results); // results_tick is needed a few times a second
// There is no room for more before the user takes some.
bool results_full(struct results *results);

// dray_next has something.
bool results_pending(struct results *results);
// 1 and *event, or 0.  event->data stays until the next call or results_destroy.
int results_next(struct results *results, struct dray_event *event);
// The bytes of the last PARTITION, aligned as a decoder wants them, as a new reference; NULL after other
// events, or when there is no memory.
struct buffer *results_current(struct results *results);
// Tells the broker which results were read or released, and of layers for which there was no room; call when a
// batch is through.  Unless at once, a stream of single ones becomes a message every few ms.
void results_flush(struct results *results, bool at_once);
// It has not been told of all.
bool results_unflushed(const struct results *results);

#endif
