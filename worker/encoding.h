// Pieces of encoded partitions, for who reads them one by one.  Each is made when it is asked
// for, so that sending a partition takes no memory to speak of however large it is.
#ifndef DRAY_WORKER_ENCODING_H
#define DRAY_WORKER_ENCODING_H

#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "worker/store/store.h"

// A payload frame with bytes [offset, offset + length) of a partition's encoding, cut at its
// end; *total is the size of the whole, *checksum what it was when it was made.  -ENOENT: not held here, or
// it is not what it was (which is found out with its first byte).  -EINVAL: beyond the end.  Thread-safe.
int encoding_piece(struct store *store, uint32_t job, uint32_t layer, uint32_t index, uint64_t offset,
                   uint32_t length, struct buffer **frame, uint64_t *total, uint64_t *checksum,
                   struct error *err);

// What a FETCH asks for: fills in the answer's tag, and total and the payload frame, or returns why not.
// `size` is room for the answer's own array.  Thread-safe.
int encoding_answer(struct store *store, const Dray__Fetch *fetch, Dray__Piece *answer,
                    uint32_t size[FRAME_FETCH_MAX], struct buffer **frame, struct error *err);

#endif
