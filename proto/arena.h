// Memory by lifetime: one arena for a message, a kernel call, a parse.
// Allocation is a pointer bump; everything goes at once with arena_reset or
// arena_fini.  Not thread-safe.
#ifndef DRAY_PROTO_ARENA_H
#define DRAY_PROTO_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *head;
    size_t used;                 // bytes handed out since init or reset
    size_t limit;                // 0: none; otherwise arena_alloc gives NULL beyond it
    bool starved;                // the system (not the limit) has said no since init
    ProtobufCAllocator protobuf; // allocates from this arena; its free does nothing
};

void arena_init(struct arena *arena, size_t limit);
void arena_reset(struct arena *arena); // keeps one chunk for reuse
void arena_fini(struct arena *arena);

// All of `from` lives in `to` from now on; `from` is empty.
void arena_adopt(struct arena *to, struct arena *from);

// Gives the memory of a large piece back ahead of time, if it can be.  Nothing points to it any more.
void arena_drop(struct arena *arena, const void *piece);

// 16-byte aligned, not zeroed; NULL when the system or the limit says no.
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t size);
// count * size without overflow.
void *arena_array(struct arena *arena, size_t count, size_t size);
void *arena_copy(struct arena *arena, const void *data, size_t size);
char *arena_strndup(struct arena *arena, const char *text, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
