// Numbers as text: exact parsing (round to nearest even, as strtod) and
// shortest printing that reads back to the same bits.
#ifndef DRAY_PROTO_NUMBER_H
#define DRAY_PROTO_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Whole of text[0..size): optional sign, digits, optional fraction, optional
// exponent; also inf, infinity, nan in any case with a sign.  No locale, no hex,
// no spaces.  False: not a number (*out untouched).  Out of range gives inf or 0 as
// strtod does.  Eisel-Lemire (D. Lemire, "Number parsing at a gigabyte per second",
// 2021) with an exact fallback.
bool number_parse_float64(const char *text, size_t size, double *out);

// w * 10^q rounded to nearest even, w != 0, for whoever has the digits already (at
// most 19 of them).  Always true: no w is too close to call.  Inline, for hot loops:
// number_decimal in proto/number_decimal.h.
bool number_from_decimal(uint64_t w, int32_t q, double *out);

// Optional sign and digits, whole of the text; false also on overflow.
bool number_parse_int64(const char *text, size_t size, int64_t *out);

#define NUMBER_TEXT_MAX 32
// Shortest digits that read back, in Python's repr form ("0.1", "1e+16", "1e-05", "nan",
// "inf", "-0.0", "3.0").  Returns the length; no zero at the end.
size_t number_print_float64(double value, char out[NUMBER_TEXT_MAX]);
size_t number_print_int64(int64_t value, char out[NUMBER_TEXT_MAX]);
// The digits alone: value = 0.d1d2d3... * 10^exponent; returns the count of
// digits (1..17).  value must be finite and positive.
int number_shortest(double value, char digits[17], int *exponent);

#endif
