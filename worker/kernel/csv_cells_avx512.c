// Numbers and dictionary codes from text with AVX-512.
//
// Digits: the last 32 bytes up to a field's end are loaded twice, one byte apart, so that the digits before
// the point take its place; three multiply-adds then make 8-digit numbers (after W. Mula, "SIMD-ized
// conversion of digits", 2014).  What is not a plain decimal of at most 19 digits goes to csv_value.c.
//
// Decimal to binary, eight at a time: w / 10^k as a quotient and its correction.  10^k is exact for k <= 22, the
// remainder of the first quotient is exact with a fused multiply-add, and the sum of both rounds once, correctly unless
// it comes too close to the middle between two doubles: those rows (one in about 2^40) and ties go to
// number_decimal, which decides exactly.
#include "worker/kernel/csv_cells.h"

#include <immintrin.h>
#include <string.h>

#include "proto/number_decimal.h"

// Without optimisation gcc's gathers are macros that pass a mask of 255 as a char.
#pragma GCC diagnostic ignored "-Wsign-conversion"

enum { LANES = 8, DIGITS_MAX = 19, TEXT_MAX = 24 };

static const double power[32] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
static const double inverse[32] = {1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9,
                                   1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19};

// Eight rows on their way from text to number.
struct decimals {
    _Alignas(64) int64_t places[LANES];  // digits behind the point
    __m256i digits[LANES];               // right-aligned, as numbers 0..9
    uint32_t negative;                   // bit a row
    uint32_t odd;                        // rows that are no plain decimals
};

static inline void begin(const struct csv_cells *cells, struct csv_vector *out)
{
    memset(out->validity, 0xff, ((size_t)cells->rows + 63) / 64 * 8);
    out->nulls = false;
}

static inline void read_digits(const uint8_t *base, uint32_t start, uint32_t end, bool with_point, uint32_t lane,
                               struct decimals *d)
{
    const uint8_t *text = base + end;
    __m256i zero = _mm256_set1_epi8('0');
    __m256i behind = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i_u *)(const void *)(text - 32)), zero);
    uint32_t negative = base[start] == '-';
    uint32_t size = end - start - negative;
    // Bits 32 - size .. 31; a wrapped size leaves bits that do not matter, since such a row is odd.
    uint32_t within = (uint32_t)(UINT64_C(0xffffffff00000000) >> (size & 31));
    uint32_t digits = _mm256_cmplt_epu8_mask(behind, _mm256_set1_epi8(10)) & within;

    d->negative |= negative << lane;
    if (with_point) {
        __m256i before = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i_u *)(const void *)(text - 33)), zero);
        uint32_t point = _mm256_cmpeq_epi8_mask(behind, _mm256_set1_epi8('.' - '0')) & within;
        uint32_t places = _lzcnt_u32(point);  // 32 without a point
        uint32_t fraction = (uint32_t)(UINT64_C(0xffffffff00000000) >> places);
        uint32_t count = size - (point != 0);
        // The point's place is taken by the digit before it.
        uint32_t taken = within & (within - (point != 0));

        d->digits[lane] = _mm256_mask_mov_epi8(_mm256_maskz_mov_epi8(taken & ~fraction, before), taken & fraction, behind);
        d->places[lane] = places & 31;
        d->odd |= (uint32_t)(((digits | point) != within) | ((point & (point - 1)) != 0) |
                             (count - 1 >= (uint32_t)DIGITS_MAX) | (size > TEXT_MAX))
                  << lane;
    } else {
        d->digits[lane] = _mm256_maskz_mov_epi8(within, behind);
        d->odd |= (uint32_t)((digits != within) | (size - 1 >= 18)) << lane;
    }
}

// Rows i and i + 1: their digits as 8-digit numbers; quadwords are
// row i: 17th-24th digit from the end above junk, row i+1 the same, row i: last 8 digits above the 8 before, row i+1 the same.
static inline __m256i join_pair(const struct decimals *d, int i)
{
    const __m256i tens = _mm256_set1_epi16(10 | 1 << 8);
    const __m256i hundreds = _mm256_set1_epi32(100 | 1 << 16);
    const __m256i myriads = _mm256_set1_epi32(10000 | 1 << 16);
    __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(d->digits[i], tens), hundreds);
    __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(d->digits[i + 1], tens), hundreds);

    return _mm256_madd_epi16(_mm256_packus_epi32(a, b), myriads);
}

static inline __m512i join(const struct decimals *d)
{
    __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(join_pair(d, 0)), join_pair(d, 2), 1);
    __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(join_pair(d, 4)), join_pair(d, 6), 1);
    __m512i upper = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), high);
    __m512i lower = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), high);
    __m512i e8 = _mm512_set1_epi64(100000000);
    __m512i w = _mm512_add_epi64(_mm512_mul_epu32(lower, e8), _mm512_srli_epi64(lower, 32));
    __m512i top = _mm512_srli_epi64(upper, 32);

    return _mm512_add_epi64(w, _mm512_mullo_epi64(top, _mm512_set1_epi64(10000000000000000)));
}

// Rows whose rounding is in doubt come back as bits.
static inline uint32_t round_decimals(__m512i w, const struct decimals *d, __m512d *out)
{
    __m512i k = _mm512_load_si512(d->places);
    __m512d whole = _mm512_cvtepu64_pd(w);
    __m512d rest = _mm512_cvtepi64_pd(_mm512_sub_epi64(w, _mm512_cvtpd_epu64(whole)));
    __m512d scale = _mm512_i64gather_pd(k, power, 8);
    __m512d unscale = _mm512_i64gather_pd(k, inverse, 8);
    __m512d quotient = _mm512_mul_pd(whole, unscale);
    __m512d remainder = _mm512_add_pd(_mm512_fnmadd_pd(quotient, scale, whole), rest);
    __m512d correction = _mm512_mul_pd(remainder, unscale);
    __m512d sum = _mm512_add_pd(quotient, correction);
    __m512d lost = _mm512_abs_pd(_mm512_sub_pd(correction, _mm512_sub_pd(sum, quotient)));
    __m512d doubt = _mm512_fmadd_pd(_mm512_abs_pd(correction), _mm512_set1_pd(0x1p-45), lost);
    __mmask8 up = _mm512_cmp_pd_mask(_mm512_add_pd(sum, doubt), sum, _CMP_NEQ_UQ);
    __mmask8 down = _mm512_cmp_pd_mask(_mm512_sub_pd(sum, doubt), sum, _CMP_NEQ_UQ);

    *out = sum;
    return (uint32_t)(up | down);
}

static inline __m512d apply_sign(__m512d value, uint32_t negative)
{
    __m512i sign = _mm512_maskz_set1_epi64((__mmask8)negative, INT64_MIN);

    return _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(value), sign));
}

static void settle_doubt(__m512i w, const struct decimals *d, uint32_t doubt, double *values)
{
    uint64_t whole[LANES];

    _mm512_storeu_si512(whole, w);
    for (; doubt != 0; doubt &= doubt - 1) {
        int i = __builtin_ctz(doubt);
        double value = whole[i] == 0 ? 0 : number_decimal(whole[i], -(int32_t)d->places[i]);

        values[i] = (d->negative >> i & 1) != 0 ? -value : value;
    }
}

static enum csv_fit read_float64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                                 struct csv_vector *out)
{
    uint32_t start = csv_cell_start(cells, row);
    double value = 0;
    enum csv_fit fit =
        csv_value_float64(missing, cells->base + start, csv_cell_end(cells, row) - start, &value);

    if (fit == CSV_MISSING) {
        out->validity[row >> 6] &= ~(UINT64_C(1) << (row & 63));
        out->nulls = true;
        value = 0;
    }
    ((double *)out->values)[row] = value;
    return fit;
}

uint32_t csv_cells_float64_avx512(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    double *values = out->values;
    const uint32_t *before = cells->before;
    const uint32_t *end = cells->end;
    size_t stride = cells->stride;
    uint32_t row = 0;

    if (missing->numbers != 0) {
        return csv_cells_float64(cells, missing, out);
    }
    begin(cells, out);
    for (; row + LANES <= cells->rows; row += LANES) {
        struct decimals d;
        __m512d result;

        d.negative = 0;
        d.odd = 0;
#pragma GCC unroll 8
        for (uint32_t i = 0; i < LANES; i++) {
            read_digits(cells->base, before[i * stride] + 1, end[i * stride], true, i, &d);
        }
        before += LANES * stride;
        end += LANES * stride;
        __m512i w = join(&d);
        uint32_t doubt = round_decimals(w, &d, &result) & ~d.odd;

        _mm512_storeu_pd(values + row, apply_sign(result, d.negative));
        if (__builtin_expect(doubt != 0, 0)) {
            settle_doubt(w, &d, doubt, values + row);
        }
        for (; __builtin_expect(d.odd != 0, 0); d.odd &= d.odd - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctz(d.odd);

            if (read_float64(cells, missing, at, out) == CSV_MISFIT) {
                return at;
            }
        }
    }
    for (; row < cells->rows; row++) {
        if (read_float64(cells, missing, row, out) == CSV_MISFIT) {
            return row;
        }
    }
    return cells->rows;
}

static enum csv_fit read_int64(const struct csv_cells *cells, const struct csv_missing *missing, uint32_t row,
                               int64_t *value)
{
    uint32_t start = csv_cell_start(cells, row);

    return csv_value_int64(missing, cells->base + start, csv_cell_end(cells, row) - start, value);
}

uint32_t csv_cells_int64_avx512(const struct csv_cells *cells, const struct csv_missing *missing, struct csv_vector *out)
{
    int64_t *values = out->values;
    const uint32_t *before = cells->before;
    const uint32_t *end = cells->end;
    size_t stride = cells->stride;
    uint32_t row = 0;

    if (missing->numbers != 0) {
        return csv_cells_int64(cells, missing, out);
    }
    begin(cells, out);
    for (; row + LANES <= cells->rows; row += LANES) {
        struct decimals d;

        d.negative = 0;
        d.odd = 0;
#pragma GCC unroll 8
        for (uint32_t i = 0; i < LANES; i++) {
            read_digits(cells->base, before[i * stride] + 1, end[i * stride], false, i, &d);
        }
        before += LANES * stride;
        end += LANES * stride;
        __m512i w = join(&d);

        w = _mm512_mask_sub_epi64(w, (__mmask8)d.negative, _mm512_setzero_si512(), w);
        _mm512_storeu_si512(values + row, w);
        for (; __builtin_expect(d.odd != 0, 0); d.odd &= d.odd - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctz(d.odd);

            if (read_int64(cells, missing, at, &values[at]) != CSV_FITS) {
                return at;
            }
        }
    }
    for (; row < cells->rows; row++) {
        if (read_int64(cells, missing, row, &values[row]) != CSV_FITS) {
            return row;
        }
    }
    return cells->rows;
}

int csv_cells_encode_avx512(const struct csv_cells *cells, struct csv_dict *dict, struct csv_vector *out, struct error *err)
{
    uint32_t *codes = out->values;
    const uint32_t *before = cells->before;
    const uint32_t *end = cells->end;
    size_t stride = cells->stride;
    const struct csv_dict_slot *slot = dict->slot;
    uint32_t mask = dict->mask;
    uint32_t most = 0;

    begin(cells, out);
    for (uint32_t row = 0; row < cells->rows; row++, before += stride, end += stride) {
        const uint8_t *text = cells->base + *before + 1;
        uint32_t size = *end - *before - 1;
        __m128i key = _mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(0xffff, size > 255 ? 255 : size), text);
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(key);
        uint64_t high = (uint64_t)_mm_extract_epi64(key, 1);
        const struct csv_dict_slot *s = &slot[csv_dict_hash(low, high, size) >> 1 & mask];
        uint16_t equal = _mm_cmpeq_epi8_mask(key, _mm_load_si128((const __m128i *)(const void *)s->key));

        // A long string never lies in the slot that its first bytes would have; should it, its size tells.
        if (__builtin_expect(size > CSV_DICT_KEY || equal != 0xffff || s->size != size || s->hash == 0, 0)) {
            int rc = csv_dict_add(dict, text, size, &codes[row], err);

            if (rc != 0) {
                return rc;
            }
            slot = dict->slot;
            mask = dict->mask;
        } else {
            codes[row] = s->code;
        }
        most = codes[row] > most ? codes[row] : most;
    }
    if (most == CSV_DICT_MISSING) {
        csv_cells_mark_missing(codes, cells->rows, out);
    }
    return 0;
}
