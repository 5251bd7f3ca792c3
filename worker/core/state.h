// What the agent knows.  Private to worker/core.
//
// Layers are known because they were told, or because a told one reads them.  What there is of a
// layer's tasks and partitions is in blocks of 64 indices, one bit each, so that ranges are
// handled a word at a time; a block in which nothing is left is freed.
//
//   task   queued -> ready -> running -> gone       queued and ready: gone when dropped
//                             running -> queued     when skipped, if it is (still or again) wanted
//
// Tasks that came in one range have an assignment in common; those with ready tasks are in a
// heap by age.  A bundle takes ready tasks in that order, and those that become ready by what
// is in the bundle itself.
//
// Invariants (agent_check):
//   queued, ready, running exclude one another; all have an assignment
//   missing of a queued task = its needs that are not held, at least 1; of a ready one: 0
//   tasks that take resources are in bundles of their own layer only, which take them together
//   a partition that a queued task lacks is expected (a task here makes it), on its way, or in the line for
//   fetching
#ifndef DRAY_WORKER_CORE_STATE_H
#define DRAY_WORKER_CORE_STATE_H

#include "proto/arena.h"
#include "proto/hash.h"
#include "worker/core/agent.h"

enum {
    BLOCK_CELLS = 64,
    BUNDLE_NS = 500000,      // what a bundle should take;
    BUNDLE_FEW = 4,          // or so many tasks,
    BUNDLE_MAX_NS = 4000000, // when that is not more than this
    INSTANT_NS = 150,        // what an instant task is taken to take
    BUNDLE_TASKS = 8192,     // at most
    BUNDLE_GROWTH = 8,       // of the next bundle against the last one, while a layer is new
    CUT_TICKS = 2,           // so old is a bundle when what it has not started is taken back
    NOBODY = UINT32_MAX,
};

struct agent_layer;

// Where a partition is.
struct place {
    uint32_t location;   // where it is said to be
    uint32_t fetch_from; // where it is on its way from
};

// Up to 64 tasks and their partitions.
struct block {
    struct agent_layer *layer;
    uint32_t first, cells;
    // tasks
    uint64_t queued, ready, running;
    uint64_t inner;    // ready within the bundle that is being made only
    uint64_t stopping; // running, and asked to stop
    uint64_t wanted;   // running, and its outcome is of interest; else it is to vanish
    uint64_t asked;    // running, and to be given back if it has not started
    uint64_t rotten;   // running, and its partition was found damaged: maybe this one, before it was told
    // partitions
    uint64_t held;
    uint64_t own;      // made here or taken over: kept until released
    uint64_t copying;  // to be taken over, and not here yet
    uint64_t sticky;   // copies that are kept until released
    uint64_t fetching; // on its way
    uint64_t located;
    uint64_t lost;   // was dropped while tasks may have waited for others
    uint64_t unmade; // the task that was to make it here was dropped or failed
    uint64_t line;   // waits for a fetch
    uint64_t check;  // to be looked at before the step ends
    uint64_t keep;   // while room is made for others
    bool in_checks, in_line;
    struct block *check_next;
    struct block *line_prev, *line_next;
    struct place *place; // NULL until one of them is located
    // Of tasks; NULL until there are some.
    uint32_t *assignment;
    uint32_t *missing; // queued: partitions that are not held.  NULL: the layer has no inputs
    uint32_t *soon;    // of those, how many the bundle that is being made will make; as missing
};

// One input of a layer.
struct link {
    Dray__Input *input;
    struct agent_layer *layer;  // whose tasks need
    struct agent_layer *source; // whose partitions are needed
    struct link *prev, *next;   // of the source
    struct edge_index *reverse; // EXPLICIT
};

struct agent_layer {
    struct hash_node node;
    struct agent_job *job;
    struct agent_layer *next; // of the job
    uint32_t number, tasks;
    bool told;   // it can have tasks
    bool uneven; // some partition was located elsewhere, or not made
    size_t inputs;
    struct link *input;
    struct link *users;
    uint32_t blocks;
    struct block **block;
    uint32_t queued, ready, running;
    uint32_t *takes;     // of each resource that there is; NULL: nothing
    uint64_t ns;         // that a task takes; 0: not known yet
    uint32_t bundle_max; // tasks
};

struct agent_job {
    struct hash_node node;
    uint32_t number;
    struct agent_layer *layers;
    bool stale; // from an earlier session: in this one the broker has told nothing of it yet
};

struct assignment {
    struct agent_layer *layer;
    uint64_t sequence;
    uint32_t first, end;
    uint32_t cursor; // no ready task before it
    uint32_t tasks;  // not gone yet
    uint32_t ready;
    uint32_t heap_at;
    uint32_t next; // free: the next such.  Parked: the next of those
    bool parked;   // not in the heap: what its tasks take is not left
};

// A bundle that runs.
struct slot {
    uint32_t bundle; // 0: none
    uint32_t ticks;
};

struct stock { // of a resource
    char *name;
    uint32_t amount, left;
};

// Memory that a fetch did not get.
struct shortage {
    bool waiting;     // for memory to come back: nothing is fetched
    uint32_t fetches; // at once, after one; 0: as many as ever
    uint32_t ticks;   // without news
    bool has_first;
    struct task_key first; // whose inputs come before others'
    char why[ERROR_TEXT_MAX];
};

struct agent {
    struct agent_options options;
    bool connected, leaving;
    struct hash jobs, layers;
    struct assignment *assignment;
    uint32_t assignments, assignments_max;
    uint32_t free_assignment; // a list; NOBODY: empty
    uint32_t last_assignment; // the newest, while it may grow
    uint64_t sequence;
    uint32_t *heap; // of assignments, least sequence first
    uint32_t heap_count;
    uint32_t parked; // a list; NOBODY: empty
    struct stock *stock;
    uint32_t *slot_takes; // by slot and resource
    uint32_t waiting;     // tasks: queued and ready
    uint32_t ready;
    uint32_t running;
    struct slot *slot; // options.threads
    uint32_t bundles;  // that run
    uint32_t last_bundle;
    uint32_t fetching;
    uint32_t orphans; // on their way, of layers that were forgotten
    uint32_t copying; // partitions to be taken over
    uint64_t held;
    struct shortage shortage;
    bool stale;     // some jobs are
    bool strangers; // layers of other jobs may be of no use any more
    struct block *checks;
    struct block *line_head, *line_tail;
    struct agent_range *range; // of the step's bundles
    size_t ranges, ranges_max;
    struct arena arena; // of the step's actions
    struct agent_actions *out;
};

// ---- bits --------------------------------------------------------------------------------

static inline uint64_t bit(uint32_t cell)
{
    return (uint64_t)1 << cell;
}

static inline uint64_t bits(uint32_t from, uint32_t count)
{
    return (count >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1) << from;
}

static inline uint32_t lowest(uint64_t mask)
{
    return (uint32_t)__builtin_ctzll(mask);
}

static inline uint32_t popcount(uint64_t mask)
{
    return (uint32_t)__builtin_popcountll(mask);
}

// The next run of ones: its first cell, its length at *count; takes it out of the mask, which is not 0.
static inline uint32_t take_run(uint64_t *mask, uint32_t *count)
{
    uint32_t from = lowest(*mask);
    uint64_t rest = ~(*mask >> from);

    *count = rest == 0 ? 64 : lowest(rest);
    *mask &= ~bits(from, *count);
    return from;
}

// A range, block by block.
struct walk {
    uint64_t at, end;
    uint32_t number; // of the block
    uint32_t from, count;
    uint64_t mask;
};

static inline struct walk walk_begin(uint32_t first, uint64_t count)
{
    return (struct walk){.at = first, .end = first + count};
}

static inline bool walk_next(struct walk *walk)
{
    if (walk->at >= walk->end) {
        return false;
    }
    uint64_t left = walk->end - walk->at;

    walk->number = (uint32_t)(walk->at / BLOCK_CELLS);
    walk->from = (uint32_t)(walk->at % BLOCK_CELLS);
    walk->count = left < BLOCK_CELLS - walk->from ? (uint32_t)left : BLOCK_CELLS - walk->from;
    walk->mask = bits(walk->from, walk->count);
    walk->at += walk->count;
    return true;
}

// ---- agent.c ---------------------------------------------------------------------------

// Room for so many more actions.
bool actions_reserve(struct agent *agent, size_t count);
// A zeroed action in room that was reserved.
struct agent_action *action_push(struct agent *agent, enum agent_action_type type);
// The same for a range; grows the last action when it goes on there.
void action_range(struct agent *agent, enum agent_action_type type, const struct agent_layer *layer,
                  uint32_t first, uint32_t count);
// For each run of ones in the mask; needs room for BLOCK_CELLS / 2 actions.
void action_mask(struct agent *agent, enum agent_action_type type, const struct block *block, uint64_t mask);

// ---- layer.c -----------------------------------------------------------------------------

struct agent_job *agent_job_find(const struct agent *agent, uint32_t number);
struct agent_layer *layer_find(const struct agent *agent, uint32_t job, uint32_t number);
int agent_layer_learn(struct agent *agent, const struct agent_event *event, struct error *err);
// What its tasks took.
void layer_measure(struct agent_layer *layer, uint32_t tasks, uint64_t busy_ns);
// -ENOMEM: the job is as it was, apart from what was said of it.
int agent_job_forget(struct agent *agent, struct agent_job *job);
// A session begins: the broker has forgotten who knew the layers of jobs.
void jobs_age(struct agent *agent);
// Forgets stale jobs of which nothing is here but copies: these were kept for what they read.
int jobs_tidy(struct agent *agent);
void layers_destroy(struct agent *agent);
// Drops those that are empty, were not told, and that nobody reads.
void layers_tidy(struct agent *agent);

// ---- block.c -----------------------------------------------------------------------------

static inline struct block *block_find(const struct agent_layer *layer, uint32_t index)
{
    return layer->block[index / BLOCK_CELLS];
}

struct block *block_get(struct agent_layer *layer, uint32_t index); // NULL: no memory
bool block_is_empty(const struct block *block);
void block_destroy(struct block *block);
// Room for places, for tasks.  False: no memory.
bool block_place(struct block *block);
bool block_staff(struct block *block);
// Look at these partitions again before the step ends: fetch, free, or report them missing.
void block_check(struct agent *agent, struct block *block, uint64_t mask);
void block_join_line(struct agent *agent, struct block *block, uint64_t mask);
void block_leave_line(struct agent *agent, struct block *block, uint64_t mask);

// The blocks of all layers: for (at = {0}; (block = blocks_next(agent, &at)) != NULL;).
struct blocks {
    size_t bucket;
    struct hash_node *node;
    uint32_t number;
};
struct block *blocks_next(const struct agent *agent, struct blocks *at);

// Partitions that a task here is going to make.
static inline uint64_t block_expected(const struct block *block)
{
    return block->queued | block->ready | (block->running & (block->wanted | ~block->stopping));
}

// ---- order.c -----------------------------------------------------------------------------

// For tasks [first, end), behind all others.  NOBODY: no memory.
uint32_t assignment_get(struct agent *agent, struct agent_layer *layer, uint32_t first, uint32_t end);
// So many of its tasks are gone; frees it with the last.
void assignment_left(struct agent *agent, uint32_t number, uint32_t tasks);
void task_ready(struct agent *agent, struct block *block, uint32_t cell);
// The first one comes back into the order with order_unpark: there is not enough of what its tasks take.
void order_park(struct agent *agent);
void order_unpark(struct agent *agent);
// As many ready tasks of an assignment that is in use as the mask has.
void order_add(struct agent *agent, uint32_t number, uint32_t index, uint32_t count);
void order_remove(struct agent *agent, uint32_t number, uint32_t count);

// ---- part.c ------------------------------------------------------------------------------

// They have become held; tasks that wait for them may be ready now.
void parts_hold(struct agent *agent, struct block *block, uint64_t mask, bool own);
// The tasks that were to make them here do not.
void parts_unmade(struct agent *agent, struct block *block, uint64_t mask);
// Out of the store: the broker does not want them here.
void parts_drop(struct agent *agent, struct block *block, uint64_t mask);
// They are not in the store any more, though they are held and nobody asked for that.
void parts_lose(struct agent *agent, struct block *block, uint64_t mask);
// Empties the check list.  False: no memory to go on.
bool parts_settle(struct agent *agent);
// Starts fetches while there may be more.
bool parts_fetch(struct agent *agent);
// For all tasks that need one of these partitions; those of `layer` that read it several times come as often.
typedef void (*dependent_visit)(struct agent *agent, struct block *block, uint32_t cell, void *arg);
void dependents_visit(struct agent *agent, struct block *block, uint64_t mask, dependent_visit visit,
                      void *arg);

// By tasks that lack it.
bool part_is_waited_for(const struct agent_layer *layer, uint32_t index);

// ---- handover.c --------------------------------------------------------------------------

// Partitions to take over from a worker.  False: no memory.
bool copies_ask(struct agent *agent, struct agent_layer *layer, const struct agent_range *range,
                uint32_t worker);
// They are in the store.  Needs room for BLOCK_CELLS / 2 actions.
void copies_arrived(struct agent *agent, struct block *block, uint64_t mask);
// Those of the mask that were to be taken over are not, which the broker gets to hear.  Needs as much room.
void copies_decline(struct agent *agent, struct block *block, uint64_t mask);
// ... which nobody gets to hear.
void copies_forget(struct agent *agent, struct block *block);
// Those that have not begun to come are declined.  False: no memory.
bool copies_make_way(struct agent *agent);

// ---- shortage.c ----------------------------------------------------------------------------

// There was no memory for a fetch; `why` in words.
void shortage_begin(struct agent *agent, const char *why);
// Some may have come back.
void shortage_relief(struct agent *agent);
void shortage_fetched(struct agent *agent);
void shortage_tick(struct agent *agent);
// What to fetch now, if anything.
struct block *shortage_next(struct agent *agent, uint32_t *cell);
// Where nothing runs that would give memory back: makes room, or lets a task fail.  False: no memory to go
// on.
bool shortage_settle(struct agent *agent);

// ---- task.c ------------------------------------------------------------------------------

// Queues what is neither queued nor running nor held.
int tasks_assign(struct agent *agent, struct agent_layer *layer, uint32_t first, uint32_t count);
// Queued or ready ones vanish.
void tasks_leave(struct agent *agent, struct block *block, uint64_t mask);
// Running ones are over.
void tasks_over(struct agent *agent, struct block *block, uint64_t mask);
// Running ones go back to where they came from.
int task_restart(struct agent *agent, struct block *block, uint32_t cell);

// ---- stock.c -----------------------------------------------------------------------------

int stocks_create(struct agent *agent); // -1: no memory
void stocks_destroy(struct agent *agent);
int layer_asks(const struct agent *agent, struct agent_layer *layer, const struct agent_event *event);
// For a bundle of the layer's tasks; it is on a slot, it is over.
bool stocks_suffice(const struct agent *agent, const struct agent_layer *layer);
void stocks_take(struct agent *agent, const struct agent_layer *layer, uint32_t slot);
void stocks_give(struct agent *agent, uint32_t slot);

// ---- bundle.c ----------------------------------------------------------------------------

// Makes bundles of ready tasks while there are threads.  False: no memory to go on.
bool bundles_run(struct agent *agent);
void bundle_over(struct agent *agent, uint32_t number);
bool bundles_tick(struct agent *agent);

#endif
