// The worker's state machine: a function from events to actions.  No sockets,
// threads, clock or files.  It knows which tasks are queued, which inputs each
// still lacks, what is being fetched, what runs, which partitions are held.
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

struct agent_options {
    uint32_t threads;
    uint32_t fetches_max; // under way at once
};

struct agent *agent_create(const struct agent_options *options);
void agent_destroy(struct agent *agent);

struct task_key {
    uint32_t job, layer, index;
};

enum agent_event_type {
    AGENT_CONNECTED,    // WELCOME: advertise in full
    AGENT_DISCONNECTED, // the broker is gone: keep what was made here, finish what runs, report nothing
    AGENT_LAYER,        // LAYERS: one layer
    AGENT_ASSIGN,       // ASSIGN: a range of tasks
    AGENT_LOCATION,     // ASSIGN: where partitions are
    AGENT_DROP,
    AGENT_RELEASE,
    AGENT_FORGET_JOB,
    AGENT_FETCHED, // a partition arrived and is in the store
    AGENT_FETCH_FAILED,
    AGENT_TASK_DONE, // its partition is in the store
    AGENT_TASK_FAILED,
};

struct agent_event {
    enum agent_event_type type;
    union {
        struct {
            uint32_t job, layer, tasks;
            size_t inputs;
            Dray__Input *const *input; // copied
            const uint32_t *input_tasks;
            bool wanted;
        } layer;
        struct {
            uint32_t job, layer, first, count;
            uint32_t worker; // LOCATION
            bool kill;       // DROP
        } range;             // ASSIGN, LOCATION, DROP, RELEASE; FORGET_JOB: job
        struct {
            struct task_key key;
            uint64_t bytes;
            int code; // FETCH_FAILED, TASK_FAILED
            const char *text;
        } task;
    } u;
};

enum agent_action_type {
    AGENT_RUN,        // all inputs are held: give it to an executor
    AGENT_CANCEL,     // it runs: ask it to stop; its outcome is of no interest any more
    AGENT_FETCH,      // get a partition from `worker`
    AGENT_FREE,       // drop a partition from the store
    AGENT_FREE_LAYER, // forget a layer's operation
    AGENT_REPORT_DONE,
    AGENT_REPORT_FAILED, // with missing_* when an input could not be had
    AGENT_REPORT_DROPPED,
    AGENT_ADVERTISE, // all that is held, after CONNECTED: the first has full = true; none when nothing is
                     // held
};

struct agent_action {
    enum agent_action_type type;
    struct task_key key; // RUN, CANCEL, FETCH, FREE, REPORT_DONE, REPORT_FAILED, REPORT_DROPPED, ADVERTISE
    uint32_t worker;     // FETCH, and missing_worker (0: the broker took it to be here)
    uint64_t bytes;      // REPORT_DONE, ADVERTISE
    bool wanted;         // REPORT_DONE
    bool full, gone;     // ADVERTISE
    const struct task_key *input; // RUN: the partitions, in order
    size_t inputs;
    const uint32_t *input_start; // RUN: where each Input's partitions begin; input_lists + 1 entries
    size_t input_lists;
    int code; // REPORT_FAILED
    const char *text;
    bool missing_input;
    struct task_key missing;
};

struct agent_actions {
    struct agent_action *action;
    size_t count;
    size_t capacity;
    size_t events_taken; // those before the one that failed
};
void agent_actions_init(struct agent_actions *actions);
void agent_actions_fini(struct agent_actions *actions);

// -ENOMEM: the event has been undone and those behind it not taken; the same events may be
// given again.  -EPROTO: the broker asked for something impossible (a task of an
// unknown layer): the session must end.  Actions that there are hold in both cases.
//
// Copies of partitions that were fetched are freed when no task here needs them, those that a whole
// layer reads (ALL, BROADCAST) when the broker releases them.  What RUN's inputs name must be
// kept by the executor itself until the task is over: a FREE may come before.
int agent_step(struct agent *agent, const struct agent_event *events, size_t count,
               struct agent_actions *actions, struct error *err);

struct agent_counts {
    uint32_t queued, running, fetching;
    uint64_t partitions;
};
void agent_counts(const struct agent *agent, struct agent_counts *counts);
void agent_check(const struct agent *agent);
// As sched_event_print: a line of prose without the newline.
void agent_event_print(const struct agent_event *event, FILE *out);
void agent_action_print(const struct agent_action *action, FILE *out);

#endif
