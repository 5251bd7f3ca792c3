// A partition: what one task made, held by a store, moved by the exchange.
// Encoding (all integers little-endian): a header of 16 bytes
//   u8 magic[4] "DPT1", u8 kind, u8 zero[3], u32 header_size, u32 zero
// then for kind TABLE a packed TableHeader padded to 64 bytes, then each buffer
// padded to 64 bytes; for kind BYTES the bytes.
#ifndef DRAY_PROTO_PARTITION_H
#define DRAY_PROTO_PARTITION_H

#include <stdbool.h>

#include "proto/table.h"

enum { PARTITION_HEADER = 16 };

enum partition_kind {
    PARTITION_TABLE = 1,
    PARTITION_BYTES = 2,
};

struct partition {
    enum partition_kind kind;
    struct table *table;  // TABLE
    struct buffer *bytes; // BYTES
    _Atomic unsigned refs;
    bool sealed;
    _Atomic uint32_t intact_ms; // when it was last found so, for who keeps it
    uint64_t checksum;          // once it is sealed: XXH3 of its encoding
};

// Take over one reference of what they wrap, also on failure (NULL: no memory).
struct partition *partition_from_table(struct table *table);
struct partition *partition_from_bytes(struct buffer *bytes);
struct partition *partition_ref(struct partition *p);
void partition_unref(struct partition *p);
size_t partition_bytes(const struct partition *p); // memory it holds

#define PARTITION_HEADER ((size_t)16)
// The encoding of a partition of these bytes, at out[PARTITION_HEADER + size].
void partition_encode_bytes(const uint8_t *data, size_t size, uint8_t *out);
int partition_encode(const struct partition *p, struct buffer **out, struct error *err);
// Bytes [offset, offset + length) of the encoding, cut at its end, without making the rest;
// *total is the size of the whole.  -EINVAL: offset is not below that.
int partition_encode_piece(const struct partition *p, uint64_t offset, uint64_t length, struct buffer **out,
                           uint64_t *total, struct error *err);
// The whole into given memory: first its size, then the bytes (-EINVAL: `size` is not that).
int partition_encoded_bytes(const struct partition *p, uint64_t *size, struct error *err);
int partition_encode_to(const struct partition *p, uint8_t *to, uint64_t size, struct error *err);

// Notes the checksum of what it is now; before others see it.  Nothing happens when it has one.
int partition_seal(struct partition *p, struct error *err);
// Does it have the checksum that was noted?  About 0.1 ns a byte; true as well when there is no memory to
// tell.
bool partition_intact(const struct partition *p);
// Checks everything (bytes may come from a hostile peer); the result's buffers are
// slices of `encoded`, no copy.  -EBADMSG with what is wrong.
int partition_decode(struct buffer *encoded, struct partition **out, struct error *err);

#endif
