// Parts that several messages have, looked at for proto/frame_check.c.  0, or -EBADMSG with what is wrong.
#ifndef DRAY_PROTO_CHECKER_H
#define DRAY_PROTO_CHECKER_H

#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/wire.pb-c.h"

struct checker {
    struct arena *arena;
    struct error *err;
    uint64_t tasks; // named so far
};

int checker_name(const struct checker *k, const char *what, const char *name);
int checker_failure(const struct checker *k, const Dray__Failure *why);
int checker_endpoints(const struct checker *k, char *const *endpoint, size_t count);
int checker_files(const struct checker *k, Dray__SourceFile *const *file, size_t count);
int checker_task(const struct checker *k, uint32_t layer, uint32_t index);
// Tasks [first[i], first[i] + count[i]) of a layer; *sum, when asked for, gets how many.
int checker_ranges(struct checker *k, uint32_t layer, size_t n_first, const uint32_t *first, size_t n_count,
                   const uint32_t *count, uint64_t *sum);
int checker_runs(struct checker *k, Dray__Run *const *run, size_t count);
int checker_strings(const struct checker *k, const char *what, char *const *text, size_t count);
int checker_resources(const struct checker *k, Dray__Resource *const *resource, size_t count);

#endif
