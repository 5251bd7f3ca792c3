#include "proto/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, CHUNK_MIN = 4096, CHUNK_MAX = 1 << 20, ALONE = CHUNK_MAX / 4 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    size_t used;
    _Alignas(16) unsigned char data[];
};

static void *protobuf_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void protobuf_free(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer;
}

void arena_init(struct arena *arena, size_t limit)
{
    arena->head = NULL;
    arena->used = 0;
    arena->limit = limit;
    arena->starved = false;
    arena->protobuf.alloc = protobuf_alloc;
    arena->protobuf.free = protobuf_free;
    arena->protobuf.allocator_data = arena;
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *keep = arena->head;

    if (keep != NULL) {
        struct arena_chunk *chunk = keep->next;

        while (chunk != NULL) {
            struct arena_chunk *next = chunk->next;

            free(chunk);
            chunk = next;
        }
        if (keep->size > CHUNK_MAX) {
            free(keep);
            keep = NULL;
        } else {
            keep->next = NULL;
            keep->used = 0;
        }
    }
    arena->head = keep;
    arena->used = 0;
}

void arena_fini(struct arena *arena)
{
    struct arena_chunk *chunk = arena->head;

    while (chunk != NULL) {
        struct arena_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
    arena->head = NULL;
    arena->used = 0;
}

void arena_adopt(struct arena *to, struct arena *from)
{
    struct arena_chunk **link = to->head != NULL ? &to->head->next : &to->head;
    struct arena_chunk *rest = *link;

    // Behind the chunk that is being filled.
    *link = from->head;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = rest;
    to->used += from->used;
    from->head = NULL;
    from->used = 0;
}

void arena_drop(struct arena *arena, const void *piece)
{
    // The first chunk is the one that is being filled.
    struct arena_chunk **link = arena->head != NULL ? &arena->head->next : &arena->head;

    while (*link != NULL && (const void *)(*link)->data != piece) {
        link = &(*link)->next;
    }
    if (*link != NULL && (*link)->size >= ALONE && (*link)->used == (*link)->size) {
        struct arena_chunk *chunk = *link;

        *link = chunk->next;
        arena->used -= chunk->used;
        free(chunk);
    }
}

void *arena_alloc(struct arena *arena, size_t size)
{
    struct arena_chunk *chunk = arena->head;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size == 0) {
        size = ALIGN;
    }
    if (arena->limit != 0 && (size > arena->limit || arena->used > arena->limit - size)) {
        return NULL;
    }
    if (chunk != NULL && size >= ALONE && chunk->size - chunk->used < size) {
        // A chunk of its own, behind the one that goes on being filled.
        struct arena_chunk *alone = malloc(sizeof(*alone) + size);

        if (alone == NULL) {
            arena->starved = true;
            return NULL;
        }
        alone->size = alone->used = size;
        alone->next = chunk->next;
        chunk->next = alone;
        arena->used += size;
        return alone->data;
    }
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t want = chunk == NULL ? CHUNK_MIN : chunk->size * 2;

        if (want > CHUNK_MAX) {
            want = CHUNK_MAX;
        }
        if (want < size) {
            want = size;
        }
        chunk = malloc(sizeof(*chunk) + want);
        if (chunk == NULL) {
            arena->starved = true;
            return NULL;
        }
        chunk->size = want;
        chunk->used = 0;
        chunk->next = arena->head;
        arena->head = chunk;
    }
    void *out = chunk->data + chunk->used;

    chunk->used += size;
    arena->used += size;
    return out;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *out = arena_alloc(arena, size);

    if (out != NULL) {
        memset(out, 0, size);
    }
    return out;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    return arena_alloc(arena, bytes);
}

void *arena_copy(struct arena *arena, const void *data, size_t size)
{
    void *out = arena_alloc(arena, size);

    if (out != NULL && size > 0) {
        memcpy(out, data, size);
    }
    return out;
}

char *arena_strndup(struct arena *arena, const char *text, size_t size)
{
    char *out = arena_alloc(arena, size + 1);

    if (out != NULL) {
        memcpy(out, text, size);
        out[size] = '\0';
    }
    return out;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_list again;
    char *out = NULL;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);

    if (n >= 0) {
        out = arena_alloc(arena, (size_t)n + 1);
        if (out != NULL) {
            vsnprintf(out, (size_t)n + 1, format, again);
        }
    }
    va_end(again);
    va_end(args);
    return out;
}
