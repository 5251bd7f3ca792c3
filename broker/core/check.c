// The invariants of state.h, computed anew from the states alone.
#include "broker/core/sched.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/core/handover.h"
#include "broker/core/job.h"
#include "broker/core/links.h"
#include "broker/core/moment.h"
#include "broker/core/state.h"
#include "broker/core/suspect.h"
#include "broker/core/worker.h"

#define MUST(truth, layer, i)                                                                                \
    do {                                                                                                     \
        if (!(truth)) {                                                                                      \
            fail(#truth, __LINE__, layer, i);                                                                \
        }                                                                                                    \
    } while (0)

static void fail(const char *what, int line, const struct layer *layer, uint32_t i)
{
    fprintf(stderr, "sched_check line %d: not (%s)", line, what);
    if (layer != NULL) {
        fprintf(stderr, " at j%u:t%u.%u (%s)", layer->job->number, layer->number, i,
                i < layer->tasks ? task_state_name(task_state(layer, i)) : "layer");
    }
    fputc('\n', stderr);
    abort();
}

struct tally {
    uint64_t in[TASK_STATES];
    uint64_t tasks, bytes;
    uint32_t *assigned, *recalled; // by slot
    uint64_t *partitions, *backlog, *shipping;
    uint64_t *taken; // of all resources
};

static uint64_t unfinished_dependents(const struct layer *layer, uint32_t i)
{
    uint64_t count = 0;

    struct readers readers = readers_of(layer, i);
    const struct edge *edge;

    while ((edge = readers_next(&readers)) != NULL) {
        struct span span = readers.span;

        for (uint32_t n = 0; n < span.count; n++) {
            count += task_unfinished(edge->target, span_at(&span, n)) ? 1 : 0;
        }
    }
    return count;
}

static uint64_t missing_inputs(const struct layer *layer, uint32_t i)
{
    uint64_t count = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        if (edge->whole) {
            continue;
        }
        struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, i);

        for (uint32_t n = 0; n < span.count; n++) {
            count += task_state(edge->source, span_at(&span, n)) != TASK_HELD ? 1 : 0;
        }
    }
    return count;
}

static uint64_t failed_inputs(const struct layer *layer, uint32_t i)
{
    uint64_t count = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const struct edge *edge = &layer->input[k];

        if (edge->whole) {
            continue;
        }
        struct span span = input_needs(edge->input, layer->tasks, edge->source->tasks, i);

        for (uint32_t n = 0; n < span.count; n++) {
            count += task_state(edge->source, span_at(&span, n)) == TASK_FAILED ? 1 : 0;
        }
    }
    return count;
}

// A task that was given to a worker may be there.
static void check_demand(const struct worker *worker, const struct layer *layer, uint32_t i,
                         struct tally *tally)
{
    const struct demand *demand = layer->lane->demand;

    for (size_t k = 0; demand != NULL && k < demand->resources; k++) {
        tally->taken[worker->number] += demand->resource[k].amount;
    }
    MUST(demand == NULL || demand_is_met(demand, worker), layer, i);
}

static void check_owner(const struct sched *sched, const struct layer *layer, uint32_t i, struct tally *tally)
{
    enum task_state state = task_state(layer, i);
    uint16_t owner = layer->owner[i];

    MUST(owner < sched->worker_slots && sched->worker[owner] != NULL, layer, i);
    struct knows *knows = worker_knows(sched->worker[owner], layer->job);

    MUST(knows != NULL && knows_test(knows->holds, layer->number), layer, i);
    if (state == TASK_HELD) {
        tally->partitions[owner]++;
        tally->shipping[owner] += (layer->state[i] & TASK_RECALL) != 0 ? 1 : 0;
    } else {
        tally->assigned[owner]++;
        tally->backlog[owner] += layer->value[i];
        tally->recalled[owner] += (layer->state[i] & TASK_RECALL) != 0 ? 1 : 0;
        check_demand(sched->worker[owner], layer, i, tally);
    }
}

static void check_task(const struct sched *sched, const struct layer *layer, uint32_t i, struct tally *tally)
{
    enum task_state state = task_state(layer, i);
    bool needed = task_needed(layer, i);

    MUST(state == TASK_FAILED || needed == (task_unfinished(layer, i) || state == TASK_HELD), layer, i);
    MUST(!task_unfinished(layer, i) || (layer->doomed == 0 && failed_inputs(layer, i) == 0), layer, i);
    MUST(state != TASK_FAILED || (layer->value[i] != 0 && layer->cause != 0), layer, i);
    MUST((layer->state[i] & TASK_SEEN) == 0, layer, i);
    MUST((layer->state[i] & TASK_AHEAD) == 0 || state == TASK_ASSIGNED, layer, i);
    MUST(!bits_test(&layer->unsettled, i), layer, i);
    MUST(bits_test(&layer->ready, i) == (state == TASK_READY), layer, i);
    MUST(!bits_test(&layer->released, i) || state == TASK_RELEASED, layer, i);
    MUST(!layer->wanted || !bits_test(&layer->results, i) || state == TASK_HELD || state == TASK_FAILED,
         layer, i);
    MUST(layer->consumers == NULL || consumers_at(layer, i) == unfinished_dependents(layer, i), layer, i);
    if (state == TASK_WAITING) {
        MUST(layer->value[i] == missing_inputs(layer, i) && layer->value[i] > 0, layer, i);
    }
    if (state == TASK_READY) {
        MUST(missing_inputs(layer, i) == 0, layer, i);
    }
    if (state == TASK_HELD || state == TASK_ASSIGNED) {
        check_owner(sched, layer, i, tally);
    }
}

static void check_layer(const struct sched *sched, const struct layer *layer, struct tally *tally)
{
    uint32_t in[TASK_STATES] = {0};
    uint32_t active = 0;
    uint32_t blocked = 0;
    uint32_t doomed = 0;

    for (uint32_t i = 0; i < layer->tasks; i++) {
        check_task(sched, layer, i, tally);
        in[task_state(layer, i)]++;
    }
    for (int s = 0; s < TASK_STATES; s++) {
        MUST(in[s] == layer->in[s], layer, UINT32_MAX);
        tally->in[s] += in[s];
    }
    for (size_t k = 0; k < layer->dependents; k++) {
        active += layer->dependent[k]->whole && layer_unfinished(layer->dependent[k]->target) > 0 ? 1 : 0;
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const struct layer *source = layer->input[k].source;

        blocked += layer->input[k].whole && source->in[TASK_HELD] < source->tasks ? 1 : 0;
        doomed += layer->input[k].whole && source->in[TASK_FAILED] > 0 ? 1 : 0;
    }
    MUST(active == layer->whole_active, layer, UINT32_MAX);
    MUST(blocked == layer->blocked, layer, UINT32_MAX);
    MUST(doomed == layer->doomed, layer, UINT32_MAX);
    MUST(layer->rank.in == (in[TASK_READY] > 0 && blocked == 0), layer, UINT32_MAX);
    tally->tasks += layer->tasks;
}

static void check_job(const struct sched *sched, const struct job *job, struct tally *tally)
{
    uint64_t open = 0;
    uint64_t assigned = 0;
    uint64_t failed = 0;
    uint64_t backlog = 0;

    MUST(!job->is_unsettled && !job->is_doomed && !job->forgotten, NULL, 0);
    MUST(job->has_tasks ? job->bytes >= job->lasting : job->bytes == job->lasting, NULL, 0);
    tally->bytes += job->bytes;
    // One that is there for others only goes on with what those need.
    MUST(job->failures <= job->failures_max || job->fails_late || job->state > JOB_RUNNING || job->hidden,
         NULL, 0);
    for (uint32_t l = 0; job->has_tasks && l < job->layers; l++) {
        check_layer(sched, job->layer[l], tally);
        open += job->layer[l]->goal ? layer_unfinished(job->layer[l]) : 0;
        assigned += job->layer[l]->in[TASK_ASSIGNED];
        failed += job->layer[l]->in[TASK_FAILED];
        for (uint32_t i = 0; i < job->layer[l]->tasks; i++) {
            backlog += task_state(job->layer[l], i) == TASK_ASSIGNED ? job->layer[l]->value[i] : 0;
        }
    }
    MUST(job->backlog == backlog && job->share->backlog >= backlog, NULL, 0);
    MUST(job->open == open && job->assigned == assigned, NULL, 0);
    MUST(!job->has_tasks || job->failed == failed, NULL, 0);
    MUST(job->is_runnable == (job->has_tasks && job->runnable > 0 && !job->dormant), NULL, 0);
    MUST(!job->dormant || (job->state == JOB_DONE && job->client == NULL), NULL, 0);
    // A job that runs has something left to do, or it would have ended with this step.
    MUST(job->is_dirty || job->state > JOB_RUNNING || open > 0 || job->grows, NULL, 0);
}

static void check_worker(const struct worker *worker, const struct tally *tally)
{
    uint32_t mine = 0;
    uint64_t taken = 0;

    for (size_t k = 0; k < worker->stocks; k++) {
        MUST(worker->stock[k].taken <= worker->stock[k].amount, NULL, 0);
        taken += worker->stock[k].taken;
    }
    MUST(taken == tally->taken[worker->number], NULL, 0);
    MUST(worker->assigned == tally->assigned[worker->number], NULL, 0);
    MUST(worker->recalled == tally->recalled[worker->number], NULL, 0);
    MUST(worker->backlog == tally->backlog[worker->number], NULL, 0);
    MUST(worker->partitions == tally->partitions[worker->number], NULL, 0);
    MUST(worker->shipping == tally->shipping[worker->number] && (worker->leaving || worker->shipping == 0), NULL, 0);
    MUST(worker->assigned <= SLOTS_MAX, NULL, 0);
    MUST(worker->queue_told <= worker->queue_count && worker->queue_count <= worker->queue_capacity, NULL, 0);
    MUST(worker->queue_over <= worker->queue_told && worker->queue_ahead <= worker->queue_count, NULL, 0);
    MUST(worker->is_dirty || worker->queue_told == worker->queue_count, NULL, 0);
    for (uint32_t k = worker->queue_over; k < worker->queue_count; k++) {
        struct slot slot = worker->queue[k];

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            if (worker_has(worker, slot.layer, i) && (slot.layer->state[i] & TASK_SEEN) == 0) {
                slot.layer->state[i] |= TASK_SEEN;
                mine++;
            }
        }
    }
    for (uint32_t k = worker->queue_over; k < worker->queue_count; k++) {
        struct slot slot = worker->queue[k];

        for (uint32_t i = slot.first; i < slot.first + slot.count; i++) {
            slot.layer->state[i] &= (uint8_t)~TASK_SEEN;
        }
    }
    MUST(mine == worker->assigned, NULL, 0);
    MUST(worker->load == worker_load(worker), NULL, 0);
}

// Every delayed task has its place in the heap, which is one.
static void check_delays(const struct sched *sched)
{
    uint64_t found = 0;

    for (size_t k = 0; k < sched->delays; k++) {
        const struct delay *delay = &sched->delay[k];
        const struct job *job = job_find(sched, delay->job);
        const struct layer *layer = job != NULL && job->has_tasks ? job->layer[delay->layer] : NULL;

        MUST(k == 0 || sched->delay[(k - 1) / 2].due_us <= delay->due_us, NULL, 0);
        const struct blame *blame = layer != NULL ? job_blame_find(job, delay->layer, delay->index) : NULL;

        found +=
            blame != NULL && task_state(layer, delay->index) == TASK_DELAYED && blame->value == delay->due_us
                ? 1
                : 0;
    }
    MUST(found + suspects_waiting(sched) + moment_waiting(sched, 0) >= sched->in[TASK_DELAYED], NULL, 0);
}

static void check_trials(const struct sched *sched)
{
    size_t count = 0;

    MUST(sched->trial_first <= sched->trial_end && sched->trial_sorted <= sched->trial_end, NULL, 0);
    for (size_t k = 0; k < sched->trial_end; k++) {
        MUST(k >= sched->trial_first || sched->trial[k].count == 0, NULL, 0);
        count += sched->trial[k].count;
    }
    MUST(count == sched->trials, NULL, 0);
}

static void check_run_list(const struct sched *sched)
{
    uint64_t runnable = 0;
    uint64_t listed = 0;

    for (const struct level *level = sched->levels; level != NULL; level = level->next) {
        MUST(level->next == NULL || level->priority > level->next->priority, NULL, 0);
        MUST(level->jobs > 0, NULL, 0);
        for (const struct share *share = level->runnable; share != NULL; share = share->run_next) {
            MUST(share->level == level && share->run_head != NULL, NULL, 0);
            for (const struct job *job = share->run_head; job != NULL; job = job->run_next) {
                MUST(job->is_runnable && job->share == share && job->priority == level->priority, NULL, 0);
                MUST(job_find(sched, job->number) == job, NULL, 0);
                MUST(job->run_next == NULL || job->number < job->run_next->number, NULL, 0);
                listed++;
            }
        }
    }
    for (size_t b = 0; b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            const struct job *job = hash_entry(node, struct job, by_number);

            runnable += job->is_runnable ? 1 : 0;
            MUST(job->share->client == NULL || job->share->client == job->client, NULL, 0);
        }
    }
    MUST(runnable == listed, NULL, 0);
}

// Each layer is in the lane of what it asks for; every demand has as many users as there are lanes.
static void check_lanes(const struct sched *sched)
{
    uint64_t users = 0;
    uint64_t lanes = 0;

    for (size_t b = 0; b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            const struct job *job = hash_entry(node, struct job, by_number);

            for (const struct lane *lane = job->lane.next; lane != NULL; lane = lane->next) {
                lanes++;
            }
        }
    }
    for (size_t b = 0; b <= sched->demands.mask; b++) {
        for (struct hash_node *node = sched->demands.bucket[b]; node != NULL; node = node->next) {
            const struct demand *demand = hash_entry(node, struct demand, node);
            uint64_t threads = 0;

            users += demand->users;
            for (uint32_t s = 0; s < sched->worker_slots; s++) {
                const struct worker *worker = sched->worker[s];

                threads += worker != NULL && demand_is_met(demand, worker) ? worker->threads : 0;
            }
            MUST(threads == demand->threads, NULL, 0);
        }
    }
    MUST(users == lanes, NULL, 0);
}

static void check_backlog(const struct sched *sched)
{
    uint64_t backlog = 0;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        backlog += sched->worker[s] != NULL ? sched->worker[s]->backlog : 0;
    }
    MUST(backlog == sched->backlog, NULL, 0);
}

// What is on its way is on somebody's books at both ends.
static void check_shipments(const struct sched *sched)
{
    uint32_t leavers = 0;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        const struct worker *worker = sched->worker[s];
        uint64_t incoming = 0, outgoing = 0, bytes = 0, ranges = 0, listed = 0;

        for (size_t at = worker != NULL ? worker->shipment : 0; at > 0; at = sched->shipment[at - 1].next) {
            MUST(at <= sched->shipments && sched->shipment[at - 1].to == worker->peer, NULL, 0);
            listed += sched->shipment[at - 1].bytes;
        }
        for (size_t k = 0; worker != NULL && k < sched->shipments; k++) {
            const struct shipment *shipment = &sched->shipment[k];

            incoming += shipment->to == worker->peer ? shipment->bytes : 0;
            if (shipment->from == worker->peer) {
                outgoing += shipment->left;
                bytes += shipment->bytes;
                ranges++;
            }
        }
        MUST(worker == NULL || (worker->incoming == incoming && listed == incoming && worker->outgoing == outgoing &&
                                worker->outgoing_bytes == bytes && worker->outgoing_ranges == ranges),
             NULL, 0);
        leavers += worker != NULL && worker->leaving ? 1 : 0;
    }
    MUST(leavers == sched->leavers, NULL, 0);
}

void sched_check(const struct sched *sched)
{
    size_t slots = sched->worker_slots + 1;
    struct tally tally = {.assigned = calloc(slots, sizeof(uint32_t)),
                          .recalled = calloc(slots, sizeof(uint32_t)),
                          .partitions = calloc(slots, sizeof(uint64_t)),
                          .backlog = calloc(slots, sizeof(uint64_t)),
                          .shipping = calloc(slots, sizeof(uint64_t)),
                          .taken = calloc(slots, sizeof(uint64_t))};

    MUST(tally.assigned != NULL && tally.recalled != NULL && tally.partitions != NULL &&
             tally.backlog != NULL && tally.shipping != NULL && tally.taken != NULL,
         NULL, 0);
    for (size_t b = 0; b <= sched->jobs.mask; b++) {
        for (struct hash_node *node = sched->jobs.bucket[b]; node != NULL; node = node->next) {
            check_job(sched, hash_entry(node, struct job, by_number), &tally);
        }
    }
    for (int s = 0; s < TASK_STATES; s++) {
        MUST(tally.in[s] == sched->in[s], NULL, 0);
    }
    MUST(tally.tasks == sched->tasks && tally.bytes == sched->bytes, NULL, 0);
    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        if (sched->worker[s] != NULL) {
            check_worker(sched->worker[s], &tally);
        }
    }
    check_backlog(sched);
    check_shipments(sched);
    check_run_list(sched);
    check_lanes(sched);
    check_delays(sched);
    check_trials(sched);
    free(tally.assigned);
    free(tally.recalled);
    free(tally.partitions);
    free(tally.backlog);
    free(tally.shipping);
    free(tally.taken);
}
