#include "client/lib/gather.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/results_state.h"
#include "proto/partition.h"

// A value that is a small part of what it came with is copied, so that it does not keep the rest.
enum { SHARE_MIN = 4 };

// Futures of neighbouring tasks that stand side by side in the caller's list.
struct stretch {
    struct job *job;
    uint32_t layer, first, count;
    size_t position; // in the list
};

struct gather {
    struct results *results;
    struct stretch *stretch; // disjoint; by job, layer and first
    size_t stretches;
    struct stretch *again; // those that were named before
    size_t agains;
    struct gathered *memory;
    struct dray_bytes *value; // in memory; data NULL: not here yet
    size_t count;
    size_t left;            // tasks, each once
    struct stretch *remote; // to be fetched
    size_t remotes, remotes_room, remote_at;
    uint32_t remote_done; // of remote[remote_at]
    size_t fetching;
    struct error failed;
};

// What dray_gathered.memory is.
struct gathered {
    struct dray_bytes *value;
    struct buffer **buffer; // that values point into
    size_t buffers, buffers_room;
    struct arena arena; // of values that were copied
};

static struct gathered *gathered_create(size_t count)
{
    struct gathered *memory = calloc(1, sizeof(*memory));

    if (memory == NULL || (memory->value = calloc(count + 1, sizeof(*memory->value))) == NULL) {
        free(memory);
        return NULL;
    }
    arena_init(&memory->arena, 0);
    return memory;
}

static void gathered_destroy(struct gathered *memory)
{
    if (memory == NULL) {
        return;
    }
    for (size_t i = 0; i < memory->buffers; i++) {
        buffer_unref(memory->buffer[i]);
    }
    free(memory->buffer);
    free(memory->value);
    arena_fini(&memory->arena);
    free(memory);
}

void dray_gathered_free(struct dray_gathered *gathered)
{
    if (gathered != NULL) {
        gathered_destroy(gathered->memory);
        memset(gathered, 0, sizeof(*gathered));
    }
}

// ---- which tasks ---------------------------------------------------------------------------------

static int compare(const void *a, const void *b)
{
    const struct stretch *x = a, *y = b;

    if (x->job != y->job) {
        return x->job->id < y->job->id ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return x->first < y->first ? -1 : x->first > y->first;
}

static size_t count_stretches(const struct dray_future *future, size_t count)
{
    size_t stretches = 0;

    for (size_t i = 0; i < count; i++) {
        stretches += i == 0 || future[i].job != future[i - 1].job || future[i].layer != future[i - 1].layer ||
                     future[i].index != future[i - 1].index + 1;
    }
    return stretches;
}

static int check_stretch(const struct stretch *s, const struct dray_future *future, struct error *err)
{
    const struct layer *layer;
    struct dray_future last = *future;
    uint32_t tasks;
    bool gone = false;
    int rc;

    last.index += s->count - 1;
    rc = results_layer_tasks(s->job->results, future, &tasks, err);
    if (rc == 0) {
        rc = results_layer_tasks(s->job->results, &last, &tasks, err);
    }
    if (rc != 0) {
        return rc;
    }
    layer = &s->job->layer[s->layer];
    if (!layer->wanted) {
        return error_set(err, EINVAL, "layer %u of job %u has no results for the client", s->layer,
                         s->job->id);
    }
    if (layer_alike(layer, TASK_GONE, s->first, s->first + s->count, &gone) < s->count) {
        return error_set(err, ENOENT, "a task of layer %u of job %u between %u and %u was released", s->layer,
                         s->job->id, s->first, s->first + s->count - 1);
    }
    return 0;
}

static int make_stretches(struct gather *gather, const struct dray_future *future, size_t count,
                          struct error *err)
{
    struct stretch *s = NULL;

    for (size_t i = 0; i < count; i++) {
        struct job *job;

        if (s != NULL && future[i].job == s->job->id && future[i].layer == s->layer &&
            future[i].index == s->first + s->count) {
            s->count++;
            continue;
        }
        job = results_find_job(gather->results, future[i].job);
        if (job == NULL) {
            return error_set(err, ENOENT, "future %zu is of job %u, which is not one of this connection", i,
                             future[i].job);
        }
        s = &gather->stretch[gather->stretches++];
        *s = (struct stretch){job, future[i].layer, future[i].index, 1, i};
    }
    for (size_t i = 0; i < gather->stretches; i++) {
        int rc = check_stretch(&gather->stretch[i], &future[gather->stretch[i].position], err);

        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

// Sorts them and moves what is named twice aside.
static void part_again(struct gather *gather)
{
    size_t kept = 0;

    qsort(gather->stretch, gather->stretches, sizeof(*gather->stretch), compare);
    for (size_t i = 0; i < gather->stretches; i++) {
        struct stretch s = gather->stretch[i];
        const struct stretch *last = kept > 0 ? &gather->stretch[kept - 1] : NULL;

        if (last != NULL && last->job == s.job && last->layer == s.layer &&
            s.first < last->first + last->count) {
            uint32_t both = last->first + last->count - s.first;

            both = both < s.count ? both : s.count;
            gather->again[gather->agains++] = (struct stretch){s.job, s.layer, s.first, both, s.position};
            s.first += both;
            s.count -= both;
            s.position += both;
        }
        if (s.count > 0) {
            gather->stretch[kept++] = s;
            gather->left += s.count;
        }
    }
    gather->stretches = kept;
}

// The first one that ends behind `index`.
static struct stretch *find(const struct gather *gather, const struct job *job, uint32_t layer,
                            uint32_t index)
{
    size_t low = 0, high = gather->stretches;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct stretch *s = &gather->stretch[middle];
        bool before = s->job->id != job->id ? s->job->id < job->id
                      : s->layer != layer   ? s->layer < layer
                                            : s->first + s->count <= index;

        if (before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < gather->stretches && gather->stretch[low].job == job && gather->stretch[low].layer == layer
               ? &gather->stretch[low]
               : NULL;
}

bool gather_wants(const struct gather *gather, const struct job *job, uint32_t layer)
{
    return gather != NULL && find(gather, job, layer, 0) != NULL;
}

// ---- failures --------------------------------------------------------------------------------------

void gather_fail(struct gather *gather, const struct job *job, int code, const char *text)
{
    if (gather->failed.code == 0) {
        error_set(&gather->failed, code > 0 ? code : EIO, "job %u: %s", job->id, text);
    }
}

void gather_fail_task(struct gather *gather, const struct job *job, uint32_t layer, uint32_t index)
{
    int code = job->layer[layer].where[index];
    const char *text = strerror(code);

    for (size_t i = 0; i < job->failures; i++) {
        const struct failed_range *failed = &job->failed[i];

        if (failed->layer == layer && index - failed->first < failed->count) {
            text = failed->why->text;
            break;
        }
    }
    if (gather->failed.code == 0) {
        error_set(&gather->failed, code > 0 ? code : EIO, "task %u of layer %u of job %u failed: %s", index,
                  layer, job->id, text);
    }
}

// Tasks of it that have neither a result nor failed never will.
void gather_job_ended(struct gather *gather, const struct job *job)
{
    for (size_t i = 0; i < gather->stretches; i++) {
        const struct stretch *s = &gather->stretch[i];

        for (uint32_t at = 0; s->job == job && at < s->count; at++) {
            if (gather->value[s->position + at].data == NULL) {
                gather_fail(gather, job, job->end.error.code, job->end.error.text);
                return;
            }
        }
    }
}

// What was not told of before that was read and freed by another client, which had the job.
void gather_job_done(struct gather *gather, const struct job *job)
{
    for (size_t i = 0; i < gather->stretches && gather->failed.code == 0; i++) {
        const struct stretch *s = &gather->stretch[i];
        bool here;
        uint32_t n;

        if (s->job != job) {
            continue;
        }
        n = layer_alike(&job->layer[s->layer], TASK_HERE, s->first, s->first + s->count, &here);
        if (!here || n < s->count) {
            error_set(
                &gather->failed, ENODATA,
                "the result of task %u of layer %u of job %u is no longer there: the client that had the job "
                "has read it",
                here ? s->first + n : s->first, s->layer, job->id);
        }
    }
}

// ---- taking ---------------------------------------------------------------------------------------

static int keep_buffer(struct gathered *memory, struct buffer *buffer)
{
    if (memory->buffers > 0 && memory->buffer[memory->buffers - 1] == buffer) {
        return 0;
    }
    if (memory->buffers == memory->buffers_room) {
        size_t room = memory->buffers_room == 0 ? 16 : 2 * memory->buffers_room;
        struct buffer **grown = realloc(memory->buffer, room * sizeof(struct buffer *));

        if (grown == NULL) {
            return -ENOMEM;
        }
        memory->buffer = grown;
        memory->buffers_room = room;
    }
    memory->buffer[memory->buffers++] = buffer_ref(buffer);
    return 0;
}

static int want_remote(struct gather *gather, const struct stretch *s, uint32_t first, uint32_t count)
{
    size_t position = s->position + (first - s->first);
    struct stretch *last = gather->remotes > 0 ? &gather->remote[gather->remotes - 1] : NULL;

    if (last != NULL && last->job == s->job && last->layer == s->layer &&
        last->first + last->count == first && last->position + last->count == position) {
        last->count += count;
        return 0;
    }
    if (gather->remotes == gather->remotes_room) {
        size_t room = gather->remotes_room == 0 ? 16 : 2 * gather->remotes_room;
        struct stretch *grown = realloc(gather->remote, room * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        gather->remote = grown;
        gather->remotes_room = room;
    }
    gather->remote[gather->remotes++] = (struct stretch){s->job, s->layer, first, count, position};
    return 0;
}

// The bytes of one, `data` in a buffer that is kept.
static void put(struct gather *gather, size_t position, const uint8_t *data, uint64_t size)
{
    struct dray_bytes *value = &gather->value[position];
    bool bytes = size >= PARTITION_HEADER && memcmp(data, "DPT1", 4) == 0 && data[4] == PARTITION_BYTES;

    if (value->data == NULL) {
        gather->left--;
    }
    value->data = bytes ? data + PARTITION_HEADER : data;
    value->size = bytes ? size - PARTITION_HEADER : size;
}

// A place in a batch, and where its bytes are.
struct cursor {
    const struct batch_range *range;
    uint32_t place;
    uint64_t offset;
};

// Results [from, end) of a range.
static void take(struct gather *gather, struct batch *batch, struct cursor *cursor, const struct stretch *s,
                 uint32_t from, uint32_t end)
{
    uint32_t place = cursor->range->size_at + (from - cursor->range->first);
    uint64_t total = 0;
    const uint8_t *data;

    if (batch->failure != NULL) {
        gather_fail_task(gather, s->job, s->layer, from);
        return;
    }
    if (batch->bytes == NULL) {
        if (want_remote(gather, s, from, end - from) != 0) {
            gather_fail(gather, s->job, ENOMEM, "no memory for the list of results");
        }
        return;
    }
    for (; batch->sizes != NULL && cursor->place < place; cursor->place++) {
        cursor->offset += batch->sizes[cursor->place];
    }
    if (batch->sizes == NULL) {
        cursor->offset = cursor->range->offset + (from - cursor->range->first) * batch->size;
    }
    for (uint32_t i = 0; i < end - from; i++) {
        total += batch_size_at(batch, place + i);
    }
    data = batch->bytes->data + cursor->offset;
    if (total < batch->bytes->size / SHARE_MIN) {
        data = arena_copy(&gather->memory->arena, data, total);
    } else if (keep_buffer(gather->memory, batch->bytes) != 0) {
        data = NULL;
    }
    if (data == NULL) {
        gather_fail(gather, s->job, ENOMEM, "no memory for results");
        return;
    }
    for (uint32_t i = 0; i < end - from; i++) {
        uint64_t size = batch_size_at(batch, place + i);

        put(gather, s->position + (from - s->first) + i, data, size);
        data += size;
    }
}

// What of [from, end) in the range is not TAKEN, and is so now.
static uint32_t take_untaken(struct gather *gather, struct batch *batch, struct cursor *cursor,
                             const struct stretch *s, uint32_t from, uint32_t end)
{
    struct layer *layer = &batch->job->layer[batch->layer];
    uint32_t count = 0;

    while (from < end) {
        bool taken;
        uint32_t n = layer_alike(layer, TASK_TAKEN, from, end, &taken);

        if (!taken) {
            take(gather, batch, cursor, s, from, from + n);
            layer_add(layer, TASK_TAKEN, from, n);
            job_list(batch->job, JOBS_STIRRED); // an ordered one may go on behind them
            count += n;
        }
        from += n;
    }
    return count;
}

uint32_t gather_offer(struct gather *gather, struct batch *batch)
{
    const struct stretch *end = gather->stretch + gather->stretches;
    uint32_t count = 0;

    for (uint32_t r = batch->at_range; r < batch->ranges; r++) {
        const struct batch_range *range = &batch->range[r];
        uint32_t first = range->first + (r == batch->at_range ? batch->at : 0);
        uint32_t behind = range->first + range->count;
        struct cursor cursor = {range, range->size_at, range->offset};

        for (struct stretch *s = find(gather, batch->job, batch->layer, first);
             s != NULL && s < end && s->job == batch->job && s->layer == batch->layer && s->first < behind;
             s++) {
            uint32_t s_end = s->first + s->count;

            count += take_untaken(gather, batch, &cursor, s, first > s->first ? first : s->first,
                                  behind < s_end ? behind : s_end);
        }
    }
    return count;
}

void gather_put(struct gather *gather, const struct job *job, uint32_t layer, uint32_t index,
                struct buffer *bytes)
{
    const struct stretch *s = find(gather, job, layer, index);

    gather->fetching -= gather->fetching > 0 ? 1 : 0;
    if (s == NULL || index < s->first) {
        return;
    }
    if (keep_buffer(gather->memory, bytes) != 0) {
        gather_fail(gather, job, ENOMEM, "no memory for results");
        return;
    }
    put(gather, s->position + (index - s->first), bytes->data, bytes->size);
}

// What came before the call: still to be given by dray_next, given already, or failed.
static void take_waiting(struct gather *gather)
{
    struct job *job = NULL;

    for (size_t i = 0; i < gather->stretches; i++) {
        if (gather->stretch[i].job == job) {
            continue;
        }
        job = gather->stretch[i].job;
        job_list(job, JOBS_STIRRED); // its end may be all that is left
        for (struct batch *batch = job->ready.first, *next; batch != NULL; batch = next) {
            uint32_t taken;

            next = batch->next;
            taken = gather_offer(gather, batch);
            batch->left -= taken;
            job->undelivered -= taken;
            if (batch->left == 0) {
                batch_destroy(batch);
            }
        }
    }
}

// Results that are known and that nobody offers any more.
static void take_known(struct gather *gather)
{
    for (size_t i = 0; i < gather->stretches; i++) {
        const struct stretch *s = &gather->stretch[i];
        const struct layer *layer = &s->job->layer[s->layer];
        bool freed = job_frees_read(s->job);

        for (uint32_t at = s->first; at < s->first + s->count && gather->failed.code == 0;) {
            bool here;
            uint32_t n = layer_alike(layer, TASK_HERE, at, s->first + s->count, &here);

            for (uint32_t task = at; here && task < at + n && gather->failed.code == 0; task++) {
                if (layer_has(layer, TASK_FAILED, task)) {
                    gather_fail_task(gather, s->job, s->layer, task);
                } else if (gather->value[s->position + (task - s->first)].data != NULL) {
                    continue;
                } else if (freed && layer_has(layer, TASK_TAKEN, task)) {
                    error_set(
                        &gather->failed, ENOENT,
                        "task %u of layer %u of job %u was given by dray_next and freed: gather it instead, "
                        "or submit the job as detached",
                        task, s->layer, s->job->id);
                } else if (want_remote(gather, s, task, 1) != 0) {
                    gather_fail(gather, s->job, ENOMEM, "no memory for the list of results");
                }
            }
            at += n;
        }
        if (gather->failed.code == 0 && results_job_ended(s->job, NULL)) {
            gather_job_ended(gather, s->job);
        }
    }
}

int gather_create(struct results *results, const struct dray_future *future, size_t count,
                  struct gather **out, struct error *err)
{
    struct gather *gather = calloc(1, sizeof(*gather));
    size_t stretches = count_stretches(future, count);
    int rc = -ENOMEM;

    if (gather == NULL) {
        return error_no_memory(err);
    }
    gather->results = results;
    gather->count = count;
    gather->memory = gathered_create(count);
    gather->stretch = malloc((stretches + 1) * sizeof(*gather->stretch));
    gather->again = malloc((stretches + 1) * sizeof(*gather->again));
    if (gather->memory == NULL || gather->stretch == NULL || gather->again == NULL) {
        error_no_memory(err);
        goto out;
    }
    gather->value = gather->memory->value;
    rc = make_stretches(gather, future, count, err);
    if (rc != 0) {
        goto out;
    }
    part_again(gather);
    results->gather = gather;
    take_waiting(gather);
    gather->remotes = 0; // take_known finds them again
    take_known(gather);
    *out = gather;
    gather = NULL;
out:
    gather_destroy(gather);
    return rc;
}

void gather_destroy(struct gather *gather)
{
    if (gather == NULL) {
        return;
    }
    if (gather->results->gather == gather) {
        gather->results->gather = NULL;
    }
    for (struct fetch *fetch = gather->results->fetch, *next; fetch != NULL; fetch = next) {
        next = fetch->next;
        fetch->for_gather = false;
        if (!fetch->for_user) {
            fetch_cancel(fetch);
        }
    }
    gathered_destroy(gather->memory);
    free(gather->remote);
    free(gather->again);
    free(gather->stretch);
    free(gather);
}

size_t gather_left(const struct gather *gather)
{
    return gather->left;
}

int gather_advance(struct gather *gather, struct error *err)
{
    while (gather->failed.code == 0 && gather->remote_at < gather->remotes &&
           gather->fetching < GATHER_FETCHES) {
        const struct stretch *s = &gather->remote[gather->remote_at];

        if (fetch_gathered(s->job, s->layer, s->first + gather->remote_done, &gather->failed) != 0) {
            break;
        }
        gather->fetching++;
        if (++gather->remote_done == s->count) {
            gather->remote_done = 0;
            gather->remote_at++;
        }
    }
    if (gather->failed.code != 0) {
        if (err != NULL) {
            *err = gather->failed;
        }
        return -gather->failed.code;
    }
    return gather->left == 0;
}

void gather_finish(struct gather *gather, struct dray_gathered *out)
{
    for (size_t i = 0; i < gather->agains; i++) {
        const struct stretch *again = &gather->again[i];

        for (uint32_t at = 0; at < again->count; at++) {
            const struct stretch *s = find(gather, again->job, again->layer, again->first + at);

            gather->value[again->position + at] = gather->value[s->position + (again->first + at - s->first)];
        }
    }
    out->count = gather->count;
    out->value = gather->value;
    out->memory = gather->memory;
    gather->memory = NULL;
}
