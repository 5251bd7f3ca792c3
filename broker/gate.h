// Turns that wait until the journal has what they say: whoever sent something that must be safe first has all
// of its later events wait behind it, in order.  Everybody else goes on.
#ifndef DRAY_BROKER_GATE_H
#define DRAY_BROKER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/turn.h"
#include "proto/error.h"

struct gated {
    struct gated *next;
    struct turn turn;
    uint64_t number; // ascending
    uint64_t ticket; // of the journal, to wait for; 0: none
    bool settled;    // and this came of it:
    int code;        // 0: it is safe
    char text[ERROR_TEXT_MAX];
};

struct gate {
    struct gated *open;          // of this turn of the loop; NULL: not used yet
    struct gated *first, **last; // waiting
    struct gated *spare;
    uint64_t number;  // of the last one that was opened
    uint64_t passed;  // all up to this one are through
    uint64_t settled; // ticket up to which the journal has spoken
};

void gate_init(struct gate *gate);
void gate_fini(struct gate *gate);
// What goes through the gate of this turn of the loop.  NULL: no memory.
struct turn *gate_turn(struct gate *gate);
// The peer's later events wait: for its field.  gate_turn was called in this turn.
uint64_t gate_number(const struct gate *gate);
bool gate_holds(const struct gate *gate, uint64_t gated);
void gate_wait(struct gate *gate, uint64_t ticket);
// The turn is over.
void gate_seal(struct gate *gate);
// Of all that waits for tickets up to this one.
void gate_settle(struct gate *gate, uint64_t ticket, int code, const char *text);
// The next one that is through, to be given back to gate_done; NULL: none now.
struct gated *gate_next(struct gate *gate);
void gate_done(struct gate *gate, struct gated *gated);
bool gate_is_empty(const struct gate *gate);

#endif
