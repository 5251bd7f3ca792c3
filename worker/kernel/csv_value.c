#include "worker/kernel/csv_value.h"

#include <errno.h>
#include <string.h>

#include "proto/number.h"

bool csv_missing_search(const struct csv_missing *missing, const void *text, size_t size)
{
    for (size_t i = 0; i < missing->spellings; i++) {
        if (missing->spelling[i].len == size && memcmp(missing->spelling[i].data, text, size) == 0) {
            return true;
        }
    }
    return false;
}

// White space around a number is no part of it, as in C's isspace.
static void strip(const uint8_t **text, size_t *size)
{
    const uint8_t *p = *text;
    size_t n = *size;

    while (n > 0 && (p[0] == ' ' || (p[0] >= '\t' && p[0] <= '\r'))) {
        p++;
        n--;
    }
    while (n > 0 && (p[n - 1] == ' ' || (p[n - 1] >= '\t' && p[n - 1] <= '\r'))) {
        n--;
    }
    *text = p;
    *size = n;
}

static bool parse_float64(const uint8_t *text, size_t size, double *out)
{
    double value;

    strip(&text, &size);
    if (!number_parse_float64((const char *)text, size, &value) || value != value) {
        return false;
    }
    *out = value;
    return true;
}

int csv_missing_init(struct csv_missing *missing, const Dray__CsvDialect *dialect, struct arena *arena,
                     struct error *err)
{
    struct csv_missing made = {.spelling = dialect->na_value, .spellings = dialect->n_na_value};
    double *number = arena_array(arena, made.spellings + 1, sizeof(*number));

    if (number == NULL) {
        return error_no_memory(err);
    }
    made.number = number;
    for (size_t i = 0; i < made.spellings; i++) {
        const ProtobufCBinaryData *s = &made.spelling[i];

        if (s->len == 0) {
            made.empty = true;
            continue;
        }
        made.lengths[s->data[0]] |= UINT64_C(1) << (s->len < 63 ? s->len : 63);
        if (parse_float64(s->data, s->len, &number[made.numbers])) {
            made.numbers++;
        }
    }
    *missing = made;
    return 0;
}

enum csv_fit csv_value_bool(const struct csv_missing *missing, const uint8_t *text, size_t size, uint8_t *out)
{
    const char *t = (const char *)text;

    if (csv_is_missing(missing, text, size)) {
        return CSV_MISSING;
    }
    if (size == 4 && (memcmp(t, "True", 4) == 0 || memcmp(t, "TRUE", 4) == 0 || memcmp(t, "true", 4) == 0)) {
        *out = 1;
        return CSV_FITS;
    }
    if (size == 5 && (memcmp(t, "False", 5) == 0 || memcmp(t, "FALSE", 5) == 0 || memcmp(t, "false", 5) == 0)) {
        *out = 0;
        return CSV_FITS;
    }
    return CSV_MISFIT;
}

enum csv_fit csv_value_int64(const struct csv_missing *missing, const uint8_t *text, size_t size, int64_t *out)
{
    if (csv_is_missing(missing, text, size)) {
        return CSV_MISSING;
    }
    strip(&text, &size);
    return number_parse_int64((const char *)text, size, out) ? CSV_FITS : CSV_MISFIT;
}

enum csv_fit csv_value_float64(const struct csv_missing *missing, const uint8_t *text, size_t size, double *out)
{
    double value;

    if (csv_is_missing(missing, text, size)) {
        return CSV_MISSING;
    }
    if (!parse_float64(text, size, &value)) {
        return CSV_MISFIT;
    }
    for (size_t i = 0; i < missing->numbers; i++) {
        if (missing->number[i] == value) {
            return CSV_MISSING;
        }
    }
    *out = value;
    return CSV_FITS;
}

enum type csv_type_wider(enum type type)
{
    return type == TYPE_INT64 ? TYPE_FLOAT64 : TYPE_STRING;
}

void csv_seen_add(struct csv_seen *seen, const struct csv_missing *missing, const uint8_t *text, size_t size)
{
    uint8_t b;
    int64_t i;
    double f;

    if (csv_is_missing(missing, text, size)) {
        seen->missing = true;
    } else if (csv_value_bool(missing, text, size, &b) == CSV_FITS) {
        seen->boolean = true;
    } else if (csv_value_int64(missing, text, size, &i) == CSV_FITS) {
        seen->integer = true;
    } else if (csv_value_float64(missing, text, size, &f) != CSV_MISFIT) {
        seen->real = true;
    } else {
        seen->text = true;
    }
}

enum type csv_seen_type(const struct csv_seen *seen)
{
    if (seen->text || (seen->boolean && (seen->integer || seen->real))) {
        return TYPE_STRING;
    }
    if (seen->boolean) {
        return TYPE_BOOL;
    }
    return seen->integer && !seen->real && !seen->missing ? TYPE_INT64 : TYPE_FLOAT64;
}

// RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool csv_utf8_valid(const uint8_t *text, size_t size)
{
    size_t i = 0;

    while (i < size) {
        uint8_t lead = text[i];
        size_t more;
        uint8_t low = 0x80;
        uint8_t high = 0xbf;

        if (lead < 0x80) {
            i++;
            continue;
        }
        if (lead >= 0xc2 && lead <= 0xdf) {
            more = 1;
        } else if (lead >= 0xe0 && lead <= 0xef) {
            more = 2;
            low = lead == 0xe0 ? 0xa0 : 0x80;
            high = lead == 0xed ? 0x9f : 0xbf;
        } else if (lead >= 0xf0 && lead <= 0xf4) {
            more = 3;
            low = lead == 0xf0 ? 0x90 : 0x80;
            high = lead == 0xf4 ? 0x8f : 0xbf;
        } else {
            return false;
        }
        if (size - i <= more || text[i + 1] < low || text[i + 1] > high) {
            return false;
        }
        for (size_t k = 2; k <= more; k++) {
            if ((text[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        i += more + 1;
    }
    return true;
}
