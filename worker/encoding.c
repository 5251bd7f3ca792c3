#include "worker/encoding.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "proto/payload.h"
#include "proto/socket.h"

enum { KEPT_MAX = 8, IDLE_US = 3000000 };

struct encoding {
    uint32_t job, layer, index;
    struct buffer *bytes; // NULL: free
    uint64_t charged;
    uint64_t read_us;
};

struct encodings {
    pthread_mutex_t lock;
    struct store *store;
    struct budget *budget;
    struct encoding kept[KEPT_MAX];
};

struct encodings *encodings_create(struct store *store, struct budget *budget)
{
    struct encodings *encodings = calloc(1, sizeof(*encodings));

    if (encodings != NULL) {
        pthread_mutex_init(&encodings->lock, NULL);
        encodings->store = store;
        encodings->budget = budget;
    }
    return encodings;
}

static void forget(struct encodings *encodings, struct encoding *encoding)
{
    buffer_unref(encoding->bytes);
    budget_give(encodings->budget, encoding->charged);
    *encoding = (struct encoding){0};
}

void encodings_destroy(struct encodings *encodings)
{
    if (encodings == NULL) {
        return;
    }
    for (int i = 0; i < KEPT_MAX; i++) {
        forget(encodings, &encodings->kept[i]);
    }
    pthread_mutex_destroy(&encodings->lock);
    free(encodings);
}

void encodings_clear(struct encodings *encodings)
{
    pthread_mutex_lock(&encodings->lock);
    for (int i = 0; i < KEPT_MAX; i++) {
        forget(encodings, &encodings->kept[i]);
    }
    pthread_mutex_unlock(&encodings->lock);
}

void encodings_tick(struct encodings *encodings)
{
    uint64_t now = monotonic_us();

    pthread_mutex_lock(&encodings->lock);
    for (int i = 0; i < KEPT_MAX; i++) {
        struct encoding *at = &encodings->kept[i];

        if (at->bytes != NULL && now - at->read_us > IDLE_US) {
            forget(encodings, at);
        }
    }
    pthread_mutex_unlock(&encodings->lock);
}

static struct encoding *find(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index)
{
    for (int i = 0; i < KEPT_MAX; i++) {
        struct encoding *at = &encodings->kept[i];

        if (at->bytes != NULL && at->job == job && at->layer == layer && at->index == index) {
            return at;
        }
    }
    return NULL;
}

// A free place, or the one that was read longest ago.
static struct encoding *make_room(struct encodings *encodings)
{
    struct encoding *oldest = &encodings->kept[0];

    for (int i = 0; i < KEPT_MAX; i++) {
        struct encoding *at = &encodings->kept[i];

        if (at->bytes == NULL) {
            return at;
        }
        if (at->read_us < oldest->read_us) {
            oldest = at;
        }
    }
    forget(encodings, oldest);
    return oldest;
}

static int encode(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index,
                  struct encoding **out, struct error *err)
{
    struct partition *partition = store_get(encodings->store, job, layer, index);
    struct encoding *room = make_room(encodings);
    uint64_t charged = 0;
    struct buffer *bytes = NULL;
    int rc;

    if (partition == NULL) {
        return error_set(err, ENOENT, "partition %" PRIu32 ".%" PRIu32 ".%" PRIu32 " is not held here", job,
                         layer, index);
    }
    // The encoding is the same bytes with a header in front.
    charged = partition_bytes(partition);
    if (budget_take(encodings->budget, charged, "a partition that is being sent", err) != 0) {
        charged = 0;
        rc = error_set(err, EAGAIN, "no memory to send it at present");
        goto out;
    }
    rc = partition_encode(partition, &bytes, err);
    if (rc == 0) {
        *room = (struct encoding){job, layer, index, bytes, charged, 0};
        charged = 0;
        *out = room;
    }
out:
    budget_give(encodings->budget, charged);
    partition_unref(partition);
    return rc;
}

static int locate(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index,
                  struct buffer **bytes, struct error *err)
{
    struct encoding *at;
    int rc = 0;

    pthread_mutex_lock(&encodings->lock);
    at = find(encodings, job, layer, index);
    if (at == NULL) {
        rc = encode(encodings, job, layer, index, &at, err);
    }
    if (rc == 0) {
        at->read_us = monotonic_us();
        *bytes = buffer_ref(at->bytes);
    }
    pthread_mutex_unlock(&encodings->lock);
    return rc;
}

static void drop_after_last_piece(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index)
{
    struct encoding *at;

    pthread_mutex_lock(&encodings->lock);
    at = find(encodings, job, layer, index);
    if (at != NULL) {
        forget(encodings, at);
    }
    pthread_mutex_unlock(&encodings->lock);
}

int encodings_piece(struct encodings *encodings, uint32_t job, uint32_t layer, uint32_t index,
                    uint64_t offset, uint32_t length, struct buffer **frame, uint64_t *total,
                    struct error *err)
{
    struct buffer *bytes;
    size_t size;
    bool last;
    int rc = locate(encodings, job, layer, index, &bytes, err);

    if (rc != 0) {
        return rc;
    }
    if (length > FRAME_PAYLOAD_MAX || offset >= bytes->size) {
        rc = error_set(err, EINVAL, "%" PRIu32 " bytes from %" PRIu64 " of a partition of %zu cannot be had",
                       length, offset, bytes->size);
        goto out;
    }
    last = bytes->size - offset <= length;
    size = last ? (size_t)(bytes->size - offset) : length;
    rc = payload_encode(bytes->data + offset, size, PAYLOAD_AUTO, frame, err);
    if (rc != 0) {
        goto out;
    }
    *total = bytes->size;
    // Pieces are asked for in order, so most often nobody comes back for it.
    if (last) {
        drop_after_last_piece(encodings, job, layer, index);
    }
out:
    buffer_unref(bytes);
    return rc;
}
