#include "worker/kernel/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUND = 64 };

int block_reserve(struct block *block, struct memory *memory, size_t count, size_t size, struct error *err)
{
    size_t want;

    if (__builtin_mul_overflow(count, size, &want) || want > SIZE_MAX / 4) {
        return error_set(err, ENOMEM, "%s needs more memory than there is", memory->what);
    }
    if (want <= block->size && block->data != NULL) {
        return 0;
    }
    if (want < block->size * 2) {
        want = block->size * 2;
    }
    want = want == 0 ? ROUND : (want + ROUND - 1) & ~(size_t)(ROUND - 1);

    uint64_t more = want - block->size;

    if (memory->budget != NULL) {
        int rc = budget_take(memory->budget, more, memory->what, err);

        if (rc < 0) {
            return rc;
        }
    }
    void *data = realloc(block->data, want);

    if (data == NULL) {
        if (memory->budget != NULL) {
            budget_give(memory->budget, more);
        }
        return error_no_memory(err);
    }
    memory->taken += more;
    block->data = data;
    block->size = want;
    return 0;
}

int block_reserve_zero(struct block *block, struct memory *memory, size_t count, size_t size,
                       struct error *err)
{
    size_t old = block->size;
    int rc = block_reserve(block, memory, count, size, err);

    if (rc == 0 && block->size > old) {
        memset((char *)block->data + old, 0, block->size - old);
    }
    return rc;
}

static void give(struct memory *memory, size_t bytes)
{
    memory->taken -= bytes;
    if (memory->budget != NULL) {
        budget_give(memory->budget, bytes);
    }
}

void block_free(struct block *block, struct memory *memory)
{
    free(block->data);
    give(memory, block->size);
    block->data = NULL;
    block->size = 0;
}

struct buffer *block_finish(struct block *block, struct memory *memory, size_t size)
{
    // Padded with zeros as buffer_create does, so that equal tables are equal bytes.
    size_t padded = size == 0 ? ROUND : (size + ROUND - 1) & ~(size_t)(ROUND - 1);
    void *data = realloc(block->data, padded);
    struct buffer *buffer = NULL;

    if (data != NULL) {
        memset((char *)data + size, 0, padded - size);
        block->data = data;
        buffer = buffer_wrap(data, size, free, data);
    }
    if (buffer == NULL) {
        free(block->data);
    }
    give(memory, block->size);
    block->data = NULL;
    block->size = 0;
    return buffer;
}
