// A layer that is put together from single tasks: neighbours that differ in their index, argument and inputs
// only.  When it is closed, the inputs' edges become a pattern if they have one.
#ifndef DRAY_CLIENT_LIB_DRAFT_H
#define DRAY_CLIENT_LIB_DRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/include/dray.h"
#include "proto/error.h"

// Bytes that grow.
struct bytes {
    uint8_t *data;
    size_t size, room;
};

// A future, as the layer sees it.
struct draft_input {
    uint32_t job; // 0: the layer's own
    uint32_t layer, index;
    uint32_t tasks; // of that layer; of one that is a draft itself it is not known yet
};

// Where the inputs of several tasks come from: an Input of the layer.
struct draft_slot {
    uint32_t job, layer, tasks; // that many at the latest when the draft is closed
    bool own;
    bool broadcast; // one partition for all, without arrays
    uint32_t rows;  // offsets that are written
    uint32_t *offset, *target;
    size_t offsets_room, targets, targets_room;
};

struct draft {
    uint32_t layer; // its number
    uint32_t tasks;
    bool listed;           // each task has an argument of its own
    bool positional;       // the k-th input of each task is in the k-th slot
    struct bytes shape;    // of all its tasks
    struct bytes op;       // its operation's message, without arguments
    struct bytes rest;     // the layer's message, without tasks, operation and inputs
    struct bytes argument; // as the operation's message has them
    enum dray_task_kind kind;
    struct draft_slot *slot;
    size_t slots, slots_room;
    uint64_t edges; // and offsets, in all slots
};

void draft_init(struct draft *draft);
void draft_fini(struct draft *draft);

// Begins a layer of tasks like this one, without any yet.  -EINVAL: there can be no such task.
int draft_begin(struct draft *draft, uint32_t layer, const struct dray_task *task, bool listed,
                struct error *err);
// Another task like those that it has, with as much room as it needs.
bool draft_takes(const struct draft *draft, const struct dray_task *task);
// `task` has this argument: packed with the others.
int draft_argument(struct draft *draft, const struct dray_bytes *argument, struct error *err);
// The next task.  -ENOSPC: its inputs do not fit into this layer.  Nothing is added on failure.
int draft_add(struct draft *draft, const struct draft_input *input, size_t inputs, struct error *err);
// `count` tasks, all with the same inputs.
int draft_add_many(struct draft *draft, uint32_t count, const struct draft_input *input, size_t inputs,
                   struct error *err);
// Bytes that draft_close will append, about.
size_t draft_size(const struct draft *draft);
// Appends the layer to a packed Graph.  Slots know how many tasks their layers have by now.
int draft_close(struct draft *draft, struct bytes *graph, struct error *err);

int bytes_reserve(struct bytes *bytes, size_t more); // -ENOMEM
void bytes_fini(struct bytes *bytes);

#endif
