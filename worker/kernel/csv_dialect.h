// What separates, quotes and comments in a CSV file, and the state machine of its
// text: the rule of pandas' C parser.  A quote opens only at the start of a field;
// inside, a doubled quote is one quote and separators and line breaks are text; text
// after the closing quote belongs to the field.  LF, CR LF and CR end a line.
#ifndef DRAY_WORKER_KERNEL_CSV_DIALECT_H
#define DRAY_WORKER_KERNEL_CSV_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/op.pb-c.h"

enum csv_class { CSV_OTHER, CSV_SEP, CSV_BREAK, CSV_QUOTE, CSV_HASH, CSV_CLASSES };  // HASH: the comment byte

enum csv_state {
    CSV_LINE,     // at the start of a line
    CSV_FIELD,    // at the start of another field
    CSV_PLAIN,    // in an unquoted field, or behind a closing quote and more text
    CSV_QUOTED,   // inside quotes
    CSV_CLOSED,   // behind a quote that closes, unless another one follows
    CSV_COMMENT,  // behind the comment byte, until the line ends
    CSV_STATES
};

struct csv_dialect {
    uint8_t sep;
    uint8_t quote;    // when has_quote
    uint8_t comment;  // when has_comment
    bool has_quote;
    bool has_comment;
    uint8_t class_of[256];                     // enum csv_class
    uint8_t next[CSV_STATES][CSV_CLASSES];     // enum csv_state
};

// -EINVAL: two of the special bytes are equal, or one is a line break or not a byte.
int csv_dialect_init(struct csv_dialect *dialect, const Dray__CsvDialect *proto, struct error *err);

static inline enum csv_state csv_next(const struct csv_dialect *d, enum csv_state state, uint8_t byte)
{
    return (enum csv_state)d->next[state][d->class_of[byte]];
}

// Inside quotes or a comment separators and line breaks are text.
static inline bool csv_is_open(enum csv_state state)
{
    return state < CSV_QUOTED || state == CSV_CLOSED;
}

// State at a place known to be outside quotes and comments, from the byte before it.  Not exact behind
// a quote: see csv_border.
static inline enum csv_state csv_state_after(const struct csv_dialect *d, uint8_t before)
{
    switch (d->class_of[before]) {
    case CSV_BREAK:
        return CSV_LINE;
    case CSV_SEP:
        return CSV_FIELD;
    default:
        return CSV_PLAIN;
    }
}

// The state at a border between blocks is told in one bit: inside quotes or not.  Behind a run of quotes
// that bit does not say whether the last of them closed, so the bit is about the first
// place at or after the border that has no quote before it.  No line starts in between.
static inline bool csv_is_border(const struct csv_dialect *d, uint8_t before)
{
    return !d->has_quote || before != d->quote;
}

#endif
