#include "broker/core/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/failure.h"
#include "broker/core/worker.h"

static bool is_whole(const Dray__Input *input)
{
    return input->pattern == DRAY__PATTERN__ALL || input->pattern == DRAY__PATTERN__BROADCAST;
}

static int graph_copy(struct job *job, const Dray__Graph *graph, struct error *err)
{
    size_t size = dray__graph__get_packed_size(graph);
    uint8_t *packed = malloc(size > 0 ? size : 1);

    if (packed == NULL) {
        return error_no_memory(err);
    }
    dray__graph__pack(graph, packed);
    job->graph = dray__graph__unpack(&job->arena.protobuf, size, packed);
    free(packed);
    return job->graph != NULL ? 0 : error_no_memory(err);
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
    case DRAY__PATTERN__EXPLICIT:
        return edge->input->n_target;
    default:
        return tasks;
    }
}

// Edges both ways of all layers.
static int edges_create(struct job *job, struct error *err)
{
    uint64_t edges = 0;

    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        layer->input = arena_array(&job->arena, layer->inputs, sizeof(*layer->input));
        layer->input_tasks = arena_array(&job->arena, layer->inputs, sizeof(uint32_t));
        if (layer->input == NULL || layer->input_tasks == NULL) {
            return error_no_memory(err);
        }
        for (size_t k = 0; k < layer->inputs; k++) {
            struct edge *edge = &layer->input[k];

            memset(edge, 0, sizeof(*edge));
            edge->input = layer->graph->input[k];
            edge->source = job->layer[edge->input->layer];
            edge->target = layer;
            edge->whole = is_whole(edge->input);
            edge->source->dependents++;
            edge->source->neighbours |= edge->input->pattern == DRAY__PATTERN__WINDOW;
            layer->input_tasks[k] = edge->source->tasks;
            if (edge->whole) {
                layer->blocked++;
                continue;
            }
            layer->local = true;
            edges += edge_count(edge);
            if (edges > EDGES_MAX) {
                return error_set(err, E2BIG,
                                 "the graph has more than %llu dependencies between single tasks (layer %u)",
                                 (unsigned long long)EDGES_MAX, l);
            }
        }
    }
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        layer->dependent = arena_array(&job->arena, layer->dependents, sizeof(struct edge *));
        if (layer->dependent == NULL) {
            return error_no_memory(err);
        }
        layer->dependents = 0;
    }
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        for (size_t k = 0; k < layer->inputs; k++) {
            struct edge *edge = &layer->input[k];

            edge->source->dependent[edge->source->dependents++] = edge;
            if (edge->input->pattern == DRAY__PATTERN__EXPLICIT) {
                edge->reverse = edge_index_create(edge->input, layer->tasks, edge->source->tasks);
                if (edge->reverse == NULL) {
                    return error_no_memory(err);
                }
                job->bytes += ((uint64_t)edge->input->n_target + edge->source->tasks) * sizeof(uint32_t);
            }
        }
    }
    return 0;
}

static int layers_create(struct job *job, struct error *err)
{
    bool any_wanted = false;
    struct layer *block;

    job->layers = (uint32_t)job->graph->n_layer;
    block = arena_array(&job->arena, job->layers, sizeof(*block));
    job->layer = arena_array(&job->arena, job->layers, sizeof(struct layer *));
    if (job->layer == NULL || block == NULL) {
        job->layers = 0;
        return error_no_memory(err);
    }
    memset(block, 0, job->layers * sizeof(*block));
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l] = &block[l];

        layer->job = job;
        layer->graph = job->graph->layer[l];
        layer->number = l;
        layer->tasks = layer->graph->tasks;
        layer->wanted = layer->graph->has_wanted && layer->graph->wanted;
        layer->inputs = layer->graph->n_input;
        layer->root = layer->inputs == 0;
        any_wanted = any_wanted || layer->wanted;
    }
    int rc = edges_create(job, err);

    if (rc < 0) {
        return rc;
    }
    // Nothing wanted: then it is run for what it does, to its last layers.
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        layer->goal = any_wanted ? layer->wanted : layer->dependents == 0;
    }
    return 0;
}

static uint32_t group_of(struct layer *layer)
{
    struct job *job = layer->job;
    uint32_t group = layer->number;

    while (job->layer[group]->group != group) {
        group = job->layer[group]->group;
    }
    while (layer->group != group) {
        struct layer *next = job->layer[layer->group];

        layer->group = group;
        layer = next;
    }
    return group;
}

enum { PRIORITY_BITS = 31 };

// Least first.  Higher priorities; then later layers, so that partitions are released soonest; then
// what has no inputs, by groups, in the order of the graph.
static uint64_t layer_key(const struct layer *layer)
{
    int64_t most = (INT64_C(1) << (PRIORITY_BITS - 1)) - 1;
    int64_t priority = layer->graph->has_priority ? layer->graph->priority : 0;
    uint64_t key;

    priority = priority > most ? most : priority < -most ? -most : priority;
    key = (uint64_t)(most - priority) << (64 - PRIORITY_BITS);
    if (layer->root) {
        return key | UINT64_C(1) << 32 | (uint64_t)layer->group << 16 | layer->number;
    }
    return key | (GRAPH_LAYERS_MAX - 1 - layer->number);
}

// Layers that are tied by local edges run in step, a whole edge is a barrier.
static void order_layers(struct job *job)
{
    for (uint32_t l = 0; l < job->layers; l++) {
        job->layer[l]->group = l;
    }
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        for (size_t k = 0; k < layer->inputs; k++) {
            if (!layer->input[k].whole) {
                uint32_t a = group_of(layer);
                uint32_t b = group_of(layer->input[k].source);

                job->layer[a > b ? a : b]->group = a > b ? b : a;
            }
        }
    }
    for (uint32_t l = 0; l < job->layers; l++) {
        job->layer[l]->group = group_of(job->layer[l]);
        job->layer[l]->rank.key = layer_key(job->layer[l]);
    }
}

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

static bool has_local_dependent(const struct layer *layer)
{
    for (size_t k = 0; k < layer->dependents; k++) {
        if (!layer->dependent[k]->whole) {
            return true;
        }
    }
    return false;
}

static void carve_all(struct job *job, struct carver *carver)
{
    carve_bits(carver, &job->unsettled, job->layers);
    carve_bits(carver, &job->dirty, job->layers);
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        layer->value = carve(carver, layer->tasks, sizeof(uint64_t));
        if (has_local_dependent(layer)) {
            layer->consumers = carve(carver, layer->tasks, sizeof(uint32_t));
        }
        layer->owner = carve(carver, layer->tasks, sizeof(uint16_t));
        layer->state = carve(carver, layer->tasks, 1);
        carve_bits(carver, &layer->ready, layer->tasks);
        carve_bits(carver, &layer->unsettled, layer->tasks);
        carve_bits(carver, &layer->released, layer->tasks);
        if (layer->wanted) {
            carve_bits(carver, &layer->results, layer->tasks);
        }
    }
}

// The state of one needed task, and what it means for its inputs.
static enum task_state task_start(struct layer *layer, uint32_t i)
{
    uint64_t pending = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        if (edge->whole) {
            continue;
        }
        struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, i);

        for (uint32_t n = 0; n < span.count; n++) {
            edge->source->consumers[span_at(&span, n)]++;
        }
        pending += span.count;
    }
    layer->value[i] = pending;
    if (pending > 0) {
        return TASK_WAITING;
    }
    bits_set(&layer->ready, i);
    return TASK_READY;
}

// From the last layer to the first: need is known when a layer's turn comes.
static void tasks_start(struct job *job)
{
    for (uint32_t l = job->layers; l-- > 0;) {
        struct layer *layer = job->layer[l];
        bool all = layer->goal || layer->whole_active > 0;
        int flags = layer->goal ? TASK_KEEP : 0;

        if (all && !layer->local) {
            memset(layer->state, TASK_READY | flags, layer->tasks);
            bits_set_range(&layer->ready, 0, layer->tasks);
            layer->in[TASK_READY] = layer->tasks;
        } else {
            for (uint32_t i = 0; i < layer->tasks; i++) {
                bool needed = all || (layer->consumers != NULL && layer->consumers[i] > 0);
                enum task_state state = needed ? task_start(layer, i) : TASK_IDLE;

                layer->state[i] = (uint8_t)((int)state | flags);
                layer->in[state]++;
            }
        }
        uint32_t unfinished = layer_unfinished(layer);

        for (size_t k = 0; unfinished > 0 && k < layer->inputs; k++) {
            if (layer->input[k].whole) {
                layer->input[k].source->whole_active++;
            }
        }
        job->tasks += unfinished;
        job->open += layer->goal ? unfinished : 0;
    }
}

int job_create(struct sched *sched, const Dray__Graph *graph, struct job **out, struct error *err)
{
    struct carver carver = {NULL, 0};
    struct job *job = calloc(1, sizeof(*job));
    int rc;

    if (job == NULL) {
        return error_no_memory(err);
    }
    job->sched = sched;
    job->state = JOB_QUEUED;
    job->told_end = true;
    job->layer_at = job->index_at = UINT32_MAX;
    hash_init(&job->blames);
    hash_init(&job->reasons);
    arena_init(&job->arena, 0);
    rc = graph_copy(job, graph, err);
    if (rc == 0) {
        rc = layers_create(job, err);
    }
    if (rc < 0) {
        goto out;
    }
    carve_all(job, &carver);
    job->slab = calloc(1, carver.used);
    if (job->slab == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    job->bytes += sizeof(*job) + carver.used + job->arena.used;
    carver = (struct carver){job->slab, 0};
    carve_all(job, &carver);
    order_layers(job);
    tasks_start(job);
    job->has_tasks = true;
    *out = job;
    job = NULL;
out:
    job_destroy(job);
    return rc;
}

static void tasks_destroy(struct job *job)
{
    for (uint32_t l = 0; job->layer != NULL && l < job->layers; l++) {
        for (size_t k = 0; job->layer[l]->input != NULL && k < job->layer[l]->inputs; k++) {
            edge_index_destroy(job->layer[l]->input[k].reverse);
        }
    }
    free(job->slab);
    arena_fini(&job->arena);
    job->slab = NULL;
    job->layer = NULL;
    job->graph = NULL;
    job->has_tasks = false;
}

static void blames_destroy(struct job *job)
{
    struct hash_node *node;

    while ((node = hash_any(&job->blames)) != NULL) {
        hash_remove(&job->blames, node);
        free(hash_entry(node, struct blame, node));
    }
    hash_fini(&job->blames);
}

void job_destroy(struct job *job)
{
    if (job == NULL) {
        return;
    }
    tasks_destroy(job);
    blames_destroy(job);
    failures_destroy(job);
    free(job->text);
    free(job->worker_name);
    free(job);
}

static uint64_t key_hash(uint64_t key_hi, uint64_t key_lo)
{
    return hash_mix(key_hi ^ hash_mix(key_lo));
}

void job_commit(struct job *job)
{
    struct sched *sched = job->sched;

    job->number = ++sched->job_last;
    hash_add(&sched->jobs, &job->by_number, hash_mix(job->number));
    hash_add(&sched->keys, &job->by_key, key_hash(job->key_hi, job->key_lo));
    sched->job_count++;
    sched->bytes += job->bytes;
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];

        sched->tasks += layer->tasks;
        for (int s = 0; s < TASK_STATES; s++) {
            sched->in[s] += layer->in[s];
        }
        if (layer->in[TASK_READY] > 0) {
            layer->ready_stamp = ++sched->ready_stamp;
            layer_wake(layer);
        }
    }
    if (job->open == 0) {
        job_mark_dirty(job);
    }
}

struct job *job_find(const struct sched *sched, uint32_t number)
{
    struct hash_node *node = hash_first(&sched->jobs, hash_mix(number));

    // The mix of 64 bits is one-to-one, so an equal hash is an equal number.
    return node != NULL ? hash_entry(node, struct job, by_number) : NULL;
}

struct job *job_find_key(const struct sched *sched, uint64_t key_hi, uint64_t key_lo)
{
    struct hash_node *node = hash_first(&sched->keys, key_hash(key_hi, key_lo));

    while (node != NULL) {
        struct job *job = hash_entry(node, struct job, by_key);

        if (job->key_hi == key_hi && job->key_lo == key_lo) {
            return job;
        }
        node = hash_next(node);
    }
    return NULL;
}

void job_attach(struct job *job, struct client *client)
{
    job_detach(job);
    job->client = client;
    job->client_prev = NULL;
    job->client_next = client->jobs;
    if (client->jobs != NULL) {
        client->jobs->client_prev = job;
    }
    client->jobs = job;
}

void job_detach(struct job *job)
{
    if (job->client == NULL) {
        return;
    }
    if (job->client_prev != NULL) {
        job->client_prev->client_next = job->client_next;
    } else {
        job->client->jobs = job->client_next;
    }
    if (job->client_next != NULL) {
        job->client_next->client_prev = job->client_prev;
    }
    job->client = NULL;
    job->client_prev = job->client_next = NULL;
}

// Gives up all tasks and partitions; workers are told to forget the job when it is flushed.
static void job_drop_tasks(struct job *job)
{
    struct sched *sched = job->sched;

    if (!job->has_tasks) {
        return;
    }
    for (uint32_t l = 0; l < job->layers; l++) {
        struct layer *layer = job->layer[l];
        uint32_t here = layer->in[TASK_HELD] + layer->in[TASK_ASSIGNED];

        for (uint32_t i = 0; here > 0 && i < layer->tasks; i++) {
            enum task_state state = task_state(layer, i);

            if (state == TASK_HELD) {
                sched->worker[layer->owner[i]]->partitions--;
                here--;
            } else if (state == TASK_ASSIGNED) {
                worker_unassign(sched->worker[layer->owner[i]], layer, i);
                here--;
            }
        }
        for (int s = 0; s < TASK_STATES; s++) {
            sched->in[s] -= layer->in[s];
            layer->in[s] = 0;
        }
        layer_wake(layer);
        sched->tasks -= layer->tasks;
    }
    for (struct knows *knows = job->knows; knows != NULL; knows = knows->job_next) {
        worker_purge(knows->worker, job);
    }
    // An event's settling is over or has nothing left to settle here.
    for (struct job **link = &sched->unsettled; *link != NULL; link = &(*link)->unsettled_next) {
        if (*link == job) {
            *link = job->unsettled_next;
            job->is_unsettled = false;
            break;
        }
    }
    job->assigned = job->open = 0;
    sched->bytes -= job->bytes;
    tasks_destroy(job);
    job_mark_dirty(job);
}

static void job_set_why(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
                        const char *worker_name)
{
    free(job->text);
    free(job->worker_name);
    job->text = text != NULL ? strdup(text) : NULL;
    job->worker_name = worker_name != NULL ? strdup(worker_name) : NULL;
    job->code = code;
    job->layer_at = layer;
    job->index_at = index;
}

static void job_end_as(struct job *job, enum job_state state)
{
    job->state = state;
    job->told_end = false;
    job_mark_dirty(job);
    job_drop_tasks(job);
}

void job_end(struct job *job, enum job_state state, int code, const char *text, uint32_t layer,
             uint32_t index, const char *worker_name)
{
    job_set_why(job, code, text, layer, index, worker_name);
    job_end_as(job, state);
}

void job_doom(struct job *job, int code, const char *text, uint32_t layer, uint32_t index,
              const char *worker_name)
{
    if (!job->is_doomed) {
        job->is_doomed = true;
        job->doomed_next = job->sched->doomed;
        job->sched->doomed = job;
        job_set_why(job, code, text, layer, index, worker_name);
    }
}

void jobs_end_doomed(struct sched *sched)
{
    while (sched->doomed != NULL) {
        struct job *job = sched->doomed;

        sched->doomed = job->doomed_next;
        job->is_doomed = false;
        if (!job->forgotten) {
            job_end_as(job, JOB_FAILED);
        }
    }
}

void job_forget(struct job *job)
{
    struct sched *sched = job->sched;

    job_drop_tasks(job);
    hash_remove(&sched->jobs, &job->by_number);
    hash_remove(&sched->keys, &job->by_key);
    sched->job_count--;
    job->forgotten = true;
    job_mark_dirty(job);
}

struct blame *job_blame(struct job *job, uint32_t layer, uint32_t index)
{
    uint64_t hash = hash_mix((uint64_t)layer << 32 | index);
    struct hash_node *node = hash_first(&job->blames, hash);

    if (node != NULL) {
        return hash_entry(node, struct blame, node);
    }
    struct blame *blame = calloc(1, sizeof(*blame));

    if (blame != NULL) {
        blame->layer = layer;
        blame->index = index;
        hash_add(&job->blames, &blame->node, hash);
    }
    return blame;
}

void job_forgive(struct job *job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&job->blames, hash_mix((uint64_t)layer << 32 | index));

    if (node != NULL) {
        hash_remove(&job->blames, node);
        free(hash_entry(node, struct blame, node));
    }
}

void task_describe(const struct layer *layer, uint32_t index, char *out, size_t size)
{
    if (layer->graph->name != NULL && layer->graph->name[0] != '\0') {
        snprintf(out, size, "task %.200s[%u]", layer->graph->name, index);
    } else {
        snprintf(out, size, "task %u of layer %u", index, layer->number);
    }
}
