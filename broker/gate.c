#include "broker/gate.h"

#include <stdio.h>
#include <stdlib.h>

enum { TURN_BYTES = 16 << 10 }; // about what one takes before anything is in it

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

static struct gated *open(struct gate *gate)
{
    struct gated *gated = gate->spare;

    gate->spare = NULL;
    if (gated == NULL) {
        gated = calloc(1, sizeof(*gated));
        if (gated == NULL) {
            return NULL;
        }
        turn_init(&gated->turn);
    }
    gated->next = NULL;
    gated->charges = NULL;
    gated->number = ++gate->number;
    gated->ticket = 0;
    gated->settled = false;
    gated->code = 0;
    gate->open = gated;
    return gated;
}

static struct turn *choose(struct gate *gate, struct gated *gated, uint64_t *number)
{
    gate->chosen = gated;
    if (gated == NULL) {
        return NULL;
    }
    *number = gated->number;
    return &gated->turn;
}

struct turn *gate_turn(struct gate *gate, uint64_t *number)
{
    return choose(gate, gate->open != NULL ? gate->open : open(gate), number);
}

struct turn *gate_turn_behind(struct gate *gate, uint64_t *number)
{
    return gate->open == NULL && gate->latest != NULL ? choose(gate, gate->latest, number)
                                                      : gate_turn(gate, number);
}

bool gate_is_open(const struct gate *gate, const struct turn *turn)
{
    return gate->open != NULL && &gate->open->turn == turn;
}

void gate_charge(struct gate *gate, size_t *account, size_t bytes)
{
    struct gated *gated = gate->chosen;
    struct charge *charge = gated->charges;

    if (charge == NULL || charge->account != account) {
        charge = arena_alloc(&gated->turn.arena, sizeof(*charge));
        if (charge == NULL) {
            return;
        }
        // A turn is dear by itself.
        *charge = (struct charge){gated->charges, account, gated->charges == NULL ? TURN_BYTES : 0};
        gated->charges = charge;
        gate->bytes += charge->bytes;
        *account += charge->bytes;
    }
    charge->bytes += bytes;
    *account += bytes;
    gate->bytes += bytes;
}

static void take_off(struct gate *gate, struct gated *gated)
{
    for (const struct charge *charge = gated->charges; charge != NULL; charge = charge->next) {
        *charge->account -= charge->bytes;
        gate->bytes -= charge->bytes;
    }
    gated->charges = NULL;
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
        gate->latest = gate->open;
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
        gate->latest = NULL;
    }
    gate->passed = gated->number;
    take_off(gate, gated);
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
