#include "broker/results.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/peer.h"
#include "proto/payload.h"

enum {
    TASKS_MAX = 1 << 20,      // in a message
    FRAMES_MAX = 1000,        // payload frames in a message
    RAW_BYTES_MAX = 16 << 20, // of their encodings
    BATCHES_MAX = 100000,     // in a message
    BODY_BYTES_MAX = 8 << 20, // of frame 0, or so: far less than may be
    BATCH_BYTES = 64,         // ... that a batch takes, without words and addresses,
    PIECE_BYTES = 8,          // a range,
    TASK_BYTES = 8,           // and a task: its sizes
    SMALL = 16 << 10,         // frames below it are put together (they count for nothing in the backlog) ...
    FEW = 4,                  // ... when they are more than that
    LOOK_BACK = 8,            // batches that a result may join
    KEEP_PIECES = 4096,       // memory between turns
};
#define NONE UINT32_MAX

// A part of an action that has one way to be told.
struct piece {
    const struct sched_action *action;
    uint32_t offset, count; // within the action's range
    uint32_t parcel, at;    // place in it; PARCEL_NONE: the bytes are not here
    uint32_t next;          // of the same batch, or of the same parcel before it has a batch
    bool told;
};

enum kind {
    KIND_PARCEL, // a parcel as it came
    KIND_COPIED, // encodings copied from parcels
    KIND_THERE,  // at a worker
    KIND_FAILED,
};

struct batch {
    enum kind kind;
    uint32_t first, last; // pieces
    uint64_t tasks;
    size_t pieces;
    size_t raw_bytes;
};

struct results {
    const struct sched_action **action;
    size_t actions, actions_capacity;
    struct piece *piece;
    size_t pieces, pieces_capacity;
    // The message that is being filled.
    struct batch *batch;
    size_t batches, batches_capacity;
    uint64_t tasks;
    size_t frames, raw_bytes, body_bytes;
};

struct emission {
    struct results *results;
    struct parcels *parcels;
    struct arena *arena;
    const struct results_handler *handler;
    size_t parcels_named; // that have something for this client
};

struct results *results_create(void)
{
    return calloc(1, sizeof(struct results));
}

void results_destroy(struct results *results)
{
    if (results != NULL) {
        free(results->action);
        free(results->piece);
        free(results->batch);
        free(results);
    }
}

static bool make_room(void **array, size_t count, size_t *capacity, size_t size)
{
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    void *larger;

    if (count < *capacity) {
        return true;
    }
    larger = realloc(*array, more * size);
    if (larger == NULL) {
        return false;
    }
    *array = larger;
    *capacity = more;
    return true;
}

int results_add(struct results *results, const struct sched_action *action)
{
    if (action->range.count == 0) {
        return 0;
    }
    if (!make_room((void **)&results->action, results->actions, &results->actions_capacity,
                   sizeof(results->action[0]))) {
        return -ENOMEM;
    }
    results->action[results->actions++] = action;
    return 0;
}

// ---- pieces -----------------------------------------------------------------------

// `parcel` PARCEL_NONE: not here.
static bool add_piece(struct emission *e, const struct sched_action *action, uint32_t offset, uint32_t count,
                      uint32_t parcel, uint32_t at)
{
    struct results *results = e->results;
    uint32_t number = (uint32_t)results->pieces;

    if (results->pieces >= NONE || !make_room((void **)&results->piece, results->pieces,
                                              &results->pieces_capacity, sizeof(results->piece[0]))) {
        return false;
    }
    results->piece[results->pieces++] = (struct piece){action, offset, count, parcel, at, NONE, false};
    if (parcel != PARCEL_NONE) {
        struct parcel *p = &e->parcels->parcel[parcel];

        if (p->first_piece == PARCEL_NONE) {
            p->first_piece = number;
            e->parcels_named++;
        } else {
            results->piece[p->last_piece].next = number;
        }
        p->last_piece = number;
    }
    return true;
}

static bool cut_result(struct emission *e, const struct sched_action *action)
{
    const struct task_range *range = &action->range;
    uint32_t done = 0;

    while (done < range->count) {
        uint32_t index = range->first + done;
        uint32_t left = range->count - done;
        const struct segment *segment =
            parcels_find(e->parcels, action->worker, range->job, range->layer, index);
        uint32_t parcel = PARCEL_NONE, at = 0, count = left;

        if (segment != NULL && segment->range.first <= index) {
            uint32_t skip = index - segment->range.first;

            parcel = segment->parcel;
            at = segment->at + skip;
            count = segment->range.count - skip;
        } else if (segment != NULL) {
            count = segment->range.first - index;
        }
        count = count < left ? count : left;
        if (parcel == PARCEL_NONE && count > TASKS_MAX) {
            count = TASKS_MAX;
        }
        if (!add_piece(e, action, done, count, parcel, at)) {
            return false;
        }
        done += count;
    }
    return true;
}

static bool cut_failed(struct emission *e, const struct sched_action *action)
{
    for (uint32_t done = 0; done < action->range.count;) {
        uint32_t left = action->range.count - done;
        uint32_t count = left < TASKS_MAX ? left : TASKS_MAX;

        if (!add_piece(e, action, done, count, PARCEL_NONE, 0)) {
            return false;
        }
        done += count;
    }
    return true;
}

// ---- a message --------------------------------------------------------------------

static struct task_range piece_range(const struct piece *piece)
{
    struct task_range range = piece->action->range;

    range.first += piece->offset;
    range.count = piece->count;
    return range;
}

static int copy_payload(struct emission *e, const struct batch *batch, struct buffer **out)
{
    const struct results *results = e->results;
    uint8_t *to = arena_alloc(e->arena, batch->raw_bytes);
    size_t used = 0;

    if (to == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = batch->first; i != NONE; i = results->piece[i].next) {
        const struct piece *piece = &results->piece[i];
        const uint8_t *data;
        size_t size;
        int rc = parcel_open(&e->parcels->parcel[piece->parcel], piece->at, piece->count, &data, &size, NULL);

        if (rc != 0) {
            return rc;
        }
        memcpy(to + used, data, size);
        used += size;
    }
    return payload_encode(to, used, PAYLOAD_RAW, out, NULL);
}

static int fill_ranges(const struct emission *e, const struct batch *batch, Dray__ResultBatch *out)
{
    const struct results *results = e->results;
    uint32_t *first = arena_array(e->arena, batch->pieces, sizeof(*first));
    uint32_t *count = arena_array(e->arena, batch->pieces, sizeof(*count));
    size_t n = 0;

    if (first == NULL || count == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = batch->first; i != NONE; i = results->piece[i].next) {
        struct task_range range = piece_range(&results->piece[i]);

        if (n > 0 && first[n - 1] + count[n - 1] == range.first) {
            count[n - 1] += range.count;
        } else {
            first[n] = range.first;
            count[n++] = range.count;
        }
    }
    out->first = first;
    out->count = count;
    out->n_first = out->n_count = n;
    return 0;
}

static int fill_sizes(const struct emission *e, const struct batch *batch, Dray__ResultBatch *out)
{
    const struct results *results = e->results;
    const struct piece *only = batch->pieces == 1 ? &results->piece[batch->first] : NULL;
    bool inlined = batch->kind == KIND_PARCEL || batch->kind == KIND_COPIED;
    size_t at = 0;

    out->n_bytes = batch->tasks;
    out->n_inline_bytes = inlined ? batch->tasks : 0;
    if (only != NULL) { // as they are: nobody writes there
        out->bytes = (uint64_t *)(uintptr_t)(only->action->sizes + only->offset);
        if (inlined) {
            out->inline_bytes = (uint32_t *)(uintptr_t)(e->parcels->parcel[only->parcel].bytes + only->at);
        }
        return 0;
    }
    out->bytes = arena_array(e->arena, batch->tasks, sizeof(*out->bytes));
    out->inline_bytes = inlined ? arena_array(e->arena, batch->tasks, sizeof(*out->inline_bytes)) : NULL;
    if (out->bytes == NULL || (inlined && out->inline_bytes == NULL)) {
        return -ENOMEM;
    }
    for (uint32_t i = batch->first; i != NONE; i = results->piece[i].next) {
        const struct piece *piece = &results->piece[i];

        memcpy(out->bytes + at, piece->action->sizes + piece->offset, piece->count * sizeof(*out->bytes));
        if (inlined) {
            memcpy(out->inline_bytes + at, e->parcels->parcel[piece->parcel].bytes + piece->at,
                   piece->count * sizeof(*out->inline_bytes));
        }
        at += piece->count;
    }
    return 0;
}

static int fill_batch(const struct emission *e, const struct batch *batch, Dray__ResultBatch *out)
{
    const struct sched_action *action = e->results->piece[batch->first].action;
    const struct peer *worker;

    dray__result_batch__init(out);
    out->job = action->range.job;
    out->layer = action->range.layer;
    if (batch->kind == KIND_FAILED) {
        out->why = arena_alloc(e->arena, sizeof(*out->why));
        if (out->why == NULL) {
            return -ENOMEM;
        }
        dray__failure__init(out->why);
        out->why->code = action->code;
        out->why->text = (char *)(uintptr_t)(action->text != NULL ? action->text : ""); // only read
        return fill_ranges(e, batch, out);
    }
    // Also of those that are here: the client may have no room, or want them a second time, and fetch them
    // later.
    worker = e->handler->worker(e->handler->arg, action->worker);
    if (worker != NULL) {
        out->has_worker = out->has_incarnation = true;
        out->worker = action->worker;
        out->incarnation = worker->incarnation;
        out->n_endpoint = worker->endpoints;
        out->endpoint = worker->endpoint;
    }
    int rc = fill_ranges(e, batch, out);

    return rc == 0 ? fill_sizes(e, batch, out) : rc;
}

// Sends what has been gathered.
static int close_message(struct emission *e)
{
    struct results *results = e->results;
    size_t n = results->batches, frames = 0, copies = 0;
    Dray__Results message = DRAY__RESULTS__INIT;
    Dray__ResultBatch *batch = arena_array(e->arena, n + 1, sizeof(*batch));
    struct buffer **frame = arena_array(e->arena, results->frames + 1, sizeof(struct buffer *));
    struct buffer **copy = arena_array(e->arena, results->frames + 1, sizeof(struct buffer *));
    int rc = 0;

    if (n == 0) {
        return 0;
    }
    message.batch = arena_array(e->arena, n + 1, sizeof(*message.batch));
    if (batch == NULL || frame == NULL || copy == NULL || message.batch == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct batch *from = &results->batch[i];

        rc = fill_batch(e, from, &batch[i]);
        if (rc == 0 && from->kind == KIND_PARCEL) {
            frame[frames++] = e->parcels->parcel[results->piece[from->first].parcel].frame;
        } else if (rc == 0 && from->kind == KIND_COPIED) {
            rc = copy_payload(e, from, &frame[frames]);
            if (rc == 0) {
                copy[copies++] = frame[frames++];
            }
        }
        message.batch[message.n_batch++] = &batch[i];
    }
    if (rc == 0) {
        e->handler->emit(e->handler->arg, &message, frame, frames);
    }
    while (copies > 0) {
        buffer_unref(copy[--copies]);
    }
    results->batches = results->frames = results->raw_bytes = results->body_bytes = 0;
    results->tasks = 0;
    return rc;
}

// What a batch of its own takes in frame 0.
static size_t batch_bytes(const struct emission *e, enum kind kind, const struct sched_action *action)
{
    const struct peer *worker =
        kind != KIND_FAILED ? e->handler->worker(e->handler->arg, action->worker) : NULL;
    size_t bytes = BATCH_BYTES;

    for (size_t i = 0; worker != NULL && i < worker->endpoints; i++) {
        bytes += strlen(worker->endpoint[i]) + 4;
    }
    return bytes + (kind == KIND_FAILED && action->text != NULL ? strlen(action->text) : 0);
}

static bool batch_takes(const struct results *results, const struct batch *batch, enum kind kind,
                        const struct piece *piece, size_t raw_bytes)
{
    const struct sched_action *has = results->piece[batch->first].action, *comes = piece->action;

    if (batch->kind != kind || has->range.job != comes->range.job || has->range.layer != comes->range.layer) {
        return false;
    }
    switch (kind) {
    case KIND_COPIED:
        return has->worker == comes->worker && batch->raw_bytes + raw_bytes <= FRAME_PAYLOAD_MAX;
    case KIND_THERE:
        return has->worker == comes->worker;
    case KIND_FAILED:
        return has->code == comes->code &&
               (has->text == comes->text ||
                (has->text != NULL && comes->text != NULL && strcmp(has->text, comes->text) == 0));
    case KIND_PARCEL:
        break;
    }
    return false;
}

// A batch for this piece: an open one, or a new one.  NULL: no memory, or the message before it could not
// be sent (*rc).
static struct batch *choose_batch(struct emission *e, enum kind kind, const struct piece *piece,
                                  uint64_t tasks, size_t raw_bytes, int *rc)
{
    struct results *results = e->results;
    bool inlined = kind == KIND_PARCEL || kind == KIND_COPIED;
    size_t body_bytes = PIECE_BYTES + TASK_BYTES * (size_t)tasks;
    size_t new_bytes;

    if (results->tasks + tasks > TASKS_MAX || results->raw_bytes + raw_bytes > RAW_BYTES_MAX ||
        results->body_bytes + body_bytes > BODY_BYTES_MAX) {
        *rc = close_message(e);
        if (*rc != 0) {
            return NULL;
        }
    }
    for (size_t i = results->batches, looked = 0; i-- > 0 && looked < LOOK_BACK; looked++) {
        if (batch_takes(results, &results->batch[i], kind, piece, raw_bytes)) {
            return &results->batch[i];
        }
    }
    new_bytes = batch_bytes(e, kind, piece->action);
    if (results->batches >= BATCHES_MAX || (inlined && results->frames >= FRAMES_MAX) ||
        results->body_bytes + body_bytes + new_bytes > BODY_BYTES_MAX) {
        *rc = close_message(e);
        if (*rc != 0) {
            return NULL;
        }
    }
    if (!make_room((void **)&results->batch, results->batches, &results->batches_capacity,
                   sizeof(results->batch[0]))) {
        *rc = -ENOMEM;
        return NULL;
    }
    results->frames += inlined;
    results->body_bytes += new_bytes;
    struct batch *batch = &results->batch[results->batches++];

    *batch = (struct batch){.kind = kind, .first = NONE, .last = NONE};
    return batch;
}

static void join(struct results *results, struct batch *batch, uint32_t number, size_t raw_bytes)
{
    struct piece *piece = &results->piece[number];

    if (batch->first == NONE) {
        batch->first = number;
    } else {
        results->piece[batch->last].next = number;
    }
    batch->last = number;
    piece->next = NONE;
    piece->told = true;
    batch->pieces++;
    batch->tasks += piece->count;
    batch->raw_bytes += raw_bytes;
    results->tasks += piece->count;
    results->raw_bytes += raw_bytes;
    results->body_bytes += PIECE_BYTES + TASK_BYTES * (size_t)piece->count;
}

// ---- how each piece is told --------------------------------------------------------

// The client gets all of the parcel, in its order.
static bool is_whole(const struct emission *e, const struct parcel *parcel)
{
    uint32_t at = 0;

    for (uint32_t i = parcel->first_piece; i != PARCEL_NONE; i = e->results->piece[i].next) {
        const struct piece *piece = &e->results->piece[i];

        if (piece->at != at || piece->told) {
            return false;
        }
        at += piece->count;
    }
    return at == parcel->tasks && (parcel->frame->size >= SMALL || e->parcels_named <= FEW);
}

static int tell_parcel(struct emission *e, struct parcel *parcel)
{
    struct results *results = e->results;
    uint32_t number = parcel->first_piece;
    int rc = 0;
    struct batch *batch =
        choose_batch(e, KIND_PARCEL, &results->piece[number], parcel->tasks, parcel->raw_bytes, &rc);

    while (batch != NULL && number != NONE) {
        uint32_t next = results->piece[number].next;

        join(results, batch, number, next == NONE ? parcel->raw_bytes : 0);
        number = next;
    }
    return rc;
}

static int tell_piece(struct emission *e, uint32_t number)
{
    struct results *results = e->results;
    const struct piece *piece = &results->piece[number];
    enum kind kind = piece->action->type == ACTION_RESULT_FAILED ? KIND_FAILED : KIND_THERE;
    struct batch *batch;
    size_t raw_bytes = 0;
    int rc = 0;

    if (piece->parcel != PARCEL_NONE) {
        struct parcel *parcel = &e->parcels->parcel[piece->parcel];
        const uint8_t *data;
        struct error why = {0};

        kind = KIND_COPIED;
        rc = parcel_open(parcel, piece->at, piece->count, &data, &raw_bytes, &why);
        if (rc == -EBADMSG) {
            e->handler->damaged(e->handler->arg, parcel->worker, &why);
            kind = KIND_THERE;
            raw_bytes = 0;
        } else if (rc != 0) {
            return rc;
        }
    }
    batch = choose_batch(e, kind, piece, piece->count, raw_bytes, &rc);
    if (batch != NULL) {
        join(results, batch, number, raw_bytes);
    }
    return batch == NULL ? rc : 0;
}

static int tell_all(struct emission *e)
{
    struct results *results = e->results;
    int rc = 0;

    for (size_t i = 0; i < results->actions; i++) {
        const struct sched_action *action = results->action[i];

        if (!(action->type == ACTION_RESULT ? cut_result(e, action) : cut_failed(e, action))) {
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; rc == 0 && i < results->pieces; i++) {
        struct piece *piece = &results->piece[i];
        struct parcel *parcel = piece->parcel == PARCEL_NONE ? NULL : &e->parcels->parcel[piece->parcel];

        if (piece->told) {
            continue;
        }
        if (parcel != NULL && parcel->first_piece == i && is_whole(e, parcel)) {
            rc = tell_parcel(e, parcel);
        } else {
            rc = tell_piece(e, i);
        }
    }
    return rc == 0 ? close_message(e) : rc;
}

int results_emit(struct results *results, struct parcels *parcels, struct arena *arena,
                 const struct results_handler *handler)
{
    struct emission e = {.results = results, .parcels = parcels, .arena = arena, .handler = handler};
    int rc = tell_all(&e);

    for (size_t i = 0; i < results->pieces; i++) {
        if (results->piece[i].parcel != PARCEL_NONE) {
            struct parcel *parcel = &parcels->parcel[results->piece[i].parcel];

            parcel->first_piece = parcel->last_piece = PARCEL_NONE;
        }
    }
    results->actions = results->pieces = results->batches = results->frames = results->raw_bytes =
        results->body_bytes = 0;
    results->tasks = 0;
    if (results->pieces_capacity > KEEP_PIECES) {
        free(results->piece);
        results->piece = NULL;
        results->pieces_capacity = 0;
    }
    return rc;
}
