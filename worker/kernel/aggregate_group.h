// Groups: from key columns to group numbers, with a record of 64-bit words for each group that
// starts with its keys.  All memory is counted by the budget.
//
// A batch is numbered in two steps.  Its rows get local numbers, 0 to 4,095, without leaving the
// cache; then each local number is looked up once among all groups.  Local numbers come from
//   - the keys put together as a few bits (at most 10: the local number itself; at most 16: through
//     a table), when all keys are strings of a small set, bools, or integers of a small range;
//   - else, while there are few groups in all, the groups' own numbers;
//   - else a hash table of the batch.
// The way taken changes speed, never the groups' contents.
#ifndef DRAY_WORKER_KERNEL_AGGREGATE_GROUP_H
#define DRAY_WORKER_KERNEL_AGGREGATE_GROUP_H

#include "proto/arena.h"
#include "worker/kernel/batch.h"
#include "worker/kernel/intern.h"

#define GROUP_NONE UINT32_MAX

struct group_key {
    enum type type; // BOOL, INT64, FLOAT64, STRING
    uint32_t column;
    struct intern intern; // STRING: its word is the number here
    struct remap remap;
    // INT64: the range of all rows so far starts at `base`
    int64_t base;
    uint32_t bits; // of a value's distance from base; WIDE: not worth it
    bool seen;
    // of this batch
    const uint32_t *id;   // STRING, BOOL
    const int64_t *value; // INT64, FLOAT64 (bits)
    uint32_t *id_room;
    int64_t *value_room;
};

struct groups {
    struct memory *memory;
    struct arena *arena;
    uint32_t keys;
    struct group_key *key;
    uint32_t words; // of a record
    uint32_t count;
    struct block record; // uint64_t[count][words]
    struct block slot;   // uint64_t[slots]: upper half of the hash (which is the place), group + 1
    uint64_t slots;
    // keys as a few bits
    uint32_t cell_bits; // of the layout in cell_group
    uint32_t *key_bits; // the layout
    int64_t *key_base;
    struct block cell_group; // uint32_t[1 << cell_bits]
    struct block cell_local; // uint16_t[1 << cell_bits]: local number + 1, all zero between batches
    // of this batch
    uint16_t *row;
    uint16_t *cell;
    uint16_t *local;
    uint16_t *first; // first row of each local number
    uint16_t *table; // hash table of the batch
    uint64_t *hash;
    uint32_t *group;
    uint32_t *size;
    uint64_t *tuple;
};

// The rows of a batch that have a group.
struct grouping {
    uint32_t rows;
    const uint16_t *row;   // where they are in the batch; NULL: 0, 1, 2...
    const uint16_t *local; // [rows]
    uint32_t locals;
    const uint32_t *group; // [locals], where size is not 0
    const uint32_t *size;  // [locals], rows of each
};

// `words` counts those of the keys.  The arena outlives it.  groups_free always, also after a failure.
int groups_init(struct groups *g, struct memory *memory, struct arena *arena, uint32_t keys,
                const enum type *type, uint32_t words, struct error *err);
void groups_free(struct groups *g);
// Rows with a null or NaN key are left out.  New groups have zeros behind their keys.
int groups_assign(struct groups *g, const struct batch *batch, struct grouping *out, struct error *err);
// The only group when there are no keys.
int groups_add_single(struct groups *g, struct error *err);

static inline uint64_t *groups_record(const struct groups *g, uint32_t group)
{
    return (uint64_t *)g->record.data + (size_t)group * g->words;
}

#endif
