#include "broker/core/moment.h"

#include <stdlib.h>
#include <string.h>

#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/on.h"
#include "broker/core/suspect.h"

static bool is_other(const struct sched *sched, uint64_t at_us, uint64_t incarnation,
                     const struct worker *worker)
{
    return at_us != 0 && sched->options.moment_us > 0 && sched->now_us - at_us <= sched->options.moment_us &&
           (incarnation == 0 || incarnation != worker->incarnation);
}

// NULL: it has found another end.
static struct blame *blame_of(const struct sched *sched, const struct casualty *casualty,
                              struct layer **layer)
{
    *layer = range_layer(sched, &casualty->task);
    return *layer != NULL ? job_blame_find((*layer)->job, (*layer)->number, casualty->task.first) : NULL;
}

static bool is_waiting(const struct sched *sched, const struct casualty *casualty)
{
    struct layer *layer;
    const struct blame *blame = casualty->name != NULL ? blame_of(sched, casualty, &layer) : NULL;

    return blame != NULL && blame->value == MOMENT_WAITS &&
           task_state(layer, casualty->task.first) == TASK_DELAYED;
}

static void casualty_remove(struct sched *sched, size_t at)
{
    free(sched->casualty[at].name);
    free(sched->casualty[at].why);
    sched->casualty[at] = sched->casualty[--sched->casualties];
}

bool moment_excuse(const struct layer *layer, struct blame *blame)
{
    const struct sched *sched = layer->job->sched;

    // What one worker loses goes to another, which may be the next to die.
    if (blame->excused > 0 && sched->now_us - blame->excused_us <= sched->options.moment_us) {
        return true;
    }
    if (blame->excused >= sched->options.attempts_max) {
        return false;
    }
    blame->excused++;
    blame->excused_us = sched->now_us;
    return true;
}

// False: it cannot be.
static bool take_back(struct sched *sched, const struct casualty *casualty)
{
    struct layer *layer;
    struct blame *blame = blame_of(sched, casualty, &layer);

    if (blame == NULL) {
        return true; // that was all
    }
    if (blame->deaths == 0 || !moment_excuse(layer, blame)) {
        return false;
    }
    blame->deaths--;
    attempt_excuse(blame, casualty->incarnation);
    if (is_waiting(sched, casualty)) {
        suspect_try(layer, casualty->task.first, blame);
    }
    return true;
}

bool moment_begin(struct sched *sched, const struct worker *worker)
{
    bool company = is_other(sched, sched->death_us, sched->death_incarnation, worker);

    sched->death_us = sched->now_us > 0 ? sched->now_us : 1;
    sched->death_incarnation = worker->incarnation;
    for (size_t k = sched->casualties; k-- > 0;) {
        const struct casualty *casualty = &sched->casualty[k];
        const struct layer *layer = range_layer(sched, &casualty->task);

        if (layer != NULL && (layer->state[casualty->task.first] & TASK_SEEN) == 0 &&
            is_other(sched, casualty->at_us, casualty->incarnation, worker) && take_back(sched, casualty)) {
            casualty_remove(sched, k);
        }
    }
    for (size_t k = 0; k < sched->casualties; k++) {
        const struct casualty *casualty = &sched->casualty[k];
        struct layer *layer = range_layer(sched, &casualty->task);

        if (layer != NULL && is_other(sched, casualty->at_us, casualty->incarnation, worker)) {
            layer->state[casualty->task.first] &= (uint8_t)~TASK_SEEN;
        }
    }
    return company;
}

static struct casualty *casualty_add(struct sched *sched, const struct worker *worker,
                                     const struct layer *layer, uint32_t i)
{
    if (sched->options.moment_us == 0) {
        return NULL;
    }
    if (sched->casualties == sched->casualty_capacity) {
        size_t capacity = sched->casualty_capacity * 2 + 16;
        struct casualty *grown = realloc(sched->casualty, capacity * sizeof(*grown));

        if (grown == NULL) {
            return NULL; // it stays blamed
        }
        sched->casualty = grown;
        sched->casualty_capacity = capacity;
    }
    if (sched->casualties == 0) {
        sched->casualty_due_us = sched->now_us + sched->options.moment_us;
    }
    sched->casualty[sched->casualties] = (struct casualty){
        .at_us = sched->now_us,
        .incarnation = worker->incarnation,
        .task = {layer->job->number, layer->number, i, 1},
    };
    return &sched->casualty[sched->casualties++];
}

void moment_note(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    casualty_add(layer->job->sched, worker, layer, i);
}

bool moment_wait(const struct worker *worker, struct layer *layer, uint32_t i, const char *why)
{
    struct sched *sched = layer->job->sched;
    struct blame *blame = job_blame_find(layer->job, layer->number, i);
    struct casualty *casualty;

    if (sched->worker_count < 2 || (casualty = casualty_add(sched, worker, layer, i)) == NULL) {
        return false;
    }
    casualty->name = strdup(worker->name);
    casualty->why = strdup(why);
    if (casualty->name == NULL || casualty->why == NULL) {
        casualty_remove(sched, sched->casualties - 1);
        return false;
    }
    task_move(layer, i, TASK_DELAYED);
    layer->value[i] = VALUE_ASIDE;
    blame->value = MOMENT_WAITS;
    return true;
}

static void judge(struct sched *sched, const struct casualty *casualty)
{
    struct layer *layer;
    struct blame *blame = blame_of(sched, casualty, &layer);

    // A worker may have come back with it.
    if (blame->deaths >= sched->options.attempts_max) {
        suspect_set_aside(layer, casualty->task.first, casualty->name, casualty->why);
    } else {
        suspect_try(layer, casualty->task.first, blame);
    }
}

void moment_fire(struct sched *sched)
{
    if (sched->casualties == 0 || sched->now_us <= sched->casualty_due_us) {
        return; // it is asked with each event
    }
    sched->casualty_due_us = UINT64_MAX;
    for (size_t k = sched->casualties; k-- > 0;) {
        uint64_t due_us = sched->casualty[k].at_us + sched->options.moment_us;

        if (sched->now_us <= due_us) {
            sched->casualty_due_us = due_us < sched->casualty_due_us ? due_us : sched->casualty_due_us;
            continue;
        }
        if (is_waiting(sched, &sched->casualty[k])) {
            judge(sched, &sched->casualty[k]);
        }
        casualty_remove(sched, k);
    }
}

uint64_t moment_waiting(const struct sched *sched, uint32_t job)
{
    uint64_t count = 0;

    for (size_t k = 0; k < sched->casualties; k++) {
        const struct casualty *casualty = &sched->casualty[k];

        count += (job == 0 || casualty->task.job == job) && is_waiting(sched, casualty) ? 1 : 0;
    }
    return count;
}

void moment_fini(struct sched *sched)
{
    while (sched->casualties > 0) {
        casualty_remove(sched, sched->casualties - 1);
    }
    free(sched->casualty);
}
