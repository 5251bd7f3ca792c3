#include "broker/parcel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"

enum { KEEP_CAPACITY = 4096 }; // entries of an array between turns

static void drop(struct parcels *parcels)
{
    for (size_t i = 0; i < parcels->count; i++) {
        buffer_unref(parcels->parcel[i].frame);
        buffer_unref(parcels->parcel[i].raw);
        free(parcels->parcel[i].offset);
    }
    parcels->count = parcels->segments = parcels->bytes = 0;
    parcels->sorted = true;
}

void parcels_fini(struct parcels *parcels)
{
    drop(parcels);
    free(parcels->parcel);
    free(parcels->segment);
    *parcels = (struct parcels){0};
}

void parcels_reset(struct parcels *parcels)
{
    if (parcels->capacity > KEEP_CAPACITY || parcels->segments_capacity > KEEP_CAPACITY) {
        parcels_fini(parcels);
    } else {
        drop(parcels);
    }
}

static void *grown(void *array, size_t count, size_t *capacity, size_t size)
{
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    void *larger;

    if (count < *capacity) {
        return array;
    }
    larger = realloc(array, more * size);
    if (larger != NULL) {
        *capacity = more;
    }
    return larger;
}

int parcels_add(struct parcels *parcels, uint32_t worker, struct buffer *frame, uint32_t tasks,
                const uint32_t *bytes, struct error *err)
{
    struct parcel *parcel;
    size_t raw_bytes = 0, sum = 0;
    int rc = payload_raw_size(frame->data, frame->size, &raw_bytes, err);

    for (uint32_t i = 0; i < tasks; i++) {
        sum += bytes[i];
    }
    if (rc == 0 && sum != raw_bytes) {
        rc = error_set(err, EBADMSG, "a payload of %zu bytes comes where %u partitions of %zu bytes were due",
                       raw_bytes, tasks, sum);
    }
    if (rc == 0) {
        parcel = grown(parcels->parcel, parcels->count, &parcels->capacity, sizeof(*parcel));
        if (parcel == NULL || parcels->count == PARCEL_NONE) {
            rc = error_no_memory(err);
        } else {
            parcels->parcel = parcel;
        }
    }
    if (rc != 0) {
        buffer_unref(frame);
        return rc;
    }
    parcel = &parcels->parcel[parcels->count++];
    *parcel = (struct parcel){.frame = frame,
                              .worker = worker,
                              .tasks = tasks,
                              .bytes = bytes,
                              .raw_bytes = raw_bytes,
                              .first_piece = PARCEL_NONE,
                              .last_piece = PARCEL_NONE};
    parcels->bytes += frame->size;
    return 0;
}

int parcels_name(struct parcels *parcels, const struct task_range *range)
{
    struct parcel *parcel = &parcels->parcel[parcels->count - 1];
    struct segment *segment =
        grown(parcels->segment, parcels->segments, &parcels->segments_capacity, sizeof(*segment));

    if (segment == NULL) {
        return -ENOMEM;
    }
    parcels->segment = segment;
    segment += parcels->segments++;
    *segment = (struct segment){parcel->worker, *range, (uint32_t)(parcels->count - 1), parcel->named};
    parcel->named += range->count;
    parcels->sorted = false;
    return 0;
}

// ---- by range ---------------------------------------------------------------------

static int compare(const struct segment *a, const struct segment *b)
{
    if (a->worker != b->worker) {
        return a->worker < b->worker ? -1 : 1;
    }
    if (a->range.job != b->range.job) {
        return a->range.job < b->range.job ? -1 : 1;
    }
    if (a->range.layer != b->range.layer) {
        return a->range.layer < b->range.layer ? -1 : 1;
    }
    if (a->range.first != b->range.first) {
        return a->range.first < b->range.first ? -1 : 1;
    }
    return (a->parcel > b->parcel) - (a->parcel < b->parcel);
}

static int compare_segments(const void *a, const void *b)
{
    return compare(a, b);
}

static bool same_layer(const struct segment *a, const struct segment *b)
{
    return a->worker == b->worker && a->range.job == b->range.job && a->range.layer == b->range.layer;
}

// By range, each task once: who says something twice is taken at its first word.
static void sort(struct parcels *parcels)
{
    struct segment *segment = parcels->segment;
    size_t kept = 0, n = parcels->segments;
    bool sorted = true;

    for (size_t i = 1; i < n && sorted; i++) {
        sorted = compare(&segment[i - 1], &segment[i]) < 0;
    }
    if (!sorted) {
        qsort(segment, n, sizeof(*segment), compare_segments);
    }
    for (size_t i = 0; i < n; i++) {
        struct segment next = segment[i];
        const struct segment *last = kept > 0 ? &segment[kept - 1] : NULL;

        uint32_t end = last != NULL && same_layer(last, &next) ? last->range.first + last->range.count : 0;

        if (next.range.first < end) {
            uint32_t cut = end - next.range.first;

            if (cut >= next.range.count) {
                continue;
            }
            next.range.first += cut;
            next.range.count -= cut;
            next.at += cut;
        }
        segment[kept++] = next;
    }
    parcels->segments = kept;
    parcels->sorted = true;
}

const struct segment *parcels_find(struct parcels *parcels, uint32_t worker, uint32_t job, uint32_t layer,
                                   uint32_t index)
{
    const struct segment key = {.worker = worker, .range = {job, layer, index, 1}, .parcel = PARCEL_NONE};
    size_t low = 0, count;

    if (!parcels->sorted) {
        sort(parcels);
    }
    count = parcels->segments;
    while (count > 0) { // the first that begins behind index
        size_t half = count / 2;

        if (compare(&parcels->segment[low + half], &key) <= 0) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    if (low > 0) {
        const struct segment *before = &parcels->segment[low - 1];

        if (same_layer(before, &key) && index - before->range.first < before->range.count) {
            return before;
        }
    }
    return low < parcels->segments && same_layer(&parcels->segment[low], &key) ? &parcels->segment[low]
                                                                               : NULL;
}

int parcel_open(struct parcel *parcel, uint32_t at, uint32_t count, const uint8_t **data, size_t *size,
                struct error *err)
{
    if (parcel->raw == NULL) {
        struct buffer *raw;
        size_t *offset = malloc(((size_t)parcel->tasks + 1) * sizeof(*offset));
        int rc;

        if (offset == NULL) {
            return error_no_memory(err);
        }
        rc = payload_decode(parcel->frame->data, parcel->frame->size, &raw, err);
        if (rc != 0) {
            free(offset);
            return rc;
        }
        offset[0] = 0;
        for (uint32_t i = 0; i < parcel->tasks; i++) {
            offset[i + 1] = offset[i] + parcel->bytes[i];
        }
        parcel->raw = raw;
        parcel->offset = offset;
    }
    *data = parcel->raw->data + parcel->offset[at];
    *size = parcel->offset[at + count] - parcel->offset[at];
    return 0;
}
