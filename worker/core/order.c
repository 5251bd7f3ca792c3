// The order in which tasks run: assignments by age, a heap of those with ready tasks.
#include <stdlib.h>

#include "worker/core/state.h"

static bool comes_before(const struct agent *agent, uint32_t a, uint32_t b)
{
    return agent->assignment[a].sequence < agent->assignment[b].sequence;
}

static void heap_put(struct agent *agent, uint32_t at, uint32_t number)
{
    agent->heap[at] = number;
    agent->assignment[number].heap_at = at;
}

static void heap_up(struct agent *agent, uint32_t at, uint32_t number)
{
    while (at > 0 && comes_before(agent, number, agent->heap[(at - 1) / 2])) {
        heap_put(agent, at, agent->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(agent, at, number);
}

static void heap_remove(struct agent *agent, uint32_t number)
{
    uint32_t at = agent->assignment[number].heap_at;
    uint32_t last = agent->heap[--agent->heap_count];

    if (last == number) {
        return;
    }
    if (at > 0 && comes_before(agent, last, agent->heap[(at - 1) / 2])) {
        heap_up(agent, at, last);
        return;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= agent->heap_count) {
            break;
        }
        if (child + 1 < agent->heap_count &&
            comes_before(agent, agent->heap[child + 1], agent->heap[child])) {
            child++;
        }
        if (comes_before(agent, last, agent->heap[child])) {
            break;
        }
        heap_put(agent, at, agent->heap[child]);
        at = child;
    }
    heap_put(agent, at, last);
}

// The heap has room for all assignments that there are.
static bool make_room(struct agent *agent)
{
    uint32_t max = agent->assignments_max > 0 ? agent->assignments_max * 2 : 64;
    struct assignment *assignment = realloc(agent->assignment, max * sizeof(*assignment));
    uint32_t *heap;

    if (assignment == NULL) {
        return false;
    }
    agent->assignment = assignment;
    heap = realloc(agent->heap, max * sizeof(*heap));
    if (heap == NULL) {
        return false;
    }
    agent->heap = heap;
    agent->assignments_max = max;
    return true;
}

uint32_t assignment_get(struct agent *agent, struct agent_layer *layer, uint32_t first, uint32_t end)
{
    uint32_t number = agent->last_assignment;

    if (number != NOBODY && agent->assignment[number].layer == layer &&
        agent->assignment[number].end == first) {
        agent->assignment[number].end = end;
        return number;
    }
    number = agent->free_assignment;
    if (number != NOBODY) {
        agent->free_assignment = agent->assignment[number].next;
    } else {
        if (agent->assignments == agent->assignments_max && !make_room(agent)) {
            return NOBODY;
        }
        number = agent->assignments++;
    }
    agent->assignment[number] = (struct assignment){
        .layer = layer, .sequence = agent->sequence++, .first = first, .end = end, .cursor = end};
    agent->last_assignment = number;
    return number;
}

void assignment_left(struct agent *agent, uint32_t number, uint32_t tasks)
{
    struct assignment *assignment = &agent->assignment[number];

    assignment->tasks -= tasks;
    if (assignment->tasks > 0) {
        return;
    }
    assignment->layer = NULL;
    assignment->next = agent->free_assignment;
    agent->free_assignment = number;
    if (agent->last_assignment == number) {
        agent->last_assignment = NOBODY;
    }
}

void order_add(struct agent *agent, uint32_t number, uint32_t index, uint32_t count)
{
    struct assignment *assignment = &agent->assignment[number];

    if (assignment->cursor > index) {
        assignment->cursor = index;
    }
    assignment->ready += count;
    agent->ready += count;
    assignment->layer->ready += count;
    if (assignment->ready == count) {
        heap_up(agent, agent->heap_count++, number);
    }
}

static void unpark(struct agent *agent, uint32_t number)
{
    uint32_t *link = &agent->parked;

    while (*link != number) {
        link = &agent->assignment[*link].next;
    }
    *link = agent->assignment[number].next;
    agent->assignment[number].parked = false;
}

void order_remove(struct agent *agent, uint32_t number, uint32_t count)
{
    struct assignment *assignment = &agent->assignment[number];

    assignment->ready -= count;
    agent->ready -= count;
    assignment->layer->ready -= count;
    if (assignment->ready > 0) {
        return;
    }
    assignment->cursor = assignment->end;
    if (assignment->parked) {
        unpark(agent, number);
    } else {
        heap_remove(agent, number);
    }
}

void order_park(struct agent *agent)
{
    uint32_t number = agent->heap[0];

    heap_remove(agent, number);
    agent->assignment[number].parked = true;
    agent->assignment[number].next = agent->parked;
    agent->parked = number;
}

void order_unpark(struct agent *agent)
{
    while (agent->parked != NOBODY) {
        uint32_t number = agent->parked;

        unpark(agent, number);
        heap_up(agent, agent->heap_count++, number);
    }
}

void task_ready(struct agent *agent, struct block *block, uint32_t cell)
{
    block->queued &= ~bit(cell);
    block->ready |= bit(cell);
    block->layer->queued--;
    order_add(agent, block->assignment[cell], block->first + cell, 1);
}
