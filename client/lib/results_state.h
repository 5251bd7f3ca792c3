// What the files results*.c and gather.c share; nobody else's business.
//   results.c          jobs and layers
//   results_message.c  what the broker says
//   results_batch.c    batches of results, and which tasks have one
//   results_fetch.c    fetching what does not come along
//   results_next.c     what the user gets
//   results_rejoin.c   jobs of a connection that was lost, on another one
//   gather.c           what a call waits for
#ifndef DRAY_CLIENT_LIB_RESULTS_STATE_H
#define DRAY_CLIENT_LIB_RESULTS_STATE_H

#include "client/lib/extends.h"
#include "client/lib/results.h"
#include "proto/map.h"

enum {
    FETCHES_MAX = 8,         // partitions under way at once for dray_next,
    SMALL_FETCHES_MAX = 512, // of so many bytes:
    SMALL_BYTES = 16 << 10,
    GATHER_FETCHES = 512, // and for a gather
    READS_MAX = 4096,     // ranges read before the broker is told without being asked
    FLUSH_US = 5000,      // between two times that it is told, else
    LOST_US = 3000000,    // ask for a lost result again if nothing was heard of it for so long
    FAILURES_KEPT = 1000, // texts of failed tasks that a job keeps
    SOURCES_MAX = 65535,
    CANCELS_MAX = 4096,   // ranges that are cancelled again after a lost connection
    FAREWELLS_MAX = 1024, // jobs that are freed again
};

// A worker that results are at.
struct source {
    uint32_t worker;
    uint64_t incarnation;
    char **endpoint;
    size_t endpoints;
};

// Why tasks failed.
struct failure {
    unsigned refs;
    int code;
    char text[];
};
struct failed_range {
    uint32_t layer, first, count;
    struct failure *why;
};

struct note {
    struct note *next;
    uint32_t layer, index;
    size_t size;
    uint8_t data[];
};

// Sets of tasks of a layer.
enum task_set {
    TASK_HERE,   // it is known to have a result, or to have failed
    TASK_TAKEN,  // the user has it, or it is of no interest: dray_next does not give it
    TASK_FAILED, // where[] is the code
    TASK_GONE,   // released
    TASK_FREED,  // the broker was, or is to be, told that its result need not be kept
    TASK_SETS
};

struct layer {
    uint32_t tasks;
    bool wanted;
    bool gone;           // all its tasks are released
    uint32_t held;       // tasks that are not
    uint64_t *set;       // TASK_SETS times so many words as `tasks` takes; made with the first that is set
    uint16_t *where;     // [tasks], number of the source; behind the sets
    uint8_t *noted;      // [tasks], made with the first note
    struct batch **at;   // ordered jobs: [tasks], the batch that a result waits in
    uint32_t next;       // ordered jobs: index to be delivered next
    uint32_t batches[2]; // ordered jobs: that are ready, that are announced
};

// Neighbours in a batch.
struct batch_range {
    uint32_t first, count;
    uint32_t size_at; // place of their sizes
    uint64_t offset;  // of their bytes
};

struct batch {
    struct batch *previous, *next;
    struct job *job;
    uint32_t layer;
    bool announced;          // waits for being fetched
    uint32_t left;           // results that are not TAKEN
    struct buffer *bytes;    // NULL: they are elsewhere, or failed
    struct failure *failure; // they failed
    uint64_t held;           // of results->bytes_held
    uint64_t overhead;       // of results->overhead
    uint32_t at_range, at;   // the next to be given
    uint64_t at_offset;
    uint64_t size;   // of each; or
    uint64_t *sizes; // one a result, when they differ
    uint32_t ranges;
    struct batch_range range[];
};

// A result on its way here.
struct fetch {
    struct fetch *previous, *next;
    struct job *job;
    uint32_t layer, index;
    struct transfer
        *transfer; // NULL: nobody has it; the broker announces it anew when it has been made again
    uint64_t lost_us;
    uint64_t reserved; // of bytes_held
    bool for_user, for_gather;
};

// A list of jobs.
struct jobs {
    struct job *first, *last;
};
enum jobs_list {
    JOBS_STIRRED,   // something may have come for the user
    JOBS_ANNOUNCED, // has results that are announced; ordered ones first
    JOBS_UNFLUSHED, // has reads, or may be over
    JOBS_LISTS
};

struct job {
    struct job *next, *previous;
    struct job *list_next[JOBS_LISTS], *list_previous[JOBS_LISTS];
    bool listed[JOBS_LISTS];
    struct results *results;
    uint32_t id;
    struct results_job_options options;
    struct layer *layer;
    uint32_t layers, layers_room, layers_gone;
    size_t unfinished; // of a pool
    uint32_t sent;     // layers of a pool that the broker knows
    struct {
        struct batch *first, *last;
    } ready, announced; // in order of arrival
    uint64_t *with[2];  // ordered jobs: the layers that have batches which are ready, announced
    size_t undelivered; // of user's: results in both lists and under way
    struct note *note, **note_end;
    struct dray_event progress; // the newest only
    bool progress_fresh;
    char waiting[256];
    struct dray_event end;
    bool ended, end_delivered;
    char *kept;
    struct failed_range *failed; // [FAILURES_KEPT]
    size_t failures;
    struct client_range *read; // to tell the broker
    size_t reads;
    // What was freed (TASK_FREED) from here to there it may not have heard of; task_place.
    uint64_t unsaid_from, unsaid_end;
    // For a connection that takes the place of a lost one.
    bool cancelled_all;             // to be cancelled,
    struct client_range *cancelled; // or these tasks; [CANCELS_MAX]
    size_t cancels;
    uint32_t attach_tag; // not 0: the broker is asked for it
    uint32_t lowest;     // layer that the broker was not known to have then
    bool rejoined;
    bool asked,
        told; // in the session that stands now: the broker for it; the broker what it may not have heard
};

struct gather;

struct results {
    struct uplink *uplink;
    struct transfers *transfers;
    struct job *jobs;      // all, the newest first
    struct jobs list[JOBS_LISTS];
    struct map numbers;    // jobs by number
    struct job *found;     // the last one asked for
    struct source *source; // [0] is nobody
    size_t sources, sources_room;
    struct map fetches;  // struct fetch by task
    struct fetch *fetch; // all
    size_t lost;
    uint64_t bytes_max;
    uint64_t bytes_held;         // of results, that are here or under way
    uint64_t overhead;           // of batches and notes themselves
    struct buffer *current;      // what the last dray_event points into
    const uint8_t *current_data; // NULL: it gave no bytes
    size_t current_size;
    struct note *current_note;
    char current_waiting[256];
    struct gather *gather; // NULL: no call waits
    uint64_t flushed_us;
    bool admitting;
    bool resting; // no small fetches begin before half of them are done
    enum { LINK_UP, LINK_LOST, LINK_ASKED, LINK_ANSWERED } link;
    bool unasked;       // LINK_ASKED: there was no room for all messages at once
    size_t farewell_at; // ... of these are said again
    size_t returning;   // jobs that the broker is asked for
    struct extends extends;
    uint32_t farewell[FAREWELLS_MAX]; // the last jobs that were freed as a whole; 0: none
    size_t farewells;
};

// ---- results.c -----------------------------------------------------------------------------

// The job ends here, whatever the broker says of it.
void results_fail_job(struct job *job, int code, const char *text);
// Its remaining tasks count as finished.
void job_finish(struct job *job);
// So many of them do.
void job_count_finished(struct job *job, size_t tasks);
// It is done, and all of its results have been told of: those that were not are of a client that had the job
// before, has read them and let go of them.  Released here, too.
void job_miss_results(struct job *job);
// Into the list, if it is not in it; out of it, if it is.
void job_list(struct job *job, enum jobs_list list);
void job_unlist(struct job *job, enum jobs_list list);
void job_drop_undelivered(struct job *job); // they are of no more interest
// Its results are freed once they were read here.
bool job_frees_read(const struct job *job);
// Tells the broker that results need not be kept.
void job_mark_read(struct job *job, uint32_t layer, uint32_t first, uint32_t count);

// ---- results_batch.c -------------------------------------------------------------------------

// -ENOMEM.  Its sets are there after this.
int layer_prepare(struct layer *layer);
bool layer_has(const struct layer *layer, enum task_set set, uint32_t index);
void layer_add(struct layer *layer, enum task_set set, uint32_t first, uint32_t count);
// How many from `index` on, below `end`, are alike; *in: in the set or not.
uint32_t layer_alike(const struct layer *layer, enum task_set set, uint32_t index, uint32_t end, bool *in);

struct failure *failure_create(int code, const char *text);
void failure_unref(struct failure *failure);

// A batch of `ranges`, to be filled in; sizes: one a result follow it.  NULL: no memory.
struct batch *batch_create(struct job *job, uint32_t layer, uint32_t ranges, size_t sizes);
// The first layer from this one on with batches that are announced, or else ready; job->layers: none.  Of an
// ordered job.
uint32_t job_layer_with(const struct job *job, bool announced, uint32_t from);
void batch_append(struct batch *batch);  // to its job, for dray_next or to be fetched
void batch_destroy(struct batch *batch); // takes it out of its list
static inline uint64_t batch_size_at(const struct batch *batch, uint32_t place)
{
    return batch->sizes != NULL ? batch->sizes[place] : batch->size;
}
// Takes out the next that is not TAKEN; there is one.
void batch_take(struct batch *batch, uint32_t *index, uint64_t *offset, uint64_t *size);
// Tasks of a released or gathered range are not given by dray_next any more.
void job_forget_range(struct job *job, uint32_t layer, uint32_t first, uint32_t count);

// ---- results_fetch.c --------------------------------------------------------------------------

int fetches_create(struct results *results, int epoll, struct error *err);
// Begins to fetch what there is room for.
void fetches_admit(struct results *results);
// For a gather.  -ENOMEM, -ENOENT: nobody is known to have it.
int fetch_gathered(struct job *job, uint32_t layer, uint32_t index, struct error *err);
void fetch_cancel(struct fetch *fetch);
// NULL: it is not under way.
struct fetch *fetch_find(const struct job *job, uint32_t layer, uint32_t index);
// The result is at layer.where[] now; `same`: as before.
void fetch_moved(struct job *job, uint32_t layer, uint32_t index, bool same);
// Number of a worker; 0 when it is not said, or there is no memory.
uint16_t source_number(struct results *results, bool has_worker, uint32_t worker, uint64_t incarnation,
                       char *const *endpoint, size_t endpoints);

// ---- results_rejoin.c ---------------------------------------------------------------------------

static inline uint64_t task_place(uint32_t layer, uint32_t index)
{
    return (uint64_t)layer << 32 | index;
}
// Tells what the broker may not have heard of, below `end`, in order and as far as there is room: the next
// call goes on from there.
int job_free_unsaid(struct job *job, uint64_t end);
// It is known again.
void farewell_forget(struct results *results, uint32_t job);

// ---- gather.c ----------------------------------------------------------------------------------

// Some of the layer is still waited for; no gather (NULL) wants nothing.
bool gather_wants(const struct gather *gather, const struct job *job, uint32_t layer);
// A batch came: takes what is gathered out of it (TAKEN).  Returns how many.
uint32_t gather_offer(struct gather *gather, struct batch *batch);
void gather_put(struct gather *gather, const struct job *job, uint32_t layer, uint32_t index,
                struct buffer *bytes); // a fetched one
void gather_fail(struct gather *gather, const struct job *job, int code, const char *text);
// A task of it that had a result has failed after all.
void gather_fail_task(struct gather *gather, const struct job *job, uint32_t layer, uint32_t index);
void gather_job_ended(struct gather *gather, const struct job *job);
void gather_job_done(struct gather *gather, const struct job *job);

#endif
