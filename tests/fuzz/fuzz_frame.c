#include <stdint.h>
#include <stdlib.h>

#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Messages: what is taken encodes to something that is taken again.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const enum frame_sender anybody = (enum frame_sender)(FROM_CLIENT | FROM_WORKER | FROM_BROKER);
    struct arena arena;
    struct frame frame;

    arena_init(&arena, 0);
    if (frame_decode(data, size, anybody, &arena, &frame, NULL) == 0) {
        size_t again_size = frame_size(frame.message);
        uint8_t *again = arena_alloc(&arena, again_size);

        frame_encode(frame.info->type, frame.session, frame.seq, frame.message, again);
        if (frame_decode(again, again_size, anybody, &arena, &frame, NULL) != 0) {
            abort();
        }
    }
    arena_fini(&arena);
    return 0;
}
