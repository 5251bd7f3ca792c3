#include "client/lib/results_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

static int check_place(const struct job *job, uint32_t layer, uint32_t first, uint32_t count, bool wanted,
                       struct error *err)
{
    if (layer >= job->layers || first >= job->layer[layer].tasks || count > job->layer[layer].tasks - first ||
        (wanted && !job->layer[layer].wanted)) {
        return error_set(err, EPROTO, "the broker speaks of task %u of layer %u, which job %u does not have",
                         first + count - 1, layer, job->id);
    }
    return 0;
}

// ---- results -------------------------------------------------------------------------------------

// What is the same for all ranges of a ResultBatch.
struct intake {
    struct job *job;
    struct layer *layer;
    uint32_t layer_number;
    struct buffer *bytes; // borrowed; NULL: they do not come along
    struct failure *failure;
    const uint32_t *inline_bytes; // sizes, one a result, or
    const uint64_t *sizes;        // these, or none (a failure)
    size_t count;
    uint64_t size; // of each, when they are alike
    bool alike;
    uint16_t where;
    bool apart; // no bytes came with them
};

static uint64_t size_at(const struct intake *in, size_t place)
{
    return in->inline_bytes != NULL ? in->inline_bytes[place] : in->sizes != NULL ? in->sizes[place] : 0;
}

// Whether all are of one size; *total: all of them.
static void measure(struct intake *in, uint64_t *total)
{
    uint64_t sum = 0, first = in->count > 0 ? size_at(in, 0) : 0;
    bool alike = true;

    for (size_t i = 0; i < in->count; i++) {
        uint64_t size = size_at(in, i);

        alike = alike && size == first;
        sum += size;
    }
    in->alike = alike;
    in->size = first;
    *total = sum;
}

static void fill_where(const struct intake *in, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        in->layer->where[i] = in->where;
    }
}

// A result that was lost and could not be made again, while somebody waits for it.
static void fail_lost(const struct intake *in, uint32_t index)
{
    struct fetch *fetch = fetch_find(in->job, in->layer_number, index);

    if (fetch == NULL) {
        return;
    }
    if (fetch->for_gather && in->job->results->gather != NULL) {
        gather_fail_task(in->job->results->gather, in->job, in->layer_number, index);
    }
    if (fetch->for_user) {
        results_fail_job(in->job, in->failure->code, in->failure->text);
    } else {
        fetch_cancel(fetch);
    }
}

// Results that were here already: made again after a loss, or said twice.
static void move_range(const struct intake *in, uint32_t first, uint32_t count)
{
    if (in->failure != NULL) {
        layer_add(in->layer, TASK_FAILED, first, count);
        fill_where(in, first, count);
        for (uint32_t i = first; in->job->results->fetch != NULL && i < first + count; i++) {
            fail_lost(in, i);
        }
        return;
    }
    if (in->where == 0) {
        return;
    }
    for (uint32_t i = first; i < first + count; i++) {
        if (!layer_has(in->layer, TASK_FAILED, i)) {
            bool same = in->layer->where[i] == in->where;

            in->layer->where[i] = in->where;
            if (in->job->results->fetch != NULL) {
                fetch_moved(in->job, in->layer_number, i, same);
            }
        }
    }
}

static void remember_failure(const struct intake *in, uint32_t first, uint32_t count)
{
    struct job *job = in->job;

    layer_add(in->layer, TASK_FAILED, first, count);
    if (job->failed == NULL) {
        job->failed = malloc(FAILURES_KEPT * sizeof(*job->failed));
    }
    if (job->failed != NULL && job->failures < FAILURES_KEPT) {
        job->failed[job->failures++] = (struct failed_range){in->layer_number, first, count, in->failure};
        in->failure->refs++;
    }
}

static bool is_small(const struct intake *in)
{
    bool small = true;

    for (size_t i = 0; small && i < (in->alike ? 1 : in->count); i++) {
        small = size_at(in, i) <= INLINE_BYTES_MAX;
    }
    return small;
}

static struct batch *begin_batch(const struct intake *in, uint32_t ranges)
{
    struct batch *batch = batch_create(in->job, in->layer_number, ranges, in->alike ? 0 : in->count);

    if (batch == NULL) {
        return NULL;
    }
    batch->bytes = buffer_ref(in->bytes);
    batch->size = in->size;
    if (in->failure != NULL) {
        batch->failure = in->failure;
        in->failure->refs++;
    }
    // Of a pool they are only told of, but those that came along in the session that was lost.
    batch->announced =
        in->bytes == NULL && in->failure == NULL && !in->job->options.unfetched &&
        (in->job->options.unfinished == NULL || (in->apart && in->job->rejoined && is_small(in)));
    for (size_t i = 0; !in->alike && i < in->count; i++) {
        batch->sizes[i] = size_at(in, i);
    }
    return batch;
}

static uint64_t bytes_of(const struct intake *in, uint32_t place, uint32_t count)
{
    uint64_t bytes = in->alike ? count * in->size : 0;

    for (uint32_t i = 0; !in->alike && i < count; i++) {
        bytes += size_at(in, place + i);
    }
    return bytes;
}

static void put_range(const struct intake *in, struct batch *batch, uint32_t first, uint32_t count,
                      uint32_t place, uint64_t offset)
{
    batch->range[batch->ranges++] = (struct batch_range){first, count, place, offset};
    batch->left += count;
    batch->held += in->bytes != NULL ? bytes_of(in, place, count) : 0;
    layer_add(in->layer, TASK_HERE, first, count);
    fill_where(in, first, count);
    if (in->failure != NULL) {
        remember_failure(in, first, count);
    } else if (in->bytes != NULL && job_frees_read(in->job)) {
        job_mark_read(in->job, in->layer_number, first, count);
    }
}

static void finish_batch(const struct intake *in, struct batch *batch)
{
    struct results *results = in->job->results;

    job_count_finished(in->job, batch->left);
    results->bytes_held += batch->held;
    if (results->gather != NULL) {
        batch->left -= gather_offer(results->gather, batch);
    }
    if (batch->left == 0) {
        batch_destroy(batch);
    } else {
        batch_append(batch);
    }
}

// All ranges but what is here already.  In an ordered job each is a batch of its own.
static int take_ranges(const struct intake *in, const Dray__ResultBatch *from, uint32_t fresh,
                       struct error *err)
{
    bool ordered = in->job->options.ordered;
    struct batch *batch = ordered ? NULL : begin_batch(in, fresh);
    uint32_t place = 0;
    uint64_t offset = 0;
    int rc = 0;

    if (batch == NULL && !ordered) {
        return -ENOMEM;
    }
    for (size_t r = 0; r < from->n_first && rc == 0; r++) {
        uint32_t end = from->first[r] + from->count[r];

        for (uint32_t at = from->first[r]; at < end;) {
            bool here;
            uint32_t n = layer_alike(in->layer, TASK_HERE, at, end, &here);

            if (!here && !ordered && batch->ranges == fresh) { // one range lies within a later one
                rc = error_set(err, EPROTO, "the broker sent a result of layer %u of job %u twice at once",
                               in->layer_number, in->job->id);
                break;
            }
            if (!here) {
                struct batch *to = ordered ? begin_batch(in, 1) : batch;

                if (to == NULL) {
                    return -ENOMEM;
                }
                put_range(in, to, at, n, place, offset);
                if (ordered) {
                    finish_batch(in, to);
                }
            }
            offset += in->bytes != NULL ? bytes_of(in, place, n) : 0;
            place += n;
            at += n;
        }
    }
    if (!ordered) {
        finish_batch(in, batch);
    }
    return rc;
}

// Which of them are new, and what becomes of the others.
static uint32_t count_fresh(const struct intake *in, const Dray__ResultBatch *from)
{
    uint32_t fresh = 0;

    for (size_t r = 0; r < from->n_first; r++) {
        uint32_t end = from->first[r] + from->count[r];

        for (uint32_t at = from->first[r]; at < end;) {
            bool here;
            uint32_t n = layer_alike(in->layer, TASK_HERE, at, end, &here);

            if (here) {
                move_range(in, at, n);
            }
            fresh += here ? 0 : 1;
            at += n;
        }
    }
    return fresh;
}

// In an ordered job all others may wait for the next one of its layer.
static bool is_awaited(const struct intake *in, const Dray__ResultBatch *from)
{
    for (size_t r = 0; in->job->options.ordered && r < from->n_first; r++) {
        if (in->layer->next - from->first[r] < from->count[r]) {
            return true;
        }
    }
    return false;
}

static int prepare(struct intake *in)
{
    int rc = layer_prepare(in->layer);

    if (rc == 0 && in->job->options.ordered && in->layer->at == NULL) {
        in->layer->at = calloc(in->layer->tasks, sizeof(struct batch *));
        rc = in->layer->at != NULL ? 0 : -ENOMEM;
    }
    return rc;
}

static bool is_full(const struct results *results)
{
    return results->bytes_held + results->overhead >= results->bytes_max;
}

bool results_full(struct results *results)
{
    return is_full(results) && results_pending(results);
}

// What failed, its text left out when there is no room for more.
static struct failure *make_failure(const struct intake *in, const Dray__Failure *why)
{
    int code = why->code > 0 ? why->code : EIO;

    return failure_create(code, is_full(in->job->results) ? strerror(code) : why->text);
}

// payload: of the message, or NULL when there is none.
static int take_batch(struct intake *in, const Dray__ResultBatch *from, const struct message_frame *payload,
                      struct error *err)
{
    struct results *results = in->job->results;
    struct buffer *bytes = NULL;
    uint64_t total;
    uint32_t fresh;
    int rc = prepare(in);

    if (rc == 0 && from->why != NULL) {
        in->failure = make_failure(in, from->why);
        in->where = in->failure != NULL ? (uint16_t)in->failure->code : 0;
        rc = in->failure != NULL ? 0 : -ENOMEM;
    }
    fresh = rc == 0 ? count_fresh(in, from) : 0;
    if (fresh == 0) {
        failure_unref(in->failure);
        return rc;
    }
    if (payload != NULL && (!is_full(results) || in->where == 0 || is_awaited(in, from) ||
                            gather_wants(results->gather, in->job, in->layer_number))) {
        // Without room their bytes are dropped and fetched later.
        rc = payload_decode(payload->data, payload->size, &bytes, err);
        // What was damaged on the way is fetched from who made it.
        rc = rc == -EBADMSG && in->where != 0 ? 0 : rc;
    }
    if (rc != 0) {
        failure_unref(in->failure);
        return rc;
    }
    if (in->inline_bytes == NULL && bytes != NULL && in->count == 1) {
        in->sizes = NULL; // of a RESULT: it is all there is
        in->alike = true;
        in->size = bytes->size;
    } else {
        measure(in, &total);
        if (bytes != NULL && total != bytes->size) {
            rc = error_set(err, EPROTO, "the broker sent %zu bytes for results of %llu", bytes->size,
                           (unsigned long long)total);
        }
    }
    in->bytes = bytes;
    if (rc == 0) {
        rc = take_ranges(in, from, fresh, err);
    }
    buffer_unref(bytes);
    failure_unref(in->failure);
    return rc;
}

static int handle_batch(struct results *results, const Dray__ResultBatch *from,
                        const struct message_frame *payload, struct error *err)
{
    struct job *job = results_find_job(results, from->job);
    struct intake in = {.job = job, .layer_number = from->layer};
    int rc = 0;

    if (job == NULL) {
        return 0;
    }
    for (size_t i = 0; i < from->n_first && rc == 0; i++) {
        rc = check_place(job, from->layer, from->first[i], from->count[i], true, err);
    }
    if (rc != 0 || (job->ended && job->end.type != DRAY_DONE) || from->n_first == 0 ||
        job->layer[from->layer].gone) {
        return rc;
    }
    in.layer = &job->layer[from->layer];
    in.inline_bytes = from->n_inline_bytes > 0 ? from->inline_bytes : NULL;
    in.sizes = from->bytes;
    in.count = from->n_inline_bytes > 0 ? from->n_inline_bytes : from->n_bytes;
    in.apart = payload == NULL && from->why == NULL;
    in.where = source_number(results, from->has_worker, from->worker, from->incarnation, from->endpoint,
                             from->n_endpoint);
    rc = take_batch(&in, from, payload, err);
    if (rc == -ENOMEM) {
        results_fail_job(job, ENOMEM, "no memory for results");
        return 0;
    }
    fetches_admit(results);
    return rc;
}

static int handle_results(struct results *results, const Dray__Results *message_body,
                          const struct message *message, struct error *err)
{
    size_t frames = 1;
    int rc = 0;

    for (size_t i = 0; i < message_body->n_batch; i++) {
        frames += message_body->batch[i]->n_inline_bytes > 0 ? 1 : 0;
    }
    if (message->frames != frames) {
        return error_set(err, EPROTO, "the broker sent results with %zu frames instead of %zu",
                         message->frames, frames);
    }
    frames = 1;
    for (size_t i = 0; i < message_body->n_batch && rc == 0; i++) {
        const Dray__ResultBatch *batch = message_body->batch[i];

        rc = handle_batch(results, batch, batch->n_inline_bytes > 0 ? &message->frame[frames++] : NULL, err);
    }
    return rc;
}

// A single one, as a batch.
static int handle_result(struct results *results, const Dray__Result *from, const struct message *message,
                         struct error *err)
{
    Dray__ResultBatch batch = DRAY__RESULT_BATCH__INIT;
    uint32_t first = from->index, count = 1;
    uint64_t bytes = from->bytes;

    if (message->frames != (from->inlined ? 2U : 1U)) {
        return error_set(err, EPROTO, "the broker sent a result with %zu frames", message->frames);
    }
    batch.job = from->job;
    batch.layer = from->layer;
    batch.n_first = batch.n_count = batch.n_bytes = 1;
    batch.first = &first;
    batch.count = &count;
    batch.bytes = &bytes;
    batch.endpoint = from->endpoint;
    batch.n_endpoint = from->n_endpoint;
    batch.has_worker = from->has_worker;
    batch.worker = from->worker;
    batch.incarnation = from->incarnation;
    return handle_batch(results, &batch, from->inlined ? &message->frame[1] : NULL, err);
}

// ---- what else there is to say of a job ---------------------------------------------------------------

static int handle_notes(struct job *job, const Dray__Notes *notes, struct error *err)
{
    for (size_t i = 0; i < notes->n_note; i++) {
        const Dray__TaskNote *from = notes->note[i];
        struct layer *layer;
        struct note *note;
        int rc = check_place(job, notes->layer, from->index, 1, false, err);

        if (rc != 0) {
            return rc;
        }
        layer = &job->layer[notes->layer];
        if (job->options.unfinished != NULL &&
            (layer->gone || layer_has(layer, TASK_GONE, from->index) || is_full(job->results))) {
            continue; // of no interest, or to nobody so far
        }
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
        job->results->overhead += sizeof(*note) + note->size;
        *job->note_end = note;
        job->note_end = &note->next;
        job_list(job, JOBS_STIRRED);
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
    event->failed = from->failed;
    event->rows = from->rows;
    event->source_bytes = from->source_bytes;
    event->workers = from->workers;
    event->stuck = from->stuck;
    if (from->waiting != NULL) {
        snprintf(job->waiting, sizeof(job->waiting), "%s", from->waiting);
        event->waiting = job->waiting;
    }
    job->progress_fresh = true;
    job_list(job, JOBS_STIRRED);
}

static int handle_ended(struct job *job, const Dray__JobEnded *from, struct error *err)
{
    struct dray_event *event = &job->end;

    // A job that was done may still fail when a lost result cannot be made again.
    if (job->ended && (event->type != DRAY_DONE || (job->end_delivered && job->options.unfinished == NULL))) {
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
    job->ended = true;
    job_list(job, JOBS_STIRRED);
    if (event->type == DRAY_DONE) {
        // Its end comes behind all of its results.
        if (job->results->gather != NULL) {
            gather_job_done(job->results->gather, job);
        }
        job_miss_results(job);
        // Of a pool's job that was full there is nothing to say.
        job->end_delivered = job->options.unfinished != NULL;
        job_list(job, JOBS_UNFLUSHED);
        return 0;
    }
    job->end_delivered = false;
    job_drop_undelivered(job);
    job_finish(job);
    if (job->results->gather != NULL) {
        gather_job_ended(job->results->gather, job);
    }
    return 0;
}

int results_handle(struct results *results, const struct frame *frame, struct message *message,
                   struct error *err)
{
    const ProtobufCMessage *body = frame->message;
    struct job *job;

    switch (frame->info->type) {
    case FRAME_RESULTS:
        return handle_results(results, (const Dray__Results *)body, message, err);
    case FRAME_RESULT:
        return handle_result(results, (const Dray__Result *)body, message, err);
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
