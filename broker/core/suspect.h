// Tasks whose workers died.  One that may have been what killed them is tried again, and before it would be
// set aside for good it gets a worker of its own: so that it dies alone, or those that only ran beside it do
// not go with it.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_SUSPECT_H
#define DRAY_BROKER_CORE_SUSPECT_H

#include "broker/core/state.h"

// What became of one attempt, in words.
struct attempt {
    struct attempt *next;
    uint64_t incarnation; // of the worker that died with it; 0: of none
    bool excused;         // others died in the same moment, so it does not count
    char text[];
};

// A worker is gone without a word: what it may have run is blamed, before its tasks go back.
void suspects_blame(struct sched *sched, struct worker *worker, const char *why);
// For moment.h: that death does not count after all; the task is tried alone, or set aside, now.
void attempt_excuse(struct blame *blame, uint64_t incarnation);
void suspect_try(struct layer *layer, uint32_t i, struct blame *blame);
void suspect_set_aside(struct layer *layer, uint32_t i, const char *worker_name, const char *why);
// That worker is back, and still has the task: it has not died of it.
void suspect_pardon(const struct worker *worker, const struct layer *layer, uint32_t i);

// Gives those whose turn it is a worker each, emptied for them.
void suspects_place(struct sched *sched);
// How many tasks wait for that, of those that are delayed.
uint64_t suspects_waiting(const struct sched *sched);
bool suspects_of(const struct sched *sched, uint32_t job); // of this job

// How much of a failure's text says what happened: of the first line, without the clause that leads over to
// what a program wrote ("...; standard error ends with:").
size_t attempt_headline(const char *text);
// An attempt failed without a death: noted, for the words of the end.
void attempt_note(struct layer *layer, uint32_t i, const char *text);
// All that is known of a task's attempts, and what it needs: lines to stand behind a failure's text, in the
// arena of this step; "" when there is nothing.
const char *attempts_tell(const struct layer *layer, uint32_t i);
void attempts_destroy(struct blame *blame);

#endif
