// Partitions that this worker holds, by (job, layer, index).  Every byte is in the
// budget.  Thread-safe; partitions are shared by reference.
#ifndef DRAY_WORKER_STORE_STORE_H
#define DRAY_WORKER_STORE_STORE_H

#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/partition.h"
#include "worker/store/budget.h"

struct store;

struct store *store_create(struct budget *budget); // NULL: no memory
void store_destroy(struct store *store);

// Takes over one reference of `partition` and of `note` (NULL: none), also on failure, and
// `charged` bytes that were already taken from the budget for it; takes or gives back the
// difference to partition_bytes.  Replaces what was there (the same bits by design).  *bytes:
// its size.  -ENOMEM: refused, with size, use and limit in the text; nothing stays charged.
int store_put(struct store *store, uint32_t job, uint32_t layer, uint32_t index, struct partition *partition,
              struct buffer *note, uint64_t charged, uint64_t *bytes, struct error *err);
// A new reference; NULL: not held.
struct partition *store_get(struct store *store, uint32_t job, uint32_t layer, uint32_t index);
// A new reference to the note that came with it; NULL: none.
struct buffer *store_note(struct store *store, uint32_t job, uint32_t layer, uint32_t index);
void store_drop(struct store *store, uint32_t job, uint32_t layer, uint32_t index);
void store_clear(struct store *store);
// Calls visit for each partition that has a note; it must not call the store.
void store_notes(struct store *store,
                 void (*visit)(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note),
                 void *arg);

struct store_counts {
    uint64_t partitions;
    uint64_t bytes;
};
struct store_counts store_counts(struct store *store);

#endif
