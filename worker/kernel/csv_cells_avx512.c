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

enum {
    LANES = 8,
    CHUNK = 64,  // rows whose masks are made before they are used: no store is read back at once
    DIGITS_MAX = 19,
    TEXT_MAX = 24,
};

static _Alignas(64) const double power[32] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
static _Alignas(64) const double inverse[32] = {1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9,
                                   1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19};

// Rows on their way from text to number.
struct decimals {
    _Alignas(64) uint32_t digit[CHUNK];  // bit 31: the field's last byte
    _Alignas(64) uint32_t point[CHUNK];
    _Alignas(64) uint32_t minus[CHUNK];
    _Alignas(64) uint32_t size[CHUNK];
    _Alignas(64) uint32_t shifted[CHUNK];  // bytes that are taken from one place before: the digits left of the point
    _Alignas(64) uint32_t straight[CHUNK];
    _Alignas(64) int32_t places[CHUNK];    // digits behind the point
    const uint8_t *text[CHUNK];            // behind the last byte
    uint64_t negative;                     // bit a row
    uint64_t odd;                          // rows that are no plain decimals
};

static inline void begin(const struct csv_cells *cells, struct csv_vector *out)
{
    memset(out->validity, 0xff, ((size_t)cells->rows + 63) / 64 * 8);
    out->nulls = false;
}

// The 32 bytes before `text`, digits as numbers.
static inline __m256i load_before(const uint8_t *text)
{
    return _mm256_sub_epi8(_mm256_loadu_si256((const __m256i_u *)(const void *)(text - 32)), _mm256_set1_epi8('0'));
}

static inline void look_at_rows(const struct csv_cells *cells, uint32_t row, struct decimals *d)
{
    const uint32_t *before = cells->before + (size_t)row * cells->stride;
    const uint32_t *end = cells->end + (size_t)row * cells->stride;
    size_t stride = cells->stride;

#pragma GCC unroll 4
    for (uint32_t i = 0; i < CHUNK; i++) {
        const uint8_t *text = cells->base + end[i * stride];
        __m256i bytes = load_before(text);

        d->text[i] = text;
        d->size[i] = end[i * stride] - before[i * stride] - 1;
        d->digit[i] = _cvtmask32_u32(_mm256_cmplt_epu8_mask(bytes, _mm256_set1_epi8(10)));
        d->point[i] = _cvtmask32_u32(_mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8('.' - '0')));
        d->minus[i] = _cvtmask32_u32(_mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8('-' - '0')));
    }
}

// Sixteen rows at a time: which bytes are digits of the number, where its point is, whether it is plain.
static inline void judge_rows(struct decimals *d, bool with_point)
{
    const __m512i ones = _mm512_set1_epi32(-1);
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i width = _mm512_set1_epi32(32);
    const __m512i zero = _mm512_setzero_si512();

    d->negative = 0;
    d->odd = 0;
    for (uint32_t i = 0; i < CHUNK; i += 16) {
        __m512i size = _mm512_load_si512(d->size + i);
        // A size beyond 32 wraps the shift to no bits at all; such a row is odd by its size.
        __m512i field = _mm512_sllv_epi32(ones, _mm512_sub_epi32(width, size));
        __m512i first = _mm512_and_si512(field, _mm512_sub_epi32(zero, field));
        __m512i minus = _mm512_and_si512(_mm512_load_si512(d->minus + i), first);
        __m512i within = _mm512_andnot_si512(minus, field);
        __m512i digit = _mm512_and_si512(_mm512_load_si512(d->digit + i), within);
        __mmask16 negative = _mm512_test_epi32_mask(minus, minus);
        __mmask16 odd = _mm512_cmpgt_epu32_mask(size, _mm512_set1_epi32(TEXT_MAX));

        if (with_point) {
            __m512i point = _mm512_and_si512(_mm512_load_si512(d->point + i), within);
            __mmask16 has_point = _mm512_test_epi32_mask(point, point);
            __m512i places = _mm512_lzcnt_epi32(point);  // 32 without a point
            __m512i left = _mm512_srlv_epi32(ones, places);  // the point and what is left of it
            // The point's place is taken by the digit before it, the first byte's by nothing.
            __m512i bottom = _mm512_and_si512(within, _mm512_sub_epi32(zero, within));
            __m512i taken = _mm512_mask_andnot_epi32(within, has_point, bottom, within);

            _mm512_store_si512(d->shifted + i, _mm512_and_si512(taken, left));
            _mm512_store_si512(d->straight + i, _mm512_andnot_si512(left, taken));
            _mm512_store_si512(d->places + i, _mm512_maskz_mov_epi32(has_point, places));
            odd |= _mm512_cmpneq_epi32_mask(_mm512_or_si512(digit, point), within);
            odd |= _mm512_test_epi32_mask(point, _mm512_sub_epi32(point, one));
            // No digit, or more than 64 bits may hold: count them by their place, which the point does not interrupt.
            odd |= _mm512_testn_epi32_mask(taken, taken);
            odd |= _mm512_test_epi32_mask(taken, _mm512_set1_epi32(INT32_MAX >> (DIGITS_MAX - 1)));
        } else {
            _mm512_store_si512(d->straight + i, within);
            odd |= _mm512_cmpneq_epi32_mask(digit, within) | _mm512_testn_epi32_mask(within, within);
            odd |= _mm512_test_epi32_mask(within, _mm512_set1_epi32(INT32_MAX >> (DIGITS_MAX - 2)));
        }
        d->negative |= (uint64_t)negative << i;
        d->odd |= (uint64_t)odd << i;
    }
}

static inline __m256i digits_of(const struct decimals *d, uint32_t i, bool with_point)
{
    __m256i zero = _mm256_set1_epi8('0');
    const uint8_t *text = d->text[i];
    __m256i behind = _mm256_loadu_si256((const __m256i_u *)(const void *)(text - 32));

    if (!with_point) {
        return _mm256_maskz_sub_epi8(_cvtu32_mask32(d->straight[i]), behind, zero);
    }
    __m256i before = _mm256_loadu_si256((const __m256i_u *)(const void *)(text - 33));

    before = _mm256_maskz_sub_epi8(_cvtu32_mask32(d->shifted[i]), before, zero);
    return _mm256_mask_sub_epi8(before, _cvtu32_mask32(d->straight[i]), behind, zero);
}

// Rows i and i + 1: their digits as 8-digit numbers; quadwords are
// row i: 17th-24th digit from the end above junk, row i+1 the same, row i: last 8 digits above the 8 before, row i+1 the same.
static inline __m256i join_pair(const struct decimals *d, uint32_t i, bool with_point)
{
    const __m256i tens = _mm256_set1_epi16(10 | 1 << 8);
    const __m256i hundreds = _mm256_set1_epi32(100 | 1 << 16);
    const __m256i myriads = _mm256_set1_epi32(10000 | 1 << 16);
    __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(digits_of(d, i, with_point), tens), hundreds);
    __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(digits_of(d, i + 1, with_point), tens), hundreds);

    return _mm256_madd_epi16(_mm256_packus_epi32(a, b), myriads);
}

// Eight rows from `at` on.
static inline __m512i join(const struct decimals *d, uint32_t at, bool with_point)
{
    __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(join_pair(d, at, with_point)),
                                     join_pair(d, at + 2, with_point), 1);
    __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(join_pair(d, at + 4, with_point)),
                                      join_pair(d, at + 6, with_point), 1);
    __m512i upper = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), high);
    __m512i lower = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), high);
    __m512i e8 = _mm512_set1_epi64(100000000);
    __m512i w = _mm512_add_epi64(_mm512_mul_epu32(lower, e8), _mm512_srli_epi64(lower, 32));
    __m512i top = _mm512_srli_epi64(upper, 32);

    return _mm512_add_epi64(w, _mm512_mullo_epi64(top, _mm512_set1_epi64(10000000000000000)));
}

// power[k] and inverse[k]: from registers where the points are not far from the end.
static inline void scales(__m256i k, __m512d *scale, __m512d *unscale)
{
    if (__builtin_expect(_mm256_cmpgt_epu32_mask(k, _mm256_set1_epi32(15)) == 0, 1)) {
        __m512i lane = _mm512_cvtepu32_epi64(k);

        *scale = _mm512_permutex2var_pd(_mm512_load_pd(power), lane, _mm512_load_pd(power + 8));
        *unscale = _mm512_permutex2var_pd(_mm512_load_pd(inverse), lane, _mm512_load_pd(inverse + 8));
    } else {
        *scale = _mm512_i32gather_pd(k, power, 8);
        *unscale = _mm512_i32gather_pd(k, inverse, 8);
    }
}

// w / 10^k; rows whose rounding is in doubt come back as bits.
static inline uint32_t round_decimals(__m512i w, __m256i k, __m512d *out)
{
    __m512d whole = _mm512_cvtepu64_pd(w);
    __m512d rest = _mm512_cvtepi64_pd(_mm512_sub_epi64(w, _mm512_cvtpd_epu64(whole)));
    __m512d scale, unscale;

    scales(k, &scale, &unscale);
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

static void settle_doubt(__m512i w, const struct decimals *d, uint32_t at, uint32_t doubt, double *values)
{
    uint64_t whole[LANES];

    _mm512_storeu_si512(whole, w);
    for (; doubt != 0; doubt &= doubt - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(doubt);
        double value = whole[i] == 0 ? 0 : number_decimal(whole[i], -d->places[at + i]);

        values[i] = (d->negative >> (at + i) & 1) != 0 ? -value : value;
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
    uint32_t row = 0;
    struct decimals d;

    if (missing->numbers != 0) {
        return csv_cells_float64(cells, missing, out);
    }
    begin(cells, out);
    for (; row + CHUNK <= cells->rows; row += CHUNK) {
        look_at_rows(cells, row, &d);
        judge_rows(&d, true);
        for (uint32_t at = 0; at < CHUNK; at += LANES) {
            __m512d result;
            __m512i w = join(&d, at, true);
            uint32_t doubt = round_decimals(w, _mm256_load_si256((const __m256i *)(const void *)(d.places + at)), &result);

            doubt &= ~(uint32_t)(d.odd >> at);
            _mm512_storeu_pd(values + row + at, apply_sign(result, (uint32_t)(d.negative >> at)));
            if (__builtin_expect(doubt != 0, 0)) {
                settle_doubt(w, &d, at, doubt, values + row + at);
            }
        }
        for (; __builtin_expect(d.odd != 0, 0); d.odd &= d.odd - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctzll(d.odd);

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
    uint32_t row = 0;
    struct decimals d;

    if (missing->numbers != 0) {
        return csv_cells_int64(cells, missing, out);
    }
    begin(cells, out);
    for (; row + CHUNK <= cells->rows; row += CHUNK) {
        look_at_rows(cells, row, &d);
        judge_rows(&d, false);
        for (uint32_t at = 0; at < CHUNK; at += LANES) {
            __m512i w = join(&d, at, false);

            w = _mm512_mask_sub_epi64(w, (__mmask8)(d.negative >> at), _mm512_setzero_si512(), w);
            _mm512_storeu_si512(values + row + at, w);
        }
        for (; __builtin_expect(d.odd != 0, 0); d.odd &= d.odd - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctzll(d.odd);

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
    const uint8_t *base = cells->base;
    const uint32_t *before = cells->before;
    const uint32_t *end = cells->end;
    const struct csv_dict_slot *slot = dict->slot;
    size_t stride = cells->stride;
    uint32_t rows = cells->rows;
    uint32_t mask = dict->mask;
    uint32_t most = 0;

    begin(cells, out);
    for (uint32_t row = 0; row < rows; row++, before += stride, end += stride) {
        const uint8_t *text = base + *before + 1;
        uint32_t size = *end - *before - 1;
        // BZHI looks at the low eight bits of a size; one beyond a key's is told apart below.
        __m128i key = _mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(0xffff, size), text);
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(key);
        uint64_t high = (uint64_t)_mm_extract_epi64(key, 1);
        const struct csv_dict_slot *s = &slot[csv_dict_hash(low, high, size) >> 1 & mask];
        uint16_t equal = _mm_cmpeq_epi8_mask(key, _mm_load_si128((const __m128i *)(const void *)s->key));
        uint32_t code = s->code;

        // An empty slot looks like the empty string, which is therefore looked up the long way.
        if (__builtin_expect(size - 1 >= CSV_DICT_KEY || equal != 0xffff || s->size != size, 0)) {
            int rc = csv_dict_add(dict, text, size, &code, err);

            if (rc != 0) {
                return rc;
            }
            slot = dict->slot;
            mask = dict->mask;
        }
        codes[row] = code;
        most = code > most ? code : most;
    }
    if (most == CSV_DICT_MISSING) {
        csv_cells_mark_missing(codes, rows, out);
    }
    return 0;
}
