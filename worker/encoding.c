#define XXH_INLINE_ALL
#include "worker/encoding.h"

#include <errno.h>
#include <inttypes.h>
#include <xxhash.h>

#include "proto/payload.h"

static int spoil(struct store *store, const struct store_key *key, const struct partition *partition,
                 struct error *err)
{
    store_spoil(store, key, partition);
    return error_set(err, ENOENT,
                     "partition %" PRIu32 ".%" PRIu32 ".%" PRIu32
                     " was damaged in memory and is not held any more",
                     key->job, key->layer, key->index);
}

int encoding_piece(struct store *store, uint32_t job, uint32_t layer, uint32_t index, uint64_t offset,
                   uint32_t length, struct buffer **frame, uint64_t *total, uint64_t *checksum,
                   struct error *err)
{
    const struct store_key key = {job, layer, index};
    struct partition *partition;
    struct buffer *bytes = NULL;
    uint64_t whole;
    int rc;

    if (length == 0 || length > FRAME_PAYLOAD_MAX) {
        return error_set(err, EINVAL, "%" PRIu32 " bytes of a partition cannot be had at once", length);
    }
    partition = store_get(store, job, layer, index);
    if (partition == NULL) {
        return error_set(err, ENOENT, "partition %" PRIu32 ".%" PRIu32 ".%" PRIu32 " is not held here", job,
                         layer, index);
    }
    // Who reads the others compares the checksum with what it has at the end.
    if (offset == 0 && !partition_intact(partition)) {
        rc = spoil(store, &key, partition, err);
    } else {
        rc = partition_seal(partition, err);
    }
    if (rc == 0) {
        *checksum = partition->checksum;
        rc = partition_encode_piece(partition, offset, length, &bytes, &whole, err);
        rc = rc == -EBADMSG ? spoil(store, &key, partition, err) : rc;
    }
    partition_unref(partition);
    if (rc == 0) {
        rc = payload_encode(bytes->data, bytes->size, PAYLOAD_AUTO, frame, err);
        buffer_unref(bytes);
    }
    if (rc == 0) {
        *total = whole;
    }
    return rc;
}

// The whole encodings of what is asked for, up to the first that is not held or does not fit into `length`
// bytes with those before it.  -ENOENT: the first is not held here, -EFBIG: it does not fit, both without a
// text.
static int encode_several(struct store *store, const Dray__Fetch *fetch, uint32_t *size, uint32_t *encoded,
                          struct buffer **frame, struct error *err)
{
    struct partition *partition[FRAME_FETCH_MAX];
    struct buffer *bytes = NULL;
    uint8_t *to;
    uint64_t all = 0;
    uint32_t n = 0;
    bool there = false;
    int rc = 0;

    for (; n <= fetch->n_also && n < FRAME_FETCH_MAX; n++) {
        uint64_t whole;

        partition[n] = store_get(store, fetch->job, fetch->layer, n == 0 ? fetch->index : fetch->also[n - 1]);
        if (partition[n] == NULL) {
            break;
        }
        there = true;
        rc = partition_encoded_bytes(partition[n], &whole, err);
        if (rc != 0 || whole > fetch->length - all) {
            partition_unref(partition[n]);
            break;
        }
        size[n] = (uint32_t)whole;
        all += whole;
    }
    if (n == 0 && rc == 0) {
        rc = there ? -EFBIG : -ENOENT;
    }
    if (n > 0) {
        bytes = buffer_create((size_t)all, &to);
        rc = bytes == NULL ? error_no_memory(err) : 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (rc == 0) {
            rc = partition_encode_to(partition[i], to, size[i], err);
        }
        if (rc == -EBADMSG ||
            (rc == 0 && partition[i]->sealed && XXH3_64bits(to, size[i]) != partition[i]->checksum)) {
            // The first one is then looked at again, alone, and the others are asked for again.
            const struct store_key key = {fetch->job, fetch->layer,
                                          i == 0 ? fetch->index : fetch->also[i - 1]};

            rc = spoil(store, &key, partition[i], err);
        }
        to += rc == 0 ? size[i] : 0;
        partition_unref(partition[i]);
    }
    if (rc == 0) {
        rc = payload_encode(bytes->data, bytes->size, PAYLOAD_AUTO, frame, err);
    }
    buffer_unref(bytes);
    *encoded = rc == 0 ? n : 0;
    return rc;
}

int encoding_answer(struct store *store, const Dray__Fetch *fetch, Dray__Piece *answer,
                    uint32_t size[FRAME_FETCH_MAX], struct buffer **frame, struct error *err)
{
    uint32_t encoded;
    int rc;

    answer->tag = fetch->tag;
    if (fetch->n_also > 0 && fetch->length <= FRAME_PAYLOAD_MAX &&
        encode_several(store, fetch, size, &encoded, frame, err) == 0) {
        answer->total = size[0];
        answer->size = size;
        answer->n_size = encoded;
        return 0;
    }
    rc = encoding_piece(store, fetch->job, fetch->layer, fetch->index, fetch->offset, fetch->length, frame,
                        &answer->total, &answer->checksum, err);
    answer->has_checksum = rc == 0;
    return rc;
}
