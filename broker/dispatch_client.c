#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "broker/ranges.h"
#include "proto/schema.h"

enum {
    NOTE_BYTES_MAX = 1 << 20, // of SUBMIT
    NAMES_SHOWN_MAX = 8,      // of workers, in the words of an error
};

static void fill_failure(Dray__Failure *failure, const struct error *why)
{
    dray__failure__init(failure);
    failure->code = why->code;
    failure->text = (char *)(uintptr_t)why->text; // only read
}

// ---- jobs -------------------------------------------------------------------------

static int check_graph_size(const ProtobufCBinaryData *graph, struct error *err)
{
    return graph->len <= FRAME_GRAPH_MAX
               ? 0
               : error_set(err, EMSGSIZE,
                           "a graph of %zu bytes: at most %zu can be at once (submit an open job, and the layers "
                           "one after another)",
                           graph->len, FRAME_GRAPH_MAX);
}

// The packed form of a graph that has been unpacked: so much less of it at a time.
static void drop_packed(struct turn *turn, const ProtobufCBinaryData *packed)
{
    arena_drop(&turn->arena, packed->data);
}

static int check_submit(const Dray__Submit *submit, struct turn *turn, struct arena **arena,
                        const Dray__Graph **graph, struct error *why)
{
    int rc;

    if (submit->has_note && submit->note.len > NOTE_BYTES_MAX) {
        return error_set(why, EMSGSIZE, "the job's note has %zu bytes; at most %d can be", submit->note.len,
                         NOTE_BYTES_MAX);
    }
    if (submit->graph.len == 0) { // open, or it would not have come so far
        *graph = NULL;
        return 0;
    }
    rc = check_graph_size(&submit->graph, why);
    if (rc != 0) {
        return rc;
    }
    *arena = turn_arena(turn);
    if (*arena == NULL) {
        return error_no_memory(why);
    }
    rc = graph_decode(submit->graph.data, submit->graph.len, *arena, graph, why);
    drop_packed(turn, &submit->graph);
    return rc;
}

int dispatch_submit(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Submit *submit = (const Dray__Submit *)message;
    struct turn *turn = broker_turn(broker);
    const Dray__Graph *graph = NULL;
    struct arena *arena = NULL;
    struct sched_event *event;
    struct error why = {0};

    (void)frames;
    if (check_submit(submit, turn, &arena, &graph, &why) != 0) {
        Dray__Rejected rejected = DRAY__REJECTED__INIT;
        Dray__Failure failure;

        fill_failure(&failure, &why);
        rejected.key_hi = submit->key_hi;
        rejected.key_lo = submit->key_lo;
        rejected.why = &failure;
        sessions_send(broker->sessions, peer, FRAME_REJECTED, &rejected.base, NULL, 0);
        return 0;
    }
    event = turn_add(turn, EVENT_SUBMIT);
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.submit.client = peer->number;
    event->u.submit.key_hi = submit->key_hi;
    event->u.submit.key_lo = submit->key_lo;
    event->u.submit.graph = graph;
    event->u.submit.arena = arena;
    event->u.submit.detached = submit->detached;
    event->u.submit.open = submit->open;
    event->u.submit.priority = submit->priority;
    event->u.submit.failures_max = submit->failures_max;
    event->u.submit.name = submit->name;
    event->u.submit.note = submit->note.data;
    event->u.submit.note_size = submit->has_note ? submit->note.len : 0;
    return 0;
}

int dispatch_extend(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                    struct message *frames, struct error *err)
{
    const Dray__Extend *extend = (const Dray__Extend *)message;
    struct turn *turn = broker_turn(broker);
    ProtobufCMessage *graph = NULL;
    struct arena *arena = NULL;
    struct sched_event *event;

    (void)frames;
    if (extend->has_graph && extend->graph.len > 0) {
        int rc;

        rc = check_graph_size(&extend->graph, err);
        if (rc != 0) {
            return rc;
        }
        arena = turn_arena(turn);
        rc = arena != NULL ? schema_unpack(&dray__graph__descriptor, extend->graph.data, extend->graph.len,
                                           arena, &graph, err)
                           : error_no_memory(err);
        drop_packed(turn, &extend->graph);
        if (rc != 0) {
            return rc;
        }
    }
    event = turn_add(turn, EVENT_EXTEND);
    if (event == NULL || turn_extended(turn, peer->number, extend->job) != 0) {
        return error_no_memory(err);
    }
    event->u.extend.client = peer->number;
    event->u.extend.job = extend->job;
    event->u.extend.first_layer = extend->first_layer;
    event->u.extend.graph = (const Dray__Graph *)graph;
    event->u.extend.arena = arena;
    event->u.extend.last = extend->last;
    return 0;
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

    (void)frames;
    return add_job_event(broker, peer, EVENT_CANCEL, cancel->job, cancel->run, cancel->n_run, err);
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
    if (rc == 1) {
        rc = tell_kept(broker, peer, keep->job, true, err);
        if (rc != 0) {
            kept_remove(&broker->kept, keep->name);
            return rc;
        }
    }
    reply(broker, peer, keep->tag, &why);
    return 0;
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
    } else {
        int rc = tell_kept(broker, peer, job, false, err);

        if (rc != 0) {
            return rc;
        }
    }
    reply(broker, peer, unkeep->tag, &why);
    return 0;
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

static void tell_to_leave(struct broker *broker, const char *name, const struct peer *client)
{
    const Dray__Retire message = DRAY__RETIRE__INIT;
    struct peer *next;

    for (struct peer *peer = broker->peers.first; peer != NULL; peer = next) {
        next = peer->next; // one that cannot be told is gone
        if (peer->role == FROM_WORKER && !peer->gone && strcmp(peer->name, name) == 0) {
            log_write(broker->options.log, LEVEL_INFO, "worker %s is to leave, says client %s", peer->name,
                      client->name);
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
                      names[0] != '\0' ? "there are " : "there is none", names);
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
