// Frame 0 of every message: a fixed header, then one packed protobuf message.
// Header of 24 bytes, little-endian:
//   u8 magic[4] "DRAY", u8 protocol, u8 type, u16 zero, u64 session, u64 seq
// session: 0 in HELLO; later the number that WELCOME gave, which WELCOME carries
// itself.  seq counts up by one from 0 in each direction of a session, HELLO and
// WELCOME being number 0; a gap or a repeat ends the session.
// REFUSE stands outside of sessions: both are 0.  Its code is EPROTO for another
// version, ENOTCONN when the receiver knows no such session (it was started anew,
// or took the sender for lost): a HELLO on a new connection begins another one.
// On an exchange socket session is the incarnation of the worker that is asked
// (FETCH) or that answers (PIECE), and seq is 0.
#ifndef DRAY_PROTO_FRAME_H
#define DRAY_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/wire.pb-c.h"

#define FRAME_PROTOCOL 5
#define FRAME_HEADER ((size_t)24)
#define FRAME_BODY_MAX ((size_t)64 << 20)  // of frame 0
// Of SUBMIT and EXTEND: what a worker is told of a layer is a little more than what the broker was.
#define FRAME_GRAPH_MAX (FRAME_BODY_MAX - ((size_t)128 << 10))
#define FRAME_COUNT_MAX 1024               // frames in a message
#define INLINE_BYTES_MAX ((size_t)64 << 10)
#define FRAME_FETCH_MAX 256u               // partitions that one FETCH asks for

// One row a message: number, protobuf type, who may send it.
//   X(NAME, Protobuf, protobuf_lower, senders)
enum frame_sender { FROM_CLIENT = 1, FROM_WORKER = 2, FROM_BROKER = 4 };
#define FRAME_TYPES(X)                                                        \
    X(HELLO, 1, Hello, hello, FROM_CLIENT | FROM_WORKER)                      \
    X(WELCOME, 2, Welcome, welcome, FROM_BROKER)                              \
    X(REFUSE, 3, Refuse, refuse, FROM_BROKER)                                 \
    X(HEARTBEAT, 4, Heartbeat, heartbeat, FROM_CLIENT | FROM_WORKER | FROM_BROKER) \
    X(BYE, 5, Bye, bye, FROM_CLIENT | FROM_WORKER | FROM_BROKER)              \
    X(ADVERTISE, 10, Advertise, advertise, FROM_WORKER)                       \
    X(LAYERS, 11, Layers, layers, FROM_BROKER)                                \
    X(ASSIGN, 12, Assign, assign, FROM_BROKER)                                \
    X(DROP, 13, Drop, drop, FROM_BROKER)                                      \
    X(DROPPED, 14, Dropped, dropped, FROM_WORKER)                             \
    X(RELEASE, 15, Release, release, FROM_BROKER)                             \
    X(DONE, 16, Done, done, FROM_WORKER)                                      \
    X(TASK_FAILED, 17, TaskFailed, task_failed, FROM_WORKER)                  \
    X(TASKS_FAILED, 19, TasksFailed, tasks_failed, FROM_WORKER)               \
    X(COPY, 20, Copy, copy, FROM_BROKER)                                      \
    X(LEAVING, 18, Leaving, leaving, FROM_WORKER)                             \
    X(SUBMIT, 30, Submit, submit, FROM_CLIENT)                                \
    X(ACCEPTED, 31, Accepted, accepted, FROM_BROKER)                          \
    X(REJECTED, 32, Rejected, rejected, FROM_BROKER)                          \
    X(CANCEL, 33, Cancel, cancel, FROM_CLIENT)                                \
    X(FREE, 34, Free, free, FROM_CLIENT)                                      \
    X(PROGRESS, 35, Progress, progress, FROM_BROKER)                          \
    X(RESULT, 36, Result, result, FROM_BROKER)                                \
    X(RETIRE, 55, Retire, retire, FROM_CLIENT | FROM_BROKER)                  \
    X(RESULTS, 53, Results, results, FROM_BROKER)                             \
    X(NOTES, 37, Notes, notes, FROM_BROKER)                                   \
    X(JOB_ENDED, 38, JobEnded, job_ended, FROM_BROKER)                        \
    X(EXTEND, 39, Extend, extend, FROM_CLIENT)                                \
    X(EXTENDED, 54, Extended, extended, FROM_BROKER)                          \
    X(CLUSTER_QUERY, 40, ClusterQuery, cluster_query, FROM_CLIENT)            \
    X(CLUSTER, 41, Cluster, cluster, FROM_BROKER)                             \
    X(SOURCE_QUERY, 42, SourceQuery, source_query, FROM_CLIENT)               \
    X(SOURCES, 43, Sources, sources, FROM_BROKER)                             \
    X(ATTACH, 44, Attach, attach, FROM_CLIENT)                                \
    X(ATTACHED, 45, Attached, attached, FROM_BROKER)                          \
    X(KEEP, 46, Keep, keep, FROM_CLIENT)                                      \
    X(UNKEEP, 47, Unkeep, unkeep, FROM_CLIENT)                                \
    X(REPLY, 48, Reply, reply, FROM_BROKER)                                   \
    X(JOB_QUERY, 49, JobQuery, job_query, FROM_CLIENT)                        \
    X(JOBS, 52, Jobs, jobs, FROM_BROKER)                                      \
    X(FETCH, 50, Fetch, fetch, FROM_CLIENT | FROM_WORKER | FROM_BROKER)       \
    X(PIECE, 51, Piece, piece, FROM_WORKER | FROM_BROKER)

enum frame_type {
#define X(NAME, number, Message, lower, senders) FRAME_##NAME = number,
    FRAME_TYPES(X)
#undef X
};

struct frame_info {
    enum frame_type type;
    const char *name;
    const ProtobufCMessageDescriptor *descriptor;
    unsigned senders;
};

const struct frame_info *frame_info(unsigned type);  // NULL: unknown

struct frame {
    const struct frame_info *info;
    uint64_t session;
    uint64_t seq;
    ProtobufCMessage *message;  // in the arena
};

// Bytes that frame_encode writes.
size_t frame_size(const ProtobufCMessage *message);
// Writes header and body to out[frame_size()].
void frame_encode(enum frame_type type, uint64_t session, uint64_t seq,
                  const ProtobufCMessage *message, uint8_t *out);
// Checks header, sender, size; unpacks into the arena.  -EPROTO: other protocol
// version (fields of *out but message are set); -EBADMSG: all else.
int frame_decode(const void *data, size_t size, enum frame_sender sender, struct arena *arena,
                 struct frame *out, struct error *err);

#endif
