// The nearest of some names, for "did you mean".
#ifndef DRAY_CLIENT_LANG_SPELL_H
#define DRAY_CLIENT_LANG_SPELL_H

#include <stdbool.h>
#include <stddef.h>

// Edits between two words: insert, delete, replace, swap of neighbours; case counts
// for nothing.  Words beyond 64 bytes are compared by their first 64.
unsigned spell_distance(const char *a, const char *b);

struct spell {
    const char *word;
    const char *best; // NULL: no candidate yet
    unsigned distance;
};
void spell_try(struct spell *spell, const char *candidate);
// Close enough to be what was meant.
bool spell_is_near(const struct spell *spell);

#endif
