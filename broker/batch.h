// What one turn has for one worker: actions of the scheduler gathered into as few
// messages as their order allows, normally one of each kind.
//
// LAYERS goes first.  An action joins an earlier message of its kind unless it would then
// overtake another action on the same tasks; then it opens a new message.
#ifndef DRAY_BROKER_BATCH_H
#define DRAY_BROKER_BATCH_H

#include <stddef.h>

#include "broker/core/sched.h"
#include "proto/arena.h"
#include "proto/frame.h"

struct batch;

struct batch *batch_create(void);
void batch_destroy(struct batch *batch); // NULL is fine

// RUN, LAYER, DROP, RELEASE, COPY or FORGET_JOB.  What the action points to must live
// until batch_emit.  -ENOMEM.
int batch_add(struct batch *batch, const struct sched_action *action);

// Hands out the messages in order and empties the batch.  Messages live in the
// arena; Assign and Copy come without their peers.  -ENOMEM: nothing more will come; the batch is empty all
// the same.
int batch_emit(struct batch *batch, struct arena *arena,
               void (*emit)(void *arg, enum frame_type type, ProtobufCMessage *message), void *arg);

#endif
