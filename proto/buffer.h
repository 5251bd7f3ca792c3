// Refcounted immutable bytes, shared by partitions, columns and sockets.
#ifndef DRAY_PROTO_BUFFER_H
#define DRAY_PROTO_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
    const uint8_t *data;  // 64-byte aligned when made by buffer_create
    size_t size;
    // private
    _Atomic unsigned refs;
    void (*release)(void *owner);
    void *owner;
};

// `size` writable bytes at *data, padded with zeros to a multiple of 64; the
// caller writes them before anybody else sees the buffer.  NULL: no memory.
struct buffer *buffer_create(size_t size, uint8_t **data);

// Takes over foreign memory: release(owner) is called with the last unref, on
// whatever thread that happens.  NULL: no memory, and nothing is taken over.
struct buffer *buffer_wrap(const void *data, size_t size, void (*release)(void *owner), void *owner);

// A view into `parent`, which it keeps alive.
struct buffer *buffer_slice(struct buffer *parent, size_t offset, size_t size);

struct buffer *buffer_ref(struct buffer *buffer);  // NULL gives NULL
void buffer_unref(struct buffer *buffer);          // NULL is fine

#endif
