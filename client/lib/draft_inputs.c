#include "client/lib/draft_inputs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/graph.h"

enum {
    SLOTS_MAX = GRAPH_INPUTS_MAX,
    EDGES_MAX = 4 << 20, // entries of all arrays: 16 MiB
};

// ---- inputs ------------------------------------------------------------------------------------------

static bool is_source(const struct draft_slot *slot, const struct draft_input *input)
{
    return slot->job == input->job && slot->layer == input->layer;
}

static int slot_add(struct draft *draft, const struct draft_input *input)
{
    struct draft_slot *slot;

    if (draft->slots >= SLOTS_MAX || draft->edges + draft->tasks > EDGES_MAX) {
        return -ENOSPC;
    }
    if (draft->slots == draft->slots_room) {
        size_t room = draft->slots_room == 0 ? 4 : 2 * draft->slots_room;
        struct draft_slot *grown = realloc(draft->slot, room * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        memset(grown + draft->slots_room, 0, (room - draft->slots_room) * sizeof(*grown));
        draft->slot = grown;
        draft->slots_room = room;
    }
    slot = &draft->slot[draft->slots];
    slot->job = input->job;
    slot->layer = input->layer;
    slot->tasks = input->tasks;
    slot->own = input->job == 0 && input->layer == draft->layer;
    slot->broadcast = false;
    slot->rows = 0;
    slot->targets = 0;
    draft->slots++;
    draft->edges += draft->tasks;
    return 0;
}

// The slot of a task's k-th input, whose input before that is in slot `from`.  The inputs' order in the layer
// is their order for the task.
static int slot_for(struct draft *draft, const struct draft_input *input, size_t k, size_t from, size_t *at)
{
    if (draft->positional) {
        *at = k;
        if (k < draft->slots) {
            return is_source(&draft->slot[k], input) && !draft->slot[k].broadcast ? 0 : -ENOSPC;
        }
        return slot_add(draft, input);
    }
    for (size_t i = from; i < draft->slots; i++) {
        if (is_source(&draft->slot[i], input) && !draft->slot[i].broadcast) {
            *at = i;
            return 0;
        }
    }
    *at = draft->slots;
    return slot_add(draft, input);
}

static int grow(uint32_t **array, size_t *room, size_t size)
{
    size_t larger = *room == 0 ? 16 : *room;
    uint32_t *grown;

    if (size <= *room) {
        return 0;
    }
    while (larger < size) {
        larger *= 2;
    }
    grown = realloc(*array, larger * sizeof(**array));
    if (grown == NULL) {
        return -ENOMEM;
    }
    *array = grown;
    *room = larger;
    return 0;
}

// Offsets of the rows up to and with that of task `row`, whose targets follow.
static int fill_rows(struct draft_slot *slot, uint32_t row)
{
    int rc = grow(&slot->offset, &slot->offsets_room, (size_t)row + 2);

    while (rc == 0 && slot->rows <= row) {
        slot->offset[slot->rows++] = (uint32_t)slot->targets;
    }
    return rc;
}

static int put_edge(struct draft *draft, struct draft_slot *slot, uint32_t index)
{
    int rc = fill_rows(slot, draft->tasks);

    if (rc == 0) {
        rc = grow(&slot->target, &slot->targets_room, slot->targets + 1);
    }
    if (rc == 0) {
        slot->target[slot->targets++] = index;
        draft->edges++;
    }
    return rc;
}

// Takes the edges of the task that is not there yet out again.
static void take_back(struct draft *draft, size_t slots)
{
    for (size_t i = 0; i < draft->slots; i++) {
        struct draft_slot *slot = &draft->slot[i];

        if (!slot->broadcast && slot->rows == draft->tasks + 1) {
            slot->rows--;
            draft->edges -= slot->targets - slot->offset[slot->rows];
            slot->targets = slot->offset[slot->rows];
        }
    }
    draft->edges -= (draft->slots - slots) * draft->tasks;
    draft->slots = slots;
}

int draft_add(struct draft *draft, const struct draft_input *input, size_t inputs, struct error *err)
{
    size_t slots = draft->slots;
    size_t at = 0;

    if (draft->edges + inputs + draft->slots > EDGES_MAX) {
        return -ENOSPC;
    }
    for (size_t k = 0; k < inputs; k++) {
        int rc = slot_for(draft, &input[k], k, at, &at);

        if (rc == 0) {
            rc = put_edge(draft, &draft->slot[at], input[k].index);
        }
        if (rc != 0) {
            take_back(draft, slots);
            return rc == -ENOMEM ? error_no_memory(err) : rc;
        }
    }
    draft->tasks++;
    draft->edges += draft->slots;
    return 0;
}

int draft_add_many(struct draft *draft, uint32_t count, const struct draft_input *input, size_t inputs,
                   struct error *err)
{
    bool single = true;
    int rc = 0;

    for (size_t k = 0; k < inputs; k++) {
        single = single && input[k].tasks == 1;
    }
    if (single) { // each is the only one of its layer
        for (size_t k = 0; k < inputs && rc == 0; k++) {
            rc = slot_add(draft, &input[k]);
            if (rc == 0) {
                draft->slot[draft->slots - 1].broadcast = true;
            }
        }
        if (rc == 0) {
            draft->tasks += count;
        }
        return rc == -ENOMEM ? error_no_memory(err) : rc;
    }
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = draft_add(draft, input, inputs, err);
    }
    return rc;
}

// ---- patterns -----------------------------------------------------------------------------------------

static bool is_lag(const struct draft_slot *slot, uint32_t tasks, uint32_t *width)
{
    uint32_t k = 0;

    while (k < tasks && slot->offset[k + 1] == 0) {
        k++;
    }
    if (!slot->own || k == 0 || k == tasks || slot->targets != tasks - k) {
        return false;
    }
    for (uint32_t i = k; i < tasks; i++) {
        if (slot->offset[i + 1] != i - k + 1 || slot->target[i - k] != i - k) {
            return false;
        }
    }
    *width = k;
    return true;
}

// Each task has as many targets as the first (the last one perhaps fewer), which ascend through the layer.
static bool is_in_order(const struct draft_slot *slot, uint32_t tasks, uint32_t *width)
{
    uint32_t k = slot->offset[1];

    if (slot->own || slot->targets != slot->tasks || k == 0) {
        return false;
    }
    for (uint32_t i = 1; i < tasks; i++) {
        if (slot->offset[i] != (uint64_t)i * k) {
            return false;
        }
    }
    for (uint32_t i = 0; i < slot->targets; i++) {
        if (slot->target[i] != i) {
            return false;
        }
    }
    *width = k;
    // The last row: 1 to k.
    return slot->targets > (uint64_t)(tasks - 1) * k && slot->targets <= (uint64_t)tasks * k;
}

// Each task needs all of the layer.
static bool is_all(const struct draft_slot *slot, uint32_t tasks)
{
    if (slot->own || slot->targets != (uint64_t)tasks * slot->tasks) {
        return false;
    }
    for (uint32_t i = 0; i < tasks; i++) {
        if (slot->offset[i] != (uint64_t)i * slot->tasks) {
            return false;
        }
        for (uint32_t j = 0; j < slot->tasks; j++) {
            if (slot->target[slot->offset[i] + j] != j) {
                return false;
            }
        }
    }
    return true;
}

// Few of the tasks have something of this slot.
static bool is_sparse(const struct draft_slot *slot, uint32_t tasks)
{
    return !slot->broadcast && slot->targets > 0 && slot->targets <= tasks / 2;
}

// For lists of those tasks.
size_t draft_lists_room(const struct draft *draft)
{
    size_t room = 1;

    for (size_t i = 0; i < draft->slots; i++) {
        room += is_sparse(&draft->slot[i], draft->tasks) ? 2 * draft->slot[i].targets + 1 : 0;
    }
    return room;
}

// *room: a place for the list of its rows, and what is left of it.
static void make_input(const struct draft_slot *slot, uint32_t tasks, Dray__Input *input, uint32_t **room)
{
    uint32_t width = 0;

    dray__input__init(input);
    input->layer = slot->layer;
    if (slot->job != 0) {
        input->has_job = input->has_job_tasks = true;
        input->job = slot->job;
        input->job_tasks = slot->tasks;
    }
    if (slot->broadcast) {
        input->pattern = DRAY__PATTERN__BROADCAST;
    } else if (is_in_order(slot, tasks, &width)) {
        input->pattern = width == 1 ? DRAY__PATTERN__ONE_TO_ONE : DRAY__PATTERN__FAN_IN;
        input->has_width = width > 1;
        input->width = width;
    } else if (is_lag(slot, tasks, &width)) {
        input->pattern = DRAY__PATTERN__LAG;
        input->has_width = true;
        input->width = width;
    } else if (is_all(slot, tasks)) {
        input->pattern = slot->tasks == 1 ? DRAY__PATTERN__BROADCAST : DRAY__PATTERN__ALL;
    } else {
        input->pattern = DRAY__PATTERN__EXPLICIT;
        input->n_offset = (size_t)tasks + 1;
        input->offset = slot->offset;
        input->n_target = slot->targets;
        input->target = slot->target;
        if (is_sparse(slot, tasks)) {
            input_list_rows(input, tasks, *room);
            *room += 2 * slot->targets + 1;
        }
        input_trim_rows(input);
    }
}

int draft_make_inputs(struct draft *draft, Dray__Input *input, uint32_t *lists)
{
    int rc = 0;

    for (size_t i = 0; i < draft->slots && rc == 0; i++) {
        rc = draft->slot[i].broadcast ? 0 : fill_rows(&draft->slot[i], draft->tasks);
        if (rc == 0) {
            make_input(&draft->slot[i], draft->tasks, &input[i], &lists);
        }
    }
    return rc;
}
