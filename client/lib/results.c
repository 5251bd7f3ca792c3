#include "client/lib/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

enum {
    FETCHES_MAX = 8,   // partitions under way at once
    FREE_BATCH = 256,  // results read before the broker is told without being asked
    LOST_US = 3000000, // ask for a lost result again if nothing was heard of it for so long
};

enum result_state {
    RESULT_ANNOUNCED, // waits for room
    RESULT_FETCHING,
    RESULT_READY, // its bytes are here
    RESULT_LOST,  // nobody has it: the broker announces it anew when it has been made again
    RESULT_STATES
};

struct result {
    struct result *previous, *next; // in its job's list of its state, in order of arrival
    enum result_state state;
    uint64_t lost_us;
    uint32_t layer, index;
    Dray__Result *where;       // a copy; NULL once the bytes are here
    uint64_t reserved;         // of results->bytes_held
    struct transfer *transfer; // FETCHING
    struct buffer *bytes;      // READY
    struct job *job;
};

struct note {
    struct note *next;
    uint32_t layer, index;
    size_t size;
    uint8_t data[];
};

struct layer {
    uint32_t tasks;
    bool wanted;
    struct result **result; // [tasks], made with the first result; RESULT_TAKEN: delivered
    uint8_t *noted;         // [tasks], made with the first note
    uint32_t next;          // ordered jobs: index to be delivered next
};

struct job {
    struct job *next;
    struct results *results;
    uint32_t id;
    struct results_job_options options;
    struct layer *layer;
    uint32_t layers;
    struct {
        struct result *first, *last;
    } list[RESULT_STATES];
    size_t undelivered; // results in all lists
    struct note *note, **note_end;
    struct dray_event progress; // the newest only
    bool progress_fresh;
    char waiting[256];
    struct dray_event end;
    bool ended, end_delivered;
    uint32_t *read; // layer, index pairs to tell the broker
    size_t reads;
};

struct results {
    struct uplink *uplink;
    struct transfers *transfers;
    struct job *jobs;
    uint64_t bytes_max;
    uint64_t bytes_held;
    struct buffer *current; // what the last dray_event points to
    struct note *current_note;
    char current_waiting[256];
    bool admitting;
};

static struct result taken;
#define RESULT_TAKEN (&taken)

static void transfer_done(void *context, void *owner, struct buffer *bytes);
static void transfer_lost(void *context, void *owner, const struct error *why);

int results_create(struct uplink *uplink, int epoll, uint64_t bytes_max, struct results **out,
                   struct error *err)
{
    struct results *results = calloc(1, sizeof(*results));
    struct transfers_listener listener = {results, transfer_done, transfer_lost};
    int rc;

    if (results == NULL) {
        return error_no_memory(err);
    }
    results->uplink = uplink;
    results->bytes_max = bytes_max;
    rc = transfers_create(uplink, epoll, &listener, &results->transfers, err);
    if (rc != 0) {
        free(results);
        return rc;
    }
    *out = results;
    return 0;
}

// ---- results of a job -----------------------------------------------------------------

static void where_set(struct result *result, const Dray__Result *where)
{
    if (result->where != NULL) {
        dray__result__free_unpacked(result->where, NULL);
    }
    result->where = NULL;
    if (where != NULL) {
        size_t size = dray__result__get_packed_size(where);
        uint8_t *packed = malloc(size);

        if (packed != NULL) {
            dray__result__pack(where, packed);
            result->where = dray__result__unpack(NULL, size, packed);
            free(packed);
        }
    }
}

static void unreserve(struct result *result)
{
    result->job->results->bytes_held -= result->reserved;
    result->reserved = 0;
}

static void list_remove(struct result *result)
{
    struct job *job = result->job;

    if (result->previous != NULL) {
        result->previous->next = result->next;
    } else {
        job->list[result->state].first = result->next;
    }
    if (result->next != NULL) {
        result->next->previous = result->previous;
    } else {
        job->list[result->state].last = result->previous;
    }
    job->undelivered--;
}

static void list_append(struct result *result, enum result_state state)
{
    struct job *job = result->job;

    result->state = state;
    result->next = NULL;
    result->previous = job->list[state].last;
    if (result->previous != NULL) {
        result->previous->next = result;
    } else {
        job->list[state].first = result;
    }
    job->list[state].last = result;
    job->undelivered++;
}

static void result_move(struct result *result, enum result_state state)
{
    list_remove(result);
    list_append(result, state);
}

static void result_forget(struct result *result)
{
    list_remove(result);
    if (result->transfer != NULL) {
        transfers_cancel(result->job->results->transfers, result->transfer);
    }
    unreserve(result);
    where_set(result, NULL);
    buffer_unref(result->bytes);
    free(result);
}

static void drop_results(struct job *job)
{
    for (int state = 0; state < RESULT_STATES; state++) {
        while (job->list[state].first != NULL) {
            struct result *result = job->list[state].first;

            job->layer[result->layer].result[result->index] = RESULT_TAKEN;
            result_forget(result);
        }
    }
}

static void job_free(struct job *job)
{
    if (job->layer != NULL) {
        drop_results(job);
    }
    while (job->note != NULL) {
        struct note *note = job->note;

        job->note = note->next;
        free(note);
    }
    for (uint32_t i = 0; job->layer != NULL && i < job->layers; i++) {
        free(job->layer[i].result);
        free(job->layer[i].noted);
    }
    free(job->layer);
    free(job->read);
    free(job);
}

void results_destroy(struct results *results)
{
    if (results == NULL) {
        return;
    }
    while (results->jobs != NULL) {
        struct job *job = results->jobs;

        results->jobs = job->next;
        job_free(job);
    }
    transfers_destroy(results->transfers);
    buffer_unref(results->current);
    free(results->current_note);
    free(results);
}

static struct job *find_job(const struct results *results, uint32_t id)
{
    struct job *job = results->jobs;

    while (job != NULL && job->id != id) {
        job = job->next;
    }
    return job;
}

bool results_has_job(const struct results *results, uint32_t job)
{
    return find_job(results, job) != NULL;
}

int results_add_job(struct results *results, uint32_t id, const Dray__Graph *graph,
                    const struct results_job_options *options, struct error *err)
{
    struct job *job;

    if (find_job(results, id) != NULL) {
        return error_set(err, EEXIST, "job %u is known already", id);
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return error_no_memory(err);
    }
    job->layer = calloc(graph->n_layer > 0 ? graph->n_layer : 1, sizeof(*job->layer));
    job->read = malloc(2 * FREE_BATCH * sizeof(*job->read));
    if (job->layer == NULL || job->read == NULL) {
        job_free(job);
        return error_no_memory(err);
    }
    for (size_t i = 0; i < graph->n_layer; i++) {
        job->layer[i].tasks = graph->layer[i]->tasks;
        job->layer[i].wanted = graph->layer[i]->wanted;
    }
    job->layers = (uint32_t)graph->n_layer;
    job->id = id;
    job->options = *options;
    job->results = results;
    job->note_end = &job->note;
    job->next = results->jobs;
    results->jobs = job;
    return 0;
}

void results_drop_job(struct results *results, uint32_t id)
{
    for (struct job **link = &results->jobs; *link != NULL; link = &(*link)->next) {
        if ((*link)->id == id) {
            struct job *job = *link;

            *link = job->next;
            job_free(job);
            return;
        }
    }
}

// ---- fetching ---------------------------------------------------------------------------

static void job_fail(struct job *job, int code, const char *text)
{
    if (job->ended && job->end.type != DRAY_DONE) {
        return;
    }
    drop_results(job);
    memset(&job->end, 0, sizeof(job->end));
    job->end.type = DRAY_FAILED;
    job->end.job = job->id;
    job->end.layer = job->end.index = UINT32_MAX;
    job->end.error.code = code;
    snprintf(job->end.error.text, sizeof(job->end.error.text), "%s", text);
    job->ended = true;
}

// Tells the broker that a result need not be kept; detached jobs keep theirs for others.
static void mark_read(struct job *job, uint32_t layer, uint32_t index)
{
    if (job->options.detached) {
        return;
    }
    if (job->reads == FREE_BATCH) {
        results_flush(job->results);
    }
    if (job->reads < FREE_BATCH) { // else: not sent now; freed with the whole job
        job->read[2 * job->reads] = layer;
        job->read[2 * job->reads + 1] = index;
        job->reads++;
    }
}

static void make_ready(struct result *result, struct buffer *bytes)
{
    struct results *results = result->job->results;

    unreserve(result);
    result->bytes = bytes;
    result->reserved = bytes->size;
    results->bytes_held += bytes->size;
    result_move(result, RESULT_READY);
    where_set(result, NULL);
    mark_read(result->job, result->layer, result->index);
}

static void fetch(struct result *result)
{
    struct results *results = result->job->results;
    struct error err = {0};

    result->reserved = result->where->bytes;
    results->bytes_held += result->reserved;
    result_move(result, RESULT_FETCHING);
    if (transfers_start(results->transfers, result->where, result, &result->transfer, &err) != 0) {
        unreserve(result);
        job_fail(result->job, err.code, err.text);
    }
}

static struct result *next_in_order(const struct job *job)
{
    for (uint32_t i = 0; i < job->layers; i++) {
        const struct layer *layer = &job->layer[i];

        if (layer->result != NULL && layer->next < layer->tasks && layer->result[layer->next] != NULL &&
            layer->result[layer->next] != RESULT_TAKEN) {
            return layer->result[layer->next];
        }
    }
    return NULL;
}

static bool has_room(const struct results *results, uint64_t bytes)
{
    return results->bytes_held == 0 ||
           (bytes <= results->bytes_max && results->bytes_held <= results->bytes_max - bytes);
}

// Begins to fetch what there is room for.
static void admit(struct results *results)
{
    if (results->admitting) {
        return;
    }
    results->admitting = true;
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        // In an ordered job all may wait for this one: it needs no room.
        struct result *first = job->options.ordered ? next_in_order(job) : NULL;

        if (first != NULL && first->state == RESULT_ANNOUNCED) {
            fetch(first);
        }
        while ((first = job->list[RESULT_ANNOUNCED].first) != NULL &&
               transfers_count(results->transfers) < FETCHES_MAX && has_room(results, first->where->bytes)) {
            fetch(first);
        }
    }
    results->admitting = false;
}

static void transfer_done(void *context, void *owner, struct buffer *bytes)
{
    struct result *result = owner;

    result->transfer = NULL;
    make_ready(result, bytes);
    admit(context);
}

static void transfer_lost(void *context, void *owner, const struct error *why)
{
    struct result *result = owner;

    result->transfer = NULL;
    unreserve(result);
    if (why->code == ENOMEM) {
        job_fail(result->job, why->code, why->text);
        return;
    }
    result->lost_us = monotonic_us();
    result_move(result, RESULT_LOST);
    admit(context);
}

// ---- messages ------------------------------------------------------------------------------

static int check_place(const struct job *job, uint32_t layer, uint32_t index, bool wanted, struct error *err)
{
    if (layer >= job->layers || index >= job->layer[layer].tasks || (wanted && !job->layer[layer].wanted)) {
        return error_set(err, EPROTO, "the broker speaks of task %u of layer %u, which job %u does not have",
                         index, layer, job->id);
    }
    return 0;
}

static struct result *result_at(struct job *job, uint32_t layer_number, uint32_t index)
{
    struct layer *layer = &job->layer[layer_number];
    struct result *result;

    if (layer->result == NULL) {
        layer->result = calloc(layer->tasks, sizeof(struct result *));
        if (layer->result == NULL) {
            return NULL;
        }
    }
    if (layer->result[index] != NULL) {
        return layer->result[index];
    }
    result = calloc(1, sizeof(*result));
    if (result == NULL) {
        return NULL;
    }
    result->job = job;
    result->layer = layer_number;
    result->index = index;
    result->lost_us = monotonic_us();
    list_append(result, RESULT_LOST);
    layer->result[index] = result;
    return result;
}

static int handle_result(struct results *results, struct job *job, const Dray__Result *where,
                         struct message *message, struct error *err)
{
    struct buffer *bytes = NULL;
    struct result *result;
    int rc = check_place(job, where->layer, where->index, true, err);

    if (rc != 0 || (job->ended && job->end.type != DRAY_DONE)) {
        return rc;
    }
    result = result_at(job, where->layer, where->index);
    if (result == NULL) {
        job_fail(job, ENOMEM, "no memory for the list of results");
        return 0;
    }
    if (result == RESULT_TAKEN || result->state == RESULT_READY) {
        return 0; // made again after a loss, and not needed again
    }
    if (result->transfer != NULL) {
        transfers_cancel(results->transfers, result->transfer); // it has moved
        result->transfer = NULL;
        unreserve(result);
    }
    // Small ones come along.  Without room their bytes are dropped and fetched later.
    if (where->inlined && (results->bytes_held < results->bytes_max || !where->has_worker)) {
        if (message->frames != 2) {
            return error_set(err, EPROTO, "the broker sent a result with %zu frames instead of 2",
                             message->frames);
        }
        rc = payload_decode(message->frame[1].data, message->frame[1].size, &bytes, err);
        if (rc == -ENOMEM) {
            job_fail(job, ENOMEM, err != NULL ? err->text : "no memory for a result");
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
        make_ready(result, bytes);
        return 0;
    }
    where_set(result, where);
    if (result->where == NULL) {
        job_fail(job, ENOMEM, "no memory for the list of results");
        return 0;
    }
    result_move(result, RESULT_ANNOUNCED);
    admit(results);
    return 0;
}

static int handle_notes(struct job *job, const Dray__Notes *notes, struct error *err)
{
    for (size_t i = 0; i < notes->n_note; i++) {
        const Dray__TaskNote *from = notes->note[i];
        struct layer *layer;
        struct note *note;
        int rc = check_place(job, notes->layer, from->index, false, err);

        if (rc != 0) {
            return rc;
        }
        layer = &job->layer[notes->layer];
        if (layer->noted == NULL) {
            layer->noted = calloc(layer->tasks, 1);
        }
        note = malloc(sizeof(*note) + from->note.len);
        if (layer->noted == NULL || note == NULL) {
            free(note);
            job_fail(job, ENOMEM, "no memory for a task's note");
            return 0;
        }
        if (layer->noted[from->index]) {
            free(note); // the task ran again; its word is the same
            continue;
        }
        layer->noted[from->index] = 1;
        note->next = NULL;
        note->layer = notes->layer;
        note->index = from->index;
        note->size = from->note.len;
        memcpy(note->data, from->note.data, note->size);
        *job->note_end = note;
        job->note_end = &note->next;
    }
    return 0;
}

static void handle_progress(struct job *job, const Dray__Progress *from)
{
    struct dray_event *event = &job->progress;

    memset(event, 0, sizeof(*event));
    event->type = DRAY_PROGRESS;
    event->job = job->id;
    event->tasks = from->tasks;
    event->done = from->done;
    event->rows = from->rows;
    event->source_bytes = from->source_bytes;
    event->workers = from->workers;
    if (from->waiting != NULL) {
        snprintf(job->waiting, sizeof(job->waiting), "%s", from->waiting);
        event->waiting = job->waiting;
    }
    job->progress_fresh = true;
}

static int handle_ended(struct job *job, const Dray__JobEnded *from, struct error *err)
{
    struct dray_event *event = &job->end;

    // A job that was done may still fail when a lost result cannot be made again.
    if (job->ended && (event->type != DRAY_DONE || job->end_delivered)) {
        return 0;
    }
    memset(event, 0, sizeof(*event));
    event->job = job->id;
    event->layer = from->has_layer ? from->layer : UINT32_MAX;
    event->index = from->has_index ? from->index : UINT32_MAX;
    switch (from->state) {
    case DRAY__JOB_STATE__DONE:
        event->type = DRAY_DONE;
        break;
    case DRAY__JOB_STATE__CANCELLED:
        event->type = DRAY_CANCELLED;
        event->error.code = ECANCELED;
        break;
    case DRAY__JOB_STATE__FAILED:
        event->type = DRAY_FAILED;
        event->error.code = EIO;
        break;
    case DRAY__JOB_STATE__QUEUED:
    case DRAY__JOB_STATE__RUNNING:
    default:
        return error_set(err, EPROTO, "the broker says that job %u ended and is in state %d", job->id,
                         (int)from->state);
    }
    if (from->why != NULL) {
        if (from->why->code > 0) {
            event->error.code = from->why->code;
        }
        snprintf(event->error.text, sizeof(event->error.text), "%s", from->why->text);
    } else if (event->type == DRAY_CANCELLED) {
        snprintf(event->error.text, sizeof(event->error.text), "job %u was cancelled", job->id);
    }
    if (event->type != DRAY_DONE) {
        drop_results(job);
    }
    job->ended = true;
    return 0;
}

int results_handle(struct results *results, const struct frame *frame, struct message *message,
                   struct error *err)
{
    const ProtobufCMessage *body = frame->message;
    struct job *job;

    switch (frame->info->type) {
    case FRAME_RESULT:
        job = find_job(results, ((const Dray__Result *)body)->job);
        return job == NULL ? 0 : handle_result(results, job, (const Dray__Result *)body, message, err);
    case FRAME_NOTES:
        job = find_job(results, ((const Dray__Notes *)body)->job);
        return job == NULL ? 0 : handle_notes(job, (const Dray__Notes *)body, err);
    case FRAME_PROGRESS:
        job = find_job(results, ((const Dray__Progress *)body)->job);
        if (job != NULL) {
            handle_progress(job, (const Dray__Progress *)body);
        }
        return 0;
    case FRAME_JOB_ENDED:
        job = find_job(results, ((const Dray__JobEnded *)body)->job);
        return job == NULL ? 0 : handle_ended(job, (const Dray__JobEnded *)body, err);
    case FRAME_PIECE:
        transfers_piece(results->transfers, (const Dray__Piece *)body, message);
        return 0;
    default:
        return error_set(err, EPROTO, "the broker sent %s, which is not for clients", frame->info->name);
    }
}

void results_process(struct results *results)
{
    transfers_process(results->transfers);
}

void results_tick(struct results *results)
{
    uint64_t now = monotonic_us();

    transfers_tick(results->transfers);
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        struct result *lost;

        while ((lost = job->list[RESULT_LOST].first) != NULL && lost->where != NULL &&
               now - lost->lost_us > LOST_US) {
            result_move(lost, RESULT_ANNOUNCED);
        }
    }
    admit(results);
}

bool results_ready(struct results *results)
{
    return transfers_ready(results->transfers);
}

bool results_fetching(const struct results *results)
{
    for (const struct job *job = results->jobs; job != NULL; job = job->next) {
        if (job->list[RESULT_LOST].first != NULL) {
            return true;
        }
    }
    return transfers_count(results->transfers) != 0;
}

// ---- delivery --------------------------------------------------------------------------------

static struct result *deliverable(const struct job *job)
{
    struct result *result;

    if (!job->options.ordered) {
        return job->list[RESULT_READY].first;
    }
    result = next_in_order(job);
    return result != NULL && result->state == RESULT_READY ? result : NULL;
}

static bool end_due(const struct job *job)
{
    return job->ended && !job->end_delivered && job->undelivered == 0;
}

static bool job_pending(const struct job *job)
{
    return job->note != NULL || deliverable(job) != NULL || job->progress_fresh || end_due(job);
}

bool results_pending(const struct results *results)
{
    for (const struct job *job = results->jobs; job != NULL; job = job->next) {
        if (job_pending(job)) {
            return true;
        }
    }
    return false;
}

static void give_note(struct results *results, struct job *job, struct dray_event *event)
{
    struct note *note = job->note;

    job->note = note->next;
    if (job->note == NULL) {
        job->note_end = &job->note;
    }
    results->current_note = note;
    event->type = DRAY_NOTE;
    event->layer = note->layer;
    event->index = note->index;
    event->data = note->data;
    event->size = note->size;
}

static void give_result(struct results *results, struct result *result, struct dray_event *event)
{
    struct layer *layer = &result->job->layer[result->layer];

    results->current = result->bytes;
    result->bytes = NULL;
    event->type = DRAY_PARTITION;
    event->layer = result->layer;
    event->index = result->index;
    event->data = results->current->data;
    event->size = results->current->size;
    layer->result[result->index] = RESULT_TAKEN;
    while (layer->next < layer->tasks && layer->result[layer->next] == RESULT_TAKEN) {
        layer->next++;
    }
    result_forget(result);
    admit(results);
}

int results_next(struct results *results, struct dray_event *event)
{
    struct job *job = results->jobs;

    buffer_unref(results->current);
    results->current = NULL;
    free(results->current_note);
    results->current_note = NULL;
    while (job != NULL && !job_pending(job)) {
        job = job->next;
    }
    if (job == NULL) {
        return 0;
    }
    memset(event, 0, sizeof(*event));
    event->job = job->id;
    if (job->note != NULL) {
        give_note(results, job, event);
    } else if (deliverable(job) != NULL) {
        give_result(results, deliverable(job), event);
    } else if (job->progress_fresh) {
        *event = job->progress;
        if (event->waiting != NULL) {
            memcpy(results->current_waiting, job->waiting, sizeof(results->current_waiting));
            event->waiting = results->current_waiting;
        }
        job->progress_fresh = false;
    } else {
        *event = job->end;
        job->end_delivered = true;
    }
    return 1;
}

struct buffer *results_current(struct results *results)
{
    return buffer_ref(results->current);
}

void results_flush(struct results *results)
{
    for (struct job *job = results->jobs; job != NULL; job = job->next) {
        Dray__Run run[FREE_BATCH];
        Dray__Run *runs[FREE_BATCH];
        uint32_t first[FREE_BATCH], count[FREE_BATCH];
        Dray__Free message = DRAY__FREE__INIT;
        size_t n = 0;

        for (size_t i = 0; i < job->reads; i++) {
            uint32_t layer = job->read[2 * i], index = job->read[2 * i + 1];

            if (n > 0 && run[n - 1].layer == layer && first[n - 1] + count[n - 1] == index) {
                count[n - 1]++;
                continue;
            }
            dray__run__init(&run[n]);
            run[n].job = job->id;
            run[n].layer = layer;
            run[n].n_first = run[n].n_count = 1;
            run[n].first = &first[n];
            run[n].count = &count[n];
            first[n] = index;
            count[n] = 1;
            runs[n] = &run[n];
            n++;
        }
        message.job = job->id;
        message.run = runs;
        message.n_run = n;
        if (n > 0 && uplink_send(results->uplink, FRAME_FREE, &message.base, NULL) == 0) {
            job->reads = 0;
        }
    }
}
