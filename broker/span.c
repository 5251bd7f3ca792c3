#include "broker/span.h"

#include <errno.h>
#include <stdlib.h>

enum { VARINT_BYTES_MAX = 5 };

static int compare(const void *left, const void *right)
{
    const struct task_range *a = left, *b = right;

    if (a->job != b->job) {
        return a->job < b->job ? -1 : 1;
    }
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return a->first == b->first ? 0 : a->first < b->first ? -1 : 1;
}

static bool is_sorted(const struct task_range *span, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (compare(&span[i - 1], &span[i]) > 0) {
            return false;
        }
    }
    return true;
}

size_t spans_join(struct task_range *span, size_t count)
{
    size_t kept = 0;

    if (!is_sorted(span, count)) {
        qsort(span, count, sizeof(*span), compare);
    }
    for (size_t i = 0; i < count; i++) {
        struct task_range *last = kept > 0 ? &span[kept - 1] : NULL;
        uint64_t end = last != NULL ? (uint64_t)last->first + last->count : 0;

        if (span[i].count == 0) {
            continue;
        }
        if (last != NULL && last->job == span[i].job && last->layer == span[i].layer &&
            span[i].first <= end) {
            uint64_t other = (uint64_t)span[i].first + span[i].count;

            last->count = (uint32_t)((other > end ? other : end) - last->first);
        } else {
            span[kept++] = span[i];
        }
    }
    return kept;
}

size_t spans_bytes_max(size_t count)
{
    return count * 4 * VARINT_BYTES_MAX;
}

static uint8_t *put(uint8_t *at, uint32_t value)
{
    while (value > 0x7f) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static bool get(const uint8_t **at, const uint8_t *end, uint32_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; *at < end && shift < 7 * VARINT_BYTES_MAX; shift += 7) {
        uint8_t byte = *(*at)++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = (uint32_t)value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

// A layer: how many spans, the layer, then for each the gap before it and its length.
size_t spans_encode(const struct task_range *span, size_t count, uint8_t *out)
{
    uint8_t *at = out;

    for (size_t i = 0; i < count;) {
        uint32_t layer = span[i].layer, end = 0;
        size_t n = 1;

        while (i + n < count && span[i + n].layer == layer && n < UINT32_MAX) {
            n++;
        }
        at = put(put(at, (uint32_t)n), layer);
        for (size_t last = i + n; i < last; i++) {
            at = put(put(at, span[i].first - end), span[i].count);
            end = span[i].first + span[i].count;
        }
    }
    return (size_t)(at - out);
}

int spans_add(struct spans *spans, const struct task_range *span)
{
    struct task_range *last = spans->count > 0 ? &spans->span[spans->count - 1] : NULL;

    // Often the next ones of those before.
    if (last != NULL && last->job == span->job && last->layer == span->layer &&
        span->first == last->first + last->count && span->count <= UINT32_MAX - last->count) {
        last->count += span->count;
        return 0;
    }
    if (spans->count == spans->capacity) {
        size_t capacity = spans->capacity == 0 ? 64 : spans->capacity * 2;
        struct task_range *more = realloc(spans->span, capacity * sizeof(*more));

        if (more == NULL) {
            return -ENOMEM;
        }
        spans->span = more;
        spans->capacity = capacity;
    }
    spans->span[spans->count++] = *span;
    return 0;
}

int spans_decode(struct spans *spans, uint32_t job, const uint8_t *bytes, size_t size)
{
    const uint8_t *at = bytes, *end = bytes + size;

    while (at < end) {
        uint32_t n = 0, layer = 0;
        uint64_t first = 0;

        if (!get(&at, end, &n) || !get(&at, end, &layer) || n > (size_t)(end - at) / 2) {
            return -EBADMSG;
        }
        while (n-- > 0) {
            uint32_t gap = 0, count = 0;

            if (!get(&at, end, &gap) || !get(&at, end, &count)) {
                return -EBADMSG;
            }
            first += gap;
            if (count == 0 || first + count > UINT32_MAX) {
                return -EBADMSG;
            }
            if (spans_add(spans, &(struct task_range){job, layer, (uint32_t)first, count}) != 0) {
                return -ENOMEM;
            }
            first += count;
        }
    }
    return 0;
}

void spans_fini(struct spans *spans)
{
    free(spans->span);
    *spans = (struct spans){0};
}
