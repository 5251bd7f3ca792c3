// The scheduler: a function from events to actions.  No sockets, no threads, no
// clock, no files; time and randomness arrive in events.  The same events give
// the same actions.
//
// Everything that an event points to is borrowed for the call; what an action
// points to lives until the next sched_step or sched_destroy.
#ifndef DRAY_BROKER_CORE_SCHED_H
#define DRAY_BROKER_CORE_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/error.h"
#include "proto/graph.h"

struct sched;

struct sched_options {
    uint32_t queue_depth;  // tasks of unknown length that a worker holds per thread beyond those that run
    bool ahead;            // tasks are assigned before their inputs are made, where those are being made
    uint32_t attempts_max; // worker deaths that one task may see before it is set aside
    uint64_t moment_us;    // workers that die so close together while they run different tasks died of none of them;
                           // 0: each death counts
    uint64_t straggler_us; // a task that takes three times as long as its like and this is run twice; 0: none
    uint64_t progress_us;  // interval of PROGRESS to clients
    uint64_t tasks_max;    // of all jobs that are kept; a submit beyond it is refused
    uint32_t jobs_max;
    uint64_t bytes_max;  // memory of their graphs and tasks
    uint64_t orphan_us;  // that an attached job is kept after its client was lost; 0: given up at once
    uint64_t ttl_us; // that a detached job with nothing left to do is kept while nobody has it; 0: for ever
    uint64_t recover_us; // that placement waits for expected workers at most
    bool records;        // ACTION_RECORD is said: what is worth remembering
};
void sched_options_default(struct sched_options *options);

struct sched *sched_create(const struct sched_options *options);
void sched_destroy(struct sched *sched);

// Tasks or partitions of one layer: [first, first + count).
struct task_range {
    uint32_t job;
    uint32_t layer;
    uint32_t first;
    uint32_t count;
};

enum sched_event_type {
    EVENT_TICK,          // time passed
    EVENT_WORKER_JOINED, // handshake done
    EVENT_WORKER_LEFT,   // connection lost, timeout, or bye
    EVENT_WORKER_STATUS, // heartbeat
    EVENT_SOURCES,       // files that a worker can read: replaces what was known
    EVENT_HOLDING,       // partitions that a worker advertises (full or change)
    EVENT_TASKS_DONE,
    EVENT_TASK_FAILED,
    EVENT_TASKS_DROPPED, // a worker gave back what had not started
    EVENT_CLIENT_JOINED,
    EVENT_CLIENT_LEFT,
    EVENT_SUBMIT,
    EVENT_CANCEL,
    EVENT_FREE,           // the client needs these results no more
    EVENT_RESULT_LOST,    // somebody could not fetch this partition from that worker
    EVENT_EXTEND,         // more layers for an open job, or its end
    EVENT_ATTACH,         // the client takes over a job; its results are told anew
    EVENT_KEEP,           // the job and its results stay, whatever becomes of clients; or no more
    EVENT_WORKER_LEAVING, // takes no more tasks; says BYE when it has none left
    EVENT_CLIENT_FULL,    // does not read fast enough: no results for it until it has room again
    // What was before a restart.  First EXPECT for each worker; then each job's SUBMIT, EXTENDs and KEEPs with
    // client 0, in their old order among all jobs; then what became of tasks; then of jobs; then the world.
    EVENT_EXPECT,        // a worker that was there: nothing is placed before all of them are back
    EVENT_RESTORE_TASKS, // these were over or had failed
    EVENT_RESTORE_JOB,   // it had ended, or when it was submitted
};

enum job_state { JOB_QUEUED = 1, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

enum restore_state {
    RESTORE_OVER = 1, // RECORD_TASKS_OVER
    RESTORE_FAILED,   // RECORD_TASKS_FAILED
};

struct sched_event {
    enum sched_event_type type;
    uint64_t now_us;
    union {
        struct {
            uint32_t worker; // peer number, never reused in a broker's life
            uint32_t threads;
            uint64_t memory;
            bool shared_files; // sees the file system that all see (no --data-dir)
            const char *name;
            size_t labels, resources;
            char *const *label;
            Dray__Resource *const *resource;
            uint64_t incarnation; // of its process; 0: not known
        } joined;
        struct {
            uint32_t worker;
            const char *why;
            bool on_purpose; // said BYE: what it ran is not suspected of killing it
        } left;
        struct {
            uint32_t worker;
            uint64_t memory_used, rss;
            uint32_t running, queued;
        } status;
        struct {
            uint32_t worker;
            size_t count;
            const char *const *name; // below its data dir
            const char *const *path; // absolute
        } sources;
        struct {
            uint32_t worker;
            bool full;
            size_t adds, gones;
            const struct task_range *add, *gone;
            const uint64_t *bytes; // one a partition of add, in order
            // full only: tasks that it was given in an earlier session and has not finished
            size_t hases;
            const struct task_range *has;
        } holding;
        struct {
            uint32_t worker;
            size_t ranges;
            const struct task_range *range;
            const uint64_t *bytes; // one a task, in order
            uint64_t rows, source_bytes;
            uint64_t busy_us; // that they ran, summed; 0: not known
            uint32_t job;     // of rows and source_bytes
        } done;
        struct {
            uint32_t worker;
            uint32_t job, layer, index;
            int code;
            const char *text;
            bool missing_input; // then an input could not be had from missing_worker
            uint32_t missing_layer, missing_index;
            uint32_t missing_worker; // 0: the worker itself was taken to hold it
            uint32_t missing_job;    // 0: the task's own
            uint64_t busy_us;        // that it ran; 0: not known
        } failed;
        struct {
            uint32_t worker;
            size_t ranges;
            const struct task_range *range;
        } dropped;
        struct {
            uint32_t client;
            bool full;       // CLIENT_FULL only: false: it has room again
            bool on_purpose; // CLIENT_LEFT only: its jobs are given up at once (but detached and kept ones)
        } client;            // joined, left, full
        struct {
            uint32_t client; // 0: restored, nobody has it
            uint32_t number; // that the job gets, which no other one has had; 0: the next
            uint64_t key_hi, key_lo;
            const Dray__Graph *graph; // checked; NULL: open, without layers yet
            struct arena
                *arena; // that it lives in, and nothing else: emptied when it is taken over.  NULL: copied
            bool detached;
            bool open; // more layers come: it is not done before one says `last`
            int32_t priority;
            uint32_t failures_max; // tasks that may fail for good before the job does
            const char *name;      // for people; NULL: none
            const void *note;      // opaque, kept with the job
            size_t note_size;
        } submit;
        struct {
            uint32_t client; // 0: restored
            uint32_t job, first_layer;
            // Not yet checked (graph_check_more); NULL: only `last`.  Layers that are there already are left out.
            const Dray__Graph *graph;
            struct arena *arena;      // as of submit
            bool last;
            uint64_t id; // for RECORD_NOT_EXTENDED; 0: nobody has written it down
        } extend;
        struct {
            uint32_t client, job; // client 0: restored
            bool again;  // ATTACH: not when another client has it
            bool detach; // ATTACH: from now on it goes on without a client (with client 0: restored)
            bool keep;   // KEEP: false takes it back.  As often as it was kept
        } attach;        // attach and keep
        struct {
            uint32_t client;
            uint32_t job;
            size_t ranges; // free: none means the whole job
            const struct task_range *range;
        } job; // cancel and free; cancel: none means the whole job, otherwise these tasks fail
        struct {
            uint32_t worker;
            struct task_range range;
        } lost;
        struct {
            uint64_t incarnation;
            const char *name;
            bool gone; // it does not come back after all: its process has ended
        } expect;
        struct {
            struct task_range range; // tasks, or only the job
            enum restore_state over; // of tasks
            enum job_state state;    // of the job; QUEUED or RUNNING: only when it was submitted
            bool given_up;           // RECORD_JOB_GIVEN_UP
            int code;
            const char *text, *worker_name;
            uint32_t layer_at, index_at; // of the job's failure; UINT32_MAX: none
            uint64_t done, failed;       // its tasks, when it failed or was cancelled
            uint64_t submitted_us;       // 0: not known
        } restore;
    } u;
};

enum sched_action_type {
    ACTION_LAYER,      // tell a worker a layer's operation, before its first task
    ACTION_RUN,        // assign tasks to a worker, with where their inputs are
    ACTION_DROP,       // take back what has not started
    ACTION_RELEASE,    // a worker may free these partitions
    ACTION_FORGET_JOB, // a worker may forget all of a job
    ACTION_COPY,       // a worker is to fetch partitions from one that leaves, and hold them
    ACTION_ACCEPTED,   // to a client
    ACTION_REJECTED,
    ACTION_PROGRESS,
    ACTION_RESULT,        // wanted partitions exist, at that worker
    ACTION_RESULT_FAILED, // wanted tasks failed for good: code, text
    ACTION_JOB_ENDED,
    ACTION_RECORD, // to nobody: for a journal.  Any of the last ones may be lost, and are done or said again
};

enum sched_record {
    RECORD_TASKS_OVER = 1, // nobody needs these results any more
    RECORD_TASKS_FAILED,   // for good, by themselves or as told: code, text, worker_name
    RECORD_JOB_ENDED,      // state, code, text, layer_at, index_at, worker_name, as in JOB_ENDED; done, failed
    RECORD_JOB_GIVEN_UP,   // nobody has it any more, but others need partitions of it
    RECORD_JOB_FORGOTTEN,  // nothing of it matters any more; or its SUBMIT was refused
    RECORD_NOT_EXTENDED,   // the EXTEND with this id (key_lo) was not taken: it is not to be restored
    RECORD_WORKER_GONE,    // the one with this incarnation (key_lo) is not waited for any more
};

struct sched_location {
    struct task_range range;
    uint32_t worker;
};

struct sched_action {
    enum sched_action_type type;
    uint32_t peer;           // worker or client that it is for
    struct task_range range; // RUN, DROP, RELEASE, COPY, RESULT, RESULT_FAILED; FORGET_JOB, ACCEPTED, PROGRESS,
                             // JOB_ENDED: job; LAYER: job, layer
    bool kill;               // DROP: running ones too
    // RUN
    const struct sched_location *location;
    size_t locations;
    const struct sched_location
        *whole;                   // of inputs that all tasks of the layer need: the same list for all who are
    size_t wholes;                // told of it in this step, so it names what the worker itself holds as well
    size_t location_at, whole_at; // within the step
    // LAYER
    const Dray__Layer *layer;
    const uint32_t *input_tasks; // tasks of each input's layer
    // RESULT, COPY
    uint32_t worker;
    const uint64_t *sizes; // in bytes, one a partition
    // ACCEPTED, REJECTED (and RECORD)
    uint64_t key_hi, key_lo;
    // JOB_ENDED, REJECTED
    enum job_state state;
    int code;
    const char *text;            // PROGRESS: why it waits, or NULL
    uint32_t layer_at, index_at; // JOB_ENDED after a failed task; UINT32_MAX otherwise
    const char *worker_name;
    // PROGRESS
    uint64_t tasks, done, failed, rows, source_bytes;
    uint32_t workers;
    bool stuck; // no worker that is there can run any of what is left
    // RECORD
    enum sched_record record;
};

// Grows as needed; sched_step empties it first.
struct sched_actions {
    struct sched_action *action;
    size_t count;
    size_t capacity;
};
void sched_actions_init(struct sched_actions *actions);
void sched_actions_fini(struct sched_actions *actions);

// One turn: several events at once (a batch that arrived together), so that
// actions to one worker come out together.  -ENOMEM: the event that met it has been
// undone (a submit is refused) and the scheduler is as it was before that event.
int sched_step(struct sched *sched, const struct sched_event *events, size_t count,
               struct sched_actions *actions);

// Numbers for HTTP, dray cluster and tests.
struct sched_counts {
    uint64_t jobs, tasks, tasks_ready, tasks_assigned, tasks_done, partitions;
    uint64_t recomputed;  // tasks run again because their partition was lost
    uint64_t handed_over; // partitions that another worker took from one that left
    uint64_t second_runs; // of tasks that took too long (speculation)
    uint64_t transitions; // moves of tasks from state to state
    uint32_t workers, clients;
};
void sched_counts(const struct sched *sched, struct sched_counts *counts);
uint64_t sched_worker_partitions(const struct sched *sched, uint32_t worker);

// What there is to say of a job, for JOB_QUERY.  Valid until the next sched_step.
struct sched_failure {
    uint32_t layer, index;
    int code;
    const char *text, *worker_name;
};
enum { SCHED_STATES = 8 }; // idle, waiting, ready, assigned, held, released, failed, delayed
struct sched_job {
    uint32_t job;
    enum job_state state;
    bool detached;
    uint32_t kept;   // how often
    uint32_t client; // peer number; 0: none
    uint64_t tasks, done, failed;
    int32_t priority;
    const char *name;
    const void *note; // of its submission
    size_t note_size;
    uint64_t submitted_us;
    char waiting[256]; // why nothing of it runs; "" when something does
    int code;
    const char *text;
    uint32_t layers;
    size_t failures; // the first ones are kept
    const struct sched_failure *failure;
};
// -ENOENT: no such job.
int sched_job_info(const struct sched *sched, uint32_t job, struct sched_job *out);
// What is cheap to know of a job.
struct sched_brief {
    enum job_state state;
    uint32_t layers;
    bool grows; // more layers may come
};
// -ENOENT: no such job.
int sched_job_brief(const struct sched *sched, uint32_t job, struct sched_brief *out);
// The job that was submitted with this key; 0: none.
uint32_t sched_job_of_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo);
// Bytes of its partitions that are held: a look at each of its tasks.  0: no such job.
uint64_t sched_job_bytes(const struct sched *sched, uint32_t job);
// Layer of a job that exists: its name, its tasks in each state; -ENOENT.
struct sched_layer {
    const char *name;
    uint32_t tasks;
    bool wanted;
    uint32_t in[SCHED_STATES];
    char waiting[256]; // why no worker has any of its tasks; "" when one has, or it asks for nothing special
};
int sched_layer_info(const struct sched *sched, uint32_t job, uint32_t layer, struct sched_layer *out);
// Numbers of all jobs, ascending: at most `room` above `after`; how many were written.
size_t sched_jobs(const struct sched *sched, uint32_t after, uint32_t *number, size_t room);

// Aborts when an invariant does not hold (tests and simulation, after every step).
void sched_check(const struct sched *sched);
// One event or action as a line of prose, without the newline.  Workers are w2,
// clients c3, tasks j1:t4.7 (job, layer, index) and j1:t4.7-9.
void sched_event_print(const struct sched_event *event, FILE *out);
void sched_action_print(const struct sched_action *action, FILE *out);

#endif
