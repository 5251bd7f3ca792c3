// Distinct strings, numbered from 0 by first appearance, in memory that the budget counts.
#ifndef DRAY_WORKER_KERNEL_INTERN_H
#define DRAY_WORKER_KERNEL_INTERN_H

#include "worker/kernel/batch.h"
#include "worker/kernel/memory.h"

// Bytes that stay where they are until the heap is freed.
struct heap {
    struct memory *memory;
    struct heap_chunk *head;
};
// 16-byte aligned, not zeroed.
int heap_alloc(struct heap *heap, size_t size, void **out, struct error *err);
void heap_free(struct heap *heap);

struct intern {
    struct memory *memory;
    struct heap heap;
    struct block entry; // struct string_view[count]
    struct block slot;  // uint64_t[slots]: upper half of the hash, id + 1; 0 is free
    uint64_t slots;     // a power of two, or 0
    uint32_t count;
};

void intern_init(struct intern *intern, struct memory *memory);
uint64_t intern_hash(struct string_view string);
// `hash` is intern_hash of it.  At most 2^31 - 2 strings: -EOVERFLOW in words.
int intern_add(struct intern *intern, struct string_view string, uint64_t hash, uint32_t *id,
               struct error *err);
static inline struct string_view intern_get(const struct intern *intern, uint32_t id)
{
    return ((const struct string_view *)intern->entry.data)[id];
}
// Brings what intern_add will look at into the cache: step 0 the slot, a while later 1 the entry,
// 2 its bytes.
static inline void intern_prefetch(const struct intern *intern, int step, uint64_t hash)
{
    if (intern->slots == 0) {
        return;
    }
    const uint64_t *slot = (const uint64_t *)intern->slot.data + ((hash >> 32) & (intern->slots - 1));

    if (step == 0) {
        __builtin_prefetch(slot);
    } else if (*slot != 0) {
        const struct string_view *entry =
            (const struct string_view *)intern->entry.data + ((uint32_t)*slot - 1);

        __builtin_prefetch(step == 1 ? (const void *)entry : (const void *)entry->data);
    }
}
void intern_free(struct intern *intern);

// The codes of one column's dictionary vectors as ids of an intern table.  Each entry is added
// when a row that counts first uses it, so that ids do not depend on entries that no row uses.
struct remap {
    const struct dictionary *dictionary; // of the last batch
    struct block id;                     // uint32_t[known], REMAP_NONE where not added yet
    uint32_t known;
    bool identity; // every id is its code
};
#define REMAP_NONE UINT32_MAX

// Makes room for the codes of this vector's dictionary; *id is valid until the next call.
int remap_open(struct remap *remap, struct memory *memory, const struct vector *vector, uint32_t **id,
               struct error *err);
// To be called when ids were added: whether codes can be taken for ids.
void remap_added(struct remap *remap);
void remap_free(struct remap *remap, struct memory *memory);

#endif
