#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "broker/intake.h"
#include "broker/ranges.h"

enum {
    NAMES_SHOWN_MAX = 8, // of workers, in the words of an error
};

static void fill_failure(Dray__Failure *failure, const struct error *why)
{
    dray__failure__init(failure);
    failure->code = why->code;
    failure->text = (char *)(uintptr_t)why->text; // only read
}

// ---- jobs -------------------------------------------------------------------------

static void reject(struct broker *broker, struct peer *peer, const Dray__Submit *submit,
                   const struct error *why)
{
    Dray__Rejected rejected = DRAY__REJECTED__INIT;
    Dray__Failure failure;

    fill_failure(&failure, why);
    rejected.key_hi = submit->key_hi;
    rejected.key_lo = submit->key_lo;
    rejected.why = &failure;
    sessions_send(broker->sessions, peer, FRAME_REJECTED, &rejected.base, NULL, 0);
}

// MB that wait for the journal, when these are too many for anything new; else 0.
static size_t crowd_mb(const struct broker *broker)
{
    size_t waiting = broker->journal != NULL ? journal_waiting(broker->journal) : 0;

    return waiting > JOURNAL_WAITING_MAX ? waiting >> 20 : 0;
}

static int check_room(const struct broker *broker, struct error *err)
{
    size_t crowd = crowd_mb(broker);

    return crowd == 0 ? 0
                      : error_set(err, EAGAIN,
                                  "%zu MB wait to be written to the broker's journal: its disk is full or "
                                  "slow; submit again later",
                                  crowd);
}

static bool reads_others(const Dray__Graph *graph)
{
    for (size_t l = 0; graph != NULL && l < graph->n_layer; l++) {
        for (size_t i = 0; i < graph->layer[l]->n_input; i++) {
            if (graph->layer[l]->input[i]->has_job) {
                return true;
            }
        }
    }
    return false;
}

// It may read layers that were left out.
static int check_heard(const struct peer *peer, const Dray__Graph *graph, struct error *err)
{
    return peer->unheard && reads_others(graph)
               ? error_set(
                     err, EAGAIN,
                     "what this client added to its jobs before waits until the broker's journal has been "
                     "written: submit again later")
               : 0;
}

// The message as it came, for the journal.  The scheduler hears of it when it is safe.
static int keep_message(struct broker *broker, enum entry_type type, uint32_t job, uint64_t at,
                        const struct message *frames, const Dray__Graph *graph, bool refusable)
{
    const struct message_frame *frame = &frames->frame[1];
    struct entry *entry = entry_create(type, job, at, frame->data + FRAME_HEADER, frame->size - FRAME_HEADER);

    if (entry == NULL) {
        return -ENOMEM;
    }
    entry->refusable = refusable;
    entry->reads_others = reads_others(graph);
    gate_charge(&broker->gate, &broker->heard->gated_bytes, entry->size);
    recorder_wait(broker, entry);
    return 0;
}

static uint64_t wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int dispatch_submit(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Submit *submit = (const Dray__Submit *)message;
    struct sched_event *event = NULL;
    struct error why = {0};
    int rc = check_room(broker, &why);

    (void)err;
    if (broker->stopping) {
        return 0; // BYE comes, and the client submits again when the broker is back
    }
    if (rc == 0) {
        rc = intake_submit(broker_turn(broker), submit, &event, &why);
    }
    if (rc == 0) {
        event->u.submit.client = peer->number;
        rc = check_heard(peer, event->u.submit.graph, &why);
        if (rc != 0) {
            broker_turn(broker)->events--; // the scheduler does not hear of it
        }
    }
    // A repeated one as well: what it repeats may be gone when it is through.
    if (rc == 0 && broker->journal != NULL) {
        event->u.submit.number = broker->next_job;
        if (keep_message(broker, ENTRY_JOB, broker->next_job, wall_us(), frames, event->u.submit.graph,
                         true) == 0) {
            broker->next_job++;
        } else {
            broker_turn(broker)->events--;
            rc = error_no_memory(&why);
        }
    }
    if (rc != 0) {
        reject(broker, peer, submit, &why);
    }
    return 0;
}

// What it adds to its jobs is not taken until the journal has room for it, or another broker is there; then
// it connects anew, and says again what it has not been told to be safe.
static bool is_unheard(struct broker *broker, struct peer *peer)
{
    size_t crowd = peer->unheard || broker->stopping ? 0 : crowd_mb(broker);

    if (crowd > 0) {
        log_write(broker->options.log, LEVEL_WARNING,
                  "client %s: what it adds to its jobs waits until the journal has been written: %zu MB are "
                  "too many to keep more",
                  peer->name, crowd);
        broker->has_unheard = true;
    }
    peer->unheard = peer->unheard || broker->stopping || crowd > 0;
    return peer->unheard;
}

static bool is_repetition(const struct sched_event *extend, uint32_t layers)
{
    const Dray__Graph *graph = extend->u.extend.graph;

    return graph != NULL && !extend->u.extend.last &&
           (uint64_t)extend->u.extend.first_layer + graph->n_layer <= layers;
}

int dispatch_extend(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Extend *extend = (const Dray__Extend *)message;
    struct turn *turn = broker_turn(broker);
    struct sched_event *event = NULL;
    struct sched_brief job;
    int rc;

    if (is_unheard(broker, peer)) {
        return 0; // as SUBMIT: what was not said to be safe is sent again
    }
    rc = intake_extend(turn, extend, &event, err);
    if (rc != 0) {
        return rc;
    }
    event->u.extend.client = peer->number;
    if (turn_extended(turn, peer->number, extend->job) != 0) {
        return error_no_memory(err);
    }
    // Of jobs that are there, what is not a repetition as a whole: the scheduler leaves out the rest.
    if (broker->journal != NULL && sched_job_brief(broker->sched, extend->job, &job) == 0 &&
        job.state <= JOB_RUNNING && !is_repetition(event, job.layers)) {
        event->u.extend.id = broker->next_extend++;
        rc = keep_message(broker, ENTRY_LAYERS, extend->job, event->u.extend.id, frames,
                          event->u.extend.graph, false);
    }
    return rc == 0 ? 0 : error_no_memory(err);
}

// CANCEL and FREE: tasks of one job.
static int add_job_event(struct broker *broker, const struct peer *peer, enum sched_event_type type,
                         uint32_t job, Dray__Run *const *run, size_t runs, struct error *err)
{
    struct turn *turn = broker_turn(broker);
    struct ranges ranges;
    struct sched_event *event;
    int rc;

    for (size_t i = 0; i < runs; i++) {
        if (run[i]->job != job) {
            return error_set(err, EBADMSG, "a message on job %" PRIu32 " names tasks of job %" PRIu32, job,
                             run[i]->job);
        }
    }
    rc = ranges_from_runs(&ranges, run, runs, &turn->arena, err);
    if (rc != 0) {
        return rc;
    }
    if (runs > 0 && ranges.count == 0) {
        return 0; // runs of nothing are not the whole job
    }
    event = turn_add(turn, type);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.job.client = peer->number;
    event->u.job.job = job;
    event->u.job.ranges = ranges.count;
    event->u.job.range = ranges.range;
    return 0;
}

int dispatch_cancel(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Cancel *cancel = (const Dray__Cancel *)message;
    struct turn *turn = broker_turn(broker);
    size_t events = turn->events;
    Dray__Reply reply = DRAY__REPLY__INIT;
    int rc = add_job_event(broker, peer, EVENT_CANCEL, cancel->job, cancel->run, cancel->n_run, err);

    (void)frames;
    if (rc != 0 || !cancel->has_tag) {
        return rc;
    }
    if (turn->events == events) { // nothing was named, and there is no step to wait for
        reply.tag = cancel->tag;
        sessions_send(broker->sessions, peer, FRAME_REPLY, &reply.base, NULL, 0);
        return 0;
    }
    return turn_cancel(turn, peer->number, cancel->tag) == 0 ? 0 : error_no_memory(err);
}

int dispatch_free(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                  struct message *frames, struct error *err)
{
    const Dray__Free *freed = (const Dray__Free *)message;

    (void)frames;
    broker->has_freed = true;
    return add_job_event(broker, peer, EVENT_FREE, freed->job, freed->run, freed->n_run, err);
}

// ---- jobs that are there already ------------------------------------------------------

// What the scheduler knows of the job; a name under which it is kept goes with it.
static int find_job(struct broker *broker, uint32_t job, struct sched_job *out, struct error *err)
{
    int rc = sched_job_info(broker->sched, job, out);

    if (rc == -ENOENT) {
        kept_forget_job(&broker->kept, job);
        return error_set(err, ENOENT, "there is no job %" PRIu32 " (it may have ended and been forgotten)",
                         job);
    }
    return rc == 0 ? 0 : error_set(err, -rc, "no word of job %" PRIu32 " can be had", job);
}

static int find_attached(struct broker *broker, const Dray__Attach *attach, struct sched_job *out,
                         struct error *err)
{
    uint32_t job = attach->kept != NULL ? kept_find(&broker->kept, attach->kept) : attach->job;

    if (attach->kept != NULL && (job == 0 || find_job(broker, job, out, err) != 0)) {
        return error_set(err, ENOENT, "no job is kept as \"%s\"", attach->kept);
    }
    return attach->kept != NULL ? 0 : find_job(broker, job, out, err);
}

int dispatch_attach(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Attach *attach = (const Dray__Attach *)message;
    Dray__Attached missing = DRAY__ATTACHED__INIT;
    Dray__Attached *attached = &missing;
    Dray__Failure failure;
    struct sched_job job;
    struct error why = {0};

    (void)frames;
    missing.tag = attach->tag;
    missing.why = &failure;
    if (find_attached(broker, attach, &job, &why) == 0) {
        struct sched_event *event;

        attached = query_attached(broker, attach->tag, &job);
        if (attached == NULL) {
            return error_no_memory(err);
        }
        if (!attach->look) {
            event = turn_add(broker_turn(broker), EVENT_ATTACH);
            if (event == NULL || readers_add(broker, job.job, peer->number) != 0) {
                return error_no_memory(err);
            }
            event->u.attach.client = peer->number;
            event->u.attach.job = job.job;
            event->u.attach.again = attach->again;
            event->u.attach.detach = attach->detach;
            if (attach->detach && !job.detached && broker->journal != NULL) {
                struct entry *entry = entry_create(ENTRY_DETACHED, job.job, 0, NULL, 0);

                if (entry == NULL) {
                    return error_no_memory(err);
                }
                recorder_wait(broker, entry);
            }
            return turn_answer(broker_turn(broker), peer->number, job.job, attached) != 0
                       ? error_no_memory(err)
                       : 0;
        }
    } else {
        fill_failure(&failure, &why);
    }
    sessions_send(broker->sessions, peer, FRAME_ATTACHED, &attached->base, NULL, 0);
    return 0;
}

static void reply(struct broker *broker, struct peer *peer, uint32_t tag, const struct error *why)
{
    Dray__Reply message = DRAY__REPLY__INIT;
    Dray__Failure failure;

    message.tag = tag;
    if (why->code != 0) {
        fill_failure(&failure, why);
        message.why = &failure;
    }
    sessions_send(broker->sessions, peer, FRAME_REPLY, &message.base, NULL, 0);
}

static int tell_kept(struct broker *broker, const struct peer *peer, uint32_t job, bool keep,
                     struct error *err)
{
    struct sched_event *event = turn_add(broker_turn(broker), EVENT_KEEP);

    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.attach.client = peer->number;
    event->u.attach.job = job;
    event->u.attach.keep = keep;
    return 0;
}

// In the journal as well.
static int keep_name(struct broker *broker, enum entry_type type, uint32_t job, const char *name)
{
    struct entry *entry = broker->journal != NULL ? entry_create(type, job, 0, name, strlen(name)) : NULL;

    if (broker->journal == NULL) {
        return 0;
    }
    if (entry == NULL) {
        return -ENOMEM;
    }
    entry->refusable = type == ENTRY_KEPT;
    recorder_wait(broker, entry);
    return 0;
}

int dispatch_keep(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                  struct message *frames, struct error *err)
{
    const Dray__Keep *keep = (const Dray__Keep *)message;
    uint32_t holder = kept_find(&broker->kept, keep->name);
    struct sched_job job;
    struct error why = {0};
    int rc;

    (void)frames;
    if (holder != 0 && holder != keep->job) {
        find_job(broker, holder, &job, NULL); // one that is gone has no name
    }
    rc = find_job(broker, keep->job, &job, &why);
    if (rc == 0) {
        rc = kept_add(&broker->kept, keep->name, keep->job, &why);
    }
    // What is said twice is answered behind what was said before, which may wait for the journal.
    if (rc == 0 && broker->journal != NULL) {
        return turn_reply(broker_turn(broker), peer->number, keep->tag, keep->name, keep->job, 0) != 0
                   ? error_no_memory(err)
                   : 0;
    }
    if (rc != 1) {
        reply(broker, peer, keep->tag, &why);
        return 0;
    }
    if (keep_name(broker, ENTRY_KEPT, keep->job, keep->name) != 0 ||
        turn_reply(broker_turn(broker), peer->number, keep->tag, keep->name, keep->job,
                   kept_serial(&broker->kept, keep->name)) != 0) {
        kept_remove(&broker->kept, keep->name);
        return error_no_memory(err);
    }
    return tell_kept(broker, peer, keep->job, true, err);
}

int dispatch_unkeep(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Unkeep *unkeep = (const Dray__Unkeep *)message;
    uint32_t job = kept_remove(&broker->kept, unkeep->name);
    struct error why = {0};

    (void)frames;
    if (job == 0) {
        error_set(&why, ENOENT, "no job is kept as \"%s\"", unkeep->name);
        reply(broker, peer, unkeep->tag, &why);
        return 0;
    }
    if (keep_name(broker, ENTRY_UNKEPT, job, unkeep->name) != 0 ||
        turn_reply(broker_turn(broker), peer->number, unkeep->tag, NULL, job, 0) != 0) {
        return error_no_memory(err);
    }
    return tell_kept(broker, peer, job, false, err);
}

// ---- workers that are to leave ----------------------------------------------------------

static const struct peer *worker_of_name(const struct broker *broker, const char *name)
{
    for (const struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        if (peer->role == FROM_WORKER && !peer->gone && strcmp(peer->name, name) == 0) {
            return peer;
        }
    }
    return NULL;
}

// The names of some workers that there are.
static char *name_workers(const struct broker *broker, struct arena *arena)
{
    char *text = arena_strdup(arena, "");
    int shown = 0;

    for (const struct peer *peer = broker->peers.first; peer != NULL && text != NULL; peer = peer->next) {
        if (peer->role != FROM_WORKER || peer->gone) {
            continue;
        }
        if (shown++ == NAMES_SHOWN_MAX) {
            return arena_printf(arena, "%s, ...", text);
        }
        text = arena_printf(arena, "%s%s%s", text, shown > 1 ? ", " : "", peer->name);
    }
    return text;
}

// Its connection may be lost with what it is told.  (Without memory it has to be asked again.)
static void note_leaver(struct broker *broker, const struct peer *peer)
{
    if (!peer->leaving) {
        leavers_add(&broker->leavers, peer->incarnation);
    }
}

static void tell_to_leave(struct broker *broker, const char *name, const struct peer *client)
{
    const Dray__Retire message = DRAY__RETIRE__INIT;
    struct peer *next;

    for (struct peer *peer = broker->peers.first; peer != NULL; peer = next) {
        next = peer->next; // one that cannot be told is gone
        if (peer->role == FROM_WORKER && !peer->gone && strcmp(peer->name, name) == 0) {
            log_write(broker->options.log, LEVEL_INFO, "worker %s is to leave, says client %s", peer->name,
                      client->name);
            note_leaver(broker, peer);
            sessions_send(broker->sessions, peer, FRAME_RETIRE, &message.base, NULL, 0);
        }
    }
}

// All of them, or none when one of the names is wrong.
int dispatch_retire(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Retire *retire = (const Dray__Retire *)message;
    struct error why = {0};

    (void)frames;
    for (size_t i = 0; i < retire->n_name && why.code == 0; i++) {
        if (worker_of_name(broker, retire->name[i]) == NULL) {
            const char *names = name_workers(broker, &broker_turn(broker)->arena);

            if (names == NULL) {
                return error_no_memory(err);
            }
            error_set(&why, ENOENT, "no worker is called \"%.100s\": %s%s", retire->name[i],
                      names[0] == '\0'              ? "there is none"
                      : strstr(names, ", ") != NULL ? "there are "
                                                    : "there is ",
                      names);
        }
    }
    for (size_t i = 0; i < retire->n_name && why.code == 0; i++) {
        tell_to_leave(broker, retire->name[i], peer);
    }
    reply(broker, peer, retire->tag, &why);
    return 0;
}

// ---- questions ------------------------------------------------------------------------

int dispatch_job_query(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                       struct message *frames, struct error *err)
{
    (void)frames;
    return query_jobs(broker, peer, (const Dray__JobQuery *)message, err);
}

int dispatch_cluster_query(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                           struct message *frames, struct error *err)
{
    (void)frames;
    return query_cluster(broker, peer, (const Dray__ClusterQuery *)message, err);
}

int dispatch_source_query(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                          struct message *frames, struct error *err)
{
    (void)frames;
    return query_sources(broker, peer, (const Dray__SourceQuery *)message, err);
}

int dispatch_fetch(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                   struct message *frames, struct error *err)
{
    (void)frames;
    return relay_fetch(broker, peer, (const Dray__Fetch *)message, err);
}
