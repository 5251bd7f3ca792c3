// Payload frames: bulk bytes in pieces of at most 8 MiB, lz4 where it pays,
// XXH3 over the raw bytes.  Header of 24 bytes, little-endian:
//   u32 magic "DPAY", u8 codec (0 raw, 1 lz4 block), u8 zero[3], u32 raw_size, u32 wire_size, u64 xxh3
#ifndef DRAY_PROTO_PAYLOAD_H
#define DRAY_PROTO_PAYLOAD_H

#include "proto/buffer.h"
#include "proto/error.h"

#define FRAME_PAYLOAD_MAX ((size_t)8 << 20)
#define PAYLOAD_HEADER ((size_t)24)

enum payload_codec {
    PAYLOAD_AUTO = -1,  // lz4 when a sample of the bytes shrinks below 0.9
    PAYLOAD_RAW = 0,
    PAYLOAD_LZ4 = 1,
};

// size <= FRAME_PAYLOAD_MAX.
int payload_encode(const void *data, size_t size, enum payload_codec codec, struct buffer **frame,
                   struct error *err);
// Bytes of a payload frame before compression, as its header says; nothing else is looked at.  -EBADMSG.
int payload_raw_size(const void *frame, size_t size, size_t *raw_size, struct error *err);
// -EBADMSG: not a payload, sizes that lie, checksum wrong.  Never allocates more than FRAME_PAYLOAD_MAX.
int payload_decode(const void *frame, size_t size, struct buffer **raw, struct error *err);

#endif
