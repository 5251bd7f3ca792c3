#include "broker/core/suspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/demand.h"
#include "broker/core/failure.h"
#include "broker/core/job.h"
#include "broker/core/lineage.h"
#include "broker/core/on.h"
#include "broker/core/links.h"
#include "broker/core/moment.h"
#include "broker/core/speculate.h"
#include "broker/core/steal.h"
#include "broker/core/worker.h"

enum {
    UNTOLD = 4000 * 1000 / CHARGE_NS, // what a thread may have done and not told, in CHARGE_NS
    BESIDE_TOLD = 3,
    NEEDS_TOLD = 4,
    ATTEMPTS_KEPT = 16,       // of one task
    ATTEMPTS_OF_A_JOB = 4096, // whose words are kept
    LOOKED_AT = 64,           // suspects that one placement looks at while others run
    WORKERS_EACH = 8,         // one of so many workers is emptied for suspects
    TEXT_MAX = 400,           // of one attempt
};

// ---- attempts, in words ---------------------------------------------------------------------

static void add_attempt(struct layer *layer, struct blame *blame, uint64_t incarnation, bool excused,
                        const char *text)
{
    struct job *job = layer->job;
    struct attempt **end = &blame->attempts;
    struct attempt *attempt;
    size_t size = strnlen(text, TEXT_MAX);
    uint32_t count = 0;

    while (*end != NULL) {
        end = &(*end)->next;
        count++;
    }
    if (count >= ATTEMPTS_KEPT || job->attempts_kept >= ATTEMPTS_OF_A_JOB) {
        return;
    }
    attempt = malloc(sizeof(*attempt) + size + 1);
    if (attempt == NULL) {
        return; // then there are fewer words
    }
    attempt->next = NULL;
    attempt->incarnation = incarnation;
    attempt->excused = excused;
    memcpy(attempt->text, text, size);
    attempt->text[size] = '\0';
    job->attempts_kept++;
    *end = attempt;
}

void attempts_destroy(struct blame *blame)
{
    while (blame->attempts != NULL) {
        struct attempt *attempt = blame->attempts;

        blame->attempts = attempt->next;
        free(attempt);
    }
}

// The last one.
void attempt_excuse(struct blame *blame, uint64_t incarnation)
{
    struct attempt *last = NULL;

    for (struct attempt *at = blame->attempts; at != NULL; at = at->next) {
        last = at->incarnation == incarnation && !at->excused ? at : last;
    }
    if (last != NULL) {
        last->excused = true;
    }
}

size_t attempt_headline(const char *text)
{
    size_t line = strcspn(text, "\n"), at = line;

    if (text[line] == '\0' || line == 0 || text[line - 1] != ':') {
        return line;
    }
    while (at > 0 && text[at] != ';') {
        at--;
    }
    return at > 0 ? at : line;
}

void attempt_note(struct layer *layer, uint32_t i, const char *text)
{
    struct blame *blame = text != NULL ? job_blame_find(layer->job, layer->number, i) : NULL;
    char line[TEXT_MAX];

    if (blame != NULL) {
        snprintf(line, sizeof(line), "%.*s", (int)attempt_headline(text), text);
        add_attempt(layer, blame, 0, false, line);
    }
}

static const char *size_text(char out[16], uint64_t bytes)
{
    if (bytes < 10000) {
        snprintf(out, 16, "%u bytes", (unsigned)bytes);
    } else if (bytes < 10000000) {
        snprintf(out, 16, "%.1f kB", (double)bytes / 1e3);
    } else {
        snprintf(out, 16, "%.1f MB", (double)bytes / 1e6);
    }
    return out;
}

// What it reads: a list of which the first few are named.
struct list {
    struct arena *arena;
    const char *text; // NULL: no memory
    uint64_t count, bytes;
};

static void list_add(struct list *list, const char *what)
{
    if (list->count++ < NEEDS_TOLD && list->text != NULL) {
        list->text = arena_printf(list->arena, "%s%s%s", list->text, list->count > 1 ? ", " : "", what);
    }
}

static void list_add_held(struct list *list, const struct layer *source, uint32_t p)
{
    list->bytes += task_state(source, p) == TASK_HELD ? task_bytes(source, p) : 0;
}

static const char *needs_tell(const struct layer *layer, uint32_t i)
{
    struct list list = {.arena = &layer->job->sched->arena, .text = ""};
    struct needs needs = needs_of(layer, i);
    const struct edge *edge;
    char what[300], size[16];

    while ((edge = needs_next(&needs)) != NULL) {
        for (uint32_t n = 0; n < needs.span.count; n++) {
            uint32_t p = span_at(&needs.span, n);

            task_describe(edge->source, p, what, sizeof(what));
            list_add(&list, what);
            list_add_held(&list, edge->source, p);
        }
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct layer *source = layer->input[k].source;
        const char *name = source->graph->name;

        for (uint32_t p = 0; layer->input[k].whole && p < source->tasks; p++) {
            list_add_held(&list, source, p);
        }
        if (layer->input[k].whole && name != NULL && name[0] != '\0') {
            snprintf(what, sizeof(what), "all %u of %.200s", source->tasks, name);
            list_add(&list, what);
        } else if (layer->input[k].whole) {
            snprintf(what, sizeof(what), "all %u of layer %u", source->tasks, source->number);
            list_add(&list, what);
        }
    }
    if (list.count > NEEDS_TOLD && list.text != NULL) {
        list.text = arena_printf(list.arena, "%s and %" PRIu64 " more", list.text, list.count - NEEDS_TOLD);
    }
    if (list.count > 0 && list.text != NULL) {
        list.text = arena_printf(list.arena, "\n    it reads %s: %s", list.text, size_text(size, list.bytes));
    }
    return list.text != NULL ? list.text : "";
}

const char *attempts_tell(const struct layer *layer, uint32_t i)
{
    const struct blame *blame = job_blame_find(layer->job, layer->number, i);
    const char *text = "";
    uint32_t number = 0;

    for (const struct attempt *at = blame != NULL ? blame->attempts : NULL; text != NULL && at != NULL;
         at = at->next) {
        text = arena_printf(&layer->job->sched->arena, "%s\n    attempt %u: %s%s", text, ++number, at->text,
                            at->excused ? ", when others died as well" : "");
    }
    if (text != NULL && number > 0) {
        text = arena_printf(&layer->job->sched->arena, "%s%s", text, needs_tell(layer, i));
    }
    return text != NULL ? text : "";
}

// ---- blame ------------------------------------------------------------------------------------

// Tasks that a dead worker may have run.
struct suspect {
    struct layer *layer;
    uint32_t index;
    bool excusable; // others have died just now, and not of it
};

struct suspects {
    struct suspect *list; // of this step
    uint32_t count;
    const char *why;
};

// What a worker was given first is what it runs: as many tasks as it has threads, and of those that are short
// as many as it may have done without saying so yet.  -ENOMEM: nobody is blamed.
static int suspects_find(struct worker *worker, struct arena *arena, struct suspects *suspects)
{
    uint64_t begun = 0;

    suspects->list = arena_array(arena, worker->assigned, sizeof(*suspects->list));
    if (suspects->list == NULL) {
        return -ENOMEM;
    }
    for (uint32_t k = worker_over(worker); k < worker->queue_told; k++) {
        const struct slot slot = worker->queue[k];
        bool learnt = layer_is_learnt(slot.layer);

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            // What was taken back and given again is in the queue twice.
            if (!worker_has(worker, slot.layer, i) || (slot.layer->state[i] & TASK_SEEN) != 0) {
                continue;
            }
            if (suspects->count >= worker->threads && begun / worker->threads >= UNTOLD) {
                return 0;
            }
            begun +=
                learnt ? (uint64_t)slot.layer->value[i] * worker->pace / PACE : UNTOLD; // taken to be long
            slot.layer->state[i] |= TASK_SEEN;
            suspects->list[suspects->count++] = (struct suspect){slot.layer, i, false};
        }
    }
    return 0;
}

// The others that may have run.
static void tell_beside(const struct suspects *suspects, uint32_t self, char *out, size_t size)
{
    uint32_t told = 0;
    size_t used = 0;

    snprintf(out, size, "alone");
    for (uint32_t k = 0; k < suspects->count && told < BESIDE_TOLD; k++) {
        char what[256];

        if (k != self) {
            task_describe(suspects->list[k].layer, suspects->list[k].index, what, sizeof(what));
            used += (size_t)snprintf(out + used, size - used, "%s%.50s", told == 0 ? "beside " : ", ", what);
            told++;
        }
    }
    if (suspects->count - 1 > told) {
        snprintf(out + used, size - used, " and %u more", suspects->count - 1 - told);
    }
}

void suspect_set_aside(struct layer *layer, uint32_t i, const char *worker_name, const char *why)
{
    const struct blame *blame = job_blame_find(layer->job, layer->number, i);
    char what[256];
    char *text;

    task_describe(layer, i, what, sizeof(what));
    text =
        arena_printf(&layer->job->sched->arena,
                     "%u workers died while they ran %s, the last of them %s (%s); it is not tried again%s",
                     blame->deaths_all, what, worker_name, why, attempts_tell(layer, i));
    task_fail_for_good(layer, i, ENOTRECOVERABLE, text, worker_name);
}

// It waits for a worker of its own.
static bool put_on_trial(struct layer *layer, uint32_t i, struct blame *blame)
{
    struct sched *sched = layer->job->sched;

    if (sched->trial_end == sched->trial_capacity) {
        size_t capacity = sched->trial_capacity * 2 + 16;
        struct task_range *grown = realloc(sched->trial, capacity * sizeof(*grown));

        if (grown == NULL) {
            return false; // it is tried beside others
        }
        sched->trial = grown;
        sched->trial_capacity = capacity;
    }
    sched->trial[sched->trial_end++] = (struct task_range){layer->job->number, layer->number, i, 1};
    sched->trials++;
    if (task_state(layer, i) != TASK_DELAYED) {
        task_move(layer, i, TASK_DELAYED);
    }
    layer->value[i] = VALUE_ASIDE;
    blame->value = UINT64_MAX;
    return true;
}

void suspect_try(struct layer *layer, uint32_t i, struct blame *blame)
{
    if (!put_on_trial(layer, i, blame)) {
        task_requeue(layer, i);
    }
}

static void blame_one(const struct suspects *suspects, uint32_t self, struct worker *worker)
{
    struct layer *layer = suspects->list[self].layer;
    uint32_t i = suspects->list[self].index;
    struct blame *blame = job_blame(layer->job, layer->number, i);
    uint32_t most = layer->job->sched->options.attempts_max;
    char beside[201], size[16], text[TEXT_MAX];
    bool excused;

    if (blame == NULL) {
        return;
    }
    excused = suspects->list[self].excusable && moment_excuse(layer, blame);
    blame->deaths += excused ? 0 : 1;
    blame->deaths_all++;
    tell_beside(suspects, self, beside, sizeof(beside));
    snprintf(text, sizeof(text), "worker %.60s died (%.80s), with %s of memory, %s", worker->name,
             suspects->why, worker->rss > 0 ? size_text(size, worker->rss) : "an unknown amount", beside);
    add_attempt(layer, blame, worker->incarnation, excused, text);
    if (!excused && blame->deaths >= most && suspects->count == 1) {
        worker_unassign(worker, layer, i);
        if (!moment_wait(worker, layer, i, suspects->why)) {
            suspect_set_aside(layer, i, worker->name, suspects->why);
        }
        return;
    }
    if (!excused) {
        moment_note(worker, layer, i);
    }
    if (blame->deaths + 1 >= most) {
        worker_unassign(worker, layer, i);
        suspect_try(layer, i, blame);
    }
}

void suspects_blame(struct sched *sched, struct worker *worker, const char *why)
{
    struct suspects suspects = {.why = why != NULL ? why : "connection lost"};
    bool company;

    suspects_find(worker, &sched->arena, &suspects);
    company = moment_begin(sched, worker);
    for (uint32_t k = 0; k < suspects.count; k++) {
        uint8_t *state = &suspects.list[k].layer->state[suspects.list[k].index];

        suspects.list[k].excusable = company && (*state & TASK_SEEN) != 0;
        *state &= (uint8_t)~TASK_SEEN;
    }
    for (uint32_t k = 0; k < suspects.count; k++) {
        blame_one(&suspects, k, worker);
    }
}

void suspect_pardon(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    struct blame *blame = job_blame_find(layer->job, layer->number, i);
    struct attempt **at = blame != NULL ? &blame->attempts : NULL;

    while (at != NULL && *at != NULL) {
        struct attempt *attempt = *at;

        if (worker->incarnation == 0 || attempt->incarnation != worker->incarnation) {
            at = &attempt->next;
            continue;
        }
        *at = attempt->next;
        blame->deaths -= blame->deaths > 0 && !attempt->excused ? 1 : 0;
        blame->deaths_all -= blame->deaths_all > 0 ? 1 : 0;
        free(attempt);
        layer->job->attempts_kept--;
    }
}

// ---- a worker of its own ---------------------------------------------------------------------------

static struct layer *trial_layer(const struct sched *sched, const struct task_range *trial)
{
    struct layer *layer = trial->count > 0 ? range_layer(sched, trial) : NULL;
    const struct blame *blame = layer != NULL && task_state(layer, trial->first) == TASK_DELAYED
                                    ? job_blame_find(layer->job, layer->number, trial->first)
                                    : NULL;

    return blame != NULL && blame->value == UINT64_MAX ? layer : NULL;
}

uint64_t suspects_waiting(const struct sched *sched)
{
    uint64_t count = 0;

    for (size_t k = 0; k < sched->trial_end; k++) {
        count += trial_layer(sched, &sched->trial[k]) != NULL;
    }
    return count;
}

bool suspects_of(const struct sched *sched, uint32_t job)
{
    for (size_t k = 0; k < sched->trial_end; k++) {
        if (sched->trial[k].job == job && trial_layer(sched, &sched->trial[k]) != NULL) {
            return true;
        }
    }
    return false;
}

static void trials_compact(struct sched *sched)
{
    size_t to = 0, sorted = 0, at = 0;

    for (size_t k = 0; k < sched->trial_end; k++) {
        if (sched->trial[k].count > 0) {
            sorted += k < sched->trial_sorted ? 1 : 0;
            at += k < sched->trial_at ? 1 : 0;
            sched->trial[to++] = sched->trial[k];
        }
    }
    sched->trial_end = to;
    sched->trial_sorted = sorted;
    sched->trial_at = at;
    sched->trial_first = 0;
}

// It keeps its place, which costs nobody a move, until there are more like it than others.
static void trial_remove(struct sched *sched, size_t at)
{
    sched->trial[at].count = 0;
    sched->trials--;
    if (sched->trial_end - sched->trials > sched->trials) {
        trials_compact(sched);
    }
}

static int compare_trials(const void *a, const void *b)
{
    const struct task_range *x = a, *y = b;

    if (x->job != y->job) {
        return x->job < y->job ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return x->first < y->first ? -1 : x->first > y->first;
}

// Those that have come since among those in order, of which only the ones behind them are moved.
static void trials_merge(struct sched *sched)
{
    struct task_range *trial = sched->trial, *came;
    size_t old = sched->trial_sorted, left = sched->trial_end - old, to = sched->trial_end;

    if (old == 0 || compare_trials(&trial[old - 1], &trial[old]) <= 0) {
        return;
    }
    came = arena_array(&sched->arena, left, sizeof(*came));
    if (came == NULL) { // it only takes longer
        qsort(trial, sched->trial_end, sizeof(*trial), compare_trials);
        sched->trial_first = 0;
        return;
    }
    memcpy(came, trial + old, left * sizeof(*came));
    while (left > 0) {
        bool stays = old == 0 || compare_trials(&trial[old - 1], &came[left - 1]) <= 0;

        trial[--to] = stays ? came[--left] : trial[--old];
    }
    sched->trial_first = sched->trial_first < to ? sched->trial_first : to;
}

// Those that make what others of the same job need come before them.
static void trials_sort(struct sched *sched)
{
    size_t came = sched->trial_end - sched->trial_sorted;

    if (came > 0) {
        qsort(sched->trial + sched->trial_sorted, came, sizeof(*sched->trial), compare_trials);
        trials_merge(sched);
        sched->trial_sorted = sched->trial_end;
        sched->trial_at = 0;
    }
}

static size_t trial_skip(const struct sched *sched, size_t at)
{
    while (at < sched->trial_end && sched->trial[at].count == 0) {
        at++;
    }
    return at;
}

// From where the last look ended, and from the first one again behind the last; there is one.
static size_t trial_next(struct sched *sched)
{
    size_t at = sched->trial_at > sched->trial_first ? trial_skip(sched, sched->trial_at) : sched->trial_end;

    if (at == sched->trial_end) {
        at = sched->trial_first = trial_skip(sched, sched->trial_first);
    }
    return at;
}

static bool is_able(const struct worker *worker, const struct layer *layer, uint32_t i)
{
    const struct demand *demand = layer->lane->demand;

    return !worker->leaving && worker->rests_until_us == 0 &&
           (demand == NULL || demand_is_met(demand, worker)) &&
           (!layer_reads_apart(layer) || worker_reads(worker, source_of(layer, i)));
}

// Who is soonest without work and can do it.
static struct worker *choose(const struct sched *sched, const struct layer *layer, uint32_t i)
{
    struct worker *best = NULL;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        struct worker *worker = sched->worker[s];

        if (worker != NULL && !worker->closed && is_able(worker, layer, i) &&
            (best == NULL || worker_wait(worker) < worker_wait(best) ||
             (worker_wait(worker) == worker_wait(best) && worker->assigned < best->assigned))) {
            best = worker;
        }
    }
    return best;
}

// The next that can go now, and who can have it: this worker, or (NULL) the best of all that are open; NULL:
// none.  Each has its turn, whatever those before it wait for (others on trial, maybe): while something runs
// a few are looked at, from where the last look ended; otherwise all, as nothing else may happen any more.
static struct worker *trial_find(struct sched *sched, struct worker *worker, size_t *at)
{
    size_t left = sched->trials;

    trials_sort(sched);
    left = left > LOOKED_AT && sched->in[TASK_ASSIGNED] > 0 ? LOOKED_AT : left;
    for (; left > 0 && sched->trials > 0; left--) {
        size_t k = trial_next(sched);
        const struct task_range *trial = &sched->trial[k];
        const struct layer *layer = trial_layer(sched, trial);
        struct worker *able = NULL;

        sched->trial_at = k;
        if (layer == NULL) {
            trial_remove(sched, k); // it has found another end
            continue;
        }
        if ((worker == NULL || is_able(worker, layer, trial->first)) &&
            task_has_inputs(layer, trial->first)) {
            able = worker != NULL ? worker : choose(sched, layer, trial->first);
        }
        if (able != NULL) {
            *at = k;
            return able;
        }
        sched->trial_at++;
    }
    return NULL;
}

static void reopen(struct sched *sched, struct worker *worker)
{
    worker->closed = false;
    sched->closed--;
    worker_reload(sched, worker);
}

static bool give(struct worker *worker, const struct task_range *trial, struct layer *layer)
{
    if (!worker_reserve(worker, 1) || !worker_prepare(worker, layer)) {
        return false;
    }
    task_requeue(layer, trial->first);
    if (task_state(layer, trial->first) == TASK_READY) {
        worker_assign(worker, layer, trial->first);
        worker_reload(layer->job->sched, worker);
    }
    return true;
}

// It is empty, and gets the next one that it can do.
static void go_on(struct sched *sched, struct worker *worker)
{
    size_t at;

    if (trial_find(sched, worker, &at) == NULL) {
        reopen(sched, worker);
        return;
    }
    const struct task_range trial = sched->trial[at];

    if (give(worker, &trial, trial_layer(sched, &trial))) {
        trial_remove(sched, at);
    }
}

void suspects_place(struct sched *sched)
{
    size_t at;

    for (uint32_t s = 0, left = sched->closed; left > 0 && s < sched->worker_slots; s++) {
        struct worker *worker = sched->worker[s];

        if (worker == NULL || !worker->closed) {
            continue;
        }
        left--;
        if (worker->assigned == 0) {
            go_on(sched, worker);
        }
    }
    while (sched->trials > sched->closed && sched->closed < 1 + sched->worker_count / WORKERS_EACH) {
        struct worker *worker = trial_find(sched, NULL, &at);

        if (worker == NULL) {
            return; // nobody can, now
        }
        worker->closed = true;
        sched->closed++;
        twins_end(sched, worker, false); // nor do they run beside it
        worker_reload(sched, worker);
        if (worker->assigned > 0) {
            steal_back(sched, worker);
        } else {
            go_on(sched, worker);
        }
    }
}
