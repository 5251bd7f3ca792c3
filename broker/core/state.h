// What the scheduler knows: jobs of layers of tasks, workers, clients.  Private to
// broker/core.  Tasks are no objects: each layer keeps parallel arrays,
//   state 1 byte, owner 2, consumers 2 (4 where one partition may have more readers), value 4, four bitmaps
//   0.5
// so that a waiting task costs under 10 bytes (7.5 when nothing depends on it), and its edges what growth.h
// says.
//
// Edges are computed from patterns.  Two kinds are told apart:
//   local  ONE_TO_ONE, FAN_IN, WINDOW, EXPLICIT: counted for each task
//   whole  ALL, BROADCAST: every task needs every partition, so counted for each layer
//
// Invariants (sched_check proves all of them from the states alone):
//   needed    a partition is needed when the client wants it (KEEP), a local
//             dependent is unfinished (consumers > 0), or a whole dependent layer has
//             unfinished tasks (whole_active > 0).  Unfinished: waiting, ready, assigned, delayed.
//   settled   between events, needed partitions are held, unfinished or failed; others are
//             idle, released or failed.  Nothing else exists.
//   waiting   value = number of local input partitions that are not held, > 0
//   ready     all local inputs are held.  Whole inputs are checked at the layer:
//             blocked = number of whole inputs whose layer is not held entirely
//   assigned  owner is the worker, value what its load was raised by; an input may be lost
//             meanwhile: then the worker either has a copy already or reports a missing input.
//             Ahead: what is not held was assigned to the same worker before; the worker
//             gives it back by itself when that comes to nothing
//   held      owner is the worker with the partition, value its bytes (task_bytes)
//   failed    value says the cause (task_cause in failure.h).  No unfinished task has a failed input, locally
//   or in a
//             whole layer (doomed = number of whole inputs whose layer has failed tasks)
//   delayed   when it goes back to the queue is in its blame
#ifndef DRAY_BROKER_CORE_STATE_H
#define DRAY_BROKER_CORE_STATE_H

#include "broker/core/bits.h"
#include "broker/core/rank.h"
#include "broker/core/sched.h"
#include "proto/arena.h"
#include "proto/hash.h"

enum task_state {
    TASK_IDLE,     // never needed so far
    TASK_WAITING,  // needs inputs that are not held
    TASK_READY,    // may be assigned (once its layer is not blocked)
    TASK_ASSIGNED, // a worker has it queued or runs it
    TASK_HELD,     // done, its partition is at the owner
    TASK_RELEASED, // done, its partition is gone
    TASK_FAILED,   // for good: an end
    TASK_DELAYED,  // failed, and will be tried again when its time has come
    TASK_STATES
};
enum {
    TASK_STATE = 0x07,
    TASK_KEEP = 0x08,   // the client wants the partition and has not freed it
    TASK_RAN = 0x10,    // was done once: running it again is a recomputation
    TASK_RECALL = 0x20, // assigned: asked back.  Ready: came back, so it goes to whoever starves.  Held: its owner
                        // leaves, and another worker was asked to take it over
    TASK_SEEN = 0x40,   // scratch, clear between calls
    TASK_AHEAD = 0x80,  // assigned before all its inputs were held: its worker makes the rest
};
// sched_layer_info gives them out by these numbers.
_Static_assert((int)TASK_STATES == (int)SCHED_STATES, "states are told by number");
#define OWNER_NONE UINT16_MAX
#define VALUE_ASIDE UINT32_MAX // it is in the task's blame
#define WORKERS_MAX 65000U

// An amount of a resource: what a worker has, and how much of it its tasks take; or what a task asks for.
struct stock {
    const char *name;
    uint32_t amount, taken;
};

// What tasks ask of their worker (demand.h).
struct demand {
    struct hash_node node;
    uint32_t users; // layers
    size_t workers, plugins, resources;
    char **worker; // names or labels, one of which it has, and as many labels of plugins, which it has all
    struct stock *resource;
    uint64_t *able; // bit: slot of a worker that can meet it
    size_t words;
    uint64_t threads;   // of those workers
    uint64_t stuck_run; // the placement in which none of them had room
};

struct layer;
struct link;

struct edge {
    const Dray__Input *input;
    struct layer *source;
    struct layer *target;       // the layer that has the input
    struct edge_index *reverse; // EXPLICIT only
    uint32_t at;                // in the source's list of dependents
    uint32_t readers;           // local: that one partition of the source has at most
    bool whole;
    bool foreign; // the source is another job's
};

struct layer {
    struct job *job;
    const Dray__Layer *graph;
    uint32_t number;
    uint32_t tasks;
    struct rank_node rank; // in the lane's runnable layers; its key: the order
    struct lane *lane;
    uint32_t group; // roots of one group are handed out in step with one another
    bool wanted;
    bool goal;         // wanted, or nothing in the job is and this is where it ends
    bool local;        // has a local input
    bool root;         // has no input
    bool neighbours;   // tasks next to one another share dependents (WINDOW)
    struct layer *kin; // whose estimate it shares; NULL: not yet looked for
    uint32_t charge;   // what a task is taken to last, in CHARGE_NS
    uint32_t learnt;   // tasks that this is made of, at most LEARNT_MAX
    struct edge *input;
    size_t inputs;
    uint32_t *input_tasks; // of each input's layer
    uint64_t whole_step;   // the step in which sched->location has all of its whole inputs, and where
    size_t whole_at, wholes;
    uint16_t *pick;          // inputs that matter to each task, where there are many (links.h); NULL: all do
    uint32_t *pick_row;      // which row of the input
    uint32_t *pick_at;       // where those of each task begin, and the end
    struct edge **dependent; // but those that are linked
    uint32_t dependents, dependent_capacity;
    uint32_t coming;         // dependents that an addition under way brings; 0 between calls
    uint64_t readers_coming; // likewise
    bool counts;             // has local dependents from the start
    struct link *link;       // sparse edges of the job to its partitions, and the first of each partition + 1
    uint32_t *link_head;
    uint32_t links, link_capacity;
    uint64_t links_coming;    // as `coming`
    bool read_elsewhere;      // by links of another layer
    uint32_t in[TASK_STATES]; // tasks in each state
    uint32_t whole_active;    // whole edges to layers with unfinished tasks
    uint32_t blocked;         // whole inputs that are not held entirely
    uint32_t doomed;          // whole inputs with a failed task
    uint64_t cause;           // of the first task that failed
    uint64_t ready_stamp;     // changes when a task becomes ready; no two layers have the same
    uint8_t *state;
    uint16_t *owner; // slot of the worker, when assigned or held
    void *consumers; // unfinished local dependents, uint16_t or, when `crowded`, uint32_t; NULL without such
                     // edges
    uint32_t *value;
    uint64_t readers; // that one partition has at most, over all local edges
    bool crowded;
    struct bits ready;
    struct bits unsettled; // look at need again
    struct bits released;  // RELEASE not sent yet
    struct bits results;   // RESULT not sent yet; only in wanted layers
    struct bits over;      // RECORD_TASKS_OVER not said yet; only with records, in what may be a goal
};

// Of a task, but rare, so apart from the arrays.
struct blame {
    struct hash_node node;
    uint32_t layer, index;
    uint32_t deaths, losses, failures;
    uint32_t excused;    // moments whose deaths do not count: moment.h
    uint32_t deaths_all; // with those
    uint64_t excused_us; // the last of these
    uint64_t value; // delayed: until when (UINT64_MAX: it waits for a worker of its own; MOMENT_WAITS); held,
                    // with a value of VALUE_ASIDE: bytes
    struct attempt *attempts; // suspect.h
};

struct reason;
struct slab;

// The layers of a job whose tasks ask for the same.
struct lane {
    struct demand *demand; // NULL: for nothing
    struct rank runnable;  // those with tasks that may be assigned
    struct lane *next;
};

// A delayed task and when it goes on.
struct delay {
    uint64_t due_us;
    uint32_t job, layer, index;
};

// Of one client (or of nobody) at one priority.
struct share {
    struct level *level;
    struct client *client;
    struct share *client_next;
    uint32_t jobs;
    // In CHARGE_NS: how long what it was given took, and what is assigned is taken to last.
    uint64_t served, backlog;
    struct job *run_head, *run_tail;   // jobs with something to assign, the oldest first
    struct share *run_prev, *run_next; // in the level, while there are such
    uint64_t passed_run;               // the placement in which nothing more of it could be assigned
    uint64_t ahead_run;                // and that in which what follows from its roots was looked for first
};

// Jobs of one priority.
struct level {
    int32_t priority;
    uint32_t jobs;
    uint64_t served; // of the share that had least, when it last had a turn
    struct share *runnable;
    uint32_t shares; // that have jobs
    struct share nobody;
    struct level *next; // of lower priority
};

// Jobs whose time runs out (lapse.h): their clients were lost, or nobody has looked at their results.
enum lapse_kind { LAPSE_NONE, LAPSE_ORPHAN, LAPSE_RESULT, LAPSE_KINDS };

// A worker that was there before a restart and is not back.
struct expected {
    uint64_t incarnation;
    char *name;
};

struct job {
    struct hash_node by_number;
    struct hash_node by_key;
    struct sched *sched;
    uint32_t number;
    uint64_t key_hi, key_lo;
    struct client *client; // NULL: detached and nobody attached
    struct job *client_prev, *client_next;
    bool detached;
    int32_t priority;
    struct share *share;
    enum job_state state;
    bool told_end;  // JOB_ENDED was sent (or the job is not ended)
    bool forgotten; // out of all indexes; lives until its last actions are out
    bool has_tasks; // arrays and graph exist: until the end, or DONE until freed
    bool grows;     // more layers may come
    bool any_wanted;
    uint32_t kept; // under so many names, whatever becomes of clients
    char *name;    // NULL: none; as the note, it outlives the tasks
    void *note;    // of SUBMIT
    size_t note_size;
    uint64_t submitted_us;
    bool repeats;         // restored, and another one that may have been given up has its key
    bool hidden;          // given up by its client, but other jobs need partitions of it
    uint32_t users;       // edges from other jobs
    struct arena arena;   // graphs, layers, edges, small arrays
    struct slab *slabs;   // large arrays of layers
    uint64_t bytes;       // of all that and of reverse edges, and of what outlives the tasks:
    uint64_t lasting;     // its name, note, and why tasks failed
    uint64_t *tables;     // one block: all that has an entry a layer
    struct layer **layer; // by number; they themselves never move
    uint32_t *layer_tasks;
    uint32_t layers, layer_capacity;
    uint64_t tasks; // needed at some time
    uint64_t done;  // held or released
    uint64_t open;  // unfinished tasks of goal layers
    uint64_t failed;
    uint64_t ended_done, ended_failed; // as they were when it failed or was cancelled
    uint64_t failures; // that failed by themselves, not for an input's sake
    uint32_t failures_max;
    uint64_t assigned;
    uint64_t backlog; // of what is assigned, in CHARGE_NS
    uint64_t rows, source_bytes;
    uint32_t charge, learnt; // as of a layer, over all
    struct lane lane;        // and those that follow it
    uint32_t runnable;       // layers with tasks that may be assigned
    struct bits unsettled;   // layer_capacity - 1 - number, so that the latest comes first
    struct bits dirty;       // layers with something in released or results
    bool is_runnable, is_dirty, is_unsettled;
    struct job *run_prev, *run_next;
    struct job *dirty_next, *unsettled_next;
    struct hash blames;
    struct hash reasons;
    struct reason **reason;
    uint32_t reason_count, reason_capacity;
    uint64_t *cause; // failure.h
    uint32_t causes, cause_capacity;
    uint32_t cause_read; // the place that was looked at last: where one task fails for another's cause, it is
                         // the same
    struct sched_failure *failure; // the first ones
    size_t failure_count;
    uint32_t attempts_kept; // in words
    bool is_doomed;   // fails with this event
    bool fails_late;  // when all that can be done is done
    bool is_late_due; // in the scheduler's list of those
    struct job *late_next;
    bool is_revisit; // in the scheduler's list
    struct job *revisit_next;
    // What a journal has not been told of yet (records.h).
    bool is_end_due, is_given_up_due, is_forgotten_due;
    bool dormant;    // done before a restart: what is missing of it is made when somebody asks for it
    bool stops_late; // ended before a restart: what others need and is not back by then fails with its hold
    enum lapse_kind lapse;
    uint64_t lapse_us; // when
    struct job *lapse_prev, *lapse_next;
    bool is_in_ring, is_cut; // its edges to other jobs were taken away
    struct job *ring_next;
    struct knows *knows;
    uint64_t progress_at; // when its client was told
    bool is_followed;     // progress.h
    struct job *followed_prev, *followed_next;
    // why it ended
    int code;
    char *text;
    uint32_t layer_at, index_at;
    char *worker_name;
};

// A worker and a job that has to do with it.
struct knows {
    struct hash_node node;
    struct worker *worker;
    struct job *job;
    struct knows *job_prev, *job_next;
    struct knows *worker_prev, *worker_next;
    uint32_t capacity; // in layers, of all sets, which are one block
    uint64_t *told;    // layers whose operation it has
    uint64_t *holds;   // layers of which it had tasks or partitions
    uint64_t *located; // layers with whole inputs of which it was told where these are
};

struct slot { // tasks that were given to a worker, one after another
    struct layer *layer;
    uint32_t first, count;
};

// Work is counted in time: a worker's backlog is the sum of what its tasks are taken to last.
enum {
    CHARGE_NS = 16,
    WINDOW = 1 << 18, // a thread's share of work that is handed out, in CHARGE_NS: 4.2 ms
    SLOTS_MAX = 1 << 16,
    LEARNT_MAX = 64,
    PACE = 256,
};
// Levels of load: four to each doubling of the backlog of a thread.
enum { LOAD_FULL = 127 };

struct worker {
    struct hash_node node;
    uint32_t peer;
    uint16_t number; // slot in sched->worker, reused
    uint64_t incarnation;
    uint32_t threads;
    uint32_t least;   // tasks that it may have however long they last
    uint64_t backlog; // of what is assigned, in CHARGE_NS, as it lasts on average
    uint32_t pace;    // how long that takes here, in parts of PACE
    uint64_t expected,
        spent;      // of the latest tasks: what they were taken to last, and did; this is made of them
    uint32_t paced; // how many
    bool leaving;   // gets no more tasks
    bool closed;    // the same, but for suspects: one at a time (suspect.h)
    // While it leaves (handover.h): partitions that others were asked to take over, and what is on its way to them
    uint64_t shipping;
    uint64_t outgoing, outgoing_bytes;
    uint32_t outgoing_ranges;
    struct knows *pass; // where the look at all that it holds goes on; NULL: over, the next one is due at pass_us
    uint32_t pass_layer, pass_index;
    uint64_t pass_us;
    uint64_t pass_pause_us; // before that, since none of what it holds has found a place
    bool pass_sent;         // something has, in this one
    size_t shipment;        // to it: the first one's place + 1
    uint64_t incoming;   // bytes on their way to it from those that leave
    uint64_t refused_us; // it takes none of these before
    uint64_t rests_until_us; // gets none until then; 0: it does not rest
    uint64_t memory, memory_used, rss;
    char **label;
    struct stock *stock;
    size_t labels, stocks;
    bool shared_files;
    bool sources_known;
    char *name;
    struct hash sources; // names and paths that it can read
    void *sources_block;
    uint32_t assigned;
    uint32_t recalled;
    uint32_t twins; // second runs of others' tasks
    uint64_t partitions;
    uint8_t load; // 0 idle .. LOAD_FULL: no room
    struct worker *load_prev, *load_next;
    // Tasks in the order they were given, as ranges; what is over stays until the next compaction.
    // Ranges before `told` have been sent, in those before `over` nothing is left; of the tasks before
    // `ahead` (and those below ahead_from in that range) the dependents have been looked at.
    struct slot *queue;
    uint32_t queue_count, queue_capacity;
    uint32_t queue_told, queue_over, queue_ahead, ahead_from;
    bool is_ahead; // has such whose dependents have not: in the scheduler's list
    struct worker *ahead_next;
    bool is_dirty;
    const struct layer *prepared; // what worker_prepare did last
    struct worker *dirty_next;
    struct knows *knows;
    uint64_t barren_stamp; // ready_stamp of the layer in which it last found nothing that it can read
};

// A second run of a task (speculate.h).
struct twin {
    uint32_t job, layer, index;
    uint16_t worker, first; // slots: who has it, and who has the first one
    bool due;               // it has not been told
};
// A task that is seen to run.
struct watch {
    uint32_t job, layer, index, worker;
    uint64_t since_us;
};
enum { TWINS_MAX = 64, WATCHES_MAX = 256 };

struct client {
    struct hash_node node;
    uint32_t peer;
    bool full; // reads too slowly: results wait
    struct job *jobs;
    struct share *shares;
};

struct sched {
    struct sched_options options;
    uint64_t now_us;
    struct hash jobs, keys, workers, clients, knows, demands;
    struct worker **worker; // by slot
    uint32_t worker_slots, worker_count, worker_capacity;
    uint64_t threads;  // of all workers
    uint64_t backlog;  // of all workers
    uint32_t resting;  // workers
    uint32_t unshared; // workers that see only their own files
    struct worker *load_head[LOAD_FULL + 1], *load_tail[LOAD_FULL + 1];
    uint64_t load_used[2]; // levels with workers
    struct worker *ahead;  // whose queues have tasks with dependents that were not looked at
    uint32_t charge_guess; // of a task of which nothing is known
    struct level *levels;  // the highest priority first
    uint64_t turn_limit;   // what the share whose turn it is may have had when that is over
    struct job *dirty, *unsettled, *revisit;
    struct worker *dirty_workers;
    uint32_t repeats;      // jobs that repeat others
    struct job *graveyard; // forgotten and flushed: freed with the next step
    uint32_t job_last;
    uint32_t job_count;
    uint64_t tasks; // of all jobs with tasks
    uint64_t bytes; // of those jobs
    uint64_t in[TASK_STATES];
    uint64_t recomputed;
    uint64_t handed_over;
    struct shipment *shipment; // handover.h
    size_t shipments, shipment_capacity;
    bool shipments_stale; // some may be of a worker or a job that has gone
    uint32_t leavers; // workers that leave
    uint64_t transitions;
    uint64_t run; // number of the placement that is under way or comes next; from 1
    uint64_t ready_stamp;
    bool check_sources;
    struct delay *delay; // a heap, the soonest first; some may have lost their meaning
    size_t delays, delay_capacity;
    // Tasks that wait for a worker of their own; as delays, some for nothing.  Those of no count are taken
    // out.
    struct task_range *trial;
    size_t trials; // that are not
    size_t trial_end, trial_capacity;
    size_t trial_sorted; // those before are in order: by job, layer and index
    size_t trial_first;  // all before are taken out
    size_t trial_at;     // where the next look at them begins
    uint32_t closed;     // workers for those
    struct casualty *casualty; // moment.h
    size_t casualties, casualty_capacity;
    uint64_t casualty_due_us; // none is over before
    uint64_t death_us, death_incarnation; // of the worker that died last; 0: none has
    struct twin twin[TWINS_MAX];
    uint32_t twins;
    struct watch watch[WATCHES_MAX];
    uint32_t watches;
    uint64_t watched_us;
    uint64_t second_runs;
    struct job *late; // jobs that will have failed
    struct job *followed, *followed_tail; // whose clients are told how they get on, the next one first
    struct { // the soonest first
        struct job *head, *tail;
    } lapse[LAPSE_KINDS];
    struct expected *expected; // while there are such, nothing is placed
    size_t expects;
    uint64_t expect_until_us;
    struct sched_action
        failed;         // the record of tasks that is still open to more (records.h); without a job: none
    bool restoring;     // the event under way says what was before
    struct arena arena; // texts of this step
    struct sched_location *location;
    size_t locations, location_capacity;
    uint64_t steps;
    struct sched_actions *out; // of this step
};

// ---- state.c: the table of moves, counters that follow from a state ------------

const char *task_state_name(enum task_state state);

static inline enum task_state task_state(const struct layer *layer, uint32_t i)
{
    return (enum task_state)(layer->state[i] & TASK_STATE);
}
static inline uint32_t layer_unfinished(const struct layer *layer)
{
    return layer->in[TASK_WAITING] + layer->in[TASK_READY] + layer->in[TASK_ASSIGNED] +
           layer->in[TASK_DELAYED];
}
static inline bool task_unfinished(const struct layer *layer, uint32_t i)
{
    return ((1U << TASK_WAITING | 1U << TASK_READY | 1U << TASK_ASSIGNED | 1U << TASK_DELAYED) >>
                task_state(layer, i) &
            1) != 0;
}
bool task_needed(const struct layer *layer, uint32_t i);

// Unfinished local dependents of a partition, of a layer that has `consumers`.
static inline uint32_t consumers_at(const struct layer *layer, uint32_t p)
{
    return layer->crowded ? ((const uint32_t *)layer->consumers)[p] : ((const uint16_t *)layer->consumers)[p];
}
static inline void consumers_add(struct layer *layer, uint32_t p, uint32_t count)
{
    if (layer->crowded) {
        ((uint32_t *)layer->consumers)[p] += count;
    } else {
        ((uint16_t *)layer->consumers)[p] = (uint16_t)(((uint16_t *)layer->consumers)[p] + count);
    }
}
// One more: true when it is the first.  One less: true when it was the last.
static inline bool consumers_gain(struct layer *layer, uint32_t p)
{
    return layer->crowded ? ((uint32_t *)layer->consumers)[p]++ == 0
                          : ((uint16_t *)layer->consumers)[p]++ == 0;
}
static inline bool consumers_lose(struct layer *layer, uint32_t p)
{
    return layer->crowded ? --((uint32_t *)layer->consumers)[p] == 0
                          : --((uint16_t *)layer->consumers)[p] == 0;
}
// Bytes of a partition that is held.
uint64_t task_bytes_aside(const struct layer *layer, uint32_t i);
static inline uint64_t task_bytes(const struct layer *layer, uint32_t i)
{
    return layer->value[i] != VALUE_ASIDE ? layer->value[i] : task_bytes_aside(layer, i);
}
void task_set_bytes(struct layer *layer, uint32_t i, uint64_t bytes);

// Makes a legal move or aborts; keeps all counters of layer, job and scheduler, the ready set,
// and blocked / whole_active of neighbours.
void task_move(struct layer *layer, uint32_t i, enum task_state to);
// Looks at need again before the event is over.
void task_unsettle(struct layer *layer, uint32_t i);
void layer_unsettle(struct layer *layer); // all of its tasks
void layer_make_dirty(struct layer *layer);
static inline void layer_mark_dirty(struct layer *layer)
{
    if (!layer->job->is_dirty || !bits_test(&layer->job->dirty, layer->number)) {
        layer_make_dirty(layer);
    }
}
void job_mark_dirty(struct job *job);
// Puts the layer into or out of what may be assigned, and its job too.
void layer_wake(struct layer *layer);
// The first of a job's runnable layers whose key is at least this and for which some worker may have
// room; NULL: none.
struct layer *layer_from(const struct job *job, uint64_t key);
#endif
