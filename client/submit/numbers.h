// The indices of an array of tasks, and other sets of whole numbers: 0..999, 0..20..5, "1,3,10..19".
#ifndef DRAY_CLIENT_SUBMIT_NUMBERS_H
#define DRAY_CLIENT_SUBMIT_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"

#define NUMBERS_MAX 0x7fffffffU                // as many as a graph has tasks
#define NUMBERS_LISTED_MAX ((uint32_t)1 << 24) // unless they are one range
#define NUMBER_MAX INT64_C(999999999999999)

struct numbers {
    uint32_t count;
    int64_t first, step;   // one range ...
    const int64_t *value;  // ... or, not NULL, a list in the order given
    const uint32_t *order; // places in the list, by ascending value
};

// A text: ranges FIRST..LAST or FIRST..LAST..STEP (both ends belong to it; downwards with FIRST > LAST) and
// numbers, separated by commas.  -EINVAL with what is wrong, without saying where.
int numbers_parse(const char *text, struct arena *arena, struct numbers *out, struct error *err);
// True when it looks like a range: what is to be read as numbers.
bool numbers_is_range(const char *text);
// As given, in any order; refuses what is there twice.
int numbers_from_list(const int64_t *value, uint32_t count, struct arena *arena, struct numbers *out,
                      struct error *err);
int number_parse(const char *text, int64_t *out, struct error *err);

int64_t numbers_at(const struct numbers *numbers, uint32_t place);
// False: it is not among them.
bool numbers_find(const struct numbers *numbers, int64_t value, uint32_t *place);
bool numbers_equal(const struct numbers *a, const struct numbers *b);
static inline bool numbers_from_zero(const struct numbers *numbers)
{
    return numbers->value == NULL && numbers->first == 0 && (numbers->step == 1 || numbers->count == 1);
}

#endif
