#include "worker/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/partition.h"
#include "proto/payload.h"

enum {
    PAYLOADS_MAX = 500,          // in one message
    PAYLOAD_BYTES_MAX = 4 << 20, // in one message
    ENTRIES_MAX = 100000,        // in one message
};

struct entry {
    struct task_key key;
    uint64_t bytes;
    bool wanted;
};

struct entries {
    struct entry *entry;
    size_t count, capacity;
};

struct report {
    struct entries done, dropped, add, gone;
    bool full;
};

struct report *report_create(void)
{
    return calloc(1, sizeof(struct report));
}

void report_destroy(struct report *report)
{
    if (report != NULL) {
        free(report->done.entry);
        free(report->dropped.entry);
        free(report->add.entry);
        free(report->gone.entry);
        free(report);
    }
}

void report_clear(struct report *report)
{
    report->done.count = report->dropped.count = report->add.count = report->gone.count = 0;
    report->full = false;
}

void report_full(struct report *report)
{
    report->full = true;
}

static int push(struct entries *list, const struct entry *entry)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct entry *grown = realloc(list->entry, capacity * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        list->entry = grown;
        list->capacity = capacity;
    }
    list->entry[list->count++] = *entry;
    return 0;
}

int report_add(struct report *report, const struct agent_action *action)
{
    const struct entry entry = {action->key, action->bytes, action->wanted};

    switch (action->type) {
    case AGENT_REPORT_DONE:
        return push(&report->done, &entry);
    case AGENT_REPORT_DROPPED:
        return push(&report->dropped, &entry);
    default:
        return push(action->gone ? &report->gone : &report->add, &entry);
    }
}

static int compare_entries(const void *a, const void *b)
{
    const struct task_key *x = &((const struct entry *)a)->key, *y = &((const struct entry *)b)->key;

    if (x->job != y->job) {
        return x->job < y->job ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

// Sorted by layer and index, so that neighbours travel as ranges; without repeats.
static void tidy(struct entries *list)
{
    size_t kept = 0;

    if (list->count == 0) {
        return;
    }
    qsort(list->entry, list->count, sizeof(*list->entry), compare_entries);
    for (size_t i = 1; i < list->count; i++) {
        if (compare_entries(&list->entry[kept], &list->entry[i]) != 0) {
            list->entry[++kept] = list->entry[i];
        }
    }
    list->count = kept + 1;
}

// The entries of one layer, from the first, at most `max`.
static size_t same_layer(const struct entry *entry, size_t max)
{
    size_t n = 1;

    while (n < max && entry[n].key.job == entry[0].key.job && entry[n].key.layer == entry[0].key.layer) {
        n++;
    }
    return n;
}

struct ranges {
    uint32_t *first, *count;
    uint64_t *bytes;
    size_t n;
};

static int make_ranges(const struct entry *entry, size_t n, struct arena *arena, struct ranges *out)
{
    *out = (struct ranges){arena_array(arena, n, sizeof(uint32_t)), arena_array(arena, n, sizeof(uint32_t)),
                           arena_array(arena, n, sizeof(uint64_t)), 0};
    if (out->first == NULL || out->count == NULL || out->bytes == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        out->bytes[i] = entry[i].bytes;
        if (i > 0 && entry[i].key.index == entry[i - 1].key.index + 1) {
            out->count[out->n - 1]++;
        } else {
            out->first[out->n] = entry[i].key.index;
            out->count[out->n++] = 1;
        }
    }
    return 0;
}

// ---- DONE -------------------------------------------------------------------------

struct letter {
    struct arena arena;
    Dray__Done done;
    struct buffer *payload[PAYLOADS_MAX];
    size_t payloads, bytes, entries;
};

static void letter_clear(struct letter *letter)
{
    for (size_t i = 0; i < letter->payloads; i++) {
        buffer_unref(letter->payload[i]);
    }
    letter->payloads = letter->bytes = letter->entries = 0;
    arena_reset(&letter->arena);
    dray__done__init(&letter->done);
}

// A payload frame of a small wanted partition, or NULL: the client fetches it.
static struct buffer *make_payload(struct store *store, const struct task_key *key)
{
    struct partition *partition = store_get(store, key->job, key->layer, key->index);
    struct buffer *encoded = NULL, *payload = NULL;

    if (partition != NULL && partition_encode(partition, &encoded, NULL) == 0 &&
        encoded->size <= INLINE_BYTES_MAX) {
        if (payload_encode(encoded->data, encoded->size, PAYLOAD_AUTO, &payload, NULL) != 0) {
            payload = NULL;
        }
    }
    buffer_unref(encoded);
    partition_unref(partition);
    return payload;
}

static Dray__TaskNote *make_note(struct arena *arena, uint32_t index, const struct buffer *note)
{
    Dray__TaskNote *message = arena_alloc(arena, sizeof(*message));
    uint8_t *copy = arena_copy(arena, note->data, note->size);

    if (message == NULL || copy == NULL) {
        return NULL;
    }
    dray__task_note__init(message);
    message->index = index;
    message->note.data = copy;
    message->note.len = note->size;
    return message;
}

static int add_extras(struct letter *letter, struct store *store, const struct entry *entry, size_t n,
                      Dray__Completed *completed)
{
    completed->inline_index = arena_array(&letter->arena, n, sizeof(uint32_t));
    completed->note = arena_array(&letter->arena, n, sizeof(*completed->note));
    if (completed->inline_index == NULL || completed->note == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const struct task_key *key = &entry[i].key;
        struct buffer *note = store_note(store, key->job, key->layer, key->index);

        if (note != NULL) {
            Dray__TaskNote *message = make_note(&letter->arena, key->index, note);

            buffer_unref(note);
            if (message == NULL) {
                return -ENOMEM;
            }
            completed->note[completed->n_note++] = message;
        }
        if (entry[i].wanted && entry[i].bytes <= INLINE_BYTES_MAX && letter->payloads < PAYLOADS_MAX &&
            letter->bytes < PAYLOAD_BYTES_MAX) {
            struct buffer *payload = make_payload(store, key);

            if (payload != NULL) {
                letter->payload[letter->payloads++] = payload;
                letter->bytes += payload->size;
                completed->inline_index[completed->n_inline_index++] = key->index;
            }
        }
    }
    return 0;
}

static int add_completed(struct letter *letter, struct store *store, const struct layers *layers,
                         const struct entry *entry, size_t n)
{
    Dray__Completed *completed = arena_alloc(&letter->arena, sizeof(*completed));
    Dray__Completed **list = arena_array(&letter->arena, letter->done.n_completed + 1, sizeof(*list));
    struct layer *layer = layers_get(layers, entry[0].key.job, entry[0].key.layer);
    struct ranges ranges;

    if (completed == NULL || list == NULL || make_ranges(entry, n, &letter->arena, &ranges) != 0) {
        return -ENOMEM;
    }
    dray__completed__init(completed);
    completed->job = entry[0].key.job;
    completed->layer = entry[0].key.layer;
    completed->n_first = completed->n_count = ranges.n;
    completed->first = ranges.first;
    completed->count = ranges.count;
    completed->n_bytes = n;
    completed->bytes = ranges.bytes;
    if (layer != NULL) {
        completed->has_rows = completed->has_source_bytes = true;
        completed->rows = layer->rows;
        completed->source_bytes = layer->source_bytes;
        layer->rows = layer->source_bytes = 0;
    }
    if (letter->done.n_completed > 0) {
        memcpy(list, letter->done.completed, letter->done.n_completed * sizeof(*list));
    }
    list[letter->done.n_completed] = completed;
    letter->done.completed = list;
    letter->done.n_completed++;
    letter->entries += n;
    return add_extras(letter, store, entry, n, completed);
}

static bool letter_is_full(const struct letter *letter)
{
    return letter->payloads == PAYLOADS_MAX || letter->bytes >= PAYLOAD_BYTES_MAX ||
           letter->entries >= ENTRIES_MAX;
}

static void post_letter(struct letter *letter, struct link *link)
{
    if (letter->done.n_completed > 0) {
        link_send(link, FRAME_DONE, &letter->done.base, letter->payload, letter->payloads);
    }
    letter_clear(letter);
}

static int send_done(struct report *report, struct link *link, struct store *store,
                     const struct layers *layers)
{
    struct letter *letter = calloc(1, sizeof(*letter));
    int rc = 0;

    if (letter == NULL) {
        return -ENOMEM;
    }
    arena_init(&letter->arena, 0);
    letter_clear(letter);
    tidy(&report->done);
    for (size_t i = 0; rc == 0 && i < report->done.count;) {
        const struct entry *entry = &report->done.entry[i];
        size_t max = report->done.count - i;
        size_t n = same_layer(entry, max < PAYLOADS_MAX ? max : PAYLOADS_MAX);

        rc = add_completed(letter, store, layers, entry, n);
        i += n;
        if (letter_is_full(letter) && rc == 0) {
            post_letter(letter, link);
        }
    }
    if (rc == 0) {
        post_letter(letter, link);
    }
    letter_clear(letter);
    arena_fini(&letter->arena);
    free(letter);
    return rc;
}

// ---- the rest ---------------------------------------------------------------------

static int send_dropped(struct report *report, struct link *link)
{
    Dray__Dropped dropped = DRAY__DROPPED__INIT;
    struct entries *list = &report->dropped;
    struct arena arena;
    int rc = -ENOMEM;

    arena_init(&arena, 0);
    tidy(list);
    dropped.run = arena_array(&arena, list->count, sizeof(*dropped.run));
    if (dropped.run == NULL) {
        goto out;
    }
    for (size_t i = 0; i < list->count;) {
        size_t n = same_layer(&list->entry[i], list->count - i);
        Dray__Run *run = arena_alloc(&arena, sizeof(*run));
        struct ranges ranges;

        if (run == NULL || make_ranges(&list->entry[i], n, &arena, &ranges) != 0) {
            goto out;
        }
        dray__run__init(run);
        run->job = list->entry[i].key.job;
        run->layer = list->entry[i].key.layer;
        run->n_first = run->n_count = ranges.n;
        run->first = ranges.first;
        run->count = ranges.count;
        dropped.run[dropped.n_run++] = run;
        i += n;
    }
    link_send(link, FRAME_DROPPED, &dropped.base, NULL, 0);
    rc = 0;
out:
    arena_fini(&arena);
    return rc;
}

static int make_holdings(struct entries *list, bool bytes, struct arena *arena, Dray__Holding ***out,
                         size_t *out_n)
{
    Dray__Holding **holdings = arena_array(arena, list->count + 1, sizeof(*holdings));
    size_t made = 0;

    tidy(list);
    if (holdings == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < list->count;) {
        size_t n = same_layer(&list->entry[i], list->count - i);
        Dray__Holding *holding = arena_alloc(arena, sizeof(*holding));
        struct ranges ranges;

        if (holding == NULL || make_ranges(&list->entry[i], n, arena, &ranges) != 0) {
            return -ENOMEM;
        }
        dray__holding__init(holding);
        holding->job = list->entry[i].key.job;
        holding->layer = list->entry[i].key.layer;
        holding->n_first = holding->n_count = ranges.n;
        holding->first = ranges.first;
        holding->count = ranges.count;
        holding->n_bytes = bytes ? n : 0;
        holding->bytes = ranges.bytes;
        holdings[made++] = holding;
        i += n;
    }
    *out = holdings;
    *out_n = made;
    return 0;
}

static int send_advertise(struct report *report, struct link *link)
{
    Dray__Advertise advertise = DRAY__ADVERTISE__INIT;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    advertise.has_full = advertise.full = report->full;
    rc = make_holdings(&report->add, true, &arena, &advertise.add, &advertise.n_add);
    if (rc == 0) {
        rc = make_holdings(&report->gone, false, &arena, &advertise.gone, &advertise.n_gone);
    }
    if (rc == 0) {
        link_send(link, FRAME_ADVERTISE, &advertise.base, NULL, 0);
    }
    arena_fini(&arena);
    return rc;
}

void report_send(struct report *report, struct link *link, struct store *store, const struct layers *layers)
{
    int rc = 0;

    // A full list is what all the rest refers to; otherwise what is done comes first.
    if (report->full) {
        rc = send_advertise(report, link);
        report->add.count = report->gone.count = 0;
        report->full = false;
    }
    if (rc == 0 && report->dropped.count > 0) {
        rc = send_dropped(report, link);
    }
    if (rc == 0 && report->done.count > 0) {
        rc = send_done(report, link, store, layers);
    }
    if (rc == 0 && (report->add.count > 0 || report->gone.count > 0)) {
        rc = send_advertise(report, link);
    }
    report_clear(report);
    if (rc != 0) {
        link_restart(link, "no memory for a message"); // a new session begins with a full list
    }
}

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

    if (completed == NULL || list == NULL || (list[0] = make_note(&notes->arena, index, note)) == NULL ||
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

void report_notes(struct link *link, struct store *store)
{
    struct notes notes = {.capacity = (size_t)store_counts(store).partitions};

    arena_init(&notes.arena, 0);
    dray__done__init(&notes.done);
    notes.done.completed = arena_array(&notes.arena, notes.capacity + 1, sizeof(*notes.done.completed));
    if (notes.done.completed != NULL) {
        store_notes(store, visit_note, &notes);
        if (notes.done.n_completed > 0) {
            link_send(link, FRAME_DONE, &notes.done.base, NULL, 0);
        }
    }
    if (notes.done.completed == NULL || notes.failed) {
        link_restart(link, "no memory for a message");
    }
    arena_fini(&notes.arena);
}
