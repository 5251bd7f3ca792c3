// One job of the simulation: a random graph, what its answer must be, what happened to it.
#ifndef DRAY_TESTS_SIM_PLAN_H
#define DRAY_TESTS_SIM_PLAN_H

#include <stdbool.h>

#include "tests/sim/build.h"
#include "tests/sim/random.h"

enum { PLAN_FILES = 4, FAILS_ALWAYS = 255, PLAN_RESOURCES = 2, PLAN_LABELS = 3, AMOUNT_MAX = 3 };

struct plan {
    struct build build;
    const Dray__Graph *graph;
    uint64_t key;
    bool detached;
    int32_t priority;
    uint64_t **value; // by layer and index, computed undisturbed
    bool **needed;
    uint32_t **runs; // how often it was started
    bool **said;     // a result was announced
    bool **got;      // and fetched, and was right
    bool has_sources;
    uint32_t failures_max;
    uint8_t **fails;  // how many attempts of a task fail; FAILS_ALWAYS
    uint8_t **failed; // how many have
    bool **freed;     // by who has it
    bool **doomed;    // fails always, or needs one that does
    bool has_poison;  // a needed task fails always
    // One task that always takes its worker along; layer UINT32_MAX: none.
    uint32_t killer_layer, killer_index;
    // What became of it.
    uint32_t job;
    uint32_t owner; // index of the customer
    bool submitted, cancelled, ended, over;
    bool cancelled_some; // tasks of it
    // In wide worlds.
    const struct plan *other; // whose partitions it needs; NULL: it needs none
    uint32_t piece;           // layers that it is submitted with; more come later.  0: all
    uint32_t sent;            // layers that were sent
    uint32_t safe;            // and will not get lost any more
    uint32_t accepted;        // by whom that was heard, plus one
    uint32_t accepted_as;     // the number that was heard then
    bool damaged;             // something of it was lost from the ledger
    uint64_t had_at;          // when the broker last knew that
    uint32_t extender;        // the customer that sends them, plus one
    uint32_t extends;         // the job that they are for
    bool rejected;
    uint32_t keeps; // that were asked for
};

struct plan_shape {
    uint32_t layers_max, tasks_max;
    bool sources;
    bool poison, killer;
    bool wide;                // own edges, demands, growth
    const struct plan *other; // may need partitions of this one
};

extern char plan_resource[PLAN_RESOURCES][8];
extern char plan_label[PLAN_LABELS][12];
extern char plan_file[PLAN_FILES][8]; // names of the files that layers may read

void plan_random(struct plan *plan, struct random *random, const struct plan_shape *shape);
// From a graph made by hand.
void plan_finish(struct plan *plan);
void plan_fini(struct plan *plan);

// ---- between the files of plans
// An input of the newest layer with edges at random: targets below `from`, in its own layer below the task.
void plan_edges(struct plan *plan, struct random *random, uint32_t layer, Dray__Input *input, uint32_t from,
                bool own);
// More inputs, and demands, for the newest layer, as only wide worlds have them.
void plan_widen(struct plan *plan, struct random *random, const struct plan *other);
// The layer that an input reads: of which plan, how many tasks.
const struct plan *plan_source(const struct plan *plan, const Dray__Input *input, uint32_t *tasks);

// The value of a task from its inputs' values.
uint64_t plan_begin(uint32_t layer, uint32_t index);
uint64_t plan_add(uint64_t value, uint64_t input);

#endif
