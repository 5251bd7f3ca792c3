// Which allocation fails: for programs that are linked with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup.
// All allocations of Dray's code come here, not those of libraries.  Included once a program.
#ifndef DRAY_TESTS_STARVE_H
#define DRAY_TESTS_STARVE_H

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *pointer, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
char *__wrap_strdup(const char *text);

static struct {
    bool armed;    // else none fails
    unsigned left; // allocations before the one that fails
    bool failed;
} allocator;

static bool fails_now(void)
{
    if (!allocator.armed || allocator.failed) {
        return false;
    }
    allocator.failed = allocator.left-- == 0;
    return allocator.failed;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *pointer, size_t size)
{
    return fails_now() ? NULL : __real_realloc(pointer, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}

#endif
