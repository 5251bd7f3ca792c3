#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/partition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Keeps the reads from being optimised away.
static volatile unsigned sink;

static unsigned touch(const struct column *c)
{
    unsigned sum = 0;

    for (int64_t i = 0; i < c->length; i++) {
        size_t size;

        sum += column_is_valid(c, i);
        if (c->type == TYPE_BOOL) {
            sum += column_bool(c, i);
        } else if (c->type == TYPE_STRING || c->type == TYPE_DICT) {
            const char *text = column_string(c, i, &size);

            sum += size > 0 ? (unsigned char)text[size - 1] : 0;
        } else {
            sum += (unsigned)column_int64(c, i);
        }
    }
    return sum;
}

// Partitions: every value of what is taken can be read, and it encodes again.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition *p = NULL;
    struct buffer *again = NULL;
    uint8_t *to;
    struct buffer *encoded = buffer_create(size, &to);

    memcpy(to, data, size);
    if (partition_decode(encoded, &p, NULL) == 0) {
        for (uint32_t i = 0; p->kind == PARTITION_TABLE && i < p->table->columns; i++) {
            sink = touch(&p->table->column[i]);
        }
        if (partition_encode(p, &again, NULL) != 0) {
            abort();
        }
    }
    buffer_unref(again);
    partition_unref(p);
    buffer_unref(encoded);
    return 0;
}
