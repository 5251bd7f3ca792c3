// What was read, and is to be said to the broker (FREE).
#include "client/lib/results_state.h"

bool job_frees_read(const struct job *job)
{
    return job->options.unfinished == NULL && !job->options.detached;
}

static bool has_unsaid(const struct job *job)
{
    return job->unsaid_from < job->unsaid_end;
}

// There is no room for it now: the flush that finds some finds it among what was freed.
static void leave_unsaid(struct job *job, uint64_t from, uint64_t end)
{
    bool more = has_unsaid(job);

    job->unsaid_from = more && job->unsaid_from < from ? job->unsaid_from : from;
    job->unsaid_end = more && job->unsaid_end > end ? job->unsaid_end : end;
}

void job_mark_read(struct job *job, uint32_t layer, uint32_t first, uint32_t count)
{
    struct client_range *last = job->reads > 0 ? &job->read[job->reads - 1] : NULL;

    layer_add(&job->layer[layer], TASK_FREED, first, count);
    if (job->results->link == LINK_LOST) {
        return; // it is freed when the connection is there again
    }
    if (last != NULL && last->layer == layer && last->first + last->count == first) {
        last->count += count;
        return;
    }
    if (job->reads == READS_MAX && !has_unsaid(job)) {
        results_flush(job->results, true);
    }
    if (job->reads < READS_MAX) {
        job->read[job->reads++] = (struct client_range){layer, first, count};
    } else {
        leave_unsaid(job, task_place(layer, first), task_place(layer, first + count));
    }
    job_list(job, JOBS_UNFLUSHED);
}

Dray__Run **results_runs(uint32_t job, const struct client_range *range, size_t ranges, struct arena *arena,
                         size_t *count)
{
    Dray__Run **runs = arena_array(arena, ranges + 1, sizeof(*runs));
    uint32_t *first = arena_array(arena, ranges + 1, sizeof(*first));
    uint32_t *counts = arena_array(arena, ranges + 1, sizeof(*counts));
    size_t n = 0;

    if (runs == NULL || first == NULL || counts == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < ranges; i++) {
        Dray__Run *run = n > 0 ? runs[n - 1] : NULL;

        first[i] = range[i].first;
        counts[i] = range[i].count;
        if (run == NULL || run->layer != range[i].layer) {
            run = arena_alloc(arena, sizeof(*run));
            if (run == NULL) {
                return NULL;
            }
            dray__run__init(run);
            run->job = job;
            run->layer = range[i].layer;
            run->first = &first[i];
            run->count = &counts[i];
            runs[n++] = run;
        }
        run->n_first++;
        run->n_count++;
    }
    *count = n;
    return runs;
}

bool results_unflushed(const struct results *results)
{
    return results->list[JOBS_UNFLUSHED].first != NULL || results->extends.unsent > 0;
}

// Of a pool's job of which nothing is of interest any more.
static bool is_over(const struct job *job)
{
    return job->options.unfinished != NULL && !job->options.open && job->layers_gone == job->layers &&
           (!job->ended || job->end_delivered);
}

static void say_over(struct results *results, struct job *job)
{
    Dray__Free message = DRAY__FREE__INIT;

    message.job = job->id;
    if (uplink_send(results->uplink, FRAME_FREE, &message.base, NULL) == 0) {
        results_farewell(results, job->id);
        results_drop_job(results, job->id);
    } // else another time
}

// What is to be said of the job.  False: not all of it now.
static bool flush_job(struct job *job, struct arena *arena)
{
    Dray__Free message = DRAY__FREE__INIT;

    if (job->reads > 0) {
        message.job = job->id;
        message.run = results_runs(job->id, job->read, job->reads, arena, &message.n_run);
        if (message.run == NULL || uplink_send(job->results->uplink, FRAME_FREE, &message.base, NULL) != 0) {
            return false;
        }
        job->reads = 0;
    }
    return job_free_unsaid(job, UINT64_MAX) == 0;
}

void results_flush(struct results *results, bool at_once)
{
    uint64_t now = monotonic_us();
    struct arena arena;

    if (!results_unflushed(results) || results->link != LINK_UP ||
        (!at_once && now - results->flushed_us < FLUSH_US)) {
        return;
    }
    results->flushed_us = now;
    extends_send(&results->extends, results->uplink, false, NULL);
    arena_init(&arena, 0);
    for (struct job *job = results->list[JOBS_UNFLUSHED].first, *next; job != NULL; job = next) {
        next = job->list_next[JOBS_UNFLUSHED];
        if (is_over(job)) {
            say_over(results, job);
        } else if (!extends_unsent(&results->extends, job->id) && flush_job(job, &arena)) {
            job_unlist(job, JOBS_UNFLUSHED);
        }
        arena_reset(&arena);
    }
    arena_fini(&arena);
}
