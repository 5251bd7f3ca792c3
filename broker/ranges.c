#include "broker/ranges.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int ranges_init(struct ranges *ranges, size_t room, struct arena *arena, struct error *err)
{
    *ranges = (struct ranges){.range = arena_array(arena, room + 1, sizeof(*ranges->range))};
    return ranges->range == NULL ? error_no_memory(err) : 0;
}

void ranges_append(struct ranges *ranges, uint32_t job, uint32_t layer, size_t n, const uint32_t *first,
                   const uint32_t *count)
{
    for (size_t i = 0; i < n; i++) {
        ranges->range[ranges->count++] = (struct task_range){job, layer, first[i], count[i]};
        ranges->tasks += count[i];
    }
}

static int compare(const void *left, const void *right)
{
    const struct task_range *a = left, *b = right;

    if (a->job != b->job) {
        return a->job < b->job ? -1 : 1;
    }
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return (a->first > b->first) - (a->first < b->first);
}

int ranges_refuse_repeats(struct ranges *ranges, struct error *err)
{
    bool sorted = true;

    for (size_t i = 1; i < ranges->count && sorted; i++) {
        sorted = compare(&ranges->range[i - 1], &ranges->range[i]) <= 0;
    }
    if (!sorted) {
        qsort(ranges->range, ranges->count, sizeof(*ranges->range), compare);
    }
    for (size_t i = 1; i < ranges->count; i++) {
        const struct task_range *before = &ranges->range[i - 1], *range = &ranges->range[i];

        if (before->job == range->job && before->layer == range->layer &&
            range->first - before->first < before->count) {
            return error_set(err, EBADMSG, "task %" PRIu32 " of layer %" PRIu32 " is named twice",
                             range->first, range->layer);
        }
    }
    return 0;
}

int ranges_from_runs(struct ranges *ranges, Dray__Run *const *run, size_t runs, struct arena *arena,
                     struct error *err)
{
    size_t room = 0;
    int rc;

    for (size_t i = 0; i < runs; i++) {
        room += run[i]->n_first;
    }
    rc = ranges_init(ranges, room, arena, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < runs; i++) {
        ranges_append(ranges, run[i]->job, run[i]->layer, run[i]->n_first, run[i]->first, run[i]->count);
    }
    return ranges_refuse_repeats(ranges, err);
}
