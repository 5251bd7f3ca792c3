#include "worker/encoding.h"

#include <errno.h>
#include <inttypes.h>

#include "proto/payload.h"

int encoding_piece(struct store *store, uint32_t job, uint32_t layer, uint32_t index, uint64_t offset,
                   uint32_t length, struct buffer **frame, uint64_t *total, struct error *err)
{
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
    rc = partition_encode_piece(partition, offset, length, &bytes, &whole, err);
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
