#include "broker/core/state.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/core/job.h"
#include "broker/core/progress.h"
#include "broker/core/share.h"
#include "broker/core/worker.h"

// Row: from.  A bit for each state that may follow.
#define TO(state) (1U << TASK_##state)
static const uint8_t legal[TASK_STATES] = {
    // needed for the first time; cancelled; was over before a restart
    [TASK_IDLE] = TO(WAITING) | TO(FAILED) | TO(RELEASED),
    // inputs held; given to the worker that makes them; a worker turns out to hold it; need has gone
    // (never ran / ran before); an input failed, or cancelled
    [TASK_WAITING] = TO(READY) | TO(ASSIGNED) | TO(HELD) | TO(IDLE) | TO(RELEASED) | TO(FAILED),
    // given to a worker; an input was lost; as above
    [TASK_READY] = TO(ASSIGNED) | TO(WAITING) | TO(HELD) | TO(IDLE) | TO(RELEASED) | TO(FAILED),
    // done; back to the queue (worker lost, dropped, input missing); need has gone; failed, perhaps
    // to be tried again later
    [TASK_ASSIGNED] = TO(HELD) | TO(WAITING) | TO(IDLE) | TO(RELEASED) | TO(FAILED) | TO(DELAYED),
    // nobody needs it; lost, so run it again
    [TASK_HELD] = TO(RELEASED) | TO(WAITING),
    // needed again; needed again before the release was sent
    [TASK_RELEASED] = TO(WAITING) | TO(HELD),
    [TASK_FAILED] = 0,
    // its time has come; a worker turns out to hold it; need has gone; an input failed, or cancelled
    [TASK_DELAYED] = TO(WAITING) | TO(HELD) | TO(IDLE) | TO(RELEASED) | TO(FAILED),
};
#undef TO

static const char *const names[TASK_STATES] = {"idle", "waiting",  "ready",  "assigned",
                                               "held", "released", "failed", "delayed"};

const char *task_state_name(enum task_state state)
{
    return names[state];
}

bool task_needed(const struct layer *layer, uint32_t i)
{
    return (layer->state[i] & TASK_KEEP) != 0 || layer->whole_active > 0 ||
           (layer->consumers != NULL && consumers_at(layer, i) > 0);
}

uint64_t task_bytes_aside(const struct layer *layer, uint32_t i)
{
    const struct blame *blame = job_blame_find(layer->job, layer->number, i);

    return blame != NULL ? blame->value : VALUE_ASIDE;
}

void task_set_bytes(struct layer *layer, uint32_t i, uint64_t bytes)
{
    struct blame *blame = bytes < VALUE_ASIDE ? NULL : job_blame(layer->job, layer->number, i);

    layer->value[i] = bytes < VALUE_ASIDE ? (uint32_t)bytes : VALUE_ASIDE;
    if (blame != NULL) {
        blame->value = bytes;
    }
}

static bool is_unfinished(enum task_state state)
{
    return state == TASK_WAITING || state == TASK_READY || state == TASK_ASSIGNED || state == TASK_DELAYED;
}

static bool is_done(enum task_state state)
{
    return state == TASK_HELD || state == TASK_RELEASED;
}

void job_mark_dirty(struct job *job)
{
    if (!job->is_dirty) {
        job->is_dirty = true;
        job->dirty_next = job->sched->dirty;
        job->sched->dirty = job;
    }
}

void layer_make_dirty(struct layer *layer)
{
    bits_set(&layer->job->dirty, layer->number);
    job_mark_dirty(layer->job);
}

static void layer_mark_unsettled(struct layer *layer)
{
    struct job *job = layer->job;

    bits_set(&job->unsettled, job->layer_capacity - 1 - layer->number);
    if (!job->is_unsettled) {
        job->is_unsettled = true;
        job->unsettled_next = job->sched->unsettled;
        job->sched->unsettled = job;
    }
}

void layer_unsettle(struct layer *layer)
{
    bits_set_range(&layer->unsettled, 0, layer->tasks);
    layer_mark_unsettled(layer);
}

void task_unsettle(struct layer *layer, uint32_t i)
{
    bits_set(&layer->unsettled, i);
    layer_mark_unsettled(layer);
}

void layer_wake(struct layer *layer)
{
    struct job *job = layer->job;
    bool runnable = layer->in[TASK_READY] > 0 && layer->blocked == 0;

    if (runnable == layer->rank.in) {
        return;
    }
    if (runnable) {
        rank_add(&layer->lane->runnable, &layer->rank);
        job->runnable++;
        if (!job->is_runnable && !job->dormant) {
            job_run_insert(job);
        }
    } else {
        rank_remove(&layer->lane->runnable, &layer->rank);
        if (--job->runnable == 0 && job->is_runnable) {
            job_run_remove(job);
        }
    }
}

struct layer *layer_from(const struct job *job, uint64_t key)
{
    struct rank_node *first = NULL;

    for (const struct lane *lane = &job->lane; lane != NULL; lane = lane->next) {
        struct rank_node *node = NULL;

        if (lane->demand == NULL || lane->demand->stuck_run != job->sched->run) {
            node = rank_from(&lane->runnable, key);
        }
        if (node != NULL && (first == NULL || node->key < first->key)) {
            first = node;
        }
    }
    return first != NULL ? hash_entry(first, struct layer, rank) : NULL;
}

// The layer got its first unfinished task or lost its last: its whole inputs are needed or not.
static void whole_inputs_follow(struct layer *layer, bool active)
{
    for (size_t k = 0; k < layer->inputs; k++) {
        struct layer *source = layer->input[k].source;

        if (!layer->input[k].whole) {
            continue;
        }
        if (active ? source->whole_active++ == 0 : --source->whole_active == 0) {
            layer_unsettle(source);
        }
    }
}

// A partition of its whole inputs is gone: it will be somewhere else.
static void layer_unlocate(const struct layer *layer)
{
    for (struct knows *knows = layer->job->knows; knows != NULL; knows = knows->job_next) {
        knows_clear(knows->located, layer->number);
    }
}

// The layer became held entirely or stopped being so.
static void whole_dependents_follow(struct layer *layer, bool held)
{
    for (size_t k = 0; k < layer->dependents; k++) {
        struct layer *target = layer->dependent[k]->target;

        if (!layer->dependent[k]->whole) {
            continue;
        }
        if (held) {
            target->blocked--;
        } else if (target->blocked++ == 0) {
            layer_unlocate(target);
        }
        layer_wake(target);
    }
}

// The layer got its first failed task: nobody who reads all of it can go on.
static void whole_dependents_fail(struct layer *layer)
{
    for (size_t k = 0; k < layer->dependents; k++) {
        struct layer *target = layer->dependent[k]->target;

        if (layer->dependent[k]->whole && target->doomed++ == 0 && layer_unfinished(target) > 0) {
            layer_unsettle(target);
        }
    }
}

void task_move(struct layer *layer, uint32_t i, enum task_state to)
{
    struct job *job = layer->job;
    struct sched *sched = job->sched;
    enum task_state from = task_state(layer, i);

    if ((legal[from] >> to & 1) == 0) {
        fprintf(stderr, "scheduler: task j%u:t%u.%u may not go from %s to %s\n", job->number, layer->number,
                i, names[from], names[to]);
        abort();
    }
    layer->state[i] = (uint8_t)((layer->state[i] & ~TASK_STATE) | (int)to);
    layer->in[from]--;
    layer->in[to]++;
    sched->in[from]--;
    sched->in[to]++;
    sched->transitions++;
    if (from == TASK_READY) {
        bits_clear(&layer->ready, i);
        if (layer->in[TASK_READY] == 0) {
            layer_wake(layer);
        }
    } else if (to == TASK_READY) {
        bits_set(&layer->ready, i);
        layer->ready_stamp = ++sched->ready_stamp;
        sched->check_sources = sched->check_sources || layer->graph->n_source > 0;
        if (layer->in[TASK_READY] == 1) {
            layer_wake(layer);
        }
    }
    if (from == TASK_ASSIGNED) {
        job->assigned--;
    } else if (to == TASK_ASSIGNED) {
        job->assigned++;
    }
    if (from == TASK_IDLE) {
        job->tasks++;
    }
    if (to == TASK_FAILED) {
        job->failed++;
        if (layer->in[TASK_FAILED] == 1) {
            whole_dependents_fail(layer);
        }
    }
    if (is_done(from) != is_done(to)) {
        job->done += is_done(to) ? 1 : UINT64_MAX;
    }
    if (is_unfinished(from) != is_unfinished(to)) {
        bool active = is_unfinished(to);
        uint32_t unfinished = layer_unfinished(layer);

        if (layer->goal) {
            job->open += active ? 1 : UINT64_MAX;
            if (job->open == 0) {
                job_mark_dirty(job);
            } else if (active && job->open == 1) {
                progress_follow(job);
            }
        }
        if (unfinished == (active ? 1 : 0)) {
            whole_inputs_follow(layer, active);
        }
    }
    if (from == TASK_HELD && layer->in[TASK_HELD] == layer->tasks - 1) {
        whole_dependents_follow(layer, false);
    } else if (to == TASK_HELD && layer->in[TASK_HELD] == layer->tasks) {
        whole_dependents_follow(layer, true);
    }
}
