#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    JOBS_MAX = 100000, // in an answer: the newest ones
    KEPT_SHOWN = 100,  // names of a job, of which there may be more than an answer can have
    ANSWER_BYTES = 16 << 20,
};

static int fill_kept(struct broker *broker, struct arena *arena, uint32_t job, Dray__JobInfo *out)
{
    size_t n = 0;

    for (const struct kept_name *at = kept_first(&broker->kept, job); at != NULL && n < KEPT_SHOWN;
         at = kept_next(at)) {
        n++;
    }
    if (n == 0) {
        return 0;
    }
    out->kept = arena_array(arena, n, sizeof(*out->kept));
    if (out->kept == NULL) {
        return -ENOMEM;
    }
    for (const struct kept_name *at = kept_first(&broker->kept, job); out->n_kept < n; at = kept_next(at)) {
        out->kept[out->n_kept] = arena_strdup(arena, at->name);
        if (out->kept[out->n_kept++] == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static Dray__Failure *make_failure(struct arena *arena, int code, const char *text)
{
    Dray__Failure *failure = arena_alloc(arena, sizeof(*failure));

    if (failure != NULL) {
        dray__failure__init(failure);
        failure->code = code;
        failure->text = (char *)(uintptr_t)(text != NULL ? text : ""); // only read
    }
    return failure;
}

// What points into the scheduler stays until its next step.
static int fill_job(struct broker *broker, struct arena *arena, const struct sched_job *job, uint64_t now_us,
                    Dray__JobInfo *out)
{
    const struct peer *client = job->client == 0 ? NULL : peers_by_number(&broker->peers, job->client);

    dray__job_info__init(out);
    out->job = job->job;
    out->state = (Dray__JobState)job->state;
    out->tasks = job->tasks;
    out->done = job->done;
    out->has_failed = out->has_priority = out->has_detached = out->has_bytes = true;
    out->failed = job->failed;
    out->priority = job->priority;
    out->detached = job->detached;
    out->bytes = sched_job_bytes(broker->sched, job->job);
    out->name = (char *)(uintptr_t)job->name;                              // only read
    out->client = client == NULL ? NULL : (char *)(uintptr_t)client->name; // only read
    out->age_us = now_us > job->submitted_us ? now_us - job->submitted_us : 0;
    if (job->waiting[0] != '\0') {
        out->waiting = arena_strdup(arena, job->waiting);
        if (out->waiting == NULL) {
            return -ENOMEM;
        }
    }
    if (job->code != 0) {
        out->why = make_failure(arena, job->code, job->text);
        if (out->why == NULL) {
            return -ENOMEM;
        }
    }
    return fill_kept(broker, arena, job->job, out);
}

static int fill_layers(struct broker *broker, struct arena *arena, const struct sched_job *job,
                       Dray__JobInfo *out)
{
    Dray__LayerInfo *info = arena_array(arena, (size_t)job->layers + 1, sizeof(*info));
    uint32_t *states = arena_array(arena, (size_t)job->layers + 1, SCHED_STATES * sizeof(*states));

    out->layer = arena_array(arena, (size_t)job->layers + 1, sizeof(*out->layer));
    if (info == NULL || states == NULL || out->layer == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < job->layers; i++) {
        struct sched_layer layer;
        uint32_t *in = states + (size_t)i * SCHED_STATES;

        if (sched_layer_info(broker->sched, job->job, i, &layer) != 0) {
            continue;
        }
        memcpy(in, layer.in, sizeof(layer.in));
        dray__layer_info__init(&info[i]);
        info[i].layer = i;
        info[i].name = (char *)(uintptr_t)layer.name; // only read
        info[i].tasks = layer.tasks;
        info[i].n_in_state = SCHED_STATES;
        info[i].in_state = in;
        if (layer.waiting[0] != '\0' && (info[i].waiting = arena_strdup(arena, layer.waiting)) == NULL) {
            return -ENOMEM;
        }
        out->layer[out->n_layer++] = &info[i];
    }
    return 0;
}

static int fill_failures(struct arena *arena, const struct sched_job *job, Dray__JobInfo *out)
{
    Dray__TaskFailure *failure = arena_array(arena, job->failures + 1, sizeof(*failure));

    out->failure = arena_array(arena, job->failures + 1, sizeof(*out->failure));
    if (failure == NULL || out->failure == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < job->failures; i++) {
        const struct sched_failure *from = &job->failure[i];

        dray__task_failure__init(&failure[i]);
        failure[i].layer = from->layer;
        failure[i].index = from->index;
        failure[i].worker = (char *)(uintptr_t)from->worker_name; // only read
        failure[i].why = make_failure(arena, from->code, from->text);
        if (failure[i].why == NULL) {
            return -ENOMEM;
        }
        out->failure[out->n_failure++] = &failure[i];
    }
    return 0;
}

// The numbers of the newest jobs, ascending.
static uint32_t *list_jobs(const struct broker *broker, struct arena *arena, size_t *count)
{
    struct sched_counts counts;
    uint32_t *number;
    size_t all, newest;

    sched_counts(broker->sched, &counts);
    number = arena_array(arena, counts.jobs + 1, sizeof(*number));
    if (number == NULL) {
        return NULL;
    }
    all = sched_jobs(broker->sched, 0, number, counts.jobs);
    newest = all < JOBS_MAX ? all : JOBS_MAX;
    *count = newest;
    return number + (all - newest);
}

// The newest ones with names that an answer has room for.
static void cut_to_size(Dray__Jobs *jobs)
{
    size_t bytes = 0, first = jobs->n_job;

    while (first > 0 && (bytes += dray__job_info__get_packed_size(jobs->job[first - 1])) <= ANSWER_BYTES) {
        first--;
    }
    jobs->job += first;
    jobs->n_job -= first;
}

static int answer_all(struct broker *broker, struct arena *arena, Dray__Jobs *jobs)
{
    uint64_t now_us = monotonic_us();
    size_t count = 0;
    const uint32_t *number = list_jobs(broker, arena, &count);
    Dray__JobInfo *info = arena_array(arena, count + 1, sizeof(*info));

    jobs->job = arena_array(arena, count + 1, sizeof(*jobs->job));
    if (number == NULL || info == NULL || jobs->job == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct sched_job job;
        Dray__JobInfo *at = &info[jobs->n_job];

        if (sched_job_info(broker->sched, number[i], &job) != 0) {
            continue;
        }
        if (fill_job(broker, arena, &job, now_us, at) != 0) {
            return -ENOMEM;
        }
        jobs->job[jobs->n_job++] = at;
    }
    cut_to_size(jobs);
    return 0;
}

static int answer_one(struct broker *broker, struct arena *arena, uint32_t number, bool brief,
                      Dray__Jobs *jobs)
{
    Dray__JobInfo *info = arena_alloc(arena, sizeof(*info));
    struct sched_job job;
    int rc;

    jobs->job = arena_alloc(arena, sizeof(*jobs->job));
    if (info == NULL || jobs->job == NULL) {
        return -ENOMEM;
    }
    if (sched_job_info(broker->sched, number, &job) != 0) {
        char *text =
            arena_printf(arena, "there is no job %" PRIu32 " (it may have ended and been forgotten)", number);

        jobs->why = make_failure(arena, ENOENT, text);
        return text == NULL || jobs->why == NULL ? -ENOMEM : 0;
    }
    rc = fill_job(broker, arena, &job, monotonic_us(), info);
    if (rc == 0 && !brief) {
        rc = fill_layers(broker, arena, &job, info);
    }
    if (rc == 0 && !brief) {
        rc = fill_failures(arena, &job, info);
    }
    jobs->job[jobs->n_job++] = info;
    return rc;
}

int query_jobs(struct broker *broker, struct peer *client, const Dray__JobQuery *query, struct error *err)
{
    struct arena *arena = &broker_turn(broker)->arena;
    Dray__Jobs jobs = DRAY__JOBS__INIT;
    int rc = query->has_job ? answer_one(broker, arena, query->job, query->brief, &jobs)
                            : answer_all(broker, arena, &jobs);

    if (rc != 0) {
        return error_no_memory(err);
    }
    jobs.tag = query->tag;
    sessions_send(broker->sessions, client, FRAME_JOBS, &jobs.base, NULL, 0);
    return 0;
}

Dray__Attached *query_attached(struct broker *broker, uint32_t tag, const struct sched_job *job)
{
    struct arena *arena = &broker_turn(broker)->arena;
    Dray__Attached *out = arena_alloc(arena, sizeof(*out));
    Dray__AttachedLayer *info = arena_array(arena, (size_t)job->layers + 1, sizeof(*info));

    if (out == NULL || info == NULL) {
        return NULL;
    }
    dray__attached__init(out);
    out->layer = arena_array(arena, (size_t)job->layers + 1, sizeof(*out->layer));
    if (out->layer == NULL) {
        return NULL;
    }
    out->tag = tag;
    out->has_job = out->has_state = true;
    out->job = job->job;
    out->state = (Dray__JobState)job->state;
    if (job->note_size > 0) {
        out->note.len = job->note_size;
        out->note.data =
            arena_copy(arena, job->note, job->note_size); // the answer outlives the scheduler's step
        if (out->note.data == NULL) {
            return NULL;
        }
        out->has_note = true;
    }
    out->safe = admit_safe_layers(broker, job->job);
    out->has_safe = out->safe < job->layers;
    for (uint32_t i = 0; i < job->layers; i++) {
        struct sched_layer layer;

        if (sched_layer_info(broker->sched, job->job, i, &layer) != 0) {
            continue;
        }
        dray__attached_layer__init(&info[i]);
        info[i].tasks = layer.tasks;
        info[i].has_wanted = true;
        info[i].wanted = layer.wanted;
        if (layer.name != NULL && (info[i].name = arena_strdup(arena, layer.name)) == NULL) {
            return NULL;
        }
        out->layer[out->n_layer++] = &info[i];
    }
    return out;
}
