#include "broker/core/handover.h"

#include <stdlib.h>
#include <string.h>

#include "broker/core/job.h"
#include "broker/core/on.h"
#include "broker/core/outbox.h"
#include "broker/core/worker.h"

enum {
    FLIGHT_PARTITIONS = 4096, // on their way from one worker,
    FLIGHT_SHIPMENTS = 128,   // in so many ranges at most,
    FLIGHT_BYTES = 64 << 20,  // or so many bytes
    CHUNK_BYTES = 8 << 20,    // of neighbours that go together
    PARTITION_BYTES = 64,     // that one takes at least
    PASS_US = 10000,          // between two looks at all that a worker holds, and at most
    PASS_MAX_US = 250000,     // when nothing of it finds a place
    REFUSED_US = 100000,      // one that declined is not asked before
    SHARE = 4,                // one part in so many of a worker's memory is left to its tasks
    FILL = 64,                // workers are told apart by how full they are, in so many steps
};

void partition_leave(struct layer *layer, uint32_t i)
{
    struct worker *owner = layer->job->sched->worker[layer->owner[i]];

    owner->partitions--;
    if ((layer->state[i] & TASK_RECALL) != 0) {
        layer->state[i] &= (uint8_t)~TASK_RECALL;
        owner->shipping--;
    }
}

void handover_fini(struct sched *sched)
{
    free(sched->shipment);
    sched->shipment = NULL;
    sched->shipments = sched->shipment_capacity = 0;
}

// ---- shipments ----------------------------------------------------------------------------

static uint64_t weight(const struct layer *layer, uint32_t i)
{
    return task_bytes(layer, i) + PARTITION_BYTES;
}

// The place of what points at the shipment: its worker's, if that is there, or the one's before it.
static size_t *link_to(const struct sched *sched, const struct shipment *shipment)
{
    struct worker *to = shipment->previous == 0 ? worker_find(sched, shipment->to) : NULL;

    return shipment->previous > 0 ? &sched->shipment[shipment->previous - 1].next
           : to != NULL           ? &to->shipment
                                  : NULL;
}

static void link_in(struct sched *sched, size_t k, struct worker *to)
{
    sched->shipment[k].next = to->shipment;
    sched->shipment[k].previous = 0;
    if (to->shipment > 0) {
        sched->shipment[to->shipment - 1].previous = k + 1;
    }
    to->shipment = k + 1;
}

// `at` takes the place in the list of the one at k: k itself, when it has moved there, or the next.
static void relink(struct sched *sched, size_t k, size_t at)
{
    const struct shipment *shipment = &sched->shipment[k];
    size_t *link = link_to(sched, shipment);
    bool moved = at == k + 1;

    if (link != NULL) {
        *link = at;
    }
    if (shipment->next > 0) {
        sched->shipment[shipment->next - 1].previous = moved ? at : shipment->previous;
    }
}

static void remove_at(struct sched *sched, size_t k)
{
    struct shipment *shipment = &sched->shipment[k];
    struct worker *to = worker_find(sched, shipment->to);
    struct worker *from = worker_find(sched, shipment->from);

    if (to != NULL) {
        to->incoming -= shipment->bytes;
    }
    if (from != NULL) {
        from->outgoing_bytes -= shipment->bytes;
        from->outgoing -= shipment->left;
        from->outgoing_ranges--;
    }
    relink(sched, k, shipment->next);
    if (k != --sched->shipments) {
        *shipment = sched->shipment[sched->shipments];
        relink(sched, k, k + 1);
    }
}

// One partition of it has come, or will not come; `bytes` are what it was reckoned with.  False: none was to come.
static bool settle_one(struct worker *to, const struct layer *layer, uint32_t i, uint64_t bytes)
{
    struct sched *sched = layer->job->sched;

    for (size_t next = to->shipment; next > 0;) {
        struct shipment *shipment = &sched->shipment[next - 1];
        size_t k = next - 1;
        struct worker *from;

        next = shipment->next;
        if (shipment->range.job != layer->job->number ||
            shipment->range.layer != layer->number || i < shipment->range.first ||
            i - shipment->range.first >= shipment->range.count) {
            continue;
        }
        if (shipment->left == 1) {
            remove_at(sched, k);
            return true;
        }
        bytes = bytes < shipment->bytes ? bytes : shipment->bytes;
        from = worker_find(sched, shipment->from);
        if (from != NULL) {
            from->outgoing--;
            from->outgoing_bytes -= bytes;
        }
        to->incoming -= bytes;
        shipment->left--;
        shipment->bytes -= bytes;
        return true;
    }
    return false;
}

// It is still where it was, and somebody has to be asked again.
static void put_off(struct layer *layer, uint32_t i)
{
    if (task_state(layer, i) == TASK_HELD && (layer->state[i] & TASK_RECALL) != 0) {
        layer->state[i] &= (uint8_t)~TASK_RECALL;
        layer->job->sched->worker[layer->owner[i]]->shipping--;
    }
}

// They will not come: others may be asked for them.
static void unmark(struct sched *sched, const struct shipment *shipment)
{
    struct layer *layer = range_layer(sched, &shipment->range);
    struct worker *from = worker_find(sched, shipment->from);

    for (uint32_t n = 0; layer != NULL && from != NULL && n < shipment->range.count; n++) {
        uint32_t i = shipment->range.first + n;

        if (layer->owner[i] == from->number) {
            put_off(layer, i);
        }
    }
}

// Nobody answers for a job that was forgotten, nor does a worker that is gone.
static void sweep(struct sched *sched)
{
    for (size_t k = 0; k < sched->shipments;) {
        const struct shipment *shipment = &sched->shipment[k];
        bool lost = worker_find(sched, shipment->to) == NULL;

        if (lost) {
            unmark(sched, shipment);
        }
        if (lost || worker_find(sched, shipment->from) == NULL ||
            range_layer(sched, &shipment->range) == NULL) {
            remove_at(sched, k);
        } else {
            k++;
        }
    }
}

// Who was told where all partitions of the layer are, because its tasks read them all, is told anew with the
// next one.
static void forget_places(const struct layer *layer)
{
    for (uint32_t k = 0; k < layer->dependents; k++) {
        const struct layer *reader = layer->dependent[k]->target;

        for (struct knows *knows = reader->job->knows; layer->dependent[k]->whole && knows != NULL;
             knows = knows->job_next) {
            knows_clear(knows->located, reader->number);
        }
    }
}

bool handover_arrived(struct worker *to, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    bool held = task_state(layer, i) == TASK_HELD;
    uint64_t bytes = held ? weight(layer, i) : PARTITION_BYTES;
    struct worker *owner = held ? sched->worker[layer->owner[i]] : NULL;
    bool asked = settle_one(to, layer, i, bytes);
    struct knows *knows;

    if (!held || owner == to || !owner->leaving) {
        return false;
    }
    if (to->leaving) { // by now: that was said before this was
        if (asked) {
            put_off(layer, i);
        }
        return false;
    }
    knows = worker_knows(to, layer->job);
    if (knows == NULL || !outbox_reserve(sched, 1)) {
        put_off(layer, i); // without the memory for it
        return false;
    }
    knows_set(knows->holds, layer->number);
    outbox_release(sched, owner, layer, i);
    partition_leave(layer, i);
    layer->owner[i] = to->number;
    to->partitions++;
    to->memory_used += bytes; // until it says itself
    sched->handed_over++;
    if (layer->wanted && (layer->state[i] & TASK_KEEP) != 0) {
        bits_set(&layer->results, i);
        layer_mark_dirty(layer);
    }
    forget_places(layer);
    return true;
}

void handover_declined(struct worker *to, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    bool held = task_state(layer, i) == TASK_HELD;

    settle_one(to, layer, i, held ? weight(layer, i) : PARTITION_BYTES);
    to->refused_us = sched->now_us + REFUSED_US;
    put_off(layer, i);
}

// ---- to whom --------------------------------------------------------------------------------

// What it has room for; one that does not say how much memory it has takes all.
static uint64_t room(const struct sched *sched, const struct worker *worker)
{
    uint64_t usable = worker->memory - worker->memory / SHARE;
    uint64_t used = worker->memory_used + worker->incoming;

    if (worker->leaving || worker->refused_us > sched->now_us) {
        return 0;
    }
    return worker->memory == 0 ? UINT64_MAX / 2 : used < usable ? usable - used : 0;
}

// How full it is with so much more, in steps.
static uint64_t fill(const struct worker *worker, uint64_t bytes)
{
    uint64_t used = worker->memory_used + worker->incoming + bytes;
    uint64_t memory = worker->memory > 0 ? worker->memory : UINT64_C(1) << 40;

    return used / (memory / FILL + 1);
}

// The one that is least full, of these the one with least to do, of these the one that gets least.
static struct worker *choose(const struct sched *sched, uint64_t bytes)
{
    struct worker *best = NULL;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        struct worker *worker = sched->worker[s];
        uint64_t mine;
        uint64_t its;

        if (worker == NULL || room(sched, worker) < bytes) {
            continue;
        }
        mine = fill(worker, bytes);
        its = best != NULL ? fill(best, bytes) : UINT64_MAX;
        if (mine < its ||
            (mine == its && (worker->load < best->load ||
                             (worker->load == best->load && worker->incoming < best->incoming)))) {
            best = worker;
        }
    }
    return best;
}

static uint64_t most_room(const struct sched *sched)
{
    uint64_t most = 0;

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        uint64_t some = sched->worker[s] != NULL ? room(sched, sched->worker[s]) : 0;

        most = some > most ? some : most;
    }
    return most;
}

// ---- sending --------------------------------------------------------------------------------

static bool is_due(const struct worker *from, const struct layer *layer, uint32_t i)
{
    return layer->owner[i] == from->number && task_state(layer, i) == TASK_HELD &&
           (layer->state[i] & TASK_RECALL) == 0;
}

static bool has_flight(const struct worker *from)
{
    return from->outgoing < FLIGHT_PARTITIONS && from->outgoing_ranges < FLIGHT_SHIPMENTS &&
           from->outgoing_bytes < FLIGHT_BYTES;
}

static bool reserve(struct sched *sched)
{
    if (sched->shipments == sched->shipment_capacity) {
        size_t capacity = sched->shipment_capacity > 0 ? sched->shipment_capacity * 2 : 16;
        struct shipment *grown = realloc(sched->shipment, capacity * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        sched->shipment = grown;
        sched->shipment_capacity = capacity;
    }
    return true;
}

// Neighbours from i on; how many partitions that were looked at, 0: no memory.
static uint32_t send(struct worker *from, struct layer *layer, uint32_t i)
{
    struct sched *sched = layer->job->sched;
    uint64_t bytes = weight(layer, i);
    struct worker *to = choose(sched, bytes);
    struct task_range range = {layer->job->number, layer->number, i, 1};
    uint64_t most;

    if (to == NULL) {
        return 1; // a smaller one may fit
    }
    most = room(sched, to) < CHUNK_BYTES ? room(sched, to) : CHUNK_BYTES;
    while (i + range.count < layer->tasks && is_due(from, layer, i + range.count) &&
           from->outgoing + range.count < FLIGHT_PARTITIONS &&
           bytes + weight(layer, i + range.count) <= most) {
        bytes += weight(layer, i + range.count++);
    }
    if (!reserve(sched) || !outbox_copy(to, layer, &range, from->peer)) {
        return 0;
    }
    for (uint32_t n = 0; n < range.count; n++) {
        layer->state[i + n] |= TASK_RECALL;
    }
    from->shipping += range.count;
    from->outgoing += range.count;
    from->outgoing_ranges++;
    from->outgoing_bytes += bytes;
    to->incoming += bytes;
    sched->shipment[sched->shipments] = (struct shipment){from->peer, to->peer, range, range.count, bytes, 0, 0};
    link_in(sched, sched->shipments++, to);
    from->pass_sent = true;
    return range.count;
}

// From where the last look ended.  False: it goes on there another time.
static bool send_layer(struct worker *from, struct layer *layer, uint64_t *most)
{
    while (from->pass_index < layer->tasks) {
        uint32_t i = from->pass_index;
        uint32_t looked = 1;

        if (is_due(from, layer, i) && weight(layer, i) <= *most) {
            looked = has_flight(from) ? send(from, layer, i) : 0;
            *most = most_room(layer->job->sched);
        }
        if (looked == 0) {
            return false;
        }
        from->pass_index += looked;
    }
    from->pass_index = 0;
    return true;
}

// One look at all that it holds, in as many turns as it takes.  Returns the room that is left for one partition.
static uint64_t send_all(struct worker *from, uint64_t most)
{
    while (from->pass != NULL) {
        struct knows *knows = from->pass;
        const struct job *job = knows->job;

        for (; job->has_tasks && from->pass_layer < job->layers; from->pass_layer++) {
            struct layer *layer = job->layer[from->pass_layer];

            if (knows_test(knows->holds, layer->number) && layer->in[TASK_HELD] > 0 &&
                !send_layer(from, layer, &most)) {
                return most;
            }
            from->pass_index = 0;
        }
        from->pass = knows->worker_next;
        from->pass_layer = from->pass_index = 0;
    }
    return most;
}

// What is large may find no place for long, while there is room for what is small: then it is looked at less often.
static void begin_pass(struct sched *sched, struct worker *from)
{
    uint64_t pause = from->pass_sent ? PASS_US : 2 * from->pass_pause_us;

    from->pass_pause_us = pause < PASS_US ? PASS_US : pause < PASS_MAX_US ? pause : PASS_MAX_US;
    from->pass_sent = false;
    from->pass = from->knows;
    from->pass_layer = from->pass_index = 0;
    from->pass_us = sched->now_us + from->pass_pause_us;
}

void handover_run(struct sched *sched)
{
    uint64_t most = UINT64_MAX; // not known yet

    if (sched->shipments > 0 && sched->shipments_stale) {
        sweep(sched);
    }
    sched->shipments_stale = false;
    for (uint32_t s = 0; sched->leavers > 0 && s < sched->worker_slots; s++) {
        struct worker *from = sched->worker[s];

        if (from == NULL || !from->leaving || from->partitions == from->shipping || !has_flight(from) ||
            (from->pass == NULL && sched->now_us < from->pass_us)) {
            continue;
        }
        most = most == UINT64_MAX ? most_room(sched) : most;
        if (most == 0) {
            return;
        }
        if (from->pass == NULL) {
            begin_pass(sched, from);
        }
        most = send_all(from, most);
    }
}
