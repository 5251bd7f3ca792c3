// Decompression of a file as a stream: gzip (several members) and zstd (several frames).
#ifndef DRAY_WORKER_KERNEL_CSV_DECODE_H
#define DRAY_WORKER_KERNEL_CSV_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/op.pb-c.h"
#include "worker/store/budget.h"

struct csv_decoder;

// `name` for errors, borrowed; the decoder reads fd from its start with pread.
int csv_decoder_create(int fd, Dray__Codec codec, const char *name, struct budget *budget,
                       struct csv_decoder **out, struct error *err);
void csv_decoder_destroy(struct csv_decoder *decoder);
// Up to `size` bytes; *got == 0 only at the end of the file.  -EBADMSG: damaged, cut off, or followed by something else.
int csv_decoder_read(struct csv_decoder *decoder, uint8_t *out, size_t size, size_t *got, struct error *err);

#endif
