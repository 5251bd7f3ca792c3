// Tasks that fail: tried again after a delay, or for good, and then why.  Private to broker/core.
//
// What a failed task keeps is its cause: the task of the same job that failed first (itself, when it
// failed by itself) and the number of that one's reason.  Its value is that number + 1 when it failed
// by itself, otherwise a place in the job's table of causes, CAUSE_OTHER + 0, 1, ...  Reasons are texts,
// kept once each and no more than some, so that a million failures stay cheap.
#ifndef DRAY_BROKER_CORE_FAILURE_H
#define DRAY_BROKER_CORE_FAILURE_H

#include "broker/core/state.h"

struct reason {
    struct hash_node node;
    uint32_t number;
    int code;
    char text[];
};

// A cause is never 0; reason 0: there was no memory for it.
static inline uint64_t cause_of(uint32_t reason, uint32_t layer, uint32_t index)
{
    return UINT64_C(1) << 63 | (uint64_t)reason << 47 | (uint64_t)layer << 31 | index;
}
static inline uint32_t cause_reason(uint64_t cause)
{
    return (uint32_t)(cause >> 47) & 0xffff;
}
static inline uint32_t cause_layer(uint64_t cause)
{
    return (uint32_t)(cause >> 31) & 0xffff;
}
static inline uint32_t cause_index(uint64_t cause)
{
    return (uint32_t)cause & 0x7fffffff;
}
#define CAUSE_OTHER 0x80000000U
static inline bool cause_is_own(const struct layer *layer, uint32_t i)
{
    return layer->value[i] < CAUSE_OTHER;
}
static inline uint64_t task_cause(const struct layer *layer, uint32_t i)
{
    if (cause_is_own(layer, i)) {
        return cause_of(layer->value[i] - 1, layer->number, i);
    }
    layer->job->cause_read = layer->value[i] - CAUSE_OTHER;
    return layer->job->cause[layer->job->cause_read];
}
// Of a failed task.  Without memory for it, it is told as if it had failed by itself.
void task_set_cause(struct layer *layer, uint32_t i, uint64_t cause);

// The task cannot be done, by its own fault or as it is told: notes why and lets it fail.  It is
// unfinished, and unassigned by the caller when it was assigned.  When more fail than may, the job
// ends with this event, not before: layers stay what they are until then.
void task_fail_for_good(struct layer *layer, uint32_t i, int code, const char *text, const char *worker);
// The same as its client wishes: that is no failure which counts.
void task_fail_cancelled(struct layer *layer, uint32_t i);
// Without counting or noting it.
void task_fail_as(struct layer *layer, uint32_t i, int code, const char *text);
// An attempt failed: it is tried again, perhaps after a delay, or has failed for good.
void task_fail_attempt(struct layer *layer, uint32_t i, int code, const char *text, const char *worker);
// It fails because an input has, for this cause.  The input's layer may be another job's.
void task_fail_with(struct layer *layer, uint32_t i, const struct layer *source, uint64_t cause);

// Delayed tasks whose time has come go back to the queue.
void delays_fire(struct sched *sched);

// How many tasks from this failed one on can be told of with the same words, at most `max`.
uint32_t failure_run(const struct layer *layer, uint32_t i, uint32_t max);
// Those words, in the arena of this step, and the code; NULL: no memory.
const char *failure_tell(const struct layer *layer, uint32_t i, uint32_t count, int *code);

void failures_destroy(struct job *job);

#endif
