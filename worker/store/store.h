// Partitions that this worker holds, by (job, layer, index).  Every byte is in the
// budget.  Thread-safe; partitions are shared by reference.
//
// They are kept in pages of 64 indices of one layer; bytes of at most STORE_SMALL are in the page itself.
// One lock, taken once for a batch: several inputs, a range of results.
//
// Each has a checksum, and a task reads nothing that has not been found to be what it was, when it was put or
// at most STORE_TRUST_MS ago.  What is not is dropped, and told by store_take_damage.
#ifndef DRAY_WORKER_STORE_STORE_H
#define DRAY_WORKER_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"
#include "proto/partition.h"
#include "worker/store/budget.h"

#define STORE_SMALL ((size_t)32)
#define STORE_TRUST_MS 100

struct store;

struct store *store_create(struct budget *budget); // NULL: no memory
void store_destroy(struct store *store);
// Drops all.  Whoever works for another epoch than the store's (0 at first) finds nothing and puts nothing.
void store_clear(struct store *store, uint64_t epoch);

struct store_key {
    uint32_t job, layer, index;
};

// Takes over one reference of `partition` and of `note` (NULL: none), also on failure, and
// `charged` bytes that were already taken from the budget for it; takes or gives back the
// difference to what it needs.  Replaces what was there (the same bits by design).
// -ENOMEM: refused, with size, use and limit in the text; nothing stays charged.  -ECANCELED: of another
// epoch.
int store_put(struct store *store, uint64_t epoch, const struct store_key *key, struct partition *partition,
              struct buffer *note, uint64_t charged, struct error *err);
// The same for `count` results in a row that are bytes: number i is data[i * STORE_SMALL], size[i] of them.
int store_put_small(struct store *store, uint64_t epoch, const struct store_key *first, uint32_t count,
                    const uint8_t *size, const uint8_t *data, struct error *err);

// What one is: a reference to a partition, or bytes.
struct store_value {
    struct partition *partition; // NULL: it is small
    size_t size;
    uint8_t small[STORE_SMALL];
};
// Fills in all values, or none: false, one of them is not there, or was damaged and is not there any more.
bool store_read(struct store *store, uint64_t epoch, const struct store_key *key, size_t count,
                struct store_value *value);
// A new reference, of the store's epoch; NULL: not held (or no memory).  A large one is not looked at: that
// is for who reads it, who calls store_spoil.
struct partition *store_get(struct store *store, uint32_t job, uint32_t layer, uint32_t index);
void store_drop(struct store *store, const struct store_key *first, uint32_t count);

// One that is held.  Borrowed for the visit.
struct store_item {
    uint32_t index;
    uint64_t bytes;              // its size, for who reckons with it
    struct partition *partition; // NULL: it is small
    const uint8_t *small;
    size_t small_size;
    struct buffer *note; // NULL: none
    bool damaged;        // the bytes of a small one, or the note
};
// Calls visit for each of [first, first + count) that is held, ascending, until it returns false; it must not
// call the store.
void store_visit(struct store *store, const struct store_key *first, uint32_t count,
                 bool (*visit)(void *arg, const struct store_item *item), void *arg);
// It is not what was put: drops it, when it is (still) this partition; NULL: whatever it is.
void store_spoil(struct store *store, const struct store_key *key, const struct partition *partition);
// The next one that was dropped for that.  False: none.
struct store_damage {
    struct store_key key;
    uint64_t bytes;
};
bool store_take_damage(struct store *store, struct store_damage *out);

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
