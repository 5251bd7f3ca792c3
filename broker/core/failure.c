#include "broker/core/failure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/suspect.h"
#include "broker/core/records.h"

enum {
    REASONS_KEPT = 1000, // different texts of a job
    REASONS_MAX = 1100,  // with those that stand for the rest, one a code
    REASON_BYTES = 2048, // of one: with words around it, it is still one that messages carry
    FAILURES_KEPT = 100, // of which a job tells the worker
    DELAYS_KEPT = 64,    // places for delays that are not looked at for what has lost its meaning
};

// ---- reasons ------------------------------------------------------------------------------

static struct reason *reason_find(const struct job *job, int code, const char *text, uint64_t hash)
{
    struct hash_node *node = hash_first(&job->reasons, hash);

    for (; node != NULL; node = hash_next(node)) {
        struct reason *reason = hash_entry(node, struct reason, node);

        if (reason->code == code && strcmp(reason->text, text) == 0) {
            return reason;
        }
    }
    return NULL;
}

// 0: no memory, and it is not there.
static uint32_t reason_keep(struct job *job, int code, const char *text, uint32_t most)
{
    uint64_t hash = XXH3_64bits_withSeed(text, strlen(text), (uint64_t)code);
    struct reason *reason = reason_find(job, code, text, hash);
    size_t size = sizeof(*reason) + strlen(text) + 1;

    if (reason != NULL || job->reason_count >= most) {
        return reason != NULL ? reason->number : 0;
    }
    if (job->reason_count == job->reason_capacity) {
        uint32_t capacity = job->reason_capacity * 2 + 4;
        struct reason **grown = realloc(job->reason, capacity * sizeof(struct reason *));

        if (grown == NULL) {
            return 0;
        }
        job->reason = grown;
        job->reason_capacity = capacity;
    }
    reason = malloc(size);
    if (reason == NULL) {
        return 0;
    }
    reason->code = code;
    memcpy(reason->text, text, strlen(text) + 1);
    job->reason[job->reason_count++] = reason;
    reason->number = job->reason_count;
    hash_add(&job->reasons, &reason->node, hash);
    job->bytes += size;
    job->lasting += size;
    job->sched->bytes += size;
    return reason->number;
}

static uint32_t reason_number(struct job *job, int code, const char *text)
{
    char cut[REASON_BYTES];
    uint32_t number;

    if (strlen(text) >= sizeof(cut)) {
        memcpy(cut, text, sizeof(cut) - 1);
        cut[sizeof(cut) - 1] = '\0';
        text = cut;
    }
    number = reason_keep(job, code, text, REASONS_KEPT);
    if (number == 0) {
        number = reason_keep(
            job, code, "it failed, with a text that was not kept: a job's first 1,000 different ones are",
            REASONS_MAX);
    }
    return number;
}

static const struct reason *reason_at(const struct job *job, uint32_t number)
{
    static const struct reason lost = {.code = ENOMEM};

    return number > 0 ? job->reason[number - 1] : &lost;
}

static const char *reason_text(const struct reason *reason)
{
    return reason->number > 0 ? reason->text : "it failed, and there was no memory to keep why";
}

// ---- causes -------------------------------------------------------------------------------

void task_set_cause(struct layer *layer, uint32_t i, uint64_t cause)
{
    struct job *job = layer->job;

    layer->value[i] = cause_reason(cause) + 1;
    if (cause_layer(cause) == layer->number && cause_index(cause) == i) {
        return;
    }
    // All that need one task fail one after another.
    if (job->cause_read >= job->causes || job->cause[job->cause_read] != cause) {
        if (job->causes == job->cause_capacity) {
            uint32_t capacity = job->cause_capacity * 2 + 8;
            uint64_t *grown = realloc(job->cause, capacity * sizeof(*grown));

            if (grown == NULL) {
                return;
            }
            job->sched->bytes += (capacity - job->cause_capacity) * sizeof(*grown);
            job->bytes += (capacity - job->cause_capacity) * sizeof(*grown);
            job->lasting += (capacity - job->cause_capacity) * sizeof(*grown);
            job->cause = grown;
            job->cause_capacity = capacity;
        }
        job->cause_read = job->causes++;
        job->cause[job->cause_read] = cause;
    }
    layer->value[i] = CAUSE_OTHER + job->cause_read;
}

// ---- failing ------------------------------------------------------------------------------

static void failure_note(struct job *job, const struct layer *layer, uint32_t i, uint32_t reason,
                         const char *worker)
{
    struct sched_failure *grown;

    if (job->failure_count >= FAILURES_KEPT) {
        return;
    }
    grown = realloc(job->failure, (job->failure_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return;
    }
    job->failure = grown;
    grown[job->failure_count++] = (struct sched_failure){
        .layer = layer->number,
        .index = i,
        .code = reason_at(job, reason)->code,
        .text = reason_text(reason_at(job, reason)),
        .worker_name = worker != NULL ? strdup(worker) : NULL,
    };
}

void task_fail_as(struct layer *layer, uint32_t i, int code, const char *text)
{
    task_fail(layer, i, cause_of(reason_number(layer->job, code, text), layer->number, i));
}

void task_fail_cancelled(struct layer *layer, uint32_t i)
{
    struct job *job = layer->job;
    uint32_t reason = reason_number(job, ECANCELED, "cancelled");

    job_forgive(job, layer->number, i);
    failure_note(job, layer, i, reason, NULL);
    record_failed(layer, i, ECANCELED, reason_text(reason_at(job, reason)), NULL);
    task_fail(layer, i, cause_of(reason, layer->number, i));
}

void task_fail_for_good(struct layer *layer, uint32_t i, int code, const char *text, const char *worker)
{
    struct job *job = layer->job;
    uint32_t reason = reason_number(job, code, text != NULL ? text : strerror(code));
    uint64_t cause = cause_of(reason, layer->number, i);

    job_forgive(job, layer->number, i);
    failure_note(job, layer, i, reason, worker);
    record_failed(layer, i, code, reason_text(reason_at(job, reason)), worker);
    task_fail(layer, i, cause);
    if (job->failures++ < job->failures_max) {
        return;
    }
    if (job->failures_max > 0) {
        text = arena_printf(
            &job->sched->arena, "%llu tasks have failed, of which %u may; the last of them: %s",
            (unsigned long long)job->failures, job->failures_max, reason_text(reason_at(job, reason)));
    }
    if (code == ENOTRECOVERABLE) {
        job_doom_late(job, code, text, layer->number, i, worker); // it is not the others' fault
    } else {
        job_doom(job, code, text, layer->number, i, worker);
    }
}

void task_fail_with(struct layer *layer, uint32_t i, const struct layer *source, uint64_t cause)
{
    const struct reason *reason = reason_at(source->job, cause_reason(cause));
    char text[REASON_BYTES];

    if (source->job == layer->job) {
        task_fail(layer, i, cause);
        return;
    }
    snprintf(text, sizeof(text), "it needs a partition of layer %u of job %u, whose task failed: %s",
             source->number, source->job->number, reason_text(reason));
    task_fail_for_good(layer, i, reason->code, text, NULL);
}

// ---- another attempt ------------------------------------------------------------------------

static bool is_sooner(const struct delay *a, const struct delay *b)
{
    return a->due_us < b->due_us;
}

static bool delay_add(struct sched *sched, const struct delay *delay)
{
    size_t at = sched->delays;

    if (sched->delays == sched->delay_capacity) {
        size_t capacity = sched->delay_capacity * 2 + 16;
        struct delay *grown = realloc(sched->delay, capacity * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        sched->delay = grown;
        sched->delay_capacity = capacity;
    }
    sched->delays++;
    while (at > 0 && is_sooner(delay, &sched->delay[(at - 1) / 2])) {
        sched->delay[at] = sched->delay[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sched->delay[at] = *delay;
    return true;
}

// Into the heap below `at`, whose place is free.
static void delay_sink(struct sched *sched, size_t at, struct delay last)
{
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < sched->delays && is_sooner(&sched->delay[child + 1], &sched->delay[child])) {
            child++;
        }
        if (child >= sched->delays || !is_sooner(&sched->delay[child], &last)) {
            break;
        }
        sched->delay[at] = sched->delay[child];
        at = child;
    }
    sched->delay[at] = last;
}

static void delay_remove_first(struct sched *sched)
{
    struct delay last = sched->delay[--sched->delays];

    delay_sink(sched, 0, last);
}

// Its task waits for it.
static bool delay_is_due(const struct sched *sched, const struct delay *delay)
{
    struct job *job = job_find(sched, delay->job);
    const struct blame *blame = job != NULL ? job_blame_find(job, delay->layer, delay->index) : NULL;

    // It may have found another end since, or wait for another time.
    return blame != NULL && job->has_tasks && blame->value == delay->due_us &&
           task_state(job->layer[delay->layer], delay->index) == TASK_DELAYED;
}

// Cancelled tasks may have had long delays, and there may be many: they do not stay until then.
static void delays_tidy(struct sched *sched)
{
    struct delay *less;
    size_t kept = 0;

    if (sched->delays <= DELAYS_KEPT || sched->delays / 4 <= sched->in[TASK_DELAYED]) {
        return;
    }
    for (size_t k = 0; k < sched->delays; k++) {
        if (delay_is_due(sched, &sched->delay[k])) {
            sched->delay[kept++] = sched->delay[k];
        }
    }
    sched->delays = kept;
    for (size_t k = kept / 2; k-- > 0;) {
        delay_sink(sched, k, sched->delay[k]);
    }
    less = realloc(sched->delay, (kept + DELAYS_KEPT) * sizeof(*less));
    if (less != NULL) {
        sched->delay = less;
        sched->delay_capacity = kept + DELAYS_KEPT;
    }
}

// Behind what is said of the failure: what a program wrote may follow.
static const char *count_attempts(struct sched *sched, const char *text, uint32_t attempts)
{
    size_t first = text != NULL ? attempt_headline(text) : 0;
    const char *out = text != NULL ? arena_printf(&sched->arena, "%.*s, in the last of %u attempts%s",
                                                  (int)first, text, attempts, text + first)
                                   : NULL;

    return out != NULL ? out : text;
}

// What became of the attempts before.
static const char *with_attempts(const struct layer *layer, uint32_t i, const char *text)
{
    const char *attempts = attempts_tell(layer, i);
    const char *out = text != NULL && attempts[0] != '\0'
                          ? arena_printf(&layer->job->sched->arena, "%s%s", text, attempts)
                          : NULL;

    return out != NULL ? out : text;
}

void task_fail_attempt(struct layer *layer, uint32_t i, int code, const char *text, const char *worker)
{
    struct sched *sched = layer->job->sched;
    uint32_t retries = layer->graph->has_retries ? layer->graph->retries : 0;
    struct blame *blame = retries > 0 ? job_blame(layer->job, layer->number, i) : NULL;
    struct delay delay = {.job = layer->job->number, .layer = layer->number, .index = i};

    if (blame == NULL || blame->failures >= retries) {
        text = retries > 0 ? count_attempts(sched, text, retries + 1) : text;
        task_fail_for_good(layer, i, code, with_attempts(layer, i, text), worker);
        return;
    }
    blame->failures++;
    attempt_note(layer, i, text);
    delay.due_us = sched->now_us + (uint64_t)layer->graph->retry_delay_ms * 1000;
    // Without memory for it there is no delay.
    if (delay.due_us > sched->now_us && delay_add(sched, &delay)) {
        task_move(layer, i, TASK_DELAYED);
        layer->value[i] = VALUE_ASIDE;
        blame->value = delay.due_us;
    } else {
        task_requeue(layer, i);
    }
}

void delays_fire(struct sched *sched)
{
    delays_tidy(sched);
    while (sched->delays > 0 && sched->delay[0].due_us <= sched->now_us) {
        struct delay delay = sched->delay[0];

        delay_remove_first(sched);
        if (delay_is_due(sched, &delay)) {
            task_requeue(job_find(sched, delay.job)->layer[delay.layer], delay.index);
        }
    }
}

// ---- telling --------------------------------------------------------------------------------

uint32_t failure_run(const struct layer *layer, uint32_t i, uint32_t max)
{
    uint64_t first = task_cause(layer, i);
    bool own = cause_is_own(layer, i);
    uint32_t count = 1;

    while (count < max && task_state(layer, i + count) == TASK_FAILED &&
           cause_reason(task_cause(layer, i + count)) == cause_reason(first) &&
           cause_layer(task_cause(layer, i + count)) == cause_layer(first) &&
           cause_is_own(layer, i + count) == own) {
        count++;
    }
    return count;
}

const char *failure_tell(const struct layer *layer, uint32_t i, uint32_t count, int *code)
{
    uint64_t cause = task_cause(layer, i);
    const struct reason *reason = reason_at(layer->job, cause_reason(cause));
    char what[256];
    bool several = false;

    *code = reason->code;
    if (cause_is_own(layer, i)) {
        // The reason lives as long as the job, which may end before this is read.
        return arena_strdup(&layer->job->sched->arena, reason_text(reason));
    }
    for (uint32_t n = 1; n < count && !several; n++) {
        several = task_cause(layer, i + n) != cause;
    }
    task_describe(layer->job->layer[cause_layer(cause)], cause_index(cause), what, sizeof(what));
    return arena_printf(&layer->job->sched->arena, "not run, because %s%s failed: %s", what,
                        several ? " (or another of its layer)" : "", reason_text(reason));
}

void failures_destroy(struct job *job)
{
    struct hash_node *node;

    for (size_t k = 0; k < job->failure_count; k++) {
        free((char *)job->failure[k].worker_name);
    }
    free(job->failure);
    while ((node = hash_any(&job->reasons)) != NULL) {
        hash_remove(&job->reasons, node);
        free(hash_entry(node, struct reason, node));
    }
    hash_fini(&job->reasons);
    free(job->reason);
    free(job->cause);
}
