// DONE messages: ranges of finished tasks with what there is to say of each, and small wanted partitions
// along with them, one payload frame a Completed.
#ifndef DRAY_WORKER_LETTER_H
#define DRAY_WORKER_LETTER_H

#include "proto/arena.h"
#include "proto/buffer.h"
#include "proto/wire.pb-c.h"
#include "worker/core/agent.h"
#include "worker/layer.h"
#include "worker/store/store.h"

struct letter;

struct letter *letter_create(void); // NULL: no memory
void letter_destroy(struct letter *letter);

// Where in a list of ranges the next letter begins.
struct letter_place {
    size_t range;
    uint32_t done; // tasks of that one
};
// Fills a letter with as much as one message takes of ranges that are sorted by job, layer, first, beginning
// at *place, which moves on.  *out and the payload frames live until the next call.  -ENOMEM.
int letter_write(struct letter *letter, const struct agent_range *range, size_t ranges,
                 struct letter_place *place, struct store *store, const struct layers *layers,
                 const Dray__Done **out, struct buffer *const **payload, size_t *payloads);

// A copy in the arena; NULL: no memory.
Dray__TaskNote *letter_note(struct arena *arena, uint32_t index, const struct buffer *note);

#endif
