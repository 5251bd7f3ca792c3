// The last that a process has written: what an error shows of it.
#ifndef DRAY_WORKER_CHILD_TAIL_H
#define DRAY_WORKER_CHILD_TAIL_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

#define TAIL_BYTES 4096

struct tail {
    uint64_t written; // all that ever came
    char data[TAIL_BYTES];
};

void tail_clear(struct tail *tail);
void tail_add(struct tail *tail, const void *data, size_t size);
// Reads what a descriptor that does not block has to give.  1: more may come; 0: its end; negative: errno.
int tail_read(struct tail *tail, int fd);
// Its end as a text for people: no control characters but inner line breaks, cut at the front to what `to`
// holds.
void tail_text(const struct tail *tail, char *to, size_t size);
// Puts it behind an error that is set; nothing when nothing was written.
void tail_append(const struct tail *tail, struct error *err);

#endif
