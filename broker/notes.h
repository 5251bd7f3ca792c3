// What tasks said beside their results, for clients that come later: kept with the job.
#ifndef DRAY_BROKER_NOTES_H
#define DRAY_BROKER_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/hash.h"

#define NOTES_BYTES_MAX ((size_t)256 << 20) // of all jobs; what comes later is passed on and not kept

struct note {
    struct hash_node by_task;
    struct note *next; // of the same job, in the order in which they came
    uint32_t job, layer, index;
    size_t size;
    uint8_t bytes[];
};

struct notes {
    struct hash by_task;
    struct hash jobs;
    size_t bytes;
};

void notes_init(struct notes *notes);
void notes_fini(struct notes *notes);
// 1: it is new; 0: it was there (a task that ran twice says the same).  -ENOSPC; -ENOMEM.
int notes_add(struct notes *notes, uint32_t job, uint32_t layer, uint32_t index, const void *bytes,
              size_t size);
// A packed Note that says more than what a task took: without it its result cannot be read right.
bool notes_is_vital(const void *bytes, size_t size);
bool notes_has(const struct notes *notes, uint32_t job, uint32_t layer, uint32_t index);
const struct note *notes_of(const struct notes *notes, uint32_t job); // the first; then ->next
void notes_forget(struct notes *notes, uint32_t job);
// Forgets jobs that `is_here` does not know.
void notes_sweep(struct notes *notes, bool (*is_here)(void *arg, uint32_t job), void *arg);

#endif
