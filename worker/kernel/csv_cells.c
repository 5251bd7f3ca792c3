#include "worker/kernel/csv_cells.h"

#include <string.h>

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

// Up to 19 digits: they fit 64 bits.
static bool parse_digits(const uint8_t *text, uint32_t size, uint64_t *out)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < size; i++) {
        uint8_t digit = (uint8_t)(text[i] - '0');

        if (digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
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
        uint64_t magnitude;
        int64_t value = 0;

        if (plain && size - sign - 1 < 18 && parse_digits(text + sign, size - sign, &magnitude)) {
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
static bool parse_decimal(const uint8_t *text, uint32_t size, uint64_t *w, uint32_t *k)
{
    uint64_t value = 0;
    uint32_t point = size;

    if (size == 0 || size > 20) {
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        uint8_t digit = (uint8_t)(text[i] - '0');

        if (digit > 9) {
            if (text[i] != '.' || point != size) {
                return false;
            }
            point = i;
            continue;
        }
        value = value * 10 + digit;
    }
    uint32_t digits = size - (point != size);

    if (digits == 0 || digits > 19) {
        return false;
    }
    *w = value;
    *k = point == size ? 0 : size - point - 1;
    return true;
}

uint32_t csv_cells_float64(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    static const double power[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                   1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
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

        // W. Clinger 1990: both numbers are exact doubles, so one division rounds once.
        if (plain && parse_decimal(text + sign, size - sign, &w, &k) && w <= UINT64_C(1) << 53) {
            value = (double)w / power[k];
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
