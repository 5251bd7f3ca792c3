// Layers for open jobs on their way to the broker, until it has said that they are safe (EXTENDED).  After a
// lost connection they are sent again in the order in which they came, whatever their jobs: one may read
// another's.
#ifndef DRAY_CLIENT_LIB_EXTENDS_H
#define DRAY_CLIENT_LIB_EXTENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/lib/uplink.h"

struct extend;

struct extends {
    struct extend *first, *last;
    struct extend *pending; // the first one that was not sent; NULL: all were
    size_t unsent;
    size_t under_way, under_way_bytes; // sent, and not confirmed
};

void extends_fini(struct extends *extends);

// Layers [first_layer, first_layer + layers) of the job, and whether they are its last.  Takes the packed
// graph (malloc'd; NULL: none, only `last`) on success.  -ENOMEM.
int extends_add(struct extends *extends, uint32_t job, uint32_t first_layer, uint32_t layers, uint8_t **graph,
                size_t size, bool last, struct error *err);
// The one that was added last is not to be sent after all; there is one.
void extends_take_back(struct extends *extends);
// Sends what was not sent yet, not more than the broker should have to keep while its disk is slow (`all`:
// that does not matter).  -EAGAIN: not all of it.
int extends_send(struct extends *extends, struct uplink *uplink, bool all, struct error *err);
// Something of the job was not sent.
bool extends_unsent(const struct extends *extends, uint32_t job);

// The broker has the job's first `layers` for good; last: and knows that no more come, which may have been said
// by itself.
void extends_confirm(struct extends *extends, uint32_t job, uint32_t layers, bool last);
void extends_forget(struct extends *extends, uint32_t job);
// Something of the job was not confirmed.
bool extends_open(const struct extends *extends, uint32_t job);
// The lowest layer of the job that was not; `layers` when all are.
uint32_t extends_lowest(const struct extends *extends, uint32_t job, uint32_t layers);

// The connection is another one: nothing was sent on it.
void extends_rewind(struct extends *extends);

#endif
