#include "broker/core/share.h"

#include <stdlib.h>

// ---- levels ------------------------------------------------------------------------------------

static struct level *level_get(struct sched *sched, int32_t priority)
{
    struct level **link = &sched->levels;
    struct level *level;

    while (*link != NULL && (*link)->priority > priority) {
        link = &(*link)->next;
    }
    if (*link != NULL && (*link)->priority == priority) {
        (*link)->jobs++;
        return *link;
    }
    level = calloc(1, sizeof(*level));
    if (level != NULL) {
        level->priority = priority;
        level->jobs = 1;
        level->nobody.level = level;
        level->next = *link;
        *link = level;
    }
    return level;
}

static void level_put(struct sched *sched, struct level *level)
{
    struct level **link = &sched->levels;

    if (--level->jobs > 0) {
        return;
    }
    while (*link != level) {
        link = &(*link)->next;
    }
    *link = level->next;
    free(level);
}

// ---- shares ------------------------------------------------------------------------------------

static struct share *share_get(struct client *client, struct level *level)
{
    struct share *share = client != NULL ? client->shares : &level->nobody;

    while (share != NULL && share->level != level) {
        share = share->client_next;
    }
    if (share == NULL) {
        share = calloc(1, sizeof(*share));
        if (share == NULL) {
            return share_get(NULL, level);
        }
        share->level = level;
        share->client = client;
        share->client_next = client->shares;
        client->shares = share;
    }
    level->shares += share->jobs++ == 0 ? 1 : 0;
    return share;
}

static void share_put(struct share *share)
{
    struct share **link;

    if (--share->jobs > 0) {
        return;
    }
    share->level->shares--;
    if (share->client == NULL) {
        return;
    }
    link = &share->client->shares;
    while (*link != share) {
        link = &(*link)->client_next;
    }
    *link = share->client_next;
    free(share);
}

// It has something to hand out again: what it had less than others while it had nothing is not made up for,
// but for what is only assigned to them, of which it gets as much.
static void share_run_insert(struct share *share)
{
    struct level *level = share->level;

    share->served = share->served > level->served ? share->served : level->served;
    share->run_prev = NULL;
    share->run_next = level->runnable;
    if (level->runnable != NULL) {
        level->runnable->run_prev = share;
    }
    level->runnable = share;
}

static void share_run_remove(struct share *share)
{
    if (share->run_prev != NULL) {
        share->run_prev->run_next = share->run_next;
    } else {
        share->level->runnable = share->run_next;
    }
    if (share->run_next != NULL) {
        share->run_next->run_prev = share->run_prev;
    }
    share->run_prev = share->run_next = NULL;
}

// ---- jobs --------------------------------------------------------------------------------------

bool job_enlist(struct job *job)
{
    struct level *level = level_get(job->sched, job->priority);

    if (level == NULL) {
        return false;
    }
    job->share = share_get(NULL, level);
    return true;
}

void job_delist(struct job *job)
{
    struct level *level = job->share != NULL ? job->share->level : NULL;

    if (level != NULL) {
        share_put(job->share);
        job->share = NULL;
        level_put(job->sched, level);
    }
}

void job_reshare(struct job *job)
{
    bool runnable = job->is_runnable;
    struct share *before = job->share;
    uint64_t backlog = job->backlog;

    if (before == NULL || before->client == job->client) {
        return;
    }
    if (runnable) {
        job_run_remove(job);
    }
    job_discharge(job, backlog);
    job->share = share_get(job->client, before->level);
    job_charge(job, backlog);
    share_put(before);
    if (runnable) {
        job_run_insert(job);
    }
}

// Jobs mostly come in order, or, when their client comes or goes, the latest first: so the place is looked for from
// both ends.
void job_run_insert(struct job *job)
{
    struct share *share = job->share;
    struct job *after = share->run_tail;
    const struct job *head = share->run_head;

    if (after == NULL) {
        share_run_insert(share);
    }
    while (after != NULL && job->number < after->number) {
        if (job->number < head->number) {
            after = head->run_prev;
            break;
        }
        head = head->run_next;
        after = after->run_prev;
    }
    job->run_prev = after;
    job->run_next = after != NULL ? after->run_next : share->run_head;
    if (job->run_next != NULL) {
        job->run_next->run_prev = job;
    } else {
        share->run_tail = job;
    }
    if (after != NULL) {
        after->run_next = job;
    } else {
        share->run_head = job;
    }
    job->is_runnable = true;
}

void job_run_remove(struct job *job)
{
    struct share *share = job->share;

    if (job->run_prev != NULL) {
        job->run_prev->run_next = job->run_next;
    } else {
        share->run_head = job->run_next;
    }
    if (job->run_next != NULL) {
        job->run_next->run_prev = job->run_prev;
    } else {
        share->run_tail = job->run_prev;
    }
    job->run_prev = job->run_next = NULL;
    job->is_runnable = false;
    if (share->run_head == NULL) {
        share_run_remove(share);
    }
}

// ---- turns -------------------------------------------------------------------------------------

bool job_outranks(const struct job *a, const struct job *b)
{
    if (a->priority != b->priority) {
        return a->priority > b->priority;
    }
    return a->share == b->share ? a->number < b->number : share_used(a->share) < share_used(b->share);
}

struct share *level_turn(struct level *level, uint64_t run, uint64_t quantum, uint64_t *limit)
{
    struct share *first = NULL;
    struct share *second = NULL;

    for (struct share *share = level->runnable; share != NULL; share = share->run_next) {
        if (share->passed_run == run) {
            continue;
        }
        if (first == NULL || share_used(share) < share_used(first)) {
            second = first;
            first = share;
        } else if (second == NULL || share_used(share) < share_used(second)) {
            second = share;
        }
    }
    if (first != NULL) {
        level->served = level->served > first->served ? level->served : first->served;
    }
    *limit = second != NULL ? share_used(second) + quantum : UINT64_MAX;
    return first;
}
