// The jobs of a connection that was lost, on the one that goes on in its place.  In the order of messages:
// what is freed is freed again; the broker is asked for each job; when it has answered for all of them, the
// layers that it does not have are sent again, then what concerns these: releases and cancels.
#include "client/lib/results_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RANGES_MAX = 4096 }; // of a message

// ---- ranges of tasks to be freed or cancelled -----------------------------------------------------------

struct telling {
    struct job *job;
    enum frame_type type;
    struct arena arena;
    struct client_range range[RANGES_MAX];
    size_t ranges;
    uint64_t told; // task_place behind the last one that was sent
    int rc;
};

static void tell_now(struct telling *telling)
{
    struct job *job = telling->job;
    Dray__Free freed = DRAY__FREE__INIT;
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    size_t runs = 0;
    Dray__Run **run;

    if (telling->ranges == 0 || telling->rc != 0) {
        return;
    }
    run = results_runs(job->id, telling->range, telling->ranges, &telling->arena, &runs);
    freed.job = cancel.job = job->id;
    freed.run = cancel.run = run;
    freed.n_run = cancel.n_run = runs;
    telling->rc = run == NULL ? -ENOMEM
                              : uplink_send(job->results->uplink, telling->type,
                                            telling->type == FRAME_FREE ? &freed.base : &cancel.base, NULL);
    if (telling->rc == 0) {
        const struct client_range *last = &telling->range[telling->ranges - 1];

        telling->told = task_place(last->layer, last->first + last->count);
    }
    telling->ranges = 0;
    arena_reset(&telling->arena);
}

// Nothing more once something could not be sent.
static void tell(struct telling *telling, uint32_t layer, uint32_t first, uint32_t count)
{
    if (telling->ranges == RANGES_MAX) {
        tell_now(telling);
    }
    if (telling->rc == 0) {
        telling->range[telling->ranges++] = (struct client_range){layer, first, count};
    }
}

static struct telling *telling_create(struct job *job, enum frame_type type)
{
    struct telling *telling = malloc(sizeof(*telling));

    if (telling != NULL) {
        telling->job = job;
        telling->type = type;
        telling->ranges = 0;
        telling->told = 0;
        telling->rc = 0;
        arena_init(&telling->arena, 0);
    }
    return telling;
}

static int telling_end(struct telling *telling, uint64_t *told)
{
    int rc;

    tell_now(telling);
    rc = telling->rc;
    *told = telling->told;
    arena_fini(&telling->arena);
    free(telling);
    return rc;
}

static void free_again(struct telling *telling, uint32_t l, uint32_t from, uint32_t end)
{
    const struct layer *layer = &telling->job->layer[l];

    if (layer->gone) {
        tell(telling, l, from, end - from);
        return;
    }
    for (uint32_t at = from; layer->set != NULL && at < end && telling->rc == 0;) {
        bool freed;
        uint32_t n = layer_alike(layer, TASK_FREED, at, end, &freed);

        if (freed) {
            tell(telling, l, at, n);
        }
        at += n;
    }
}

int job_free_unsaid(struct job *job, uint64_t end)
{
    uint64_t from = job->unsaid_from, told;
    struct telling *telling;
    int rc;

    end = end < job->unsaid_end ? end : job->unsaid_end;
    if (from >= end) {
        return 0;
    }
    telling = telling_create(job, FRAME_FREE);
    if (telling == NULL) {
        return -ENOMEM;
    }
    for (uint32_t l = (uint32_t)(from >> 32); l < job->layers && task_place(l, 0) < end && telling->rc == 0;
         l++) {
        uint32_t first = l == from >> 32 ? (uint32_t)from : 0;
        uint32_t last = l == end >> 32 ? (uint32_t)end : job->layer[l].tasks;

        if (first < last) {
            free_again(telling, l, first, last);
        }
    }
    rc = telling_end(telling, &told);
    job->unsaid_from = rc == 0 ? end : told > from ? told : from;
    return rc;
}

static int cancel_again(struct job *job)
{
    struct telling *telling;
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    uint64_t told;

    if (job->cancelled_all) {
        cancel.job = job->id;
        return uplink_send(job->results->uplink, FRAME_CANCEL, &cancel.base, NULL);
    }
    if (job->cancels == 0) {
        return 0;
    }
    telling = telling_create(job, FRAME_CANCEL);
    if (telling == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < job->cancels; i++) {
        tell(telling, job->cancelled[i].layer, job->cancelled[i].first, job->cancelled[i].count);
    }
    return telling_end(telling, &told);
}

void results_cancelled(struct results *results, uint32_t id, const struct client_range *range, size_t ranges)
{
    struct job *job = results_find_job(results, id);

    if (job == NULL || job->ended) {
        return;
    }
    job->told = false;
    job->cancelled_all = job->cancelled_all || ranges == 0;
    for (size_t i = 0; i < ranges; i++) {
        struct client_range *last = job->cancels > 0 ? &job->cancelled[job->cancels - 1] : NULL;

        if (last != NULL && last->layer == range[i].layer && last->first + last->count == range[i].first) {
            last->count += range[i].count;
            continue;
        }
        if (job->cancelled == NULL) {
            job->cancelled = malloc(CANCELS_MAX * sizeof(*job->cancelled));
        }
        if (job->cancelled == NULL) {
            return; // it would not be cancelled again; it runs to its end then
        }
        if (job->cancels == CANCELS_MAX) { // the older half is through by now
            job->cancels /= 2;
            memmove(job->cancelled, job->cancelled + job->cancels, job->cancels * sizeof(*job->cancelled));
        }
        job->cancelled[job->cancels++] = range[i];
    }
}

// ---- jobs that were given up -------------------------------------------------------------------------

void results_farewell(struct results *results, uint32_t id)
{
    const struct job *job = results_find_job(results, id);

    if (job == NULL || job->kept == NULL) { // one that is kept is others' as well
        size_t at = results->farewells++ % FAREWELLS_MAX;

        results->farewell[at] = id;
        results->farewell_at = at < results->farewell_at ? at : results->farewell_at;
    }
}

void results_forget_farewells(struct results *results)
{
    memset(results->farewell, 0, sizeof(results->farewell));
}

void farewell_forget(struct results *results, uint32_t job)
{
    for (size_t i = 0; i < FAREWELLS_MAX; i++) {
        if (results->farewell[i] == job) {
            results->farewell[i] = 0;
        }
    }
}

static int say_farewell(struct results *results)
{
    int rc = 0;

    while (results->farewell_at < FAREWELLS_MAX && rc == 0) {
        Dray__Free message = DRAY__FREE__INIT;

        message.job = results->farewell[results->farewell_at];
        rc = message.job != 0 ? uplink_send(results->uplink, FRAME_FREE, &message.base, NULL) : 0;
        results->farewell_at += rc == 0;
    }
    return rc;
}

// ---- losing and returning -----------------------------------------------------------------------------

// Of one that has failed, or of which the user has all, there is nothing to be lost.
static bool has_stake(const struct job *job)
{
    return !job->ended || (job->end.type == DRAY_DONE && !(job->end_delivered && job_frees_read(job)));
}

bool results_stake(const struct results *results)
{
    const struct job *job = results->jobs;

    while (job != NULL && !has_stake(job)) {
        job = job->next;
    }
    return job != NULL;
}

void results_fail_all(struct results *results, int code, const char *why)
{
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        struct error text = {0};

        if (has_stake(job)) {
            error_set(&text, code, "job %u was lost: %s", job->id, why);
            results_fail_job(job, code, text.text);
        }
    }
}

void results_lost(struct results *results)
{
    results->link = LINK_LOST;
    results->returning = 0;
    extends_rewind(&results->extends);
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        job->attach_tag = 0;
        job->asked = job->told = false;
        job->reads = 0;
        job->unsaid_from = 0; // all that was freed is freed again
        job->unsaid_end = UINT64_MAX;
    }
    results->admitting = true; // nothing else begins meanwhile
    transfers_lost(results->transfers);
    results->admitting = false;
}

// The lowest layer that the broker was not known to have.
static uint32_t lowest(const struct job *job)
{
    // Some of a pool's may not have been sent at all.
    uint32_t sent = job->options.unfinished != NULL ? job->sent : job->layers;

    return extends_lowest(&job->results->extends, job->id, sent);
}

static int attach_again(struct job *job, uint32_t *tag)
{
    Dray__Attach attach = DRAY__ATTACH__INIT;
    int rc;

    attach.tag = job->attach_tag = *tag + 1;
    attach.has_job = attach.has_again = attach.again = true;
    attach.job = job->id;
    rc = uplink_send(job->results->uplink, FRAME_ATTACH, &attach.base, NULL);
    if (rc == 0) {
        job->results->returning++;
        job->asked = true;
        ++*tag;
    } else {
        job->attach_tag = 0;
    }
    return rc;
}

// What concerns layers that the broker may not have had.
static int go_on(struct job *job)
{
    int rc;

    if (results_job_ended(job, NULL)) {
        job->unsaid_from = job->unsaid_end; // nor is anything kept of it
        return 0;
    }
    rc = job_free_unsaid(job, UINT64_MAX);
    return rc == 0 ? cancel_again(job) : rc;
}

// Asks for all jobs; when there is no room for more messages, for the others with the next call.
static int ask_for_jobs(struct results *results, uint32_t *tag)
{
    int rc = say_farewell(results);

    for (struct job *job = results->jobs; job != NULL && rc == 0; job = job->next) {
        if (job->asked || results_job_ended(job, NULL)) {
            continue;
        }
        job->lowest = lowest(job);
        rc = job_free_unsaid(job, task_place(job->lowest, 0));
        rc = rc == 0 ? attach_again(job, tag) : rc;
    }
    results->unasked = rc == -EAGAIN;
    return results->unasked ? 0 : rc;
}

static int tell_rest(struct results *results)
{
    int rc = say_farewell(results); // to those that were freed meanwhile

    rc = rc == 0 ? extends_send(&results->extends, results->uplink, true, NULL) : rc;
    for (struct job *job = results->jobs; job != NULL && rc == 0; job = job->next) {
        rc = job->told ? 0 : go_on(job);
        job->told = job->told || rc == 0;
    }
    return rc;
}

int results_go_on(struct results *results, uint32_t *tag)
{
    int rc = 0;

    if (results->link == LINK_ASKED && results->unasked) {
        rc = ask_for_jobs(results, tag);
    }
    if (rc == 0 && results->link == LINK_ASKED && !results->unasked && results->returning == 0) {
        results->link = LINK_ANSWERED;
    }
    if (rc == 0 && results->link == LINK_ANSWERED) {
        rc = tell_rest(results);
        results->link = rc == 0 ? LINK_UP : LINK_ANSWERED;
    }
    return rc == -EAGAIN ? 0 : rc;
}

int results_return(struct results *results, uint32_t *tag)
{
    results->link = LINK_ASKED;
    results->farewell_at = 0;
    return ask_for_jobs(results, tag);
}

// It is what it was.
static int check_layers(const struct job *job, const Dray__Attached *attached, struct error *err)
{
    uint32_t known = lowest(job);

    // Of one that has ended there may be nothing left but its end.
    if (attached->n_layer == 0 && attached->state > DRAY__JOB_STATE__RUNNING) {
        return 0;
    }
    if (attached->n_layer < known || attached->n_layer > job->layers) {
        return error_set(err, EPROTO, "the broker knows %zu of its %u layers", attached->n_layer,
                         job->layers);
    }
    for (uint32_t i = 0; i < attached->n_layer; i++) {
        if (attached->layer[i]->tasks != job->layer[i].tasks) {
            return error_set(err, EPROTO, "the broker says that its layer %u has %u tasks, not %u", i,
                             attached->layer[i]->tasks, job->layer[i].tasks);
        }
    }
    return 0;
}

static void take_answer(struct job *job, const Dray__Attached *attached)
{
    struct error why = {0}, text = {0};

    if (attached->why != NULL) {
        error_set(&why, ENOTCONN, "%s", attached->why->text);
    } else if (check_layers(job, attached, &why) == 0) {
        job->rejoined = true;
        extends_confirm(&job->results->extends, job->id,
                        attached->has_safe ? attached->safe : (uint32_t)attached->n_layer, false);
        return;
    }
    error_set(&text, ENOTCONN, "job %u was lost while the connection to the broker was: %s", job->id,
              why.text);
    extends_forget(&job->results->extends, job->id);
    results_fail_job(job, ENOTCONN, text.text);
}

void results_returned(struct results *results, const Dray__Attached *attached)
{
    struct job *job = results->found != NULL ? results->found->next : NULL; // they are answered in order

    if (job == NULL || job->attach_tag != attached->tag) {
        job = results->jobs;
    }
    while (job != NULL && job->attach_tag != attached->tag) {
        job = job->next;
    }
    if (results->link == LINK_ASKED && job != NULL) {
        job->attach_tag = 0;
        results->found = job;
        results->returning--;
        take_answer(job, attached);
    }
}

bool results_away(const struct results *results)
{
    return results->link != LINK_UP;
}
