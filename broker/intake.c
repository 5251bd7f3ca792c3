#include "broker/intake.h"

#include <errno.h>

#include "proto/frame.h"
#include "proto/graph.h"
#include "proto/schema.h"

enum { NOTE_BYTES_MAX = 1 << 20 }; // of SUBMIT

static int check_graph_size(const ProtobufCBinaryData *graph, struct error *err)
{
    return graph->len <= FRAME_GRAPH_MAX
               ? 0
               : error_set(
                     err, EMSGSIZE,
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
                        const Dray__Graph **graph, struct error *err)
{
    int rc;

    if (submit->has_note && submit->note.len > NOTE_BYTES_MAX) {
        return error_set(err, EMSGSIZE, "the job's note has %zu bytes; at most %d can be", submit->note.len,
                         NOTE_BYTES_MAX);
    }
    if (submit->graph.len == 0) { // open, or it would not have come so far
        *graph = NULL;
        return 0;
    }
    rc = check_graph_size(&submit->graph, err);
    if (rc != 0) {
        return rc;
    }
    *arena = turn_arena(turn);
    if (*arena == NULL) {
        return error_no_memory(err);
    }
    rc = graph_decode(submit->graph.data, submit->graph.len, *arena, graph, err);
    drop_packed(turn, &submit->graph);
    return rc;
}

int intake_submit(struct turn *turn, const Dray__Submit *submit, struct sched_event **out, struct error *err)
{
    const Dray__Graph *graph = NULL;
    struct arena *arena = NULL;
    struct sched_event *event;
    int rc = check_submit(submit, turn, &arena, &graph, err);

    if (rc != 0) {
        return rc;
    }
    event = turn_add(turn, EVENT_SUBMIT);
    if (event == NULL) {
        return error_no_memory(err);
    }
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
    *out = event;
    return 0;
}

int intake_extend(struct turn *turn, const Dray__Extend *extend, struct sched_event **out, struct error *err)
{
    ProtobufCMessage *graph = NULL;
    struct arena *arena = NULL;
    struct sched_event *event;

    if (extend->has_graph && extend->graph.len > 0) {
        int rc = check_graph_size(&extend->graph, err);

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
    if (event == NULL) {
        return error_no_memory(err);
    }
    event->u.extend.job = extend->job;
    event->u.extend.first_layer = extend->first_layer;
    event->u.extend.graph = (const Dray__Graph *)graph;
    event->u.extend.arena = arena;
    event->u.extend.last = extend->last;
    *out = event;
    return 0;
}
