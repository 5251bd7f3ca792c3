#include "worker/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "worker/letter.h"

enum {
    FAILED_MAX = 4096, // in one message
    NOTES_MAX = 65536, // in one message
    SHOWN_MAX = 1000,  // bytes of a name, of which there may be too many for the words of a failure
};

struct ranges {
    struct agent_range *range;
    size_t count, capacity;
};

struct report {
    struct ranges done, dropped, add, has, gone;
    bool full, leaving;
    struct arena arena; // of the failures
    Dray__TaskFailed **failed;
    size_t failures, failures_max;
    struct letter *letter;
};

struct report *report_create(void)
{
    struct report *report = calloc(1, sizeof(*report));

    if (report != NULL) {
        arena_init(&report->arena, 0);
        report->letter = letter_create();
        if (report->letter == NULL) {
            report_destroy(report);
            report = NULL;
        }
    }
    return report;
}

void report_destroy(struct report *report)
{
    if (report != NULL) {
        free(report->done.range);
        free(report->dropped.range);
        free(report->add.range);
        free(report->has.range);
        free(report->gone.range);
        free(report->failed);
        arena_fini(&report->arena);
        letter_destroy(report->letter);
        free(report);
    }
}

void report_clear(struct report *report)
{
    report->done.count = report->dropped.count = report->add.count = report->failures = 0;
    report->has.count = report->gone.count = 0;
    report->full = report->leaving = false;
    arena_reset(&report->arena);
}

void report_full(struct report *report)
{
    report->full = true;
}

void report_leaving(struct report *report)
{
    report->leaving = true;
}

static int push(struct ranges *list, const struct agent_range *range)
{
    struct agent_range *last = list->count > 0 ? &list->range[list->count - 1] : NULL;

    if (last != NULL && last->job == range->job && last->layer == range->layer &&
        last->first + last->count == range->first) {
        last->count += range->count;
        return 0;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct agent_range *grown = realloc(list->range, capacity * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        list->range = grown;
        list->capacity = capacity;
    }
    list->range[list->count++] = *range;
    return 0;
}

int report_add(struct report *report, const struct agent_action *action)
{
    switch (action->type) {
    case AGENT_REPORT_DONE:
        return push(&report->done, &action->u.range);
    case AGENT_REPORT_DROPPED:
        return push(&report->dropped, &action->u.range);
    case AGENT_HAS:
        return push(&report->has, &action->u.range);
    case AGENT_REPORT_GONE:
    case AGENT_DECLINE:
        return push(&report->gone, &action->u.range);
    default:
        return push(&report->add, &action->u.range);
    }
}

static Dray__Failure *make_failure(struct arena *arena, int code, const char *text)
{
    Dray__Failure *why = arena_alloc(arena, sizeof(*why));

    if (why == NULL || text == NULL) {
        return NULL;
    }
    dray__failure__init(why);
    why->code = code;
    why->text = (char *)(uintptr_t)text; // only read
    return why;
}

int report_failed(struct report *report, const struct agent_action *action, const char *layer,
                  const char *worker)
{
    struct arena *arena = &report->arena;
    Dray__TaskFailed *message = arena_alloc(arena, sizeof(*message));
    const char *text = action->p.text == NULL ? "it failed" : action->p.text;

    if (message == NULL) {
        return -ENOMEM;
    }
    dray__task_failed__init(message);
    message->job = action->u.key.job;
    message->layer = action->u.key.layer;
    message->index = action->u.key.index;
    message->why = make_failure(arena, action->code,
                                arena_printf(arena, "%.*s, task %" PRIu32 " on worker %.*s: %.*s", SHOWN_MAX,
                                             layer, action->u.key.index, SHOWN_MAX, worker, SHOWN_MAX, text));
    message->has_busy_us = action->busy_ns > 0;
    message->busy_us = (action->busy_ns + 999) / 1000;
    if (action->missing_input) {
        message->has_missing_input = message->missing_input = true;
        message->has_missing_layer = message->has_missing_index = message->has_missing_worker = true;
        message->missing_layer = action->missing.layer;
        message->missing_index = action->missing.index;
        message->missing_worker = action->worker;
        message->has_missing_job = action->missing.job != action->u.key.job;
        message->missing_job = message->has_missing_job ? action->missing.job : 0;
    }
    if (report->failures == report->failures_max) {
        size_t max = report->failures_max == 0 ? 16 : report->failures_max * 2;
        Dray__TaskFailed **grown = realloc(report->failed, max * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        report->failed = grown;
        report->failures_max = max;
    }
    if (message->why == NULL) {
        return -ENOMEM;
    }
    report->failed[report->failures++] = message;
    return 0;
}

// ---- ranges -----------------------------------------------------------------------

static int compare(const void *a, const void *b)
{
    const struct agent_range *x = a, *y = b;

    if (x->job != y->job) {
        return x->job < y->job ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return (x->first > y->first) - (x->first < y->first);
}

// Sorted by layer and index, neighbours joined, without repeats.
static void tidy(struct ranges *list)
{
    size_t kept = 0;
    bool sorted = true;

    for (size_t i = 1; i < list->count && sorted; i++) {
        sorted = compare(&list->range[i - 1], &list->range[i]) < 0;
    }
    if (!sorted) {
        qsort(list->range, list->count, sizeof(*list->range), compare);
    }
    for (size_t i = 1; i < list->count; i++) {
        struct agent_range *last = &list->range[kept];
        const struct agent_range *next = &list->range[i];
        uint64_t end = (uint64_t)last->first + last->count;

        if (last->job == next->job && last->layer == next->layer && next->first <= end) {
            uint64_t next_end = (uint64_t)next->first + next->count;

            last->count = (uint32_t)((next_end > end ? next_end : end) - last->first);
        } else {
            list->range[++kept] = *next;
        }
    }
    list->count = list->count > 0 ? kept + 1 : 0;
}

// The ranges of one layer, from the first.
static size_t same_layer(const struct agent_range *range, size_t max)
{
    size_t n = 1;

    while (n < max && range[n].job == range[0].job && range[n].layer == range[0].layer) {
        n++;
    }
    return n;
}

static int split(const struct agent_range *range, size_t n, struct arena *arena, uint32_t **first,
                 uint32_t **count)
{
    *first = arena_array(arena, n, sizeof(uint32_t));
    *count = arena_array(arena, n, sizeof(uint32_t));
    if (*first == NULL || *count == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        (*first)[i] = range[i].first;
        (*count)[i] = range[i].count;
    }
    return 0;
}

// ---- messages ---------------------------------------------------------------------

static int send_done(struct report *report, struct link *link, struct store *store,
                     const struct layers *layers)
{
    struct letter_place place = {0};
    int rc = 0;

    tidy(&report->done);
    while (rc == 0 && place.range < report->done.count) {
        const Dray__Done *done;
        struct buffer *const *payload;
        size_t payloads;

        rc = letter_write(report->letter, report->done.range, report->done.count, &place, store, layers,
                          &done, &payload, &payloads);
        if (rc == 0) {
            link_send(link, FRAME_DONE, &done->base, payload, payloads);
        }
    }
    return rc;
}

static void send_failed(struct report *report, struct link *link)
{
    for (size_t i = 0; i < report->failures; i += FAILED_MAX) {
        Dray__TasksFailed message = DRAY__TASKS_FAILED__INIT;

        message.failed = report->failed + i;
        message.n_failed = report->failures - i < FAILED_MAX ? report->failures - i : FAILED_MAX;
        link_send(link, FRAME_TASKS_FAILED, &message.base, NULL, 0);
    }
}

static int make_runs(struct ranges *list, struct arena *arena, Dray__Run ***out, size_t *count)
{
    Dray__Run **runs;
    size_t made = 0;

    tidy(list);
    runs = arena_array(arena, list->count + 1, sizeof(*runs));
    if (runs == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < list->count;) {
        size_t n = same_layer(&list->range[i], list->count - i);
        Dray__Run *run = arena_alloc(arena, sizeof(*run));

        if (run == NULL) {
            return -ENOMEM;
        }
        dray__run__init(run);
        run->job = list->range[i].job;
        run->layer = list->range[i].layer;
        run->n_first = run->n_count = n;
        if (split(&list->range[i], n, arena, &run->first, &run->count) != 0) {
            return -ENOMEM;
        }
        runs[made++] = run;
        i += n;
    }
    *out = runs;
    *count = made;
    return 0;
}

static int send_dropped(struct report *report, struct link *link)
{
    Dray__Dropped dropped = DRAY__DROPPED__INIT;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    rc = make_runs(&report->dropped, &arena, &dropped.run, &dropped.n_run);
    if (rc == 0) {
        link_send(link, FRAME_DROPPED, &dropped.base, NULL, 0);
    }
    arena_fini(&arena);
    return rc;
}

static bool note_size(void *arg, const struct store_item *item)
{
    Dray__Holding *holding = arg;

    // A visit is ascending: what is missing in between (dropped in the same turn) has no size.
    holding->bytes[item->index - holding->first[holding->n_first - 1] + holding->n_bytes] = item->bytes;
    return true;
}

// `store` NULL: without sizes, they are not there.
static int make_holding(const struct agent_range *range, size_t n, struct store *store, struct arena *arena,
                        Dray__Holding **out)
{
    Dray__Holding *holding = arena_alloc(arena, sizeof(*holding));
    uint64_t partitions = 0;

    if (holding == NULL) {
        return -ENOMEM;
    }
    dray__holding__init(holding);
    holding->job = range->job;
    holding->layer = range->layer;
    for (size_t i = 0; store != NULL && i < n; i++) {
        partitions += range[i].count;
    }
    holding->bytes = arena_array(arena, partitions + 1, sizeof(uint64_t));
    if (holding->bytes == NULL || split(range, n, arena, &holding->first, &holding->count) != 0) {
        return -ENOMEM;
    }
    memset(holding->bytes, 0, partitions * sizeof(uint64_t));
    for (size_t i = 0; store != NULL && i < n; i++) {
        const struct store_key key = {range[i].job, range[i].layer, range[i].first};

        holding->n_first = holding->n_count = i + 1;
        store_visit(store, &key, range[i].count, note_size, holding);
        holding->n_bytes += range[i].count;
    }
    holding->n_first = holding->n_count = n;
    *out = holding;
    return 0;
}

static int make_holdings(struct ranges *list, struct store *store, struct arena *arena, Dray__Holding ***out,
                         size_t *count)
{
    Dray__Holding **holding;
    size_t made = 0;

    tidy(list);
    holding = arena_array(arena, list->count + 1, sizeof(*holding));
    if (holding == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < list->count;) {
        size_t n = same_layer(&list->range[i], list->count - i);

        if (make_holding(&list->range[i], n, store, arena, &holding[made]) != 0) {
            return -ENOMEM;
        }
        made++;
        i += n;
    }
    *out = holding;
    *count = made;
    return 0;
}

static int send_advertise(struct report *report, struct link *link, struct store *store)
{
    Dray__Advertise advertise = DRAY__ADVERTISE__INIT;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    advertise.has_full = advertise.full = report->full;
    rc = make_holdings(&report->add, store, &arena, &advertise.add, &advertise.n_add);
    if (rc == 0 && !report->full) {
        rc = make_holdings(&report->gone, NULL, &arena, &advertise.gone, &advertise.n_gone);
    }
    if (rc == 0) {
        rc = make_runs(&report->has, &arena, &advertise.has, &advertise.n_has);
    }
    if (rc == 0) {
        link_send(link, FRAME_ADVERTISE, &advertise.base, NULL, 0);
        report->add.count = report->has.count = 0;
        report->gone.count = report->full ? report->gone.count : 0;
        report->full = false;
    }
    arena_fini(&arena);
    return rc;
}

static void send_leaving(struct report *report, struct link *link)
{
    Dray__Leaving message = DRAY__LEAVING__INIT;

    report->leaving = false;
    link_send(link, FRAME_LEAVING, &message.base, NULL, 0);
}

void report_send(struct report *report, struct link *link, struct store *store, const struct layers *layers)
{
    int rc = 0;

    // A full list is what all the rest refers to.  What was given back comes last: it may be for want
    // of what failed, and because of LEAVING.
    if (report->full) {
        rc = send_advertise(report, link, store);
    }
    if (rc == 0 && report->leaving) {
        send_leaving(report, link);
    }
    if (rc == 0 && report->failures > 0) {
        send_failed(report, link);
    }
    if (rc == 0 && report->done.count > 0) {
        rc = send_done(report, link, store, layers);
    }
    if (rc == 0 && report->dropped.count > 0) {
        rc = send_dropped(report, link);
    }
    if (rc == 0 && report->add.count + report->gone.count > 0) {
        rc = send_advertise(report, link, store); // what is gone: behind what says that it was made
    }
    report_clear(report);
    if (rc != 0) {
        link_restart(link, "no memory for a message"); // a new session begins with a full list
    }
}

// ---- notes ------------------------------------------------------------------------

struct notes {
    struct arena arena;
    Dray__Done done;
    size_t capacity;
    bool failed;
};

static void visit_note(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note)
{
    struct notes *notes = arg;
    Dray__Completed *completed = arena_alloc(&notes->arena, sizeof(*completed));
    Dray__TaskNote **list = arena_alloc(&notes->arena, sizeof(*list));

    if (completed == NULL || list == NULL || (list[0] = letter_note(&notes->arena, index, note)) == NULL ||
        notes->done.n_completed == notes->capacity) {
        notes->failed = true;
        return;
    }
    dray__completed__init(completed);
    completed->job = job;
    completed->layer = layer;
    completed->n_note = 1;
    completed->note = list;
    notes->done.completed[notes->done.n_completed++] = completed;
}

static void count_note(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note)
{
    (void)job;
    (void)layer;
    (void)index;
    (void)note;
    ++*(size_t *)arg;
}

void report_notes(struct link *link, struct store *store)
{
    struct notes notes = {0};

    arena_init(&notes.arena, 0);
    dray__done__init(&notes.done);
    // What threads add in between is reported when they are done.
    store_notes(store, count_note, &notes.capacity);
    notes.done.completed = arena_array(&notes.arena, notes.capacity + 1, sizeof(*notes.done.completed));
    if (notes.done.completed != NULL) {
        store_notes(store, visit_note, &notes);
        for (size_t i = 0; i < notes.done.n_completed; i += NOTES_MAX) {
            Dray__Done some = DRAY__DONE__INIT;

            some.completed = notes.done.completed + i;
            some.n_completed =
                notes.done.n_completed - i < NOTES_MAX ? notes.done.n_completed - i : NOTES_MAX;
            link_send(link, FRAME_DONE, &some.base, NULL, 0);
        }
    }
    if (notes.done.completed == NULL || notes.failed) {
        link_restart(link, "no memory for a message");
    }
    arena_fini(&notes.arena);
}
