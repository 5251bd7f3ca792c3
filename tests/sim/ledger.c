#include "tests/sim/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

static void entry_free(struct entry *entry)
{
    free((void *)(uintptr_t)entry->record.text);
    free((void *)(uintptr_t)entry->record.worker_name);
}

static char *copy_of(const char *text)
{
    return text != NULL ? must(strdup(text)) : NULL;
}

void ledger_add(struct ledger *ledger, const struct entry *entry)
{
    struct entry *new;

    if (ledger->count == ledger->capacity) {
        ledger->capacity = ledger->capacity * 2 + 32;
        ledger->entry = must(realloc(ledger->entry, ledger->capacity * sizeof(*ledger->entry)));
    }
    new = &ledger->entry[ledger->count++];
    *new = *entry;
    new->record.text = copy_of(entry->record.text);
    new->record.worker_name = copy_of(entry->record.worker_name);
}

uint32_t ledger_number(struct ledger *ledger)
{
    if (ledger->numbers + 1 >= JOBS_MAX) {
        fprintf(stderr, "more than %d numbers of jobs\n", JOBS_MAX);
        abort();
    }
    return ++ledger->numbers;
}

void ledger_cut(struct ledger *ledger, size_t count)
{
    for (size_t k = count; k < ledger->count; k++) {
        if (ledger->entry[k].type == ENTRY_SUBMIT && ledger->entry[k].job <= ledger->numbers) {
            ledger->numbers = ledger->entry[k].job - 1;
        }
        entry_free(&ledger->entry[k]);
    }
    ledger->count = count;
    ledger->durable = count;
}

struct entry *ledger_remove(struct ledger *ledger, size_t at)
{
    struct entry *entry = &ledger->entry[at];
    struct entry gone = *entry;

    entry_free(entry);
    memmove(entry, entry + 1, (ledger->count - at - 1) * sizeof(*entry));
    ledger->count = ledger->durable = ledger->count - 1;
    ledger->entry[ledger->count] = gone;
    return &ledger->entry[ledger->count];
}

static void find_forgotten(const struct ledger *ledger, bool *forgotten)
{
    for (size_t k = 0; k < ledger->count; k++) {
        const struct entry *entry = &ledger->entry[k];

        if (entry->type == ENTRY_RECORD && entry->record.record == RECORD_JOB_FORGOTTEN) {
            forgotten[entry->job] = true;
        }
    }
}

// Whether it has not left since.
static bool is_there(const struct ledger *ledger, size_t at)
{
    const struct entry *worker = &ledger->entry[at];

    for (size_t k = at + 1; k < ledger->count; k++) {
        if (ledger->entry[k].type == ENTRY_WORKER && ledger->entry[k].incarnation == worker->incarnation) {
            return false; // the last word on it counts
        }
    }
    return worker->there;
}

static bool matters(const struct ledger *ledger, size_t at, const bool *forgotten)
{
    const struct entry *entry = &ledger->entry[at];

    return entry->type == ENTRY_WORKER ? is_there(ledger, at) : entry->type != ENTRY_NOTE && !forgotten[entry->job];
}

void ledger_compact(struct ledger *ledger)
{
    bool forgotten[JOBS_MAX] = {false};
    bool *keep = must(calloc(ledger->count + 1, sizeof(*keep)));
    size_t kept = 0;

    find_forgotten(ledger, forgotten);
    for (size_t k = 0; k < ledger->count; k++) {
        keep[k] = matters(ledger, k, forgotten);
    }
    for (size_t k = 0; k < ledger->count; k++) {
        if (keep[k]) {
            ledger->entry[kept++] = ledger->entry[k];
        } else {
            entry_free(&ledger->entry[k]);
        }
    }
    free(keep);
    ledger->count = ledger->durable = kept;
}

void ledger_fini(struct ledger *ledger)
{
    ledger_cut(ledger, 0);
    free(ledger->entry);
}

// ---- read again -------------------------------------------------------------------------------

static const Dray__Graph *slice_of(const struct entry *entry)
{
    Dray__Graph *graph = must(malloc(sizeof(*graph)));

    dray__graph__init(graph);
    graph->n_layer = entry->count;
    graph->layer = entry->plan->graph->layer + entry->first;
    return graph;
}

static void accepted_event(const struct entry *entry, struct sched_event *event)
{
    switch (entry->type) {
    case ENTRY_SUBMIT:
        event->type = EVENT_SUBMIT;
        event->u.submit.number = entry->job;
        event->u.submit.key_lo = entry->plan->key;
        event->u.submit.graph = slice_of(entry);
        event->u.submit.open = entry->open;
        event->u.submit.detached = entry->plan->detached;
        event->u.submit.priority = entry->plan->priority;
        event->u.submit.failures_max = entry->plan->failures_max;
        break;
    case ENTRY_EXTEND:
        event->type = EVENT_EXTEND;
        event->u.extend.job = entry->job;
        event->u.extend.first_layer = entry->first;
        event->u.extend.graph = entry->count > 0 ? slice_of(entry) : NULL;
        event->u.extend.last = entry->last;
        break;
    default:
        event->type = EVENT_KEEP;
        event->u.attach.job = entry->job;
        event->u.attach.keep = entry->keep;
        break;
    }
}

static void record_event(const struct sched_action *record, struct sched_event *event)
{
    bool tasks = record->record == RECORD_TASKS_OVER || record->record == RECORD_TASKS_FAILED;

    event->type = tasks ? EVENT_RESTORE_TASKS : EVENT_RESTORE_JOB;
    event->u.restore.range = record->range;
    event->u.restore.over = record->record == RECORD_TASKS_OVER ? RESTORE_OVER : RESTORE_FAILED;
    event->u.restore.state = record->record == RECORD_JOB_ENDED ? record->state : JOB_QUEUED;
    event->u.restore.given_up = record->record == RECORD_JOB_GIVEN_UP;
    event->u.restore.code = record->code;
    event->u.restore.text = record->text;
    event->u.restore.worker_name = record->worker_name;
    event->u.restore.layer_at = record->layer_at;
    event->u.restore.index_at = record->index_at;
    event->u.restore.done = record->done;
    event->u.restore.failed = record->failed;
}

struct sched_event *ledger_events(const struct ledger *ledger, size_t *count)
{
    struct sched_event *events = must(calloc(ledger->count + 1, sizeof(*events)));
    bool forgotten[JOBS_MAX] = {false};
    size_t n = 0;

    find_forgotten(ledger, forgotten);
    for (size_t k = 0; k < ledger->count; k++) {
        if (ledger->entry[k].type == ENTRY_WORKER && is_there(ledger, k)) {
            events[n].type = EVENT_EXPECT;
            events[n].u.expect.incarnation = ledger->entry[k].incarnation;
            events[n++].u.expect.name = ledger->entry[k].name;
        }
    }
    for (size_t k = 0; k < ledger->count; k++) {
        const struct entry *entry = &ledger->entry[k];

        if (entry->type <= ENTRY_KEEP && !forgotten[entry->job]) {
            accepted_event(entry, &events[n++]);
        }
    }
    // Of tasks before of jobs.
    for (int jobs = 0; jobs < 2; jobs++) {
        for (size_t k = 0; k < ledger->count; k++) {
            const struct entry *entry = &ledger->entry[k];

            if (entry->type == ENTRY_RECORD && !forgotten[entry->job]) {
                record_event(&entry->record, &events[n]);
                n += (events[n].type == EVENT_RESTORE_JOB) == (jobs == 1) ? 1 : 0;
            }
        }
    }
    *count = n;
    return events;
}
