#include "client/lib/results_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

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
    result_append(result, RESULT_LOST);
    layer->result[index] = result;
    return result;
}

// `bytes` is taken over; NULL: it is at a worker.
static int handle_result(struct results *results, struct job *job, const Dray__Result *where,
                         struct buffer *bytes, struct error *err)
{
    struct result *result;
    int rc = check_place(job, where->layer, where->index, true, err);

    if (rc != 0 || (job->ended && job->end.type != DRAY_DONE)) {
        buffer_unref(bytes);
        return rc;
    }
    result = result_at(job, where->layer, where->index);
    if (result == NULL) {
        buffer_unref(bytes);
        results_fail_job(job, ENOMEM, "no memory for the list of results");
        return 0;
    }
    if (result == RESULT_TAKEN || result->state == RESULT_READY) {
        buffer_unref(bytes);
        return 0; // made again after a loss, and not needed again
    }
    if (result->transfer != NULL) {
        transfers_cancel(results->transfers, result->transfer); // it has moved
        result->transfer = NULL;
        result_unreserve(result);
    }
    // Small ones come along.  Without room their bytes are dropped and fetched later.
    if (bytes != NULL && (results->bytes_held < results->bytes_max || !where->has_worker)) {
        result_make_ready(result, bytes);
        return 0;
    }
    buffer_unref(bytes);
    result_set_where(result, where);
    if (result->where == NULL) {
        results_fail_job(job, ENOMEM, "no memory for the list of results");
        return 0;
    }
    result_move(result, RESULT_ANNOUNCED);
    results_admit(results);
    return 0;
}

static int handle_one(struct results *results, struct job *job, const Dray__Result *where,
                      struct message *message, struct error *err)
{
    struct buffer *bytes = NULL;
    int rc = 0;

    if (where->inlined) {
        rc = message->frames != 2 ? error_set(err, EPROTO, "the broker sent a result with %zu frames instead of 2",
                                              message->frames)
                                  : payload_decode(message->frame[1].data, message->frame[1].size, &bytes, err);
    }
    return rc == 0 ? handle_result(results, job, where, bytes, err) : rc;
}

// Results of one layer; `all` has the encodings of all of them when they are here.
static int handle_batch(struct results *results, struct job *job, const Dray__ResultBatch *batch,
                        struct buffer *all, struct error *err)
{
    Dray__Result where = DRAY__RESULT__INIT;
    size_t n = 0, at = 0;
    int rc = 0;

    if (batch->why != NULL) {
        return 0; // the job ends with the first failure, and says so
    }
    where.job = batch->job;
    where.layer = batch->layer;
    where.n_endpoint = batch->n_endpoint;
    where.endpoint = batch->endpoint;
    where.has_worker = batch->has_worker;
    where.worker = batch->worker;
    where.has_incarnation = batch->has_incarnation;
    where.incarnation = batch->incarnation;
    for (size_t i = 0; rc == 0 && i < batch->n_first; i++) {
        for (uint32_t k = 0; rc == 0 && k < batch->count[i]; k++, n++) {
            struct buffer *bytes = NULL;

            where.index = batch->first[i] + k;
            where.bytes = batch->bytes[n];
            if (all != NULL) {
                if (batch->inline_bytes[n] > all->size - at) {
                    return error_set(err, EPROTO, "the broker sent results of %zu bytes that say they are larger",
                                     all->size);
                }
                bytes = buffer_slice(all, at, batch->inline_bytes[n]);
                at += batch->inline_bytes[n];
                if (bytes == NULL) {
                    results_fail_job(job, ENOMEM, "no memory for a result");
                    return 0;
                }
            }
            rc = handle_result(results, job, &where, bytes, err);
        }
    }
    return rc;
}

static int handle_results(struct results *results, const Dray__Results *body, struct message *message,
                          struct error *err)
{
    size_t frame = 1;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < body->n_batch; i++) {
        const Dray__ResultBatch *batch = body->batch[i];
        struct job *job = results_find_job(results, batch->job);
        struct buffer *all = NULL;

        if (batch->n_inline_bytes > 0) {
            if (frame >= message->frames) {
                return error_set(err, EPROTO, "the broker sent results without their bytes");
            }
            if (job != NULL) {
                rc = payload_decode(message->frame[frame].data, message->frame[frame].size, &all, err);
            }
            frame++;
        }
        if (rc == 0 && job != NULL) {
            rc = handle_batch(results, job, batch, all, err);
        }
        buffer_unref(all);
    }
    return rc;
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
            results_fail_job(job, ENOMEM, "no memory for a task's note");
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
        results_drop_undelivered(job);
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
        job = results_find_job(results, ((const Dray__Result *)body)->job);
        return job == NULL ? 0 : handle_one(results, job, (const Dray__Result *)body, message, err);
    case FRAME_RESULTS:
        return handle_results(results, (const Dray__Results *)body, message, err);
    case FRAME_NOTES:
        job = results_find_job(results, ((const Dray__Notes *)body)->job);
        return job == NULL ? 0 : handle_notes(job, (const Dray__Notes *)body, err);
    case FRAME_PROGRESS:
        job = results_find_job(results, ((const Dray__Progress *)body)->job);
        if (job != NULL) {
            handle_progress(job, (const Dray__Progress *)body);
        }
        return 0;
    case FRAME_JOB_ENDED:
        job = results_find_job(results, ((const Dray__JobEnded *)body)->job);
        return job == NULL ? 0 : handle_ended(job, (const Dray__JobEnded *)body, err);
    case FRAME_PIECE:
        transfers_piece(results->transfers, (const Dray__Piece *)body, message);
        return 0;
    default:
        return error_set(err, EPROTO, "the broker sent %s, which is not for clients", frame->info->name);
    }
}
