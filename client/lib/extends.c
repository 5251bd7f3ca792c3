#include "client/lib/extends.h"

#include <errno.h>
#include <stdlib.h>

enum {
    // Not confirmed.  The broker keeps more of one client (GATED_BYTES_MAX), decoded.
    WINDOW_BYTES = 16 << 20,
    WINDOW = 1000,
};

struct extend {
    struct extend *next;
    uint32_t job, first_layer, layers;
    uint8_t *graph; // NULL: only `last`
    size_t size;
    bool last;
    bool sent; // on this connection; none behind one that is not
};

static void extend_free(struct extend *extend)
{
    free(extend->graph);
    free(extend);
}

void extends_fini(struct extends *extends)
{
    while (extends->first != NULL) {
        struct extend *next = extends->first->next;

        extend_free(extends->first);
        extends->first = next;
    }
    *extends = (struct extends){0};
}

int extends_add(struct extends *extends, uint32_t job, uint32_t first_layer, uint32_t layers, uint8_t **graph,
                size_t size, bool last, struct error *err)
{
    struct extend *extend = malloc(sizeof(*extend));

    if (extend == NULL) {
        return error_no_memory(err);
    }
    *extend = (struct extend){NULL, job, first_layer, layers, *graph, size, last, false};
    *graph = NULL;
    *(extends->last != NULL ? &extends->last->next : &extends->first) = extend;
    extends->last = extend;
    extends->pending = extends->pending != NULL ? extends->pending : extend;
    extends->unsent++;
    return 0;
}

// One always is.
static bool is_too_much(const struct extends *extends, const struct extend *next)
{
    return extends->under_way > 0 &&
           (extends->under_way >= WINDOW || extends->under_way_bytes + next->size > WINDOW_BYTES);
}

int extends_send(struct extends *extends, struct uplink *uplink, bool all, struct error *err)
{
    for (struct extend *at = extends->pending; at != NULL; at = at->next) {
        Dray__Extend message = DRAY__EXTEND__INIT;
        int rc;

        if (!all && is_too_much(extends, at)) {
            return error_set(err, EAGAIN,
                             "the broker has not confirmed what it has: %zu bytes in %zu messages",
                             extends->under_way_bytes, extends->under_way);
        }
        message.job = at->job;
        message.first_layer = at->first_layer;
        message.has_graph = at->graph != NULL;
        message.graph.data = at->graph;
        message.graph.len = at->size;
        message.has_last = message.last = at->last;
        rc = uplink_send(uplink, FRAME_EXTEND, &message.base, err);
        if (rc != 0) {
            return rc;
        }
        at->sent = true;
        extends->pending = at->next;
        extends->unsent--;
        extends->under_way++;
        extends->under_way_bytes += at->size;
    }
    return 0;
}

void extends_confirm(struct extends *extends, uint32_t job, uint32_t layers, bool last)
{
    struct extend **link = &extends->first;
    struct extend *before = NULL;

    while (*link != NULL) {
        struct extend *at = *link;
        bool covered = (uint64_t)at->first_layer + at->layers <= layers;

        if (at->job == job && (!covered || (at->graph == NULL && !last))) {
            return; // they are in order
        }
        if (at->job == job) {
            *link = at->next;
            extends->unsent -= !at->sent;
            extends->under_way -= at->sent;
            extends->under_way_bytes -= at->sent ? at->size : 0;
            extends->last = extends->last == at ? before : extends->last;
            extends->pending = extends->pending == at ? at->next : extends->pending;
            extend_free(at);
        } else {
            before = at;
            link = &at->next;
        }
    }
}

void extends_take_back(struct extends *extends)
{
    struct extend **link = &extends->first;
    struct extend *before = NULL;

    while (*link != extends->last) {
        before = *link;
        link = &before->next;
    }
    extends->unsent -= !extends->last->sent;
    extends->under_way -= extends->last->sent;
    extends->under_way_bytes -= extends->last->sent ? extends->last->size : 0;
    extends->pending = extends->pending == extends->last ? NULL : extends->pending;
    extend_free(extends->last);
    *link = NULL;
    extends->last = before;
}

void extends_forget(struct extends *extends, uint32_t job)
{
    extends_confirm(extends, job, UINT32_MAX, true);
}

bool extends_unsent(const struct extends *extends, uint32_t job)
{
    const struct extend *at = extends->pending;

    while (at != NULL && at->job != job) {
        at = at->next;
    }
    return at != NULL;
}

bool extends_open(const struct extends *extends, uint32_t job)
{
    const struct extend *at = extends->first;

    while (at != NULL && at->job != job) {
        at = at->next;
    }
    return at != NULL;
}

uint32_t extends_lowest(const struct extends *extends, uint32_t job, uint32_t layers)
{
    for (const struct extend *at = extends->first; at != NULL; at = at->next) {
        if (at->job == job && at->layers > 0) {
            return at->first_layer; // they are in order
        }
    }
    return layers;
}

void extends_rewind(struct extends *extends)
{
    extends->unsent = extends->under_way = extends->under_way_bytes = 0;
    extends->pending = extends->first;
    for (struct extend *at = extends->first; at != NULL; at = at->next) {
        at->sent = false;
        extends->unsent++;
    }
}
