#include "broker/core/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { THREADS_MAX = 4096, SLOTS_MAX = 1 << 16 };

static uint32_t slot_take(struct sched *sched)
{
    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        if (sched->worker[s] == NULL) {
            return s;
        }
    }
    if (sched->worker_slots == sched->worker_capacity) {
        uint32_t capacity = sched->worker_capacity > 0 ? sched->worker_capacity * 2 : 16;
        struct worker **grown = realloc(sched->worker, capacity * sizeof(struct worker *));

        if (grown == NULL) {
            return OWNER_NONE;
        }
        sched->worker = grown;
        sched->worker_capacity = capacity;
    }
    sched->worker[sched->worker_slots] = NULL;
    return sched->worker_slots++;
}

static void load_insert(struct sched *sched, struct worker *worker)
{
    struct worker *tail = sched->load_tail[worker->load];

    worker->load_prev = tail;
    worker->load_next = NULL;
    if (tail != NULL) {
        tail->load_next = worker;
    } else {
        sched->load_head[worker->load] = worker;
    }
    sched->load_tail[worker->load] = worker;
}

static void load_remove(struct sched *sched, struct worker *worker)
{
    if (worker->load_prev != NULL) {
        worker->load_prev->load_next = worker->load_next;
    } else {
        sched->load_head[worker->load] = worker->load_next;
    }
    if (worker->load_next != NULL) {
        worker->load_next->load_prev = worker->load_prev;
    } else {
        sched->load_tail[worker->load] = worker->load_prev;
    }
}

int worker_create(struct sched *sched, uint32_t peer, uint32_t threads, uint64_t memory, bool shared_files,
                  const char *name)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    uint64_t slots;
    uint32_t number;

    if (worker == NULL) {
        return -ENOMEM;
    }
    worker->peer = peer;
    worker->threads = threads == 0 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    slots = (uint64_t)worker->threads * (1 + (uint64_t)sched->options.queue_depth);
    worker->slots = slots > SLOTS_MAX ? SLOTS_MAX : (uint32_t)slots;
    worker->memory = memory;
    worker->shared_files = shared_files;
    worker->queue_capacity = 2 * worker->slots + 16;
    hash_init(&worker->sources);
    worker->name = strdup(name != NULL ? name : "");
    worker->queue = malloc(worker->queue_capacity * sizeof(*worker->queue));
    number = sched->worker_count < WORKERS_MAX ? slot_take(sched) : OWNER_NONE;
    if (worker->name == NULL || worker->queue == NULL || number == OWNER_NONE) {
        free(worker->name);
        free(worker->queue);
        free(worker);
        return -ENOMEM;
    }
    worker->number = (uint16_t)number;
    sched->worker[number] = worker;
    sched->worker_count++;
    sched->unshared += shared_files ? 0 : 1;
    hash_add(&sched->workers, &worker->node, hash_mix(peer));
    load_insert(sched, worker);
    return 0;
}

void worker_destroy(struct sched *sched, struct worker *worker)
{
    while (worker->knows != NULL) {
        knows_destroy(sched, worker->knows);
    }
    if (worker->is_dirty) {
        struct worker **link = &sched->dirty_workers;

        while (*link != worker) {
            link = &(*link)->dirty_next;
        }
        *link = worker->dirty_next;
    }
    load_remove(sched, worker);
    hash_remove(&sched->workers, &worker->node);
    sched->worker[worker->number] = NULL;
    sched->worker_count--;
    sched->unshared -= worker->shared_files ? 0 : 1;
    hash_fini(&worker->sources);
    free(worker->sources_block);
    free(worker->queue);
    free(worker->name);
    free(worker);
}

struct worker *worker_find(const struct sched *sched, uint32_t peer)
{
    struct hash_node *node = hash_first(&sched->workers, hash_mix(peer));

    return node != NULL ? hash_entry(node, struct worker, node) : NULL;
}

struct knows *worker_knows(struct worker *worker, struct job *job)
{
    struct sched *sched = job->sched;
    uint64_t hash = hash_mix((uint64_t)job->number << 16 | worker->number);
    struct hash_node *node = hash_first(&sched->knows, hash);
    size_t words = job->layers / 64 + 1;
    struct knows *knows;

    if (node != NULL) {
        return hash_entry(node, struct knows, node);
    }
    knows = calloc(1, sizeof(*knows) + 2 * words * sizeof(uint64_t));
    if (knows == NULL) {
        return NULL;
    }
    knows->worker = worker;
    knows->job = job;
    knows->told = (uint64_t *)(knows + 1);
    knows->holds = knows->told + words;
    knows->job_next = job->knows;
    if (job->knows != NULL) {
        job->knows->job_prev = knows;
    }
    job->knows = knows;
    knows->worker_next = worker->knows;
    if (worker->knows != NULL) {
        worker->knows->worker_prev = knows;
    }
    worker->knows = knows;
    hash_add(&sched->knows, &knows->node, hash);
    return knows;
}

void knows_destroy(struct sched *sched, struct knows *knows)
{
    if (knows->job_prev != NULL) {
        knows->job_prev->job_next = knows->job_next;
    } else {
        knows->job->knows = knows->job_next;
    }
    if (knows->job_next != NULL) {
        knows->job_next->job_prev = knows->job_prev;
    }
    if (knows->worker_prev != NULL) {
        knows->worker_prev->worker_next = knows->worker_next;
    } else {
        knows->worker->knows = knows->worker_next;
    }
    if (knows->worker_next != NULL) {
        knows->worker_next->worker_prev = knows->worker_prev;
    }
    hash_remove(&sched->knows, &knows->node);
    free(knows);
}

bool worker_has(const struct worker *worker, const struct slot *slot)
{
    return task_state(slot->layer, slot->index) == TASK_ASSIGNED &&
           slot->layer->owner[slot->index] == worker->number;
}

// Keeps the newest entry of each task that is still assigned here, in order.
static void queue_compact(struct worker *worker)
{
    uint32_t at = worker->queue_count;
    uint32_t told = 0;
    uint32_t kept;

    for (uint32_t k = worker->queue_count; k-- > 0;) {
        struct slot slot = worker->queue[k];

        if (!worker_has(worker, &slot) || (slot.layer->state[slot.index] & TASK_SEEN) != 0) {
            continue;
        }
        slot.layer->state[slot.index] |= TASK_SEEN;
        worker->queue[--at] = slot;
        told += k < worker->queue_told ? 1 : 0;
    }
    kept = worker->queue_count - at;
    memmove(worker->queue, worker->queue + at, kept * sizeof(*worker->queue));
    for (uint32_t k = 0; k < kept; k++) {
        worker->queue[k].layer->state[worker->queue[k].index] &= (uint8_t)~TASK_SEEN;
    }
    worker->queue_count = kept;
    worker->queue_told = told;
}

void worker_purge(struct worker *worker, const struct job *job)
{
    uint32_t kept = 0;
    uint32_t told = 0;

    for (uint32_t k = 0; k < worker->queue_count; k++) {
        if (worker->queue[k].layer->job != job) {
            told += k < worker->queue_told ? 1 : 0;
            worker->queue[kept++] = worker->queue[k];
        }
    }
    worker->queue_count = kept;
    worker->queue_told = told;
    worker_reload(job->sched, worker);
}

void worker_mark_dirty(struct sched *sched, struct worker *worker)
{
    if (!worker->is_dirty) {
        worker->is_dirty = true;
        worker->dirty_next = sched->dirty_workers;
        sched->dirty_workers = worker;
    }
}

void worker_assign(struct worker *worker, struct layer *layer, uint32_t i)
{
    if (worker->queue_count == worker->queue_capacity) {
        queue_compact(worker);
    }
    worker->queue[worker->queue_count++] = (struct slot){layer, i};
    worker->assigned++;
    layer->owner[i] = worker->number;
    layer->state[i] &= (uint8_t)~TASK_RECALL;
    task_move(layer, i, TASK_ASSIGNED);
}

void worker_unassign(struct worker *worker, struct layer *layer, uint32_t i)
{
    worker->assigned--;
    if ((layer->state[i] & TASK_RECALL) != 0) {
        layer->state[i] &= (uint8_t)~TASK_RECALL;
        worker->recalled--;
    }
}

void worker_reload(struct sched *sched, struct worker *worker)
{
    uint8_t load = worker_load(worker);

    if (load != worker->load) {
        load_remove(sched, worker);
        worker->load = load;
        load_insert(sched, worker);
    }
}

static uint64_t text_hash(const char *text)
{
    return XXH3_64bits(text, strlen(text));
}

struct source_name {
    struct hash_node node;
    const char *text;
};

static bool reads_name(const struct worker *worker, const char *text)
{
    struct hash_node *node = hash_first(&worker->sources, text_hash(text));

    while (node != NULL && strcmp(hash_entry(node, struct source_name, node)->text, text) != 0) {
        node = hash_next(node);
    }
    return node != NULL;
}

int worker_set_sources(struct worker *worker, size_t count, const char *const *name, const char *const *path)
{
    size_t bytes = 0;
    struct source_name *names;
    char *text;

    for (size_t k = 0; k < count; k++) {
        bytes += strlen(name[k]) + strlen(path[k]) + 2;
    }
    names = malloc(2 * count * sizeof(*names) + bytes + 1);
    if (names == NULL) {
        return -ENOMEM;
    }
    free(worker->sources_block);
    hash_fini(&worker->sources);
    worker->sources_block = names;
    text = (char *)(names + 2 * count);
    for (size_t k = 0; k < 2 * count; k++) {
        const char *from = k % 2 == 0 ? name[k / 2] : path[k / 2];
        size_t size = strlen(from) + 1;

        memcpy(text, from, size);
        names[k].text = text;
        hash_add(&worker->sources, &names[k].node, text_hash(text));
        text += size;
    }
    worker->sources_known = true;
    worker->barren_stamp = 0;
    return 0;
}

bool worker_reads(const struct worker *worker, const Dray__Source *source)
{
    return source == NULL || worker->shared_files || reads_name(worker, source->name) ||
           (source->path != NULL && reads_name(worker, source->path));
}

const Dray__Source *source_of(const struct layer *layer, uint32_t i)
{
    size_t low = 0;
    size_t high = layer->graph->n_source;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const Dray__Source *source = layer->graph->source[middle];

        if (i < source->first) {
            high = middle;
        } else if (i - source->first >= source->count) {
            low = middle + 1;
        } else {
            return source;
        }
    }
    return NULL;
}
