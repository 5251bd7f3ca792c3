#include "proto/buffer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

struct buffer *buffer_create(size_t size, uint8_t **data)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size_t padded = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);

    if (padded == 0) {
        padded = ALIGN;
    }
    uint8_t *bytes = aligned_alloc(ALIGN, padded);

    if (bytes == NULL) {
        return NULL;
    }
    memset(bytes + padded - ALIGN, 0, ALIGN);

    struct buffer *buffer = buffer_wrap(bytes, size, free, bytes);

    if (buffer == NULL) {
        free(bytes);
        return NULL;
    }
    *data = bytes;
    return buffer;
}

struct buffer *buffer_wrap(const void *data, size_t size, void (*release)(void *owner), void *owner)
{
    struct buffer *buffer = malloc(sizeof(*buffer));

    if (buffer != NULL) {
        buffer->data = data;
        buffer->size = size;
        atomic_init(&buffer->refs, 1);
        buffer->release = release;
        buffer->owner = owner;
    }
    return buffer;
}

static void unref_parent(void *parent)
{
    buffer_unref(parent);
}

struct buffer *buffer_slice(struct buffer *parent, size_t offset, size_t size)
{
    struct buffer *buffer = buffer_wrap(parent->data + offset, size, unref_parent, parent);

    if (buffer != NULL) {
        buffer_ref(parent);
    }
    return buffer;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
    if (buffer != NULL) {
        atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    }
    return buffer;
}

void buffer_unref(struct buffer *buffer)
{
    if (buffer != NULL && atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) == 1) {
        if (buffer->release != NULL) {
            buffer->release(buffer->owner);
        }
        free(buffer);
    }
}
