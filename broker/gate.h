// Turns that wait until the journal has what they say: whoever sent something that must be safe first has all
// of its later events wait behind it, in order.  Everybody else goes on.
#ifndef DRAY_BROKER_GATE_H
#define DRAY_BROKER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/turn.h"
#include "proto/error.h"

// Bytes that are somebody's, until the turn is through.
struct charge {
    struct charge *next;
    size_t *account;
    size_t bytes;
};

struct gated {
    struct gated *next;
    struct charge *charges; // in the turn's arena
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
    struct gated *latest;        // of these; NULL: none
    struct gated *spare;
    struct gated *chosen; // of the last gate_turn
    uint64_t number;      // of the last one that was opened
    uint64_t passed;      // all up to this one are through
    uint64_t settled;     // ticket up to which the journal has spoken
    size_t bytes;         // charged
};

void gate_init(struct gate *gate);
void gate_fini(struct gate *gate);
// What goes through the gate of this turn of the loop; *number, that its later events wait, for its peer.
// NULL: no memory.
struct turn *gate_turn(struct gate *gate, uint64_t *number);
// The same for what need not be written, only stay behind what was: it goes with what waits, if it can.
struct turn *gate_turn_behind(struct gate *gate, uint64_t *number);
// Bytes of the last one of these that belong to this account, which lives until it is through.  Without
// memory they are forgotten.
void gate_charge(struct gate *gate, size_t *account, size_t bytes);
bool gate_holds(const struct gate *gate, uint64_t gated);
// gate_turn gives this one at present.
bool gate_is_open(const struct gate *gate, const struct turn *turn);
// Of gate_turn.
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
