#include "broker/core/growth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/demand.h"
#include "broker/core/job.h"
#include "broker/core/links.h"
#include "broker/core/outbox.h"
#include "broker/core/worker.h"

enum {
    SMALL_BYTES = 1 << 16, // arrays and graphs up to here go into the job's arena
    LAYERS_MIN = 8,        // that an open job has room for from the start
};

void slabs_destroy(struct job *job)
{
    while (job->slabs != NULL) {
        struct slab *slab = job->slabs;

        job->slabs = slab->next;
        free(slab);
    }
}

// The job's tasks, and its memory with so many bytes more, are within what the broker takes.  Asked before
// each large piece is made: what is refused shall not have been there for a moment.
static int check_limits(const struct growth *growth, uint64_t more, struct error *err)
{
    const struct sched *sched = growth->job->sched;
    const struct sched_options *options = &sched->options;
    uint64_t bytes = growth->bytes + (growth->job->arena.used - growth->arena_before) + more;

    if (growth->tasks > options->tasks_max || sched->tasks > options->tasks_max - growth->tasks) {
        return error_set(
            err, ENOSPC,
            "the broker keeps %u jobs with %llu tasks; %llu more are beyond its limit of %llu tasks",
            sched->job_count, (unsigned long long)sched->tasks, (unsigned long long)growth->tasks,
            (unsigned long long)options->tasks_max);
    }
    if (bytes > options->bytes_max || sched->bytes > options->bytes_max - bytes) {
        return error_set(
            err, ENOSPC,
            "the broker's jobs take %llu MB, these layers %llu MB or more, which is beyond its limit of "
            "%llu MB",
            (unsigned long long)sched->bytes >> 20, (unsigned long long)bytes >> 20,
            (unsigned long long)options->bytes_max >> 20);
    }
    return 0;
}

// ---- what grows with the number of layers ----------------------------------------------------

static void bits_move(struct bits *to, const struct bits *from, uint32_t shift)
{
    for (uint32_t i = 0; (i = bits_next(from, i)) != BITS_NONE; i++) {
        bits_set(to, i + shift);
    }
}

static int tables_grow(struct job *job, uint32_t layers, struct error *err)
{
    uint32_t capacity = job->grows && layers < LAYERS_MIN ? LAYERS_MIN : layers;
    size_t words;
    uint64_t *block;

    if (layers <= job->layer_capacity && job->tables != NULL) {
        return 0;
    }
    if (capacity < 2 * job->layer_capacity) {
        capacity = 2 * job->layer_capacity;
    }
    if (!knows_grow(job, capacity)) {
        return error_no_memory(err);
    }
    words = bits_words(capacity);
    block = calloc((size_t)capacity + capacity / 2 + 1 + 2 * words, sizeof(uint64_t));
    if (block == NULL) {
        return error_no_memory(err);
    }
    struct layer **layer = (struct layer **)(void *)(block + 2 * words);
    uint32_t *layer_tasks = (uint32_t *)(void *)(layer + capacity);
    struct bits unsettled = {block, capacity};
    struct bits dirty = {block + words, capacity};

    for (uint32_t l = 0; l < job->layers; l++) {
        layer[l] = job->layer[l];
        layer_tasks[l] = job->layer_tasks[l];
    }
    if (job->tables != NULL) {
        bits_move(&unsettled, &job->unsettled, capacity - job->layer_capacity);
        bits_move(&dirty, &job->dirty, 0);
    }
    free(job->tables);
    growth_charge(job, (capacity - job->layer_capacity) * (sizeof(void *) + sizeof(uint32_t)));
    job->tables = block;
    job->unsettled = unsettled;
    job->dirty = dirty;
    job->layer = layer;
    job->layer_tasks = layer_tasks;
    job->layer_capacity = capacity;
    return 0;
}

// ---- edges -------------------------------------------------------------------------------------

static bool is_whole(const Dray__Input *input)
{
    return input->pattern == DRAY__PATTERN__ALL || input->pattern == DRAY__PATTERN__BROADCAST;
}

static uint64_t edge_count(const struct edge *edge)
{
    uint64_t tasks = edge->target->tasks;
    uint64_t reach = 2 * (uint64_t)edge->input->width + 1;

    switch (edge->input->pattern) {
    case DRAY__PATTERN__FAN_IN:
        return edge->source->tasks;
    case DRAY__PATTERN__WINDOW:
        return tasks * (reach < tasks ? reach : tasks);
    case DRAY__PATTERN__EXPLICIT: // an empty row is looked at, too
        return input_is_sparse(edge->input) || edge->input->n_target > tasks ? edge->input->n_target : tasks;
    default:
        return tasks;
    }
}

// Somebody wants the partition, so that it is there or will be made.
static int check_wanted(const struct edge *edge, struct error *err)
{
    const struct layer *source = edge->source;

    for (uint32_t t = 0; t < edge->target->tasks; t++) {
        struct span span = input_needs(edge->input, edge->target->tasks, source->tasks, t);

        for (uint32_t n = 0; n < span.count; n++) {
            uint32_t p = span_at(&span, n);

            if (!task_needed(source, p)) {
                return error_set(
                    err, ENOENT,
                    "task %u needs partition %u of layer %u of job %u, which nobody has wanted any more "
                    "(keep the job, or its results, as long as others read them)",
                    t, p, source->number, source->job->number);
            }
        }
        if (edge->whole) {
            break; // all of them need the same
        }
    }
    return 0;
}

static int find_foreign(struct edge *edge, struct error *err)
{
    const struct job *own = edge->target->job;
    const Dray__Input *input = edge->input;
    struct job *job = job_find(own->sched, input->job);

    if (job == NULL || job == own) {
        return error_set(err, ENOENT, job == NULL ? "there is no job %u" : "job %u is the job itself",
                         input->job);
    }
    if (!job->has_tasks) {
        return error_set(err, ENOENT, "job %u has %s: it has no partitions", input->job,
                         job->state == JOB_CANCELLED ? "been cancelled" : "failed");
    }
    if (input->layer >= job->layers) {
        return error_set(err, ENOENT, "job %u has no layer %u (it has %u)", input->job, input->layer,
                         job->layers);
    }
    edge->source = job->layer[input->layer];
    if (edge->source->tasks != input->job_tasks) {
        return error_set(err, EINVAL, "layer %u of job %u has %u tasks, not %u", input->layer, input->job,
                         edge->source->tasks, input->job_tasks);
    }
    return 0;
}

static int edge_init(struct growth *growth, struct edge *edge, struct layer *layer, const Dray__Input *input,
                     struct error *err)
{
    struct job *job = growth->job;
    int rc = 0;

    edge->input = input;
    edge->target = layer;
    edge->whole = is_whole(input);
    edge->foreign = input->has_job;
    if (edge->foreign) {
        rc = find_foreign(edge, err);
    } else if (input->layer < growth->first) {
        edge->source = job->layer[input->layer];
    } else {
        edge->source = &growth->layer[input->layer - growth->first];
    }
    return rc;
}

static int inputs_init(struct growth *growth, struct layer *layer, uint64_t *edges, struct error *err)
{
    struct job *job = growth->job;

    layer->input = arena_array(&job->arena, layer->inputs, sizeof(*layer->input));
    layer->input_tasks = arena_array(&job->arena, layer->inputs, sizeof(uint32_t));
    if (layer->input == NULL || layer->input_tasks == NULL) {
        layer->input = NULL;
        return error_no_memory(err);
    }
    memset(layer->input, 0, layer->inputs * sizeof(*layer->input));
    for (size_t k = 0; k < layer->inputs; k++) {
        struct edge *edge = &layer->input[k];
        int rc = edge_init(growth, edge, layer, layer->graph->input[k], err);

        if (rc == 0 && !edge->whole) {
            layer->local = true;
            *edges += edge_count(edge);
        }
        if (*edges > EDGES_MAX) {
            return error_set(
                err, E2BIG,
                "layer %u ('%.100s') of a graph: with it there are more than %llu dependencies between "
                "single tasks",
                layer->number, layer->graph->name != NULL ? layer->graph->name : "",
                (unsigned long long)EDGES_MAX);
        }
        // Looks at each of them, so not before they are few enough.
        if (rc == 0 && edge->foreign) {
            rc = check_wanted(edge, err);
        }
        if (rc < 0) {
            error_prefix(err, "layer %u ('%.100s') of a graph: input %zu: ", layer->number,
                         layer->graph->name != NULL ? layer->graph->name : "", k);
            return rc;
        }
        layer->input_tasks[k] = edge->source->tasks;
    }
    return 0;
}

// Room for one more in the source's list; counted, so that several edges to one source find theirs.
static bool dependents_reserve(struct layer *source)
{
    uint32_t capacity = source->dependent_capacity;
    struct edge **grown;

    source->coming++;
    if (source->dependents + source->coming <= capacity) {
        return true;
    }
    capacity = capacity > 0 ? 2 * capacity : 1;
    grown = arena_array(&source->job->arena, capacity, sizeof(struct edge *));
    if (grown == NULL) {
        return false;
    }
    if (source->dependents > 0) {
        memcpy(grown, source->dependent, source->dependents * sizeof(struct edge *));
    }
    source->dependent = grown;
    source->dependent_capacity = capacity;
    return true;
}

// An older layer gets its first local dependents, or more of them than it could count.
static bool consumers_create(struct layer *source, bool crowded)
{
    uint64_t bytes = source->tasks * (crowded ? sizeof(uint32_t) : sizeof(uint16_t));
    void *consumers = NULL;

    if (bytes <= SMALL_BYTES) {
        consumers = arena_zalloc(&source->job->arena, bytes);
    } else {
        struct slab *slab = calloc(1, sizeof(*slab) + bytes);

        if (slab != NULL) {
            slab->next = source->job->slabs;
            source->job->slabs = slab;
            consumers = slab->data;
            growth_charge(source->job, bytes);
        }
    }
    if (consumers == NULL) {
        return false;
    }
    for (uint32_t p = 0; source->consumers != NULL && p < source->tasks; p++) {
        ((uint32_t *)consumers)[p] = consumers_at(source, p);
    }
    source->consumers = consumers;
    source->crowded = crowded;
    return true;
}

// Room to count all those who read one of its partitions.
static bool consumers_reserve(const struct growth *growth, struct edge *edge)
{
    struct layer *source = edge->source;
    bool crowded;

    source->readers_coming += edge->readers;
    crowded = source->readers + source->readers_coming > UINT16_MAX;
    if (growth_adds(growth, source)) {
        source->counts = true;
        source->crowded = crowded;
        return true;
    }
    return (source->consumers != NULL && (source->crowded || !crowded)) || consumers_create(source, crowded);
}

// Tasks that read one partition at most, where a pattern says so.
static uint32_t pattern_readers(const Dray__Input *input)
{
    uint64_t reach = 2 * (uint64_t)input->width + 1;

    if (input->pattern != DRAY__PATTERN__WINDOW) {
        return 1;
    }
    return reach < UINT32_MAX ? (uint32_t)reach : UINT32_MAX;
}

static int edge_prepare(struct growth *growth, struct edge *edge, struct error *err)
{
    struct layer *source = edge->source;

    if (edge_is_linked(edge)) {
        int rc;

        source->links_coming += edge->input->n_target;
        edge->readers = (uint32_t)edge->input->n_target;
        growth->bytes += edge->input->n_target * sizeof(struct link);
        rc = check_limits(growth, source->link_head == NULL ? source->tasks * sizeof(uint32_t) : 0, err);
        if (rc < 0) {
            return rc;
        }
        return links_reserve(source, source->links_coming) && consumers_reserve(growth, edge)
                   ? 0
                   : error_no_memory(err);
    }
    if (!dependents_reserve(source)) {
        return error_no_memory(err);
    }
    if (edge->whole) {
        return 0;
    }
    edge->readers = pattern_readers(edge->input);
    if (edge->input->pattern == DRAY__PATTERN__EXPLICIT) {
        int rc;

        growth->bytes += ((uint64_t)edge->input->n_target + source->tasks) * sizeof(uint32_t);
        rc = check_limits(growth, 0, err);
        if (rc < 0) {
            return rc;
        }
        edge->reverse = edge_index_create(edge->input, edge->target->tasks, source->tasks);
        if (edge->reverse == NULL) {
            return error_no_memory(err);
        }
        edge->readers = edge_index_most(edge->reverse);
    }
    return consumers_reserve(growth, edge) ? 0 : error_no_memory(err);
}

static int edges_prepare(struct growth *growth, struct error *err)
{
    uint64_t edges = 0;
    int rc = 0;

    for (uint32_t l = 0; rc == 0 && l < growth->count; l++) {
        rc = inputs_init(growth, &growth->layer[l], &edges, err);
    }
    for (uint32_t l = 0; rc == 0 && l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        for (size_t k = 0; rc == 0 && k < layer->inputs; k++) {
            rc = edge_prepare(growth, &layer->input[k], err);
        }
        if (rc == 0) {
            rc = check_limits(growth, picks_bytes(layer), err);
        }
        if (rc == 0 && !picks_create(layer)) {
            rc = error_no_memory(err);
        }
    }
    // Counted for this only.
    for (uint32_t l = 0; l < growth->count && growth->layer[l].input != NULL; l++) {
        for (size_t k = 0; k < growth->layer[l].inputs; k++) {
            if (growth->layer[l].input[k].source != NULL) {
                growth->layer[l].input[k].source->coming = 0;
                growth->layer[l].input[k].source->readers_coming = 0;
                growth->layer[l].input[k].source->links_coming = 0;
            }
        }
    }
    return rc;
}

// ---- arrays -------------------------------------------------------------------------------------

// Hands out pieces of one zeroed block; first pass with base NULL to learn the size.
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *carver, uint64_t count, size_t size)
{
    void *at = carver->base != NULL ? carver->base + carver->used : NULL;

    carver->used += (size_t)(count * size + 7) & ~(size_t)7;
    return at;
}

static void carve_bits(struct carver *carver, struct bits *bits, uint32_t size)
{
    bits->size = size;
    bits->word = carve(carver, bits_words(size), sizeof(uint64_t));
}

static void carve_all(struct growth *growth, struct carver *carver)
{
    for (uint32_t l = 0; l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        layer->value = carve(carver, layer->tasks, sizeof(uint32_t));
        if (layer->counts) {
            layer->consumers =
                carve(carver, layer->tasks, layer->crowded ? sizeof(uint32_t) : sizeof(uint16_t));
        }
        layer->owner = carve(carver, layer->tasks, sizeof(uint16_t));
        layer->state = carve(carver, layer->tasks, 1);
        carve_bits(carver, &layer->ready, layer->tasks);
        carve_bits(carver, &layer->unsettled, layer->tasks);
        carve_bits(carver, &layer->released, layer->tasks);
        if (layer->wanted) {
            carve_bits(carver, &layer->results, layer->tasks);
        }
        // With nothing wanted, any layer may turn out to be where the job ends.
        if (growth->job->sched->options.records &&
            (layer->wanted || !(growth->job->any_wanted || growth->any_wanted))) {
            carve_bits(carver, &layer->over, layer->tasks);
        }
    }
}

static int arrays_prepare(struct growth *growth, struct error *err)
{
    struct carver carver = {NULL, 0};
    int rc;

    carve_all(growth, &carver);
    rc = check_limits(growth, carver.used, err);
    if (rc < 0) {
        return rc;
    }
    if (carver.used <= SMALL_BYTES) {
        carver.base = arena_zalloc(&growth->job->arena, carver.used);
    } else {
        growth->slab = calloc(1, sizeof(*growth->slab) + carver.used);
        growth->bytes += carver.used;
        carver.base = growth->slab != NULL ? growth->slab->data : NULL;
    }
    if (carver.base == NULL) {
        return error_no_memory(err);
    }
    carver.used = 0;
    carve_all(growth, &carver);
    return 0;
}

// The lane of what the layer asks for; one that is not used after all does no harm.
static int lane_prepare(struct job *job, struct layer *layer)
{
    struct lane *lane = &job->lane;
    struct demand *demand;

    if (demand_get(job->sched, layer->graph, &demand) < 0) {
        return -ENOMEM;
    }
    while (lane->demand != demand && lane->next != NULL) {
        lane = lane->next;
    }
    if (lane->demand == demand) {
        demand_put(job->sched, demand); // the lane has it
    } else {
        lane->next = arena_zalloc(&job->arena, sizeof(*lane));
        if (lane->next == NULL) {
            demand_put(job->sched, demand);
            return -ENOMEM;
        }
        lane = lane->next;
        lane->demand = demand;
    }
    layer->lane = lane;
    return 0;
}

static int layers_prepare(struct growth *growth, const Dray__Graph *graph, struct error *err)
{
    struct job *job = growth->job;

    growth->layer = arena_array(&job->arena, growth->count, sizeof(*growth->layer));
    if (growth->layer == NULL) {
        return error_no_memory(err);
    }
    memset(growth->layer, 0, growth->count * sizeof(*growth->layer));
    for (uint32_t l = 0; l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        layer->job = job;
        layer->graph = graph->layer[l];
        layer->number = growth->first + l;
        layer->group = layer->number;
        layer->tasks = layer->graph->tasks;
        layer->wanted = layer->graph->has_wanted && layer->graph->wanted;
        layer->inputs = layer->graph->n_input;
        layer->root = layer->inputs == 0;
        growth->tasks += layer->tasks;
        growth->any_wanted |= layer->wanted;
        if (lane_prepare(job, layer) < 0) {
            return error_no_memory(err);
        }
    }
    return 0;
}

static const Dray__Graph *graph_copy(struct job *job, const Dray__Graph *graph)
{
    size_t size = dray__graph__get_packed_size(graph);
    uint8_t *packed = malloc(size > 0 ? size : 1);
    const Dray__Graph *copy;

    if (packed == NULL) {
        return NULL;
    }
    dray__graph__pack(graph, packed);
    copy = dray__graph__unpack(&job->arena.protobuf, size, packed);
    free(packed);
    return copy;
}

int growth_open(struct job *job, struct error *err)
{
    return tables_grow(job, 0, err);
}

int growth_prepare(struct growth *growth, struct job *job, const Dray__Graph *graph, struct arena *arena,
                   struct error *err)
{
    int rc;

    *growth = (struct growth){.job = job,
                              .first = job->layers,
                              .count = (uint32_t)graph->n_layer,
                              .arena_before = job->arena.used};
    rc = tables_grow(job, growth->first + growth->count, err);
    if (rc < 0) {
        return rc;
    }
    if (arena != NULL && arena->used > SMALL_BYTES) {
        growth->arena = arena;
        growth->bytes += arena->used;
    } else {
        graph = graph_copy(job, graph);
    }
    rc = graph != NULL ? layers_prepare(growth, graph, err) : error_no_memory(err);
    if (rc == 0) {
        rc = check_limits(growth, 0, err);
    }
    if (rc == 0) {
        rc = edges_prepare(growth, err);
    }
    if (rc == 0) {
        rc = arrays_prepare(growth, err);
    }
    if (rc < 0) {
        growth_undo(growth);
    } else {
        growth->bytes += job->arena.used - growth->arena_before;
    }
    return rc;
}

void growth_undo(struct growth *growth)
{
    for (uint32_t l = 0; growth->layer != NULL && l < growth->count; l++) {
        struct layer *layer = &growth->layer[l];

        for (size_t k = 0; layer->input != NULL && k < layer->inputs; k++) {
            edge_index_destroy(layer->input[k].reverse);
        }
        free(layer->link);
    }
    free(growth->slab);
}
