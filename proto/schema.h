// Protobuf messages from outside.  protobuf-c unpacks; this adds the limits and
// the checks that it lacks and that hold for every message: size, memory, fields and
// enum values that the schema knows, lengths of strings.  What a message means is checked by
// its own module (frame, graph, op, partition).
#ifndef DRAY_PROTO_SCHEMA_H
#define DRAY_PROTO_SCHEMA_H

#include "proto/arena.h"
#include "proto/error.h"

#define SCHEMA_BYTES_MAX ((size_t)64 << 20)  // of a packed message
#define SCHEMA_STRING_MAX ((size_t)64 << 10) // of a `string` field

// Unpacks into the arena, where the message shares nothing with `data`.
// -EBADMSG: malformed; -ENOMEM.
int schema_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t size,
                  struct arena *arena, ProtobufCMessage **out, struct error *err);

#endif
