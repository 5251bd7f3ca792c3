#include "broker/gate.h"

#include <stdio.h>
#include <stdlib.h>

void gate_init(struct gate *gate)
{
    *gate = (struct gate){0};
    gate->last = &gate->first;
}

static void destroy(struct gated *gated)
{
    if (gated != NULL) {
        turn_fini(&gated->turn);
        free(gated);
    }
}

void gate_fini(struct gate *gate)
{
    destroy(gate->open);
    destroy(gate->spare);
    while (gate->first != NULL) {
        struct gated *gated = gate->first;

        gate->first = gated->next;
        destroy(gated);
    }
    gate_init(gate);
}

struct turn *gate_turn(struct gate *gate)
{
    struct gated *gated = gate->open;

    if (gated == NULL && gate->spare != NULL) {
        gated = gate->spare;
        gate->spare = NULL;
    } else if (gated == NULL) {
        gated = calloc(1, sizeof(*gated));
        if (gated == NULL) {
            return NULL;
        }
        turn_init(&gated->turn);
    }
    if (gate->open == NULL) {
        gated->next = NULL;
        gated->number = ++gate->number;
        gated->ticket = 0;
        gated->settled = false;
        gated->code = 0;
        gate->open = gated;
    }
    return &gated->turn;
}

uint64_t gate_number(const struct gate *gate)
{
    return gate->number;
}

bool gate_holds(const struct gate *gate, uint64_t gated)
{
    return gated > gate->passed;
}

void gate_wait(struct gate *gate, uint64_t ticket)
{
    gate->open->ticket = ticket;
}

void gate_seal(struct gate *gate)
{
    if (gate->open != NULL) {
        *gate->last = gate->open;
        gate->last = &gate->open->next;
        gate->open = NULL;
    }
}

void gate_settle(struct gate *gate, uint64_t ticket, int code, const char *text)
{
    for (struct gated *gated = gate->first; gated != NULL && gated->ticket <= ticket; gated = gated->next) {
        if (!gated->settled && gated->ticket > gate->settled) {
            gated->settled = true;
            gated->code = code;
            snprintf(gated->text, sizeof(gated->text), "%s", text);
        }
    }
    gate->settled = ticket;
}

struct gated *gate_next(struct gate *gate)
{
    struct gated *gated = gate->first;

    if (gated == NULL || (gated->ticket > gate->settled && !gated->settled)) {
        return NULL;
    }
    gate->first = gated->next;
    if (gate->first == NULL) {
        gate->last = &gate->first;
    }
    gate->passed = gated->number;
    return gated;
}

void gate_done(struct gate *gate, struct gated *gated)
{
    if (gate->spare == NULL) {
        turn_reset(&gated->turn);
        gate->spare = gated;
    } else {
        destroy(gated);
    }
}

bool gate_is_empty(const struct gate *gate)
{
    return gate->open == NULL && gate->first == NULL;
}
