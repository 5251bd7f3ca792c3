// Tasks of a job in few bytes, as the journal keeps those that are over: sorted, joined, and varints.
#ifndef DRAY_BROKER_SPAN_H
#define DRAY_BROKER_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/core/sched.h"

// By job, layer and index; those that touch or overlap become one.  How many are left.
size_t spans_join(struct task_range *span, size_t count);
// At most so many bytes for `count` of them.
size_t spans_bytes_max(size_t count);
// Joined ones of one job; how many bytes were written.
size_t spans_encode(const struct task_range *span, size_t count, uint8_t *out);
// Appends what was encoded to a list that grows by realloc.  -EBADMSG: bytes that spans_encode never wrote;
// -ENOMEM.
struct spans {
    struct task_range *span;
    size_t count, capacity;
};
int spans_add(struct spans *spans, const struct task_range *span);
int spans_decode(struct spans *spans, uint32_t job, const uint8_t *bytes, size_t size);
void spans_fini(struct spans *spans);

#endif
