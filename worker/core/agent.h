// The worker's state machine: a function from events to actions.  No sockets,
// threads, clock or files.  It knows which tasks are queued, which inputs each
// still lacks, what is being fetched, what runs, which partitions are held.
//
// Tasks and partitions go in and out as ranges, and what is short is run in bundles: tasks for one
// thread, in order, whose inputs are held or are made by tasks before them in the same bundle.
//
// Everything that an event points to is borrowed for the call; what an action
// points to lives until the next agent_step.
#ifndef DRAY_WORKER_CORE_AGENT_H
#define DRAY_WORKER_CORE_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/error.h"
#include "proto/graph.h"

struct agent;

struct agent_resource {
    const char *name;
    uint32_t amount;
};

struct agent_options {
    uint32_t threads;     // bundles that run at once
    uint32_t fetches_max; // under way at once
    // What those that run take no more of than there is.  Copied.
    size_t resources;
    const struct agent_resource *resource;
};

struct agent *agent_create(const struct agent_options *options);
void agent_destroy(struct agent *agent);

struct task_key {
    uint32_t job, layer, index;
};

// Tasks or partitions of one layer: [first, first + count).
struct agent_range {
    uint32_t job, layer, first, count;
};

enum agent_event_type {
    AGENT_CONNECTED,    // WELCOME: advertise in full
    AGENT_DISCONNECTED, // the broker is gone: keep all that is here, go on with it, report nothing
    AGENT_LEAVING,      // what has not started is given back, and so is all that comes
    AGENT_TICK,         // about 50 ms have passed: what waits behind a long task is taken back
    AGENT_LAYER,        // LAYERS: one layer
    AGENT_ASSIGN,       // ASSIGN: a range of tasks
    AGENT_LOCATION,     // ASSIGN: where partitions are
    AGENT_DROP,
    AGENT_RELEASE,
    AGENT_FORGET_JOB,
    AGENT_COPY,    // fetch partitions of a worker that leaves, and hold them as if they were made here
    AGENT_FETCHED, // a partition arrived and is in the store
    AGENT_FETCH_FAILED,
    AGENT_LOST,       // partitions are not in the store any more: they were damaged
    AGENT_TASKS_DONE, // their partitions are in the store
    AGENT_TASK_FAILED,
    AGENT_TASKS_SKIPPED, // they did not start: withdrawn, or an input was not there
    AGENT_BUNDLE_OVER,   // its thread is free; every task's outcome came before
};

struct agent_event {
    enum agent_event_type type;
    union {
        struct {
            uint32_t job, layer, tasks;
            size_t inputs;
            Dray__Input *const *input; // copied
            const uint32_t *input_tasks;
            size_t resources; // that each of its tasks takes while it runs
            Dray__Resource *const *resource;
            bool instant; // its tasks take no time to speak of: nothing has to be learnt
        } layer;
        struct {
            struct agent_range range; // FORGET_JOB: job
            uint32_t worker;          // LOCATION, COPY
            bool kill;                // DROP
            uint64_t busy_ns;         // TASKS_DONE: that they ran, summed; 0: not known
        } range; // ASSIGN, LOCATION, DROP, RELEASE, FORGET_JOB, COPY, LOST, TASKS_DONE, TASKS_SKIPPED
        struct {
            struct task_key key;
            int code; // FETCH_FAILED, TASK_FAILED
            const char *text;
            uint64_t busy_ns; // TASK_FAILED: that it ran; 0: not known
        } task;
        uint32_t bundle; // BUNDLE_OVER
    } u;
};

enum agent_action_type {
    AGENT_RUN,        // a bundle for one thread
    AGENT_WITHDRAW,   // of what is in bundles: that which has not started comes back as skipped
    AGENT_CUT,        // the same for all of one bundle
    AGENT_CANCEL,     // as WITHDRAW, and what runs is to stop: its outcome is of no interest any more
    AGENT_FETCH,      // get a partition from `worker`
    AGENT_FREE,       // drop partitions from the store
    AGENT_FREE_LAYER, // forget a layer's operation
    AGENT_REPORT_DONE,
    AGENT_REPORT_FAILED, // with missing when an input could not be had
    AGENT_REPORT_DROPPED,
    AGENT_REPORT_GONE, // partitions that were made here are not held any more
    // After CONNECTED: all that is held and was made here (or taken over), and all tasks that are not finished; the
    // first of these has full = true, and there are none when there is nothing.
    AGENT_ADVERTISE, // otherwise: taken over
    AGENT_HAS,
    AGENT_DECLINE, // a partition that was to be taken over is not: there is no room, or it could not be fetched
};

struct agent_action {
    enum agent_action_type type;
    uint32_t bundle; // RUN, CUT
    union {
        struct agent_range
            range; // WITHDRAW, CANCEL, FREE, FREE_LAYER, REPORT_DONE, REPORT_DROPPED, REPORT_GONE, ADVERTISE, HAS,
                   // DECLINE
        struct task_key key; // FETCH, REPORT_FAILED
        size_t ranges;       // RUN
    } u;
    uint32_t worker;         // FETCH, and of the missing input (0: the broker took it to be here)
    int code;                // REPORT_FAILED
    uint64_t busy_ns;        // REPORT_FAILED: that it ran; 0: not known
    bool full;               // ADVERTISE, HAS
    bool ahead;              // FETCH: tasks run, or will, that may want memory
    bool missing_input;      // REPORT_FAILED
    struct task_key missing; // REPORT_FAILED
    union {
        const char *text;                // REPORT_FAILED
        const struct agent_range *range; // RUN, in order
        size_t offset;                   // while the step goes on
    } p;
};

struct agent_actions {
    struct agent_action *action;
    size_t count;
    size_t capacity;
    size_t events_taken; // those before the one that failed
};
void agent_actions_init(struct agent_actions *actions);
void agent_actions_fini(struct agent_actions *actions);

// -ENOMEM: the event was taken in part at most, and those behind it not: give them again.
// -EPROTO: the broker asked for something impossible (a task of an
// unknown layer): the session must end.  Actions that there are hold in both cases.
//
// Copies of partitions that were fetched are freed when no task here needs them, those that a whole
// layer reads (ALL, BROADCAST) when the broker releases them.  An input may be freed while a task
// that needs it is in a bundle, when the broker says so: who does not find it skips the task.
//
// A fetch that fails with ENOMEM is tried again when memory came back; when nothing runs that would give it
// back, copies for other tasks go first.  A task fails with it when nothing helps for five seconds.
//
// A broker that is lost and comes back finds all as if it had not been away, but for the tasks that ended
// meanwhile: those that were done are held, those that failed or could not get an input are not there any more.
// Fetches go on without it.  Copies stay only while tasks here need them.
//
// A task may come before its inputs are made when tasks that are here make them.  If one of those fails or is
// given back, then so are the tasks that wait for it.
int agent_step(struct agent *agent, const struct agent_event *events, size_t count,
               struct agent_actions *actions, struct error *err);

struct agent_counts {
    uint32_t queued, running, fetching;
    uint64_t partitions;
};
void agent_counts(const struct agent *agent, struct agent_counts *counts);
// Partitions that were made here or taken over, and not released: how many; each range is visited (NULL: none).
uint64_t agent_own(const struct agent *agent, void (*visit)(void *arg, const struct agent_range *range),
                   void *arg);
void agent_check(const struct agent *agent);
// As sched_event_print: a line of prose without the newline.
void agent_event_print(const struct agent_event *event, FILE *out);
void agent_action_print(const struct agent_action *action, FILE *out);

#endif
