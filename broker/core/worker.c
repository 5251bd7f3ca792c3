#include "broker/core/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "broker/core/estimate.h"
#include "broker/core/share.h"
#include "broker/core/speculate.h"

enum {
    THREADS_MAX = 4096,
    QUEUE_FIRST = 64,
    PACED_MAX = 64, // latest tasks that a pace is made of
    PACED_REST = 8,
    PACE_FACTOR = 32, // no worker is taken to be faster or slower by more
};

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

// One that has just become idle is the next to get something: its process is awake, its caches are warm.
static void load_push_idle(struct sched *sched, struct worker *worker)
{
    struct worker *head = sched->load_head[0];

    worker->load_prev = NULL;
    worker->load_next = head;
    if (head != NULL) {
        head->load_prev = worker;
    } else {
        sched->load_tail[0] = worker;
    }
    sched->load_head[0] = worker;
    sched->load_used[0] |= 1;
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
    sched->load_used[worker->load / 64] |= UINT64_C(1) << (worker->load % 64);
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
    if (sched->load_head[worker->load] == NULL) {
        sched->load_used[worker->load / 64] &= ~(UINT64_C(1) << (worker->load % 64));
    }
}

// The first worker of the least level that is at least `load` and not full.
static struct worker *load_from(const struct sched *sched, unsigned load)
{
    for (unsigned half = load / 64; half < 2; half++) {
        uint64_t used = sched->load_used[half];

        if (half == load / 64) {
            used &= UINT64_MAX << (load % 64);
        }
        if (used != 0) {
            unsigned found = half * 64 + (unsigned)__builtin_ctzll(used);

            return found < LOAD_FULL ? sched->load_head[found] : NULL;
        }
    }
    return NULL;
}

struct worker *load_first(const struct sched *sched)
{
    return load_from(sched, 0);
}

struct worker *load_next(const struct sched *sched, const struct worker *worker)
{
    return worker->load_next != NULL ? worker->load_next : load_from(sched, worker->load + 1U);
}

int load_below(const struct sched *sched, int load)
{
    for (int half = (load - 1) / 64; load > 0 && half >= 0; half--) {
        uint64_t used = sched->load_used[half];

        if (half == (load - 1) / 64 && load % 64 != 0) {
            used &= (UINT64_C(1) << (load % 64)) - 1;
        }
        if (used != 0) {
            return half * 64 + 63 - __builtin_clzll(used);
        }
    }
    return -1;
}

static void worker_free(struct worker *worker)
{
    hash_fini(&worker->sources);
    offer_fini(worker);
    free(worker->sources_block);
    free(worker->queue);
    free(worker->name);
    free(worker);
}

// Into a free slot, where all demands are asked whether it meets them.
static int worker_place(struct sched *sched, struct worker *worker)
{
    uint32_t number = sched->worker_count < WORKERS_MAX ? slot_take(sched) : OWNER_NONE;

    if (number == OWNER_NONE) {
        return -ENOMEM;
    }
    worker->number = (uint16_t)number;
    if (demands_meet(sched, worker) < 0) {
        return -ENOMEM;
    }
    sched->worker[number] = worker;
    return 0;
}

int worker_create(struct sched *sched, const struct sched_event *joined)
{
    const char *name = joined->u.joined.name;
    uint32_t threads = joined->u.joined.threads;
    struct worker *worker = calloc(1, sizeof(*worker));

    if (worker == NULL) {
        return -ENOMEM;
    }
    worker->peer = joined->u.joined.worker;
    worker->pace = PACE;
    worker->threads = threads == 0 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    worker->least = worker->threads * (sched->options.queue_depth > 0 ? 2 : 1);
    worker->memory = joined->u.joined.memory;
    worker->incarnation = joined->u.joined.incarnation;
    worker->shared_files = joined->u.joined.shared_files;
    worker->queue_capacity = QUEUE_FIRST;
    hash_init(&worker->sources);
    worker->name = strdup(name != NULL ? name : "");
    worker->queue = malloc(worker->queue_capacity * sizeof(*worker->queue));
    if (worker->name == NULL || worker->queue == NULL || offer_init(worker, joined) < 0 ||
        worker_place(sched, worker) < 0) {
        worker_free(worker);
        return -ENOMEM;
    }
    sched->worker_count++;
    sched->threads += worker->threads;
    sched->unshared += worker->shared_files ? 0 : 1;
    hash_add(&sched->workers, &worker->node, hash_mix(worker->peer));
    load_insert(sched, worker);
    return 0;
}

void worker_destroy(struct sched *sched, struct worker *worker)
{
    twins_end(sched, worker, true);
    sched->shipments_stale = true;
    sched->resting -= worker->rests_until_us != 0;
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
    if (worker->is_ahead) {
        struct worker **link = &sched->ahead;

        while (*link != worker) {
            link = &(*link)->ahead_next;
        }
        *link = worker->ahead_next;
    }
    load_remove(sched, worker);
    hash_remove(&sched->workers, &worker->node);
    demands_part(sched, worker);
    sched->worker[worker->number] = NULL;
    sched->worker_count--;
    sched->leavers -= worker->leaving ? 1 : 0;
    sched->closed -= worker->closed ? 1 : 0;
    sched->threads -= worker->threads;
    sched->unshared -= worker->shared_files ? 0 : 1;
    worker_free(worker);
}

struct worker *worker_find(const struct sched *sched, uint32_t peer)
{
    struct hash_node *node = hash_first(&sched->workers, hash_mix(peer));

    return node != NULL ? hash_entry(node, struct worker, node) : NULL;
}

static bool knows_resize(struct knows *knows, uint32_t capacity)
{
    size_t words = capacity / 64 + 1;
    size_t before = knows->capacity / 64 + 1;
    uint64_t *told = calloc(3 * words, sizeof(*told));

    if (told == NULL) {
        return false;
    }
    if (knows->told != NULL) {
        memcpy(told, knows->told, before * sizeof(*told));
        memcpy(told + words, knows->holds, before * sizeof(*told));
        memcpy(told + 2 * words, knows->located, before * sizeof(*told));
        free(knows->told);
    }
    knows->told = told;
    knows->holds = told + words;
    knows->located = told + 2 * words;
    knows->capacity = capacity;
    return true;
}

bool knows_grow(struct job *job, uint32_t capacity)
{
    for (struct knows *knows = job->knows; knows != NULL; knows = knows->job_next) {
        if (knows->capacity < capacity && !knows_resize(knows, capacity)) {
            return false;
        }
    }
    return true;
}

struct knows *worker_knows(struct worker *worker, struct job *job)
{
    struct sched *sched = job->sched;
    uint64_t hash = hash_mix((uint64_t)job->number << 16 | worker->number);
    struct hash_node *node = hash_first(&sched->knows, hash);
    struct knows *knows;

    if (node != NULL) {
        return hash_entry(node, struct knows, node);
    }
    knows = calloc(1, sizeof(*knows));
    if (knows == NULL || !knows_resize(knows, job->layer_capacity)) {
        free(knows);
        return NULL;
    }
    knows->worker = worker;
    knows->job = job;
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

void worker_unlocate(const struct worker *worker, const struct layer *layer)
{
    const struct sched *sched = layer->job->sched;
    struct hash_node *node =
        hash_first(&sched->knows, hash_mix((uint64_t)layer->job->number << 16 | worker->number));

    if (node != NULL) {
        knows_clear(hash_entry(node, struct knows, node)->located, layer->number);
    }
}

void knows_destroy(struct sched *sched, struct knows *knows)
{
    if (knows->worker->pass == knows) {
        knows->worker->pass = knows->worker_next;
        knows->worker->pass_layer = knows->worker->pass_index = 0;
    }
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
    free(knows->told);
    free(knows);
}

// Cuts what is over off both ends; false: nothing is left.
static bool slot_trim(const struct worker *worker, struct slot *slot)
{
    while (slot->count > 0 && !worker_has(worker, slot->layer, slot->first)) {
        slot->first++;
        slot->count--;
    }
    while (slot->count > 0 && !worker_has(worker, slot->layer, slot->first + slot->count - 1)) {
        slot->count--;
    }
    return slot->count > 0;
}

// Leaves out the ranges for which `gone` or in which nothing is left.  What is cut off costs a look once.
static void queue_compact(struct worker *worker, const struct job *gone)
{
    uint32_t kept = 0;
    uint32_t told = 0;
    uint32_t ahead = 0;
    uint32_t ahead_from = 0;

    for (uint32_t k = 0; k < worker->queue_count; k++) {
        struct slot slot = worker->queue[k];

        if (slot.layer->job == gone || !slot_trim(worker, &slot)) {
            continue;
        }
        ahead_from = k == worker->queue_ahead ? worker->ahead_from : ahead_from;
        told += k < worker->queue_told ? 1 : 0;
        ahead += k < worker->queue_ahead ? 1 : 0;
        worker->queue[kept++] = slot;
    }
    worker->queue_count = kept;
    worker->queue_told = told;
    worker->queue_ahead = ahead;
    worker->ahead_from = ahead_from;
    worker->queue_over = 0;
}

uint32_t worker_over(struct worker *worker)
{
    while (worker->queue_over < worker->queue_told &&
           !slot_trim(worker, &worker->queue[worker->queue_over])) {
        worker->queue_over++;
    }
    return worker->queue_over;
}

bool worker_reserve(struct worker *worker, uint32_t ranges)
{
    if (worker->queue_capacity - worker->queue_count >= ranges) {
        return true;
    }
    queue_compact(worker, NULL);
    // At least half of it is free after this, so that a range's share of the work is constant.
    uint64_t capacity = worker->queue_capacity;

    while (capacity < 2 * ((uint64_t)worker->queue_count + ranges)) {
        capacity *= 2;
    }
    if (capacity > worker->queue_capacity) {
        struct slot *grown = realloc(worker->queue, capacity * sizeof(*grown));

        if (grown == NULL) {
            return worker->queue_capacity - worker->queue_count >= ranges;
        }
        worker->queue = grown;
        worker->queue_capacity = (uint32_t)capacity;
    }
    return true;
}

void worker_purge(struct worker *worker, const struct job *job)
{
    queue_compact(worker, job);
    worker->prepared = NULL;
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

// Its queue is looked at for what may be assigned ahead, now that it has changed.
static void touch(struct sched *sched, struct worker *worker)
{
    if (!worker->is_ahead && sched->options.ahead && worker_is_ahead_due(worker)) {
        worker->is_ahead = true;
        worker->ahead_next = sched->ahead;
        sched->ahead = worker;
    }
}

bool worker_prepare(struct worker *worker, struct layer *layer)
{
    struct job *job = layer->job;
    struct knows *knows;

    if (worker->prepared == layer && worker->is_dirty) {
        return true;
    }
    knows = worker_knows(worker, job);
    if (knows == NULL) {
        return false;
    }
    knows_set(knows->holds, layer->number);
    if (job->state == JOB_QUEUED) {
        job->state = JOB_RUNNING;
    }
    worker_mark_dirty(job->sched, worker);
    worker->prepared = layer;
    return true;
}

// The task is in its queue.
static void assign(struct worker *worker, struct layer *layer, uint32_t i, bool ahead)
{
    uint32_t charge = layer_charge(layer);

    if (layer->lane->demand != NULL) {
        demand_take(layer->lane->demand, worker);
    }
    worker->assigned++;
    worker->backlog += charge;
    layer->job->sched->backlog += charge;
    job_charge(layer->job, charge);
    layer->owner[i] = worker->number;
    layer->value[i] = charge;
    task_move(layer, i, TASK_ASSIGNED);
    layer->state[i] = (uint8_t)((layer->state[i] & ~TASK_RECALL) | (ahead ? TASK_AHEAD : 0));
    touch(layer->job->sched, worker);
}

void worker_assign(struct worker *worker, struct layer *layer, uint32_t i)
{
    struct slot *last =
        worker->queue_count > worker->queue_told ? &worker->queue[worker->queue_count - 1] : NULL;

    if (last != NULL && last->layer == layer && last->first + last->count == i) {
        last->count++;
    } else {
        worker->queue[worker->queue_count++] = (struct slot){layer, i, 1};
    }
    assign(worker, layer, i, task_state(layer, i) == TASK_WAITING);
}

// Behind what it was told.  Its inputs may not be where it was told they are: so it may give it back unasked,
// as what was assigned ahead.
void worker_resume(struct worker *worker, struct layer *layer, uint32_t i)
{
    uint32_t told = worker->queue_told;
    struct slot *last =
        told > worker->queue_over && told > worker->queue_ahead ? &worker->queue[told - 1] : NULL;

    if (last != NULL && last->layer == layer && last->first + last->count == i) {
        last->count++;
    } else {
        memmove(worker->queue + told + 1, worker->queue + told,
                (worker->queue_count - told) * sizeof(*worker->queue));
        worker->queue[told] = (struct slot){layer, i, 1};
        worker->queue_count++;
        worker->queue_told++;
        worker->queue_ahead += worker->queue_ahead > told ? 1 : 0;
        worker->ahead_from = worker->queue_ahead == told ? 0 : worker->ahead_from;
    }
    assign(worker, layer, i, true);
}

void worker_unassign(struct worker *worker, struct layer *layer, uint32_t i)
{
    if (layer->lane->demand != NULL) {
        demand_give(layer->lane->demand, worker);
    }
    worker->assigned--;
    worker->backlog -= layer->value[i];
    layer->job->sched->backlog -= layer->value[i];
    job_discharge(layer->job, layer->value[i]);
    worker->recalled -= (layer->state[i] & TASK_RECALL) != 0 ? 1 : 0;
    layer->state[i] &= (uint8_t) ~(TASK_RECALL | TASK_AHEAD);
    touch(layer->job->sched, worker);
}

void worker_recharge(struct worker *worker, struct layer *layer, uint32_t i, uint32_t charge)
{
    worker->backlog += (uint64_t)charge - layer->value[i];
    layer->job->sched->backlog += (uint64_t)charge - layer->value[i];
    job_charge(layer->job, (uint64_t)charge - layer->value[i]);
    layer->value[i] = charge;
}

void worker_measure(struct worker *worker, uint32_t tasks, uint64_t expected, uint64_t spent)
{
    uint64_t rest;
    uint64_t pace;

    worker->paced += tasks;
    worker->expected += expected;
    worker->spent += spent;
    // The latest ones count most.
    while (worker->paced > PACED_MAX) {
        worker->paced /= 2;
        worker->expected /= 2;
        worker->spent /= 2;
    }
    // Few tasks say little: as if some more had taken what they should.
    rest = worker->paced > 0 ? worker->expected / worker->paced * PACED_REST : 0;
    if (worker->expected + rest == 0) {
        return;
    }
    pace = (worker->spent + rest) * PACE / (worker->expected + rest);
    // Nor do small differences.
    if (pace > PACE - PACE / 4 && pace < PACE + PACE / 4) {
        pace = PACE;
    }
    worker->pace = pace < PACE / PACE_FACTOR   ? PACE / PACE_FACTOR
                   : pace > PACE * PACE_FACTOR ? PACE * PACE_FACTOR
                                               : (uint32_t)pace;
}

uint32_t worker_space(const struct worker *worker, struct layer *layer)
{
    uint64_t window = (uint64_t)worker->threads * WINDOW;
    uint64_t work = worker_work(worker);
    uint64_t time = worker_time(worker, layer);
    uint64_t room = work < window ? (window - work + time - 1) / time : 0;

    if (worker->leaving || worker->closed || worker->rests_until_us != 0 || worker->assigned >= SLOTS_MAX) {
        return 0;
    }
    if (worker->assigned < worker->least && room < worker->least - worker->assigned) {
        room = worker->least - worker->assigned;
    }
    return room < SLOTS_MAX - worker->assigned ? (uint32_t)room : SLOTS_MAX - worker->assigned;
}

uint8_t worker_load(const struct worker *worker)
{
    uint64_t wait = worker_wait(worker);
    unsigned level;

    if (worker->leaving || worker->closed || worker->rests_until_us != 0 || worker->assigned >= SLOTS_MAX ||
        (wait >= WINDOW && worker->assigned >= worker->least)) {
        return LOAD_FULL;
    }
    if (wait < 4) {
        return (uint8_t)wait;
    }
    // The exponent and the two bits that follow the leading one.
    level = 63U - (unsigned)__builtin_clzll(wait);
    level = (level - 1) * 4 + (unsigned)(wait >> (level - 2) & 3);
    return (uint8_t)(level < LOAD_FULL ? level : LOAD_FULL - 1);
}

void worker_reload(struct sched *sched, struct worker *worker)
{
    uint8_t load = worker_load(worker);

    if (load != worker->load) {
        load_remove(sched, worker);
        worker->load = load;
        if (load == 0) {
            load_push_idle(sched, worker);
        } else {
            load_insert(sched, worker);
        }
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
