#include <stdint.h>
#include <stdlib.h>

#include "proto/op.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Operations: what is taken can be described.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    const Dray__Op *op;

    arena_init(&arena, 0);
    if (op_decode(data, size, &arena, &op, NULL) == 0 && op_describe(op, &arena) == NULL) {
        abort();
    }
    arena_fini(&arena);
    return 0;
}
