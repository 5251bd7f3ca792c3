// What every message promises beyond its schema, checked by frame_decode so that
// no consumer has to: lists that belong together are equally long, ranges hold
// at least one task and end within a layer, a message names at most
// GRAPH_TASKS_MAX tasks, names are at most FRAME_NAME_MAX bytes.
#ifndef DRAY_PROTO_FRAME_CHECK_H
#define DRAY_PROTO_FRAME_CHECK_H

#include "proto/frame.h"

#define FRAME_NAME_MAX 4096 // names, paths, words of a failure
#define FRAME_ENDPOINTS_MAX 16
#define FRAME_STRINGS_MAX 4096 // labels, kept names
#define FRAME_THREADS_MAX 65536

size_t frame_body_max(enum frame_type type);
// `message` is of the type's descriptor.  The arena is for scratch.
int frame_check(enum frame_type type, const ProtobufCMessage *message, struct arena *arena,
                struct error *err);

#endif
