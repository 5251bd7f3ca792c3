// What the agent knows.  Private to worker/core.
//
//   task   queued -> ready -> running -> gone       queued and ready: gone when dropped
//                             running -> stopping -> gone, or queued when asked for meanwhile
//
// A part is a partition that is held here, on its way, or needed by a task here; nothing else
// has one between steps.
//
// Invariants (agent_check):
//   missing of a queued or ready task = its needs whose part is not held; ready: 0
//   waiting of a part = needs by queued and ready tasks
//   a part that waits is held, on its way, in the line for fetching, or its tasks are
//   reported as lacking an input before the step ends
#ifndef DRAY_WORKER_CORE_STATE_H
#define DRAY_WORKER_CORE_STATE_H

#include "proto/arena.h"
#include "proto/hash.h"
#include "worker/core/agent.h"

struct agent_job;

struct agent_layer {
    struct hash_node node;
    struct agent_job *job;
    struct agent_layer *next; // of the job
    uint32_t number, tasks;
    bool wanted;
    size_t inputs;
    Dray__Input **input;
    uint32_t *input_tasks;
};

struct agent_job {
    struct hash_node node;
    uint32_t number;
    struct agent_layer *layers;
    struct part *part_head, *part_tail; // in the order they came
    struct task *tasks;
};

// One task's need of one partition.
struct need {
    struct part *part; // NULL: given up (the task is being stopped)
    struct task *task;
    struct need *prev, *next; // of the part
};

struct part {
    struct hash_node node;
    struct task_key key;
    struct agent_job *job; // NULL: forgotten while on its way
    struct part *job_prev, *job_next;
    bool held;
    bool own;      // made here: kept until released
    bool sticky;   // a copy that is kept until released
    bool fetching; // on its way
    bool located;
    bool in_line, in_check;
    uint32_t location;   // where it is said to be
    uint32_t fetch_from; // where it is on its way from
    uint64_t bytes;
    uint32_t waiting;
    struct need *needs;
    struct part *line_prev, *line_next;
    struct part *check_prev, *check_next;
};

enum agent_task_state { AGENT_TASK_QUEUED, AGENT_TASK_READY, AGENT_TASK_RUNNING, AGENT_TASK_STOPPING };

struct task {
    struct hash_node node;
    struct task_key key;
    struct agent_layer *layer; // NULL: its job was forgotten
    struct task *job_prev, *job_next;
    enum agent_task_state state;
    bool again;        // stopping, and asked for again
    uint64_t sequence; // order given
    uint32_t missing;
    uint32_t heap_at; // when ready
    uint32_t needs;
    struct part *spare; // for its own partition, so that being done cannot fail
    struct need need[];
};

struct agent {
    struct agent_options options;
    bool connected;
    struct hash jobs, layers, tasks, parts;
    uint64_t sequence;
    struct task **heap; // ready tasks, least sequence first
    uint32_t heap_count, heap_capacity;
    uint32_t waiting; // queued and ready
    uint32_t running; // and stopping
    uint32_t fetching;
    uint64_t held;
    uint64_t copies; // parts that are not own
    struct part *line_head, *line_tail;
    struct part *check_head, *check_tail;
    struct arena arena; // of the step's actions
    struct agent_actions *out;
};

static inline uint64_t key_hash(uint32_t job, uint32_t layer, uint32_t index)
{
    return hash_mix(hash_mix((uint64_t)job << 32 | layer) + index);
}

// ---- agent.c ---------------------------------------------------------------------------

// A zeroed action in room that was reserved.
struct agent_action *action_push(struct agent *agent, enum agent_action_type type, struct task_key key);

struct agent_job *job_get(struct agent *agent, uint32_t number); // NULL: no memory

// ---- part.c ------------------------------------------------------------------------------

struct part *part_find(const struct agent *agent, uint32_t job, uint32_t layer, uint32_t index);
struct part *part_get(struct agent *agent, struct agent_job *job, struct task_key key); // NULL: no memory
// Enters a part that the caller has allocated (zeroed).
void part_enter(struct agent *agent, struct agent_job *job, struct task_key key, struct part *part);
void part_destroy(struct agent *agent, struct part *part);
// Look at it again before the step ends: fetch it, free it, or report it missing.
void part_check(struct agent *agent, struct part *part);
void part_hold(struct agent *agent, struct part *part, uint64_t bytes, bool own);
// Drops it from the store.
void part_drop(struct agent *agent, struct part *part);
void part_leave_line(struct agent *agent, struct part *part);
// Empties the check list.
void parts_settle(struct agent *agent);
// Starts fetches while there may be more.
void parts_fetch(struct agent *agent);

// ---- task.c ------------------------------------------------------------------------------

struct task *task_find(const struct agent *agent, uint32_t job, uint32_t layer, uint32_t index);
// Queues it, ready when nothing is missing.  -ENOMEM: nothing happened.
int task_create(struct agent *agent, struct agent_layer *layer, uint32_t index);
void task_destroy(struct agent *agent, struct task *task);
// The job is being forgotten while the task runs.
void task_orphan(struct agent *agent, struct task *task);
// A need's part has become held (or is so no more).
void task_found(struct agent *agent, struct task *task);
void task_missed(struct agent *agent, struct task *task);
// Back from stopping to the queue.
void task_restart(struct agent *agent, struct task *task);
// Starts ready tasks while there are threads.
void tasks_run(struct agent *agent);

#endif
