#include "client/submit/numbers.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// ---- lists --------------------------------------------------------------------------------

static int compare_places(const void *a, const void *b, void *context)
{
    const int64_t *value = context;
    int64_t one = value[*(const uint32_t *)a], other = value[*(const uint32_t *)b];

    return one < other ? -1 : one > other;
}

int numbers_from_list(const int64_t *value, uint32_t count, struct arena *arena, struct numbers *out,
                      struct error *err)
{
    struct numbers numbers = {.count = count, .first = count > 0 ? value[0] : 0, .step = 1};
    int64_t *copy;
    uint32_t *order;

    if (count == 0) {
        return error_set(err, EINVAL, "there is no number");
    }
    if (count > NUMBERS_LISTED_MAX) {
        return error_set(err, EINVAL, "more than %u numbers that are not one range", NUMBERS_LISTED_MAX);
    }
    copy = arena_copy(arena, value, count * sizeof(*value));
    order = arena_array(arena, count, sizeof(*order));
    if (copy == NULL || order == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    qsort_r(order, count, sizeof(*order), compare_places, copy);
    for (uint32_t i = 1; i < count; i++) {
        if (copy[order[i]] == copy[order[i - 1]]) {
            return error_set(err, EINVAL, "%" PRId64 " is there twice", copy[order[i]]);
        }
    }
    numbers.value = copy;
    numbers.order = order;
    *out = numbers;
    return 0;
}

// ---- texts ------------------------------------------------------------------------------------

static bool take_number(const char **at, int64_t *out)
{
    int64_t number = 0;
    const char *begin = *at;

    while (isdigit((unsigned char)**at)) {
        number = number * 10 + (*(*at)++ - '0');
        if (number > NUMBER_MAX) {
            return false;
        }
    }
    *out = number;
    return *at > begin;
}

static void skip_spaces(const char **at)
{
    while (**at == ' ') {
        (*at)++;
    }
}

static int no_numbers(const char *text, struct error *err)
{
    return error_set(err, EINVAL,
                     "'%.100s' is not what 0..999, 0..20..5 or \"1,3,10..19\" are: whole numbers from 0",
                     text);
}

int number_parse(const char *text, int64_t *out, struct error *err)
{
    const char *at = text;
    int64_t number;

    if (!take_number(&at, &number) || *at != '\0') {
        return error_set(err, EINVAL, "'%.100s' is not a whole number from 0", text);
    }
    *out = number;
    return 0;
}

bool numbers_is_range(const char *text)
{
    const char *at = text;
    int64_t number;

    return take_number(&at, &number) && at[0] == '.' && at[1] == '.' && isdigit((unsigned char)at[2]);
}

// FIRST, FIRST..LAST or FIRST..LAST..STEP.
static int take_range(const char *text, const char **at, struct numbers *out, struct error *err)
{
    int64_t first, last, step = 1;
    uint64_t count;

    skip_spaces(at);
    if (!take_number(at, &first)) {
        return no_numbers(text, err);
    }
    last = first;
    if (strncmp(*at, "..", 2) == 0) {
        *at += 2;
        if (!take_number(at, &last)) {
            return no_numbers(text, err);
        }
    }
    if (strncmp(*at, "..", 2) == 0) {
        *at += 2;
        if (!take_number(at, &step) || step < 1) {
            return no_numbers(text, err);
        }
    }
    skip_spaces(at);
    if (last < first) {
        return error_set(err, EINVAL, "'%.100s' ends before it begins: for descending numbers give a list",
                         text);
    }
    count = (uint64_t)(last - first) / (uint64_t)step + 1;
    if (count > NUMBERS_MAX) {
        return error_set(err, EINVAL, "'%.100s' are %" PRIu64 " numbers, more than %u", text, count,
                         NUMBERS_MAX);
    }
    *out = (struct numbers){.count = (uint32_t)count, .first = first, .step = step};
    return 0;
}

static int parse_list(const char *text, uint32_t count, struct arena *arena, struct numbers *out,
                      struct error *err)
{
    int64_t *value = malloc(count * sizeof(*value));
    const char *at = text;
    uint32_t used = 0;
    int rc = value == NULL ? error_no_memory(err) : 0;

    while (rc == 0 && used < count) {
        struct numbers range = {0};

        rc = take_range(text, &at, &range, err);
        for (uint32_t i = 0; i < range.count && rc == 0; i++) {
            value[used++] = numbers_at(&range, i);
        }
        at += *at == ',';
    }
    if (rc == 0) {
        rc = numbers_from_list(value, count, arena, out, err);
    }
    free(value);
    return rc;
}

int numbers_parse(const char *text, struct arena *arena, struct numbers *out, struct error *err)
{
    struct numbers range;
    const char *at = text;
    uint64_t count = 0;
    unsigned ranges = 0;

    for (;;) {
        int rc = take_range(text, &at, &range, err);

        if (rc != 0) {
            return rc;
        }
        count += range.count;
        ranges++;
        if (count > NUMBERS_LISTED_MAX && ranges > 1) {
            return error_set(err, EINVAL, "'%.100s' are more than %u numbers that are not one range", text,
                             NUMBERS_LISTED_MAX);
        }
        if (*at == '\0') {
            break;
        }
        if (*at++ != ',') {
            return no_numbers(text, err);
        }
    }
    if (ranges == 1) {
        *out = range;
        return 0;
    }
    return parse_list(text, (uint32_t)count, arena, out, err);
}

// ---- use -------------------------------------------------------------------------------------

int64_t numbers_at(const struct numbers *numbers, uint32_t place)
{
    return numbers->value != NULL ? numbers->value[place] : numbers->first + (int64_t)place * numbers->step;
}

bool numbers_find(const struct numbers *numbers, int64_t value, uint32_t *place)
{
    uint32_t low = 0, high = numbers->count;

    if (numbers->value == NULL) {
        int64_t distance = value - numbers->first;

        if (distance % numbers->step != 0 || distance / numbers->step < 0 ||
            distance / numbers->step >= (int64_t)numbers->count) {
            return false;
        }
        *place = (uint32_t)(distance / numbers->step);
        return true;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (numbers->value[numbers->order[middle]] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == numbers->count || numbers->value[numbers->order[low]] != value) {
        return false;
    }
    *place = numbers->order[low];
    return true;
}

bool numbers_equal(const struct numbers *a, const struct numbers *b)
{
    if (a->count != b->count) {
        return false;
    }
    if (a->value == NULL && b->value == NULL) {
        return a->first == b->first && (a->step == b->step || a->count == 1);
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (numbers_at(a, i) != numbers_at(b, i)) {
            return false;
        }
    }
    return true;
}
