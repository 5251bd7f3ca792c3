// Encoded partitions that came with DONE, kept until the turn ends.  A parcel is one payload frame with the
// encodings of some tasks of a layer, one after another; it is found by the worker that sent it and by range.
#ifndef DRAY_BROKER_PARCEL_H
#define DRAY_BROKER_PARCEL_H

#include <stdbool.h>

#include "broker/core/sched.h"
#include "proto/buffer.h"
#include "proto/error.h"

struct parcel {
    struct buffer *frame; // the payload frame, as it came
    uint32_t worker;
    uint32_t tasks;        // whose encodings it has
    const uint32_t *bytes; // of each
    size_t raw_bytes;      // of all
    struct buffer *raw;    // the encodings, when somebody had to look inside; then also:
    size_t *offset;        // where each begins, and the end
    // Scratch of who reads the parcels, PARCEL_NONE and 0 between calls.
    uint32_t first_piece, last_piece;
    uint32_t named;
};
#define PARCEL_NONE UINT32_MAX

// Tasks [range.first, + range.count) are those at place `at` and on of a parcel.
struct segment {
    uint32_t worker;
    struct task_range range;
    uint32_t parcel;
    uint32_t at;
};

struct parcels {
    struct parcel *parcel;
    size_t count, capacity;
    struct segment *segment;
    size_t segments, segments_capacity;
    bool sorted;
    size_t bytes; // of the frames
};

// All zeros is empty and ready.
void parcels_fini(struct parcels *parcels);
void parcels_reset(struct parcels *parcels);

// A new parcel; `frame` is taken over, also on failure, `bytes` is borrowed until the reset.  -EBADMSG: its
// header does not fit the sizes.  -ENOMEM.
int parcels_add(struct parcels *parcels, uint32_t worker, struct buffer *frame, uint32_t tasks,
                const uint32_t *bytes, struct error *err);
// The next range.count tasks of the last parcel are these.  -ENOMEM.
int parcels_name(struct parcels *parcels, const struct task_range *range);

// The first segment of this worker's that ends behind `index` in the layer; NULL: none.
const struct segment *parcels_find(struct parcels *parcels, uint32_t worker, uint32_t job, uint32_t layer,
                                   uint32_t index);
// Encodings [at, at + count) of a parcel.  -EBADMSG: the frame is damaged; -ENOMEM.
int parcel_open(struct parcel *parcel, uint32_t at, uint32_t count, const uint8_t **data, size_t *size,
                struct error *err);

#endif
