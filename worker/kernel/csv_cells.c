#include "worker/kernel/csv_cells.h"

#include <string.h>

#include "proto/number_decimal.h"

static void begin(const struct csv_cells *cells, struct csv_vector *out)
{
    memset(out->validity, 0xff, ((size_t)cells->rows + 63) / 64 * 8);
    out->nulls = false;
}

static void set_null(struct csv_vector *out, uint32_t row)
{
    out->validity[row >> 6] &= ~(UINT64_C(1) << (row & 63));
    out->nulls = true;
}

uint32_t csv_cells_bool(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    uint8_t *values = out->values;

    begin(cells, out);
    for (uint32_t row = 0; row < cells->rows; row++) {
        uint32_t start = csv_cell_start(cells, row);
        uint8_t value = 0;

        switch (csv_value_bool(missing, cells->base + start, csv_cell_end(cells, row) - start, &value)) {
        case CSV_MISFIT:
            return row;
        case CSV_MISSING:
            set_null(out, row);
            break;
        case CSV_FITS:
            break;
        }
        values[row] = value;
    }
    return cells->rows;
}

uint32_t csv_cells_string(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    struct string_view *values = out->values;

    begin(cells, out);
    for (uint32_t row = 0; row < cells->rows; row++) {
        uint32_t start = csv_cell_start(cells, row);
        uint32_t size = csv_cell_end(cells, row) - start;
        const uint8_t *text = cells->base + start;

        if (csv_is_missing(missing, text, size)) {
            set_null(out, row);
            size = 0;
        }
        values[row] = (struct string_view){(const char *)text, size};
    }
    return cells->rows;
}

// Eight digits at once in a 64-bit word (D. Lemire, J. Keiser); false: not all are digits.
static inline bool eight_digits(const uint8_t *text, uint64_t *out)
{
    uint64_t word;

    memcpy(&word, text, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    uint64_t strange = (word + UINT64_C(0x4646464646464646)) | (word - UINT64_C(0x3030303030303030));

    word -= UINT64_C(0x3030303030303030);
    word = word * 10 + (word >> 8);
    word = ((word & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
            (word >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
           32;
    *out = word;
    return (strange & UINT64_C(0x8080808080808080)) == 0;
}

// Digits behind what *value has already, modulo 2^64; where they end.
static inline const uint8_t *digits(const uint8_t *text, const uint8_t *end, uint64_t *value)
{
    uint64_t eight;

    while (end - text >= 8 && eight_digits(text, &eight)) {
        *value = *value * 100000000 + eight;
        text += 8;
    }
    while (text < end && (uint8_t)(*text - '0') <= 9) {
        *value = *value * 10 + (uint8_t)(*text++ - '0');
    }
    return text;
}

uint32_t csv_cells_int64(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    int64_t *values = out->values;
    bool plain = missing->numbers == 0;

    begin(cells, out);
    for (uint32_t row = 0; row < cells->rows; row++) {
        uint32_t start = csv_cell_start(cells, row);
        uint32_t size = csv_cell_end(cells, row) - start;
        const uint8_t *text = cells->base + start;
        uint32_t sign = size > 0 && text[0] == '-';
        uint64_t magnitude = 0;
        int64_t value = 0;

        if (plain && size - sign - 1 < 18 && digits(text + sign, text + size, &magnitude) == text + size) {
            values[row] = sign ? -(int64_t)magnitude : (int64_t)magnitude;
            continue;
        }
        if (csv_value_int64(missing, text, size, &value) != CSV_FITS) {
            return row;  // a missing value too: pandas' integers have none
        }
        values[row] = value;
    }
    return cells->rows;
}

// Digits with an optional point, at most 19 digits, at least one: w / 10^k.
static inline bool parse_decimal(const uint8_t *text, uint32_t size, uint64_t *w, uint32_t *k)
{
    const uint8_t *end = text + size;
    uint64_t value = 0;
    const uint8_t *p = digits(text, end, &value);

    *k = 0;
    if (p < end && *p == '.') {
        const uint8_t *fraction = p + 1;

        p = digits(fraction, end, &value);
        *k = (uint32_t)(p - fraction);
        size--;
    }
    *w = value;
    return p == end && size - 1 < 19;
}

uint32_t csv_cells_float64(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    double *values = out->values;
    bool plain = missing->numbers == 0;

    begin(cells, out);
    for (uint32_t row = 0; row < cells->rows; row++) {
        uint32_t start = csv_cell_start(cells, row);
        uint32_t size = csv_cell_end(cells, row) - start;
        const uint8_t *text = cells->base + start;
        uint32_t sign = size > 0 && text[0] == '-';
        uint64_t w;
        uint32_t k;
        double value = 0;

        if (plain && parse_decimal(text + sign, size - sign, &w, &k)) {
            value = w == 0 ? 0 : number_decimal(w, -(int32_t)k);
            values[row] = sign ? -value : value;
            continue;
        }
        switch (csv_value_float64(missing, text, size, &value)) {
        case CSV_MISFIT:
            return row;
        case CSV_MISSING:
            set_null(out, row);
            value = 0;
            break;
        case CSV_FITS:
            break;
        }
        values[row] = value;
    }
    return cells->rows;
}

static uint64_t bits_of(uint32_t rows)
{
    return rows < 64 ? (UINT64_C(1) << rows) - 1 : ~UINT64_C(0);
}

uint32_t csv_cells_odd_float64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                               uint32_t rows, uint64_t odd, uint64_t *nulls, double *values)
{
    for (odd &= bits_of(rows); odd != 0; odd &= odd - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(odd);
        uint32_t start = csv_cell_start(cells, row + i);
        uint32_t size = csv_cell_end(cells, row + i) - start;
        enum csv_fit outcome = CSV_MISSING;
        double value = 0;

        if (size > 0 || !missing->empty) {
            outcome = csv_value_float64(missing, cells->base + start, size, &value);
        }
        if (outcome == CSV_MISFIT) {
            return i;
        }
        if (outcome == CSV_MISSING) {
            *nulls |= UINT64_C(1) << i;
            value = 0;
        }
        values[i] = value;
    }
    return rows;
}

uint32_t csv_cells_odd_int64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                             uint32_t rows, uint64_t odd, int64_t *values)
{
    for (odd &= bits_of(rows); odd != 0; odd &= odd - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(odd);
        uint32_t start = csv_cell_start(cells, row + i);

        // A missing value neither: pandas' integers have none.
        if (csv_value_int64(missing, cells->base + start, csv_cell_end(cells, row + i) - start, &values[i]) !=
            CSV_FITS) {
            return i;
        }
    }
    return rows;
}

void csv_cells_mark_missing(uint32_t *codes, uint32_t rows, struct csv_vector *out)
{
    for (uint32_t row = 0; row < rows; row++) {
        if (codes[row] == CSV_DICT_MISSING) {
            codes[row] = 0;
            set_null(out, row);
        }
    }
}

int csv_cells_encode(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out, struct error *err)
{
    uint32_t *codes = out->values;
    const struct csv_cells c = *cells;
    const struct csv_dict_slot *slots = dict->slot;
    uint32_t mask = dict->mask;
    bool some_missing = false;

    begin(cells, out);
    for (uint32_t row = 0; row < c.rows; row++) {
        uint32_t start = csv_cell_start(&c, row);
        uint32_t size = csv_cell_end(&c, row) - start;
        const uint8_t *text = c.base + start;
        uint32_t code;

        if (__builtin_expect(size - 1 >= CSV_DICT_KEY || !csv_dict_find(slots, mask, text, size, &code), 0)) {
            int rc = csv_dict_add(dict, text, size, &code, err);

            if (rc != 0) {
                return rc;
            }
            slots = dict->slot;
            mask = dict->mask;
        }
        some_missing |= code == CSV_DICT_MISSING;
        codes[row] = code;
    }
    if (some_missing) {
        csv_cells_mark_missing(codes, c.rows, out);
    }
    return 0;
}
