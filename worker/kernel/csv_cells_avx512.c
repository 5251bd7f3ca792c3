// Numbers with AVX-512: 256 rows at a time, in phases that each run over all of them, so that no value waits for
// another.  A field's last 32 bytes sit in half a register, right-aligned; the bytes left of the point
// move up by one (a second load, one byte earlier), which leaves nothing but digits; pairs, fours and eights of digits
// become numbers by multiply-add (after D. Lemire's and W. Mula's parsers).
//
// w / 10^k is rounded exactly without a division, for any w < 10^19 and k <= 19.  With h the double next to w and
// q = h * (1/10^k) rounded twice, q is within 2^-52 of h / 10^k, so r = h - q * 10^k is a double (one
// fused multiply-add) and w / 10^k = q + (r + (w - h)) / 10^k.  The last term is known to
// 2^-102 of q; when a slack of 2^-95 to either side of it does not change the sum, the sum is what
// rounding w / 10^k gives.  Else (a tie, or one in 2^42) the scalar parser decides.
#include "worker/kernel/csv_cells.h"

#include <immintrin.h>
#include <string.h>

#include "worker/kernel/csv_spans_avx512.h"

enum { BLOCK = 256, WORDS = BLOCK / 64, DIGITS_MAX = 19 };

struct block {
    uint32_t start[BLOCK];    // behind the sign
    uint32_t end[BLOCK];
    uint32_t digits[BLOCK];   // how many; those and the point are the last bytes of the field
    uint32_t digit_mask[BLOCK];  // bit i: byte i of the last 32 is one of the field
    uint32_t point[BLOCK];    // bit i: byte i of the last 32 is a point
    uint32_t left[BLOCK];     // bits up to the point: the bytes that move
    uint32_t scale[BLOCK];    // digits behind the point
    uint64_t number[BLOCK];
    // A bit a row:
    uint64_t negative[WORDS];
    uint64_t empty[WORDS];
    uint64_t odd[WORDS];  // for the scalar parser
};

static inline __m512i load(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}

// Spans and signs of the first `rows` rows from `row` on; rows behind them are empty.
static inline void find_spans(const struct csv_cells *cells, const struct spans *spans, uint32_t row, uint32_t rows, bool is_signed,
                              struct block *b)
{
    memset(b->negative, 0, sizeof(b->negative));
    memset(b->empty, 0, sizeof(b->empty));
    for (uint32_t i = 0; i < BLOCK; i += 16) {
        __m512i start;
        __m512i end;

        if (i + 16 <= rows) {
            spans_load(spans, row + i, &start, &end);
        } else {
            uint32_t s[16];
            uint32_t e[16];

            for (uint32_t k = 0; k < 16; k++) {
                uint32_t r = row + (i + k < rows ? i + k : 0);

                e[k] = csv_cell_end(cells, r);
                s[k] = i + k < rows ? csv_cell_start(cells, r) : e[k];
            }
            start = load(s);
            end = load(e);
        }
        b->empty[i / 64] |= (uint64_t)_mm512_cmpeq_epi32_mask(start, end) << i % 64;
        if (is_signed) {
            // An empty field's byte is the separator behind it.
            __m512i first = _mm512_i32gather_epi32(start, cells->base, 1);
            __mmask16 minus = _mm512_cmpeq_epi32_mask(_mm512_and_si512(first, _mm512_set1_epi32(0xff)),
                                                      _mm512_set1_epi32('-'));

            b->negative[i / 64] |= (uint64_t)minus << i % 64;
            start = _mm512_mask_add_epi32(start, minus, start, _mm512_set1_epi32(1));
        }
        __m512i size = _mm512_sub_epi32(end, start);
        // All ones when there are 32 bytes or more: shifts beyond the width give zero, so clamp.
        __m512i gap = _mm512_sub_epi32(_mm512_set1_epi32(32), _mm512_min_epu32(size, _mm512_set1_epi32(32)));

        _mm512_storeu_si512(b->start + i, start);
        _mm512_storeu_si512(b->end + i, end);
        _mm512_storeu_si512(b->digits + i, size);
        _mm512_storeu_si512(b->digit_mask + i, _mm512_sllv_epi32(_mm512_set1_epi32(-1), gap));
    }
}

// The 32 bytes before two places, side by side.
static inline __m512i load_pair(const uint8_t *base, const uint32_t *end, int back)
{
    __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(base + end[0] - back));
    __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(base + end[1] - back));

    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

static inline uint64_t load_mask(const uint32_t *two)
{
    uint64_t mask;

    memcpy(&mask, two, sizeof(mask));
    return mask;
}

static inline void find_points(const uint8_t *base, struct block *b)
{
    const __m512i point = _mm512_set1_epi8('.');
    const __m512i one = _mm512_set1_epi32(1);

    for (uint32_t i = 0; i < BLOCK; i += 2) {
        uint64_t points = _mm512_cmpeq_epi8_mask(load_pair(base, b->end + i, 32), point);

        memcpy(b->point + i, &points, sizeof(points));
    }
    for (uint32_t i = 0; i < BLOCK; i += 16) {
        __m512i digits = load(b->digits + i);
        __m512i mask = load(b->digit_mask + i);
        __m512i points = _mm512_and_si512(load(b->point + i), mask);
        __mmask16 has = _mm512_test_epi32_mask(points, points);
        // The first point counts; another one is no digit.
        __m512i left = _mm512_maskz_xor_epi32(has, points, _mm512_sub_epi32(points, one));
        __m512i first = _mm512_andnot_si512(_mm512_srli_epi32(left, 1), left);

        _mm512_storeu_si512(b->left + i, left);
        _mm512_storeu_si512(b->scale + i, _mm512_maskz_lzcnt_epi32(has, first));
        _mm512_storeu_si512(b->digits + i, _mm512_mask_sub_epi32(digits, has, digits, one));
        _mm512_storeu_si512(b->digit_mask + i, _mm512_mask_slli_epi32(mask, has, mask, 1));
    }
}

// 64 bytes that are digits or zero to 16 numbers of four digits.
static inline __m512i fours(__m512i digits)
{
    __m512i twos = _mm512_maddubs_epi16(digits, _mm512_set1_epi16(1 << 8 | 10));

    return _mm512_madd_epi16(twos, _mm512_set1_epi32(1 << 16 | 100));
}

// Four values' fours to, for value 0..3, { leading digits, 16 digits } at qwords {0,2} {4,6} {1,3} {5,7}.
static inline __m512i sixteens(__m512i fours01, __m512i fours23)
{
    __m512i eights = _mm512_madd_epi16(_mm512_packus_epi32(fours01, fours23), _mm512_set1_epi32(1 << 16 | 10000));

    return _mm512_add_epi64(_mm512_mul_epu32(eights, _mm512_set1_epi64(100000000)), _mm512_srli_epi64(eights, 32));
}

// Two rows' bytes as digits, zero where there is no field.
static inline __m512i digits_of_pair(const uint8_t *base, const struct block *b, uint32_t i, bool has_points)
{
    __m512i x = load_pair(base, b->end + i, 32);

    if (has_points) {
        x = _mm512_mask_mov_epi8(x, load_mask(b->left + i), load_pair(base, b->end + i, 33));
    }
    return _mm512_maskz_sub_epi8(load_mask(b->digit_mask + i), x, _mm512_set1_epi8('0'));
}

// False: some byte is no digit; find_strange tells where.
static inline bool read_digits(const uint8_t *base, struct block *b, bool has_points)
{
    const __m512i high = _mm512_setr_epi64(0, 4, 1, 5, 8, 12, 9, 13);
    const __m512i low = _mm512_setr_epi64(2, 6, 3, 7, 10, 14, 11, 15);
    const __m512i ten16 = _mm512_set1_epi64(10000000000000000);
    __m512i most = _mm512_setzero_si512();

    for (uint32_t i = 0; i < BLOCK; i += 8) {
        __m512i p0 = digits_of_pair(base, b, i, has_points);
        __m512i p1 = digits_of_pair(base, b, i + 2, has_points);
        __m512i p2 = digits_of_pair(base, b, i + 4, has_points);
        __m512i p3 = digits_of_pair(base, b, i + 6, has_points);
        __m512i first = sixteens(fours(p0), fours(p1));
        __m512i second = sixteens(fours(p2), fours(p3));
        __m512i leading = _mm512_permutex2var_epi64(first, high, second);
        __m512i rest = _mm512_permutex2var_epi64(first, low, second);

        most = _mm512_max_epu8(most, _mm512_max_epu8(_mm512_max_epu8(p0, p1), _mm512_max_epu8(p2, p3)));
        _mm512_storeu_si512(b->number + i, _mm512_add_epi64(rest, _mm512_mullo_epi64(leading, ten16)));
    }
    return _mm512_cmpgt_epu8_mask(most, _mm512_set1_epi8(9)) == 0;
}

static void find_strange(const uint8_t *base, struct block *b, bool has_points)
{
    for (uint32_t i = 0; i < BLOCK; i += 2) {
        uint64_t strange =
            _mm512_cmpgt_epu8_mask(digits_of_pair(base, b, i, has_points), _mm512_set1_epi8(9));

        b->odd[i / 64] |= (uint64_t)((uint32_t)strange != 0) << i % 64 | (uint64_t)(strange >> 32 != 0) << (i % 64 + 1);
    }
}

static inline void count_digits(struct block *b, uint32_t digits_max)
{
    memset(b->odd, 0, sizeof(b->odd));
    for (uint32_t i = 0; i < BLOCK; i += 16) {
        // None wraps to many.
        __m512i digits = _mm512_sub_epi32(load(b->digits + i), _mm512_set1_epi32(1));

        b->odd[i / 64] |= (uint64_t)_mm512_cmpge_epu32_mask(digits, _mm512_set1_epi32((int)digits_max)) << i % 64;
    }
}

static bool has_minus(const struct csv_cells *cells, const struct block *b)
{
    for (uint32_t i = 0; i < BLOCK; i++) {
        if ((b->odd[i / 64] >> i % 64 & 1) != 0 && b->start[i] < b->end[i] && cells->base[b->start[i]] == '-') {
            return true;
        }
    }
    return false;
}

// The values of a block as if none had a minus, and then once more if one has.
static inline void read_block(const struct csv_cells *cells, const struct spans *spans, uint32_t row, uint32_t rows, bool has_points,
                              uint32_t digits_max, bool *is_signed, struct block *b)
{
    for (;;) {
        find_spans(cells, spans, row, rows, *is_signed, b);
        if (has_points) {
            find_points(cells->base, b);
        }
        count_digits(b, digits_max);
        if (read_digits(cells->base, b, has_points)) {
            return;
        }
        find_strange(cells->base, b, has_points);
        if (*is_signed || !has_minus(cells, b)) {
            return;
        }
        *is_signed = true;
    }
}

static inline __m512d lookup(const double table[24], __m512i index)
{
    __m512d low = _mm512_permutex2var_pd(_mm512_loadu_pd(table), index, _mm512_loadu_pd(table + 8));

    return _mm512_mask_permutexvar_pd(low, _mm512_cmpgt_epu64_mask(index, _mm512_set1_epi64(15)), index,
                                      _mm512_loadu_pd(table + 16));
}

// Eight values w / 10^k; the mask of those that are too close to call.
static inline __mmask8 divide(__m512i w, __m512i k, __mmask8 negative, double *out)
{
    static const double power[24] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9, 1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1,    1,   1,    1};
    static const double inverse[24] = {1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9, 1e-10, 1e-11,
                                       1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19, 1,     1,    1,     1};
    __m512d p = lookup(power, k);
    __m512d i = lookup(inverse, k);
    __m512d h = _mm512_cvtepu64_pd(w);
    __m512d rest = _mm512_cvtepi64_pd(_mm512_sub_epi64(w, _mm512_cvtpd_epu64(h)));
    __m512d q = _mm512_mul_pd(h, i);
    __m512d c = _mm512_mul_pd(_mm512_add_pd(_mm512_fnmadd_pd(q, p, h), rest), i);
    __m512d slack = _mm512_mul_pd(q, _mm512_set1_pd(0x1p-95));
    __m512d below = _mm512_add_pd(q, _mm512_sub_pd(c, slack));
    __m512d above = _mm512_add_pd(q, _mm512_add_pd(c, slack));

    _mm512_storeu_pd(out, _mm512_mask_xor_pd(below, negative, below, _mm512_set1_pd(-0.0)));
    return _mm512_cmp_pd_mask(below, above, _CMP_NEQ_UQ);
}

static inline void divide_block(struct block *b, double *out, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i += 8) {
        __m512i k = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)(b->scale + i)));
        __mmask8 negative = (__mmask8)(b->negative[i / 64] >> i % 64);

        b->odd[i / 64] |= (uint64_t)divide(_mm512_loadu_si512(b->number + i), k, negative, out + i) << i % 64;
    }
}

static inline uint64_t bits_of(uint32_t rows)
{
    return rows < 64 ? (UINT64_C(1) << rows) - 1 : ~UINT64_C(0);
}

uint32_t csv_cells_float64_avx512(const struct csv_cells *cells, const struct csv_missing *missing,
                                  struct csv_vector *out)
{
    double *values = out->values;
    bool is_signed = false;
    struct spans spans;
    struct block b;

    if (missing->numbers > 0) {
        // A plain number may mean a missing value.
        return csv_cells_float64(cells, missing, out);
    }
    spans_init(&spans, cells);
    out->nulls = false;
    for (uint32_t row = 0; row < cells->rows; row += BLOCK) {
        uint32_t rows = cells->rows - row < BLOCK ? cells->rows - row : BLOCK;

        read_block(cells, &spans, row, rows, true, DIGITS_MAX, &is_signed, &b);
        divide_block(&b, values + row, rows);
        for (uint32_t i = 0; i < rows; i += 64) {
            uint64_t wanted = bits_of(rows - i);
            uint64_t nulls = missing->empty ? b.empty[i / 64] & wanted : 0;
            uint64_t odd = b.odd[i / 64] & wanted & ~nulls;

            if (odd != 0) {
                uint32_t fitted = csv_cells_odd_float64(cells, missing, row + i, 64, odd, &nulls, values + row + i);

                if (fitted < 64) {
                    return row + i + fitted;
                }
            }
            out->validity[(row + i) / 64] = ~nulls;
            out->nulls |= nulls != 0;
        }
    }
    return cells->rows;
}

uint32_t csv_cells_int64_avx512(const struct csv_cells *cells, const struct csv_missing *missing,
                                struct csv_vector *out)
{
    int64_t *values = out->values;
    bool is_signed = false;
    struct spans spans;
    struct block b;

    if (missing->numbers > 0) {
        return csv_cells_int64(cells, missing, out);
    }
    spans_init(&spans, cells);
    out->nulls = false;
    memset(out->validity, 0xff, ((size_t)cells->rows + 63) / 64 * 8);
    for (uint32_t row = 0; row < cells->rows; row += BLOCK) {
        uint32_t rows = cells->rows - row < BLOCK ? cells->rows - row : BLOCK;

        read_block(cells, &spans, row, rows, false, DIGITS_MAX - 1, &is_signed, &b);
        for (uint32_t i = 0; i < rows; i += 8) {
            __mmask8 negative = (__mmask8)(b.negative[i / 64] >> i % 64);
            __m512i w = _mm512_loadu_si512(b.number + i);

            _mm512_storeu_si512(values + row + i, _mm512_mask_sub_epi64(w, negative, _mm512_setzero_si512(), w));
        }
        for (uint32_t i = 0; i < rows; i += 64) {
            uint64_t odd = b.odd[i / 64] & bits_of(rows - i);
            uint32_t fitted = csv_cells_odd_int64(cells, missing, row + i, 64, odd, values + row + i);

            if (fitted < 64) {
                return row + i + fitted;
            }
        }
    }
    return cells->rows;
}
