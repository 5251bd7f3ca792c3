#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/ranges.h"
#include "proto/payload.h"

enum {
    FILES_MAX = 100000, // that a worker may advertise
    FILE_NAME_MAX = 4096,
    ENCODING_SLACK = 4096, // of an encoding over the partition's own bytes
};

// `bytes` (NULL: there must be none) gets one number a partition.
static int holdings_to_ranges(struct arena *arena, size_t n, Dray__Holding *const *holding,
                              struct ranges *out, uint64_t **bytes, struct error *err)
{
    size_t total = 0, sizes = 0, at = 0;
    int rc;

    for (size_t i = 0; i < n; i++) {
        total += holding[i]->n_first;
        sizes += holding[i]->n_bytes;
    }
    rc = ranges_init(out, total, arena, err);
    if (rc != 0) {
        return rc;
    }
    if (bytes != NULL && (*bytes = arena_array(arena, sizes + 1, sizeof(**bytes))) == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const Dray__Holding *h = holding[i];

        ranges_append(out, h->job, h->layer, h->n_first, h->first, h->count);
        if (h->n_bytes > 0) {
            memcpy(*bytes + at, h->bytes, h->n_bytes * sizeof(**bytes));
            at += h->n_bytes;
        }
    }
    return 0;
}

int dispatch_heartbeat(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                       struct message *frames, struct error *err)
{
    const Dray__Heartbeat *beat = (const Dray__Heartbeat *)message;
    struct sched_event *event;

    (void)frames;
    if (peer->role != FROM_WORKER) {
        return 0;
    }
    peer->memory_used = beat->memory_used;
    peer->rss = beat->rss;
    peer->ran = beat->ran;
    peer->damaged = beat->damaged;
    peer->running = beat->running;
    peer->queued = beat->queued;
    event = turn_add(broker_turn(broker), EVENT_WORKER_STATUS);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.status.worker = peer->number;
    event->u.status.memory_used = peer->memory_used;
    event->u.status.rss = peer->rss;
    event->u.status.running = peer->running;
    event->u.status.queued = peer->queued;
    return 0;
}

// The worker's own copy of the names, and the event that points to it.
static int take_files(struct broker *broker, struct peer *peer, const Dray__Advertise *advertise,
                      struct error *err)
{
    struct turn *turn = broker_turn(broker);
    size_t n = advertise->n_file;
    char **file = NULL;
    const char **name = arena_array(&turn->arena, n + 1, sizeof(*name));
    const char **path = arena_array(&turn->arena, n + 1, sizeof(*path));
    struct sched_event *event;

    if (n > FILES_MAX) {
        return error_set(err, EBADMSG, "ADVERTISE names %zu files; at most %d can be", n, FILES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (strlen(advertise->file[i]->name) > FILE_NAME_MAX ||
            strlen(advertise->file[i]->path) > FILE_NAME_MAX) {
            return error_set(err, EBADMSG, "ADVERTISE has a file name of more than %d bytes", FILE_NAME_MAX);
        }
    }
    if (name == NULL || path == NULL || (file = calloc(2 * n + 1, sizeof(*file))) == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        name[i] = advertise->file[i]->name;
        path[i] = advertise->file[i]->path;
        file[2 * i] = strdup(name[i]);
        file[2 * i + 1] = strdup(path[i]);
        if (file[2 * i] == NULL || file[2 * i + 1] == NULL) {
            goto no_memory;
        }
    }
    event = turn_add(turn, EVENT_SOURCES);
    if (event == NULL) {
        goto no_memory;
    }
    event->u.sources.worker = peer->number;
    event->u.sources.count = n;
    event->u.sources.name = name;
    event->u.sources.path = path;
    peer_set_files(peer, file, n);
    return 0;
no_memory:
    for (size_t i = 0; i < 2 * n; i++) {
        free(file[i]);
    }
    free(file);
    return error_no_memory(err);
}

int dispatch_advertise(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                       struct message *frames, struct error *err)
{
    const Dray__Advertise *advertise = (const Dray__Advertise *)message;
    const Dray__Retire retire = DRAY__RETIRE__INIT;
    struct turn *turn = broker_turn(broker);
    struct ranges add, gone, has;
    uint64_t *bytes = NULL;
    struct sched_event *event;
    int rc;

    (void)frames;
    rc = holdings_to_ranges(&turn->arena, advertise->n_add, advertise->add, &add, &bytes, err);
    if (rc == 0) {
        rc = holdings_to_ranges(&turn->arena, advertise->n_gone, advertise->gone, &gone, NULL, err);
    }
    if (rc == 0) {
        rc = ranges_refuse_repeats(&gone, err);
    }
    if (rc == 0) {
        rc =
            ranges_from_runs(&has, advertise->has, advertise->full ? advertise->n_has : 0, &turn->arena, err);
    }
    if (rc == 0 && advertise->files_full) {
        rc = take_files(broker, peer, advertise, err);
    }
    if (rc == 0 && advertise->full && leavers_has(&broker->leavers, peer->incarnation)) {
        sessions_send(broker->sessions, peer, FRAME_RETIRE, &retire.base, NULL,
                      0); // what was lost with a connection
    }
    if (rc != 0 || (!advertise->full && add.count == 0 && gone.count == 0)) {
        return rc;
    }
    event = turn_add(turn, EVENT_HOLDING);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.holding.worker = peer->number;
    event->u.holding.full = advertise->full;
    event->u.holding.adds = add.count;
    event->u.holding.add = add.range;
    event->u.holding.bytes = bytes;
    event->u.holding.gones = gone.count;
    event->u.holding.gone = gone.range;
    event->u.holding.hases = has.count;
    event->u.holding.has = has.range;
    return 0;
}

// For clients that come later.  With a journal, the scheduler hears of it when those that are vital are safe.
static int keep_notes(struct broker *broker, const Dray__Notes *notes)
{
    struct sched_brief job;
    bool is_new = false, is_vital = false;
    struct entry *entry;

    if (sched_job_brief(broker->sched, notes->job, &job) != 0 || notes->layer >= job.layers) {
        return 0;
    }
    for (size_t i = 0; i < notes->n_note; i++) {
        const Dray__TaskNote *note = notes->note[i];
        int rc =
            notes_add(&broker->notes, notes->job, notes->layer, note->index, note->note.data, note->note.len);

        if (rc == -ENOSPC) {
            log_write(broker->options.log, LEVEL_WARNING,
                      "job %" PRIu32
                      ": there are more notes of tasks than the broker keeps; a client that takes "
                      "the job over will not hear of all",
                      notes->job);
            return 0;
        }
        if (rc < 0) {
            return rc;
        }
        is_new = is_new || rc == 1;
        is_vital = is_vital || (rc == 1 && notes_is_vital(note->note.data, note->note.len));
    }
    if (!is_new || broker->journal == NULL) {
        return 0;
    }
    entry = recorder_pack(ENTRY_NOTES, notes->job, 0, &notes->base);
    if (entry == NULL) {
        return -ENOMEM;
    }
    if (is_vital) {
        recorder_wait(broker, entry);
    } else {
        journal_append_lazily(broker->journal, entry);
    }
    return 0;
}

bool dispatch_has_vital_notes(const struct broker *broker, const Dray__Done *done)
{
    for (size_t i = 0; i < done->n_completed; i++) {
        const Dray__Completed *completed = done->completed[i];

        for (size_t k = 0; k < completed->n_note; k++) {
            const Dray__TaskNote *note = completed->note[k];

            if (notes_is_vital(note->note.data, note->note.len) &&
                !notes_has(&broker->notes, completed->job, completed->layer, note->index)) {
                return true;
            }
        }
    }
    return false;
}

// Word for the job's clients, ahead of the RESULT or JOB_ENDED that it belongs to.
static int pass_notes(struct broker *broker, const Dray__Completed *completed)
{
    Dray__Notes notes = DRAY__NOTES__INIT;
    size_t count;
    const uint32_t *client = readers_of(broker, completed->job, &count);

    notes.job = completed->job;
    notes.layer = completed->layer;
    notes.n_note = completed->n_note;
    notes.note = completed->note;
    // From the end: a client that is lost on the way leaves the list.
    for (size_t i = count; i-- > 0;) {
        struct peer *peer = peers_by_number(&broker->peers, client[i]);

        if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_NOTES, &notes.base, NULL, 0);
            client = readers_of(broker, completed->job, &count);
            i = i < count ? i : count;
        }
    }
    return keep_notes(broker, &notes);
}

// One payload frame with the encodings of many tasks: all that were completed, or those of inline_index.
static int keep_batch(struct parcels *parcels, const Dray__Completed *completed, struct error *err)
{
    const uint32_t *index = completed->inline_index;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < completed->n_inline_index;) {
        struct task_range range = {completed->job, completed->layer, index[i], 1};

        while (++i < completed->n_inline_index && index[i] == range.first + range.count) {
            range.count++;
        }
        rc = parcels_name(parcels, &range);
    }
    for (size_t i = 0; rc == 0 && completed->n_inline_index == 0 && i < completed->n_first; i++) {
        rc = parcels_name(parcels, &(struct task_range){completed->job, completed->layer, completed->first[i],
                                                        completed->count[i]});
    }
    return rc != 0 ? error_no_memory(err) : 0;
}

static int keep_payload(struct broker *broker, const struct peer *peer, struct message *frames, size_t at,
                        uint32_t tasks, const uint32_t *bytes, struct error *err)
{
    struct buffer *payload;

    if (at >= frames->frames) {
        return error_set(err, EBADMSG, "DONE lacks payload frames");
    }
    payload = message_take(frames, at);
    return payload == NULL
               ? error_no_memory(err)
               : parcels_add(&broker_turn(broker)->parcels, peer->number, payload, tasks, bytes, err);
}

// A payload frame for each task.
static int keep_each(struct broker *broker, const struct peer *peer, const Dray__Completed *completed,
                     struct message *frames, size_t *at, struct error *err)
{
    struct turn *turn = broker_turn(broker);
    uint32_t *bytes = arena_array(&turn->arena, completed->n_inline_index + 1, sizeof(*bytes));
    int rc = bytes == NULL ? error_no_memory(err) : 0;

    for (size_t i = 0; rc == 0 && i < completed->n_inline_index; i++, (*at)++) {
        size_t raw = 0;

        if (*at >= frames->frames) {
            return error_set(err, EBADMSG, "DONE lacks payload frames");
        }
        rc = payload_raw_size(frames->frame[*at].data, frames->frame[*at].size, &raw, err);
        if (rc == 0 && raw > INLINE_BYTES_MAX + ENCODING_SLACK) {
            rc = error_set(err, EBADMSG, "DONE has a payload of %zu bytes; at most %zu travel with it", raw,
                           INLINE_BYTES_MAX);
        }
        bytes[i] = (uint32_t)raw;
        rc = rc == 0 ? keep_payload(broker, peer, frames, *at, 1, &bytes[i], err) : rc;
        if (rc == 0 &&
            parcels_name(&turn->parcels, &(struct task_range){completed->job, completed->layer,
                                                              completed->inline_index[i], 1}) != 0) {
            rc = error_no_memory(err);
        }
    }
    return rc;
}

static int keep_payloads(struct broker *broker, const struct peer *peer, const Dray__Completed *completed,
                         struct message *frames, size_t *at, struct error *err)
{
    int rc;

    if (completed->n_inline_bytes == 0) {
        return keep_each(broker, peer, completed, frames, at, err);
    }
    rc = keep_payload(broker, peer, frames, (*at)++, (uint32_t)completed->n_inline_bytes,
                      completed->inline_bytes, err);
    return rc == 0 ? keep_batch(&broker_turn(broker)->parcels, completed, err) : rc;
}

static int on_completed(struct broker *broker, struct peer *peer, const Dray__Completed *completed,
                        struct error *err)
{
    struct turn *turn = broker_turn(broker);
    struct ranges done;
    struct sched_event *event;
    int rc = ranges_init(&done, completed->n_first, &turn->arena, err);

    if (rc != 0) {
        return rc;
    }
    ranges_append(&done, completed->job, completed->layer, completed->n_first, completed->first,
                  completed->count);
    if (completed->n_note > 0 && pass_notes(broker, completed) != 0) {
        return error_no_memory(err);
    }
    event = turn_add(turn, EVENT_TASKS_DONE);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.done.worker = peer->number;
    event->u.done.ranges = done.count;
    event->u.done.range = done.range;
    event->u.done.bytes = completed->bytes;
    event->u.done.job = completed->job;
    event->u.done.rows = completed->rows;
    event->u.done.source_bytes = completed->source_bytes;
    event->u.done.busy_us = completed->busy_us;
    return 0;
}

int dispatch_done(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                  struct message *frames, struct error *err)
{
    const Dray__Done *done = (const Dray__Done *)message;
    size_t at = 2;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < done->n_completed; i++) {
        rc = keep_payloads(broker, peer, done->completed[i], frames, &at, err);
        if (rc == 0) {
            rc = on_completed(broker, peer, done->completed[i], err);
        }
    }
    if (rc == 0 && at != frames->frames) {
        rc = error_set(err, EBADMSG, "DONE has %zu payload frames where %zu were due", frames->frames - 2,
                       at - 2);
    }
    return rc;
}

static int on_failed(struct broker *broker, const struct peer *peer, const Dray__TaskFailed *failed,
                     struct error *err)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_TASK_FAILED);

    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.failed.worker = peer->number;
    event->u.failed.job = failed->job;
    event->u.failed.layer = failed->layer;
    event->u.failed.index = failed->index;
    event->u.failed.code = failed->why->code;
    event->u.failed.text = failed->why->text;
    event->u.failed.missing_input = failed->missing_input;
    event->u.failed.missing_layer = failed->missing_layer;
    event->u.failed.missing_index = failed->missing_index;
    event->u.failed.missing_worker = failed->missing_worker;
    event->u.failed.missing_job = failed->missing_job;
    event->u.failed.busy_us = failed->busy_us;
    return 0;
}

int dispatch_task_failed(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                         struct message *frames, struct error *err)
{
    const Dray__TaskFailed *failed = (const Dray__TaskFailed *)message;

    (void)frames;
    log_write(broker->options.log, LEVEL_INFO, "job %" PRIu32 ": %s", failed->job, failed->why->text);
    return on_failed(broker, peer, failed, err);
}

int dispatch_tasks_failed(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                          struct message *frames, struct error *err)
{
    const Dray__TasksFailed *batch = (const Dray__TasksFailed *)message;
    int rc = 0;

    (void)frames;
    if (batch->n_failed > 0) { // a million of them are worth a line, not a million
        const Dray__TaskFailed *failed = batch->failed[0];

        log_write(broker->options.log, LEVEL_INFO, "job %" PRIu32 ": %s%s", failed->job, failed->why->text,
                  batch->n_failed > 1 ? " (and others)" : "");
    }
    for (size_t i = 0; rc == 0 && i < batch->n_failed; i++) {
        rc = on_failed(broker, peer, batch->failed[i], err);
    }
    return rc;
}

int dispatch_dropped(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                     struct message *frames, struct error *err)
{
    const Dray__Dropped *dropped = (const Dray__Dropped *)message;
    struct turn *turn = broker_turn(broker);
    struct ranges ranges;
    struct sched_event *event;
    int rc = ranges_from_runs(&ranges, dropped->run, dropped->n_run, &turn->arena, err);

    (void)frames;
    if (rc != 0) {
        return rc;
    }
    event = turn_add(turn, EVENT_TASKS_DROPPED);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.dropped.worker = peer->number;
    event->u.dropped.ranges = ranges.count;
    event->u.dropped.range = ranges.range;
    return 0;
}

int dispatch_leaving(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                     struct message *frames, struct error *err)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_WORKER_LEAVING);

    (void)message;
    (void)frames;
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.left.worker = peer->number;
    peer->leaving = true;
    leavers_remove(&broker->leavers, peer->incarnation);
    return 0;
}

int dispatch_piece(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                   struct message *frames, struct error *err)
{
    return relay_piece(broker, peer, (const Dray__Piece *)message, frames, err);
}
