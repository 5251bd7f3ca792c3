// Working memory of a kernel, taken from the worker's budget as it grows and
// given back when it is freed.  Not thread-safe: one per owner.
#ifndef DRAY_WORKER_KERNEL_MEMORY_H
#define DRAY_WORKER_KERNEL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "worker/store/budget.h"

struct memory {
    struct budget *budget; // NULL: not counted
    const char *what;      // "groupby", for the error
    uint64_t taken;        // bytes held now
};

// A growing array in that memory; its start is aligned as malloc aligns, its size is a multiple
// of 64 bytes.
struct block {
    void *data;
    size_t size; // bytes allocated
};

// Makes room for `count` elements of `size` bytes, keeping what is there; grows by
// doubling at least.  New bytes are not zeroed.  -ENOMEM in words.
int block_reserve(struct block *block, struct memory *memory, size_t count, size_t size, struct error *err);
// The same, and the new bytes are zero.
int block_reserve_zero(struct block *block, struct memory *memory, size_t count, size_t size,
                       struct error *err);
void block_free(struct block *block, struct memory *memory);
// Makes `size` bytes of the block an immutable buffer, cut to size and no longer counted; the
// block is empty after, also on failure (NULL: no memory).
struct buffer *block_finish(struct block *block, struct memory *memory, size_t size);

#endif
