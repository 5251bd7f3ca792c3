// The text of a file in windows of a few hundred KB that stay in the L2 cache.  File offset and
// buffer are page-aligned in every read (10-16 GB/s from the page cache, 2 GB/s otherwise); what the caller
// has not finished with is moved in front of the next window.
#ifndef DRAY_WORKER_KERNEL_CSV_READER_H
#define DRAY_WORKER_KERNEL_CSV_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/op.pb-c.h"
#include "worker/kernel/csv_decode.h"
#include "worker/kernel/csv_file.h"
#include "worker/store/budget.h"

#define CSV_SLACK 64                     // readable bytes before data and writable ones behind end
#define CSV_TEXT_MAX (UINT64_C(1) << 31)  // bytes of one buffer, so that places in it are 32-bit numbers

// The memory of a reader, kept by a thread between tasks.  Zero is an empty one.
struct csv_block {
    uint8_t *memory;
    size_t size;
    size_t carry;  // bytes in front of the window, a multiple of the page
};
void csv_block_clear(struct csv_block *block);

struct csv_reader {
    // Bytes held: [data, end), data[0] is byte `offset` of the (decompressed) text.
    uint8_t *base;  // places are counted from here; changes only within csv_reader_fill
    uint8_t *data;
    uint8_t *end;
    uint64_t offset;
    bool ended;  // nothing follows `end`
    uint64_t hint;  // reads beyond this offset are small: only the rest of a line is wanted
    // private
    const char *name;
    struct budget *budget;
    struct csv_block *block;
    uint64_t taken;
    int fd;
    uint64_t next;  // offset of the next read
    uint64_t size;  // of a plain file
    size_t small;
    struct csv_decoder *decoder;
};

// Starts at `offset`, or up to a page before it; holds nothing yet.  A compressed file starts at 0, whatever
// the offset.  `name`, `block` and `file` are borrowed.  Call csv_reader_close also after a failure.
int csv_reader_open(struct csv_reader *reader, const struct csv_file *file, Dray__Codec codec, const char *name,
                    uint64_t offset, uint64_t hint, struct budget *budget, struct csv_block *block,
                    struct error *err);
void csv_reader_close(struct csv_reader *reader);

// Keeps [keep, end) and adds at least one byte behind it, or sets `ended`.  Places change by *moved (mod 2^32).
int csv_reader_fill(struct csv_reader *reader, const uint8_t *keep, uint32_t *moved, struct error *err);

#endif
