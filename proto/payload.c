#define XXH_INLINE_ALL
#include "proto/payload.h"

#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

enum {
    CODEC_AT = 4,
    RAW_SIZE_AT = 8,
    WIRE_SIZE_AT = 12,
    HASH_AT = 16,
    COMPRESS_MIN = 512, // shorter ones cost more in calls than they save in bytes
    SAMPLE_PIECE = 4096,
    SAMPLE_PIECES = 4,
    LZ4_RATIO_MAX = 255 // no lz4 block grows more than this
};

static const uint8_t magic[4] = {'D', 'P', 'A', 'Y'};

// Compresses a few pieces spread over the bytes: do they shrink below 0.9?
static bool sample_shrinks(const uint8_t *data, size_t size)
{
    char scratch[LZ4_COMPRESSBOUND(SAMPLE_PIECE * SAMPLE_PIECES)];
    uint8_t sample[SAMPLE_PIECE * SAMPLE_PIECES];
    size_t n = 0;

    if (size <= sizeof(sample)) {
        memcpy(sample, data, size);
        n = size;
    } else {
        size_t step = (size - SAMPLE_PIECE) / (SAMPLE_PIECES - 1);

        for (size_t i = 0; i < SAMPLE_PIECES; i++, n += SAMPLE_PIECE) {
            memcpy(sample + n, data + i * step, SAMPLE_PIECE);
        }
    }
    int wire = LZ4_compress_default((const char *)sample, scratch, (int)n, (int)sizeof(scratch));

    return wire > 0 && (size_t)wire * 10 < n * 9;
}

int payload_encode(const void *data, size_t size, enum payload_codec codec, struct buffer **frame,
                   struct error *err)
{
    uint8_t *to;
    struct buffer *buffer;
    size_t wire = 0;

    if (size > FRAME_PAYLOAD_MAX) {
        return error_set(err, EMSGSIZE, "a payload of %zu bytes is longer than %zu", size, FRAME_PAYLOAD_MAX);
    }
    if (codec == PAYLOAD_AUTO) {
        codec = size >= COMPRESS_MIN && sample_shrinks(data, size) ? PAYLOAD_LZ4 : PAYLOAD_RAW;
    }
    buffer = buffer_create(PAYLOAD_HEADER + size, &to);
    if (buffer == NULL) {
        return error_no_memory(err);
    }
    if (codec == PAYLOAD_LZ4 && size > 0) {
        // 0 when it does not come out shorter: then it travels as it is.
        int n = LZ4_compress_default(data, (char *)to + PAYLOAD_HEADER, (int)size, (int)size - 1);

        wire = n > 0 ? (size_t)n : 0;
    }
    codec = wire > 0 ? PAYLOAD_LZ4 : PAYLOAD_RAW;
    if (codec == PAYLOAD_RAW) {
        wire = size;
        if (size > 0) {
            memcpy(to + PAYLOAD_HEADER, data, size);
        }
    }
    uint32_t raw_size = htole32((uint32_t)size);
    uint32_t wire_size = htole32((uint32_t)wire);
    uint64_t hash = htole64(XXH3_64bits(data, size));

    memset(to, 0, PAYLOAD_HEADER);
    memcpy(to, magic, sizeof(magic));
    to[CODEC_AT] = (uint8_t)codec;
    memcpy(to + RAW_SIZE_AT, &raw_size, sizeof(raw_size));
    memcpy(to + WIRE_SIZE_AT, &wire_size, sizeof(wire_size));
    memcpy(to + HASH_AT, &hash, sizeof(hash));
    buffer->size = PAYLOAD_HEADER + wire;
    *frame = buffer;
    return 0;
}

struct head {
    uint32_t raw_size;
    uint32_t wire_size;
    uint64_t hash;
    unsigned codec;
};

static int read_head(const uint8_t *from, size_t size, struct head *out, struct error *err)
{
    struct head head = {0};

    if (size < PAYLOAD_HEADER || memcmp(from, magic, sizeof(magic)) != 0) {
        return error_set(err, EBADMSG, "a frame of %zu bytes is not a payload", size);
    }
    memcpy(&head.raw_size, from + RAW_SIZE_AT, sizeof(head.raw_size));
    memcpy(&head.wire_size, from + WIRE_SIZE_AT, sizeof(head.wire_size));
    memcpy(&head.hash, from + HASH_AT, sizeof(head.hash));
    head.raw_size = le32toh(head.raw_size);
    head.wire_size = le32toh(head.wire_size);
    head.hash = le64toh(head.hash);
    head.codec = from[CODEC_AT];
    if (head.codec > PAYLOAD_LZ4 || from[5] != 0 || from[6] != 0 || from[7] != 0) {
        return error_set(err, EBADMSG, "a payload has the unknown codec %u", head.codec);
    }
    if (head.raw_size > FRAME_PAYLOAD_MAX || head.wire_size != size - PAYLOAD_HEADER ||
        (head.codec == PAYLOAD_RAW && head.wire_size != head.raw_size) ||
        head.raw_size / LZ4_RATIO_MAX > head.wire_size) {
        return error_set(err, EBADMSG, "a payload of %zu bytes claims %u bytes, %u before compression",
                         size - PAYLOAD_HEADER, head.wire_size, head.raw_size);
    }
    *out = head;
    return 0;
}

int payload_raw_size(const void *frame, size_t size, size_t *raw_size, struct error *err)
{
    struct head head = {0};
    int rc = read_head(frame, size, &head, err);

    if (rc == 0) {
        *raw_size = head.raw_size;
    }
    return rc;
}

int payload_decode(const void *frame, size_t size, struct buffer **raw, struct error *err)
{
    const uint8_t *from = (const uint8_t *)frame + PAYLOAD_HEADER;
    struct head head = {0};
    uint8_t *to;
    struct buffer *buffer;
    int rc = read_head(frame, size, &head, err);

    if (rc != 0) {
        return rc;
    }
    buffer = buffer_create(head.raw_size, &to);
    if (buffer == NULL) {
        return error_no_memory(err);
    }
    if (head.codec == PAYLOAD_RAW) {
        if (head.raw_size > 0) {
            memcpy(to, from, head.raw_size);
        }
    } else if (LZ4_decompress_safe((const char *)from, (char *)to, (int)head.wire_size, (int)head.raw_size) !=
               (int)head.raw_size) {
        buffer_unref(buffer);
        return error_set(err, EBADMSG, "a payload of %u bytes does not decompress to %u bytes", head.wire_size,
                         head.raw_size);
    }
    if (XXH3_64bits(to, head.raw_size) != head.hash) {
        buffer_unref(buffer);
        return error_set(err, EBADMSG,
                         "a payload of %u bytes has a wrong checksum: it was damaged on the way", head.raw_size);
    }
    *raw = buffer;
    return 0;
}
