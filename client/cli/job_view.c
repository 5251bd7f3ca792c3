#include "client/cli/job_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lang/spell.h"
#include "proto/graph.h"
#include "proto/schema.h"

enum {
    NOTE_BYTES_MAX = 48 << 10, // of what is worth telling; indices are places then
    RANGES_MAX = 100000,
};

static struct job_view_layer *new_layers(struct arena *arena, size_t count)
{
    return arena_zalloc(arena, (count + 1) * sizeof(struct job_view_layer));
}

int job_view_from_file(const struct job_file *file, uint32_t job, struct arena *arena, struct job_view *out,
                       struct error *err)
{
    struct job_view_layer *layer = new_layers(arena, file->tasks);

    if (layer == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < file->tasks; i++) {
        layer[i] = (struct job_view_layer){.name = file->task[i].name,
                                           .tasks = file->graph->layer[i]->tasks,
                                           .wanted = file->task[i].wanted,
                                           .is_array = file->task[i].is_array,
                                           .indices = file->task[i].indices};
    }
    *out = (struct job_view){.job = job, .layer = layer, .layers = file->tasks};
    return 0;
}

// ---- notes ------------------------------------------------------------------------------------

static void apply_indices(const Dray__TaskIndices *from, struct arena *arena, struct job_view *view)
{
    struct job_view_layer *layer = from->layer < view->layers ? &view->layer[from->layer] : NULL;
    int64_t span, last;

    if (layer == NULL) {
        return;
    }
    layer->is_array = !(from->single && layer->tasks == 1);
    if (from->n_value == layer->tasks) {
        numbers_from_list(from->value, layer->tasks, arena, &layer->indices, NULL);
    } else if (from->has_first && from->has_step && from->step != 0 && from->n_value == 0 &&
               !__builtin_mul_overflow((int64_t)layer->tasks - 1, from->step, &span) &&
               !__builtin_add_overflow(from->first, span, &last)) {
        layer->indices = (struct numbers){.count = layer->tasks, .first = from->first, .step = from->step};
    }
}

static const Dray__JobNote *read_note(const Dray__Attached *attached, struct arena *arena)
{
    ProtobufCMessage *note = NULL;

    return attached->has_note && schema_unpack(&dray__job_note__descriptor, attached->note.data,
                                               attached->note.len, arena, &note, NULL) == 0
               ? (const Dray__JobNote *)note
               : NULL;
}

// Of a job that has ended without results the broker knows the note alone.
static int add_noted(const Dray__JobNote *note, struct arena *arena, struct job_view *view)
{
    uint32_t layers = 0;

    for (size_t i = 0; i < note->n_indices; i++) {
        if (note->indices[i]->layer < GRAPH_LAYERS_MAX && note->indices[i]->layer >= layers) {
            layers = note->indices[i]->layer + 1;
        }
    }
    view->layer = new_layers(arena, layers);
    if (view->layer == NULL) {
        return -ENOMEM;
    }
    view->layers = layers;
    for (size_t i = 0; i < note->n_indices; i++) {
        const Dray__TaskIndices *from = note->indices[i];

        if (from->layer < layers && from->name != NULL && from->has_tasks && from->tasks > 0) {
            view->layer[from->layer] = (struct job_view_layer){.name = from->name,
                                                               .tasks = from->tasks,
                                                               .wanted = true, // as far as anybody knows
                                                               .is_array = from->tasks > 1,
                                                               .indices = {.count = from->tasks, .step = 1}};
        }
    }
    return 0;
}

int job_view_from_attached(const Dray__Attached *attached, struct arena *arena, struct job_view *out,
                           struct error *err)
{
    struct job_view view = {.job = attached->job, .layers = (uint32_t)attached->n_layer};
    const Dray__JobNote *note = read_note(attached, arena);

    view.layer = new_layers(arena, attached->n_layer);
    if (view.layer == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < attached->n_layer; i++) {
        const Dray__AttachedLayer *from = attached->layer[i];

        view.layer[i] = (struct job_view_layer){.tasks = from->tasks,
                                                .wanted = from->wanted,
                                                .is_array = from->tasks > 1,
                                                .indices = {.count = from->tasks, .step = 1}};
        if (from->name != NULL && from->name[0] != '\0') {
            view.layer[i].name = arena_strdup(arena, from->name);
            if (view.layer[i].name == NULL) {
                return error_no_memory(err);
            }
        }
    }
    if (note != NULL && attached->n_layer == 0 && add_noted(note, arena, &view) != 0) {
        return error_no_memory(err);
    }
    for (size_t i = 0; note != NULL && i < note->n_indices; i++) {
        apply_indices(note->indices[i], arena, &view);
    }
    *out = view;
    return 0;
}

// False: what everybody would guess.
static bool fill_indices(const struct job_file *file, uint32_t layer, Dray__TaskIndices *out)
{
    const struct job_file_task *task = &file->task[layer];

    dray__task_indices__init(out);
    out->layer = layer;
    out->name = (char *)(uintptr_t)task->name; // only read
    out->has_tasks = true;
    out->tasks = task->indices.count;
    if (numbers_from_zero(&task->indices)) {
        out->has_single = out->single = !task->is_array;
        return task->is_array != (task->indices.count > 1);
    }
    if (task->indices.value != NULL) {
        out->n_value = task->indices.count;
        out->value = (int64_t *)(uintptr_t)task->indices.value;
    } else {
        out->has_first = out->has_step = true;
        out->first = task->indices.first;
        out->step = task->indices.step;
    }
    return true;
}

int job_view_note(const struct job_file *file, struct arena *arena, struct dray_bytes *out, struct error *err)
{
    Dray__TaskIndices *indices = arena_array(arena, (size_t)file->tasks + 1, sizeof(*indices));
    Dray__JobNote note = DRAY__JOB_NOTE__INIT;
    size_t bytes = 0;
    uint8_t *data;

    note.indices = arena_array(arena, (size_t)file->tasks + 1, sizeof(*note.indices));
    if (indices == NULL || note.indices == NULL) {
        return error_no_memory(err);
    }
    *out = (struct dray_bytes){0};
    for (uint32_t i = 0; i < file->tasks; i++) {
        if (fill_indices(file, i, &indices[i])) {
            size_t own = dray__task_indices__get_packed_size(&indices[i]) + 8;

            if (bytes + own <= NOTE_BYTES_MAX) {
                note.indices[note.n_indices++] = &indices[i];
                bytes += own;
            }
        }
    }
    if (note.n_indices == 0) {
        return 0;
    }
    data = arena_alloc(arena, bytes);
    if (data == NULL) {
        return error_no_memory(err);
    }
    out->size = dray__job_note__pack(&note, data);
    out->data = data;
    return 0;
}

// ---- names --------------------------------------------------------------------------------------

void job_view_label(const struct job_view *view, uint32_t layer, uint32_t index, char out[JOB_LABEL_MAX])
{
    const struct job_view_layer *at = layer < view->layers ? &view->layer[layer] : NULL;
    char number[16];
    const char *name = number;

    snprintf(number, sizeof(number), "%u", layer);
    if (at != NULL && at->name != NULL) {
        name = at->name;
    }
    if (at == NULL || index >= at->tasks) {
        snprintf(out, JOB_LABEL_MAX, "%.200s", name);
    } else if (at->is_array) {
        snprintf(out, JOB_LABEL_MAX, "%.200s.%" PRId64, name, numbers_at(&at->indices, index));
    } else {
        snprintf(out, JOB_LABEL_MAX, "%.200s", name);
    }
}

const char *job_view_reason(const struct job_view *view, uint32_t layer, uint32_t index, const char *text)
{
    const struct job_view_layer *at = layer < view->layers ? &view->layer[layer] : NULL;
    char begin[JOB_LABEL_MAX + 32];
    size_t size;

    if (at == NULL || at->name == NULL) {
        return NULL;
    }
    size = (size_t)snprintf(begin, sizeof(begin), "%.*s, task %u ", JOB_LABEL_MAX - 1, at->name, index);
    return strncmp(text, begin, size) == 0 && strncmp(text + size, "on worker ", 10) == 0 ? text + size
                                                                                          : NULL;
}

// "NAME, task N on worker" at a word's begin: where it begins and ends, and what it is.
static bool find_task(const struct job_view *view, const char *text, const char **begin, const char **end,
                      uint32_t *layer, uint32_t *index)
{
    static const char middle[] = ", task ", last[] = " on worker ";

    for (const char *at = strstr(text, middle); at != NULL; at = strstr(at + 1, middle)) {
        char *after;
        unsigned long number = strtoul(at + strlen(middle), &after, 10);

        if (strncmp(after, last, strlen(last)) != 0) {
            continue;
        }
        for (uint32_t i = 0; i < view->layers; i++) {
            size_t size = view->layer[i].name != NULL ? strlen(view->layer[i].name) : 0;

            if (size > 0 && (size_t)(at - text) >= size &&
                memcmp(at - size, view->layer[i].name, size) == 0 &&
                (at - size == text || at[-(ptrdiff_t)size - 1] == ' ') && number < view->layer[i].tasks) {
                *begin = at - size;
                *end = after;
                *layer = i;
                *index = (uint32_t)number;
                return true;
            }
        }
    }
    return false;
}

const char *job_view_text(const struct job_view *view, const char *text, struct arena *arena)
{
    char label[JOB_LABEL_MAX], *data = NULL;
    const char *begin, *end, *rest = text, *out;
    size_t size;
    FILE *stream = open_memstream(&data, &size);
    uint32_t layer, index;

    if (stream == NULL) {
        return text;
    }
    // The attempts before name it again.
    while (find_task(view, rest, &begin, &end, &layer, &index)) {
        job_view_label(view, layer, index, label);
        fwrite(rest, 1, (size_t)(begin - rest), stream);
        fputs(label, stream);
        rest = end;
    }
    fputs(rest, stream);
    out = fclose(stream) == 0 ? arena_strdup(arena, data) : NULL;
    free(data);
    return out != NULL ? out : text;
}

static int find_layer(const struct job_view *view, const char *name, uint32_t *out)
{
    int64_t number;

    for (uint32_t i = 0; i < view->layers; i++) {
        if (view->layer[i].name != NULL && strcmp(view->layer[i].name, name) == 0) {
            *out = i;
            return 0;
        }
    }
    if (number_parse(name, &number, NULL) == 0 && number < (int64_t)view->layers &&
        view->layer[number].name == NULL) {
        *out = (uint32_t)number;
        return 0;
    }
    return -ENOENT;
}

static int unknown_task(const struct job_view *view, const char *text, struct error *err)
{
    struct spell spell = {.word = text};

    for (uint32_t i = 0; i < view->layers; i++) {
        if (view->layer[i].name != NULL) {
            spell_try(&spell, view->layer[i].name);
        }
    }
    if (spell_is_near(&spell)) {
        return error_set(err, ENOENT, "job %u has no task '%.100s': did you mean '%.100s'?", view->job, text,
                         spell.best);
    }
    return error_set(err, ENOENT, "job %u has no task '%.100s'", view->job, text);
}

static int add_range(struct arena *arena, struct job_ranges *ranges, uint32_t layer, uint32_t first,
                     uint32_t count, struct error *err)
{
    struct client_range *last = ranges->count > 0 ? &ranges->range[ranges->count - 1] : NULL;

    if (last != NULL && last->layer == layer && last->first + last->count == first) {
        last->count += count;
        return 0;
    }
    if (ranges->count >= RANGES_MAX) {
        return error_set(err, EINVAL, "more than %d ranges of tasks", RANGES_MAX);
    }
    // Room doubles at powers of two.
    if ((ranges->count & (ranges->count - 1)) == 0) {
        struct client_range *grown =
            arena_array(arena, ranges->count == 0 ? 1 : 2 * ranges->count, sizeof(*grown));

        if (grown == NULL) {
            return error_no_memory(err);
        }
        if (ranges->count > 0) {
            memcpy(grown, ranges->range, ranges->count * sizeof(*grown));
        }
        ranges->range = grown;
    }
    ranges->range[ranges->count++] = (struct client_range){.layer = layer, .first = first, .count = count};
    return 0;
}

static int add_indices(const struct job_view *view, uint32_t layer, const char *text, struct arena *arena,
                       struct job_ranges *ranges, struct error *err)
{
    const struct job_view_layer *at = &view->layer[layer];
    struct numbers numbers;
    int rc = numbers_parse(text, arena, &numbers, err);

    for (uint32_t i = 0; rc == 0 && i < numbers.count; i++) {
        uint32_t place;

        if (!numbers_find(&at->indices, numbers_at(&numbers, i), &place)) {
            return error_set(err, ENOENT, "task '%s' of job %u has no element %" PRId64,
                             at->name != NULL ? at->name : text, view->job, numbers_at(&numbers, i));
        }
        rc = add_range(arena, ranges, layer, place, 1, err);
    }
    return rc;
}

int job_view_add_layer(const struct job_view *view, uint32_t layer, struct arena *arena,
                       struct job_ranges *ranges, struct error *err)
{
    return add_range(arena, ranges, layer, 0, view->layer[layer].tasks, err);
}

int job_view_select(const struct job_view *view, const char *text, struct arena *arena,
                    struct job_ranges *ranges, struct error *err)
{
    char name[JOB_LABEL_MAX];
    uint32_t layer;

    if (find_layer(view, text, &layer) == 0) {
        return add_range(arena, ranges, layer, 0, view->layer[layer].tasks, err);
    }
    // Names may have dots, and so has 3..9: the name is what is there of the longest.
    for (size_t at = strlen(text); at-- > 1;) {
        if (text[at] != '.' || at >= sizeof(name)) {
            continue;
        }
        memcpy(name, text, at);
        name[at] = '\0';
        if (find_layer(view, name, &layer) == 0) {
            return add_indices(view, layer, text + at + 1, arena, ranges, err);
        }
    }
    return unknown_task(view, text, err);
}
