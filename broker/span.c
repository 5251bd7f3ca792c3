#include "broker/span.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { VARINT_BYTES_MAX = 5, PART_SPANS = 512 };

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

// How many spans, their layer, then for each the gap before it and its length.
static uint8_t *put_list(const struct task_range *span, size_t count, uint8_t *at)
{
    uint32_t end = 0;

    at = put(put(at, (uint32_t)count), span->layer);
    for (size_t i = 0; i < count; i++) {
        at = put(put(at, span[i].first - end), span[i].count);
        end = span[i].first + span[i].count;
    }
    return at;
}

// 0, the layer, the first task, how many bytes, and in these a bit for each task.
static uint8_t *put_bits(const struct task_range *span, size_t count, uint8_t *at)
{
    uint32_t from = span->first, bytes = (span[count - 1].first + span[count - 1].count - from + 7) / 8;

    at = put(put(put(put(at, 0), span->layer), from), bytes);
    memset(at, 0, bytes);
    for (size_t i = 0; i < count; i++) {
        for (uint32_t k = span[i].first - from; k < span[i].first + span[i].count - from; k++) {
            at[k / 8] = (uint8_t)(at[k / 8] | 1 << k % 8);
        }
    }
    return at + bytes;
}

// Parts of a layer of up to PART_SPANS, each as what is shorter.
size_t spans_encode(const struct task_range *span, size_t count, uint8_t *out)
{
    uint8_t *at = out;

    for (size_t i = 0, n; i < count; i += n) {
        const struct task_range *last;
        uint8_t *end;

        for (n = 1; i + n < count && span[i + n].layer == span[i].layer && n < PART_SPANS; n++) {
        }
        last = &span[i + n - 1];
        end = put_list(&span[i], n, at);
        if (((uint64_t)last->first + last->count - span[i].first) / 8 + 1 + 4 * VARINT_BYTES_MAX <
            (uint64_t)(end - at)) {
            end = put_bits(&span[i], n, at);
        }
        at = end;
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

static int get_list(struct spans *spans, uint32_t job, uint32_t layer, uint32_t n, const uint8_t **at,
                    const uint8_t *end)
{
    uint64_t first = 0;

    while (n-- > 0) {
        uint32_t gap = 0, count = 0;

        if (!get(at, end, &gap) || !get(at, end, &count)) {
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
    return 0;
}

static int get_bits(struct spans *spans, uint32_t job, uint32_t layer, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *bits;
    uint32_t from = 0, bytes = 0;

    if (!get(at, end, &from) || !get(at, end, &bytes) || bytes > (size_t)(end - *at) ||
        from + (uint64_t)bytes * 8 > (uint64_t)UINT32_MAX + 8) { // the last byte may have some to spare
        return -EBADMSG;
    }
    bits = *at;
    *at += bytes;
    for (uint64_t k = 0; k < (uint64_t)bytes * 8; k++) {
        if ((bits[k / 8] >> k % 8 & 1) == 0) {
            continue;
        }
        if (from + k >= UINT32_MAX) {
            return -EBADMSG;
        }
        if (spans_add(spans, &(struct task_range){job, layer, (uint32_t)(from + k), 1}) != 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int spans_decode(struct spans *spans, uint32_t job, const uint8_t *bytes, size_t size)
{
    const uint8_t *at = bytes, *end = bytes + size;

    while (at < end) {
        uint32_t n = 0, layer = 0;
        int rc;

        if (!get(&at, end, &n) || !get(&at, end, &layer) || n > (size_t)(end - at) / 2) {
            return -EBADMSG;
        }
        rc = n > 0 ? get_list(spans, job, layer, n, &at, end) : get_bits(spans, job, layer, &at, end);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

void spans_fini(struct spans *spans)
{
    free(spans->span);
    *spans = (struct spans){0};
}
