#include "worker/kernel/intern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CHUNK_MIN = 1 << 12, CHUNK_MAX = 1 << 20, SLOTS_MIN = 64 };

struct heap_chunk {
    struct heap_chunk *next;
    struct block block; // this very chunk
    size_t used;
    _Alignas(16) char data[];
};

int heap_alloc(struct heap *heap, size_t size, void **out, struct error *err)
{
    struct heap_chunk *chunk = heap->head;

    size = (size + 15) & ~(size_t)15;
    if (chunk == NULL || chunk->block.size - sizeof(*chunk) - chunk->used < size) {
        size_t want = chunk == NULL ? CHUNK_MIN : chunk->block.size * 2;
        struct block block = {0};

        if (want > CHUNK_MAX) {
            want = CHUNK_MAX;
        }
        if (want < size + sizeof(*chunk)) {
            want = size + sizeof(*chunk);
        }
        int rc = block_reserve(&block, heap->memory, want, 1, err);

        if (rc < 0) {
            return rc;
        }
        chunk = block.data;
        chunk->next = heap->head;
        chunk->block = block;
        chunk->used = 0;
        heap->head = chunk;
    }
    *out = chunk->data + chunk->used;
    chunk->used += size;
    return 0;
}

void heap_free(struct heap *heap)
{
    while (heap->head != NULL) {
        struct block block = heap->head->block;

        heap->head = heap->head->next;
        block_free(&block, heap->memory);
    }
}

void intern_init(struct intern *intern, struct memory *memory)
{
    memset(intern, 0, sizeof(*intern));
    intern->memory = memory;
    intern->heap.memory = memory;
}

void intern_free(struct intern *intern)
{
    if (intern->memory != NULL) {
        block_free(&intern->entry, intern->memory);
        block_free(&intern->slot, intern->memory);
        heap_free(&intern->heap);
        intern->slots = 0;
        intern->count = 0;
    }
}

static int grow(struct intern *intern, struct error *err)
{
    uint64_t slots = intern->slots == 0 ? SLOTS_MIN : intern->slots * 2;
    struct block block = {0};
    int rc = block_reserve_zero(&block, intern->memory, slots, sizeof(uint64_t), err);

    if (rc < 0) {
        return rc;
    }
    const uint64_t *old = intern->slot.data;
    uint64_t *slot = block.data;

    // In order of the old places, so the new ones are met nearly in order too.
    for (uint64_t i = 0; i < intern->slots; i++) {
        uint64_t at = (old[i] >> 32) & (slots - 1);

        if (old[i] != 0) {
            while (slot[at] != 0) {
                at = (at + 1) & (slots - 1);
            }
            slot[at] = old[i];
        }
    }
    block_free(&intern->slot, intern->memory);
    intern->slot = block;
    intern->slots = slots;
    return 0;
}

uint64_t intern_hash(struct string_view string)
{
    return XXH3_64bits(string.size > 0 ? string.data : "", string.size);
}

int intern_add(struct intern *intern, struct string_view string, uint64_t hash, uint32_t *id,
               struct error *err)
{
    uint32_t size = string.size;
    int rc;

    if (intern->count >= intern->slots / 2) {
        rc = grow(intern, err);
        if (rc < 0) {
            return rc;
        }
    }
    uint64_t mask = intern->slots - 1;
    uint64_t *slot = intern->slot.data;
    uint64_t at = (hash >> 32) & mask;
    const struct string_view *entry = intern->entry.data;

    for (; slot[at] != 0; at = (at + 1) & mask) {
        if ((slot[at] ^ hash) >> 32 == 0) {
            uint32_t found = (uint32_t)slot[at] - 1;

            if (entry[found].size == size &&
                (size == 0 || memcmp(entry[found].data, string.data, size) == 0)) {
                *id = found;
                return 0;
            }
        }
    }
    if (intern->count >= INT32_MAX - 1) {
        return error_set(err, EOVERFLOW, "%s meets more than 2^31 distinct strings in one partition",
                         intern->memory->what);
    }
    rc = block_reserve(&intern->entry, intern->memory, (size_t)intern->count + 1, sizeof(*entry), err);
    if (rc < 0) {
        return rc;
    }
    void *copy;

    rc = heap_alloc(&intern->heap, size, &copy, err);
    if (rc < 0) {
        return rc;
    }
    if (size > 0) {
        memcpy(copy, string.data, size);
    }
    ((struct string_view *)intern->entry.data)[intern->count] = (struct string_view){copy, size};
    slot[at] = (hash & 0xffffffff00000000U) | (intern->count + 1);
    *id = intern->count++;
    return 0;
}

int remap_open(struct remap *remap, struct memory *memory, const struct vector *vector, uint32_t **id,
               struct error *err)
{
    // One entry even for an empty dictionary: the code below a null is 0.
    uint32_t count = vector->dictionary->count > 0 ? vector->dictionary->count : 1;

    if (remap->dictionary != vector->dictionary) {
        remap->dictionary = vector->dictionary;
        remap->known = 0;
    }
    if (remap->known < count) {
        int rc = block_reserve(&remap->id, memory, count, sizeof(uint32_t), err);

        if (rc < 0) {
            return rc;
        }
        uint32_t *ids = remap->id.data;

        for (uint32_t i = remap->known; i < count; i++) {
            ids[i] = REMAP_NONE;
        }
        remap->known = count;
        remap->identity = false;
    }
    *id = remap->id.data;
    return 0;
}

void remap_added(struct remap *remap)
{
    const uint32_t *id = remap->id.data;
    uint32_t i = 0;

    // Only worth looking at when there are few.
    while (i < remap->known && i < 256 && id[i] == i) {
        i++;
    }
    remap->identity = i == remap->known;
}

void remap_free(struct remap *remap, struct memory *memory)
{
    block_free(&remap->id, memory);
    remap->known = 0;
    remap->dictionary = NULL;
}
