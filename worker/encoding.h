// Encoded partitions while somebody reads them piece by piece, so that a partition is
// encoded once and not for each piece.  Their bytes are in the budget.  Thread-safe.
#ifndef DRAY_WORKER_ENCODING_H
#define DRAY_WORKER_ENCODING_H

#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "worker/store/store.h"

struct encodings;

struct encodings *encodings_create(struct store *store, struct budget *budget);
void encodings_destroy(struct encodings *encodings);
void encodings_clear(struct encodings *encodings);

// A payload frame with bytes [offset, offset + length) of a partition's encoding, cut at its
// end; *total is the size of the whole.  -ENOENT: not held here.  -EINVAL: beyond the end.  -EAGAIN: no
// memory at present.
int encodings_piece(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index,
                    uint64_t offset, uint32_t length, struct buffer **frame, uint64_t *total,
                    struct error *err);
// Forgets what nobody has read for a few seconds.  Call now and then.
void encodings_tick(struct encodings *encodings);

#endif
