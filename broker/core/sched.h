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
    uint32_t queue_depth;  // tasks a worker holds per thread beyond those that run
    uint32_t attempts_max; // worker deaths that one task may see before it is set aside
    uint64_t progress_us;  // interval of PROGRESS to clients
    uint64_t tasks_max;    // of all jobs that are kept; a submit beyond it is refused
    uint32_t jobs_max;
    uint64_t bytes_max; // memory of their graphs and tasks
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
    EVENT_FREE,        // the client needs these results no more
    EVENT_RESULT_LOST, // somebody could not fetch this partition from that worker
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
        } joined;
        struct {
            uint32_t worker;
            const char *why;
            bool on_purpose; // said BYE: what it ran is not suspected of killing it
        } left;
        struct {
            uint32_t worker;
            uint64_t memory_used;
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
        } holding;
        struct {
            uint32_t worker;
            size_t ranges;
            const struct task_range *range;
            const uint64_t *bytes; // one a task, in order
            uint64_t rows, source_bytes;
            uint32_t job; // of rows and source_bytes
        } done;
        struct {
            uint32_t worker;
            uint32_t job, layer, index;
            int code;
            const char *text;
            bool missing_input; // then an input could not be had from missing_worker
            uint32_t missing_layer, missing_index;
            uint32_t missing_worker; // 0: the worker itself was taken to hold it
        } failed;
        struct {
            uint32_t worker;
            size_t ranges;
            const struct task_range *range;
        } dropped;
        struct {
            uint32_t client;
        } client; // joined and left
        struct {
            uint32_t client;
            uint64_t key_hi, key_lo;
            const Dray__Graph *graph; // checked; copied by the scheduler
            bool detached;
            int32_t priority;
        } submit;
        struct {
            uint32_t client;
            uint32_t job;
            size_t ranges; // free: none means the whole job
            const struct task_range *range;
        } job; // cancel and free
        struct {
            uint32_t worker;
            struct task_range range;
        } lost;
    } u;
};

enum sched_action_type {
    ACTION_LAYER,      // tell a worker a layer's operation, before its first task
    ACTION_RUN,        // assign tasks to a worker, with where their inputs are
    ACTION_DROP,       // take back what has not started
    ACTION_RELEASE,    // a worker may free these partitions
    ACTION_FORGET_JOB, // a worker may forget all of a job
    ACTION_ACCEPTED,   // to a client
    ACTION_REJECTED,
    ACTION_PROGRESS,
    ACTION_RESULT, // a wanted partition exists, at that worker
    ACTION_JOB_ENDED,
};

enum job_state { JOB_QUEUED = 1, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

struct sched_location {
    struct task_range range;
    uint32_t worker;
};

struct sched_action {
    enum sched_action_type type;
    uint32_t peer;           // worker or client that it is for
    struct task_range range; // RUN, DROP, RELEASE, RESULT (count 1); FORGET_JOB, ACCEPTED, PROGRESS,
                             // JOB_ENDED: job; LAYER: job, layer
    bool kill;               // DROP: running ones too
    // RUN
    const struct sched_location *location;
    size_t locations;
    // LAYER
    const Dray__Layer *layer;
    const uint32_t *input_tasks; // tasks of each input's layer
    // RESULT
    uint32_t worker;
    uint64_t bytes;
    // ACCEPTED, REJECTED
    uint64_t key_hi, key_lo;
    // JOB_ENDED, REJECTED
    enum job_state state;
    int code;
    const char *text;            // PROGRESS: why it waits, or NULL
    uint32_t layer_at, index_at; // JOB_ENDED after a failed task; UINT32_MAX otherwise
    const char *worker_name;
    // PROGRESS
    uint64_t tasks, done, rows, source_bytes;
    uint32_t workers;
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
    uint64_t recomputed; // tasks run again because their partition was lost
    uint32_t workers, clients;
};
void sched_counts(const struct sched *sched, struct sched_counts *counts);
uint64_t sched_worker_partitions(const struct sched *sched, uint32_t worker);

// Aborts when an invariant does not hold (tests and simulation, after every step).
void sched_check(const struct sched *sched);
// One event or action as a line of prose, without the newline.  Workers are w2,
// clients c3, tasks j1:t4.7 (job, layer, index) and j1:t4.7-9.
void sched_event_print(const struct sched_event *event, FILE *out);
void sched_action_print(const struct sched_action *action, FILE *out);

#endif
