#include "broker/core/recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/failure.h"
#include "broker/core/job.h"
#include "broker/core/lapse.h"
#include "broker/core/lineage.h"
#include "broker/core/on.h"
#include "broker/core/records.h"

// ---- the workers that were there -----------------------------------------------------------

void recovery_fini(struct sched *sched)
{
    for (size_t k = 0; k < sched->expects; k++) {
        free(sched->expected[k].name);
    }
    free(sched->expected);
    sched->expected = NULL;
    sched->expects = 0;
}

// All are back, or no longer waited for.
static void hold_end(struct sched *sched)
{
    recovery_fini(sched);
    for (size_t b = 0; b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            job_stop_late(hash_entry(node, struct job, by_number));
        }
    }
}

// It has come back, but not yet said what it holds.
static bool is_connected(const struct sched *sched, uint64_t incarnation)
{
    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        if (sched->worker[s] != NULL && sched->worker[s]->incarnation == incarnation) {
            return true;
        }
    }
    return false;
}

// The next broker need not wait for it; should it come, it is new.
static void say_gone(struct sched *sched, uint64_t incarnation)
{
    if (!is_connected(sched, incarnation)) {
        record_worker_gone(sched, incarnation);
    }
}

static void forget_expected(struct sched *sched, size_t k)
{
    free(sched->expected[k].name);
    sched->expected[k] = sched->expected[--sched->expects];
    if (sched->expects == 0) {
        hold_end(sched);
    }
}

static bool is_expected(const struct sched *sched, uint64_t incarnation, size_t *at)
{
    for (*at = 0; *at < sched->expects; ++*at) {
        if (sched->expected[*at].incarnation == incarnation) {
            return true;
        }
    }
    return false;
}

static void stop_expecting(struct sched *sched, uint64_t incarnation)
{
    size_t k;

    if (is_expected(sched, incarnation, &k)) {
        say_gone(sched, incarnation);
        forget_expected(sched, k);
    }
}

int on_expect(struct sched *sched, const struct sched_event *event)
{
    const char *name = event->u.expect.name != NULL ? event->u.expect.name : "";
    struct expected *grown;
    char *copy;

    if (event->u.expect.gone) {
        stop_expecting(sched, event->u.expect.incarnation);
        return 0;
    }
    if (sched->options.recover_us == 0) {
        return 0;
    }
    grown = realloc(sched->expected, (sched->expects + 1) * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    sched->expected = grown;
    copy = strdup(name);
    if (copy == NULL) {
        return -ENOMEM;
    }
    if (sched->expects == 0) {
        sched->expect_until_us = sched->now_us + sched->options.recover_us;
    }
    grown[sched->expects++] = (struct expected){event->u.expect.incarnation, copy};
    return 0;
}

void recovery_joined(struct sched *sched, const struct worker *worker)
{
    size_t k;

    if (worker->name[0] == '\0' || worker->incarnation == 0 || is_expected(sched, worker->incarnation, &k)) {
        return;
    }
    for (k = 0; k < sched->expects; k++) {
        if (strcmp(sched->expected[k].name, worker->name) == 0) {
            say_gone(sched, sched->expected[k].incarnation);
            forget_expected(sched, k);
            return; // one for one
        }
    }
}

void recovery_heard(struct sched *sched, const struct worker *worker)
{
    size_t k;

    if (is_expected(sched, worker->incarnation, &k)) {
        forget_expected(sched, k);
    }
}

void recovery_fire(struct sched *sched)
{
    if (sched->expects > 0 && sched->now_us >= sched->expect_until_us) {
        for (size_t k = 0; k < sched->expects; k++) {
            say_gone(sched, sched->expected[k].incarnation);
        }
        hold_end(sched);
    }
}

void recovery_why(const struct sched *sched, char *out, size_t size)
{
    uint64_t left = sched->expect_until_us > sched->now_us ? sched->expect_until_us - sched->now_us : 0;
    char more[48] = " is";

    if (sched->expects > 1) {
        snprintf(more, sizeof(more), " and %zu more are", sched->expects - 1);
    }
    snprintf(out, size, "worker %.60s%s expected back, for at most %" PRIu64 " s more",
             sched->expected[0].name, more, (left + 999999) / 1000000);
}

// ---- what had become of jobs ------------------------------------------------------------------

static void restore_over(struct layer *layer, uint32_t i)
{
    layer->state[i] |= TASK_RAN;
    task_unwant(layer, i);
    if (task_state(layer, i) == TASK_IDLE) {
        task_move(layer, i, TASK_RELEASED);
    } else {
        task_unsettle(layer, i); // one that others need is made again
    }
}

static void restore_failed(struct layer *layer, uint32_t i, const struct sched_event *event)
{
    const char *text = event->u.restore.text != NULL ? event->u.restore.text : "";

    if (event->u.restore.code == ECANCELED) {
        task_fail_cancelled(layer, i);
    } else {
        task_fail_for_good(layer, i, event->u.restore.code, text, event->u.restore.worker_name);
    }
}

int on_restore_tasks(struct sched *sched, const struct sched_event *event)
{
    const struct task_range *range = &event->u.restore.range;
    struct layer *layer = range_layer(sched, range);

    for (uint32_t i = range->first; layer != NULL && i < range->first + range->count; i++) {
        enum task_state state = task_state(layer, i);

        if (state != TASK_IDLE && state != TASK_WAITING && state != TASK_READY) {
            continue;
        }
        if (event->u.restore.over == RESTORE_OVER) {
            restore_over(layer, i);
        } else {
            restore_failed(layer, i, event);
        }
    }
    return 0;
}

static void restore_done(struct job *job, bool given_up)
{
    if (job->state > JOB_RUNNING || given_up) {
        return; // what others need of it stays, or is made
    }
    // It cannot have been before its last layers came.
    if (job->grows) {
        job_end(job, JOB_FAILED, EIO, "layers of this job were lost from what the broker had written down",
                UINT32_MAX, UINT32_MAX, NULL);
        return;
    }
    job->state = JOB_DONE;
    job->told_end = false;
    job_mark_dirty(job);
    if (job->client == NULL && job->users == 0) {
        job_rest(job);
    }
}

int on_restore_job(struct sched *sched, const struct sched_event *event)
{
    struct job *job = job_find(sched, event->u.restore.range.job);
    enum job_state state = event->u.restore.state;

    if (job == NULL) {
        return 0;
    }
    if (event->u.restore.submitted_us > 0) {
        job->submitted_us = event->u.restore.submitted_us;
    }
    if (state == JOB_DONE) {
        restore_done(job, event->u.restore.given_up);
    } else if (state == JOB_FAILED || state == JOB_CANCELLED) {
        job_end(job, state, event->u.restore.code, event->u.restore.text, event->u.restore.layer_at,
                event->u.restore.index_at, event->u.restore.worker_name);
        if (event->u.restore.done + event->u.restore.failed > 0) { // journals of old have none
            job->ended_done = event->u.restore.done;
            job->ended_failed = event->u.restore.failed;
        }
    }
    job->is_end_due = job->is_end_due && job->state != state; // it is known already
    lapse_restored(job);
    if (event->u.restore.given_up) {
        job_forget(job);
    }
    return 0;
}
