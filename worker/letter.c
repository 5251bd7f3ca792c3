#define XXH_INLINE_ALL
#include "worker/letter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proto/frame.h"
#include "proto/partition.h"
#include "proto/payload.h"

enum {
    COMPLETED_MAX = 500,         // in one message
    PAYLOAD_BYTES_MAX = 4 << 20, // of a Completed, and of a message
    TASKS_MAX = 1 << 16,         // of a Completed, and of a message
    TINY_BYTES = 256,            // on average: not worth compressing
};

struct letter {
    struct arena arena;
    Dray__Done done;
    Dray__Completed *completed[COMPLETED_MAX];
    struct buffer *payload[COMPLETED_MAX];
    size_t payloads, bytes, tasks;
    // Encodings of the Completed that is being written.
    uint8_t *raw;
    size_t raw_size, raw_max;
};

// One Completed.
struct part {
    struct letter *letter;
    struct layer *layer; // NULL: not known any more
    Dray__Completed *completed;
    uint32_t next;            // the index that is due
    struct partition *larger; // has to be encoded, and its visit continued behind it
    struct buffer *larger_note;
    uint32_t *index; // of those in inline_bytes
    size_t tasks;    // at most
    bool stopped;    // the visit, before its end
    bool damaged;    // what it stopped at
    int rc;
};

struct letter *letter_create(void)
{
    struct letter *letter = calloc(1, sizeof(*letter));

    if (letter != NULL) {
        arena_init(&letter->arena, 0);
    }
    return letter;
}

static void clear(struct letter *letter)
{
    for (size_t i = 0; i < letter->payloads; i++) {
        buffer_unref(letter->payload[i]);
    }
    letter->payloads = letter->bytes = letter->tasks = 0;
    arena_reset(&letter->arena);
    dray__done__init(&letter->done);
    letter->done.completed = letter->completed;
}

void letter_destroy(struct letter *letter)
{
    if (letter != NULL) {
        clear(letter);
        arena_fini(&letter->arena);
        free(letter->raw);
        free(letter);
    }
}

Dray__TaskNote *letter_note(struct arena *arena, uint32_t index, const struct buffer *note)
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

// ---- encodings --------------------------------------------------------------------

// Room for so many more bytes; NULL: no memory.
static uint8_t *reserve(struct letter *letter, size_t size)
{
    if (letter->raw_max - letter->raw_size < size) {
        size_t max =
            letter->raw_max * 2 > letter->raw_size + size ? letter->raw_max * 2 : letter->raw_size + size;
        uint8_t *grown = realloc(letter->raw, max);

        if (grown == NULL) {
            return NULL;
        }
        letter->raw = grown;
        letter->raw_max = max;
    }
    return letter->raw + letter->raw_size;
}

static void add_encoding(struct part *part, uint32_t index, size_t size)
{
    Dray__Completed *completed = part->completed;

    part->letter->raw_size += size;
    part->index[completed->n_inline_bytes] = index;
    completed->inline_bytes[completed->n_inline_bytes++] = (uint32_t)size;
}

static void add_small(struct part *part, const struct store_item *item)
{
    size_t size = PARTITION_HEADER + item->small_size;
    uint8_t *to = reserve(part->letter, size);

    if (to == NULL) {
        part->rc = -ENOMEM;
        return;
    }
    partition_encode_bytes(item->small, item->small_size, to);
    add_encoding(part, item->index, size);
}

static void add_larger(struct part *part, uint32_t index)
{
    struct buffer *encoded = NULL;
    uint8_t *to;

    int rc = partition_encode(part->larger, &encoded, NULL);

    // What cannot be encoded, or not in so many bytes, is fetched.
    if (rc == -EBADMSG || (rc == 0 && XXH3_64bits(encoded->data, encoded->size) != part->larger->checksum)) {
        part->damaged = true;
    } else if (rc == 0 && encoded->size <= INLINE_BYTES_MAX) {
        to = reserve(part->letter, encoded->size);
        if (to == NULL) {
            part->rc = -ENOMEM;
        } else {
            memcpy(to, encoded->data, encoded->size);
            add_encoding(part, index, encoded->size);
        }
    }
    buffer_unref(encoded);
    partition_unref(part->larger);
    part->larger = NULL;
}

static void add_note(struct part *part, uint32_t index, const struct buffer *note)
{
    Dray__Completed *completed = part->completed;
    Dray__TaskNote *message = letter_note(&part->letter->arena, index, note);

    if (completed->note == NULL) {
        completed->note = arena_array(&part->letter->arena, part->tasks, sizeof(Dray__TaskNote *));
    }
    if (message == NULL || completed->note == NULL) {
        part->rc = -ENOMEM;
        return;
    }
    completed->note[completed->n_note++] = message;
}

// ---- a Completed ------------------------------------------------------------------

static bool is_full(const struct part *part)
{
    const struct letter *letter = part->letter;

    return letter->bytes + letter->raw_size >= PAYLOAD_BYTES_MAX;
}

// Sizes up to this index; what is not held (it was released in the same turn) counts as nothing.
static void fill_up(struct part *part, uint32_t index)
{
    while (part->next < index) {
        part->completed->bytes[part->completed->n_bytes++] = 0;
        part->next++;
    }
}

static bool visit(void *arg, const struct store_item *item)
{
    struct part *part = arg;

    fill_up(part, item->index);
    part->completed->bytes[part->completed->n_bytes++] = item->bytes;
    part->next++;
    part->damaged = item->damaged;
    if (item->note != NULL && !item->damaged) {
        part->larger_note = buffer_ref(item->note);
    }
    if (part->layer != NULL && part->layer->wanted && !item->damaged) {
        if (item->partition == NULL) {
            add_small(part, item);
        } else if (item->bytes <= INLINE_BYTES_MAX) {
            part->larger = partition_ref(item->partition);
        }
    }
    part->stopped =
        part->rc != 0 || part->damaged || part->larger != NULL || part->larger_note != NULL || is_full(part);
    return !part->stopped;
}

// As many tasks from `first` on as there is room for; how many.
static uint32_t add_range(struct part *part, struct store *store, const struct agent_range *range,
                          uint32_t first, uint32_t count)
{
    Dray__Completed *completed = part->completed;

    part->next = first;
    while (part->rc == 0 && part->next < first + count && !is_full(part)) {
        const struct store_key key = {range->job, range->layer, part->next};

        part->stopped = false;
        store_visit(store, &key, first + count - part->next, visit, part);
        if (part->larger_note != NULL) {
            add_note(part, part->next - 1, part->larger_note);
            buffer_unref(part->larger_note);
            part->larger_note = NULL;
        }
        if (part->larger != NULL) {
            add_larger(part, part->next - 1);
        }
        if (part->damaged) {
            // It is told as made, and then as gone.
            store_spoil(store, &(struct store_key){range->job, range->layer, part->next - 1}, NULL);
            part->damaged = false;
        }
        if (!part->stopped) {
            fill_up(part, first + count); // none behind it is held
        }
    }
    completed->first[completed->n_first++] = first;
    completed->count[completed->n_count++] = part->next - first;
    return part->next - first;
}

static int add_payload(struct part *part)
{
    struct letter *letter = part->letter;
    Dray__Completed *completed = part->completed;
    size_t average = completed->n_inline_bytes > 0 ? letter->raw_size / completed->n_inline_bytes : 0;
    int rc;

    if (completed->n_inline_bytes == 0) {
        return 0;
    }
    if (completed->n_inline_bytes < completed->n_bytes) {
        completed->inline_index = part->index;
        completed->n_inline_index = completed->n_inline_bytes;
    }
    rc = payload_encode(letter->raw, letter->raw_size, average < TINY_BYTES ? PAYLOAD_RAW : PAYLOAD_AUTO,
                        &letter->payload[letter->payloads], NULL);
    if (rc == 0) {
        letter->bytes += letter->raw_size;
        letter->payloads++;
    }
    return rc;
}

static void add_progress(struct layer *layer, Dray__Completed *completed)
{
    if (layer == NULL) {
        return;
    }
    completed->rows = layer->rows;
    completed->source_bytes = layer->source_bytes;
    completed->has_rows = completed->rows > 0;
    completed->has_source_bytes = completed->source_bytes > 0;
    completed->busy_us = layer->busy_ns / 1000;
    completed->has_busy_us = completed->busy_us > 0;
    layer->rows = layer->source_bytes = 0;
    layer->busy_ns %= 1000;
}

// The tasks and ranges of one layer from *place on that a Completed may have.
static size_t measure(const struct letter *letter, const struct agent_range *range, size_t ranges,
                      const struct letter_place *place, size_t *tasks)
{
    size_t n = 0;

    *tasks = 0;
    while (place->range + n < ranges && range[place->range + n].job == range[place->range].job &&
           range[place->range + n].layer == range[place->range].layer && *tasks < TASKS_MAX - letter->tasks) {
        *tasks += range[place->range + n].count - (n == 0 ? place->done : 0);
        n++;
    }
    *tasks = *tasks < TASKS_MAX - letter->tasks ? *tasks : TASKS_MAX - letter->tasks;
    return n;
}

static int add_completed(struct letter *letter, const struct agent_range *range, size_t ranges,
                         struct letter_place *place, struct store *store, const struct layers *layers)
{
    struct arena *arena = &letter->arena;
    Dray__Completed *completed = arena_alloc(arena, sizeof(*completed));
    size_t tasks = 0;
    size_t n = measure(letter, range, ranges, place, &tasks);
    struct part part = {.letter = letter,
                        .layer = layers_get(layers, range[place->range].job, range[place->range].layer),
                        .completed = completed,
                        .tasks = tasks};

    if (completed == NULL) {
        return -ENOMEM;
    }
    dray__completed__init(completed);
    completed->job = range[place->range].job;
    completed->layer = range[place->range].layer;
    completed->first = arena_array(arena, n, sizeof(uint32_t));
    completed->count = arena_array(arena, n, sizeof(uint32_t));
    completed->bytes = arena_array(arena, tasks, sizeof(uint64_t));
    completed->inline_bytes = arena_array(arena, tasks, sizeof(uint32_t));
    part.index = arena_array(arena, tasks, sizeof(uint32_t));
    if (completed->first == NULL || completed->count == NULL || completed->bytes == NULL ||
        completed->inline_bytes == NULL || part.index == NULL) {
        return -ENOMEM;
    }
    letter->raw_size = 0;
    while (part.rc == 0 && tasks > 0 && !is_full(&part)) {
        const struct agent_range *one = &range[place->range];
        uint32_t left = one->count - place->done;
        uint32_t took =
            add_range(&part, store, one, one->first + place->done, left < tasks ? left : (uint32_t)tasks);

        tasks -= took;
        letter->tasks += took;
        place->done += took;
        if (place->done == one->count) {
            place->range++;
            place->done = 0;
        }
    }
    letter->completed[letter->done.n_completed++] = completed;
    add_progress(part.layer, completed);
    return part.rc == 0 ? add_payload(&part) : part.rc;
}

int letter_write(struct letter *letter, const struct agent_range *range, size_t ranges,
                 struct letter_place *place, struct store *store, const struct layers *layers,
                 const Dray__Done **out, struct buffer *const **payload, size_t *payloads)
{
    int rc = 0;

    clear(letter);
    while (rc == 0 && place->range < ranges && letter->done.n_completed < COMPLETED_MAX &&
           letter->bytes < PAYLOAD_BYTES_MAX && letter->tasks < TASKS_MAX) {
        rc = add_completed(letter, range, ranges, place, store, layers);
    }
    *out = &letter->done;
    *payload = letter->payload;
    *payloads = letter->payloads;
    return rc;
}
