#include "broker/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LAYER_BYTES_MAX = 16 << 20, // of operations in one message
    RANGES_MAX = 1 << 19,       // of tasks or locations in one message
};

enum kind { KIND_ASSIGN, KIND_DROP, KIND_KILL, KIND_RELEASE, KIND_COPY };

// Tasks [min, max] of a layer that a message touches.
struct box {
    uint32_t job, layer, min, max;
};

struct vector {
    void *data;
    size_t count, capacity;
};

struct letter {
    enum kind kind;
    struct vector ranges;    // struct task_range
    struct vector locations; // struct sched_location
    struct vector jobs;      // uint32_t, to forget
    struct vector boxes;     // struct box
};

struct batch {
    struct vector layers;  // struct sched_action
    struct vector letters; // struct letter; those behind `used` keep their memory for the next turn
    size_t used;
};

static void *vector_add(struct vector *v, size_t size)
{
    if (v->count == v->capacity) {
        size_t capacity = v->capacity == 0 ? 8 : v->capacity * 2;
        void *data = realloc(v->data, capacity * size);

        if (data == NULL) {
            return NULL;
        }
        v->data = data;
        v->capacity = capacity;
    }
    return (char *)v->data + v->count++ * size;
}

struct batch *batch_create(void)
{
    return calloc(1, sizeof(struct batch));
}

void batch_destroy(struct batch *batch)
{
    if (batch == NULL) {
        return;
    }
    struct letter *letter = batch->letters.data;

    for (size_t i = 0; i < batch->letters.count; i++) {
        free(letter[i].ranges.data);
        free(letter[i].locations.data);
        free(letter[i].jobs.data);
        free(letter[i].boxes.data);
    }
    free(batch->letters.data);
    free(batch->layers.data);
    free(batch);
}

static bool touches(const struct letter *letter, const struct task_range *range, bool whole_job)
{
    const struct box *box = letter->boxes.data;
    const uint32_t *job = letter->jobs.data;
    uint32_t last = range->first + (range->count - 1);

    for (size_t i = 0; i < letter->boxes.count; i++) {
        if (box[i].job == range->job && (whole_job || (box[i].layer == range->layer && box[i].min <= last &&
                                                       range->first <= box[i].max))) {
            return true;
        }
    }
    for (size_t i = 0; i < letter->jobs.count; i++) {
        if (job[i] == range->job) {
            return true;
        }
    }
    return false;
}

static int note_box(struct letter *letter, const struct task_range *range)
{
    struct box *box = letter->boxes.data;
    uint32_t last = range->first + (range->count - 1);

    for (size_t i = letter->boxes.count; i-- > 0;) {
        if (box[i].job == range->job && box[i].layer == range->layer) {
            box[i].min = range->first < box[i].min ? range->first : box[i].min;
            box[i].max = last > box[i].max ? last : box[i].max;
            return 0;
        }
    }
    box = vector_add(&letter->boxes, sizeof(*box));
    if (box == NULL) {
        return -ENOMEM;
    }
    *box = (struct box){range->job, range->layer, range->first, last};
    return 0;
}

static struct letter *open_letter(struct batch *batch, enum kind kind)
{
    struct letter *letter;

    if (batch->used == batch->letters.count) {
        letter = vector_add(&batch->letters, sizeof(*letter));
        if (letter == NULL) {
            return NULL;
        }
        memset(letter, 0, sizeof(*letter));
    }
    letter = (struct letter *)batch->letters.data + batch->used++;
    letter->kind = kind;
    letter->ranges.count = letter->locations.count = letter->jobs.count = letter->boxes.count = 0;
    return letter;
}

// The message that the action may join, or a new one.
static struct letter *choose_letter(struct batch *batch, enum kind kind, const struct task_range *range,
                                    bool whole_job)
{
    struct letter *letter = batch->letters.data;

    for (size_t i = batch->used; i-- > 0;) {
        if (letter[i].kind == kind) {
            if (letter[i].ranges.count < RANGES_MAX && letter[i].locations.count < RANGES_MAX) {
                return &letter[i];
            }
            break;
        }
        if (touches(&letter[i], range, whole_job)) {
            break;
        }
    }
    return open_letter(batch, kind);
}

static bool joins(const struct task_range *last, const struct task_range *next)
{
    return last->job == next->job && last->layer == next->layer && last->first + last->count == next->first;
}

static int add_range(struct letter *letter, const struct task_range *range)
{
    struct task_range *last = letter->ranges.data;

    if (letter->ranges.count > 0 && joins(&last[letter->ranges.count - 1], range)) {
        last[letter->ranges.count - 1].count += range->count;
    } else {
        last = vector_add(&letter->ranges, sizeof(*last));
        if (last == NULL) {
            return -ENOMEM;
        }
        *last = *range;
    }
    return note_box(letter, range);
}

static int add_locations(struct letter *letter, const struct sched_action *action)
{
    if (action->type == ACTION_COPY) {
        struct sched_location *from = vector_add(&letter->locations, sizeof(*from));

        if (from == NULL) {
            return -ENOMEM;
        }
        *from = (struct sched_location){action->range, action->worker};
    }
    for (size_t i = 0; i < action->locations; i++) {
        struct sched_location *location = vector_add(&letter->locations, sizeof(*location));

        if (location == NULL) {
            return -ENOMEM;
        }
        *location = action->location[i];
    }
    for (size_t i = 0; i < action->wholes; i++) {
        struct sched_location *location = action->whole[i].worker != action->peer
                                              ? vector_add(&letter->locations, sizeof(*location))
                                              : NULL;

        if (location != NULL) {
            *location = action->whole[i];
        } else if (action->whole[i].worker != action->peer) {
            return -ENOMEM;
        }
    }
    return 0;
}

int batch_add(struct batch *batch, const struct sched_action *action)
{
    struct task_range range = action->range;
    struct letter *letter;
    enum kind kind = KIND_RELEASE;

    if (action->type == ACTION_LAYER) {
        struct sched_action *copy = vector_add(&batch->layers, sizeof(*copy));

        if (copy == NULL) {
            return -ENOMEM;
        }
        *copy = *action;
        return 0;
    }
    if (action->type == ACTION_FORGET_JOB) {
        range.count = 1;
        letter = choose_letter(batch, KIND_RELEASE, &range, true);
        uint32_t *job = letter == NULL ? NULL : vector_add(&letter->jobs, sizeof(*job));

        if (job == NULL) {
            return -ENOMEM;
        }
        *job = range.job;
        return 0;
    }
    if (range.count == 0) {
        return 0;
    }
    if (action->type == ACTION_RUN) {
        kind = KIND_ASSIGN;
    } else if (action->type == ACTION_DROP) {
        kind = action->kill ? KIND_KILL : KIND_DROP;
    } else if (action->type == ACTION_COPY) {
        kind = KIND_COPY;
    }
    letter = choose_letter(batch, kind, &range, false);
    if (letter == NULL) {
        return -ENOMEM;
    }
    int rc = add_locations(letter, action);

    return rc != 0 ? rc : add_range(letter, &range);
}

// ---- messages --------------------------------------------------------------------

static int compare_range(const struct task_range *a, const struct task_range *b)
{
    if (a->job != b->job) {
        return a->job < b->job ? -1 : 1;
    }
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return (a->first > b->first) - (a->first < b->first);
}

static int compare_ranges(const void *a, const void *b)
{
    return compare_range(a, b);
}

static int compare_locations(const void *a, const void *b)
{
    const struct sched_location *x = a, *y = b;
    int order = compare_range(&x->range, &y->range);

    if (order != 0) {
        return order;
    }
    if (x->range.count != y->range.count) {
        return x->range.count < y->range.count ? -1 : 1;
    }
    return (x->worker > y->worker) - (x->worker < y->worker);
}

// One Run for each stretch of ranges of the same layer.
static int make_runs(const struct vector *ranges, struct arena *arena, Dray__Run ***out, size_t *out_count)
{
    const struct task_range *range = ranges->data;
    size_t n = ranges->count;
    uint32_t *first = arena_array(arena, n + 1, sizeof(*first));
    uint32_t *count = arena_array(arena, n + 1, sizeof(*count));
    Dray__Run **runs = arena_array(arena, n + 1, sizeof(*runs));
    Dray__Run *run = NULL;
    size_t made = 0, at = 0;

    if (first == NULL || count == NULL || runs == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0 &&
            joins(&(struct task_range){range[i - 1].job, range[i - 1].layer, first[at - 1], count[at - 1]},
                  &range[i])) {
            count[at - 1] += range[i].count;
            continue;
        }
        if (run == NULL || run->job != range[i].job || run->layer != range[i].layer) {
            run = arena_alloc(arena, sizeof(*run));
            if (run == NULL) {
                return -ENOMEM;
            }
            dray__run__init(run);
            run->job = range[i].job;
            run->layer = range[i].layer;
            run->first = &first[at];
            run->count = &count[at];
            runs[made++] = run;
        }
        first[at] = range[i].first;
        count[at++] = range[i].count;
        run->n_first = ++run->n_count;
    }
    *out = runs;
    *out_count = made;
    return 0;
}

static bool location_joins(const struct sched_location *last, const struct sched_location *next)
{
    return last->worker == next->worker && joins(&last->range, &next->range);
}

// Sorted, without repeats, neighbours as one.
static void tidy_locations(struct vector *locations)
{
    struct sched_location *location = locations->data;
    size_t kept = 0;

    if (locations->count == 0) {
        return;
    }
    qsort(location, locations->count, sizeof(*location), compare_locations);
    for (size_t i = 1; i < locations->count; i++) {
        if (compare_locations(&location[kept], &location[i]) == 0) {
            continue;
        }
        if (location_joins(&location[kept], &location[i])) {
            location[kept].range.count += location[i].range.count;
        } else {
            location[++kept] = location[i];
        }
    }
    locations->count = kept + 1;
}

static int make_locations(struct vector *locations, struct arena *arena, Dray__Location ***out,
                          size_t *out_count)
{
    tidy_locations(locations);

    const struct sched_location *location = locations->data;
    size_t n = locations->count, made = 0;
    uint32_t *first = arena_array(arena, n + 1, sizeof(*first));
    uint32_t *count = arena_array(arena, n + 1, sizeof(*count));
    uint32_t *worker = arena_array(arena, n + 1, sizeof(*worker));
    Dray__Location **list = arena_array(arena, n + 1, sizeof(*list));
    Dray__Location *at = NULL;

    if (first == NULL || count == NULL || worker == NULL || list == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const struct task_range *range = &location[i].range;

        if (at == NULL || at->job != range->job || at->layer != range->layer) {
            at = arena_alloc(arena, sizeof(*at));
            if (at == NULL) {
                return -ENOMEM;
            }
            dray__location__init(at);
            at->job = range->job;
            at->layer = range->layer;
            at->first = &first[i];
            at->count = &count[i];
            at->worker = &worker[i];
            list[made++] = at;
        }
        first[i] = range->first;
        count[i] = range->count;
        worker[i] = location[i].worker;
        at->n_first = at->n_count = ++at->n_worker;
    }
    *out = list;
    *out_count = made;
    return 0;
}

static int make_assign(struct letter *letter, struct arena *arena, ProtobufCMessage **out)
{
    Dray__Assign *assign = arena_alloc(arena, sizeof(*assign));
    int rc;

    if (assign == NULL) {
        return -ENOMEM;
    }
    dray__assign__init(assign);
    rc = make_runs(&letter->ranges, arena, &assign->run, &assign->n_run);
    if (rc == 0) {
        rc = make_locations(&letter->locations, arena, &assign->location, &assign->n_location);
    }
    *out = &assign->base;
    return rc;
}

static int make_copy(struct letter *letter, struct arena *arena, ProtobufCMessage **out)
{
    Dray__Copy *copy = arena_alloc(arena, sizeof(*copy));

    if (copy == NULL) {
        return -ENOMEM;
    }
    dray__copy__init(copy);
    *out = &copy->base;
    return make_locations(&letter->locations, arena, &copy->location, &copy->n_location);
}

static int make_drop(struct letter *letter, struct arena *arena, ProtobufCMessage **out)
{
    Dray__Drop *drop = arena_alloc(arena, sizeof(*drop));

    if (drop == NULL) {
        return -ENOMEM;
    }
    dray__drop__init(drop);
    drop->has_kill = drop->kill = letter->kind == KIND_KILL;
    *out = &drop->base;
    return make_runs(&letter->ranges, arena, &drop->run, &drop->n_run);
}

static int make_release(struct letter *letter, struct arena *arena, ProtobufCMessage **out)
{
    Dray__Release *release = arena_alloc(arena, sizeof(*release));

    if (release == NULL) {
        return -ENOMEM;
    }
    dray__release__init(release);
    release->n_job = letter->jobs.count;
    release->job = letter->jobs.data;
    if (letter->ranges.count > 0) {
        qsort(letter->ranges.data, letter->ranges.count, sizeof(struct task_range), compare_ranges);
    }
    *out = &release->base;
    return make_runs(&letter->ranges, arena, &release->run, &release->n_run);
}

static int make_layer(const struct sched_action *action, struct arena *arena, Dray__LayerOp **out)
{
    const Dray__Layer *layer = action->layer;
    Dray__LayerOp *op = arena_alloc(arena, sizeof(*op));

    if (op == NULL) {
        return -ENOMEM;
    }
    dray__layer_op__init(op);
    op->job = action->range.job;
    op->layer = action->range.layer;
    op->op = layer->op;
    op->has_wanted = layer->has_wanted;
    op->wanted = layer->wanted;
    op->name = layer->name;
    op->n_input = layer->n_input;
    op->input = layer->input;
    op->tasks = layer->tasks;
    op->n_input_tasks = layer->n_input;
    op->input_tasks = (uint32_t *)(uintptr_t)action->input_tasks; // read only
    op->has_timeout_ms = layer->has_timeout_ms;
    op->timeout_ms = layer->timeout_ms;
    op->n_resource = layer->n_resource;
    op->resource = layer->resource;
    *out = op;
    return 0;
}

static size_t layer_bytes(const Dray__Layer *layer)
{
    size_t bytes = layer->op.len + 64 + (layer->name != NULL ? strlen(layer->name) : 0);

    for (size_t i = 0; i < layer->n_input; i++) {
        const Dray__Input *input = layer->input[i];

        bytes += 4 * (input->n_offset + input->n_target + input->n_task) + 48;
    }
    return bytes;
}

static int emit_layers(struct batch *batch, struct arena *arena,
                       void (*emit)(void *arg, enum frame_type type, ProtobufCMessage *message), void *arg)
{
    const struct sched_action *action = batch->layers.data;
    size_t n = batch->layers.count;

    for (size_t i = 0; i < n;) {
        Dray__Layers *layers = arena_alloc(arena, sizeof(*layers));
        Dray__LayerOp **list = arena_array(arena, n - i, sizeof(*list));
        size_t bytes = 0;

        if (layers == NULL || list == NULL) {
            return -ENOMEM;
        }
        dray__layers__init(layers);
        layers->layer = list;
        do {
            int rc = make_layer(&action[i], arena, &list[layers->n_layer]);

            if (rc != 0) {
                return rc;
            }
            layers->n_layer++;
            bytes += layer_bytes(action[i].layer);
            i++;
        } while (i < n && bytes + layer_bytes(action[i].layer) <= LAYER_BYTES_MAX);
        emit(arg, FRAME_LAYERS, &layers->base);
    }
    return 0;
}

static int emit_letter(struct letter *letter, struct arena *arena,
                       void (*emit)(void *arg, enum frame_type type, ProtobufCMessage *message), void *arg)
{
    ProtobufCMessage *message = NULL;
    enum frame_type type = FRAME_ASSIGN;
    int rc;

    switch (letter->kind) {
    case KIND_ASSIGN:
        rc = make_assign(letter, arena, &message);
        break;
    case KIND_RELEASE:
        type = FRAME_RELEASE;
        rc = make_release(letter, arena, &message);
        break;
    case KIND_COPY:
        type = FRAME_COPY;
        rc = make_copy(letter, arena, &message);
        break;
    default:
        type = FRAME_DROP;
        rc = make_drop(letter, arena, &message);
        break;
    }
    if (rc == 0) {
        emit(arg, type, message);
    }
    return rc;
}

int batch_emit(struct batch *batch, struct arena *arena,
               void (*emit)(void *arg, enum frame_type type, ProtobufCMessage *message), void *arg)
{
    struct letter *letter = batch->letters.data;
    int rc = emit_layers(batch, arena, emit, arg);

    for (size_t i = 0; rc == 0 && i < batch->used; i++) {
        rc = emit_letter(&letter[i], arena, emit, arg);
    }
    batch->layers.count = 0;
    batch->used = 0;
    return rc;
}
