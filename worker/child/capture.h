// What a command writes on standard output, counted against the budget as it comes.
#ifndef DRAY_WORKER_CHILD_CAPTURE_H
#define DRAY_WORKER_CHILD_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/error.h"

struct children;

// All zero: nothing yet.
struct capture {
    uint8_t *data;
    size_t size, room;
    bool widened; // its pipe
};

// All that is there now of a descriptor that does not block.  1: more may come; 0: its end; -ENOMEM: it does
// not fit.
int capture_read(struct capture *capture, struct children *children, int fd, struct error *err);
// Cut to size and padded with zeros, as buffer_create does; charged until the end of children_run.
int capture_finish(struct capture *capture, struct children *children, struct buffer **out,
                   struct error *err);
// Gives all of it back.
void capture_drop(struct capture *capture, struct children *children);

#endif
